import { logEventOf } from '../access/mapped-event.ts';
import { subjectOf } from '../access/mappings/document.ts';
import { recogniseLog } from '../access/recognise.ts';
import { type AccessRules, compileRules } from '../access/rules.ts';
import type { Settings } from '../config/schema.ts';
import { AppError } from '../core/errors.ts';
import type { AttributeValue, FrameNote, LogRecord } from '../core/evidence.ts';
import { createSettle } from '../enrich/settle.ts';
import { PayloadReader } from '../otlp/decode.ts';
import { transcodeJson } from '../otlp/json.ts';
import { compileKeys } from '../otlp/key-set.ts';
import { compileMask, maskSecrets } from '../otlp/mask.ts';
import { scanLogs } from '../otlp/scan.ts';
import { tieLogs } from '../otlp/tie.ts';
import { unwrap } from '../receive/events-service.ts';
import { accessSettings } from './settling.ts';

/** What becomes of one sample. */
export interface MappedSample {
  /** Line of the input, from 1; of a document that lists several the number of the item. */
  readonly at: number;
  readonly text: string;
  /** `refused`: it names a preset that it does not fit. */
  readonly verdict: 'access' | 'excluded' | 'context' | 'unfit';
  readonly mapping?: string;
  readonly fields: Readonly<Record<string, AttributeValue>>;
  /** The record's sentence, or why there is none. */
  readonly sentence: string;
}

export interface MappingTest {
  readonly samples: readonly MappedSample[];
  /** The user's own mappings that took no sample, each with why not. */
  readonly idle: readonly { readonly mapping: string; readonly because: string }[];
}

const NOTE: FrameNote = {
  receivedNs: 0n,
  namespace: 'sample',
  sender: 'sample',
  trusted: true,
  vouches: false,
  peer: '',
};

/**
 * Runs sample input through masking, ties, mappings and recognition as evidence goes. Input is one JSON document (an event, a list
 * of events), or a line for each; a line that is indented goes on with the one before. Throws AppError `config`, `bad_request`.
 */
export function testMapping(
  input: string,
  settings: Settings,
  options: { preset?: string; nowNs: bigint },
): MappingTest {
  const rules = compileRules(accessSettings(settings));
  const { preset, nowNs } = options;
  const known = new Set([...rules.mappings.own, ...rules.mappings.presets].map(({ source }) => source));
  if (preset !== undefined && !known.has(preset)) {
    throw new AppError('bad_request', `there is no preset or mapping "${preset}"; there are ${[...known].join(', ')}`);
  }
  const mask = compileMask({
    attributes: settings.receive.maskAttributes,
    queryParameters: settings.receive.maskQueryParameters,
  });
  const logs = samplesIn(input).map(({ at, text }) => {
    const payload = requestOf(text, preset, nowNs);
    maskSecrets(payload, 'logs', mask);
    return { at, text, log: readLog(tieLogs(payload).payload, rules) };
  });
  const settle = createSettle(rules, { traceUrlTemplate: '' });
  const samples = logs.map(({ at, text, log }): MappedSample => ({ at, text, ...judge(log, rules, settle) }));
  return {
    samples,
    idle: idleMappings(
      rules,
      samples,
      logs.map(({ log }) => log),
    ),
  };
}

function judge(
  log: LogRecord,
  rules: AccessRules,
  settle: ReturnType<typeof createSettle>,
): Omit<MappedSample, 'at' | 'text'> {
  const { mapped, unfit } = logEventOf(log, rules.mappings);
  const verdict = recogniseLog(log, rules);
  const fields = Object.fromEntries(mapped?.fields ?? []);
  const taken = mapped === undefined ? {} : { mapping: mapped.mapping };
  if (unfit !== undefined) {
    return { verdict: 'unfit', fields, sentence: `it names the preset "${unfit}" and does not fit it` };
  }
  if (verdict.kind === 'excluded') {
    return { verdict: 'excluded', ...taken, fields, sentence: `left out by the rule "${verdict.rule}"` };
  }
  if (verdict.kind === 'context') return { verdict: 'context', fields, sentence: 'no mapping took it' };
  const settled = settle({ namespace: 'sample', traceId: log.traceId, spans: [], logs: [log] });
  const mapping = mapped?.mapping ?? verdict.access.preset;
  return { verdict: 'access', mapping, fields, sentence: settled.records[0]?.record.message ?? '' };
}

function idleMappings(
  { mappings }: AccessRules,
  samples: readonly MappedSample[],
  logs: readonly LogRecord[],
): MappingTest['idle'] {
  const busy = new Set(samples.map(({ mapping }) => mapping));
  return mappings.own
    .filter(({ name }) => !busy.has(name))
    .map(({ name, refusal }) => {
      const first = logs.map((log) => refusal(subjectOf(log))).find((why) => why !== undefined);
      return { mapping: name, because: first ?? 'another mapping before it took what it fits' };
    });
}

interface Sample {
  readonly at: number;
  readonly text: string;
}

function samplesIn(input: string): Sample[] {
  const whole = parsed(input);
  if (whole.ok) return unwrap(whole.value).map((value, index) => ({ at: index + 1, text: textOf(value) }));
  const samples: Sample[] = [];
  for (const [index, line] of input.split(/\r?\n/).entries()) {
    const last = samples.at(-1);
    if (line.trim() === '') continue;
    if (/^\s/.test(line) && last !== undefined) {
      samples[samples.length - 1] = { ...last, text: `${last.text}\n${line}` };
      continue;
    }
    const document = line.startsWith('{') || line.startsWith('[') ? parsed(line) : { ok: false as const };
    if (!document.ok) samples.push({ at: index + 1, text: line });
    else for (const value of unwrap(document.value)) samples.push({ at: index + 1, text: textOf(value) });
  }
  return samples;
}

function parsed(text: string): { readonly ok: true; readonly value: unknown } | { readonly ok: false } {
  try {
    return { ok: true, value: JSON.parse(text) };
  } catch {
    return { ok: false };
  }
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** An OTLP request with the sample as the body of its only log record. */
function requestOf(text: string, preset: string | undefined, nowNs: bigint): Buffer {
  const attributes = preset === undefined ? [] : [{ key: 'spantrail.preset', value: { stringValue: preset } }];
  const record = {
    timeUnixNano: String(nowNs),
    observedTimeUnixNano: String(nowNs),
    body: { stringValue: text },
    attributes,
  };
  const request = { resourceLogs: [{ scopeLogs: [{ logRecords: [record] }] }] };
  const transcoded = transcodeJson('logs', Buffer.from(JSON.stringify(request)));
  if (!transcoded.ok) throw new AppError('bad_request', `${transcoded.path}: ${transcoded.message}`);
  return transcoded.payload;
}

function readLog(payload: Buffer, rules: AccessRules): LogRecord {
  let start = -1;
  scanLogs(payload, ({ itemStart }) => {
    start = itemStart;
  });
  return new PayloadReader(payload, 'logs', NOTE, compileKeys(rules.keys, rules.logKeys)).logRecord(start);
}
