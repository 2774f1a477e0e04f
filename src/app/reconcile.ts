import { setTimeout as sleep } from 'node:timers/promises';
import type { ReconcileDesk, ReconcileOptions } from '../api/reconcile.ts';
import type { ReconcileDifference, ReconcileSummary } from '../api/reconcile-contract.ts';
import { type Clock, formatTimestamp, msToNs, nsToMs } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import type { ShardHandle } from '../join/shard-handle.ts';
import { EVERYTHING } from '../query/ast.ts';
import type { RankRequest, Store } from '../store/port.ts';
import type { Quarantine } from '../wal/quarantine.ts';
import type { JournalEntry, JournalPosition, SettleJournal } from '../wal/settle-journal.ts';
import type { Wal } from '../wal/wal.ts';
import { KnownIds } from './known-ids.ts';

export interface ReconcileParts {
  readonly journal: Pick<SettleJournal, 'visit'>;
  readonly wal: Pick<Wal, 'segments'>;
  readonly shards: readonly Pick<ShardHandle, 'isCurrent' | 'repeat' | 'stats'>[];
  readonly store: Pick<Store, 'capabilities' | 'ranks' | 'iterate' | 'refresh'>;
  readonly quarantine: Pick<Quarantine, 'page'>;
  readonly clock: Clock;
  isReplaying(): boolean;
  /** There is something due in the shards. */
  wake(): void;
}

type Emit = Parameters<ReconcileDesk['run']>[1];

/** Journal entries that are compared together. */
const ENTRIES_AT_ONCE = 500;

/** Ids of the journal that are in memory at once, while the store is looked through: at most 64 MiB. */
const KNOWN_IDS_MAX = 4_000_000;

/** Records that the journal does not know, at most, that are kept for a second look. More are counted. */
const UNKNOWN_MAX = 10_000;

/** Records that were settled again and are not seen in the store yet, at most. */
const RESTORING_MAX = 2_000;

/** A restored record that is not in the store after this long without any other coming in will not come. */
const RESTORE_PATIENCE_MS = 30_000;
const RESTORE_LOOK_MS = 200;

const MINUTE_MS = 60_000;

/** A record as the journal has it. */
interface Expected extends RankRequest {
  readonly traceId: string;
  readonly rank: bigint;
}

type Lost = Expected & { readonly kind: 'missing' | 'older' };

/**
 * Compares what the settle journal says is stored with what the store has: each record's rank, and, for the time of the
 * horizon, records that the journal knows nothing of. Restoring settles the traces of what is missing again and looks
 * once more. One run at a time.
 */
export function createReconcileDesk(parts: ReconcileParts): ReconcileDesk {
  let isRunning = false;
  return {
    async run(options, emit) {
      const { name } = parts.store.capabilities;
      if (name === 'null') throw new AppError('bad_request', 'the store "null" keeps nothing that could be compared');
      if (parts.isReplaying()) {
        throw new AppError('unavailable', 'the write-ahead log is being replayed; try again when that is over');
      }
      if (isRunning) throw new AppError('unavailable', 'it is being reconciled already; try again when that is over');
      isRunning = true;
      try {
        await new Reconciliation(parts, options, emit).run();
      } finally {
        isRunning = false;
      }
    },
  };
}

