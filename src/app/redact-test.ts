import { NAMES } from '../access/attributes.ts';
import { redactAddresses } from '../access/error-text.ts';
import { compileRules } from '../access/rules.ts';
import { DEFAULT_ACCESS_SETTINGS } from '../access/settings.ts';
import { readStatement } from '../access/statement.ts';
import type { Settings } from '../config/schema.ts';
import { AppError } from '../core/errors.ts';
import type { Attributes, FrameNote } from '../core/evidence.ts';
import { compileRedactors, createRecordRedaction, redactText } from '../enrich/redact-record.ts';
import { type CredentialFinder, FINDS_NOTHING } from '../otlp/credential-finder.ts';
import { PayloadReader } from '../otlp/decode.ts';
import { transcodeJson } from '../otlp/json.ts';
import { compileKeys } from '../otlp/key-set.ts';
import { compileMask, maskSecrets } from '../otlp/mask.ts';
import { scanTraces } from '../otlp/scan.ts';
import { createSessionHash } from '../receive/session-hash.ts';
import { redactSettings } from './redaction.ts';

/** What becomes of one value of a sample: as sent, in the write-ahead log, in texts of records. */
export interface RedactedValue {
  /** Name of the attribute; empty for a line of text. */
  readonly name: string;
  readonly sent: string;
  readonly kept: string;
  readonly shown: string;
  /** What took something out of the shown text, e.g. `statement`, `password`. */
  readonly rules: readonly string[];
}

const NOTE: FrameNote = {
  receivedNs: 1n,
  namespace: 'sample',
  sender: 'grpc',
  trusted: true,
  vouches: false,
  peer: '',
};
const IDS = { traceId: '1'.repeat(32), spanId: '2'.repeat(16) };

/**
 * Shows for sample input what masking and redaction leave of it. Each line is a JSON object of attributes, or text. Throws AppError
 * `bad_request` that names the line, `config` for settings that cannot be used.
 */
export function testRedaction(input: string, settings: Settings): RedactedValue[][] {
  const { receive } = settings;
  const { sessions } = settings.identity;
  const { maskAttributes: attributes, maskQueryParameters: queryParameters } = receive;
  const mask = compileMask({ attributes, queryParameters, sessions });
  const redactors = compileRedactors(redactSettings(settings));
  // Says what is wrong with names of fields, too.
  createRecordRedaction(redactSettings(settings), () => undefined);
  const { isSecret } = compileRules(DEFAULT_ACCESS_SETTINGS);
  const lines = input.split('\n').map((line) => line.replace(/\r$/, ''));
  return lines.flatMap((line, at) => {
    if (line.trim() === '') return [];
    const sent = attributesOf(line, at + 1);
    const kept = masked(sent, mask);
    const system = asText(kept, NAMES.dbSystem) ?? '';
    const values = Object.entries(sent).map(([name, value]): RedactedValue => {
      const before = render(value);
      const now = render(kept.get(name));
      const rules: string[] = [];
      let shown = now;
      const isStatement = NAMES.dbStatement.some((known) => known === name);
      const plain = isStatement ? readStatement(shown, system).text : redactAddresses(shown, isSecret);
      if (plain !== shown) rules.push(isStatement ? 'statement' : 'address');
      shown = redactText(plain, redactors, (rule) => rules.push(rule));
      return { name: name === TEXT ? '' : name, sent: before, kept: now, shown, rules };
    });
    return [values];
  });
}

const hash = createSessionHash(Buffer.from('sample'));

/** Sessions become what they become in the data folder, but for the key, which stays there. */
const SHOWS_HASHES: CredentialFinder = {
  ...FINDS_NOTHING,
  session: (id) => void id.fill('=').write(hash(id), 'latin1'),
};

/** The attribute that carries a line of text. */
const TEXT = 'text';

function attributesOf(line: string, number: number): Record<string, unknown> {
  if (!line.trimStart().startsWith('{')) return { [TEXT]: line };
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new AppError('bad_request', `line ${number}: it begins as JSON and is none`, { cause });
  }
  return value as Record<string, unknown>;
}

/** Through the very code that masks requests: the attributes of a span, as they would be appended. */
function masked(sent: Readonly<Record<string, unknown>>, mask: ReturnType<typeof compileMask>): Attributes {
  const attributes = Object.entries(sent).map(([key, value]) => ({ key, value: anyValue(value) }));
  const request = { resourceSpans: [{ scopeSpans: [{ spans: [{ ...IDS, name: 'sample', attributes }] }] }] };
  const transcoded = transcodeJson('traces', Buffer.from(JSON.stringify(request)));
  if (!transcoded.ok) throw new AppError('bad_request', `${transcoded.path}: ${transcoded.message}`);
  maskSecrets(transcoded.payload, 'traces', mask, SHOWS_HASHES);
  let start = -1;
  scanTraces(transcoded.payload, ({ itemStart }) => {
    start = itemStart;
  });
  return new PayloadReader(transcoded.payload, 'traces', NOTE, compileKeys(['*'])).span(start).attributes;
}

function anyValue(value: unknown): object {
  if (typeof value === 'boolean') return { boolValue: value };
  if (typeof value === 'number') return Number.isInteger(value) ? { intValue: String(value) } : { doubleValue: value };
  if (Array.isArray(value)) return { arrayValue: { values: value.map(anyValue) } };
  if (typeof value === 'object' && value !== null) {
    const values = Object.entries(value).map(([key, child]) => ({ key, value: anyValue(child) }));
    return { kvlistValue: { values } };
  }
  return { stringValue: value === null ? '' : String(value) };
}

function asText(attributes: Attributes, names: readonly string[]): string | undefined {
  const value = names.map((name) => attributes.get(name)).find((found) => found !== undefined);
  return value === undefined ? undefined : render(value);
}

function render(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
}
