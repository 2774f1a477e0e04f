import { access, constants, stat, statfs } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, resolve } from 'node:path';
import type { PipelineAnswer, Sum } from '../api/contract.ts';
import type { Refusal } from '../api/readiness.ts';
import type { Settings } from '../config/schema.ts';
import { systemClock } from '../core/clock.ts';
import { AppError, describeError } from '../core/errors.ts';
import { checkDoors, describeDoors } from './doctor-doors.ts';

export interface Finding {
  readonly state: 'ok' | 'note' | 'bad';
  readonly text: string;
}

export interface DoctorOptions {
  readonly settings: Settings;
  /** The running Spantrail to ask; its address follows from the settings when absent. */
  readonly url: string | undefined;
  /** Asks the Spantrail at this address how it is; throws AppError. */
  readonly ask: (url: string, signal: AbortSignal) => Promise<PipelineAnswer>;
  readonly terminal: { write(text: string): void; readonly environment: Readonly<Record<string, string | undefined>> };
}

const PROBE_TIMEOUT_MS = 2000;

/** Looks at everything that a running Spantrail needs and prints a line for each. True when nothing is bad. */
export async function runDoctor({ settings, url, ask, terminal }: DoctorOptions): Promise<boolean> {
  const { host, port, tls } = settings.api;
  const scheme = tls ? 'https' : 'http';
  const found = await askPipeline(url ?? `${scheme}://${reachable(host)}:${port}`, ask);
  const pipeline = typeof found === 'string' ? undefined : found;
  const findings: Finding[] = [
    { state: 'ok', text: `Node ${process.versions.node}` },
    ...(await checkFolder(settings)),
    ...(await checkDoors(settings, systemClock.nowMs())),
    ...(pipeline ? describePipeline(pipeline) : []),
    ...(typeof found === 'string' ? [{ state: 'bad' as const, text: found }] : []),
    ...(found ? [] : await checkStopped(settings, url)),
    ...(pipeline ? await checkCluster(pipeline, url === undefined ? settings : undefined) : []),
  ];
  const marks = { ok: 'ok  ', note: 'note', bad: 'BAD ' };
  for (const { state, text } of findings) terminal.write(`${marks[state]}  ${text}\n`);
  return findings.every((finding) => finding.state !== 'bad');
}

/** What listens everywhere is asked here, by the name that certificates have. */
function reachable(host: string): string {
  if (host === '0.0.0.0' || host === '::') return 'localhost';
  return host.includes(':') ? `[${host}]` : host;
}

async function checkFolder({ dataDir, wal }: Settings): Promise<Finding[]> {
  const folder = resolve(dataDir);
  let place = folder;
  try {
    while (!(await exists(place))) place = dirname(place);
    const { mode, uid } = await stat(place);
    await access(place, constants.R_OK | constants.W_OK | constants.X_OK);
    const { bavail, bsize } = await statfs(place);
    const space: Finding = describeSpace(bavail * bsize, wal.unsettledBytesMax + wal.horizonBytesMax);
    if (place !== folder) return [{ state: 'ok', text: `data folder ${folder} will be created` }, space];
    if (mode & 0o077) {
      return [{ state: 'note', text: `data folder ${folder} can be read by others; chmod 700 it` }, space];
    }
    return [{ state: 'ok', text: `data folder ${folder} (owner ${uid}, private)` }, space];
  } catch (error) {
    const words = `data folder ${folder} cannot be used: ${describeError(error)}`;
    return [{ state: 'bad', text: `${words}; give one that this user can read and write with --data-dir` }];
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    if (!(await stat(path)).isDirectory()) throw new Error(`${path} is not a folder`);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return false;
  }
}

function describeSpace(free: number, wanted: number): Finding {
  const gibibytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  if (free >= wanted) return { state: 'ok', text: `disk: ${gibibytes(free)} free` };
  const text = `disk: ${gibibytes(free)} free; the write-ahead log may take ${gibibytes(wanted)} (settings under wal)`;
  return { state: 'note', text };
}

/** How it is; why it does not tell; nothing when none runs there. */
async function askPipeline(base: string, ask: DoctorOptions['ask']): Promise<PipelineAnswer | string | undefined> {
  try {
    return await ask(base, AbortSignal.timeout(PROBE_TIMEOUT_MS));
  } catch (error) {
    if (!(error instanceof AppError)) return undefined;
    if (error.code !== 'unauthenticated' && error.code !== 'forbidden') return undefined;
    return `a Spantrail runs and does not tell how it is: ${error.message}`;
  }
}

