import { access, constants, stat } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { dirname } from 'node:path';
import type { Settings } from '../config/schema.ts';
import { describeError } from '../core/errors.ts';
import { openStore } from './stores.ts';

interface Finding {
  readonly state: 'ok' | 'note' | 'bad';
  readonly text: string;
}

export interface DoctorOptions {
  readonly settings: Settings;
  /** The running Spantrail to ask; its address follows from the settings when absent. */
  readonly url: string | undefined;
  readonly terminal: { write(text: string): void; readonly environment: Readonly<Record<string, string | undefined>> };
}

interface PipelineState {
  readonly pending: { readonly evidence: number; readonly lag_ms: number };
  readonly store: { readonly state: string; readonly error?: string };
  readonly refusing: boolean;
  readonly counters: readonly { readonly name: string; readonly value: number }[];
}

const PROBE_TIMEOUT_MS = 2000;

/** Looks at everything that a running Spantrail needs and prints a line for each. True when nothing is bad. */
export async function runDoctor({ settings, url, terminal }: DoctorOptions): Promise<boolean> {
  const pipeline = await askPipeline(url ?? `http://${settings.api.host}:${settings.api.port}`);
  const findings: Finding[] = [
    { state: 'ok', text: `Node ${process.versions.node}` },
    await checkFolder(settings.dataDir),
    ...(pipeline ? describePipeline(pipeline) : await checkStopped(settings)),
  ];
  const marks = { ok: 'ok  ', note: 'note', bad: 'BAD ' };
  for (const { state, text } of findings) terminal.write(`${marks[state]}  ${text}\n`);
  return findings.every((finding) => finding.state !== 'bad');
}

async function checkFolder(folder: string): Promise<Finding> {
  try {
    const { mode, uid } = await stat(folder);
    await access(folder, constants.R_OK | constants.W_OK | constants.X_OK);
    if (mode & 0o077) return { state: 'note', text: `data folder ${folder} can be read by others; chmod 700 it` };
    return { state: 'ok', text: `data folder ${folder} (owner ${uid}, private)` };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
      return { state: 'bad', text: `data folder ${folder}: ${describeError(error)}` };
    }
  }
  try {
    await access(dirname(folder), constants.W_OK);
    return { state: 'ok', text: `data folder ${folder} will be created` };
  } catch {
    return { state: 'bad', text: `data folder ${folder} does not exist and ${dirname(folder)} cannot be written to` };
  }
}

async function askPipeline(base: string): Promise<PipelineState | undefined> {
  try {
    const response = await fetch(new URL('/api/v1/pipeline', base), { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) });
    return response.ok ? ((await response.json()) as PipelineState) : undefined;
  } catch {
    return undefined;
  }
}

function describePipeline(pipeline: PipelineState): Finding[] {
  const total = (name: string) =>
    pipeline.counters.filter((sample) => sample.name === name).reduce((sum, sample) => sum + sample.value, 0);
  const quarantined = total('quarantined');
  const storeText = pipeline.store.error === undefined ? '' : `: ${pipeline.store.error}`;
  return [
    { state: 'ok', text: `Spantrail runs: accepted ${total('accepted')}, records written ${total('written')}` },
    { state: pipeline.store.state === 'writing' ? 'ok' : 'bad', text: `store is ${pipeline.store.state}${storeText}` },
    {
      state: pipeline.refusing ? 'bad' : 'ok',
      text: pipeline.refusing ? 'ingest is refused: the budget of unstored evidence is used up' : 'ingest is accepted',
    },
    {
      state: 'ok',
      text: `pending: ${pipeline.pending.evidence} pieces of evidence, lag ${pipeline.pending.lag_ms} ms`,
    },
    ...(quarantined > 0
      ? [{ state: 'note' as const, text: `${quarantined} items are in quarantine, see quarantine/ in the data folder` }]
      : []),
  ];
}

async function checkStopped(settings: Settings): Promise<Finding[]> {
  const listeners = [
    { ...settings.receive.grpc, text: 'OTLP gRPC', flag: '--grpc-port' },
    { ...settings.receive.http, text: 'OTLP HTTP', flag: '--http-port' },
    { ...settings.api, text: 'API', flag: '--api-port' },
  ];
  return [
    { state: 'note', text: 'no Spantrail runs with these settings; start it with "spantrail serve"' },
    ...(await Promise.all(listeners.map(checkPort))),
    await checkStore(settings),
  ];
}

async function checkPort(listener: { host: string; port: number; text: string; flag: string }): Promise<Finding> {
  if (listener.port === 0) return { state: 'ok', text: `${listener.text}: any free port` };
  const taken = await new Promise<boolean>((resolve) => {
    const socket = createConnection({ host: listener.host, port: listener.port, timeout: PROBE_TIMEOUT_MS });
    socket
      .once('connect', () => resolve(true))
      .once('error', () => resolve(false))
      .once('timeout', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
  return taken
    ? {
        state: 'bad',
        text: `${listener.text}: port ${listener.port} is in use by something else; choose another with ${listener.flag}`,
      }
    : { state: 'ok', text: `${listener.text}: port ${listener.port} is free` };
}

async function checkStore(settings: Settings): Promise<Finding> {
  // The embedded store is opened by one process at a time and checked at its start; only a cluster can be away.
  if (settings.store.type !== 'elasticsearch') return { state: 'ok', text: `store ${settings.store.type}` };
  try {
    const store = await openStore(settings);
    await store.get('doctor');
    await store.close();
    return { state: 'ok', text: `Elasticsearch answers at ${settings.store.elasticsearch.urls.join(', ')}` };
  } catch (error) {
    return { state: 'bad', text: describeError(error) };
  }
}
