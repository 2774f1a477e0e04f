import type { Sum } from '../api/contract.ts';
import { type Clock, type Scheduler, systemScheduler } from '../core/clock.ts';
import type { CoverageNote } from '../core/coverage.ts';
import { AppError, describeError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import { lastingWrite, type RecordWrite } from '../core/settlement.ts';
import type { SettledBatch } from '../join/batch.ts';
import type { JoinStats } from '../join/join-stats.ts';
import type { ShardHandle } from '../join/shard-handle.ts';
import type { Store } from '../store/port.ts';
import type { DiskSpace } from '../wal/disk-space.ts';
import type { Quarantine } from '../wal/quarantine.ts';
import type { SettleJournal } from '../wal/settle-journal.ts';
import type { Wal } from '../wal/wal.ts';
import type { Detect } from './detect.ts';
import { annotateAll } from './pump-annotate.ts';
import { MarkedJournal, Turns } from './pump-journal.ts';
import { dropStored } from './pump-segments.ts';
import { GROW_MS, sizeOf, WriteSize } from './pump-size.ts';
import { type PumpStatus, pendingOf, type Segments, setGauges, storedBefore, sum, summarise } from './pump-status.ts';
import { openTexts, type RecordTexts } from './pump-texts.ts';
import { countsOf, forgetWrites, lastRevisions, writeAll, writesOf } from './pump-writes.ts';
import { Sleepers } from './sleepers.ts';
import { type Sums, sumsOf } from './sums.ts';

export interface PumpSettings {
  /** Records written at a time at most (the records of one trace are never split). */
  readonly batchRecordsMax: number;
  /** Stored segments of the write-ahead log are kept for late evidence this long … */
  readonly horizonAgeMs: number;
  /** … and while those that are kept for that alone have at most this many bytes. */
  readonly horizonBytesMax: number;
  /** After a failure of the store, a random wait up to this, doubled with each further failure … */
  readonly retryFirstMs: number;
  /** … up to this. */
  readonly retryMaxMs: number;
}

export const PUMP_DEFAULTS: PumpSettings = {
  batchRecordsMax: 5_000,
  horizonAgeMs: 3_600_000,
  horizonBytesMax: 8 * 1024 ** 3,
  retryFirstMs: 200,
  retryMaxMs: 30_000,
};

/** A shard is looked after at least this often, also when nothing is due or no write comes through: segments go. */
const SLEEP_MAX_MS = 1_000;

/** News about the shards is looked at together, this long after the first: no trace can be due much sooner. */
const WAKE_DELAY_MS = 50;

/** Records due next that are written early when there is none else to try the store with. */
const PROBES_DUE_MAX = 8;

const NO_MARK = 'no mark was left in the settle journal: the next start reads more of the write-ahead log again';

const STORE = { stage: 'store' } as const;

const AGAIN = 'batch not stored, will be tried again';

/** The pump was stopped before a batch was stored: it stays in the write-ahead log. */
const STOPPED = new Error('the pump was stopped');

export interface PumpLog {
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}

export interface PumpOptions {
  readonly shards: readonly ShardHandle[];
  readonly store: Pick<Store, 'write' | 'get'>;
  /** As the store's capabilities say; default: false. */
  readonly takesTexts?: boolean;
  readonly journal: Pick<SettleJournal, 'append' | 'appendEncoded' | 'dropBefore' | 'bytes' | 'firstSegment'>;
  readonly wal: Pick<Wal, 'segments' | 'drop' | 'bytes' | 'sealAged'>;
  /** Absent: there is always room. */
  readonly diskSpace?: Pick<DiskSpace, 'status'>;
  readonly quarantine: Pick<Quarantine, 'add'>;
  /** Told of what is stored and in the journal: nothing is told twice, whatever crashes. */
  readonly coverage?: { add(notes: readonly CoverageNote[]): void };
  /** Adds to records what is known from beyond their traces; in place, once they are settled. */
  readonly annotate?: (writes: readonly RecordWrite[]) => void;
  /** Looks at what the store has taken, before the journal says so: the same may be shown again. */
  readonly detect?: Pick<Detect, 'observe' | 'lookAt'>;
  readonly counters: Counters;
  /** Over `counters`, restored from the journal; frames are counted as they become durable. */
  readonly sums: Sums;
  readonly clock: Clock;
  /** Default: the machine's timers. */
  readonly scheduler?: Scheduler;
  readonly log: PumpLog;
  readonly settings: PumpSettings;
}

export type { PumpStatus } from './pump-status.ts';

export interface Pump {
  /** There is new evidence in the shards. */
  wake(): void;
  /** Stops after the batches in flight; what is not settled stays in the write-ahead log for the next start. */
  drain(): Promise<void>;
  /** Settles and stores everything that is in the index, due or not. */
  settleAll(): Promise<void>;
  /** As of the last look, at most about a second ago. */
  status(): PumpStatus;
  refreshStatus(): Promise<PumpStatus>;
}

/** Moves settled batches from the shards to the store and then to the settle journal, and lets go of old segments. */
export function startPump(options: PumpOptions): Pump {
  return new RunningPump(options);
}

class RunningPump implements Pump {
  readonly #options: PumpOptions;
  readonly #scheduler: Scheduler;
  readonly #loops: Promise<void>[];
  readonly #sleepers: Sleepers;
  #status: PumpStatus;
  #refreshing: Promise<unknown> = Promise.resolve();
  #cancelWake: (() => void) | undefined;
  /** The store has one writer: batches of several shards take turns. */
  readonly #writing = new Turns();
  readonly #journal: MarkedJournal;
  /** Records settled that are not stored, set aside or given up yet. */
  #recordsPending = 0;
  #storeFailure: string | undefined;
  #isDropping = false;
  /** What is to be written next, by shard, and a record that was written: to tell a bad record from a store that is down. */
  readonly #gathered = new Map<ShardHandle, readonly SettledBatch[]>();
  #stored: RecordWrite | undefined;
  #probes = 0;

  constructor(options: PumpOptions) {
    this.#options = options;
    this.#scheduler = options.scheduler ?? systemScheduler;
    this.#sleepers = new Sleepers(this.#scheduler);
    this.#journal = new MarkedJournal(options);
    this.#status = this.#statusOf([], options.wal.segments(), []);
    this.#loops = [...options.shards.map((shard) => this.#run(shard)), this.#watch()];
  }

  wake(): void {
    if (this.#cancelWake !== undefined || this.#sleepers.isStopped) return;
    this.#cancelWake = this.#scheduler.after(WAKE_DELAY_MS, () => {
      this.#cancelWake = undefined;
      this.#sleepers.wakeAll();
    });
  }

  async drain(): Promise<void> {
    this.#cancelWake?.();
    this.#sleepers.stop();
    await Promise.all(this.#loops);
    // So that the next start has nothing to read again but what is not stored.
    await this.#look();
    await this.#journal.mark().catch((error: unknown) => this.#options.log.warn({ error }, NO_MARK));
  }

  async settleAll(): Promise<void> {
    for (;;) {
      await Promise.all(this.#options.shards.map((shard) => shard.flush()));
      this.#sleepers.wakeAll();
      const { evidencePending } = await this.refreshStatus();
      if (evidencePending === 0 || this.#sleepers.isStopped) return;
      await this.#sleepers.sleep(WAKE_DELAY_MS);
    }
  }

  status(): PumpStatus {
    return this.#status;
  }

  async refreshStatus(): Promise<PumpStatus> {
    const { segments, stats } = await this.#look();
    await this.#letGo(segments, stats);
    return this.#status;
  }

  /** Asks the shards, one time after the other, so that what is derived from two answers never mixes. */
  #look(): Promise<{ segments: Segments; stats: JoinStats[] }> {
    const look = this.#refreshing.then(async () => {
      const { shards, clock, wal, sums, counters } = this.#options;
      // Of one moment, because calls to shards are worked off in order: what the counters know of, the shards know of, too, and
      // they have seen everything that is in segments sealed by now.
      const moment = sums.moment(this.#recordsPending);
      const segments = wal.segments();
      const stats = await Promise.all(shards.map((shard) => shard.stats(clock.nowMs())));
      const ignored = stats.map((shard) => shard.ignored);
      const told = sumsOf(moment, pendingOf(stats), ignored);
      this.#status = this.#statusOf(stats, segments, told);
      if (!stats.some((shard) => shard.isReplaying)) {
        sums.advance(storedBefore(stats, segments), ignored);
        for (const shard of shards) shard.forgetIgnored(sums.storedBefore);
      }
      setGauges(counters, this.#status);
      return { segments, stats };
    });
    this.#refreshing = look.catch(() => undefined);
    return look;
  }

  /**
   * One shard's loop: while batches are written, the next ones are settled, up to a write's worth. A store that takes long, or
   * fails with all that it is given, so gets to see more.
   */
  async #run(shard: ShardHandle): Promise<void> {
    const { clock, settings } = this.#options;
    const size = new WriteSize(settings.batchRecordsMax);
    const texts = openTexts(this.#options);
    let finishing: Promise<void> | undefined;
    let batches: SettledBatch[] = [];
    while (!this.#sleepers.isStopped) {
      const wakes = this.#sleepers.wakes;
      await this.#gather(shard, batches, size.records, texts);
      this.#gathered.set(shard, batches);
      const gathered = sizeOf(batches);
      if (batches.length > 0 && finishing === undefined) {
        const chunks = texts?.takeChunks() ?? [];
        const finished = this.#finish(shard, batches).then(() => {
          texts?.recycle(chunks);
          if (finishing === finished) finishing = undefined;
        });
        finishing = finished;
        batches = [];
      } else if (finishing !== undefined && gathered >= size.records) {
        await (size.isLargest ? finishing : Promise.race([finishing, this.#sleepers.sleep(GROW_MS)]));
        size.grow();
      } else {
        size.restAt(gathered);
        // Not longer than news, also while a batch is written: a record that the store fails with is told by the next ones that it
        // takes, and a huge trace is worked on.
        const nowMs = clock.nowMs();
        const dueAtMs = (await shard.nextDueAtMs(nowMs)) ?? Number.POSITIVE_INFINITY;
        const slept = this.#sleepers.sleep(Math.min(Math.max(dueAtMs - nowMs, 1), SLEEP_MAX_MS), wakes);
        await (finishing === undefined ? slept : Promise.race([finishing, slept]));
      }
    }
    await finishing;
  }

  /** By itself, because the shards' loops wait for the store: refusal is decided by these figures just while it is away. */
  async #watch(): Promise<void> {
    while (!this.#sleepers.isStopped) {
      await this.refreshStatus();
      this.#journal.markWhenQuiet();
      await this.#sleepers.sleepThrough(SLEEP_MAX_MS);
    }
  }

  /** Adds what is due, up to so many records: a take is kept short for the sake of the event loop, a write large for the store's. */
  async #gather(shard: ShardHandle, batches: SettledBatch[], recordsMax: number, texts?: RecordTexts): Promise<void> {
    for (let size = sizeOf(batches); size < recordsMax; ) {
      const batch = await shard.take(this.#options.clock.nowMs(), recordsMax - size);
      if (batch === undefined) break;
      await annotateAll(writesOf([batch]), this.#options.annotate, this.#scheduler);
      texts?.make(batch.traces);
      batches.push(batch);
      size += sizeOf([batch]);
      this.#countRecords(sum(batch.traces, (trace) => trace.writes.length));
      await new Promise<void>((resolve) => this.#scheduler.after(0, resolve));
    }
  }

  /**
   * The order matters: the records are durable in the store before the journal says so, and the journal is durable before
   * the shard lets go of the evidence. A crash in between repeats the same writes, which changes nothing.
   */
  async #finish(shard: ShardHandle, batches: readonly SettledBatch[]): Promise<void> {
    try {
      await this.#writing.take(async () => {
        const counts = await this.#write(batches);
        await this.#remember(shard, batches, counts);
        forgetWrites(batches);
      });
    } catch (thrown) {
      if (thrown !== STOPPED) throw thrown;
    }
  }

  /** Writes the batches' records, and sets aside what cannot be stored. What there is to count when the journal has them. */
  async #write(batches: readonly SettledBatch[]): Promise<Counters> {
    const { store, quarantine, log } = this.#options;
    const writes = writesOf(batches);
    const superseded = batches.flatMap((batch) => batch.superseded);
    const announced = batches.flatMap((batch) => batch.announced);
    if (announced.length > 0) await this.#retry('the journal', () => this.#options.journal.append(announced));
    const last = await this.#retry('the store', (failures) => lastRevisions(superseded, { store, log, failures }));
    this.#countRecords(last.length);
    await annotateAll(last, this.#options.annotate, this.#scheduler);
    writes.push(...last);
    const result = await writeAll(writes, {
      write: (part) => this.#noting('the store', () => store.write(part)),
      pause: (thrown, failures) => this.#pause(thrown, failures),
      others: () => this.#others(),
    });
    const reasons = new Map(result.rejected.map(({ id, reason }) => [id, reason]));
    const taken = reasons.size === 0 ? writes : writes.filter(({ id }) => !reasons.has(id));
    this.#stored = taken[0] ? lastingWrite(taken[0]) : this.#stored;
    await this.#retry('the rules', async () => this.#options.detect?.observe(taken));
    const refused = reasons.size === 0 ? [] : writes.filter(({ id }) => reasons.has(id));
    const rejected = refused.map((write) => {
      return { ...STORE, reason: reasons.get(write.id) ?? '', id: write.id, body: lastingWrite(write) };
    });
    const aside = [...batches.flatMap((batch) => batch.quarantined), ...rejected];
    if (aside.length > 0) {
      const entries = aside.map(({ stage, reason, id, body }) => ({ stage, reason, id, body }));
      await this.#retry('the quarantine', () => quarantine.add(entries));
    }
    return countsOf(batches, writes, result, rejected.length);
  }

  /** Tells the journal, and then at once the shard and those who count. */
  #remember(shard: ShardHandle, batches: readonly SettledBatch[], counts: Counters): Promise<void> {
    const entries = batches.map((batch) => batch.entries);
    const records =
      counts.total('written') + counts.total('outranked') + counts.total('quarantined', { stage: 'store' });
    const retry = <Result>(attempt: () => Promise<Result>) => this.#retry('the settle journal', attempt);
    return this.#journal.append(entries, counts, retry, (positions) => {
      this.#recordsPending -= records;
      const told = batches.map(({ number, coverage }, at) => {
        this.#options.coverage?.add(coverage);
        return shard.stored(number, positions[at] ?? []);
      });
      return Promise.all(told);
    });
  }

  #countRecords(count: number): void {
    this.#recordsPending += count;
    this.#options.counters.add('records', count);
  }

  #others(): RecordWrite[] {
    const due = [...this.#gathered.values()].flatMap((batches) =>
      batches.flatMap((batch) => batch.traces.flatMap((trace) => trace.writes.slice(0, 1))),
    );
    // Others each time: the first ones may be bad, too.
    const start = due.length === 0 ? 0 : (this.#probes++ * PROBES_DUE_MAX) % due.length;
    return [...(this.#stored ? [this.#stored] : []), ...due.slice(start, start + PROBES_DUE_MAX)];
  }

  /** Tries until it works. Throws STOPPED when the pump is stopped meanwhile. */
  async #retry<Result>(of: string, attempt: (failures: number) => Promise<Result>): Promise<Result> {
    for (let failures = 0; ; failures++) {
      try {
        return await this.#noting(of, () => attempt(failures));
      } catch (thrown) {
        await this.#pause(thrown, failures);
      }
    }
  }

  /** Keeps what the last attempt said, for the status. */
  async #noting<Result>(of: string, attempt: () => Promise<Result>): Promise<Result> {
    try {
      const result = await attempt();
      this.#storeFailure = undefined;
      return result;
    } catch (thrown) {
      this.#storeFailure = of === 'the store' ? describeError(thrown) : `${of}: ${describeError(thrown)}`;
      throw thrown;
    }
  }

  /** Random waits whose limit doubles with each failure, up to a limit of its own. */
  async #pause(thrown: unknown, failuresBefore: number): Promise<void> {
    const { log, counters, settings } = this.#options;
    const isExpected = thrown instanceof AppError && thrown.retryable;
    const failures = failuresBefore + 1;
    // Where the code of ours stands says nothing about a store that is away.
    if (isExpected) log.warn({ reason: describeError(thrown), failures }, AGAIN);
    else log.error({ error: thrown, failures }, AGAIN);
    if (this.#sleepers.isStopped) throw STOPPED;
    counters.add('write_retries', 1);
    const waitMaxMs = Math.min(settings.retryFirstMs * 2 ** failuresBefore, settings.retryMaxMs);
    await this.#sleepers.sleepThrough(this.#scheduler.random() * waitMaxMs);
  }

  async #letGo(segments: Segments, stats: readonly JoinStats[]): Promise<void> {
    if (this.#isDropping || stats.some((shard) => shard.isReplaying)) return;
    this.#isDropping = true;
    try {
      await dropStored(this.#options, segments, stats);
    } catch (thrown) {
      this.#options.log.warn({ error: thrown }, 'stored segments not removed, will be tried again');
    } finally {
      this.#isDropping = false;
    }
  }

  #statusOf(stats: readonly JoinStats[], segments: Segments, sums: readonly Sum[]): PumpStatus {
    const { clock, wal } = this.#options;
    const look = { nowMs: clock.nowMs(), stats, segments, walBytes: wal.bytes };
    return { ...summarise(look), storeFailure: this.#storeFailure, sums };
  }
}