/** Everything that was accepted or settled has exactly one place. */
function describeSum(sum: Sum): Finding {
  const { of, difference, ...places } = sum;
  const [[verb = '', total = 0] = [], ...rest] = Object.entries(places);
  const parts = rest.filter(([, count]) => count > 0).map(([place, count]) => `${count} ${place}`);
  const text = `${of}: ${total} ${verb} = ${parts.length === 0 ? '0' : parts.join(' + ')}`;
  if (difference === 0) return { state: 'ok', text };
  const words =
    difference > 0
      ? `${difference} not accounted for: lost with files of the data folder that were damaged or removed (the log says which); spantrail wal inspect looks at them`
      : `${-difference} more than there should be: files of the data folder were put back or changed by hand`;
  return { state: 'bad', text: `${text}; ${words}` };
}

function describePipeline(pipeline: PipelineAnswer): Finding[] {
  const total = (name: string) =>
    pipeline.counters.filter((sample) => sample.name === name).reduce((sum, sample) => sum + sample.value, 0);
  const waiting = total('quarantine_open');
  const damaged = total('wal_damaged_files');
  const storeText = pipeline.store.error === undefined ? '' : `: ${pipeline.store.error}`;
  return [
    { state: 'ok', text: `Spantrail runs: accepted ${total('accepted')}, records written ${total('written')}` },
    { state: pipeline.store.state === 'writing' ? 'ok' : 'bad', text: `store is ${pipeline.store.state}${storeText}` },
    {
      state: pipeline.refusing ? 'bad' : 'ok',
      text: pipeline.refusing ? `ingest is refused: ${whyRefusing(pipeline)}` : 'ingest is accepted',
    },
    ...pipeline.sums.map(describeSum),
    ...(damaged > 0 ? [describeDamage(damaged)] : []),
    { state: 'ok', text: `lag: ${pipeline.pending.lag_ms} ms` },
    ...(pipeline.replaying
      ? [{ state: 'note' as const, text: 'the write-ahead log is being replayed; nothing is settled before its end' }]
      : []),
    ...(waiting > 0
      ? [{ state: 'note' as const, text: `${waiting} items wait in quarantine; "spantrail quarantine list" says why` }]
      : []),
    ...describeForwarding(pipeline),
    ...describeCredentials(pipeline),
    ...describeDoors(pipeline),
    ...describeCoverage(pipeline),
    ...describeNotices(pipeline),
  ];
}

/** Of several instances: events on their way to another one. Nothing where none is ever forwarded. */
function describeForwarding({ counters }: PipelineAnswer): Finding[] {
  const of = (name: string, outcome?: string) =>
    counters
      .filter((sample) => sample.name === name && (outcome === undefined || sample.labels['outcome'] === outcome))
      .reduce((sum, { value }) => sum + value, 0);
  const waiting = of('forward_waiting');
  const unknown = of('forwarded', 'unknown');
  const findings: Finding[] = [];
  if (of('forward_failing') > 0) {
    const text = `${waiting} events wait to be forwarded and the Collector at forward.endpoint takes none; the log says why`;
    findings.push({ state: 'bad', text });
  } else if (waiting + of('forwarded') > 0) {
    const text = `forwarding: ${of('forwarded', 'sent')} events sent, ${of('forwarded', 'received')} received, ${of('forwarded', 'kept')} kept, ${waiting} waiting`;
    findings.push({ state: 'ok', text });
  }
  if (unknown > 0) {
    const text = `${unknown} forwarded events are not signed with forward.secret and make no record: give all instances the same secret`;
    findings.push({ state: 'bad', text });
  }
  return findings;
}

/** Sums cannot tell: what was in there may have been accepted after the last mark that is left. */
function describeDamage(files: number): Finding {
  const text = `${files} damaged parts of the write-ahead log were taken out and kept in wal/*.damaged: what was in them and not stored yet is lost`;
  return { state: 'bad', text: `${text}; "spantrail wal inspect" names them; move them away when that is known` };
}

/** What is full, and what ends it. */
const REFUSAL_TEXTS: Readonly<Record<Refusal, string>> = {
  disk: 'the disk is nearly full; make room, and it goes on by itself',
  budget:
    'the budget of unstored evidence (wal.unsettledBytesMax) is used up; it goes on when the store takes records again',
  memory: 'memory for traces that wait is used up; it goes on by itself',
};

function whyRefusing({ counters }: PipelineAnswer): string {
  const full = counters.filter(({ name, value }) => name === 'refusing' && value > 0);
  return full.map(({ labels }) => REFUSAL_TEXTS[labels['reason'] as Refusal]).join('; ');
}

/** What is known to be missing of the last day; nothing while that is not watched, or not yet. */
function describeCoverage({ counters }: PipelineAnswer): Finding[] {
  const kinds = counters.filter(({ name }) => name === 'coverage_gaps');
  if (kinds.length === 0) return [];
  const gaps = kinds.filter(({ value }) => value > 0).map(({ labels, value }) => `${value} ${labels['kind']}`);
  if (gaps.length === 0) return [{ state: 'ok', text: 'coverage: no gap observed in the last 24 hours' }];
  const text = `coverage: gaps in the last 24 hours: ${gaps.join(', ').replaceAll('_', ' ')}; "spantrail coverage" names them`;
  return [{ state: 'note', text }];
}

