import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Readiness } from '../api/readiness.ts';
import { startApi } from '../api/server.ts';
import type { Settings } from '../config/schema.ts';
import { systemClock, systemScheduler } from '../core/clock.ts';
import { Counters } from '../core/metrics.ts';
import { startGrpcServer } from '../receive/grpc-server.ts';
import { startHttpServer } from '../receive/http-server.ts';
import { createInFlight, type InFlight } from '../receive/in-flight.ts';
import { CLIENT_TIMES } from '../receive/listen.ts';
import { createGate } from '../receive/senders.ts';
import type { Store } from '../store/port.ts';
import { lockDataFolder, openDataFolder } from '../wal/data-folder.ts';
import { nodeDisk } from '../wal/disk.ts';
import { openAlertDesk, type RunningAlertDesk } from './alerts.ts';
import { type Coverage, startCoverage } from './coverage.ts';
import { type Detect, type DetectOptions, openDetect } from './detect.ts';
import { watchPipeline } from './detect-watch.ts';
import { type Doors, openDoors } from './doors.ts';
import { openEventReceivers } from './event-receivers.ts';
import { createObservers } from './observers.ts';
import { traced } from './own-spans.ts';
import { describePipeline } from './pipeline.ts';
import { PUMP_DEFAULTS } from './pump.ts';
import { createQuarantineDesk } from './quarantine.ts';
import { createReadRecorder } from './read-records.ts';
import { createReadiness } from './readiness.ts';
import { createReconcileDesk } from './reconcile.ts';
import { createSpanRedaction } from './redaction.ts';
import { definitionText } from './rule-files.ts';
import { type SetUp, startSetUp } from './set-up.ts';
import { openSources } from './sources.ts';
import { openStages, type Stages } from './stages.ts';
import { startStoreCare } from './store-care.ts';
import { openStore } from './stores.ts';
import { startTelemetry, type Telemetry } from './telemetry.ts';

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
  /** Told of bytes of requests as they come in, and of what the index takes once a log that is not short is replayed. */
  readonly received?: (bytes: number) => void;
}

/** Requests in work get this long to finish when the process stops. */
const CLOSE_GRACE_MS = 5_000;

/** A batch that is being written, or a replay, gets this long when the process stops. */
const DRAIN_MS = 8_000;
/** A store that does not answer is not waited for when it is closed. */
const STORE_CLOSE_MS = 3_000;

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

const RECORDS_GONE =
  'records.duckdb is new, though the settle journal knows of records written before: put a backup of it in place, or run `spantrail reconcile --restore` for those whose evidence is still in the write-ahead log';

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
  readonly doors: Doors;
  readonly store: Store;
  readonly setUp: SetUp;
  readonly stages: Stages;
  readonly coverage: Coverage;
  readonly observers: ReturnType<typeof createObservers>;
  readonly alerts: RunningAlertDesk;
  /** Undefined when rules are switched off. */
  readonly detect: Detect | undefined;
  readonly readiness: () => Readiness;
}

const clock = systemClock;

