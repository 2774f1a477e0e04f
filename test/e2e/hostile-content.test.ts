import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { HistogramAnswer } from '../../src/api/contract.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import {
  delimited,
  encodeLogs,
  encodeTraces,
  keyValues,
  spanMessage,
  type TestSpan,
  tag,
  varint,
} from '../otlp/encode.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

/** What one request may hold at worst: each has a defined answer, and a neighbour's evidence beside it comes through. */

const NOW_MS = Date.now() - 2000;
const REQUEST_BYTES_MAX = 64 * 1024 * 1024;
const YEAR_MS = 365 * 86_400_000;

let folder: string;
let running: RunningProcess;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'spantrail-hostile-'));
  running = await startProcess(['--store', 'duckdb', '--data-dir', folder]);
});
afterAll(async () => {
  await running?.stop('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

const newTraceId = () => randomBytes(16).toString('hex');
const spanId = (number: number) => (number + 1).toString(16).padStart(16, '0');

function access(traceId: string, number: number, more: TestSpan = {}, startMs = NOW_MS): TestSpan {
  const startNs = BigInt(startMs) * 1_000_000n;
  const span = {
    traceId,
    spanId: spanId(number),
    name: 'GET /patients/:id',
    kind: 2,
    startNs,
    endNs: startNs + 5_000_000n,
  };
  const attributes = {
    'http.request.method': 'GET',
    'http.route': '/patients/:id',
    'url.path': `/patients/${number}`,
    'user.id': 'alice',
    ...more.attributes,
  };
  return { ...span, ...more, attributes };
}

const encode = (spans: TestSpan[]) => encodeTraces([{ attributes: { 'service.name': 'hostile' }, spans }]);

async function post(signal: string, body: Buffer, headers: Record<string, string> = {}): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${running.http}/v1/${signal}`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-protobuf', ...headers },
    body: new Uint8Array(body),
  });
  await response.arrayBuffer();
  return response.status;
}

async function recordsOf(traceId: string): Promise<AuditRecord[]> {
  await running.settled();
  return running.search(`trace.id: ${traceId}`);
}

async function expectOthers(): Promise<void> {
  const traceId = newTraceId();
  expect(await post('traces', encode([access(traceId, 1)]))).toBe(200);
  expect(await recordsOf(traceId)).toHaveLength(1);
}

describe('requests as large as can be', () => {
  /** A request of exactly so many bytes. */
  function request(traceId: string, bytes: number): Buffer {
    const build = (filler: number) => encode([access(traceId, 1, { attributes: { filler: 'x'.repeat(filler) } })]);
    // What stands around the filler takes the same bytes for any filler of some MiB.
    const around = build(2 ** 24).length - 2 ** 24;
    return build(bytes - around);
  }

  it('64 MiB: its accesses have their records; a byte more: 413', async () => {
    const traceId = newTraceId();
    const largest = request(traceId, REQUEST_BYTES_MAX);
    expect(largest).toHaveLength(REQUEST_BYTES_MAX);
    expect(await post('traces', largest)).toBe(200);
    expect(await recordsOf(traceId)).toHaveLength(1);
    expect(await post('traces', request(traceId, REQUEST_BYTES_MAX + 1))).toBe(413);
    await expectOthers();
  });

  it('as many small spans as fit into 16 MiB: all of them are taken', async () => {
    const traceId = newTraceId();
    const count = 120_000;
    const small = Array.from({ length: count }, (_, number): TestSpan => ({ traceId, spanId: spanId(number + 10) }));
    expect(await post('traces', encode([access(traceId, 1), ...small]))).toBe(200);
    const [record, ...more] = await recordsOf(traceId);
    expect(more).toEqual([]);
    expect(record?.audit.trace?.span_count).toBe(count + 1);
  });

  // A gzip file may be several, one after the other.
  const megabytes = gzipSync(Buffer.alloc(2 ** 26));
  it.each([
    ['a gigabyte of zeros', () => Buffer.concat(Array.from({ length: 16 }, () => megabytes))],
    ['a request just too large', () => gzipSync(request(newTraceId(), REQUEST_BYTES_MAX + 1))],
    ['compressed twice', () => gzipSync(gzipSync(encode([access(newTraceId(), 1)])))],
    ['cut short', () => gzipSync(encode([access(newTraceId(), 1)])).subarray(0, 40)],
  ])('compressed, %s: refused for good, at once', async (name, make) => {
    const status = await post('traces', make(), { 'content-encoding': 'gzip' });
    // What is cut short may claim any size.
    expect(name === 'cut short' ? [400, 413] : [name === 'compressed twice' ? 400 : 413]).toContain(status);
    await expectOthers();
  });
});

describe('values nested beyond measure', () => {
  /** An AnyValue that holds a list of one AnyValue that holds a map of one key, and so on. */
  function nested(depth: number): Buffer {
    const heads: Buffer[] = [delimited(1, 'deep')];
    let length = heads[0]?.length ?? 0;
    const put = (head: Buffer) => {
      heads.push(head);
      length += head.length;
    };
    const wrap = (field: number) => put(Buffer.concat([tag(field, 2), varint(length)]));
    for (let level = 0; level < depth; level++) {
      if (level % 2 === 1) {
        wrap(2);
        put(delimited(1, 'k'));
      }
      wrap(1);
      wrap(level % 2 === 0 ? 5 : 6);
    }
    return Buffer.concat(heads.reverse());
  }

  it.each([33, 100, 20_000])('%i levels in a span, its resource and a log record: the rest counts', async (depth) => {
    const [traceId, loggedId] = [newTraceId(), newTraceId()];
    const attribute = (field: number) =>
      delimited(field, Buffer.concat([delimited(1, 'user.roles'), delimited(2, nested(depth))]));
    const span = Buffer.concat([spanMessage(access(traceId, 1)), attribute(9)]);
    const resource = Buffer.concat([keyValues(1, { 'service.name': 'deep' }), attribute(1)]);
    const payload = delimited(1, Buffer.concat([delimited(1, resource), delimited(2, delimited(2, span))]));
    expect(await post('traces', payload)).toBe(200);
    const log = {
      traceId: loggedId,
      eventName: 'access',
      attributes: { 'event.action': 'open', 'audit.target.id': 'x' },
    };
    const logs = encodeLogs([{ logs: [{ ...log, timeNs: BigInt(NOW_MS) * 1_000_000n }] }]);
    expect(await post('logs', Buffer.concat([logs, logs]))).toBe(200);
    const [record] = await recordsOf(traceId);
    expect(record).toMatchObject({ user: { id: 'alice' }, service: { name: 'deep' } });
    expect(await recordsOf(loggedId)).toHaveLength(1);
    await expectOthers();
  });

  it('the same as JSON', async () => {
    const traceId = newTraceId();
    const value = `${'{"arrayValue":{"values":['.repeat(20_000)}{"stringValue":"deep"}${']}}'.repeat(20_000)}`;
    const times = `"startTimeUnixNano":"${NOW_MS}000000","endTimeUnixNano":"${NOW_MS}000001"`;
    const attributes = `{"key":"http.request.method","value":{"stringValue":"GET"}},{"key":"x","value":${value}}`;
    const span = `{"traceId":"${traceId}","spanId":"${spanId(1)}","name":"a","kind":2,${times},"attributes":[${attributes}]}`;
    const body = `{"resourceSpans":[{"scopeSpans":[{"spans":[${span}]}]}]}`;
    const status = await post('traces', Buffer.from(body), { 'content-type': 'application/json' });
    expect([200, 400]).toContain(status);
    expect(await recordsOf(traceId)).toHaveLength(status === 200 ? 1 : 0);
    await expectOthers();
  });
});

describe('a part that cannot be decoded', () => {
  it('costs only itself: the rest of the span counts, and its record says so', async () => {
    const traceId = newTraceId();
    const cut = delimited(9, Buffer.concat([delimited(1, 'url.query'), delimited(2, Buffer.from([0x0a, 0x7f]))]));
    const event = delimited(11, Buffer.from([0x0a, 0x7f]));
    const span = Buffer.concat([cut, spanMessage(access(traceId, 1)), event]);
    const payload = delimited(
      1,
      delimited(2, Buffer.concat([delimited(2, span), delimited(2, spanMessage(access(traceId, 2)))])),
    );
    expect(await post('traces', payload)).toBe(200);
    const records = await recordsOf(traceId);
    const conflictsOf = (number: number) =>
      records.find(({ span: of }) => of?.id === spanId(number))?.audit.join.conflicts;
    expect(conflictsOf(1)?.join()).toContain('2 attributes or other parts');
    expect(conflictsOf(2)).toBeUndefined();
  });
});

describe('clocks that are a year off', () => {
  const histogram = async (query: string) => {
    const response = await fetch(`http://127.0.0.1:${running.api}/api/v1/histogram?inner=true${query}`);
    expect(response.status).toBe(200);
    return (await response.json()) as HistogramAnswer;
  };

  it.each([
    ['ahead', YEAR_MS],
    ['behind', -YEAR_MS],
  ])(
    'a year %s: the record has the time as sent, and neither it nor the histogram stands in the way of others',
    async (_name, jumpMs) => {
      const traceId = newTraceId();
      const startMs = NOW_MS + jumpMs;
      // One request whose caller's clock is right and whose callee's is not, and one by itself.
      const spans = [access(traceId, 1), access(traceId, 2, { parentSpanId: spanId(1) }, startMs)];
      const alone = newTraceId();
      expect(await post('traces', encode([...spans, access(alone, 3, {}, startMs)]))).toBe(200);
      const records = await recordsOf(traceId);
      expect(records.map((record) => Date.parse(record['@timestamp'])).sort()).toEqual([NOW_MS, startMs].sort());
      for (const record of records) expect(record.audit.join.state).toBe('complete');
      expect(await recordsOf(alone)).toHaveLength(1);
      const all = await histogram('');
      expect(all.buckets.length).toBeLessThanOrEqual(1001);
      expect(all.buckets.reduce((sum, { count }) => sum + count, 0)).toBeGreaterThanOrEqual(3);
      const around = `&from=${new Date(NOW_MS - 60_000).toISOString()}&to=${new Date(NOW_MS + 60_000).toISOString()}`;
      expect((await histogram(`${around}&q=trace.id:${traceId}`)).buckets).toMatchObject([{ count: 1 }]);
      expect((await histogram(around)).bucket).toBe('1m');
      await expectOthers();
    },
  );
});

