import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { type RunningApi, startApi } from '../api/server.ts';
import type { Settings } from '../config/schema.ts';
import { systemClock } from '../core/clock.ts';
import { Counters } from '../core/metrics.ts';
import { compileMask } from '../otlp/mask.ts';
import { createAdmission } from '../receive/admission.ts';
import { startGrpcServer } from '../receive/grpc-server.ts';
import { startHttpServer } from '../receive/http-server.ts';
import { createInFlight } from '../receive/in-flight.ts';
import { lockDataFolder, openDataFolder } from '../wal/data-folder.ts';
import { Quarantine } from '../wal/quarantine.ts';
import type { SegmentReport } from '../wal/segment-recovery.ts';
import { SettleJournal } from '../wal/settle-journal.ts';
import { Wal } from '../wal/wal.ts';
import { createBudget } from './budget.ts';
import { compileNetworks } from './network.ts';
import { createObservers } from './observers.ts';
import { traced } from './own-spans.ts';
import { describePipeline } from './pipeline.ts';
import { PUMP_DEFAULTS, type Pump, startPump } from './pump.ts';
import { replayInto } from './replay.ts';
import { startShards, walFolder } from './shards.ts';
import { openStore } from './stores.ts';

/**
 * The only file that names adapters: it wires the stages in the order of the flow, and takes them down sink to source.
 *
 *   receive → wal → join shards → pump → store, journal
 *                                   └→ followers of the API
 */
export interface RunningSpantrail {
  readonly ports: { readonly grpc: number; readonly http: number; readonly api: number };
  /** Rejects when what the write-ahead log holds cannot be joined: then it must not go on. */
  readonly replayed: Promise<void>;
  close(): Promise<void>;
}

export interface Surroundings {
  readonly log: Logger;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: string;
}

/** A request whose next bytes do not come for this long is cut off: a client on a bad line is slow, not silent. */
const STALL_MS = 30_000;
const HEADERS_MS = 15_000;
const REQUEST_MS = 60_000;
/** Requests in work get this long to finish when the process stops. */
const CLOSE_GRACE_MS = 5_000;

/** Undoes what was started, last first; one failure does not keep the others from being undone. */
class Teardown {
  readonly #steps: (() => Promise<unknown>)[] = [];

  add(step: () => Promise<unknown>): void {
    this.#steps.push(step);
  }

  async run(log: Logger): Promise<void> {
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      await step().catch((error: unknown) => log.error({ error }, 'while stopping'));
    }
  }
}

/** Throws AppError with one line for the person who starts it; nothing is left running then. */
export async function startSpantrail(settings: Settings, surroundings: Surroundings): Promise<RunningSpantrail> {
  const teardown = new Teardown();
  try {
    return await start(settings, surroundings, teardown);
  } catch (error) {
    await teardown.run(surroundings.log);
    throw error;
  }
}

