import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { parse, stringify } from 'yaml';
import type { AuditRecord } from '../../src/core/record.ts';
import { freePort } from '../collector/traffic.ts';
import { type RunningPostgres, startPostgres } from '../setup/postgres.ts';
import { type RunningProgram, startProgram } from '../setup/program.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const ROOT = join(import.meta.dirname, '../..');
const SHOP = join(import.meta.dirname, 'audited-shop');
/** As the page has it. */
const MADE_UP = 'audit.evidence.source: pgaudit* and audit.join.state: (unsampled or orphan)';
const collector = inject('collector');
const postgres = inject('postgres');

interface CollectorConfig {
  receivers: Record<string, Record<string, unknown>>;
  exporters: Record<string, object>;
  extensions: Record<string, unknown>;
  processors?: Record<string, unknown>;
  service: { pipelines: Record<string, unknown> };
}

/** The code blocks of a language on the page that tells users how to set this up. */
async function blocksOf(language: string): Promise<string[]> {
  const page = await readFile(join(ROOT, 'docs/database-audit.md'), 'utf8');
  const blocks = [...page.matchAll(/^( *)```(\w+)\n([\s\S]*?)```/gm)].filter(([, , name]) => name === language);
  return blocks.map(([, indent = '', , text = '']) => text.replaceAll(new RegExp(`^${indent}`, 'gm'), ''));
}