async function start(settings: Settings, surroundings: Surroundings, teardown: Teardown): Promise<RunningSpantrail> {
  const { log } = surroundings;
  const counters = new Counters();
  const doors = await openDoors({ settings, clock, counters, log });
  teardown.add(async () => doors.close());
  const folder = await openDataFolder(settings.dataDir);
  const lock = await lockDataFolder(folder, { report: (words) => log.warn(words) });
  teardown.add(() => lock.release());
  const isNewStore = settings.store.type === 'duckdb' && !existsSync(join(folder, 'records.duckdb'));
  const store = await openStore(settings);
  teardown.add(() => inTime(store.close(), STORE_CLOSE_MS, log, 'the store did not close in time'));
  const setUp = await prepareStore(store, settings, log);
  teardown.add(async () => setUp.stop());
  if (store.care) {
    const care = startStoreCare({ care: store.care, clock, counters, log });
    teardown.add(async () => care.stop());
  }
  let opened: Stages | undefined;
  const coverage = await startCoverage({
    ...{ settings: settings.coverage, folder, disk: nodeDisk, clock, scheduler: systemScheduler, counters, log },
    // Until the replay is over it is not known what waits.
    lagMs: () => opened?.state.pump?.status().lagMs ?? Number.POSITIVE_INFINITY,
  });
  teardown.add(() => coverage.close());
  let detect: Detect | undefined;
  const alerts = await openAlertDesk({
    ...{ settings: settings.notify, folder, disk: nodeDisk, clock, scheduler: systemScheduler, counters, log },
    ...{ store: store.alerts, notReady: () => setUp.failure(), version: surroundings.version },
    onDead: ({ channel, reason }) => {
      detect?.tell({
        action: 'pipeline.notice_dead',
        reason: `a notice was given up: ${reason ?? 'unknown'}`,
        of: channel,
      });
    },
  });
  teardown.add(() => alerts.close());
  detect = await startRules(settings, { folder, counters, desk: alerts, log });
  teardown.add(async () => detect?.close());
  const sources = await openSources({ settings, folder, clock, counters, log });
  teardown.add(() => sources.close());
  const observers = createObservers();
  observers.subscribeWrites(sources.learn);
  const watched = observers.watch(await traced(setUp.store, surroundings.environment));
  const flow = { coverage, sources, ...(detect ? { detect } : {}) };
  const { takesTexts } = store.capabilities;
  const stages = await openStages({ settings, folder, clock, store: watched, takesTexts, counters, log, ...flow });
  opened = stages;
  teardown.add(() => stages.close());
  const { unsettledBytesMax } = settings.wal;
  const readiness = createReadiness({ stages, setUp, unsettledBytesMax, counters });
  const house: House = {
    ...{ ...surroundings, settings, teardown, counters, doors, store, setUp, stages, coverage, observers },
    ...{ alerts, detect, readiness },
  };

  watchHouse(house);
  const { grpc, http, inFlight } = await startReceivers(house);
  const telemetry = openTelemetry(house, inFlight, [grpc, http]);
  const api = await startHouseApi(house, telemetry);
  const replayed = stages.startJoining().then(() => {
    // Its traces settle now, whether anything is received or not.
    if (stages.state.replayIndexBytes > 0) surroundings.received?.(stages.state.replayIndexBytes);
    const written = counters.total('written');
    if (isNewStore && written > 0) log.error({ written }, RECORDS_GONE);
  });
  const waitsForStore = 'the store or the replay did not finish in time; what is not stored is in the write-ahead log';
  teardown.add(() => inTime(stages.drain(), DRAIN_MS, log, waitsForStore));
  const ports = { grpc, http, api };
  log.info({ ...ports, store: settings.store.type, dataDir: settings.dataDir }, 'ready');
  return { ports, replayed, close: () => teardown.run(log) };
}

async function startRules(
  settings: Settings,
  parts: Pick<DetectOptions, 'folder' | 'counters' | 'desk' | 'log'>,
): Promise<Detect | undefined> {
  if (!settings.detect.enabled) return undefined;
  return openDetect({ settings, disk: nodeDisk, clock, scheduler: systemScheduler, ...parts });
}

/** A store whose records rules look at: for those that do not come through the pump. */
function showing(store: Pick<Store, 'write' | 'get'>, detect: Detect | undefined): Pick<Store, 'write' | 'get'> {
  return {
    get: (id, hint) => store.get(id, hint),
    write: async (batch) => {
      const result = await store.write(batch);
      const rejected = new Set(result.rejected.map(({ id }) => id));
      await detect?.observe(batch.filter(({ id }) => !rejected.has(id)));
      return result;
    },
  };
}

/** Gaps that began in this time are told when rules begin to watch. */
const GAPS_MS = 3_600_000;

function watchHouse({ stages, setUp, coverage, counters, detect, teardown }: House): void {
  if (detect === undefined) return;
  const view = {
    counters,
    storeFailure: () => stages.state.pump?.status().storeFailure ?? setUp.failure(),
    refusing: () => {
      const { refuse, reasons } = stages.budget();
      return refuse ? `evidence is refused: ${reasons.join(', ')}` : undefined;
    },
    diskShort: () => (stages.diskSpace.status().isShort ? 'the disk of the data folder is nearly full' : undefined),
    gaps: () => coverage.summary({ fromMs: clock.nowMs() - GAPS_MS }).gaps,
  };
  const stop = watchPipeline(view, systemScheduler, (news) => detect.tell(news));
  teardown.add(async () => stop());
}

/** Only a cluster can be away; what a file says against it is for the person who starts it. */
async function prepareStore(store: Store, settings: Settings, log: Logger): Promise<SetUp> {
  if (settings.store.setUp && settings.store.type === 'elasticsearch') {
    return startSetUp(store, { ...PUMP_DEFAULTS, log });
  }
  if (settings.store.setUp) await store.setUp();
  return { store, failure: () => undefined, stop: () => undefined };
}

