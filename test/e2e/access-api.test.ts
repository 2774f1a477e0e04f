import { createHmac, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, inject, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import { encodeLogs, encodeTraces, type TestLog, type TestSpan } from '../otlp/encode.ts';
import { decodeReceipt, encodeRecordRequest } from '../receive/access-client.ts';
import { callGrpc, callHttp } from '../receive/harness.ts';
import { randomOf } from '../simulation/random.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const elasticsearch = inject('elasticsearch')['9.5.0'];
const STORES = [
  { store: 'memory', args: ['--store', 'memory'], skip: false },
  { store: 'duckdb', args: ['--store', 'duckdb'], skip: false },
  {
    store: 'elasticsearch',
    args: ['--elasticsearch-url', 'url' in elasticsearch ? elasticsearch.url : ''],
    skip: 'skipped' in elasticsearch,
  },
];

const RECORD_PATH = '/spantrail.access.v1.AccessService/Record';
const NANOS = 1_000_000n;
const START_MS = Date.now() - 60_000;
const random = randomOf(7);
const hex = (bytes: number) => randomBytes(bytes).toString('hex');

/** One piece of evidence, in the shape of the way by which it comes. */
type Piece =
  | { readonly kind: 'span'; readonly span: TestSpan }
  | { readonly kind: 'log'; readonly log: TestLog }
  | { readonly kind: 'event'; readonly event: Record<string, unknown>; readonly timeMs: number }
  | { readonly kind: 'kubernetes' | 'opa'; readonly item: object };

const EVENTS = 10_000;

/** Four kinds in turn: traces with an explicit event on every other one, events by the API, by OTLP and by webhooks. */
function makePieces(): Piece[] {
  const pieces: Piece[] = [];
  for (let number = 0; pieces.length < EVENTS; number++) {
    const [traceId, rootId, statementId] = [hex(16), hex(8), hex(8)];
    const timeMs = START_MS + number;
    const startNs = BigInt(timeMs) * NANOS;
    const common = { traceId, startNs, endNs: startNs + 20n * NANOS };
    const path = `/patients/${number}`;
    const http = { 'http.request.method': 'GET', 'http.route': '/patients/:id', 'url.path': path };
    const db = { 'db.system.name': 'postgresql', 'db.query.text': 'SELECT * FROM patients WHERE id = $1' };
    pieces.push(
      { kind: 'span', span: { ...common, spanId: rootId, name: 'GET', kind: 2, attributes: http } },
      { kind: 'span', span: { ...common, spanId: statementId, parentSpanId: rootId, kind: 3, attributes: db } },
      eventPiece(number, timeMs, number % 2 === 0 ? { traceId, spanId: rootId } : {}),
      eventPiece(number + 0.5, timeMs, number % 3 === 0 ? { traceId, spanId: statementId } : {}),
      logPiece(number, timeMs, number % 3 === 0 ? { traceId, spanId: rootId } : {}),
      { kind: 'kubernetes', item: kubernetesEvent(number, timeMs) },
      {
        kind: 'opa',
        item: opaDecision(number, timeMs, number % 2 === 0 ? { trace_id: traceId, span_id: rootId } : {}),
      },
    );
  }
  return pieces.slice(0, EVENTS);
}

function eventPiece(number: number, timeMs: number, span: object): Piece {
  const event = {
    id: `event-${number}`,
    actor: { id: `user-${number % 50}`, roles: ['nurse'] },
    action: 'open-chart',
    target: { type: 'patient', id: `patients/${number}` },
    outcome: number % 10 === 0 ? 'failure' : 'success',
    checks: [{ permission: 'chart.read', granted: number % 10 !== 0, rule: 'own-ward' }],
    service: 'charts',
    purpose: 'treatment',
    ...span,
  };
  return { kind: 'event', timeMs, event };
}

function logPiece(number: number, timeMs: number, span: object): Piece {
  const timeNs = BigInt(timeMs) * NANOS;
  const attributes = {
    'event.id': `log-${number}`,
    'user.id': 'carol',
    'event.action': 'export',
    'audit.target.id': 'x',
  };
  return { kind: 'log', log: { timeNs, observedNs: timeNs, eventName: 'export.audit', attributes, ...span } };
}

function kubernetesEvent(number: number, timeMs: number): object {
  const time = new Date(timeMs).toISOString();
  return {
    kind: 'Event',
    apiVersion: 'audit.k8s.io/v1',
    level: 'Metadata',
    auditID: `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`,
    stage: 'ResponseComplete',
    requestURI: `/api/v1/namespaces/clinic/secrets/s${number}`,
    verb: 'get',
    user: { username: 'alice', groups: ['system:authenticated'] },
    sourceIPs: ['10.0.0.7'],
    userAgent: 'kubectl/v1.31.0',
    objectRef: { resource: 'secrets', namespace: 'clinic', name: `s${number}`, apiVersion: 'v1' },
    responseStatus: { metadata: {}, code: 200 },
    requestReceivedTimestamp: time,
    stageTimestamp: time,
    annotations: { 'authorization.k8s.io/decision': 'allow', 'authorization.k8s.io/reason': '' },
  };
}

function opaDecision(number: number, timeMs: number, span: object): object {
  return {
    labels: { app: 'charts', id: 'f9a8d4e0', version: '1.4.2' },
    decision_id: `00000000-0000-4000-9000-${String(number).padStart(12, '0')}`,
    path: 'clinic/authz/allow',
    input: { user: 'alice', action: 'read', resource: `patients/${number}` },
    result: number % 5 !== 0,
    timestamp: new Date(timeMs).toISOString(),
    ...span,
  };
}

/** Sends pieces in requests of random sizes, each event of the API by one of its three ways. */
async function sendAll(running: RunningProcess, pieces: readonly Piece[]): Promise<void> {
  for (let start = 0; start < pieces.length; ) {
    const end = start + 1 + random.int(0, 399);
    const batches = new Map<string, Piece[]>();
    for (const piece of pieces.slice(start, end)) {
      const way = piece.kind === 'event' ? random.pick(['grpc', 'json', 'ndjson']) : piece.kind;
      batches.set(way, [...(batches.get(way) ?? []), piece]);
    }
    await Promise.all([...batches].map(([way, batch]) => send(running, way, batch)));
    start = end;
  }
}

async function send(running: RunningProcess, way: string, batch: readonly Piece[]): Promise<void> {
  const service = { 'service.name': 'charts' };
  const spans = batch.flatMap((piece) => (piece.kind === 'span' ? [piece.span] : []));
  const logs = batch.flatMap((piece) => (piece.kind === 'log' ? [piece.log] : []));
  const events = batch.flatMap((piece) => (piece.kind === 'event' ? [piece] : []));
  const items = batch.flatMap((piece) => (piece.kind === 'opa' || piece.kind === 'kubernetes' ? [piece.item] : []));
  const json = events.map(({ event, timeMs }) => ({ ...event, time: new Date(timeMs).toISOString() }));
  switch (way) {
    case 'span':
      return expect(await running.send('traces', encodeTraces([{ attributes: service, spans }]))).toBe(200);
    case 'log':
      return expect(await running.send('logs', encodeLogs([{ attributes: service, logs }]))).toBe(200);
    case 'grpc': {
      const messages = events.map(({ event, timeMs }) => {
        return { ...event, time: { seconds: Math.floor(timeMs / 1000), nanos: (timeMs % 1000) * 1e6 } };
      });
      const answer = await callGrpc(running.grpc, encodeRecordRequest(messages), { path: RECORD_PATH });
      return expectAccepted(decodeReceipt(answer.body), events.length);
    }
    case 'json':
      return expectAccepted(await post(running, '/v1/access', JSON.stringify({ events: json })), events.length);
    case 'ndjson':
      return expectAccepted(
        await post(running, '/v1/access', json.map((line) => `${JSON.stringify(line)}\n`).join('')),
        events.length,
      );
    case 'kubernetes': {
      const list = { kind: 'EventList', apiVersion: 'audit.k8s.io/v1', metadata: {}, items };
      return expectAccepted(await post(running, '/v1/events/kubernetes', JSON.stringify(list)), items.length);
    }
    default:
      return expectAccepted(await post(running, '/v1/events/opa', JSON.stringify(items)), items.length);
  }
}

async function post(running: RunningProcess, path: string, body: string): Promise<Record<string, unknown>> {
  const headers = { 'content-type': 'application/json' };
  const answer = await callHttp(`http://127.0.0.1:${running.http}${path}`, { headers, body });
  return JSON.parse(answer.body.toString());
}

/** Within one request an event may come twice. */
function expectAccepted(receipt: Record<string, unknown>, items: number): void {
  expect(receipt).toMatchObject({ rejected: [] });
  expect(Number(receipt['accepted']) + Number(receipt['repeated'])).toBe(items);
}

/** What a record says, without the fields that tell how and when it came about. */
function content(record: AuditRecord): unknown {
  const { ingested: _ingested, ...event } = record.event;
  const {
    revision: _revision,
    revised_at: _at,
    supersedes: _supersedes,
    pressure: _,
    join: joined,
    ...audit
  } = record.audit;
  const { reason: _reason, late: _late, horizon: _horizon, ...rest } = joined;
  return { ...record, event, audit: { ...audit, join: rest } };
}

async function recordsOf(running: RunningProcess, store: string): Promise<Map<string, unknown>> {
  await running.settled();
  // Elasticsearch shows what it holds a second later at most.
  if (store === 'elasticsearch') await new Promise((resolve) => setTimeout(resolve, 2000));
  const records = await running.search('');
  const byId = new Map(records.map((record) => [record.event.id, content(record)]));
  expect(byId.size).toBe(records.length);
  return byId;
}

let running: RunningProcess | undefined;
const folders: string[] = [];
afterEach(async () => {
  await running?.stop('SIGKILL');
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

describe(`${EVENTS} mixed events by every way in`, () => {
  const pieces = makePieces();
  let firstRun: Map<string, unknown> | undefined;

  for (const { store, args, skip } of STORES) {
    it.skipIf(skip)(
      `give the same records sent twice in random order as once, on ${store}`,
      { timeout: 600_000 },
      async () => {
        const folder = mkdtempSync(join(tmpdir(), 'spantrail-e2e-'));
        folders.push(folder);
        const namespace = store === 'elasticsearch' ? `e2e-${hex(4)}` : 'default';
        running = await startProcess(['--data-dir', folder, ...args], { SPANTRAIL_NAMESPACE: namespace });
        await sendAll(running, store === 'memory' ? pieces : random.shuffled(pieces));
        const once = await recordsOf(running, store);
        for (const source of ['http.server', 'log.access', 'kubernetes']) {
          expect((await running.search(`audit.evidence.source: ${source}`)).length, source).toBeGreaterThan(1000);
        }
        await sendAll(running, random.shuffled([...pieces, ...pieces]));
        const twice = await recordsOf(running, store);
        expect(twice.size).toBeGreaterThan(EVENTS / 2);
        for (const [id, record] of once) expect(twice.get(id)).toEqual(record);
        expect(twice.size).toBe(once.size);
        if (store !== 'elasticsearch') {
          firstRun ??= once;
          for (const [id, record] of firstRun) expect(once.get(id)).toEqual(record);
          expect(once.size).toBe(firstRun.size);
        }
        const { sums } = await running.pipeline();
        expect(sums.filter(({ difference }) => difference !== 0)).toEqual([]);
        expect(await running.stop()).toBe(0);
      },
    );
  }
});

it('an event of a sender without trust takes no trusted event’s place, and says nothing of its own', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'spantrail-e2e-'));
  folders.push(folder);
  running = await startProcess(['--data-dir', folder, '--store', 'memory'], {
    SPANTRAIL_RECEIVE_TRUSTED_PEERS: '[127.0.0.1/32]',
  });
  const url = `http://127.0.0.1:${running.http}/v1/access`;
  const send = async (event: object, localAddress: string) => {
    const headers = { 'content-type': 'application/json' };
    const answer = await callHttp(url, { headers, body: JSON.stringify(event), localAddress });
    return JSON.parse(answer.body.toString());
  };
  const event = { id: 'e1', time: new Date().toISOString(), actor: 'alice', action: 'read', target: 'patients/7' };
  const forged = [1, 2, 3, 4, 5].map((number) => ({ ...event, actor: 'mallory', reason: `no ${number}` }));
  expect(await send(event, '127.0.0.1')).toMatchObject({ accepted: 1, warnings: [] });
  for (const each of [event, ...forged]) {
    expect(await send(each, '127.0.0.2')).toMatchObject({ accepted: 1, warnings: [{ field: 'sender' }] });
  }
  await running.settled();
  const records = await running.search('');
  expect(records.filter(({ user }) => user?.id === 'alice')).toHaveLength(1);
  expect(records.filter(({ user }) => user?.id === 'mallory')).toEqual([]);
  expect(records.map(({ audit }) => audit.evidence[0]?.sender).sort()).toEqual(['access_api', 'untrusted']);
});

