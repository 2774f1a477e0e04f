import { createSettling } from '../../src/app/settling.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import { AppError } from '../../src/core/errors.ts';
import type { FrameNote, LogRecord, Signal, Span } from '../../src/core/evidence.ts';
import { Counters } from '../../src/core/metrics.ts';
import { compileKeys, PayloadReader } from '../../src/otlp/decode.ts';
import { transcodeJson } from '../../src/otlp/json.ts';
import { compileMask, maskSecrets } from '../../src/otlp/mask.ts';
import { type ScannedItem, scanLogs, scanMetrics, scanTraces } from '../../src/otlp/scan.ts';
import { RequestCredentials } from '../../src/receive/credentials.ts';
import { createSessionHash } from '../../src/receive/session-hash.ts';
import { encodeLogs, encodeMetrics, encodeTraces } from '../otlp/encode.ts';
import { ORACLE, oracleDecode, type Plain } from '../otlp/oracle.ts';
import { encodeUnusually } from '../otlp/unusual.ts';
import type { Random } from '../simulation/random.ts';
import { promise, type Target } from './target.ts';

const SCANS = { traces: scanTraces, logs: scanLogs, metrics: scanMetrics } as const;
const SETTINGS = settingsSchema.parse({});
const MASK = compileMask({
  attributes: SETTINGS.receive.maskAttributes,
  queryParameters: SETTINGS.receive.maskQueryParameters,
  sessions: SETTINGS.identity.sessions,
});
const HASH = createSessionHash(Buffer.alloc(32, 7));
const ALL_KEYS = compileKeys(['*']);
const SETTLING = createSettling(SETTINGS);
const NOTE: FrameNote = {
  ...{ receivedNs: 1_790_000_000_000_000_000n, namespace: 'default', sender: 'grpc', trusted: true, vouches: false },
  peer: '10.0.0.1',
};

const TRACE_ID = 'a1'.repeat(16);
const SPAN_ID = 'b2'.repeat(8);
const startNs = 1_790_000_000_000_000_000n;
const RICH_SPAN = {
  ...{ traceId: TRACE_ID, spanId: SPAN_ID, parentSpanId: 'c3'.repeat(8), name: 'GET /patients/:id', kind: 2 },
  ...{ startNs, endNs: startNs + 1_000_000n, traceState: 'ot=th:8', flags: 0x101, statusCode: 2, statusMessage: 'no' },
  attributes: {
    'http.request.method': 'GET',
    'url.path': '/patients/7',
    'url.query': 'token=abc&q=1',
    'http.request.header.authorization': ['Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl'],
    'http.request.header.cookie': ['theme=dark; JSESSIONID=7f3c2c1e-8a51-4b90; sid="0123456789abcdef"'],
    'http.request.header.baggage': 'session.id=7f3c2c1e-8a51;p=1,token=abc,a=b',
    'session.id': '7f3c2c1e-8a51-4b90-9d0e-52e1c3a7b955',
    'session.previous_id': 12345678901,
    'user.id': 'alice',
    nested: { deep: [1, -2n, 0.5, true, { password: 'p' }, Buffer.from('bytes')] },
  },
  events: [{ name: 'exception', timeNs: startNs, attributes: { 'exception.message': 'Key (id)=(7) exists' } }],
  links: [{ traceId: 'd4'.repeat(16), spanId: 'e5'.repeat(8) }],
};
const STATEMENT_SPAN = {
  ...{ traceId: TRACE_ID, spanId: 'c3'.repeat(8), name: 'SELECT', kind: 3, startNs, endNs: startNs + 5n },
  attributes: { 'db.system.name': 'postgresql', 'db.query.text': "SELECT * FROM t WHERE a = 'x' AND b IN (1, 2)" },
};
const EVENT_LOG = {
  ...{ traceId: TRACE_ID, spanId: SPAN_ID, timeNs: startNs, eventName: 'access', severityNumber: 9 },
  body: {
    'event.action': 'read',
    'audit.target.id': 'patients/7',
    'audit.checks': [{ permission: 'p', granted: false }],
  },
  attributes: { 'user.id': 'bob', 'event.outcome': 'failure' },
};

