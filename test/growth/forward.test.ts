/**
 * Two real Spantrails, one of which gets events of traces that the other has. In place of the Collector stands the other one: both
 * speak OTLP. test/growth/growth.test.ts has a real Collector between three.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { freePort } from '../collector/traffic.ts';
import { type RunningProcess, startProcess } from '../e2e/spantrail.ts';
import { encodeTraces } from '../otlp/encode.ts';
import { encodeRecordRequest } from '../receive/access-client.ts';
import { callGrpc } from '../receive/harness.ts';

const hex = (bytes: number) => randomBytes(bytes).toString('hex');
const SECRET = hex(32);
const NANOS = 1_000_000n;
const RECORD_PATH = '/spantrail.access.v1.AccessService/Record';
const running: RunningProcess[] = [];
const folders: string[] = [];

afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.stop('SIGKILL')));
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'spantrail-forward-'));
  folders.push(folder);
  return folder;
}

async function start(folder: string, environment: Record<string, string>, ...args: string[]): Promise<RunningProcess> {
  const place = ['--store', 'duckdb', '--data-dir', folder];
  const one = await startProcess([...place, ...args], { SPANTRAIL_FORWARD_SECRET: SECRET, ...environment });
  running.push(one);
  return one;
}

const postJson = async (one: RunningProcess, path: string, body: object): Promise<number> => {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(`http://127.0.0.1:${one.http}${path}`, {
    method: 'POST',
    headers,
    body: JSON.stringify(body),
  });
  await response.arrayBuffer();
  return response.status;
};

/** Of events, by what became of them. */
async function forwarded(one: RunningProcess): Promise<Record<string, number>> {
  const { counters } = await one.pipeline();
  const waiting = counters.filter(({ name }) => name === 'forward_waiting').map(({ value }) => ['waiting', value]);
  const told = counters
    .filter(({ name }) => name === 'forwarded')
    .map(({ labels, value }) => [labels['outcome'], value]);
  return Object.fromEntries([...waiting, ...told]);
}

function visit() {
  const [traceId, spanId, startNs] = [hex(16), hex(8), BigInt(Date.now()) * NANOS];
  const attributes = { 'http.request.method': 'GET', 'http.route': '/charts/:id', 'url.path': '/charts/7' };
  const span = { traceId, spanId, name: 'GET', kind: 2, startNs, endNs: startNs + 40n * NANOS, attributes };
  return { traceId, spanId, request: encodeTraces([{ attributes: { 'service.name': 'charts' }, spans: [span] }]) };
}

const named = ({ traceId, spanId }: { traceId: string; spanId: string }) => ({ trace_id: traceId, span_id: spanId });

const eventOf = (id: string, where: object) => ({
  ...{ id, actor: { id: 'alice' }, action: 'open-chart', target: { type: 'chart', id: `charts/${id}` } },
  ...where,
});

const decision = (id: string, { traceId, spanId }: { traceId: string; spanId: string }) => ({
  ...{
    decision_id: id,
    path: 'charts/allow',
    input: { user: 'alice', action: 'read', resource: 'charts/9' },
    result: true,
  },
  ...{ timestamp: new Date().toISOString(), trace_id: traceId, span_id: spanId },
});