it('an event on a span is one record with two pieces of evidence: the event’s words, the span’s path', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'spantrail-e2e-'));
  folders.push(folder);
  running = await startProcess(['--data-dir', folder, '--store', 'memory']);
  const [traceId, spanId] = [hex(16), hex(8)];
  const startNs = BigInt(START_MS) * NANOS;
  const http = { 'http.request.method': 'GET', 'http.route': '/charts/:id', 'url.path': '/charts/7' };
  const status = { 'http.response.status_code': 403 };
  const span = { traceId, spanId, kind: 2, startNs, endNs: startNs + 20n * NANOS, attributes: { ...http, ...status } };
  await send(running, 'span', [{ kind: 'span', span }]);
  const said = {
    id: 'e1',
    actor: { id: 'robot', type: 'agent', on_behalf_of: { id: 'alice' } },
    action: 'open-chart',
    target: { type: 'patient', id: 'patients/7' },
    outcome: 'failure',
    decision: 'deny',
    reason: 'not a patient of her ward',
    checks: [{ permission: 'chart.read', granted: false, rule: 'own-ward', duration: '2ms' }],
    source: { ip: '10.0.0.7' },
    session_id: 'a session of hers',
    purpose: 'treatment',
    change: { before: { dose: 1 }, after: { dose: 2 } },
    trace_id: traceId,
    span_id: spanId,
  };
  await send(running, 'ndjson', [{ kind: 'event', event: said, timeMs: START_MS + 10 }]);
  await running.settled();
  const records = await running.search('');
  expect(records).toHaveLength(1);
  expect(records[0]).toMatchObject({
    event: { action: 'open-chart', outcome: 'failure', reason: 'not a patient of her ward', duration: 20_000_000 },
    user: { id: 'robot', effective: { id: 'alice' } },
    source: { ip: '10.0.0.7' },
    http: { response: { status_code: 403 } },
    trace: { id: traceId },
    audit: {
      actor: { type: 'agent', attribution: 'explicit' },
      target: { type: 'patient', id: 'patients/7' },
      decision: 'deny',
      checks: [{ permission: 'chart.read', granted: false, rule: 'own-ward', duration: 2_000_000 }],
      purpose: 'treatment',
      change: { before: '{"dose":1}', after: '{"dose":2}' },
      evidence: [
        { signal: 'access', source: 'log.access', sender: 'access_api', id: 'e1' },
        { signal: 'traces', source: 'http.server', sender: 'http', id: spanId },
      ],
    },
  });
  expect(JSON.stringify(records)).not.toContain('a session of hers');
});