const SAMPLES: Record<Signal, Buffer[]> = {
  traces: [
    encodeTraces([{ attributes: { 'service.name': 'a' }, scope: { name: 's' }, spans: [RICH_SPAN, STATEMENT_SPAN] }]),
    encodeTraces([{ spans: [{ traceId: TRACE_ID, spanId: SPAN_ID }] }]),
  ],
  logs: [
    encodeLogs([{ attributes: { 'service.name': 'a' }, logs: [EVENT_LOG, { body: 'a line', severityText: 'INFO' }] }]),
    encodeLogs([{ logs: [{ eventName: 'access', attributes: { 'audit.action': 'x' } }] }]),
  ],
  metrics: [
    encodeMetrics([{ metrics: [{ name: 'm', unit: 's', points: [{ value: 1 }, { value: 2 }] }, { points: [] }] }]),
  ],
};

/** The same message in legal encodings that no usual library chooses. */
function generateUnusual(signal: Signal, random: Random): Buffer {
  const sample = random.pick(SAMPLES[signal]);
  return encodeUnusually(ORACLE[signal], oracleDecode(ORACLE[signal], sample), (limit) => random.int(0, limit - 1));
}

function itemsOf(signal: Signal, payload: Buffer): { result: ReturnType<typeof scanTraces>; items: ScannedItem[] } {
  const items: ScannedItem[] = [];
  const result = SCANS[signal](payload, (item) => items.push({ ...item }));
  return { result, items };
}

/** Compared with a full decoder now and then only: it takes longer than all the rest. */
const COMPARED_EVERY = 4;

function protobufTarget(signal: Signal, weight: number): Target {
  let runs = 0;
  return {
    name: signal,
    weight,
    samples: SAMPLES[signal],
    generate: (random) => generateUnusual(signal, random),
    check(input) {
      const { result, items } = itemsOf(signal, input);
      if (!result.ok) {
        promise(
          result.offset >= 0 && result.offset <= input.length,
          () => `the fault is said to be at ${result.offset}`,
        );
        promise(
          result.message.length > 0 && result.message.length < 500,
          () => `a message of ${result.message.length}`,
        );
      }
      for (const item of items) checkPlace(item, input.length);
      if (result.ok && signal !== 'metrics') {
        promise(result.items - result.rejected === items.length, () => `${items.length} items, said ${result.items}`);
        for (const { itemStart } of items.slice(0, 8)) checkDecode(signal, input, itemStart);
        checkMask(signal, input);
      }
      if (runs++ % COMPARED_EVERY === 0) compare(signal, input, result, items);
    },
  };
}

function checkPlace({ itemStart, itemEnd, traceIdAt, spanIdAt, parentSpanIdAt }: ScannedItem, length: number): void {
  promise(itemStart >= 0 && itemEnd >= itemStart && itemEnd <= length, () => `an item from ${itemStart} to ${itemEnd}`);
  for (const [at, bytes] of [
    [traceIdAt, 16],
    [spanIdAt, 8],
    [parentSpanIdAt, 8],
  ] as const) {
    promise(
      at === -1 || (at >= itemStart && at + bytes <= itemEnd),
      () => `an id at ${at} of ${itemStart} to ${itemEnd}`,
    );
  }
}

/** Undefined for what is no span or log record: known only once it is decoded, and set aside then. */
function decode(signal: Signal, payload: Buffer, itemStart: number, keys = ALL_KEYS): Span | LogRecord | undefined {
  const kind = signal === 'logs' ? 'logs' : 'traces';
  const reader = new PayloadReader(payload, kind, NOTE, keys);
  try {
    return kind === 'logs' ? reader.logRecord(itemStart) : reader.span(itemStart);
  } catch (thrown) {
    if (thrown instanceof AppError) return undefined;
    throw thrown;
  }
}

function checkDecode(signal: Signal, payload: Buffer, itemStart: number): void {
  const item = decode(signal, payload, itemStart);
  if (item === undefined) return;
  promise(/^([0-9a-f]{32})?$/.test(item.traceId) && /^([0-9a-f]{16})?$/.test(item.spanId), () => 'ids are not hex');
  promise(item.raw.byteLength <= payload.length, () => 'raw bytes beyond the payload');
  promise(item.attributes.size <= payload.length, () => `${item.attributes.size} attributes`);
}

