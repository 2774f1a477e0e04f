import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AppError } from '../../src/core/errors.ts';
import type { AttributeValue, FrameNote, LogRecord, Span } from '../../src/core/evidence.ts';
import { bytesOf } from '../../src/core/raw-bytes.ts';
import { compileKeys, type KeySet, PayloadReader, SpanContents } from '../../src/otlp/decode.ts';
import { scanLogs, scanTraces } from '../../src/otlp/scan.ts';
import {
  anyValue,
  delimited,
  encodeLogs,
  encodeTraces,
  fixed64,
  integer,
  keyValues,
  spanMessage,
  tag,
  varint,
  withRoomForLengths,
} from './encode.ts';
import './attribute-equality.ts';
import { ORACLE, oracleDecode, type Plain } from './oracle.ts';
import { chooser, encodeUnusually } from './unusual.ts';

const NOTE: FrameNote = {
  receivedNs: 5n,
  namespace: 'default',
  sender: 'grpc',
  trusted: true,
  vouches: false,
  peer: '10.0.0.7',
};
const ALL = compileKeys(['*']);
const TRACE_ID = 'a1'.repeat(16);
const SPAN_ID = 'b2'.repeat(8);

/** All readings with the same keys share them, as those of one process do. */
const CONTENTS = new Map<KeySet, SpanContents>();

function readOnce(payload: Uint8Array, keys: KeySet, contents?: SpanContents): Span[] {
  const reader = new PayloadReader(payload, 'traces', NOTE, keys, contents);
  const spans: Span[] = [];
  const result = scanTraces(payload, (item) => spans.push(reader.span(item.itemStart)));
  expect(result).toMatchObject({ ok: true });
  return spans;
}

/** As they are decoded, which is the same when what spans said before is known. */
function readSpans(payload: Uint8Array, keys = ALL): Span[] {
  const spans = readOnce(payload, keys);
  const contents = CONTENTS.get(keys) ?? new SpanContents();
  CONTENTS.set(keys, contents);
  for (let time = 0; time < 3; time++) {
    expect(readOnce(payload, keys, contents).map((span) => ({ ...span, content: undefined }))).toEqual(spans);
  }
  return spans;
}

function readLogs(payload: Uint8Array, keys = ALL): LogRecord[] {
  const reader = new PayloadReader(payload, 'logs', NOTE, keys);
  const logs: LogRecord[] = [];
  const result = scanLogs(payload, (item) => logs.push(reader.logRecord(item.itemStart)));
  expect(result).toMatchObject({ ok: true });
  return logs;
}

const text = fc.oneof(fc.string({ maxLength: 8 }), fc.string({ unit: 'binary', maxLength: 60 }));
const key = fc.oneof(fc.constantFrom('a', 'http.route', '__proto__', ''), text);
const long = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String);
const time = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(String);
const int32 = fc.integer({ min: -3, max: 2 ** 31 - 1 });
const uint32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const bytes = (length: object) => fc.uint8Array(length).map((array) => Buffer.from(array));
const id = (size: number) =>
  fc.oneof(
    { weight: 6, arbitrary: bytes({ minLength: size, maxLength: size }) },
    fc.constant(Buffer.alloc(size)),
    bytes({ maxLength: 20 }),
  );
/** Every field may be missing. */
const some = <Model>(model: Model) =>
  fc.record(model as { [name: string]: fc.Arbitrary<unknown> }, { requiredKeys: [] });