async function start(settings: Settings, { log, environment, version }: Surroundings, teardown: Teardown) {
  const clock = systemClock;
  const counters = new Counters();
  const trust = compileTrust(settings);
  const disk = await openDisk(settings, counters, log, teardown);
  const store = await openStore(settings);
  teardown.add(() => store.close());
  if (settings.store.setUp) await store.setUp();

  const shards = startShards(settings, disk);
  teardown.add(() => Promise.all(shards.map((shard) => shard.close())));
  const observers = createObservers();
  const state: State = { pump: undefined, replaying: true, stopping: false };
  disk.wal.onDurable((frame) => {
    for (const shard of shards) shard.ingest(frame, clock.nowMs());
    state.pump?.wake();
  });

  const bytesAtStart = disk.wal.bytes;
  const budget = createBudget(() => {
    const status = state.pump?.status();
    return [
      // Until the replay is over, what came since the start counts as not stored.
      { used: status?.unsettledBytes ?? disk.wal.bytes - bytesAtStart, max: settings.wal.unsettledBytesMax },
      // The index makes room by letting stored traces go and settling early; over twice its size it no longer can.
      { used: status?.indexBytes ?? 0, max: 2 * settings.join.indexBytesMax },
    ];
  });
  const inFlight = createInFlight(settings.receive.inFlightBytesMax);
  const admit = createAdmission({
    wal: disk.wal,
    counters,
    mask: compileMask({
      attributes: settings.receive.maskAttributes,
      queryParameters: settings.receive.maskQueryParameters,
    }),
    namespace: settings.namespace,
    budget,
    trust,
    clock,
    onAppendFailure: (error) => log.error({ error }, 'evidence could not be made durable; senders are told to retry'),
  });
  const receiver = {
    admit,
    inFlight,
    counters,
    requestBytesMax: settings.receive.maxRequestBytes,
    onFault: (error: unknown) => log.error({ error }, 'receiver failed'),
  };
  const grpc = await startGrpcServer({ ...receiver, ...settings.receive.grpc, stallMs: STALL_MS });
  teardown.add(() => grpc.close(CLOSE_GRACE_MS));
  const http = await startHttpServer({
    ...receiver,
    ...settings.receive.http,
    headersMs: HEADERS_MS,
    requestMs: REQUEST_MS,
  });
  teardown.add(() => http.close(CLOSE_GRACE_MS));

  // Loading the SDK takes longer than all the rest of the start; nothing waits for it.
  const telemetry = import('./telemetry.ts').then(({ startTelemetry }) =>
    startTelemetry({
      environment,
      version,
      counters,
      refreshGauges: async () => void (await state.pump?.refreshStatus()),
      ownPorts: [grpc.port, http.port],
      log,
    }),
  );
  telemetry.catch((error: unknown) => log.error({ error }, 'own telemetry did not start'));
  teardown.add(async () => (await telemetry).shutdown());

  const api: RunningApi = await startApi(settings.api, {
    store,
    clock,
    version,
    subscribe: observers.subscribe,
    readTrace: async (traceId) => (await Promise.all(shards.map((shard) => shard.spansOf(traceId)))).flat(),
    pipeline: async () => {
      const status = await state.pump?.refreshStatus();
      return describePipeline({ settings, counters, status, replaying: state.replaying, refusing: budget().refuse });
    },
    ready: () => !state.stopping && !budget().refuse,
    metricsText: async () => (await telemetry).metricsText(),
    reportFailure: (error) => log.error({ error }, 'request failed'),
  });
  teardown.add(() => api.close());

  // Evidence is accepted while the replay runs; nothing is settled before its end, so that no trace is seen in part.
  const replayed = replayInto(shards, disk.journal, disk.wal, clock).then((result) => {
    if (result.frames > 0) log.info(result, 'write-ahead log replayed');
    state.replaying = false;
    if (state.stopping) return;
    state.pump = startPump({
      ...disk,
      shards,
      store: observers.watch(traced(store)),
      counters,
      clock,
      log,
      settings: {
        ...PUMP_DEFAULTS,
        batchRecordsMax: settings.store.batchRecordsMax,
        horizonAgeMs: settings.wal.horizonAgeMs,
        horizonBytesMax: settings.wal.horizonBytesMax,
      },
    });
  });
  teardown.add(async () => {
    state.stopping = true;
    await replayed.catch(() => undefined);
    await state.pump?.drain();
  });

  const ports = { grpc: grpc.port, http: http.port, api: api.port };
  log.info({ ...ports, store: settings.store.type, dataDir: settings.dataDir }, 'ready');
  return { ports, replayed, close: () => teardown.run(log) };
}

interface State {
  /** Undefined until the write-ahead log is replayed. */
  pump: Pump | undefined;
  replaying: boolean;
  stopping: boolean;
}

interface OpenDisk {
  readonly folder: string;
  readonly wal: Wal;
  readonly journal: SettleJournal;
  readonly quarantine: Quarantine;
}

async function openDisk(settings: Settings, counters: Counters, log: Logger, teardown: Teardown): Promise<OpenDisk> {
  const folder = await openDataFolder(settings.dataDir);
  const lock = await lockDataFolder(folder);
  teardown.add(() => lock.release());
  const report = (found: SegmentReport) => log.warn(found, 'write-ahead log or journal repaired');
  const journal = await SettleJournal.open({ folder: join(folder, 'journal'), report });
  teardown.add(() => journal.close());
  const wal = await Wal.open({
    folder: walFolder(folder),
    segmentFloor: await newestSegmentKnown(walFolder(folder), journal),
    segmentBytes: settings.wal.segmentBytes,
    cacheBytesMax: settings.wal.cacheBytesMax,
    counters,
    report,
  });
  teardown.add(() => wal.close());
  const quarantine = await Quarantine.open(join(folder, 'quarantine'));
  return { folder, wal, journal, quarantine };
}

function compileTrust(settings: Settings) {
  const trusts = compileNetworks('receive.trustedPeers', settings.receive.trustedPeers);
  const vouches = compileNetworks('receive.vouchingPeers', settings.receive.vouchingPeers);
  return (peer: string, browser: boolean) => ({
    trusted: !browser && trusts(peer),
    vouches: !browser && vouches(peer),
  });
}

/** When somebody took the log's files away and left the journal: its newest segment, whose number must not come again. */
async function newestSegmentKnown(walPath: string, journal: SettleJournal): Promise<number> {
  const files = await readdir(walPath).catch(() => []);
  let newest = 0;
  if (files.length > 0) return newest;
  await journal.replay(({ through }) => {
    newest = Math.max(newest, through.segment);
  });
  return newest;
}
