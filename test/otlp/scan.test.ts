import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AppError } from '../../src/core/errors.ts';
import type { FrameNote, Signal } from '../../src/core/evidence.ts';
import { compileKeys, PayloadReader } from '../../src/otlp/decode.ts';
import { transcodeJson } from '../../src/otlp/json.ts';
import { compileMask, maskSecrets } from '../../src/otlp/mask.ts';
import { type ScannedItem, scanLogs, scanMetrics, scanTraces } from '../../src/otlp/scan.ts';
import { delimited, encodeLogs, encodeMetrics, encodeTraces, fixed64, integer, tag } from './encode.ts';

const TRACE_ID = 'a1'.repeat(16);
const SPAN_ID = 'b2'.repeat(8);
const PARENT_ID = 'c3'.repeat(8);
const SCANS = { traces: scanTraces, logs: scanLogs, metrics: scanMetrics } as const;

const TRACES = encodeTraces([
  {
    attributes: { 'service.name': 'orders' },
    scope: { name: 'http' },
    spans: [
      {
        traceId: TRACE_ID,
        spanId: SPAN_ID,
        parentSpanId: PARENT_ID,
        name: 'a',
        attributes: { secret: ['x', { y: 1 }] },
      },
      { traceId: TRACE_ID, spanId: PARENT_ID, events: [{ name: 'e', attributes: { password: 'p' } }], statusCode: 2 },
    ],
  },
]);
const LOGS = encodeLogs([{ logs: [{ traceId: TRACE_ID, spanId: SPAN_ID, body: { password: 'p' } }, { body: 'b' }] }]);
const METRICS = encodeMetrics([
  { metrics: [{ name: 'm', points: [{ value: 1 }, { value: 2 }] }, { points: [{ value: 3 }] }] },
]);

function items(scan: typeof scanTraces, payload: Buffer): object[] {
  const found: object[] = [];
  const idOf = (at: number, size: number) => (at < 0 ? '' : payload.toString('hex', at, at + size));
  scan(payload, ({ itemStart, itemEnd, traceIdAt, spanIdAt, parentSpanIdAt }: ScannedItem) => {
    const ids = [idOf(traceIdAt, 16), idOf(spanIdAt, 8), idOf(parentSpanIdAt, 8)];
    found.push({ ids, bytes: itemEnd - itemStart });
  });
  return found;
}

describe('what the scan finds', () => {
  it('spans with their ids', () => {
    const payload = encodeTraces([{ spans: [{ traceId: TRACE_ID, spanId: SPAN_ID, parentSpanId: PARENT_ID }] }]);
    expect(items(scanTraces, payload)).toEqual([{ ids: [TRACE_ID, SPAN_ID, PARENT_ID], bytes: 38 }]);
  });

  it.each<[string, object, object]>([
    ['both ids', { traceId: TRACE_ID, spanId: SPAN_ID }, { ids: [TRACE_ID, SPAN_ID, ''] }],
    ['no trace id', { spanId: SPAN_ID }, { ids: ['', '', ''] }],
    ['a zero trace id', { traceId: '00'.repeat(16), spanId: SPAN_ID }, { ids: ['', '', ''] }],
    ['an odd trace id', { traceId: 'ab', spanId: SPAN_ID }, { ids: ['', '', ''] }],
    ['an odd span id', { traceId: TRACE_ID, spanId: 'ab' }, { ids: [TRACE_ID, '', ''] }],
  ])('log records, one with %s', (_case, log, expected) => {
    const payload = encodeLogs([{ logs: [log] }]);
    expect(items(scanLogs, payload)).toMatchObject([expected]);
    expect(scanLogs(payload)).toEqual({ ok: true, items: 1, rejected: 0, reason: '' });
  });

  it.each<[string, object]>([
    ['no trace id', { spanId: SPAN_ID }],
    ['an empty trace id', { traceId: '', spanId: SPAN_ID }],
    ['a zero trace id', { traceId: '00'.repeat(16), spanId: SPAN_ID }],
    ['a short trace id', { traceId: 'ab', spanId: SPAN_ID }],
    ['no span id', { traceId: TRACE_ID }],
    ['a zero span id', { traceId: TRACE_ID, spanId: '00'.repeat(8) }],
    ['a long span id', { traceId: TRACE_ID, spanId: TRACE_ID }],
  ])('a span with %s costs itself only', (_case, span) => {
    const payload = encodeTraces([{ spans: [{ traceId: TRACE_ID, spanId: SPAN_ID }, span] }]);
    const which =
      'traceId' in span && span.traceId === TRACE_ID ? /^spans rejected: 1 .*span id/ : /^spans rejected: 1 .*trace id/;
    expect(scanTraces(payload)).toEqual({ ok: true, items: 2, rejected: 1, reason: expect.stringMatching(which) });
    expect(items(scanTraces, payload)).toHaveLength(1);
  });

  it('data points; the kind that is given last counts', () => {
    expect(scanMetrics(METRICS)).toEqual({ ok: true, items: 3, rejected: 0, reason: '' });
    const [one, two] = [delimited(1, fixed64(3, 1n)), Buffer.concat([delimited(1, ''), delimited(1, '')])];
    const count = (...data: Buffer[]) => scanMetrics(delimited(1, delimited(2, delimited(2, Buffer.concat(data)))));
    expect(count(delimited(9, two), delimited(10, one))).toMatchObject({ items: 1 });
    expect(count(delimited(11, two), delimited(11, one))).toMatchObject({ items: 3 });
  });

  it.each(['traces', 'logs', 'metrics'] as const)('nothing in an empty request for %s', (signal) => {
    expect(SCANS[signal](Buffer.alloc(0))).toEqual({ ok: true, items: 0, rejected: 0, reason: '' });
    expect(SCANS[signal](delimited(1, delimited(2, '')))).toMatchObject({ ok: true, items: 0 });
  });
});