const { value: anyValueModel } = fc.letrec<{ value: Plain; keyValue: Plain }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.record({ stringValue: text }),
    fc.constant({}),
    fc.record({ boolValue: fc.boolean() }),
    fc.record({ intValue: fc.oneof(long, fc.integer().map(String)) }),
    fc.record({ doubleValue: fc.oneof(fc.double(), fc.constantFrom(NaN, Infinity, -Infinity)) }),
    fc.record({ bytesValue: bytes({ maxLength: 9 }) }),
    fc.record({ arrayValue: fc.record({ values: fc.array(tie('value'), { maxLength: 3 }) }) }),
    fc.record({ kvlistValue: fc.record({ values: fc.array(tie('keyValue'), { maxLength: 3 }) }) }),
  ) as fc.Arbitrary<Plain>,
  keyValue: some({ key, value: tie('value') }) as fc.Arbitrary<Plain>,
}));
const attributes = fc.array(some({ key, value: anyValueModel }), { maxLength: 4 });
const spanModel = some({
  traceId: id(16),
  spanId: id(8),
  parentSpanId: id(8),
  traceState: text,
  name: text,
  kind: int32,
  startTimeUnixNano: time,
  endTimeUnixNano: time,
  attributes,
  droppedAttributesCount: uint32,
  events: fc.array(some({ timeUnixNano: time, name: text, attributes }), { maxLength: 2 }),
  links: fc.array(some({ traceId: id(16), attributes }), { maxLength: 2 }),
  status: some({ message: text, code: int32 }),
  flags: uint32,
});
const logModel = some({
  traceId: id(16),
  spanId: id(8),
  timeUnixNano: time,
  observedTimeUnixNano: time,
  severityNumber: int32,
  severityText: text,
  body: anyValueModel,
  attributes,
  eventName: text,
});
const scope = some({ name: text, version: text, attributes });
const request = (resources: string, scopes: string, items: string, item: fc.Arbitrary<unknown>) =>
  some({
    [resources]: fc.array(
      some({
        resource: some({ attributes, droppedAttributesCount: uint32 }),
        [scopes]: fc.array(some({ scope, [items]: fc.array(item, { maxLength: 4 }) }), { maxLength: 2 }),
        schemaUrl: text,
      }),
      { maxLength: 3 },
    ),
  });

/** The oracle's AnyValue as we decode it. */
function expectedValue(value: Plain = {}): AttributeValue {
  const [kind] = Object.keys(value);
  const content = kind === undefined ? '' : value[kind];
  switch (kind) {
    case 'intValue':
      return Number.isSafeInteger(Number(content)) ? Number(content) : BigInt(content as string);
    case 'doubleValue':
      return Number.isFinite(content) ? (content as number) : String(content);
    case 'bytesValue':
      return (content as Buffer).toString('base64');
    case 'arrayValue':
      return list(content, 'values').map(expectedValue);
    case 'kvlistValue':
      return Object.fromEntries(expectedAttributes(list(content, 'values')));
    default:
      return content as AttributeValue;
  }
}

function expectedAttributes(keyValues: readonly Plain[]): Map<string, AttributeValue> {
  return new Map(keyValues.map((item) => [(item['key'] as string) ?? '', expectedValue(item['value'] as Plain)]));
}

function list(message: unknown, field: string): Plain[] {
  return ((message as Plain | undefined)?.[field] ?? []) as Plain[];
}

function expectedId(value: unknown, size: number): string {
  const buffer = value as Buffer | undefined;
  return buffer?.length === size && buffer.some((byte) => byte !== 0) ? buffer.toString('hex') : '';
}

const big = (value: unknown): bigint => BigInt((value as string | undefined) ?? 0);

function expectedHome(resourceBlock: Plain, scopeBlock: Plain): object {
  const scopeMessage = (scopeBlock['scope'] ?? {}) as Plain;
  return {
    resource: { attributes: expectedAttributes(list(resourceBlock['resource'], 'attributes')) },
    scope: { name: scopeMessage['name'] ?? '', version: scopeMessage['version'] ?? '' },
    note: NOTE,
  };
}

function expectedSpan(span: Plain): object {
  return {
    traceId: expectedId(span['traceId'], 16),
    spanId: expectedId(span['spanId'], 8),
    parentSpanId: expectedId(span['parentSpanId'], 8),
    traceState: span['traceState'] ?? '',
    flags: span['flags'] ?? 0,
    name: span['name'] ?? '',
    kind: span['kind'] ?? 0,
    startNs: big(span['startTimeUnixNano']),
    endNs: big(span['endTimeUnixNano']),
    attributes: expectedAttributes(list(span, 'attributes')),
    attributeCount: list(span, 'attributes').length,
    events: list(span, 'events')
      .map((event) => ({ attributes: expectedAttributes(list(event, 'attributes')) }))
      .filter(({ attributes }) => attributes.size > 0),
    statusCode: (span['status'] as Plain | undefined)?.['code'] ?? 0,
    statusMessage: (span['status'] as Plain | undefined)?.['message'] ?? '',
  };
}