describe('an id that comes again', () => {
  for (const { store, args, skip } of STORES) {
    it.skipIf(skip)(`with another time or another content is still one record, on ${store}`, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'spantrail-e2e-'));
      folders.push(folder);
      const namespace = `e2e-${hex(4)}`;
      running = await startProcess(['--data-dir', folder, ...args], { SPANTRAIL_NAMESPACE: namespace });
      const event = { id: 'e1', actor: 'alice', action: 'read', target: 'patients/7' };
      const times = [0, 1, 3, 26, 50].map((hours) => new Date(START_MS - hours * 3_600_000).toISOString());
      const ids = new Set<string>();
      for (const time of [...times, undefined]) {
        await post(running, '/v1/access', JSON.stringify({ ...event, time }));
        const found = [...(await recordsOf(running, store)).keys()];
        expect(found).toHaveLength(1);
        for (const id of found) ids.add(id);
      }
      expect(ids.size).toBe(1);
    });
  }
});

it('a signed webhook of hoop.dev is a record; the same with a wrong signature is none', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'spantrail-e2e-'));
  folders.push(folder);
  const secret = `whsec_${randomBytes(24).toString('base64')}`;
  running = await startProcess(['--data-dir', folder, '--store', 'memory'], {
    SPANTRAIL_EVENTS: JSON.stringify({ hoop: { secret, scheme: 'standard_webhooks' } }),
    SPANTRAIL_RECEIVE_TRUSTED_PEERS: '[10.0.0.0/8]',
  });
  const session = {
    event_type: 'session.open',
    id: '5701046A-7B7A-4A78-ABB0-A24C95E6FE54',
    connection: 'clinic-db',
    connection_type: 'database',
    connection_subtype: 'postgres',
    verb: 'exec',
    user_id: 'auth0|alice',
    user_name: 'Alice',
    user_email: 'alice@example.com',
    input: Buffer.from('SELECT name FROM patients').toString('base64'),
  };
  const body = JSON.stringify(session);
  const seconds = String(Math.floor(Date.now() / 1000));
  const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
  const signature = createHmac('sha256', key).update(`msg_1.${seconds}.${body}`).digest('base64');
  const headers = { 'content-type': 'application/json', 'svix-id': 'msg_1', 'svix-timestamp': seconds };
  const url = `http://127.0.0.1:${running.http}/v1/events/hoop`;
  const post = (sent: string, signed: string) =>
    callHttp(url, { headers: { ...headers, 'svix-signature': `v1,${signed}` }, body: sent });
  expect((await post(body.replaceAll('alice', 'mallory'), signature)).status).toBe(401);
  expect((await post(body, signature)).status).toBe(200);
  expect((await post(body, signature)).status).toBe(200);
  await running.settled();
  const records = await running.search('');
  expect(records).toHaveLength(1);
  expect(records[0]).toMatchObject({
    user: { id: 'auth0|alice', email: 'alice@example.com' },
    audit: { target: { type: 'connection', id: 'clinic-db' }, evidence: [{ source: 'hoop', sender: 'webhook' }] },
  });
});