function checkMask(signal: Signal, payload: Buffer): void {
  const masked = Buffer.from(payload);
  const found = new RequestCredentials(new Counters(), HASH);
  const count = maskSecrets(masked, signal, MASK, found);
  promise(count >= 0 && count <= payload.length, () => `${count} values masked`);
  promise(count > 0 || masked.equals(payload), () => 'nothing was masked and bytes have changed');
  const before = itemsOf(signal, payload);
  const after = itemsOf(signal, masked);
  promise(JSON.stringify(before) === JSON.stringify(after), () => 'masking moves items');
  for (const token of found.tokens.keys()) promise(token.length < payload.length, () => `a token ${token.length} long`);
  for (const { earliestNs, latestNs } of [...found.tokens.values(), ...found.sessions.values()]) {
    promise(earliestNs <= latestNs, () => `used from ${earliestNs} to ${latestNs}`);
  }
}

function compare(
  signal: Signal,
  payload: Buffer,
  result: ReturnType<typeof scanTraces>,
  items: readonly ScannedItem[],
): void {
  let plain: Plain;
  try {
    plain = oracleDecode(ORACLE[signal], payload);
  } catch {
    return;
  }
  if (!result.ok) return;
  const expected = membersOf(plain, `resource${PART[signal]}`)
    .flatMap((resource) => membersOf(resource, `scope${PART[signal]}`))
    .flatMap((scope) => membersOf(scope, signal === 'traces' ? 'spans' : signal === 'logs' ? 'logRecords' : 'metrics'));
  if (signal === 'metrics') {
    const points = expected.flatMap((metric) =>
      ['gauge', 'sum', 'histogram', 'exponentialHistogram', 'summary'].flatMap((kind) =>
        membersOf((metric[kind] ?? {}) as Plain, 'dataPoints'),
      ),
    );
    // Of several kinds of data in one metric a decoder keeps the last; a scan counts all.
    promise(result.items >= points.length, () => `${result.items} points, the full decoder finds ${points.length}`);
    return;
  }
  promise(result.items === expected.length, () => `${result.items} items, the full decoder finds ${expected.length}`);
  if (items.length !== expected.length) return;
  for (const [at, item] of items.entries()) compareItem(signal, payload, item, expected[at] as Plain);
}

const PART = { traces: 'Spans', logs: 'Logs', metrics: 'Metrics' } as const;

function membersOf(plain: Plain, name: string): Plain[] {
  return (plain[name] as Plain[] | undefined) ?? [];
}

function compareItem(signal: Signal, payload: Buffer, { itemStart, traceIdAt }: ScannedItem, expected: Plain): void {
  const hex = (name: string) => (expected[name] as Buffer | undefined)?.toString('hex') ?? '';
  if (traceIdAt >= 0) {
    const traceId = payload.toString('hex', traceIdAt, traceIdAt + 16);
    promise(traceId === hex('traceId'), () => `trace ${traceId}, the full decoder says ${hex('traceId')}`);
  }
  const item = decode(signal, payload, itemStart);
  if (item === undefined) return;
  const [name, theirs] =
    'name' in item ? [item.name, expected['name'] ?? ''] : [item.eventName, expected['eventName'] ?? ''];
  // Bytes that are no UTF-8 become text in more than one way.
  const isPlain = typeof theirs === 'string' && !theirs.includes('\ufffd') && !name.includes('\ufffd');
  promise(!isPlain || name === theirs, () => `named ${name}, the full decoder says ${theirs}`);
  const startedNs = 'startNs' in item ? item.startNs : item.timeNs;
  const theirsNs = (expected['startNs' in item ? 'startTimeUnixNano' : 'timeUnixNano'] as string | undefined) ?? '0';
  promise(String(startedNs) === theirsNs, () => `time ${startedNs}, the full decoder says ${theirsNs}`);
}

/** Evidence of any content settles: what cannot be decoded is set aside, all else makes records or none. */
function settleTarget(signal: 'traces' | 'logs', weight: number): Target {
  return {
    name: `settle-${signal}`,
    corpus: signal,
    weight,
    samples: SAMPLES[signal],
    check(input) {
      const { result, items } = itemsOf(signal, input);
      if (!result.ok || items.length === 0) return;
      const pieces = items
        .slice(0, 20)
        .flatMap(({ itemStart }) => decode(signal, input, itemStart, SETTLING.keys) ?? []);
      const [first] = pieces;
      if (first === undefined) return;
      const own = pieces.filter((piece) => piece.traceId === first.traceId);
      const given = first.traceId === '' ? own.slice(0, 1) : own;
      const spans = given.filter((piece): piece is Span => 'startNs' in piece);
      const logs = given.filter((piece): piece is LogRecord => !('startNs' in piece));
      const { records, counts, rank } = SETTLING.settle({ namespace: 'default', traceId: first.traceId, spans, logs });
      const counted = counts.used + counts.context + counts.excluded + counts.duplicate;
      promise(counted === given.length, () => `${given.length} pieces, ${counted} counted`);
      promise(rank > 0n && rank < 2n ** 63n, () => `rank ${rank}`);
      promise(new Set(records.map(({ id }) => id)).size === records.length, () => 'an id twice');
      for (const { record } of records) checkRecord(JSON.stringify(record), input.length);
    },
  };
}