function expectedLog(log: Plain): object {
  const traceId = expectedId(log['traceId'], 16);
  return {
    traceId,
    spanId: traceId === '' ? '' : expectedId(log['spanId'], 8),
    timeNs: big(log['timeUnixNano']),
    observedNs: big(log['observedTimeUnixNano']),
    severityNumber: log['severityNumber'] ?? 0,
    severityText: log['severityText'] ?? '',
    eventName: log['eventName'] ?? '',
    body: log['body'] === undefined ? undefined : expectedValue(log['body'] as Plain),
    attributes: expectedAttributes(list(log, 'attributes')),
  };
}

function withoutRaw(item: Span | LogRecord): object {
  const { raw, ...rest } = item;
  expect(raw.byteLength).toBeGreaterThanOrEqual(0);
  return rest;
}

/** How often each property is tried; the encodings vary with the seed. */
const RUNS = { numRuns: 400 };

describe('any legal encoding', () => {
  it('of spans is read as a full decoder reads it', () => {
    const model = request('resourceSpans', 'scopeSpans', 'spans', spanModel);
    fc.assert(
      fc.property(model, fc.integer(), (message, seed) => {
        const usual = ORACLE.traces.encode(ORACLE.traces.fromObject(message)).finish();
        const decoded = oracleDecode(ORACLE.traces, usual);
        const expected = list(decoded, 'resourceSpans').flatMap((resourceBlock) =>
          list(resourceBlock, 'scopeSpans').flatMap((scopeBlock) =>
            list(scopeBlock, 'spans').map((span) => ({
              ...expectedSpan(span),
              ...expectedHome(resourceBlock, scopeBlock),
            })),
          ),
        ) as Span[];
        const kept = expected.filter((span) => span.traceId !== '' && span.spanId !== '');
        const unusual = encodeUnusually(ORACLE.traces, decoded, chooser(seed));
        expect(readSpans(usual).map(withoutRaw)).toEqual(kept);
        expect(scanTraces(unusual)).toMatchObject({ items: expected.length, rejected: expected.length - kept.length });
        expect(readSpans(unusual).map(withoutRaw)).toEqual(kept);
        expect(readSpans(withRoomForLengths(Buffer.from(usual))).map(withoutRaw)).toEqual(kept);
      }),
      RUNS,
    );
  });

  it('of log records is read as a full decoder reads it', () => {
    const model = request('resourceLogs', 'scopeLogs', 'logRecords', logModel);
    fc.assert(
      fc.property(model, fc.integer(), (message, seed) => {
        const usual = ORACLE.logs.encode(ORACLE.logs.fromObject(message)).finish();
        const decoded = oracleDecode(ORACLE.logs, usual);
        const expected = list(decoded, 'resourceLogs').flatMap((resourceBlock) =>
          list(resourceBlock, 'scopeLogs').flatMap((scopeBlock) =>
            list(scopeBlock, 'logRecords').map((log) => ({
              ...expectedLog(log),
              ...expectedHome(resourceBlock, scopeBlock),
            })),
          ),
        );
        expect(readLogs(usual).map(withoutRaw)).toEqual(expected);
        expect(readLogs(encodeUnusually(ORACLE.logs, decoded, chooser(seed))).map(withoutRaw)).toEqual(expected);
      }),
      RUNS,
    );
  });
});

describe('the keys that are wanted', () => {
  const payload = encodeTraces([
    {
      attributes: { 'service.name': 'orders', 'host.name': 'h1' },
      spans: [
        {
          traceId: TRACE_ID,
          spanId: SPAN_ID,
          attributes: { 'http.route': '/a', 'http.router': '/b', 'http.request.header.x-a': ['1'], 'url.path': '/c' },
          events: [{ name: 'exception', attributes: { 'exception.type': 'E', other: 1 } }],
        },
      ],
    },
  ]);

  it.each([
    [['http.route'], { 'http.route': '/a' }],
    [['http.request.header.*'], { 'http.request.header.x-a': ['1'] }],
    [['http.rout*', 'url.path'], { 'http.route': '/a', 'http.router': '/b', 'url.path': '/c' }],
    [['HTTP.ROUTE', 'http.rou', 'ttp.route'], {}],
    [[], {}],
  ])('%j are decoded, the others only counted', (keys, expected) => {
    const [span] = readSpans(payload, compileKeys(keys));
    expect(Object.fromEntries(span?.attributes ?? [])).toEqual(expected);
    expect(span?.attributeCount).toBe(4);
  });

  it('are looked for in resources and span events too', () => {
    const [span] = readSpans(payload, compileKeys(['host.name', 'exception.type']));
    expect(span?.resource.attributes).toEqual(new Map([['host.name', 'h1']]));
    expect(span?.events[0]?.attributes).toEqual(new Map([['exception.type', 'E']]));
  });

  it('decode a resource once a payload', () => {
    const [first, second] = readSpans(
      encodeTraces([{ spans: [1, 2].map(() => ({ traceId: TRACE_ID, spanId: SPAN_ID })) }]),
    );
    expect(first?.resource).toBe(second?.resource);
    expect(first?.scope).toBe(second?.scope);
  });
});

