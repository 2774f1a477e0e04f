import { join } from 'node:path';
import type { Settings } from '../config/schema.ts';
import { type Clock, type Scheduler, systemScheduler } from '../core/clock.ts';
import type { Counters } from '../core/metrics.ts';
import { compileNetworks } from '../core/network.ts';
import type { ShardHandle } from '../join/shard-handle.ts';
import { KnownParts } from '../otlp/known-parts.ts';
import { type Admit, createAdmission } from '../receive/admission.ts';
import type { Store } from '../store/port.ts';
import { type Disk, isDiskFull, nodeDisk } from '../wal/disk.ts';
import { DiskSpace } from '../wal/disk-space.ts';
import { Quarantine } from '../wal/quarantine.ts';
import type { SegmentReport } from '../wal/segment-files.ts';
import { SettleJournal } from '../wal/settle-journal.ts';
import { Wal } from '../wal/wal.ts';
import { createBudget } from './budget.ts';
import { type Forwarding, openForwarding } from './forward.ts';
import { PUMP_DEFAULTS, type Pump, type PumpLog, type PumpOptions, startPump } from './pump.ts';
import { isOwnEvidence } from './read-records.ts';
import { replayInto } from './replay.ts';
import { startShards, walFolder } from './shards.ts';
import { plainSources, type Sources } from './sources.ts';
import { Sums } from './sums.ts';

export interface StageLog extends PumpLog {
  info(details: object, message: string): void;
}

/** What the stages ask of their surroundings: with another disk, clock and scheduler they run in a simulation. */
export interface StageOptions {
  readonly settings: Settings;
  /** The data folder; it is there, and locked by the caller. */
  readonly folder: string;
  /** Default: the machine's. Shards on threads read from that one in any case. */
  readonly disk?: Disk;
  readonly clock: Clock;
  readonly scheduler?: Scheduler;
  /** Set up already, or `store_unavailable` until it is. */
  readonly store: Pick<Store, 'write' | 'get'>;
  readonly takesTexts?: PumpOptions['takesTexts'];
  readonly counters: Counters;
  readonly coverage?: PumpOptions['coverage'];
  readonly detect?: PumpOptions['detect'];
  /** Default: secrets are masked, and nothing is added to requests and records. */
  readonly sources?: Sources;
  readonly log: StageLog;
}

export interface StageState {
  /** Undefined until the write-ahead log is replayed. */
  pump: Pump | undefined;
  replaying: boolean;
  /** Memory of the index as the replay goes on; of no meaning later. */
  replayIndexBytes: number;
  stopping: boolean;
}

/** Everything from the admission of a request to the write into the store. */
export interface Stages {
  /** The one way in, for every transport; from the start on, also while the replay runs. */
  readonly admit: Admit;
  readonly wal: Wal;
  readonly journal: SettleJournal;
  readonly quarantine: Quarantine;
  readonly diskSpace: DiskSpace;
  readonly shards: readonly ShardHandle[];
  readonly budget: ReturnType<typeof createBudget>;
  /** Bytes of evidence that is not stored yet, as of the last look; until the replay is over, of what came since the start. */
  unsettledBytes(): number;
  readonly state: Readonly<StageState>;
  /**
   * Replays what the last run left, then starts the pump. Evidence is accepted meanwhile; nothing is settled before the
   * end, so that no trace is seen in part. Rejects when what the write-ahead log holds cannot be joined.
   */
  startJoining(): Promise<void>;
  /** Stops after the batches in flight. What is admitted later stays in the write-ahead log. */
  drain(): Promise<void>;
  close(): Promise<void>;
}

/** Opens the data folder's files and wires the stages in the order of the flow. Nothing is left open when it throws. */
export async function openStages(options: StageOptions): Promise<Stages> {
  const opened: { close(): Promise<void> }[] = [];
  // One failure does not keep the others from being closed.
  const close = async () => {
    const failures: unknown[] = [];
    for (let one = opened.pop(); one; one = opened.pop()) await one.close().catch((error) => failures.push(error));
    if (failures.length > 0) throw failures[0];
  };
  try {
    return await wire(options, opened, close);
  } catch (error) {
    await close().catch(() => undefined);
    throw error;
  }
}

async function wire(
  options: StageOptions,
  opened: { close(): Promise<void> }[],
  close: () => Promise<void>,
): Promise<Stages> {
  const { settings, clock } = options;
  const disk = await openFiles(options, opened);
  const known = new KnownParts();
  const shards = startShards(settings, { folder: options.folder, ...disk }, known);
  opened.push(...shards);
  const state: StageState = { pump: undefined, replaying: true, replayIndexBytes: 0, stopping: false };
  const sums = new Sums(options.counters);
  disk.wal.onDurable((frame) => {
    // In the same turn: what is accepted is pending, at any moment.
    sums.accept(frame);
    for (const shard of shards) shard.ingest(frame, clock.nowMs());
    state.pump?.wake();
  });
  const bytesAtStart = disk.wal.bytes;
  const unsettledBytes = () => state.pump?.status().unsettledBytes ?? disk.wal.bytes - bytesAtStart;
  const budget = budgetOf(settings, disk, state, unsettledBytes);
  const forwarding = await openForwarding({
    ...options,
    settings: settings.forward,
    disk: options.disk ?? nodeDisk,
    scheduler: options.scheduler ?? systemScheduler,
    wal: disk.wal,
    writeFailed: (error) => isDiskFull(error) && disk.diskSpace.noteFull(),
  });
  opened.push(forwarding);
  const admit = admissionOf(options, forwarding, budget, known);
  let joining: Promise<void> | undefined;
  return {
    ...disk,
    admit,
    shards,
    budget,
    unsettledBytes,
    state,
    startJoining() {
      joining ??= startJoining(options, { ...disk, shards, sums }, state);
      return joining;
    },
    async drain() {
      state.stopping = true;
      await joining?.catch(() => undefined);
      await state.pump?.drain();
    },
    close,
  };
}

