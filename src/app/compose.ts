import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { startApi } from '../api/server.ts';
import type { Settings } from '../config/schema.ts';
import { systemClock } from '../core/clock.ts';
import { Counters } from '../core/metrics.ts';
import type { ShardHandle } from '../join/shard-handle.ts';
import { compileMask } from '../otlp/mask.ts';
import { createAdmission } from '../receive/admission.ts';
import { startGrpcServer } from '../receive/grpc-server.ts';
import { startHttpServer } from '../receive/http-server.ts';
import { createInFlight } from '../receive/in-flight.ts';
import type { Store } from '../store/port.ts';
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
import type { Telemetry } from './telemetry.ts';

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

/** What the stages share once the folder and the store are open. */
interface House extends Surroundings {
  readonly settings: Settings;
  readonly teardown: Teardown;
  readonly counters: Counters;
  readonly disk: OpenDisk;
  readonly store: Store;
  readonly shards: readonly ShardHandle[];
  readonly observers: ReturnType<typeof createObservers>;
  readonly budget: ReturnType<typeof createBudget>;
  readonly state: State;
}

interface State {
  /** Undefined until the write-ahead log is replayed. */
  pump: Pump | undefined;
  replaying: boolean;
  stopping: boolean;
}

const clock = systemClock;

async function start(settings: Settings, surroundings: Surroundings, teardown: Teardown): Promise<RunningSpantrail> {
  const { log } = surroundings;
  const counters = new Counters();
  const disk = await openDisk(settings, counters, log, teardown);
  const store = await openStore(settings);
  teardown.add(() => store.close());
  if (settings.store.setUp) await store.setUp();
  const shards = startShards(settings, disk);
  teardown.add(() => Promise.all(shards.map((shard) => shard.close())));
  const state: State = { pump: undefined, replaying: true, stopping: false };
  disk.wal.onDurable((frame) => {
    for (const shard of shards) shard.ingest(frame, clock.nowMs());
    state.pump?.wake();
  });
  const budget = budgetOf(settings, disk, state);
  const observers = createObservers();
  const house: House = { ...surroundings, settings, teardown, counters, disk, store, shards, observers, budget, state };

  const { grpc, http } = await startReceivers(house);
  const telemetry = loadTelemetry(house, [grpc, http]);
  const api = await startHouseApi(house, telemetry);
  const replayed = startJoining(house);
  const ports = { grpc, http, api };
  log.info({ ...ports, store: settings.store.type, dataDir: settings.dataDir }, 'ready');
  return { ports, replayed, close: () => teardown.run(log) };
}

function budgetOf(settings: Settings, { wal }: OpenDisk, state: State) {
  const bytesAtStart = wal.bytes;
  return createBudget(() => {
    const status = state.pump?.status();
    return [
      // Until the replay is over, what came since the start counts as not stored.
      { used: status?.unsettledBytes ?? wal.bytes - bytesAtStart, max: settings.wal.unsettledBytesMax },
      // The index makes room by letting stored traces go and settling early; over twice its size it no longer can.
      { used: status?.indexBytes ?? 0, max: 2 * settings.join.indexBytesMax },
    ];
  });
}

async function startReceivers({ settings, disk, counters, budget, log, teardown }: House) {
  const { receive } = settings;
  const admit = createAdmission({
    wal: disk.wal,
    counters,
    mask: compileMask({ attributes: receive.maskAttributes, queryParameters: receive.maskQueryParameters }),
    namespace: settings.namespace,
    budget,
    trust: compileTrust(settings),
    clock,
    onAppendFailure: (error) => log.error({ error }, 'evidence could not be made durable; senders are told to retry'),
  });
  const shared = {
    admit,
    inFlight: createInFlight(receive.inFlightBytesMax),
    counters,
    requestBytesMax: receive.maxRequestBytes,
    onFault: (error: unknown) => log.error({ error }, 'receiver failed'),
  };
  const grpc = await startGrpcServer({ ...shared, ...receive.grpc, stallMs: STALL_MS });
  teardown.add(() => grpc.close(CLOSE_GRACE_MS));
  const http = await startHttpServer({ ...shared, ...receive.http, headersMs: HEADERS_MS, requestMs: REQUEST_MS });
  teardown.add(() => http.close(CLOSE_GRACE_MS));
  return { grpc: grpc.port, http: http.port };
}

/** Loading the SDK takes longer than all the rest of the start; nothing waits for it. */
function loadTelemetry({ state, teardown, ...house }: House, ownPorts: readonly number[]): Promise<Telemetry> {
  const refreshGauges = async () => void (await state.pump?.refreshStatus());
  const telemetry = import('./telemetry.ts').then(({ startTelemetry }) =>
    startTelemetry({ ...house, refreshGauges, ownPorts }),
  );
  telemetry.catch((error: unknown) => house.log.error({ error }, 'own telemetry did not start'));
  teardown.add(async () => (await telemetry).shutdown());
  return telemetry;
}

async function startHouseApi(house: House, telemetry: Promise<Telemetry>): Promise<number> {
  const { settings, store, version, counters, shards, observers, budget, state, log, teardown } = house;
  const api = await startApi(settings.api, {
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
  return api.port;
}

/**
 * Replays what the last run left, then starts the pump. Evidence is accepted meanwhile; nothing is settled before the end,
 * so that no trace is seen in part.
 */
async function startJoining(house: House): Promise<void> {
  const { settings, disk, store, shards, observers, counters, state, log, teardown } = house;
  const { horizonAgeMs, horizonBytesMax } = settings.wal;
  const replayed = replayInto(shards, disk.journal, disk.wal, clock);
  teardown.add(async () => {
    state.stopping = true;
    await replayed.catch(() => undefined);
    await state.pump?.drain();
  });
  const result = await replayed;
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
    settings: { ...PUMP_DEFAULTS, batchRecordsMax: settings.store.batchRecordsMax, horizonAgeMs, horizonBytesMax },
  });
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