/** Alerts and notices that do not get where they should. */
function describeNotices({ counters }: PipelineAnswer): Finding[] {
  const total = (name: string) => counters.find((sample) => sample.name === name)?.value ?? 0;
  const [dead, unstored] = [total('notices_dead'), total('alerts_unstored')];
  const texts = [
    dead > 0 &&
      `${dead} notices of alerts were given up: "spantrail notify list --state dead" says why, "notify retry --all" tries them again`,
    unstored > 0 && `${unstored} alerts wait for the store; the log says why`,
  ];
  return texts.filter((text) => text !== false).map((text) => ({ state: 'bad', text }));
}

/** What came in captured headers since the start. It is masked here, but was on its way in the clear until here. */
function describeCredentials({ counters }: PipelineAnswer): Finding[] {
  const told = (name: string, label: string, leftOut: readonly string[] = []) =>
    counters
      .filter((sample) => sample.name === name && sample.value > 0 && !leftOut.includes(sample.labels[label] ?? ''))
      .map(({ labels, value }) => `${value} ${labels[label]?.replaceAll('_', ' ')}`)
      .join(', ');
  const arrived = told('credentials', 'kind');
  const refused = told('tokens', 'verdict', ['verified', 'unchecked']);
  const unread = told('token_keys', 'state', ['ready']);
  const texts = [
    arrived !== '' &&
      `credentials arrive in captured headers (${arrived}): whoever sees them on the way can use them. Capture a header that a gateway sets, such as x-forwarded-user, instead, or turn the token into user.id in the Collector: docs/identity.md`,
    refused !== '' && `tokens that name nobody: ${refused}; settings under identity.tokens say whose are right`,
    unread !== '' && `key sets of tokens: ${unread}; the log says why they cannot be read`,
  ];
  return texts.filter((text) => text !== false).map((text) => ({ state: 'note', text }));
}

async function checkStopped(settings: Settings, url: string | undefined): Promise<Finding[]> {
  if (url !== undefined) return [{ state: 'bad', text: `no Spantrail answers at ${url}` }];
  const listeners = [
    { ...settings.receive.grpc, text: 'OTLP gRPC', flag: '--grpc-port' },
    { ...settings.receive.http, text: 'OTLP HTTP', flag: '--http-port' },
    { ...settings.api, text: 'API', flag: '--api-port' },
  ];
  return [
    { state: 'note', text: 'no Spantrail runs with these settings; start it with "spantrail serve"' },
    ...(await Promise.all(listeners.map(checkPort))),
    ...(await checkStore(settings)),
  ];
}

async function checkPort(listener: { host: string; port: number; text: string; flag: string }): Promise<Finding> {
  const { host, port, text, flag } = listener;
  if (port === 0) return { state: 'ok', text: `${text}: any free port` };
  const server = createServer();
  const failure = await new Promise<NodeJS.ErrnoException | undefined>((done) => {
    server.once('error', done).listen({ host, port, exclusive: true }, () => server.close(() => done(undefined)));
  });
  if (!failure) return { state: 'ok', text: `${text}: port ${port} is free` };
  const words =
    failure.code === 'EADDRINUSE'
      ? `port ${port} is in use by something else; choose another with ${flag}`
      : `cannot listen on ${host} port ${port}: ${failure.message}`;
  return { state: 'bad', text: `${text}: ${words}` };
}

async function checkStore(settings: Settings): Promise<Finding[]> {
  // The embedded store is opened by one process at a time and checked at its start; only a cluster can be away.
  if (settings.store.type !== 'elasticsearch') return [{ state: 'ok', text: `store ${settings.store.type}` }];
  try {
    // Loaded only here: the adapters take longer to load than all the rest to look at.
    const { openStore } = await import('./stores.ts');
    const store = await openStore(settings);
    try {
      const findings = (await store.care?.inspect()) ?? [];
      const { urls, cloudId } = settings.store.elasticsearch;
      return [{ state: 'ok', text: `Elasticsearch answers at ${cloudId ?? urls.join(', ')}` }, ...findings];
    } finally {
      await store.close();
    }
  } catch (error) {
    return [{ state: 'bad', text: describeError(error) }];
  }
}

/** What is wrong with the cluster of a running Spantrail: in words where the settings are at hand, else by kind. */
async function checkCluster({ counters }: PipelineAnswer, settings: Settings | undefined): Promise<Finding[]> {
  const kinds = counters.filter(({ name, value }) => name === 'store_findings' && value > 0);
  if (kinds.length === 0) return [];
  if (settings?.store.type === 'elasticsearch') {
    const [answers, ...findings] = await checkStore(settings);
    if (answers?.state === 'ok' && findings.length > 0) return findings;
  }
  const names = kinds.map(({ labels, value }) => `${value} ${labels['kind']?.replaceAll('_', ' ')}`).join(', ');
  return [{ state: 'bad', text: `store: ${names}; its log says which and what would be right` }];
}
