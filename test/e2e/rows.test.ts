import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import { runProgram } from '../setup/cache.ts';
import { type RunningProgram, startProgram } from '../setup/program.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const FIXTURES = join(import.meta.dirname, '../fixtures');
const agents = inject('agents');

let folder: string;
let spantrail: RunningProcess;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spantrail-rows-'));
  spantrail = await startProcess(['--store', 'memory', '--data-dir', join(folder, 'data')]);
});
afterAll(async () => {
  await spantrail?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** The records that fit, once there are as many and nothing is on its way. */
async function found(q: string, count: number): Promise<AuditRecord[]> {
  for (const until = Date.now() + 30_000; ; await sleep(100)) {
    await spantrail.settled();
    const records = await spantrail.search(q);
    if (records.length < count && Date.now() < until) continue;
    expect(records.map(({ message }) => message)).toHaveLength(count);
    return records;
  }
}

const telemetry = (service: string) => ({
  ...process.env,
  ...{ OTEL_SERVICE_NAME: service, OTEL_BSP_SCHEDULE_DELAY: '100' },
  OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${spantrail.grpc}`,
});

function startInstrumented(file: string, environment: NodeJS.ProcessEnv): Promise<RunningProgram> {
  const stores = join(FIXTURES, 'stores');
  const parameters = ['--import', join(stores, 'telemetry.mjs'), join(stores, file)];
  return startProgram(process.execPath, parameters, /listening on (\d+)/, { environment });
}

/** A store that speaks enough of S3 for one client; what lies in `board` is not for everybody. */
async function startStore(): Promise<Server> {
  const server = createServer((request, response) => {
    request.resume();
    const { pathname = '', searchParams } = new URL(request.url ?? '', 'http://store');
    response.setHeader('content-type', 'application/xml');
    if (pathname.startsWith('/reports/board/')) {
      response.writeHead(403).end('<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>');
    } else if (searchParams.has('list-type')) {
      response.end('<ListBucketResult><Name>reports</Name><KeyCount>0</KeyCount></ListBucketResult>');
    } else if (request.headers['x-amz-copy-source']) {
      response.end('<CopyObjectResult><ETag>"1"</ETag></CopyObjectResult>');
    } else response.end(request.method === 'GET' ? 'figures' : '');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

describe('files, objects and operations, as Node’s own instrumentations tell them', () => {
  let store: Server;
  let service: RunningProgram;

  beforeAll(async () => {
    store = await startStore();
    const { port } = store.address() as AddressInfo;
    const environment = { ...telemetry('reports'), STORE_URL: `http://127.0.0.1:${port}`, FOLDER: folder };
    service = await startInstrumented('service.mjs', environment);
  });
  afterAll(async () => {
    await service?.stop();
    store?.close();
  });

  /** What alice's request did. */
  async function ask(path: string): Promise<AuditRecord> {
    await fetch(`http://127.0.0.1:${service.ready[1]}${path}`, { headers: { 'x-forwarded-user': 'alice' } });
    const [entry] = await found(`url.path: "${path}" and audit.entry: true`, 1);
    const [inner] = await found(`trace.id: ${entry?.trace?.id} and audit.entry: false`, 1);
    expect(inner?.user?.id).toBe('alice');
    return inner ?? expect.unreachable();
  }

  it.each([
    ['/write', 'writeFile', 'change', 'success', 'march.pdf'],
    ['/read', 'readFile', 'access', 'success', 'march.pdf'],
    ['/remove', 'unlink', 'deletion', 'success', 'march.pdf'],
    ['/missing', 'readFile', 'access', 'failure', 'none.pdf'],
  ])('%s is %s of a file', async (path, action, type, outcome, name) => {
    expect(await ask(path)).toMatchObject({
      event: { action, type: [type], category: ['file'], outcome },
      audit: { target: { type: 'file', id: `${folder}/${name}`, name }, decision: 'none' },
      file: { path: `${folder}/${name}`, name },
    });
  });

  it.each([
    ['/put', 'PutObject', 'change', { type: 'object', id: 'reports/2026/march.pdf' }],
    ['/get', 'GetObject', 'access', { type: 'object', id: 'reports/2026/march.pdf' }],
    ['/list', 'ListObjectsV2', 'access', { type: 'bucket', id: 'reports' }],
    ['/copy', 'CopyObject', 'change', { type: 'object', name: 'reports/copy.pdf from reports/2026/march.pdf' }],
  ])('%s is %s of a store', async (path, action, type, target) => {
    expect(await ask(path)).toMatchObject({
      event: { action, type: [type], category: ['file'], outcome: 'success' },
      audit: { target: { service: 'S3', ...target } },
    });
  });

  it.each([
    ['mutation', 'CancelOrder', 'mutation CancelOrder { cancel(id: 7) }', 'ran the mutation CancelOrder'],
    ['query', 'orders', '{ orders }', 'read orders'],
  ])('a request with a %s does what that does', async (action, name, body, deed) => {
    await fetch(`http://127.0.0.1:${service.ready[1]}/graphql`, {
      ...{ method: 'POST', body },
      headers: { 'x-forwarded-user': 'alice' },
    });
    const [record] = await found(`url.path: "/graphql" and event.action: ${action}`, 1);
    expect(record).toMatchObject({
      audit: { entry: true, target: { type: 'graphql operation', id: `reports ${name}`, name } },
      http: { request: { method: 'POST' }, response: { status_code: 200 } },
    });
    expect(record?.message).toContain(`alice ${deed}`);
    expect(await found(`trace.id: ${record?.trace?.id}`, 1)).toHaveLength(1);
  });

  it('an object that is refused is a denial', async () => {
    expect(await ask('/locked')).toMatchObject({
      event: { action: 'GetObject', outcome: 'failure', type: ['access', 'denied'] },
      audit: { decision: 'deny', target: { id: 'reports/board/salaries.pdf' } },
    });
  });
});

