import type { LogRecord, Span } from '../core/evidence.ts';
import type { SettleReason } from '../core/record.ts';
import type { Settle, SettledTrace, Settlement } from '../core/settlement.ts';
import type { StoredFrame } from '../wal/frame.ts';
import type { FramePosition } from '../wal/segment-format.ts';
import type { JournalEntry, JournalPosition } from '../wal/settle-journal.ts';
import {
  countFresh,
  EVIDENCE_USES,
  type SetAside,
  type SettledBatch,
  stampBatch,
  stampTrace,
  type TakenBatch,
  type TakenTrace,
} from './batch.ts';
import { choosePieces } from './choose-pieces.ts';
import { EvidenceIndex, type EvidenceIndexOptions } from './evidence-index.ts';
import { EvidenceReader } from './evidence-reader.ts';
import type { JoinSettings } from './settings.ts';
import { TraceJoin } from './trace-join.ts';
import type { SegmentCount } from './trace-table.ts';
import { since, TRACE } from './trace-words.ts';

export interface JoinShardOptions extends EvidenceIndexOptions {
  readonly settings: JoinSettings;
  readonly settle: Settle;
  /** Without waiting; throws when the frame is gone or damaged. */
  readonly readFrame: (position: FramePosition) => StoredFrame;
  readonly readJournal: (position: JournalPosition) => JournalEntry;
}

/** Numbers of one shard. Traces are open while they have evidence that is not stored. */
export interface JoinStats {
  /** Until the replay is over the index does not know all that is in the write-ahead log. */
  readonly isReplaying: boolean;
  readonly tracesOpen: number;
  readonly tracesHeld: number;
  readonly evidencePending: number;
  readonly evidenceHeld: number;
  /** Epoch milliseconds at which the oldest evidence not stored yet was received. */
  readonly oldestPendingMs: number | undefined;
  readonly indexBytes: number;
  readonly indexBytesMax: number;
  /** Log records so far that name no trace and are no access: they are counted as context and not kept. */
  readonly ignored: number;
  /** Pieces that a replay brought back as not stored yet. */
  readonly replayed: number;
  /** By segment number; a segment that is not there has no evidence in the index. */
  readonly segments: ReadonlyMap<number, Readonly<SegmentCount>>;
}

/** Log records without a trace that one take settles of one frame. */
const UNTRACED_TAKE_MAX = 512;

const NO_BYTES = new Uint8Array(0);

/** A batch while it is filled. */
interface Draft {
  readonly settledAtMs: number;
  readonly taken: TakenTrace[];
  readonly untraced: SettledTrace[];
  readonly untracedEntries: JournalEntry[];
  readonly quarantined: SetAside[];
  readonly counts: [number, number, number, number];
  readonly traces: InFlight;
}

/** Traces of the index that are on the way to the store, in the order of the batch. */
interface InFlight {
  readonly taken: number[];
  readonly untraced: number[];
}

/**
 * One shard of the join: keeps the index, and settles what is due when it is asked to. Pull-based: without `take` nothing
 * is decoded, so memory is bounded by the index while the store is down. Batches may be in flight at the same time; a trace
 * is in at most one of them.
 */
export class JoinShard {
  readonly #options: JoinShardOptions;
  readonly #join: TraceJoin;
  readonly #reader: EvidenceReader;
  readonly #index: EvidenceIndex;
  readonly #inFlight = new Map<number, InFlight>();
  #quarantined: SetAside[] = [];
  #replaying = true;
  #firstSegment = 0;
  #batchNumber = 0;
  /** The newest time that was passed in, for calls that bring none. */
  #lastNowMs = 0;

  constructor(options: JoinShardOptions) {
    this.#options = options;
    this.#join = new TraceJoin(options.settings);
    this.#index = new EvidenceIndex(this.#join, options);
    this.#reader = new EvidenceReader(options.readFrame, options.keys);
  }

  /** Adds this shard's evidence of a durable frame to the index. `isReplay` for frames read back at the start. */
  ingest(frame: StoredFrame, nowMs: number, isReplay = false): void {
    this.#lastNowMs = nowMs;
    const bad = this.#index.ingest(frame, nowMs, isReplay);
    if (bad !== undefined) this.#quarantined.push(bad);
  }

  /** Tells, before any frame is replayed, what the settle journal knows; entries in the order of the journal. */
  restore(entry: JournalEntry, position: JournalPosition): void {
    this.#index.restore(entry, position);
  }

  /** The replay is over (or there was none): from now on `take` gives batches. */
  endReplay(nowMs: number): void {
    this.#replaying = false;
    this.#join.endRestore();
    this.#join.advance(nowMs, this.#firstSegment);
  }