class Reconciliation {
  readonly #parts: ReconcileParts;
  readonly #isRestoring: boolean;
  /** Empty: all namespaces. */
  readonly #scope: { readonly namespace?: string };
  readonly #emit: Emit;
  /** Records that wait in quarantine, or were dropped there: nobody expects them in the store. */
  readonly #setAside = new Set<string>();
  /** What was settled again, until the store has it. */
  readonly #restoring = new Map<string, Lost>();
  readonly #counts = {
    compared: 0,
    missing: 0,
    older: 0,
    unknown: 0,
    quarantined: 0,
    superseded_missing: 0,
    restored: 0,
    damaged_bytes: 0,
  };

  constructor(parts: ReconcileParts, { restore, namespace }: ReconcileOptions, emit: Emit) {
    this.#parts = parts;
    this.#isRestoring = restore;
    this.#scope = namespace === undefined ? {} : { namespace };
    this.#emit = emit;
  }

  async run(): Promise<void> {
    const { clock } = this.#parts;
    const startMs = clock.nowMs();
    for (const stage of ['open', 'resolved'] as const) await this.#readQuarantine(stage === 'open');
    const minutes = await this.#compare();
    if (this.#isRestoring) await this.#awaitRestored(0);
    const fromMs = await this.#knownSinceMs();
    await this.#findUnknown(minutes, fromMs, startMs);
    const counts = this.#counts;
    const left = counts.missing + counts.older - counts.restored;
    const summary: ReconcileSummary = {
      type: 'summary',
      ...counts,
      left: left + counts.unknown,
      since: formatTimestamp(msToNs(fromMs)),
    };
    await this.#emit(summary);
  }

  async #readQuarantine(isOpen: boolean): Promise<void> {
    let after: string | undefined;
    do {
      const page = await this.#parts.quarantine.page({ isOpen, stage: 'store', limit: 1000, after });
      for (const { id, resolved } of page.entries) if (resolved?.how !== 'retried') this.#setAside.add(id);
      after = page.next;
    } while (after !== undefined);
  }

  /** Compares every record of the newest entry of each trace. Returns how many records begin in each minute. */
  async #compare(): Promise<Map<number, number>> {
    const minutes = new Map<number, number>();
    let waiting: { entry: JournalEntry; position: JournalPosition }[] = [];
    const work = async () => {
      const entries = waiting;
      waiting = [];
      const current = await this.#currentOf(entries);
      for (const { records } of current) {
        for (const { timestampNs } of records) {
          const minute = Math.floor(nsToMs(timestampNs) / MINUTE_MS);
          minutes.set(minute, (minutes.get(minute) ?? 0) + 1);
        }
      }
      const lost = await this.#compareEntries(current);
      if (this.#isRestoring) await this.#restore(lost);
    };
    const visit = (entry: JournalEntry, position: JournalPosition) => {
      if (entry.records.length > 0 && this.#isAsked(entry)) waiting.push({ entry, position });
      return waiting.length >= ENTRIES_AT_ONCE ? work() : undefined;
    };
    this.#counts.damaged_bytes = await this.#parts.journal.visit(visit);
    await work();
    return minutes;
  }

  #isAsked({ namespace }: JournalEntry): boolean {
    return this.#scope.namespace === undefined || this.#scope.namespace === namespace;
  }

  /** Those that no later settle has taken the place of. */
  async #currentOf(entries: readonly { entry: JournalEntry; position: JournalPosition }[]): Promise<JournalEntry[]> {
    const known = entries.map(({ entry: { namespace, traceId }, position }) => ({ namespace, traceId, position }));
    const answers = await Promise.all(this.#parts.shards.map((shard) => shard.isCurrent(known)));
    return entries.flatMap(({ entry }, at) => (answers.some((answer) => answer[at]) ? [entry] : []));
  }

  async #compareEntries(entries: readonly JournalEntry[]): Promise<Lost[]> {
    const expected: (Expected & { readonly isHidden: boolean; readonly isLost: boolean })[] = [];
    for (const { namespace, traceId, rank, isLost, records } of entries) {
      for (const { id, timestampNs, supersededBy } of records) {
        expected.push({ id, namespace, timestampNs, traceId, rank, isLost, isHidden: supersededBy !== undefined });
      }
    }
    const ranks = expected.length === 0 ? [] : await this.#parts.store.ranks(expected);
    const lost: Lost[] = [];
    for (const [at, { isHidden, isLost, ...record }] of expected.entries()) {
      const rank = ranks[at];
      // What another record stands for, and what a settle without all its evidence told, may lie there with an earlier rank.
      const isOlder = rank !== undefined && rank < record.rank && !isHidden && !isLost;
      if (rank !== undefined && !isOlder) continue;
      if (this.#setAside.has(record.id)) this.#counts.quarantined++;
      else if (isHidden) this.#counts.superseded_missing++;
      else lost.push({ ...record, kind: isOlder ? 'older' : 'missing' });
    }
    this.#counts.compared += expected.length;
    for (const one of lost) {
      this.#counts[one.kind]++;
      await this.#emit(toDifference(one));
    }
    await this.#emit({ type: 'progress', step: 'comparing', records: this.#counts.compared });
    return lost;
  }

  async #restore(lost: readonly Lost[]): Promise<void> {
    const { shards, wake } = this.#parts;
    for (const [, records] of Map.groupBy(lost, ({ namespace, traceId }) => `${namespace} ${traceId}`)) {
      const [first] = records;
      if (first === undefined) continue;
      for (const one of records) this.#restoring.set(one.id, one);
      const answers = await Promise.all(shards.map((shard) => shard.repeat(first.namespace, first.traceId)));
      if (!answers.includes(true)) await this.#giveUp(records, 'nothing is known of its trace any more');
    }
    wake();
    if (this.#restoring.size > RESTORING_MAX) await this.#awaitRestored(RESTORING_MAX / 2);
  }

  /** Waits until at most so many are left; when none comes in any more, the others are given up. */
  async #awaitRestored(leftMax: number): Promise<void> {
    const { clock, store } = this.#parts;
    let lastChangeMs = clock.nowMs();
    while (this.#restoring.size > leftMax) {
      const waiting = [...this.#restoring.values()];
      if (clock.nowMs() - lastChangeMs > RESTORE_PATIENCE_MS) {
        return this.#giveUp(
          waiting,
          'its evidence is held no longer, gives another record by now, or cannot be stored',
        );
      }
      await sleep(RESTORE_LOOK_MS);
      const ranks = await store.ranks(waiting);
      for (const [at, one] of waiting.entries()) {
        const rank = ranks[at];
        if (rank === undefined || rank < one.rank) continue;
        this.#restoring.delete(one.id);
        this.#counts.restored++;
        lastChangeMs = clock.nowMs();
      }
      await this.#emit({ type: 'progress', step: 'restoring', records: this.#counts.restored });
    }
  }

  async #giveUp(records: readonly Lost[], reason: string): Promise<void> {
    for (const { id, kind } of records) {
      this.#restoring.delete(id);
      await this.#emit({ type: 'unrestored', id, kind, reason });
    }
  }

  /** Every trace that began later is in the journal once it is stored. Epoch milliseconds. */
  async #knownSinceMs(): Promise<number> {
    const { shards, wal, clock } = this.#parts;
    const nowMs = clock.nowMs();
    const stats = await Promise.all(shards.map((shard) => shard.stats(nowMs)));
    const oldest = wal.segments()[0]?.firstReceivedNs;
    const forgotten = stats.map(({ knownSinceMs }) => knownSinceMs ?? 0);
    return Math.max(oldest === undefined ? nowMs : nsToMs(oldest), ...forgotten);
  }

  /** Looks through the store, some minutes of it at a time, for records of traces that no entry names. */
  async #findUnknown(minutes: ReadonlyMap<number, number>, fromMs: number, toMs: number): Promise<void> {
    const candidates = new Map<string, ReconcileDifference>();
    let seen = 0;
    for (const window of windows(minutes, fromMs, toMs)) {
      const range = { fromNs: msToNs(window.fromMs), toNs: msToNs(window.toMs) };
      const known = await this.#idsBetween(range.fromNs, range.toNs, window.records);
      const selection = { query: EVERYTHING, inner: true, ...range, ...this.#scope };
      for await (const record of this.#parts.store.iterate(selection)) {
        seen++;
        if (seen % 1000 === 0)
          await this.#emit({ type: 'progress', step: 'looking for unknown records', records: seen });
        const { id } = record.event;
        // The journal keeps no ids of log records without a trace.
        if (known.has(id) || record.trace === undefined) continue;
        this.#counts.unknown++;
        if (candidates.size >= UNKNOWN_MAX) continue;
        const { namespace } = record.data_stream;
        const place = { namespace, trace_id: record.trace.id, timestamp: record['@timestamp'] };
        candidates.set(id, { type: 'difference', kind: 'unknown', id, ...place });
      }
    }
    // Some were on their way into the journal while the store was read.
    if (candidates.size > 0) {
      await this.#parts.journal.visit(({ records }) => {
        for (const { id } of records) if (candidates.delete(id)) this.#counts.unknown--;
      });
    }
    for (const difference of candidates.values()) await this.#emit(difference);
  }

  async #idsBetween(fromNs: bigint, toNs: bigint, expected: number): Promise<KnownIds> {
    const ids = new KnownIds(expected);
    await this.#parts.journal.visit((entry) => {
      if (!this.#isAsked(entry)) return;
      for (const { id, timestampNs } of entry.records) if (timestampNs >= fromNs && timestampNs < toNs) ids.add(id);
    });
    return ids;
  }
}

function toDifference({ kind, id, namespace, traceId, timestampNs }: Lost): ReconcileDifference {
  return { type: 'difference', kind, id, namespace, trace_id: traceId, timestamp: formatTimestamp(timestampNs) };
}

/** Spans of time that hold few enough records of the journal, from the first to the last millisecond asked for. */
function* windows(
  minutes: ReadonlyMap<number, number>,
  fromMs: number,
  toMs: number,
): Iterable<{ readonly fromMs: number; readonly toMs: number; readonly records: number }> {
  let start = fromMs;
  let records = 0;
  for (let minute = Math.floor(fromMs / MINUTE_MS); minute * MINUTE_MS < toMs; minute++) {
    const more = minutes.get(minute) ?? 0;
    if (records + more > KNOWN_IDS_MAX && minute * MINUTE_MS > start) {
      yield { fromMs: start, toMs: minute * MINUTE_MS, records };
      start = minute * MINUTE_MS;
      records = 0;
    }
    records += more;
  }
  if (start < toMs) yield { fromMs: start, toMs, records };
}