describe('tools of an agent, as the AI SDK’s own telemetry tells them', () => {
  let assistant: RunningProgram;

  beforeAll(async () => {
    assistant = await startInstrumented('assistant.mjs', telemetry('assistant'));
  });
  afterAll(() => assistant?.stop());

  it.each([
    ['find_order', 'success', 'none'],
    ['cancel_order', 'failure', 'deny'],
  ])('%s is done by the agent for whoever asked', async (name, outcome, decision) => {
    await fetch(`http://127.0.0.1:${assistant.ready[1]}/${name}`, { headers: { 'x-forwarded-user': 'alice' } });
    const [record] = await found(`audit.target.id: ${name} and audit.entry: false`, 1);
    expect(record).toMatchObject({
      event: { action: 'execute_tool', outcome },
      user: { id: 'order-desk', effective: { id: 'alice' } },
      gen_ai: { tool: { name }, agent: { name: 'order-desk' } },
      audit: { target: { type: 'tool' }, actor: { type: 'agent' }, decision },
      related: { user: expect.arrayContaining(['order-desk', 'alice']) },
    });
  });
});

describe.skipIf('skipped' in agents)('tools, as the Model Context Protocol’s own SDK for Python tells them', () => {
  it('are one access each, of the host and the server together', async () => {
    const bin = (agents as { python: string }).python;
    const environment = { ...telemetry('assistant'), PATH: `${bin}:${process.env['PATH']}` };
    const quiet = { OTEL_METRICS_EXPORTER: 'none', OTEL_LOGS_EXPORTER: 'none' };
    await runProgram(join(bin, 'opentelemetry-instrument'), ['python', join(FIXTURES, 'tools/assistant.py')], {
      environment: { ...environment, ...quiet },
    });
    const records = await found('audit.target.service: weather and audit.entry: true', 2);
    const byTool = (id: string) => records.find(({ audit }) => audit.target.id === id);
    expect(byTool('get_weather')).toMatchObject({
      event: { action: 'execute_tool', outcome: 'success' },
      user: { id: 'alice' },
      service: { name: 'assistant' },
      audit: { target: { type: 'tool', service: 'weather' }, join: { state: 'complete' } },
    });
    expect(
      byTool('get_weather')
        ?.audit.evidence.map(({ signal }) => signal)
        .slice(0, 2),
    ).toEqual(['traces', 'traces']);
    expect(byTool('read_station')).toMatchObject({ event: { outcome: 'failure', reason: 'tool_error' } });
  });
});
