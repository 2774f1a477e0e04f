import { AppError } from '../core/errors.ts';
import type { LogRecord, Span } from '../core/evidence.ts';
import type { Settle, SettledTrace, Settlement } from '../core/settlement.ts';
import type { StoredFrame } from '../wal/frame.ts';
import { comparePositions, type FramePosition } from '../wal/segment-format.ts';
import type { JournalEntry, JournalPosition } from '../wal/settle-journal.ts';
import { countFresh, EVIDENCE_USES, type SetAside, type SettledBatch, stampTrace } from './batch.ts';
import { choosePieces } from './choose-pieces.ts';
import { EvidenceIndex, type EvidenceIndexOptions } from './evidence-index.ts';
import { EvidenceReader } from './evidence-reader.ts';
import type { JoinSettings } from './settings.ts';
import { TraceJoin } from './trace-join.ts';
import { type Piece, type SegmentCount, since, TRACE } from './trace-table.ts';

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

/** A batch while it is filled. */
interface Draft {
  readonly number: number;
  readonly traces: SettledTrace[];
  readonly entries: JournalEntry[];
  readonly superseded: SettledBatch['superseded'];
  readonly quarantined: SetAside[];
  readonly counts: [number, number, number, number];
  /** The traces taken, and for each which of the entries is its own. */
  readonly taken: { trace: number; entry: number | undefined }[];
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
  readonly #inFlight = new Map<number, Draft['taken']>();
  #quarantined: SetAside[] = [];
  #replaying = true;
  #firstSegment = 0;
  #batchNumber = 0;
  #lastNowMs = 0;

  constructor(options: JoinShardOptions) {
    this.#options = options;
    this.#join = new TraceJoin(options.settings);
    this.#index = new EvidenceIndex(this.#join, options);
    this.#reader = new EvidenceReader(options.readFrame, options.keys);
  }

