import { type ChildProcess, execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PGlite } from '@electric-sql/pglite';
import { PGLiteSocketServer } from '@electric-sql/pglite-socket';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const WAIT = { timeout: 60_000, interval: 200 };

let folder: string;
let spantrail: RunningProcess;
let database: PGlite;
let socket: PGLiteSocketServer;
let orders: ChildProcess;
let ordersUrl: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'spantrail-pressure-'));
  spantrail = await startProcess(['--data-dir', join(folder, 'data')]);
  database = await PGlite.create();
  await database.exec(`CREATE TABLE orders (id int PRIMARY KEY, item text); INSERT INTO orders VALUES (1, 'tea')`);
  socket = new PGLiteSocketServer({ db: database, host: '127.0.0.1', port: 0 });
  await socket.start();
  orders = fork('test/fixtures/services/orders.cjs', {
    execArgv: ['--require', '@opentelemetry/auto-instrumentations-node/register'],
    env: {
      ...process.env,
      DATABASE_URL: `postgres://orders@${socket.getServerConn()}/shop`,
      OTEL_SERVICE_NAME: 'orders',
      OTEL_NODE_RESOURCE_DETECTORS: 'env,host,process,serviceinstance',
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${spantrail.grpc}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
      OTEL_TRACES_EXPORTER: 'otlp',
      OTEL_METRICS_EXPORTER: 'otlp',
      OTEL_LOGS_EXPORTER: 'none',
      OTEL_METRIC_EXPORT_INTERVAL: '500',
      OTEL_METRIC_EXPORT_TIMEOUT: '500',
      OTEL_BSP_SCHEDULE_DELAY: '100',
    },
  });
  const [{ port }] = (await once(orders, 'message')) as [{ port: number }];
  ordersUrl = `http://127.0.0.1:${port}`;
}, 90_000);

afterAll(async () => {
  orders?.kill('SIGKILL');
  await socket?.stop();
  await database?.close();
  await spantrail?.stop('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

async function status(path: string): Promise<number> {
  const response = await fetch(ordersUrl + path);
  await response.arrayBuffer();
  return response.status;
}

async function metricsAccepted(): Promise<number> {
  const sum = (await spantrail.pipeline()).sums.find(({ of }) => of === 'metrics');
  return sum !== undefined && 'accepted' in sum ? sum.accepted : 0;
}

/** Two more exports have come: the later one was measured after now. */
async function nextMetrics(): Promise<void> {
  for (let round = 0; round < 2; round++) {
    const before = await metricsAccepted();
    await expect.poll(metricsAccepted, WAIT).toBeGreaterThan(before);
  }
}

async function found(query: string, count: number): Promise<AuditRecord[]> {
  await expect.poll(async () => (await spantrail.search(query)).length, WAIT).toBe(count);
  return spantrail.search(query);
}

it('failed accesses of a service whose connection pool is exhausted carry the pool metric and its limit', async () => {
  expect(await status('/orders/1')).toBe(200);
  const started = once(orders, 'message');
  const report = status('/report');
  report.catch(() => undefined);
  await started;
  await nextMetrics();
  const refused = await Promise.all(['/orders/1', '/orders/2', '/orders/3'].map(status));
  expect(refused).toEqual([503, 503, 503]);

  const failures = await found('http.response.status_code: 503 and audit.entry: true', 3);
  for (const record of failures) {
    expect(record.event.outcome).toBe('failure');
    expect(record.audit.pressure).toMatchObject({
      state: 'exhausted',
      metric: 'db.client.connection.count',
      value: 1,
      limit: 1,
      ratio: 1,
    });
    const [pool] = record.audit.pressure?.metrics ?? [];
    expect(pool?.of).toMatch(/^orders 127\.0\.0\.1:\d+\/shop$/);
    const names = record.audit.pressure?.metrics.map(({ name }) => name);
    expect(names).toEqual(
      expect.arrayContaining(['nodejs.eventloop.utilization', 'db.client.connection.pending_requests']),
    );
  }
  // The saved search of the docs.
  await found('audit.pressure.state: exhausted and event.outcome: failure and audit.entry: true', 3);
  expect(await spantrail.search('url.path: "/orders/1" and http.response.status_code: 200')).toHaveLength(1);

  expect(await status('/finish')).toBe(200);
  expect(await report).toBe(200);
  await nextMetrics();
  expect(await status('/orders/1')).toBe(200);
  const [after] = await found('url.path: "/orders/1" and http.response.status_code: 200', 2);
  expect(after?.audit.pressure?.metrics.length).toBeGreaterThan(0);

  const sum = (await spantrail.pipeline()).sums.find(({ of }) => of === 'metrics');
  expect(sum).toMatchObject({ difference: 0, quarantined: 0 });
  expect(sum !== undefined && 'used' in sum && sum.used).toBeGreaterThan(0);
}, 120_000);

it('the example of the docs works as it stands there', async () => {
  const [, block = ''] = /```sh\n(NOW=[\s\S]+?)```/.exec(readFileSync('docs/pressure.md', 'utf8')) ?? [];
  const script = block.replaceAll(':4318/', `:${spantrail.http}/`).replace(/^npx spantrail.*$/m, 'true');
  expect(script).toContain('curl');
  await promisify(execFile)('bash', ['-ec', script]);
  const asked = /npx spantrail search '(.+)'/.exec(block)?.[1] ?? '';
  const [record] = await found(`${asked} and trace.id: 5b8efff798038103d269b633813fc60c`, 1);
  expect(record?.audit.pressure).toMatchObject({ state: 'exhausted', value: 10, limit: 10 });
}, 60_000);