describe.skipIf('skipped' in collector || 'skipped' in postgres)('an audited database', () => {
  let folder: string;
  let database: RunningPostgres;
  let spantrail: RunningProcess;
  let otelcol: RunningProgram;
  let shop: RunningProgram;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-pgaudit-'));
    const [settings = '', textLog = ''] = await blocksOf('ini');
    database = await startPostgres(postgres as { bin: string }, `${textLog}\n${settings}`);
    await database.psql(
      'postgres',
      'postgres',
      'CREATE ROLE shop_app LOGIN',
      'CREATE ROLE dba LOGIN',
      'CREATE DATABASE shop',
    );
    await database.psql(
      ...([
        'postgres',
        'shop',
        'CREATE EXTENSION pgaudit',
        'CREATE TABLE orders (id int PRIMARY KEY, note text)',
      ] as const),
      ...["INSERT INTO orders VALUES (7, 'a secret note')", 'CREATE TABLE payroll (id int)'],
      ...['GRANT ALL ON orders TO shop_app', 'GRANT SELECT ON payroll TO dba'],
    );
    const environment = { SPANTRAIL_JOIN_ROOT_WAIT_MS: '3s', SPANTRAIL_JOIN_IDLE_MS: '1s' };
    spantrail = await startProcess(['--store', 'memory', '--data-dir', join(folder, 'data')], environment);
    const port = await freePort();
    otelcol = await startCollector(port);
    shop = await startProgram(
      process.execPath,
      ['--import', join(SHOP, 'telemetry.mjs'), join(SHOP, 'shop.cjs')],
      /listening on (\d+)/,
      {
        environment: {
          ...process.env,
          DATABASE_URL: database.url('shop_app', 'shop'),
          OTEL_SERVICE_NAME: 'shop',
          OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
          OTEL_BSP_SCHEDULE_DELAY: '100',
        },
      },
    );
  });
  afterAll(async () => {
    await Promise.all([shop?.stop(), otelcol?.stop(), spantrail?.stop()]);
    await database?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  /** What the page adds, with as little around it as it needs of otel-collector-config.yaml. */
  async function startCollector(grpc: number): Promise<RunningProgram> {
    const whole = parse(await readFile(join(ROOT, 'otel-collector-config.yaml'), 'utf8')) as CollectorConfig;
    const [tail, several] = (await blocksOf('yaml')).map((text) => parse(text) as CollectorConfig);
    const name = 'file_log/postgres';
    const exporters = ['otlp_grpc/spantrail'];
    expect(tail?.service.pipelines['logs/postgres']).toMatchObject({ receivers: [name], exporters });
    expect(whole.exporters).toHaveProperty(exporters);
    expect(whole.extensions).toHaveProperty([String(tail?.receivers[name]?.['storage'])]);
    const receivers: CollectorConfig['receivers'] = {
      otlp: { protocols: { grpc: { endpoint: `127.0.0.1:${grpc}` } } },
    };
    const pipelines: CollectorConfig['service']['pipelines'] = { traces: { receivers: ['otlp'], exporters } };
    for (const [form, config] of [
      ['json', tail],
      ['csv', several],
      ['log', several],
    ] as const) {
      const include = [join(database.logFolder, `*.${form}`)];
      receivers[`file_log/${form}`] = { ...config?.receivers[name], include, poll_interval: '50ms' };
    }
    pipelines['logs'] = { receivers: Object.keys(receivers), exporters };
    const config = {
      receivers,
      exporters: {
        'otlp_grpc/spantrail': {
          ...whole.exporters['otlp_grpc/spantrail'],
          endpoint: `127.0.0.1:${spantrail.grpc}`,
          tls: { insecure: true },
        },
      },
      extensions: { 'file_storage/queue': { directory: join(folder, 'queue'), create_directory: true } },
      service: { extensions: ['file_storage/queue'], pipelines, telemetry: { metrics: { level: 'none' } } },
    };
    const file = join(folder, 'collector.yaml');
    await writeFile(file, stringify(config));
    return startProgram((collector as { binary: string }).binary, ['--config', file], /Everything is ready/);
  }

  /** Waits until as many records fit, and nothing is on its way. */
  async function found(q: string, count: number): Promise<AuditRecord[]> {
    for (const until = Date.now() + 30_000; ; await sleep(100)) {
      await spantrail.settled();
      const records = await spantrail.search(q);
      if (records.length >= count || Date.now() > until) {
        const told = records.length === count ? '' : await linesTold();
        expect(
          records.map(({ message }) => message),
          told,
        ).toHaveLength(count);
        return records;
      }
    }
  }

  /** Every line and what became of it: what a failure is to be understood by. */
  async function linesTold(): Promise<string> {
    const lines = await spantrail.search('audit.evidence.source: pgaudit*', false);
    return lines
      .map((line) => `${line['@timestamp']} ${line.message} ${line.trace?.id} ${JSON.stringify(line.audit.join)}`)
      .join('\n');
  }

  /** What alice asked the shop for, as the records of its statements that the database told of. */
  async function ask(path: string, statements: number): Promise<AuditRecord[]> {
    const response = await fetch(`http://127.0.0.1:${shop.ready[1]}${path}`, {
      headers: { 'x-forwarded-user': 'alice' },
    });
    expect(response.status).toBe(200);
    const [entry] = await found(`url.path: "${path}" and audit.entry: true`, 1);
    return found(`trace.id: ${entry?.trace?.id} and audit.evidence.source: pgaudit*`, statements);
  }

  const sources = ({ audit }: AuditRecord) => audit.evidence.map(({ source }) => source);

  it('tells of a statement with a comment what its client tells: one access, two pieces of evidence', async () => {
    const [record] = await ask('/plain', 1);
    expect(record).toMatchObject({
      user: { id: 'alice', effective: { name: 'shop_app' } },
      service: { name: 'shop' },
      event: { action: 'SELECT', outcome: 'success' },
      db: { system: 'postgresql', namespace: 'shop', collection: 'orders' },
      audit: { entry: false, target: { id: 'postgresql/shop.orders' }, join: { state: 'complete', tie: 'statement' } },
    });
    expect(record && sources(record)).toEqual(expect.arrayContaining(['pgaudit', 'db.client']));
    expect(record?.audit.join.conflicts).toBeUndefined();
    expect(record?.event.duration).toBeGreaterThan(0);
    // Neither beside it nor out of band.
    await found(`trace.id: ${record?.trace?.id} and db.system: postgresql and event.action: SELECT`, 1);
  });

  it.each([
    ['/named', 'application_name', 'SELECT', 'SELECT id, note FROM orders WHERE id = $1', 3],
    ['/transaction', 'transaction', 'UPDATE', 'UPDATE orders SET note = note WHERE id = $1', 2],
    ['/session', 'session', 'DELETE', 'DELETE FROM orders WHERE id = $1 + ?', 2],
  ])('tells of a prepared statement: %s by %s', async (path, tie, action, statement, statements) => {
    const records = await ask(path, statements);
    const record = records.find(({ db }) => db?.statement === statement);
    expect(record).toMatchObject({
      user: { id: 'alice' },
      event: { action },
      audit: { join: { tie, state: 'complete' } },
    });
    expect(record && sources(record)).toEqual(expect.arrayContaining(['pgaudit', 'db.client']));
    expect(record?.audit.join.conflicts).toBeUndefined();
  });

  it('contradicts an application that says that all went well', async () => {
    const [refused] = await ask('/payroll', 1);
    expect(refused).toMatchObject({
      user: { id: 'alice' },
      event: { outcome: 'failure', reason: expect.stringContaining('permission denied for table payroll') },
      audit: { decision: 'deny', target: { id: 'postgresql/shop.payroll' }, join: { tie: 'statement' } },
    });
    const [entry] = await found('event.action: read_payroll and audit.join.conflicts: outcome*', 1);
    expect(entry).toMatchObject({ event: { outcome: 'success' }, user: { id: 'alice' } });
    expect(entry?.audit.join.conflicts).toContain(
      'outcome: the event says success, the database refused SELECT on postgresql/shop.payroll',
    );
  });

  it('shows who went around the application, and nobody else', async () => {
    await ask('/again', 1);
    await database.psql('dba', 'shop', 'SELECT * FROM payroll', 'SELECT note FROM orders');
    await found('audit.join.state: out_of_band and user.id: dba', 2);
    const records = await spantrail.search('audit.join.state: out_of_band', false);
    const [read, refused] = ['payroll', 'orders'].map((table) =>
      records.find(({ db, user }) => user?.id === 'dba' && db?.collection === table),
    );
    expect(read).toMatchObject({
      event: { action: 'SELECT' },
      user: { id: 'dba' },
      source: { ip: '127.0.0.1' },
      service: { name: 'shop-db' },
      audit: { entry: true, actor: { attribution: 'explicit' }, decision: 'allow', join: { reason: 'untraced' } },
    });
    expect(read?.trace).toBeUndefined();
    expect(refused).toMatchObject({ event: { outcome: 'failure' }, audit: { decision: 'deny' } });
    expect(JSON.stringify(records)).not.toContain('a secret note');
    // What was set up before went around it as well; of the application nothing did.
    expect(new Set(records.map(({ user }) => user?.id))).toEqual(new Set(['postgres', 'dba']));
    const metrics = await (await fetch(`http://127.0.0.1:${spantrail.api}/metrics`)).text();
    for (const tie of ['statement', 'application_name', 'transaction', 'session']) {
      expect(metrics).toMatch(new RegExp(`tied\\w*\\{[^}]*tie="${tie}"[^}]*\\} [1-9]`));
    }
  });

  it.each(['csvlog', 'stderr'])('is heard in %s, too', async (destination) => {
    await database.psql(
      'postgres',
      'postgres',
      `ALTER SYSTEM SET log_destination = '${destination}'`,
      'SELECT pg_reload_conf()',
    );
    await sleep(500);
    const login = `dba_${destination}`;
    await database.psql('postgres', 'shop', `CREATE ROLE ${login} LOGIN`, `GRANT SELECT ON orders TO ${login}`);
    const [traceId, spanId] = [destination === 'csvlog' ? 'c' : 'd'].flatMap((digit) => [
      digit.repeat(32),
      digit.repeat(16),
    ]);
    const comment = `/*traceparent='00-${traceId}-${spanId}-01'*/`;
    const plain = 'SELECT note\nFROM orders\nWHERE id = 9';
    await database.psql(login, 'shop', `${plain} ${comment}`, plain, 'SELECT *\nFROM payroll');
    const records = await found(`user.id: ${login}`, 3);
    const states = records.map(({ audit, db, event }) => [
      audit.join.state,
      db?.collection,
      event.outcome === 'failure',
    ]);
    expect(states).toEqual(
      expect.arrayContaining([
        ['unsampled', 'orders', false],
        ['out_of_band', 'orders', false],
        ['out_of_band', 'payroll', true],
      ]),
    );
    const [named] = await found(`user.id: ${login} and ${MADE_UP}`, 1);
    expect(named).toMatchObject({
      trace: { id: traceId },
      span: { id: spanId },
      audit: { join: { tie: 'statement' } },
    });
    expect(named?.db?.statement).toBe('SELECT note FROM orders WHERE id = ?');
    expect(records.every(({ audit }) => /^[0-9a-f.]+\/\d+$/.test(audit.evidence[0]?.id ?? ''))).toBe(true);
  });

  it('is routed by its trace where the Collector reads the comment', async () => {
    const [, , transform] = (await blocksOf('yaml')).map((text) => parse(text) as CollectorConfig);
    const file = join(folder, 'routed.json');
    const message = `AUDIT: SESSION,1,1,READ,SELECT,,,select 1 from routed /*traceparent='00-${'e'.repeat(32)}-${'f'.repeat(16)}-01'*/,<none>`;
    const line = {
      timestamp: '2026-11-22 17:03:36.163 UTC',
      user: 'routed',
      dbname: 'shop',
      session_id: '6b032068.c74',
    };
    await writeFile(file, `${JSON.stringify({ ...line, line_num: 1, error_severity: 'LOG', message })}\n`);
    const processors = transform?.processors ?? {};
    const config = {
      receivers: { 'file_log/routed': { include: [file], start_at: 'beginning', poll_interval: '50ms' } },
      processors,
      exporters: { 'otlp_grpc/spantrail': { endpoint: `127.0.0.1:${spantrail.grpc}`, tls: { insecure: true } } },
      service: {
        pipelines: {
          logs: {
            receivers: ['file_log/routed'],
            processors: Object.keys(processors),
            exporters: ['otlp_grpc/spantrail'],
          },
        },
        telemetry: { metrics: { level: 'none' } },
      },
    };
    const path = join(folder, 'routed.yaml');
    await writeFile(path, stringify(config));
    const router = await startProgram(
      (collector as { binary: string }).binary,
      ['--config', path],
      /Everything is ready/,
    );
    try {
      const [record] = await found('user.id: routed', 1);
      expect(record).toMatchObject({
        trace: { id: 'e'.repeat(32) },
        span: { id: 'f'.repeat(16) },
        db: { collection: 'routed' },
      });
      expect(record?.audit.join.tie).toBeUndefined();
    } finally {
      await router.stop();
    }
  });
});