function spanPayload(...fields: Buffer[]): Buffer {
  const span = Buffer.concat([spanMessage({ traceId: TRACE_ID, spanId: SPAN_ID }), ...fields]);
  return delimited(1, delimited(2, delimited(2, span)));
}

describe('odd content has a defined result', () => {
  it.each<[string, Buffer, Partial<Span>]>([
    ['text that is not UTF-8', delimited(5, Buffer.from([0x61, 0xff, 0x62])), { name: 'a\ufffdb' }],
    ['a start that is a varint', integer(7, 12), { startNs: 0n }],
    ['an end before the start', Buffer.concat([fixed64(7, 9n), fixed64(8, 3n)]), { startNs: 9n, endNs: 3n }],
    ['an all-zero parent', delimited(4, Buffer.alloc(8)), { parentSpanId: '' }],
    ['a parent of odd length', delimited(4, Buffer.alloc(7, 1)), { parentSpanId: '' }],
    ['a parent that is itself', delimited(4, Buffer.from(SPAN_ID, 'hex')), { parentSpanId: SPAN_ID }],
    ['an unknown kind', integer(6, 99), { kind: 99 }],
    ['a key without a value', delimited(9, delimited(1, 'a')), { attributes: new Map([['a', '']]) }],
    ['an empty value', keyValues(9, { a: null }), { attributes: new Map([['a', '']]) }],
    [
      'equal keys: the last counts',
      Buffer.concat([keyValues(9, { a: 1 }), keyValues(9, { a: 2 })]),
      { attributes: new Map([['a', 2]]) },
    ],
    ['integers beyond 53 bits', keyValues(9, { a: 2n ** 62n }), { attributes: new Map([['a', 2n ** 62n]]) }],
    ['negative integers', keyValues(9, { a: -5 }), { attributes: new Map([['a', -5]]) }],
    ['NaN', keyValues(9, { a: NaN }), { attributes: new Map([['a', 'NaN']]) }],
  ])('%s', (_case, fields, expected) => {
    expect(readSpans(spanPayload(fields))[0]).toMatchObject(expected);
  });

  it('10,000 attributes', () => {
    const many = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`key.${index}`, index]));
    const [span] = readSpans(spanPayload(keyValues(9, many)), compileKeys(['key.9999']));
    expect(span).toMatchObject({ attributeCount: 10_000, attributes: new Map([['key.9999', 9999]]) });
  });

  it('a log record that names a span but no trace names no span', () => {
    expect(readLogs(encodeLogs([{ logs: [{ spanId: SPAN_ID }] }]))[0]).toMatchObject({ traceId: '', spanId: '' });
  });

  it('the bytes of a span are handed out as sent', () => {
    const [span] = readSpans(spanPayload(delimited(5, 'x')));
    const sent = Buffer.concat([spanMessage({ traceId: TRACE_ID, spanId: SPAN_ID }), delimited(5, 'x')]);
    expect(span && Buffer.from(bytesOf(span.raw))).toEqual(sent);
  });
});

function nested(depth: number, inner = 'deep'): unknown {
  let value: unknown = inner;
  for (let level = 0; level < depth; level++) value = [value];
  return value;
}