  /**
   * Settles traces that are due: until they have `recordsMax` records or the settings' number of pieces, and at least one
   * trace. Undefined when nothing is due.
   */
  take(nowMs: number, recordsMax: number): SettledBatch | undefined {
    const batch = this.takeUnstamped(nowMs, recordsMax);
    return batch === undefined ? undefined : stampBatch(batch, this.#options.readJournal);
  }

  /** As `take`, for another thread that has the journal. */
  takeUnstamped(nowMs: number, recordsMax: number): TakenBatch | undefined {
    if (this.#replaying) return undefined;
    this.#lastNowMs = nowMs;
    this.#join.advance(nowMs, this.#firstSegment);
    const traces: InFlight = { taken: [], untraced: [] };
    const lists = { taken: [], untraced: [], untracedEntries: [], traces };
    const draft: Draft = { ...lists, settledAtMs: nowMs, quarantined: this.#quarantined, counts: [0, 0, 0, 0] };
    let records = 0;
    let pieces = 0;
    while (records < recordsMax && pieces < this.#options.settings.takeEvidenceMax) {
      const due = this.#join.nextDue();
      if (due === undefined) break;
      const settled = this.#join.isUntraced(due.trace)
        ? this.#settleUntraced(due.trace, draft)
        : this.#settleTrace(due.trace, due.reason, draft);
      records += settled.records;
      pieces += settled.pieces;
    }
    if (traces.taken.length + traces.untraced.length + draft.quarantined.length === 0) return undefined;
    this.#batchNumber++;
    this.#quarantined = [];
    this.#inFlight.set(this.#batchNumber, traces);
    const { counts, traces: _, ...batch } = draft;
    const [used, context, excluded, duplicate] = counts;
    return { ...batch, number: this.#batchNumber, counts: { used, context, excluded, duplicate } };
  }

  /** The batch is in the store, and its entries are in the journal at these positions. */
  stored(batchNumber: number, journalPositions: readonly JournalPosition[]): void {
    const { taken, untraced } = this.#inFlight.get(batchNumber) ?? { taken: [], untraced: [] };
    this.#inFlight.delete(batchNumber);
    const positions = journalPositions.slice(journalPositions.length - taken.length);
    for (const [index, trace] of taken.entries()) {
      const position = positions[index];
      if (position !== undefined) this.#index.setJournal(trace, position);
      this.#join.finished(trace, this.#lastNowMs);
    }
    for (const trace of untraced) this.#join.finished(trace, this.#lastNowMs);
  }

  /** Epoch milliseconds at which `take` has something; `nowMs` when it has now; undefined when nothing waits. */
  nextDueAtMs(nowMs: number): number | undefined {
    if (this.#replaying) return undefined;
    return this.#quarantined.length > 0 ? nowMs : this.#join.nextDueAtMs(nowMs);
  }

  /** Everything in the index that is not settled is due now. */
  flush(): void {
    this.#join.flush();
  }

  /** Segments before this one are gone from the write-ahead log. */
  dropBefore(segment: number): void {
    this.#firstSegment = Math.max(this.#firstSegment, segment);
  }

  /** The spans of a trace that are still within the horizon, in all namespaces, without their raw bytes; changes nothing. */
  spansOf(traceId: string): Span[] {
    const spans: Span[] = [];
    for (const trace of this.#index.find(traceId)) {
      const idsMax = this.#options.settings.spansMax;
      const { pieces } = this.#join.table.look(trace, { firstSegment: this.#firstSegment, idsMax, take: false });
      const listed = pieces.filter((piece) => !piece.isLog);
      this.#reader.read(choosePieces(listed, idsMax), spans, []);
    }
    return spans.map((span) => ({ ...span, raw: NO_BYTES }));
  }

  stats(nowMs: number): JoinStats {
    const { table, heldCount } = this.#join;
    const oldest = table.oldestPendingMs();
    return {
      isReplaying: this.#replaying,
      tracesOpen: table.traces.live - heldCount,
      tracesHeld: table.traces.live,
      evidencePending: table.pendingPieces,
      evidenceHeld: table.pieceCount,
      oldestPendingMs: oldest === undefined ? undefined : nowMs - since(nowMs, oldest),
      indexBytes: table.usedBytes,
      indexBytesMax: this.#options.settings.indexBytesMax,
      ignored: this.#index.ignored,
      replayed: this.#index.replayed,
      segments: table.segments,
    };
  }

  /** Settles one trace into the draft. */
  #settleTrace(trace: number, reason: SettleReason, draft: Draft): { records: number; pieces: number } {
    const { table } = this.#join;
    const idsMax = this.#options.settings.spansMax;
    const isGone = this.#join.prune(trace, this.#firstSegment);
    const look = table.look(trace, { firstSegment: this.#firstSegment, idsMax, take: true });
    this.#join.clearRestored(trace);
    const { namespace, traceId } = this.#index.nameOf(trace);
    const chosen = choosePieces(look.pieces, idsMax);
    const spans: Span[] = [];
    const logs: LogRecord[] = [];
    const unreadable = this.#reader.read(chosen, spans, logs);
    draft.quarantined.push(...unreadable);
    const isCut = chosen.length < look.readable;
    const hasLost = isGone || spans.length + logs.length < chosen.length;
    const fresh = look.fresh - unreadable.length;
    const settled = this.#settle({ namespace, traceId, spans, logs });
    const settlement = settled instanceof SettleFailure ? undefined : settled;
    if (settled instanceof SettleFailure) {
      draft.quarantined.push({ ...this.#reader.setAside(chosen, 'settle', settled.thrown), pieces: fresh });
    } else this.#count(trace, fresh, settled, draft);
    const journal = this.#index.journalOf(trace);
    const stored = look.readable - look.fresh;
    draft.taken.push({ namespace, traceId, reason, settlement, through: look.newest, isCut, hasLost, stored, journal });
    draft.traces.taken.push(trace);
    return { records: settlement?.records.length ?? 0, pieces: chosen.length };
  }

  /** Settles log records that name no trace, each by itself; they share the journal entry of their frame. */
  #settleUntraced(trace: number, draft: Draft): { records: number; pieces: number } {
    const { table } = this.#join;
    const limits = { idsMax: Number.POSITIVE_INFINITY, newMax: UNTRACED_TAKE_MAX };
    const look = table.look(trace, { firstSegment: this.#firstSegment, ...limits, take: true });
    const isLast = look.fresh === table.traces.get(trace, TRACE.pending);
    const shared = {
      traceId: '',
      reason: 'untraced',
      through: look.newest,
      isCut: false,
      hasLost: false,
      stored: 0,
    } as const;
    const writes: SettledTrace['writes'][number][] = [];
    let namespace = '';
    for (const piece of look.pieces) {
      const logs: LogRecord[] = [];
      draft.quarantined.push(...this.#reader.read([piece], [], logs));
      if (logs.length === 0) continue;
      namespace = this.#reader.namespaceOf(piece);
      const settlement = this.#settle({ namespace, traceId: '', spans: [], logs });
      if (settlement instanceof SettleFailure) {
        draft.quarantined.push(this.#reader.setAside([piece], 'settle', settlement.thrown));
        continue;
      }
      const taken = { ...shared, namespace, settlement, journal: undefined };
      writes.push(...stampTrace(taken, settlement, undefined, draft.settledAtMs).trace.writes);
      addCounts(draft.counts, countFresh(1, [], settlement.counts));
    }
    draft.untraced.push({ namespace, traceId: '', reason: 'untraced', rank: 0n, revision: 1, writes });
    draft.traces.untraced.push(trace);
    const { traceId, through } = shared;
    const entry = { namespace, traceId, through, rank: 0n, revision: 1, settledAtMs: draft.settledAtMs, records: [] };
    if (isLast) draft.untracedEntries.push(entry);
    return { records: writes.length, pieces: look.fresh };
  }

  #settle(evidence: Parameters<Settle>[0]): Settlement | SettleFailure {
    try {
      return this.#options.settle(evidence);
    } catch (thrown) {
      return new SettleFailure(thrown);
    }
  }

  #count(trace: number, fresh: number, settlement: Settlement, draft: Draft): void {
    const { traces } = this.#join.table;
    const before = EVIDENCE_USES.map((_, index) => traces.get(trace, TRACE.counts + index));
    const counted = countFresh(fresh, before, settlement.counts);
    for (const [index, amount] of counted.entries()) traces.add(trace, TRACE.counts + index, amount);
    addCounts(draft.counts, counted);
  }
}

/** Tells a settle that threw from one that gave a result: a bug in the rules for this evidence must not stop the others. */
class SettleFailure {
  readonly thrown: unknown;

  constructor(thrown: unknown) {
    this.thrown = thrown;
  }
}

function addCounts(totals: number[], amounts: readonly number[]): void {
  for (const [index, amount] of amounts.entries()) totals[index] = (totals[index] ?? 0) + amount;
}