/** Waits for the work to end, but not longer; then says so and goes on. */
async function inTime(work: Promise<unknown>, waitMs: number, log: Logger, words: string): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<'late'>();
  const timer = setTimeout(resolve, waitMs, 'late');
  const first = await Promise.race([work, late]).finally(() => clearTimeout(timer));
  if (first === 'late') log.warn({ waitMs }, words);
}

async function startReceivers({ settings, stages, counters, doors, log, teardown, received }: House) {
  const { receive } = settings;
  const { inFlightBytesMax: bytesMax, connectionsMax } = receive;
  const inFlight = createInFlight({ bytesMax, connectionsMax, ...(received && { onBytes: received }) });
  const shared = {
    admit: stages.admit,
    budget: stages.budget,
    inFlight,
    times: CLIENT_TIMES,
    gate: createGate({ authenticator: doors.authenticator, counters, clock }),
    counters,
    requestBytesMax: receive.maxRequestBytes,
    onFault: (error: unknown) => log.error({ error }, 'receiver failed'),
  };
  const { methods, routes } = openEventReceivers(settings, { admit: stages.admit, counters, clock });
  const grpc = await startGrpcServer({ ...shared, ...receive.grpc, tls: doors.tls.grpc, methods });
  teardown.add(() => grpc.close(CLOSE_GRACE_MS));
  const http = await startHttpServer({ ...shared, ...receive.http, tls: doors.tls.http, routes });
  teardown.add(() => http.close(CLOSE_GRACE_MS));
  return { grpc: grpc.port, http: http.port, inFlight };
}

function openTelemetry(
  { stages, teardown, ...house }: House,
  inFlight: InFlight,
  ownPorts: readonly number[],
): Telemetry {
  const refreshGauges = async () => {
    house.counters.set('in_flight_bytes', inFlight.bytes);
    house.counters.set('in_flight_requests', inFlight.requests);
    house.counters.set('connections', inFlight.connections);
    await stages.state.pump?.refreshStatus();
    house.readiness();
  };
  const telemetry = startTelemetry({ ...house, refreshGauges, ownPorts });
  teardown.add(telemetry.shutdown);
  return telemetry;
}

async function startHouseApi(house: House, telemetry: Telemetry): Promise<number> {
  const { settings, store, setUp, version, counters, observers, log, teardown } = house;
  const { shards, budget, state } = house.stages;
  const redactSpan = createSpanRedaction(settings);
  const api = await startApi(settings.api, {
    store,
    clock,
    version,
    access: {
      authenticator: house.doors.authenticator,
      counters,
      record: createReadRecorder({ admit: house.stages.admit, clock, counters }),
    },
    tls: house.doors.tls.api,
    isGuarded: settings.insecure,
    subscribe: observers.subscribe,
    readTrace: async (traceId) =>
      (await Promise.all(shards.map((shard) => shard.spansOf(traceId)))).flat().map(redactSpan),
    pipeline: async () => {
      const status = await state.pump?.refreshStatus();
      const { replaying } = state;
      const storeFailure = status?.storeFailure ?? setUp.failure();
      house.readiness();
      return describePipeline({ settings, counters, status, storeFailure, replaying, refusing: budget().refuse });
    },
    quarantine: createQuarantineDesk({
      quarantine: house.stages.quarantine,
      store: showing(observers.watch(setUp.store), house.detect),
      readFrame: (position) => house.stages.wal.read(position),
      append: (frame) => house.stages.wal.appendAgain(frame),
      repeat: async (namespace, traceId) => {
        const answers = await Promise.all(shards.map((shard) => shard.repeat(namespace, traceId)));
        state.pump?.wake();
        return answers.includes(true);
      },
    }),
    reconcile: createReconcileDesk({
      ...house.stages,
      store,
      clock,
      isReplaying: () => state.pump === undefined,
      wake: () => state.pump?.wake(),
    }),
    coverage: house.coverage,
    alerts: house.alerts,
    ...(house.detect ? { rules: house.detect } : {}),
    insights: {
      ...settings.insights,
      sensitive: await definitionText(settings.detect, 'sensitive'),
      changes: await definitionText(settings.detect, 'permission_change'),
    },
    readiness: house.readiness,
    metricsText: telemetry.metricsText,
    reportFailure: (error) => log.error({ error }, 'request failed'),
  });
  teardown.add(() => api.close());
  return api.port;
}
