import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../../core/errors.ts';
import type { AuditRecord } from '../../core/record.ts';
import { EXPECTED, type ExpectedCase } from './cases.ts';
import { type Client, createClient } from './client.ts';
import { createPainter } from './painter.ts';
import { createProcesses, type Environment, type Part, type Processes } from './processes.ts';

export interface DemoOptions {
  /** End after checking that the expected records are there. */
  readonly once: boolean;
  readonly store: string;
  readonly elasticsearchUrl?: string;
  readonly terminal: {
    write(text: string): void;
    warn(text: string): void;
    readonly colours: boolean;
    readonly environment: Readonly<Record<string, string | undefined>>;
  };
}

/** How long the records of the day's last moments may take until a search finds them. */
const SETTLED_MS = 30_000;
const POLL_MS = 500;

const SPANTRAIL_SETTINGS: Environment = {
  SPANTRAIL_LOG_LEVEL: 'warn',
  SPANTRAIL_NAMESPACE: 'demo',
  // The gateway checks logins: whom it names is verified.
  SPANTRAIL_RECEIVE_VOUCHING_PEERS: '["127.0.0.1/32"]',
};
/** The laboratory: nothing listens on this port. */
const DEAD_URL = 'http://127.0.0.1:2';

/**
 * Spantrail and a small clinic, in processes of their own and a temporary folder, for one day of half a minute. Prints what
 * is recorded as it appears, then the cases worth a look. With `once` it ends there, and throws AppError when an expected
 * record is missing; without it Spantrail stays up until SIGINT or SIGTERM. Nothing is left behind in any case.
 */
export async function runDemo(options: DemoOptions): Promise<void> {
  const { terminal } = options;
  checkInstalled();
  const stopping = new AbortController();
  const stop = () => stopping.abort(new AppError('internal', 'stopped before the day was over'));
  process.once('SIGINT', stop).once('SIGTERM', stop);
  const folder = await mkdtemp(join(tmpdir(), 'spantrail-demo-'));
  const processes = createProcesses(stopping.signal, terminal.warn);
  try {
    await demonstrate({ options, folder, processes, signal: stopping.signal });
  } catch (error) {
    if (!stopping.signal.aborted) throw error;
    if (options.once) throw stopping.signal.reason;
  } finally {
    await processes.stop();
    await rm(folder, { recursive: true, force: true });
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}

/** The clinic needs packages that only a checkout has. */
function checkInstalled(): void {
  try {
    import.meta.resolve('@electric-sql/pglite-socket');
    import.meta.resolve('@opentelemetry/auto-instrumentations-node');
  } catch (cause) {
    throw new AppError('usage', 'the demo runs in a checkout of Spantrail, after "npm ci"', { cause });
  }
}

interface Stage {
  readonly options: DemoOptions;
  readonly folder: string;
  readonly processes: Processes;
  readonly signal: AbortSignal;
}

async function demonstrate(stage: Stage): Promise<void> {
  const { options, processes, signal } = stage;
  const print = (text: string) => options.terminal.write(`${text}\n`);
  const painter = createPainter(options.terminal.colours);
  const startedAt = new Date().toISOString();
  print('Starting Spantrail and a small clinic: people at their desks, a gateway, a records service, Postgres.\n');
  const clean = cleanEnvironment(options.terminal.environment);
  const spantrail = await processes.spantrail(serveArguments(stage), { ...clean, ...SPANTRAIL_SETTINGS });
  const url = localUrl(spantrail.ready.api);
  const client = createClient(url, signal);
  const tail = client.follow((record) => print(painter.line(record)));
  const traced = (name: string, environment: Environment) =>
    processes.clinic(name, {
      ...clean,
      OTEL_SERVICE_NAME: name,
      OTEL_EXPORTER_OTLP_ENDPOINT: localUrl(spantrail.ready.grpc),
      OTEL_BSP_SCHEDULE_DELAY: '300',
      ...environment,
    });
  print(`The day begins. What is recorded, as it appears (${url}):\n`);
  await Promise.race([liveOneDay(traced, () => processes.clinic('database', clean, false)), tail]);
  const findings = await check(client, startedAt);
  print('\nThe day is over. Four accesses of it:\n');
  for (const { expected, record } of findings) {
    if (expected.shown && record) print(painter.card(expected.title, record));
  }
  for (const { expected, found } of findings) print(painter.check(found, expected.title));
  const missing = findings.filter(({ found }) => !found);
  if (options.once && missing.length > 0) {
    throw new AppError('internal', `${missing.length} of ${findings.length} expected records are not there`);
  }
  if (options.once) return;
  print('\nThree questions to try in another terminal:\n');
  for (const { question, query, inner } of EXPECTED) {
    if (question) print(`  ${question}\n    npx spantrail search "${query}"${inner ? ' --inner' : ''} --url ${url}\n`);
  }
  const rest = options.store === 'elasticsearch' ? 'its records stay in the namespace "demo"' : 'nothing of it stays';
  print(`The same on a page: ${url}/\nCtrl-C ends the demo; ${rest}.`);
  await Promise.race([once(signal, 'abort'), tail]);
}

type ServicePart = Part<{ url: string }>;

/** From the first login to the last span sent. People log in while the database, which takes longest, comes up. */
async function liveOneDay(
  startTraced: (name: string, environment: Environment) => Promise<ServicePart>,
  startDatabase: () => Promise<ServicePart>,
): Promise<void> {
  const early = Promise.all([startTraced('gateway', {}), startTraced('desk', {})]);
  const late = startDatabase();
  late.catch(() => undefined);
  const [gateway, desk] = await early;
  desk.send({ gatewayUrl: gateway.ready.url });
  const database = await late;
  const records = await startTraced('records', { DATABASE_URL: database.ready.url, LABORATORY_URL: DEAD_URL });
  gateway.send({ recordsUrl: records.ready.url });
  desk.send({ open: true });
  await desk.ended;
  await Promise.all([gateway.stop(), records.stop()]);
  await database.stop();
}

interface Finding {
  readonly expected: ExpectedCase;
  readonly record: AuditRecord | undefined;
  readonly found: boolean;
}

/** Looks for every expected record until it is there or the time is up. */
async function check(client: Client, from: string): Promise<Finding[]> {
  const find = async (expected: ExpectedCase): Promise<Finding> => {
    const records = await client.search({ q: expected.query, from, inner: expected.inner === true });
    const record = records.find(expected.holds);
    return { expected, record, found: record !== undefined && records.length >= (expected.countMin ?? 1) };
  };
  let findings: Finding[] = [];
  for (let waitedMs = 0; waitedMs <= SETTLED_MS; waitedMs += POLL_MS) {
    findings = await Promise.all(EXPECTED.map(find));
    if (findings.every(({ found }) => found)) break;
    await sleep(POLL_MS);
  }
  return findings;
}

function serveArguments({ options, folder }: Stage): string[] {
  const { store, elasticsearchUrl } = options;
  const ports = ['--grpc-port', '0', '--http-port', '0', '--api-port', '0'];
  const cluster = elasticsearchUrl === undefined ? [] : ['--elasticsearch-url', elasticsearchUrl];
  return ['serve', ...ports, '--data-dir', join(folder, 'data'), '--store', store, ...cluster];
}

/** Where telemetry goes is decided here; how to reach a store of the user's own is taken over. */
function cleanEnvironment(environment: Environment): Environment {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !/^OTEL_|^SPANTRAIL_(?!STORE_)/.test(name)));
}

function localUrl(port: number): string {
  return `http://127.0.0.1:${port}`;
}
