import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import { mmdb, uint } from '../fixtures/mmdb.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const WAIT = { timeout: 60_000, interval: 200 };
/** As a proxy writes it behind what the caller claims. */
const FORWARDED = '192.0.2.66, 203.0.113.9';

let folder: string;
let spantrail: RunningProcess | undefined;
let service: ChildProcess | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'spantrail-origin-'));
});
afterEach(async () => {
  service?.kill('SIGKILL');
  await spantrail?.stop('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

function database(country: string): string {
  const path = join(folder, 'places.mmdb');
  const known = { country: { iso_code: country }, autonomous_system_number: uint(64_500) };
  writeFileSync(`${path}.new`, mmdb({ '203.0.113.0/24': known }));
  renameSync(`${path}.new`, path);
  return path;
}

/** A service with its language's own instrumentation that captures the header; nothing else is known of it. */
async function start(environment: Record<string, string>): Promise<string> {
  spantrail = await startProcess(['--data-dir', join(folder, 'data'), '--store', 'memory'], environment);
  service = fork('test/fixtures/services/orders.cjs', {
    execArgv: ['--require', './test/fixtures/services/telemetry.cjs'],
    env: {
      ...process.env,
      DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none',
      OTEL_SERVICE_NAME: 'orders',
      OTEL_NODE_RESOURCE_DETECTORS: 'env,host,process,serviceinstance',
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${spantrail.grpc}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
      OTEL_METRICS_EXPORTER: 'none',
      OTEL_LOGS_EXPORTER: 'none',
      OTEL_BSP_SCHEDULE_DELAY: '100',
    },
  });
  const [{ port }] = (await once(service, 'message')) as [{ port: number }];
  return `http://127.0.0.1:${port}`;
}

async function records(url: string, count: number): Promise<AuditRecord[]> {
  await (await fetch(`${url}/finish`, { headers: { 'x-forwarded-for': FORWARDED, 'user-agent': 'till/7' } })).text();
  const search = async () => (await spantrail?.search('url.path: "/finish"')) ?? [];
  await expect.poll(async () => (await search()).length, WAIT).toBe(count);
  return search();
}

it('past a trusted proxy the caller is known, with country and AS of a database that may be replaced', async () => {
  const url = await start({
    SPANTRAIL_ORIGIN_DATABASES: JSON.stringify([database('NZ')]),
    SPANTRAIL_ORIGIN_RELOAD_MS: '200ms',
  });
  const [first] = await records(url, 1);
  expect(first).toMatchObject({
    source: { ip: '203.0.113.9', geo: { country_iso_code: 'NZ' }, as: { number: 64_500 } },
    user_agent: { original: 'till/7' },
  });
  expect(first?.message).toContain('from 203.0.113.9');
  database('AU');
  await expect.poll(() => spantrail?.log(), WAIT).toContain('database of places read again');
  const [second] = await records(url, 2);
  expect(second?.source?.geo?.country_iso_code).toBe('AU');
  expect(await spantrail?.search('source.geo.country_iso_code: AU and source.as.number >= 64500')).toHaveLength(1);
}, 120_000);

it('from a proxy that nobody trusts the header is not believed, nor what the instrumentation took from it', async () => {
  const url = await start({ SPANTRAIL_ORIGIN_TRUSTED_PROXIES: '["10.9.0.0/16"]' });
  const [record] = await records(url, 1);
  expect(record?.source?.ip).toBe('127.0.0.1');
  expect(JSON.stringify(record)).not.toContain('192.0.2.66');
}, 120_000);
