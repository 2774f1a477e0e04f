import { type Clock, nsToMs, type Scheduler, systemScheduler } from '../core/clock.ts';
import type { CoverageNote } from '../core/coverage.ts';
import { AppError, describeError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import type { RecordWrite } from '../core/settlement.ts';
import type { SettledBatch } from '../join/batch.ts';
import type { JoinStats } from '../join/shard.ts';
import type { ShardHandle } from '../join/shard-handle.ts';
import type { Store } from '../store/port.ts';
import type { DiskSpace } from '../wal/disk-space.ts';
import type { Quarantine } from '../wal/quarantine.ts';
import type { JournalPosition, SettleJournal } from '../wal/settle-journal.ts';
import type { Wal } from '../wal/wal.ts';
import { dropStored } from './pump-segments.ts';
import { lastRevisions, writeAll } from './pump-writes.ts';

export interface PumpSettings {
  /** Records written at a time (the records of one trace are never split). */
  readonly batchRecordsMax: number;
  /** Stored segments of the write-ahead log are kept for late evidence this long … */
  readonly horizonAgeMs: number;
  /** … and while those that are kept for that alone have at most this many bytes. */
  readonly horizonBytesMax: number;
  /** Are stored segments compressed? */
  readonly isCompacting: boolean;
  /** After a failure of the store, a random wait up to this, doubled with each further failure … */
  readonly retryFirstMs: number;
  /** … up to this. */
  readonly retryMaxMs: number;
}

export const PUMP_DEFAULTS: PumpSettings = {
  batchRecordsMax: 5_000,
  horizonAgeMs: 3_600_000,
  horizonBytesMax: 8 * 1024 ** 3,
  isCompacting: true,
  retryFirstMs: 200,
  retryMaxMs: 30_000,
};

/** A shard is looked after at least this often, also when nothing is due or no write comes through: segments go. */
const SLEEP_MAX_MS = 1_000;

/** News about the shards is looked at together, this long after the first: no trace can be due much sooner. */
const WAKE_DELAY_MS = 50;

/** Records due next that are written early when there is none else to try the store with. */
const PROBES_DUE_MAX = 8;

/** The pump was stopped before a batch was stored: it stays in the write-ahead log. */
const STOPPED = new Error('the pump was stopped');

export interface PumpLog {
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}

export interface PumpOptions {
  readonly shards: readonly ShardHandle[];
  readonly store: Pick<Store, 'write' | 'get'>;
  readonly journal: Pick<SettleJournal, 'append' | 'dropBefore' | 'bytes' | 'firstSegment'>;
  readonly wal: Pick<Wal, 'segments' | 'drop' | 'bytes' | 'sealAged' | 'startCompaction' | 'stopCompaction'>;
  /** Absent: there is always room. */
  readonly diskSpace?: Pick<DiskSpace, 'status'>;
  readonly quarantine: Pick<Quarantine, 'add'>;
  /** Told of what is stored and in the journal: nothing is told twice, whatever crashes. */
  readonly coverage?: { add(notes: readonly CoverageNote[]): void };
  readonly counters: Counters;
  readonly clock: Clock;
  /** Default: the machine's timers. */
  readonly scheduler?: Scheduler;
  readonly log: PumpLog;
  readonly settings: PumpSettings;
}

/** What is pending, over all shards. */
export interface PumpStatus {
  readonly tracesOpen: number;
  readonly tracesStored: number;
  readonly evidencePending: number;
  readonly indexBytes: number;
  readonly indexBytesMax: number;
  readonly replayed: number;
  readonly walBytes: number;
  /** Bytes of segments that hold evidence not stored yet: what refusal is decided by. */
  readonly unsettledBytes: number;
  /** Age of the oldest evidence not stored yet, 0 when there is none. */
  readonly lagMs: number;
  /** Age of the oldest evidence that late evidence can still join. */
  readonly horizonMs: number;
  /** The store failed and has not taken a batch since: what it said. */
  readonly storeFailure: string | undefined;
}

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
  readonly #sleepers = new Set<() => void>();
  #status: PumpStatus;
  #ignored = 0;
  #stopping = false;
  #cancelWake: (() => void) | undefined;
  /** The store and the journal have one writer: batches of several shards take turns. */
  #writing: Promise<unknown> = Promise.resolve();
  #storeFailure: string | undefined;
  #isDropping = false;
  /** What is to be written next, by shard, and a record that was written: to tell a bad record from a store that is down. */
  readonly #gathered = new Map<ShardHandle, readonly SettledBatch[]>();
  #stored: RecordWrite | undefined;
  /** Wake-ups so far: one that comes while a loop is busy must not be slept over. */
  #wakes = 0;

  constructor(options: PumpOptions) {
    this.#options = options;
    this.#scheduler = options.scheduler ?? systemScheduler;
    this.#status = this.#summarise([], options.wal.segments());
    this.#loops = [...options.shards.map((shard) => this.#run(shard)), this.#watch()];
  }

  wake(): void {
    if (this.#cancelWake !== undefined || this.#stopping) return;
    this.#cancelWake = this.#scheduler.after(WAKE_DELAY_MS, () => {
      this.#cancelWake = undefined;
      this.#wakeAll();
    });
  }

  async drain(): Promise<void> {
    this.#stopping = true;
    this.#cancelWake?.();
    this.#wakeAll();
    await Promise.all(this.#loops);
  }

  async settleAll(): Promise<void> {
    for (;;) {
      await Promise.all(this.#options.shards.map((shard) => shard.flush()));
      this.#wakeAll();
      const { evidencePending } = await this.refreshStatus();
      if (evidencePending === 0 || this.#stopping) return;
      await this.#sleep(WAKE_DELAY_MS);
    }
  }

  status(): PumpStatus {
    return this.#status;
  }

  async refreshStatus(): Promise<PumpStatus> {
    const { shards, clock, wal, counters } = this.#options;
    // Before the shards are asked: they have seen everything that is in segments sealed by now.
    const segments = wal.segments();
    const stats = await Promise.all(shards.map((shard) => shard.stats(clock.nowMs())));
    this.#status = this.#summarise(stats, segments);
    const ignored = sum(stats, (shard) => sum([...shard.ignored.values()], (count) => count));
    counters.add('evidence', ignored - this.#ignored, { signal: 'logs', use: 'context' });
    this.#ignored = ignored;
    counters.set('traces_open', this.#status.tracesOpen);
    counters.set('traces_stored', this.#status.tracesStored);
    counters.set('evidence_pending', this.#status.evidencePending);
    counters.set('replayed', this.#status.replayed);
    counters.set('wal_bytes', this.#status.walBytes);
    counters.set('wal_unsettled_bytes', this.#status.unsettledBytes);
    counters.set('wal_lag_ms', this.#status.lagMs);
    counters.set('horizon_ms', this.#status.horizonMs);
    await this.#letGo(segments, stats);
    return this.#status;
  }

  /** One shard's loop: while a batch is written, the next one is settled. */
  async #run(shard: ShardHandle): Promise<void> {
    const { clock } = this.#options;
    let finishing: Promise<void> | undefined;
    while (!this.#stopping) {
      const wakes = this.#wakes;
      const batches = await this.#gather(shard);
      this.#gathered.set(shard, batches);
      if (batches.length > 0) {
        await finishing;
        const finished = this.#finish(shard, batches).then(() => {
          if (finishing === finished) finishing = undefined;
        });
        finishing = finished;
      } else if (finishing !== undefined) {
        // Not longer than news: a record that the store fails with is told by the next ones that it takes.
        await Promise.race([finishing, this.#sleep(SLEEP_MAX_MS, wakes)]);
      } else {
        const nowMs = clock.nowMs();
        const dueAtMs = (await shard.nextDueAtMs(nowMs)) ?? Number.POSITIVE_INFINITY;
        await this.#sleep(Math.min(Math.max(dueAtMs - nowMs, 1), SLEEP_MAX_MS), wakes);
      }
    }
    await finishing;
  }

  /** By itself, because the shards' loops wait for the store: refusal is decided by these figures just while it is away. */
  async #watch(): Promise<void> {
    while (!this.#stopping) {
      await this.refreshStatus();
      await this.#sleepUntilStopped(SLEEP_MAX_MS);
    }
  }

  /**
   * What is due, up to a write's worth: a take is kept short for the sake of the event loop, a write large for the store's.
   * A trace without a record and what is set aside count as one, so that a write ends also where there is none.
   */
  async #gather(shard: ShardHandle): Promise<SettledBatch[]> {
    const { clock, settings } = this.#options;
    const batches: SettledBatch[] = [];
    let size = 0;
    while (size < settings.batchRecordsMax) {
      const batch = await shard.take(clock.nowMs(), settings.batchRecordsMax - size);
      if (batch === undefined) break;
      batches.push(batch);
      size += sum(batch.traces, (trace) => Math.max(trace.writes.length, 1)) + batch.quarantined.length;
      await new Promise<void>((resolve) => this.#scheduler.after(0, resolve));
    }
    return batches;
  }

  /**
   * The order matters: the records are durable in the store before the journal says so, and the journal is durable before
   * the shard lets go of the evidence. A crash in between repeats the same writes, which changes nothing.
   */
  async #finish(shard: ShardHandle, batches: readonly SettledBatch[]): Promise<void> {
    const positions = await this.#takeTurn(() => this.#write(batches)).catch((thrown: unknown) => {
      if (thrown !== STOPPED) throw thrown;
      return undefined;
    });
    if (positions === undefined) return;
    let start = 0;
    for (const batch of batches) {
      this.#count(batch);
      this.#options.coverage?.add(batch.coverage);
      const end = start + batch.entries.length;
      await shard.stored(batch.number, positions.slice(start, end));
      start = end;
    }
  }

  /** The positions of the batches' journal entries. */
  async #write(batches: readonly SettledBatch[]): Promise<JournalPosition[]> {
    const { store, journal, quarantine, counters, log } = this.#options;
    const writes = batches.flatMap((batch) => batch.traces.flatMap((trace) => trace.writes));
    const superseded = batches.flatMap((batch) => batch.superseded);
    writes.push(...(await this.#retry(() => lastRevisions(superseded, store, log))));
    const result = await writeAll(writes, {
      write: (part) => this.#noting(() => store.write(part)),
      pause: (thrown, failures) => this.#pause(thrown, failures),
      others: () => this.#others(),
    });
    const refused = new Set(result.rejected.map(({ id }) => id));
    this.#stored = writes.find(({ id }) => !refused.has(id)) ?? this.#stored;
    const byId = new Map(writes.map((write) => [write.id, write]));
    const rejected = result.rejected.map(({ id, reason }) => ({ stage: 'store', reason, id, body: byId.get(id) }));
    const aside = [...batches.flatMap((batch) => batch.quarantined), ...rejected];
    await this.#retry(async () => {
      if (aside.length > 0)
        await quarantine.add(aside.map(({ stage, reason, id, body }) => ({ stage, reason, id, body })));
    });
    const positions = await this.#retry(() => journal.append(batches.flatMap((batch) => batch.entries)));
    counters.add('written', result.written);
    counters.add('outranked', result.outranked);
    counters.add('revisions', writes.filter((write) => write.previousTimestampNs !== undefined).length);
    if (rejected.length > 0) counters.add('quarantined', rejected.length, { stage: 'store' });
    return positions;
  }

  #others(): RecordWrite[] {
    const due = [...this.#gathered.values()].flatMap((batches) =>
      batches.flatMap((batch) => batch.traces.flatMap((trace) => trace.writes.slice(0, 1))),
    );
    return [...(this.#stored ? [this.#stored] : []), ...due.slice(0, PROBES_DUE_MAX)];
  }

  #count(batch: SettledBatch): void {
    const { counters } = this.#options;
    for (const trace of batch.traces) counters.add('settled', 1, { reason: trace.reason });
    for (const { fresh } of batch.entries) {
      for (const signal of ['traces', 'logs'] as const) {
        for (const [use, amount] of Object.entries(fresh[signal])) {
          if (amount > 0) counters.add('evidence', amount, { signal, use });
        }
      }
    }
    for (const { stage, pieces } of batch.quarantined) counters.add('quarantined', pieces, { stage });
  }

  /** Tries until it works. Throws STOPPED when the pump is stopped meanwhile. */
  async #retry<Result>(attempt: () => Promise<Result>): Promise<Result> {
    for (let failures = 0; ; failures++) {
      try {
        return await this.#noting(attempt);
      } catch (thrown) {
        await this.#pause(thrown, failures);
      }
    }
  }

  /** Keeps what the last attempt said, for the status. */
  async #noting<Result>(attempt: () => Promise<Result>): Promise<Result> {
    try {
      const result = await attempt();
      this.#storeFailure = undefined;
      return result;
    } catch (thrown) {
      this.#storeFailure = describeError(thrown);
      throw thrown;
    }
  }

  /** Random waits whose limit doubles with each failure, up to a limit of its own. */
  async #pause(thrown: unknown, failuresBefore: number): Promise<void> {
    const { log, counters, settings } = this.#options;
    const isExpected = thrown instanceof AppError && thrown.retryable;
    log[isExpected ? 'warn' : 'error'](
      { error: thrown, failures: failuresBefore + 1 },
      'batch not stored, will be tried again',
    );
    if (this.#stopping) throw STOPPED;
    counters.add('write_retries', 1);
    const waitMaxMs = Math.min(settings.retryFirstMs * 2 ** failuresBefore, settings.retryMaxMs);
    await this.#sleepUntilStopped(this.#scheduler.random() * waitMaxMs);
  }

  async #letGo(segments: ReturnType<Wal['segments']>, stats: readonly JoinStats[]): Promise<void> {
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

  #summarise(stats: readonly JoinStats[], segments: ReturnType<Wal['segments']>): PumpStatus {
    const nowMs = this.#options.clock.nowMs();
    const isPending = (segment: number) => stats.some((shard) => (shard.segments.get(segment)?.pending ?? 0) > 0);
    const oldestPendingMs = Math.min(...stats.map((shard) => shard.oldestPendingMs ?? nowMs), nowMs);
    const oldest = segments[0];
    return {
      tracesOpen: sum(stats, (shard) => shard.tracesOpen),
      tracesStored: sum(stats, (shard) => shard.tracesStored),
      evidencePending: sum(stats, (shard) => shard.evidencePending),
      indexBytes: sum(stats, (shard) => shard.indexBytes),
      indexBytesMax: sum(stats, (shard) => shard.indexBytesMax),
      replayed: sum(stats, (shard) => shard.replayed),
      walBytes: this.#options.wal.bytes,
      unsettledBytes: sum(segments, ({ segment, bytes }) => (isPending(segment) ? bytes : 0)),
      lagMs: nowMs - oldestPendingMs,
      horizonMs: oldest === undefined ? 0 : Math.max(0, nowMs - nsToMs(oldest.firstReceivedNs)),
      storeFailure: this.#storeFailure,
    };
  }

  #takeTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = this.#writing.then(work);
    this.#writing = turn.catch(() => undefined);
    return turn;
  }

  #wakeAll(): void {
    this.#wakes++;
    for (const wake of this.#sleepers) wake();
  }

  /** Does not sleep at all when there was a wake-up after the one numbered `wakes`. */
  async #sleep(delayMs: number, wakes = this.#wakes): Promise<void> {
    if (this.#stopping || wakes !== this.#wakes) return;
    await new Promise<void>((resolve) => {
      const wake = () => {
        cancel();
        this.#sleepers.delete(wake);
        resolve();
      };
      const cancel = this.#scheduler.after(delayMs, wake);
      this.#sleepers.add(wake);
    });
  }

  /** Not cut short by news, so that a store that is down is not asked all the time. */
  async #sleepUntilStopped(delayMs: number): Promise<void> {
    const endMs = this.#scheduler.elapsedMs() + delayMs;
    const leftMs = () => endMs - this.#scheduler.elapsedMs();
    while (!this.#stopping && leftMs() > 0) await this.#sleep(Math.max(leftMs(), 1));
  }
}

function sum<Item>(items: readonly Item[], amount: (item: Item) => number): number {
  return items.reduce((total, item) => total + amount(item), 0);
}