interface Files {
  readonly wal: Wal;
  readonly journal: SettleJournal;
  readonly quarantine: Quarantine;
  readonly diskSpace: DiskSpace;
}

async function openFiles(options: StageOptions, opened: { close(): Promise<void> }[]): Promise<Files> {
  const { settings, folder, clock, scheduler = systemScheduler, counters, log, disk = nodeDisk } = options;
  const report = (found: SegmentReport) => log.warn(found, 'write-ahead log or journal repaired');
  const { reserveBytes, freeBytesMin, segmentAgeMs } = settings.wal;
  const diskSpace = await DiskSpace.open({
    folder,
    reserveBytes,
    freeBytesMin,
    disk,
    scheduler,
    counters,
    report: (isShort, words) => (isShort ? log.error({}, words) : log.info({}, words)),
  });
  opened.push(diskSpace);
  const writeFailed = (error: unknown) => isDiskFull(error) && diskSpace.noteFull();
  const journal = await SettleJournal.open({ folder: join(folder, 'journal'), disk, clock, report, writeFailed });
  opened.push(journal);
  const segmentFloor = await journal.newestWalSegment();
  const wal = await Wal.open({
    folder: walFolder(folder),
    segmentFloor,
    segmentBytes: settings.wal.segmentBytes,
    segmentAgeMs,
    cacheBytesMax: settings.wal.cacheBytesMax,
    isCompressed: settings.wal.compaction,
    disk,
    clock,
    counters,
    report,
    writeFailed,
  });
  opened.push(wal);
  tellMissing(wal, segmentFloor, log);
  const quarantine = await Quarantine.open(join(folder, 'quarantine'), {
    disk,
    clock,
    counters,
    bytesMax: settings.quarantine.bytesMax,
    writeFailed,
    report: (found) => log.warn(found, 'a line of the quarantine cannot be read; it is left as it is'),
  });
  opened.push(quarantine);
  return { wal, journal, quarantine, diskSpace };
}

function budgetOf({ wal, join }: Settings, { diskSpace }: Files, state: StageState, unsettledBytes: () => number) {
  return createBudget(() => [
    { of: 'budget', used: unsettledBytes(), max: wal.unsettledBytesMax },
    // The index makes room by letting stored traces go and settling early; over twice its size it no longer can.
    { of: 'memory', used: state.pump?.status().indexBytes ?? state.replayIndexBytes, max: 2 * join.indexBytesMax },
    { of: 'disk', used: diskSpace.status().isShort ? 1 : 0, max: 1 },
  ]);
}

function admissionOf(
  { settings, counters, clock, log, sources = plainSources(settings, counters) }: StageOptions,
  wal: Forwarding,
  budget: Stages['budget'],
  known: KnownParts,
): Admit {
  const { receive, namespace } = settings;
  const trusts = compileNetworks('receive.trustedPeers', receive.trustedPeers);
  const vouches = compileNetworks('receive.vouchingPeers', receive.vouchingPeers);
  return createAdmission({
    wal,
    counters,
    ...sources,
    known,
    tie: (payload, note) => (isOwnEvidence(note) ? payload : sources.tie(payload, note)),
    namespace,
    budget,
    trust: (peer, browser) => ({ trusted: !browser && trusts(peer), vouches: !browser && vouches(peer) }),
    clock,
    onAppendFailure: (error) => log.error({ error }, 'evidence could not be made durable; senders are told to retry'),
  });
}

async function startJoining(
  options: StageOptions,
  parts: Files & { readonly shards: readonly ShardHandle[]; readonly sums: Sums },
  state: StageState,
): Promise<void> {
  const { settings, counters, coverage, detect, sources, clock, scheduler = systemScheduler, log } = options;
  const { horizonAgeMs, horizonBytesMax } = settings.wal;
  const noteIndexBytes = (bytes: number) => {
    state.replayIndexBytes = bytes;
  };
  const result = await replayInto({ ...parts, clock, log, noteIndexBytes });
  if (result.entries + result.frames > 0) log.info(result, 'settle journal and write-ahead log replayed');
  state.replaying = false;
  if (state.stopping) return;
  state.pump = startPump({
    ...parts,
    store: options.store,
    takesTexts: options.takesTexts ?? false,
    counters,
    ...(coverage ? { coverage } : {}),
    ...(detect ? { detect } : {}),
    ...(sources ? { annotate: sources.annotate } : {}),
    clock,
    scheduler,
    log,
    settings: {
      ...PUMP_DEFAULTS,
      batchRecordsMax: settings.store.batchRecordsMax,
      horizonAgeMs,
      horizonBytesMax,
    },
  });
}

/** Somebody took the newest segments away, or all of them: evidence that was not stored yet may have been in them. */
function tellMissing(wal: Wal, segmentFloor: number, log: StageLog): void {
  const last = wal.segments().at(-1)?.segment ?? 0;
  if (last >= segmentFloor) return;
  log.error(
    { firstMissing: last + 1, lastMissing: segmentFloor },
    `the write-ahead log ends before what the settle journal knows: its segments ${last + 1} to ${segmentFloor} are missing, and with them all that was not stored yet. If you have them, stop, put them back and start again; otherwise it goes on with segment ${segmentFloor + 1}`,
  );
}