describe('content that cannot be decoded', () => {
  it.each([
    ['an attribute cut short', delimited(9, Buffer.from([0x0a, 0x05, 0x61]))],
    ['a value cut short', delimited(9, Buffer.concat([delimited(1, 'a'), delimited(2, Buffer.from([0x0a, 0x7f]))]))],
    ['an event with a stray end of group', delimited(11, tag(3, 4))],
    ['a status with an endless varint', delimited(15, Buffer.concat([tag(3, 0), Buffer.alloc(11, 0x80)]))],
  ])('%s costs that part alone, and is counted', (_case, fields) => {
    const more = Buffer.concat([fields, keyValues(9, { after: 1 })]);
    const [span, good] = readSpans(Buffer.concat([spanPayload(more), spanPayload()]));
    expect(span).toMatchObject({ spanId: SPAN_ID, unreadable: 1, attributes: new Map([['after', 1]]) });
    expect(good?.unreadable).toBeUndefined();
  });

  it('of a log record costs the attribute or the body, and is counted', () => {
    const parts = [delimited(5, Buffer.from([0x0a, 0x7f])), delimited(6, Buffer.from([0x0a, 0x05, 0x61]))];
    const item = Buffer.concat([...parts, keyValues(6, { after: 1 })]);
    const [log] = readLogs(delimited(1, delimited(2, delimited(2, item))));
    expect(log).toMatchObject({ body: undefined, unreadable: 2, attributes: new Map([['after', 1]]) });
  });

  it('an item whose own fields do not add up is an error', () => {
    const payload = spanPayload(delimited(9, Buffer.from([0x0a, 0x05, 0x61])));
    // The last attribute claims to be longer than its span.
    payload[payload.length - 4] = 0x70;
    expect(() => readSpans(payload)).toThrow();
  });

  it('an offset at which no item starts', () => {
    const payload = spanPayload();
    const reader = new PayloadReader(payload, 'traces', NOTE, ALL);
    for (const offset of [0, 1, 3, 5, payload.length, payload.length + 9]) {
      expect(() => reader.span(offset)).toThrow(AppError);
    }
  });

  it('values nested as deeply as allowed are read, deeper lists become a text', () => {
    expect(readSpans(spanPayload(keyValues(9, { a: nested(32) })))[0]?.attributes.get('a')).toEqual(nested(32));
    for (const depth of [33, 34, 2000]) {
      const [span] = readSpans(spanPayload(keyValues(9, { a: nested(depth), b: 1 })));
      expect(span?.attributes.get('a')).toEqual(nested(32, '[nested too deep]'));
      expect(span?.attributes.get('b')).toBe(1);
    }
  });

  it('of a resource costs the attribute, not the spans', () => {
    const cut = delimited(1, Buffer.concat([delimited(1, 'a'), delimited(2, Buffer.from([0x0a, 0x7f]))]));
    const resource = Buffer.concat([keyValues(1, { before: 1 }), cut, keyValues(1, { after: 2 })]);
    const payload = delimited(
      1,
      Buffer.concat([
        delimited(1, resource),
        delimited(2, delimited(2, spanMessage({ traceId: TRACE_ID, spanId: SPAN_ID }))),
      ]),
    );
    expect(readSpans(payload)[0]?.resource.attributes).toEqual(
      new Map([
        ['before', 1],
        ['after', 2],
      ]),
    );
  });

  it('a resource whose own framing is broken is an error', () => {
    const payload = delimited(
      1,
      Buffer.concat([
        delimited(1, Buffer.from([0x0a, 0x7f])),
        delimited(2, delimited(2, spanMessage({ traceId: TRACE_ID, spanId: SPAN_ID }))),
      ]),
    );
    expect(() => readSpans(payload)).toThrow(AppError);
  });
});

it('the length in front of an item is found however it is padded', () => {
  const span = spanMessage({ traceId: TRACE_ID, spanId: SPAN_ID, name: 'x'.repeat(300) });
  const length = varint(span.length);
  const padded = Buffer.concat([length.subarray(0, 1), Buffer.from([(length[1] ?? 0) | 0x80, 0x80, 0x00])]);
  const item = Buffer.concat([Buffer.from([0x92, 0x80, 0x00]), padded, span]);
  const [read] = readSpans(delimited(1, delimited(2, item)));
  expect(read && Buffer.from(bytesOf(read.raw))).toEqual(span);
});

it('a log body in parts is merged', () => {
  const parts = [delimited(5, anyValue([1])), keyValues(6, { a: 'between' }), delimited(5, anyValue([2]))];
  const payload = delimited(1, delimited(2, delimited(2, Buffer.concat(parts))));
  expect(readLogs(payload)[0]?.body).toEqual([1, 2]);
});
