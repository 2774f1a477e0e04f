import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, credentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TraceAnswer } from '../../src/api/contract.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { encodeLogs, encodeTraces, type TestLog, type TestSpan } from '../otlp/encode.ts';
import { makeTrace } from './clinic-evidence.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

/** Every kind of odd evidence has a defined result, harms no other, and is accounted for to the piece. */

const NOW_NS = BigInt(Date.now() - 2000) * 1_000_000n;
const YEAR_2262_NS = 9_223_372_036_854_775_807n;
const LATEST_NS = 18_446_744_073_709_551_615n;
/** ESC, NUL, DEL, C1 CSI, a line end, right-to-left override, a letter outside the BMP. */
const STRANGE = 'a\u001b[31m\u0000\u007f\u009b\n\u202eb😀ß';

let folder: string;
let running: RunningProcess;
let sent = 0;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'spantrail-hostile-'));
  running = await startProcess(['--store', 'duckdb', '--data-dir', folder]);
});
afterAll(async () => {
  await running?.stop('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

const traceId = () => randomBytes(16).toString('hex');
const spanId = (number: number) => (number + 1).toString(16).padStart(16, '0');

/** A SERVER span that is an access. */
function access(trace: string, number: number, more: TestSpan = {}): TestSpan {
  return {
    traceId: trace,
    spanId: spanId(number),
    name: 'GET /patients/:id',
    kind: 2,
    startNs: NOW_NS,
    endNs: NOW_NS + 5_000_000n,
    ...more,
    attributes: {
      'http.request.method': 'GET',
      'http.route': '/patients/:id',
      'url.path': `/patients/${number}`,
      'user.id': 'mallory',
      ...more.attributes,
    },
  };
}

function sendSpans(spans: TestSpan[], service = 'hostile'): Promise<number> {
  sent += spans.length;
  return running.send('traces', encodeTraces([{ attributes: { 'service.name': service }, spans }]));
}

function sendLogs(logs: TestLog[]): Promise<number> {
  sent += logs.length;
  return running.send('logs', encodeLogs([{ attributes: { 'service.name': 'hostile' }, logs }]));
}

const SETTLED_MS_MAX = 30_000;
let isStuck = false;

/** Once one piece holds up the pipeline, the tests that follow say so at once. */
async function settled(): Promise<void> {
  const stop = new AbortController();
  const late = sleep(isStuck ? 0 : SETTLED_MS_MAX, true, { signal: stop.signal }).catch(() => false);
  const isLate = await Promise.race([running.settled(), late]);
  stop.abort();
  if (isLate !== true) return;
  isStuck = true;
  throw new Error(`evidence stays pending: ${JSON.stringify(await running.pipeline())}`);
}

async function recordsOf(trace: string): Promise<AuditRecord[]> {
  await settled();
  return running.search(`trace.id: ${trace}`);
}

async function drawn(trace: string): Promise<TraceAnswer> {
  const response = await fetch(`http://127.0.0.1:${running.api}/api/v1/traces/${trace}`);
  expect(response.status).toBe(200);
  return (await response.json()) as TraceAnswer;
}

describe('shapes of a trace that cannot be', () => {
  it.each([
    ['a span that is its own parent', [0], [0]],
    ['two spans that are each other’s parent', [0, 1], [1, 0]],
    ['a cycle of three below a root', [0, 1, 2, 3], [undefined, 3, 1, 2]],
    ['a root below which nothing belongs', [0, 1], [undefined, 77]],
  ])('%s: each access has its record', async (_name, numbers, parents) => {
    const trace = traceId();
    const spans = numbers.map((number, index) => {
      const parent = parents[index];
      return access(trace, number, parent === undefined ? {} : { parentSpanId: spanId(parent) });
    });
    expect(await sendSpans(spans)).toBe(200);
    const records = await recordsOf(trace);
    expect(records.map((record) => record.span?.id).toSorted()).toEqual(numbers.map(spanId));
    expect(records.some((record) => record.audit.entry)).toBe(true);
    expect((await drawn(trace)).spans).toHaveLength(numbers.length);
  });
});

describe('times that cannot be', () => {
  it.each([
    ['end before start', NOW_NS, NOW_NS - 7_000_000n],
    ['no times at all', 0n, 0n],
    ['no end', NOW_NS, 0n],
    ['one nanosecond after 1970', 1n, 2n],
    ['the last instant of 2262', YEAR_2262_NS - 1n, YEAR_2262_NS],
    ['beyond 2262', YEAR_2262_NS + 5n, LATEST_NS],
    ['from 1970 to the end of time', 1n, LATEST_NS],
  ])('%s: one record, found again, with a duration that is not negative', async (_name, startNs, endNs) => {
    const trace = traceId();
    expect(await sendSpans([access(trace, 0, { startNs, endNs })])).toBe(200);
    const [record, ...more] = await recordsOf(trace);
    expect(more).toEqual([]);
    expect(record?.event.duration).toBeGreaterThanOrEqual(0);
    expect(record?.['@timestamp']).toMatch(/^(19|2[012])\d\d-.*Z$/);
    expect(
      await running.search(`event.id: ${record?.event.id} and @timestamp: "${record?.['@timestamp']}"`),
    ).toHaveLength(1);
    expect((await drawn(trace)).records).toHaveLength(1);
  });
});

it('ranges and histograms reach over all time', async () => {
  const get = (path: string) => fetch(`http://127.0.0.1:${running.api}/api/v1/${path}`);
  for (const path of ['records?to=2300-01-01', 'records?from=0001-01-01', 'histogram?bucket=36500d', 'export']) {
    expect((await get(path)).status, path).toBe(200);
  }
  expect((await get('histogram?bucket=1ms')).status).toBe(400);
});

describe('contents beyond measure', () => {
  const oddNumbers = { a: Number.NaN, b: Number.POSITIVE_INFINITY, c: -0.5, 'http.response.status_code': Number.NaN };
  const odd: Record<string, Record<string, unknown>> = {
    'numbers that are none': oddNumbers,
    '10,000 attributes': Object.fromEntries(Array.from({ length: 10_000 }, (_, number) => [`key.${number}`, number])),
    'an attribute of 1 MiB': { 'url.query': 'x'.repeat(2 ** 20), 'db.query.text': 'y'.repeat(2 ** 20) },
    'no value where one is awaited': { 'http.route': null, 'url.path': null, 'user.id': null, 'service.name': null },
    'lists and maps where text is awaited': {
      'http.route': ['/a', '/b'],
      'url.path': { nested: { deep: [1, true, null] } },
      'user.id': [['x']],
      'http.response.status_code': '403 Forbidden',
      'client.address': ['10.0.0.1', 'not an address'],
    },
    'an address that is none': { 'client.address': '999.1.1.1', 'client.port': -5 },
    'control characters everywhere': {
      'http.route': `/${STRANGE}`,
      'url.path': `/${STRANGE}`,
      'user.id': STRANGE,
      'user.roles': [STRANGE],
      'http.request.method': STRANGE,
      'user_agent.original': STRANGE,
      'error.type': STRANGE,
    },
  };
  it.each(Object.keys(odd))('%s: one record, and none for a neighbour is missing', async (name) => {
    const trace = traceId();
    const neighbour = traceId();
    const strange = access(trace, 0, { statusMessage: STRANGE, ...(name.startsWith('control') && { name: STRANGE }) });
    expect(
      await sendSpans(
        [{ ...strange, attributes: { ...strange.attributes, ...odd[name] } }, access(neighbour, 1)],
        name.startsWith('control') ? STRANGE : 'hostile',
      ),
    ).toBe(200);
    const records = await recordsOf(trace);
    expect(records).toHaveLength(1);
    expect(records[0]?.message).not.toMatch(/\p{Cc}|\u202e/u);
    expect(JSON.stringify(records[0]).length).toBeLessThan(64 * 1024);
    expect(await recordsOf(neighbour)).toHaveLength(1);
  });
});

describe('log records that say odd things of an access', () => {
  const attributes: Record<string, Record<string, unknown>> = {
    'a list for an action': { 'event.action': ['a', 'b'], 'audit.target.id': ['x'] },
    'maps for everything': { 'event.action': { a: 1 }, 'audit.target': { id: 'x', type: 'y' }, 'user.id': { id: 1 } },
    'numbers for everything': { 'event.action': 1, 'audit.target.id': 2.5, 'user.id': 3, 'event.outcome': 4 },
    'outcomes that are none': { 'event.action': 'open', 'event.outcome': 'maybe', 'audit.decision': 'perhaps' },
    'fields that only Spantrail states': {
      'event.action': 'open',
      'audit.entry': false,
      'audit.revision': 99,
      'audit.superseded_by': 'f'.repeat(32),
      'audit.actor.verified': true,
      'event.id': 'e'.repeat(32),
      'audit.join.state': 'complete',
    },
    'keys of an object’s prototype': {
      'event.action': 'open',
      __proto__x: 'a',
      constructor: 'b',
      'audit.__proto__.x': 1,
    },
    'a million characters': { 'event.action': 'z'.repeat(2 ** 20), 'audit.target.id': 'z'.repeat(2 ** 20) },
    'control characters': {
      'event.action': STRANGE,
      'audit.target.id': STRANGE,
      'audit.purpose': STRANGE,
      'user.id': STRANGE,
    },
  };
  it.each(Object.keys(attributes))('%s: at most one record, never hidden, never proven', async (name) => {
    const trace = traceId();
    const log: TestLog = {
      traceId: trace,
      spanId: spanId(0),
      timeNs: NOW_NS,
      observedNs: NOW_NS,
      eventName: 'patient.access',
      body: [{ deep: [STRANGE, Number.NaN] }],
      ...(attributes[name] && { attributes: attributes[name] }),
    };
    expect(await sendLogs([log])).toBe(200);
    const records = await recordsOf(trace);
    expect(records.length).toBeLessThanOrEqual(1);
    for (const record of records) {
      expect(record.audit).toMatchObject({ entry: true, revision: 1, actor: { verified: false } });
      expect(record.audit.superseded_by).toBeUndefined();
      expect(typeof record.event.action).toBe('string');
      expect(typeof record.audit.target.id).toBe('string');
      expect(['success', 'failure', 'unknown']).toContain(record.event.outcome);
      expect(['allow', 'deny', 'none']).toContain(record.audit.decision);
      expect(record.message).not.toMatch(/\p{Cc}/u);
    }
  });
});

it('a trace of 20,000 spans is looked at through 10,000 of them: every access, and as much of the rest as fits', async () => {
  const trace = traceId();
  const count = 20_000;
  const below: TestSpan = {
    traceId: trace,
    parentSpanId: spanId(0),
    name: 'step',
    startNs: NOW_NS,
    endNs: NOW_NS + 1n,
  };
  const spans = Array.from({ length: count }, (_, number) => {
    if (number === 0) return access(trace, 0);
    return number % 200 === 0
      ? access(trace, number, { parentSpanId: spanId(0) })
      : { ...below, spanId: spanId(number) };
  });
  for (let from = 0; from < count; from += 4000) expect(await sendSpans(spans.slice(from, from + 4000))).toBe(200);
  const records = await recordsOf(trace);
  expect(records).toHaveLength(100);
  for (const { audit } of records) {
    expect(audit.join).toMatchObject({ state: 'complete', spans: 10_000 });
    expect(audit.trace?.span_count).toBe(count);
  }
  expect((await drawn(trace)).spans).toHaveLength(10_000);
});

it('the same over gRPC', async () => {
  const trace = traceId();
  const payload = encodeTraces([
    {
      attributes: { 'service.name': STRANGE },
      spans: [access(trace, 0, { parentSpanId: spanId(0), endNs: 0n, name: STRANGE })],
    },
  ]);
  const client = new Client(`127.0.0.1:${running.grpc}`, credentials.createInsecure());
  const path = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';
  const same = (bytes: Buffer) => bytes;
  const answer = await new Promise<Buffer | undefined>((resolve, reject) =>
    client.makeUnaryRequest(path, same, same, payload, (error, bytes) => (error ? reject(error) : resolve(bytes))),
  );
  client.close();
  sent += 1;
  expect(answer).toHaveLength(0);
  expect(await recordsOf(trace)).toHaveLength(1);
});

it('and every piece is accounted for, none in quarantine, others unharmed', async () => {
  const good = makeTrace(1);
  expect(await running.send('traces', good.payload)).toBe(200);
  sent += 2;
  expect(await recordsOf(good.traceId)).toHaveLength(2);
  const { counters, pending } = await running.pipeline();
  const total = (name: string) => counters.filter((c) => c.name === name).reduce((sum, c) => sum + c.value, 0);
  expect(total('accepted')).toBe(sent);
  expect(pending.evidence + total('evidence') + total('quarantined')).toBe(sent);
  expect(total('quarantined')).toBe(0);
  const kept = readdirSync(join(folder, 'quarantine')).map((file) =>
    readFileSync(join(folder, 'quarantine', file), 'utf8'),
  );
  expect(kept.join('')).toBe('');
  expect(running.log()).not.toMatch(/"level":(50|60)/);
});