describe('a sender that uses the ids of another', () => {
  const asPage = { origin: 'https://evil.example' };

  it('without trust changes nothing that the other said, and hides nothing', async () => {
    const traceId = newTraceId();
    const own = access(traceId, 1, { attributes: { 'http.response.status_code': 200 } });
    const forged = access(traceId, 1, {
      parentSpanId: spanId(2),
      endNs: (own.endNs ?? 0n) + 60_000_000_000n,
      attributes: { 'http.response.status_code': 403, 'user.id': 'mallory', more: 1 },
    });
    const above = access(traceId, 2, { attributes: { 'user.id': 'mallory' } });
    expect(await post('traces', encode([forged, above]), asPage)).toBe(200);
    expect(await post('traces', encode([own]))).toBe(200);
    const record = (await recordsOf(traceId)).find(({ span }) => span?.id === spanId(1));
    expect(record).toMatchObject({
      user: { id: 'alice' },
      event: { outcome: 'success', duration: 5_000_000 },
      audit: { entry: true, decision: 'none' },
    });
    expect(record?.audit.join.conflicts).toEqual([`span ${spanId(1)} came in 2 versions`]);
  });

  it('floods the trace with accesses of smaller ids: those of the other have their records all the same', async () => {
    const traceId = newTraceId();
    const flood = Array.from({ length: 12_000 }, (_, number) => access(traceId, number));
    for (let from = 0; from < flood.length; from += 3000) {
      expect(await post('traces', encode(flood.slice(from, from + 3000)), asPage)).toBe(200);
    }
    const own = [access(traceId, 900_001), access(traceId, 900_002, { parentSpanId: spanId(900_001) })];
    expect(await post('traces', encode(own))).toBe(200);
    await running.settled();
    const records = await running.search(
      `trace.id: ${traceId} and (span.id: ${spanId(900_001)} or span.id: ${spanId(900_002)})`,
    );
    expect(records).toHaveLength(2);
    for (const { audit } of records) {
      expect(audit.trace?.span_count).toBe(12_002);
      expect(audit.join.state).toBe('partial');
    }
  });

  it('and the same rights says it again otherwise: one content stands, whichever came first', async () => {
    const [early, late] = await Promise.all(
      [false, true].map(async (isReversed) => {
        const traceId = newTraceId();
        const versions = [access(traceId, 1), access(traceId, 1, { attributes: { 'user.id': 'bob', more: 1 } })];
        for (const version of isReversed ? versions.reverse() : versions) {
          expect(await post('traces', encode([version]))).toBe(200);
          await running.settled();
        }
        return recordsOf(traceId);
      }),
    );
    expect(early?.map(({ user }) => user?.id)).toEqual(['bob']);
    expect(late?.map(({ user }) => user?.id)).toEqual(['bob']);
    expect(late?.[0]?.audit.join.conflicts).toEqual([`span ${spanId(1)} came in 2 versions`]);
  });
});

it('and all of it is accounted for', async () => {
  await running.settled();
  const { sums } = await running.pipeline();
  for (const sum of sums) expect(sum).toMatchObject({ pending: 0, quarantined: 0, difference: 0 });
  expect(running.log()).not.toMatch(/"level":(50|60)/);
});