describe('what is not protobuf', () => {
  const inSpan = (...fields: Buffer[]) => delimited(1, delimited(2, delimited(2, Buffer.concat(fields))));
  const groups = (depth: number) => Buffer.concat([Buffer.alloc(depth, tag(3, 3)), Buffer.alloc(depth, tag(3, 4))]);
  it.each<[string, Buffer, number]>([
    ['a length beyond the payload', Buffer.from([0x0a, 0x7f]), 1],
    ['a length beyond 32 bits', Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), 1],
    ['a length beyond its message', delimited(1, Buffer.concat([tag(2, 2), Buffer.from([9])])), 3],
    ['field number 0', Buffer.from([0x02, 0x00]), 0],
    ['a field number beyond 32 bits', Buffer.from([0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]), 0],
    ['a varint of 11 bytes', inSpan(tag(6, 0), Buffer.alloc(10, 0x80), Buffer.alloc(1)), 7],
    ['wire type 6', Buffer.from([0x0e]), 1],
    ['wire type 7', inSpan(Buffer.from([0x0f])), 7],
    ['an end of group that was not opened', inSpan(tag(3, 4)), 7],
    ['an end of another group', inSpan(tag(3, 3), tag(4, 4)), 8],
    ['a group without end', inSpan(tag(3, 3)), 7],
    ['groups nested too deeply', inSpan(groups(101)), 110],
    ['a fixed field cut short', inSpan(tag(7, 1), Buffer.alloc(7)), 7],
  ])('%s is refused, and the place is told', (_case, payload, offset) => {
    const result = scanTraces(payload);
    expect(result).toMatchObject({ ok: false, message: expect.stringContaining(`at byte`) });
    expect(result.ok || result.offset).toBe(offset);
  });

  it('groups nested as deeply as allowed are skipped', () => {
    expect(scanTraces(inSpan(groups(100), integer(6, 1)))).toMatchObject({ ok: true, items: 1 });
  });
});

const NOTE: FrameNote = { receivedNs: 0n, namespace: 'd', sender: 'grpc', trusted: true, vouches: false, peer: '' };
const ALL = compileKeys(['*']);
const MASK = compileMask({ attributes: ['secret', 'password', '*authorization'], queryParameters: ['token'] });

/** Runs everything that reads bytes; decoding may only fail with the error that leads to quarantine. Counts decoded items. */
function readEverything(signal: Signal, payload: Buffer): number {
  let decoded = 0;
  const read = (item: (reader: PayloadReader, start: number) => void, itemSignal: 'traces' | 'logs') => {
    const reader = new PayloadReader(payload, itemSignal, NOTE, ALL);
    return ({ itemStart }: ScannedItem) => {
      try {
        item(reader, itemStart);
        decoded++;
      } catch (thrown) {
        if (!(thrown instanceof AppError)) throw thrown;
      }
    };
  };
  const sinks = {
    traces: read((reader, start) => reader.span(start), 'traces'),
    logs: read((reader, start) => reader.logRecord(start), 'logs'),
    metrics: undefined,
  };
  const before = SCANS[signal](payload, sinks[signal]);
  maskSecrets(payload, signal, MASK);
  if (before.ok) expect(SCANS[signal](payload)).toEqual(before);
  return decoded;
}

describe('damage never throws', () => {
  const whole: [Signal, Buffer][] = [
    ['traces', TRACES],
    ['logs', LOGS],
    ['metrics', METRICS],
  ];

  it.each(whole)('%s cut at every byte', (signal, payload) => {
    const full = SCANS[signal](payload);
    const total = full.ok ? full.items : 0;
    for (let length = 0; length < payload.length; length++) {
      const result = SCANS[signal](payload.subarray(0, length));
      expect(!result.ok || result.items <= total).toBe(true);
      expect(readEverything(signal, Buffer.from(payload.subarray(0, length)))).toBeLessThanOrEqual(total);
    }
  });

  it.each(whole)('%s with bytes changed', (signal, payload) => {
    const changes = fc.array(fc.tuple(fc.nat(payload.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(changes, (bytes) => {
        const damaged = Buffer.from(payload);
        for (const [at, byte] of bytes) damaged[at] = byte;
        readEverything(signal, damaged);
      }),
      { numRuns: 5000 },
    );
  });

  it('garbage', () => {
    const signal = fc.constantFrom<Signal>('traces', 'logs', 'metrics');
    // Bytes that are often tags or short lengths reach deeper than even ones.
    const byte = fc.oneof(fc.nat(255), fc.constantFrom(0x0a, 0x12, 0x4a, 0x2a, 0x32, 0x5a, 0x0b, 0x0c, 2, 4, 8, 16));
    fc.assert(
      fc.property(signal, fc.array(byte, { maxLength: 60 }), (kind, bytes) => {
        readEverything(kind, Buffer.from(bytes));
        expect(transcodeJson(kind, Buffer.from(bytes))).toHaveProperty('ok');
      }),
      { numRuns: 20_000 },
    );
  });
});