it('an event that came to the wrong one joins its trace at the right one, by every way in, over kills and restarts', async () => {
  const [folderHere, folderThere, port] = [newFolder(), newFolder(), await freePort()];
  const environment = { SPANTRAIL_FORWARD_ENDPOINT: `http://127.0.0.1:${port}` };
  const there = ['--grpc-port', String(port)];
  let other = await start(folderThere, {}, ...there);
  let here = await start(folderHere, environment);
  const [first, second, third, fourth] = [visit(), visit(), visit(), visit()];
  for (const { request } of [first, second, third, fourth]) expect(await other.send('traces', request)).toBe(200);

  expect(await postJson(here, '/v1/access', eventOf('json', named(first)))).toBe(200);
  const { traceId, spanId } = second;
  const call = encodeRecordRequest([eventOf('grpc', { traceId, spanId })]);
  expect(await callGrpc(here.grpc, call, { path: RECORD_PATH })).toMatchObject({ status: 0 });
  expect(await postJson(here, '/v1/events/opa', decision('webhook', third))).toBe(200);
  // Belongs to no trace: it stays.
  expect(await postJson(here, '/v1/access', eventOf('alone', {}))).toBe(200);
  await expect.poll(() => forwarded(here), { timeout: 20_000 }).toEqual({ waiting: 0, sent: 3 });
  expect(await forwarded(other)).toMatchObject({ received: 3 });

  // Accepted while the other is away, by one that is killed then.
  await other.stop('SIGKILL');
  expect(await postJson(here, '/v1/access', eventOf('waits', named(fourth)))).toBe(200);
  expect(await forwarded(here)).toMatchObject({ waiting: 1 });
  await here.stop('SIGKILL');
  here = await start(folderHere, environment);
  expect(await forwarded(here)).toMatchObject({ waiting: 1 });
  other = await start(folderThere, {}, ...there);
  await expect.poll(() => forwarded(here), { timeout: 30_000 }).toMatchObject({ waiting: 0, sent: 1 });
  await Promise.all([here.settled(), other.settled()]);

  await expect
    .poll(async () => (await other.search('')).map((record) => record.audit.target?.id).sort(), { timeout: 20_000 })
    .toEqual(expect.arrayContaining(['charts/grpc', 'charts/json', 'charts/waits']));
  const joined = await other.search('');
  expect(joined.filter(({ user }) => user?.id === 'alice').length).toBeGreaterThanOrEqual(3);
  // The event took the span's place: one record an access, with the span's latency.
  for (const { spanId } of [first, second, fourth]) {
    const records = joined.filter((record) => record.span?.id === spanId);
    expect(records).toHaveLength(1);
    expect(records[0]).toMatchObject({ user: { id: 'alice' }, event: { action: 'open-chart', duration: 40_000_000 } });
  }
  // What the policy engine decided stands at the request.
  expect(joined.filter((record) => record.trace?.id === third.traceId)).toHaveLength(1);
  // The one that only passed them on has made no record of them.
  expect((await here.search('')).map((record) => record.audit.target?.id)).toEqual(['charts/alone']);
});

it('events that the Collector never takes, or that wait when forwarding is switched off, are joined where they are', async () => {
  const [folder, port] = [newFolder(), await freePort()];
  let one = await start(folder, { SPANTRAIL_FORWARD_ENDPOINT: `http://127.0.0.1:${port}` });
  const { traceId } = visit();
  expect(await postJson(one, '/v1/access', eventOf('late', { trace_id: traceId }))).toBe(200);
  expect(await forwarded(one)).toEqual({ waiting: 1 });
  await one.stop();
  expect(one.log()).toContain('events wait to be forwarded');
  one = await start(folder, {});
  await expect.poll(() => forwarded(one), { timeout: 20_000 }).toEqual({ waiting: 0, kept: 1 });
  await one.settled();
  expect((await one.search('')).map((record) => [record.trace?.id, record.audit.target?.id])).toEqual([
    [traceId, 'charts/late'],
  ]);
});

it('an event that is signed with an unknown secret makes no record, and that is said', async () => {
  const [folderHere, folderThere] = [newFolder(), newFolder()];
  const other = await start(folderThere, { SPANTRAIL_FORWARD_SECRET: hex(32) });
  const here = await start(folderHere, { SPANTRAIL_FORWARD_ENDPOINT: `http://127.0.0.1:${other.grpc}` });
  expect(await postJson(here, '/v1/access', eventOf('lost', named(visit())))).toBe(200);
  await expect.poll(() => forwarded(other), { timeout: 20_000 }).toEqual({ unknown: 1 });
  await other.settled();
  expect(await other.search('')).toEqual([]);
  expect(other.log()).toContain('all instances need the same secret');
});

it.each([
  [{ SPANTRAIL_FORWARD_SECRET: '' }, 'forward.secret'],
  [{ SPANTRAIL_FORWARD_ENDPOINT: 'collector:4317' }, 'http://collector:4317'],
  [
    { SPANTRAIL_FORWARD_ENDPOINT: 'https://127.0.0.1:1', SPANTRAIL_FORWARD_TLS_CA_FILE: '/nowhere/ca.pem' },
    'forward.tls.caFile',
  ],
])('does not start with %j, and says why in a line', async (environment, words) => {
  const given: Record<string, string> = { SPANTRAIL_FORWARD_ENDPOINT: 'http://127.0.0.1:1', ...environment };
  const failed = await start(newFolder(), given).then(
    () => 'it started',
    (error: Error) => error.message,
  );
  expect(failed).toContain('ended with 2');
  expect(failed).toContain(words);
});