  /** Adds this shard's evidence of a durable frame to the index. `isReplay` for frames read back at the start. */
  ingest(frame: StoredFrame, nowMs: number, isReplay = false): void {
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
    if (this.#replaying) return undefined;
    this.#lastNowMs = nowMs;
    this.#join.advance(nowMs, this.#firstSegment);
    const number = this.#batchNumber + 1;
    const lists = { traces: [], entries: [], superseded: [], taken: [] };
    const draft: Draft = { number, ...lists, quarantined: this.#quarantined, counts: [0, 0, 0, 0] };
    let records = 0;
    let pieces = 0;
    while (records < recordsMax && pieces < this.#options.settings.takeEvidenceMax) {
      const due = this.#join.nextDue();
      if (due === undefined) break;
      const settled = draft.traces.length;
      pieces += this.#join.isUntraced(due.trace)
        ? this.#settleUntraced(due.trace, draft, nowMs)
        : this.#settleTrace(due.trace, due.reason, draft, nowMs);
      for (const trace of draft.traces.slice(settled)) records += trace.writes.length;
    }
    if (draft.taken.length === 0 && draft.quarantined.length === 0) return undefined;
    this.#batchNumber = number;
    this.#quarantined = [];
    this.#inFlight.set(number, draft.taken);
    const [used, context, excluded, duplicate] = draft.counts;
    const { traces, entries, superseded, quarantined } = draft;
    return { number, traces, entries, superseded, quarantined, counts: { used, context, excluded, duplicate } };
  }

  /** The batch is in the store, and its entries are in the journal at these positions. */
  stored(batchNumber: number, journalPositions: readonly JournalPosition[]): void {
    const taken = this.#inFlight.get(batchNumber) ?? [];
    this.#inFlight.delete(batchNumber);
    for (const { trace, entry } of taken) {
      const position = entry === undefined ? undefined : journalPositions[entry];
      if (position !== undefined) this.#index.setJournal(trace, position);
      this.#join.finished(trace, this.#lastNowMs);
    }
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

  /** Settles one trace into the draft. Returns how many pieces it looked at. */
  #settleTrace(trace: number, reason: SettledTrace['reason'], draft: Draft, nowMs: number): number {
    const { table } = this.#join;
    const pieces = table.takePieces(trace, this.#firstSegment);
    this.#join.clearRestored(trace);
    const { namespace, traceId } = this.#index.nameOf(trace);
    const previous = this.#previousOf(trace);
    const through = newestOf(pieces, previous);
    const { chosen, isPartial } = choosePieces(pieces, this.#options.settings.spansMax);
    const spans: Span[] = [];
    const logs: LogRecord[] = [];
    const unreadable = this.#reader.read(chosen, spans, logs);
    draft.quarantined.push(...unreadable);
    const fresh = pieces.filter((piece) => piece.isNew).length - unreadable.length;
    draft.taken.push({ trace, entry: draft.entries.length });
    const settlement = this.#settle({ namespace, traceId, spans, logs });
    if (settlement instanceof SettleFailure) {
      draft.quarantined.push({ ...this.#reader.setAside(pieces, 'settle', settlement.thrown), pieces: fresh });
      const nothing = { namespace, traceId, rank: 0n, revision: 0, records: [] };
      draft.entries.push({ ...(previous ?? nothing), through, settledAtMs: nowMs });
      return chosen.length;
    }
    const stamped = stampTrace({ namespace, traceId, reason, settlement, through, isPartial, previous }, nowMs);
    draft.traces.push(stamped.trace);
    draft.entries.push(stamped.entry);
    draft.superseded.push(...stamped.superseded);
    this.#count(trace, fresh, settlement, draft);
    return chosen.length;
  }

  /** Settles log records that name no trace, each by itself; they share the journal entry of their frame. */
  #settleUntraced(trace: number, draft: Draft, nowMs: number): number {
    const { table } = this.#join;
    const pieces = table.takePieces(trace, this.#firstSegment, UNTRACED_TAKE_MAX);
    const isLast = pieces.length === table.traces.get(trace, TRACE.pending);
    const through = newestOf(pieces, undefined);
    const writes: SettledTrace['writes'][number][] = [];
    let namespace = '';
    for (const piece of pieces) {
      const logs: LogRecord[] = [];
      draft.quarantined.push(...this.#reader.read([piece], [], logs));
      if (logs.length === 0) continue;
      namespace = this.#reader.namespaceOf(piece);
      const settlement = this.#settle({ namespace, traceId: '', spans: [], logs });
      if (settlement instanceof SettleFailure) {
        draft.quarantined.push(this.#reader.setAside([piece], 'settle', settlement.thrown));
        continue;
      }
      const settle = { namespace, traceId: '', reason: 'untraced', settlement, through } as const;
      writes.push(...stampTrace({ ...settle, isPartial: false, previous: undefined }, nowMs).trace.writes);
      addCounts(draft.counts, countFresh(1, [], settlement.counts));
    }
    draft.traces.push({ namespace, traceId: '', reason: 'untraced', rank: 0n, revision: 1, writes });
    draft.taken.push({ trace, entry: isLast ? draft.entries.length : undefined });
    const entry = { namespace, traceId: '', through, rank: 0n, revision: 1, settledAtMs: nowMs, records: [] };
    if (isLast) draft.entries.push(entry);
    return pieces.length;
  }

  #settle(evidence: Parameters<Settle>[0]): Settlement | SettleFailure {
    try {
      return this.#options.settle(evidence);
    } catch (thrown) {
      return new SettleFailure(thrown);
    }
  }

  /** What the journal remembers of the trace; undefined when it was never stored or the entry is out of the horizon. */
  #previousOf(trace: number): JournalEntry | undefined {
    const position = this.#index.journalOf(trace);
    if (position === undefined) return undefined;
    try {
      return this.#options.readJournal(position);
    } catch (thrown) {
      if (thrown instanceof AppError) return undefined;
      throw thrown;
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

function newestOf(pieces: readonly Piece[], previous: JournalEntry | undefined): FramePosition {
  let newest = previous?.through ?? { segment: 0, offset: 0 };
  for (const { segment, offset } of pieces) {
    const position = { segment, offset };
    if (comparePositions(position, newest) > 0) newest = position;
  }
  return newest;
}
