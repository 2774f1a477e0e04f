import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Alert } from '../../core/alert.ts';
import { AppError } from '../../core/errors.ts';
import type { AuditRecord } from '../../core/record.ts';
import { EXPECTED, EXPECTED_ALERTS, type ExpectedCase } from './cases.ts';
import { type Client, createClient } from './client.ts';
import { createPainter, type Painter } from './painter.ts';
import { createProcesses, type Environment, type Part, type Processes } from './processes.ts';
import { placesDatabase, tellPast, tellStatement } from './watched.ts';

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
/** Of records alike in a row so many are printed, then every tenth. */
const ALIKE_SHOWN = 6;
const ALIKE_STEP = 10;
/** Between two days of a clinic that goes on. */
const NIGHT_MS = 60_000;

const NAMESPACE = 'demo';
const SPANTRAIL_SETTINGS: Environment = {
  SPANTRAIL_LOG_LEVEL: 'warn',
  SPANTRAIL_NAMESPACE: NAMESPACE,
  // The gateway checks logins: whom it names is verified.
  SPANTRAIL_RECEIVE_VOUCHING_PEERS: '["127.0.0.1/32"]',
  // Whether it is working hours depends on when the demo is looked at.
  SPANTRAIL_DETECT_RULES_OFF: '["outside-working-hours"]',
};
/** The laboratory: nothing listens on this port. */
const DEAD_URL = 'http://127.0.0.1:2';

/**
 * Spantrail and a small clinic, in processes of their own and a temporary folder, for one day of half a minute. Prints what
 * is recorded as it appears, then the cases worth a look and what the rules found. With `once` it ends there, and throws
 * AppError when an expected record or alert is missing; without it Spantrail stays up until SIGINT or SIGTERM. Nothing is left behind in any case. With `to`
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
  const places = join(stage.folder, 'places.mmdb');
  await writeFile(places, placesDatabase());
  const settings = { ...SPANTRAIL_SETTINGS, SPANTRAIL_ORIGIN_DATABASES: JSON.stringify([places]) };
  const spantrail = await processes.spantrail(serveArguments(stage), { ...clean, ...settings });
  const url = localUrl(spantrail.ready.api);
  const client = createClient(url, signal);
  const tail = client.follow(createTail(startedAt, painter, print));
  print(`The day begins. What is recorded, as it appears (${url}):\n`);
  const door = localUrl(spantrail.ready.http);
  const events = { past: tellPast(door, client), atWork: () => tellStatement(door) };
  events.past.catch(() => undefined);
  await Promise.race([liveOneDay(processes, clean, localUrl(spantrail.ready.grpc), events), tail]);
  const { findings, alerts } = await check(client, startedAt);
  print('\nThe day is over. Four accesses of it:\n');
  for (const { expected, record } of findings) {
    if (expected.shown && record) print(painter.card(expected.title, record));
  }
  for (const { expected, found } of findings) print(painter.check(found, expected.title));
  print('\nWhat the rules that come with Spantrail found in it:\n');
  for (const alert of alerts) print(painter.alert(alert));
  print('');
  for (const { rule, title } of EXPECTED_ALERTS) print(painter.check(isToldOnce(alerts, rule), `one alert: ${title}`));
  const missing = findings.filter(({ found }) => !found);
  if (options.once && missing.length > 0) {
    throw new AppError('internal', `${missing.length} of ${findings.length} expected records are not there`);
  }
  const untold = EXPECTED_ALERTS.filter(({ rule }) => !isToldOnce(alerts, rule));
  if (options.once && untold.length > 0) {
    throw new AppError('internal', `not raised exactly once: ${untold.map(({ rule }) => rule).join(', ')}`);
  }
  if (options.once) return;
  print('\nFour questions to try in another terminal:\n');
  for (const { question, query, inner } of EXPECTED) {
    if (question) print(`  ${question}\n    npx spantrail search "${query}"${inner ? ' --inner' : ''} --url ${url}\n`);
  }
  const rest = options.store === 'elasticsearch' ? 'its records stay in the namespace "demo"' : 'nothing of it stays';
  print(`  What was found, and why?\n    npx spantrail alerts --url ${url}`);
  print(`    npx spantrail alerts show ${alerts[0]?.id.slice(0, 12)} --url ${url}\n`);
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

/** What others than the clinic tell of the day. */
interface Events {
  /** Settles before the people begin to work. */
  readonly past: Promise<void>;
  atWork(): Promise<void>;
}

/** From the first login to the last span sent. People log in while the database, which takes longest, comes up. */
async function liveOneDay(processes: Processes, common: Environment, endpoint: string, events?: Events): Promise<void> {
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
  await events?.past;
  desk.send({ open: true });
  await events?.atWork();
  await desk.ended;
  await Promise.all([gateway.stop(), records.stop()]);
  await database.stop();
}

/** Prints records as they come; of many alike in a row, some. */
function createTail(from: string, painter: Painter, print: (text: string) => void): (record: AuditRecord) => void {
  let last = '';
  let alike = 0;
  return (record) => {
    // What others tell of the day before is not of this day.
    if (record['@timestamp'] < from) return;
    const { user, event, audit } = record;
    const kind = [user?.id, event.action, event.outcome, audit.target.name].join(' ');
    alike = kind === last ? alike + 1 : 0;
    last = kind;
    if (alike < ALIKE_SHOWN || alike % ALIKE_STEP === 0) print(painter.line(record));
    if (alike === ALIKE_SHOWN) print('               … more of the same; of these only every tenth is shown');
  };
}

interface Finding {
  readonly expected: ExpectedCase;
  readonly record: AuditRecord | undefined;
  readonly found: boolean;
}

const isToldOnce = (alerts: readonly Alert[], id: string) => alerts.filter(({ rule }) => rule.id === id).length === 1;

/** Looks for every expected record and alert until it is there or the time is up. */
async function check(client: Client, from: string): Promise<{ findings: Finding[]; alerts: readonly Alert[] }> {
  const find = async (expected: ExpectedCase): Promise<Finding> => {
    const records = await client.search({ q: expected.query, from, inner: expected.inner === true });
    const record = records.find(expected.holds);
    return { expected, record, found: record !== undefined && records.length >= (expected.countMin ?? 1) };
  };
  let findings: Finding[] = [];
  let alerts: readonly Alert[] = [];
  for (let waitedMs = 0; waitedMs <= SETTLED_MS; waitedMs += POLL_MS) {
    findings = await Promise.all(EXPECTED.map(find));
    alerts = await client.alerts({ from, namespace: NAMESPACE });
    const isTold = EXPECTED_ALERTS.every(({ rule }) => isToldOnce(alerts, rule));
    if (isTold && findings.every(({ found }) => found)) break;
    await sleep(POLL_MS);
  }
  return { findings, alerts };
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
