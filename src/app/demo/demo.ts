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
  /** OTLP gRPC endpoint, such as a Collector's: only the clinic runs, and its evidence goes there. */
  readonly to?: string;
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
/** Between two days of a clinic that goes on. */
const NIGHT_MS = 60_000;

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
 * record is missing; without it Spantrail stays up until SIGINT or SIGTERM. Nothing is left behind in any case. With `to`
 * only the clinic runs, day after day, and what it sends is for others to look at.
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
    if (options.to === undefined) await demonstrate({ options, folder, processes, signal: stopping.signal });
    else await sendDays(options.to, options, stopping.signal);
  } catch (error) {
    if (!stopping.signal.aborted) throw error;
    if (options.once) throw stopping.signal.reason;
  } finally {
    await processes.stop();
    await rm(folder, { recursive: true, force: true });
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}

/** The clinic needs packages that Spantrail itself can do without. */
function checkInstalled(): void {
  try {
    import.meta.resolve('@electric-sql/pglite-socket');
    import.meta.resolve('@opentelemetry/auto-instrumentations-node');
    import.meta.resolve('pg');
  } catch (cause) {
    const words = 'the demo needs the optional packages of Spantrail; install it without --omit=optional';
    throw new AppError('usage', words, { cause });
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
  print(`The day begins. What is recorded, as it appears (${url}):\n`);
  await Promise.race([liveOneDay(processes, clean, localUrl(spantrail.ready.grpc)), tail]);
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

/** The clinic alone, until it is stopped; one day with `once`. How to reach the endpoint may be said with OTEL_EXPORTER_OTLP_*. */
async function sendDays(endpoint: string, { once, terminal }: DemoOptions, signal: AbortSignal): Promise<void> {
  if (!/^https?:\/\/[^/]/.test(endpoint) || !URL.canParse(endpoint)) {
    throw new AppError('usage', `--to "${endpoint}" is no OTLP gRPC endpoint; it looks like http://127.0.0.1:4317`);
  }
  const exporter = Object.entries(terminal.environment).filter(([name]) => name.startsWith('OTEL_EXPORTER_OTLP_'));
  const environment = { ...cleanEnvironment(terminal.environment), ...Object.fromEntries(exporter) };
  for (;;) {
    terminal.write(`A day at the clinic begins. Its spans go to ${endpoint}\n`);
    const processes = createProcesses(signal, terminal.warn);
    await liveOneDay(processes, environment, endpoint).finally(() => processes.stop());
    terminal.write('The day is over.\n');
    if (once) return;
    await sleep(NIGHT_MS, undefined, { signal });
  }
}

/** From the first login to the last span sent. People log in while the database, which takes longest, comes up. */
async function liveOneDay(processes: Processes, common: Environment, endpoint: string): Promise<void> {
  const startTraced = (name: string, environment: Environment): Promise<Part<{ url: string }>> =>
    processes.clinic(name, {
      ...common,
      OTEL_SERVICE_NAME: name,
      OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
      OTEL_BSP_SCHEDULE_DELAY: '300',
      ...environment,
    });
  const early = Promise.all([startTraced('gateway', {}), startTraced('desk', {})]);
  const late = processes.clinic('database', common, false);
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