/** Names, path and evidence are stated several times in a record, in words around them. */
function checkRecord(text: string, inputBytes: number): void {
  promise(
    text.length < 20_000 + 60 * inputBytes,
    () => `a record of ${text.length} characters from ${inputBytes} bytes`,
  );
}

const JSON_TOKENS = [
  ...[
    '"resourceSpans"',
    '"scopeSpans"',
    '"spans"',
    '"traceId"',
    '"spanId"',
    '"attributes"',
    '"kvlistValue"',
    '"values"',
  ],
  ...['[', ']', '{', '}', ':', ',', 'null', 'true', '-1', '1e400', '18446744073709551616', '"\\ud800"', '0.1', '""'],
  ...['"resource_spans"', '"intValue":"9223372036854775808"', '"kind":"SPAN_KIND_SERVER"', '"__proto__"', '\ufeff'],
];

function jsonTarget(signal: Signal, weight: number): Target {
  const base = { service: 'a', text: 'b'.repeat(10) };
  const attributes = [
    { key: 'service.name', value: { stringValue: base.service } },
    { key: 'list', value: { arrayValue: { values: [{ intValue: '7' }, { doubleValue: 0.5 }, { boolValue: true }] } } },
    { key: 'map', value: { kvlistValue: { values: [{ key: 'password', value: { stringValue: base.text } }] } } },
    { key: 'bytes', value: { bytesValue: 'AAECAw==' } },
  ];
  const samples = {
    traces: {
      resourceSpans: [
        {
          resource: { attributes },
          scopeSpans: [
            {
              spans: [
                {
                  ...{
                    traceId: TRACE_ID,
                    spanId: SPAN_ID,
                    name: 'n',
                    kind: 2,
                    startTimeUnixNano: '1790000000000000000',
                  },
                  ...{
                    attributes,
                    status: { code: 'STATUS_CODE_ERROR' },
                    events: [{ name: 'e', attributes }],
                    flags: 1,
                  },
                },
              ],
            },
          ],
        },
      ],
    },
    logs: {
      resourceLogs: [
        {
          scopeLogs: [
            {
              logRecords: [
                { traceId: TRACE_ID, timeUnixNano: 1_790_000_000_000, body: { stringValue: 'b' }, attributes },
              ],
            },
          ],
        },
      ],
    },
    metrics: {
      resourceMetrics: [
        { scopeMetrics: [{ metrics: [{ name: 'm', gauge: { dataPoints: [{ asDouble: 1.5 }, { asInt: '2' }] } }] }] },
      ],
    },
  };
  return {
    name: `json-${signal}`,
    weight,
    samples: [Buffer.from(JSON.stringify(samples[signal])), Buffer.from(JSON.stringify(samples[signal], null, 1))],
    tokens: JSON_TOKENS,
    check(input) {
      const result = transcodeJson(signal, input);
      if (!result.ok) {
        promise(
          result.message.length > 0 && result.message.length < 1000,
          () => `a message of ${result.message.length}`,
        );
        promise(result.path.length < 8 * 1024, () => `a path of ${result.path.length}`);
        return;
      }
      promise(
        result.payload.length <= 4 * input.length + 64,
        () => `${input.length} bytes became ${result.payload.length}`,
      );
      const scanned = SCANS[signal](result.payload);
      promise(scanned.ok, () => `what it becomes is no request: ${scanned.ok ? '' : scanned.message}`);
    },
  };
}

export const OTLP_TARGETS: readonly Target[] = [
  protobufTarget('traces', 22),
  protobufTarget('logs', 14),
  protobufTarget('metrics', 10),
  settleTarget('traces', 4),
  settleTarget('logs', 3),
  jsonTarget('traces', 7),
  jsonTarget('logs', 4),
  jsonTarget('metrics', 3),
];
