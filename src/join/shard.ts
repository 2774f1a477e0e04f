import { assert } from '../core/assert.ts';
import type { Observe } from '../core/coverage.ts';
import type { Examine, Span } from '../core/evidence.ts';
import type { Forms } from '../core/forms.ts';
import type { FreshCounts, Settle, SettledTrace, SettleSteps } from '../core/settlement.ts';
import type { KnownParts } from '../otlp/known-parts.ts';
import { EntriesMemory, EntriesWriter } from '../wal/encoded-entries.ts';
import type { StoredFrame } from '../wal/frame.ts';
import { comparePositions, type FramePosition } from '../wal/segment-format.ts';
import { eachPlace, type JournalEntry, type JournalHead, type JournalPosition } from '../wal/settle-journal.ts';
import type { SetAside, SettledBatch } from './batch.ts';
import type { Draft, InFlight } from './batch-draft.ts';
import { piecesMaxOf, settleClosed } from './closed-trace.ts';
import { NoteSum } from './coverage-notes.ts';
import { EvidenceIndex, type EvidenceIndexOptions } from './evidence-index.ts';
import { EvidenceReader, newFound } from './evidence-reader.ts';
import { type HugeDue, HugeQueue } from './huge-queue.ts';
import { HugeSettle } from './huge-settle.ts';
import type { JoinStats } from './join-stats.ts';
import type { JoinSettings } from './settings.ts';
import { SettledTraces } from './settled-traces.ts';
import type { KnownEntry } from './shard-handle.ts';
import type { MailedSpans } from './shard-mail.ts';
import { TraceJoin } from './trace-join.ts';
import { type SettledOne, TraceSettler, untracedEntry } from './trace-settler.ts';
import type { Piece } from './trace-table.ts';
import { since, TRACE } from './trace-words.ts';
import { NONE } from './word-pool.ts';

export interface JoinShardOptions extends EvidenceIndexOptions {
  readonly settings: JoinSettings;
  readonly settle: Settle;
  /** The same in steps, and what each piece says by itself: for traces of more evidence than one settle looks at. */
  readonly settleSteps: SettleSteps;
  readonly examine: Examine;
  /** What is known of traces that say the same. */
  readonly forms?: Forms;
  /** What the fresh evidence of each settle says of coverage; without it nothing is noted. */
  readonly observe?: Observe;
  /** Without waiting; throws when the frame is gone or damaged. */
  readonly readFrame: (position: FramePosition) => StoredFrame;
  /** What the walks through the frames that come with one found; without it this shard's walks are its own. */
  readonly known?: KnownParts | undefined;
  /** A steady clock in milliseconds, so that a take ends soon: for a thread that has other work, too. */
  readonly elapsedMs?: () => number;
  /** Without waiting; throws AppError when the entry is gone or damaged. */
  readonly readJournal: (position: JournalPosition) => JournalEntry;
}

/** What of the index is for stored traces; the rest is for open ones. */
const STORED_SHARE = 0.25;

/** A take on a thread that has other work, too, ends after this. */
const TAKE_MS_MAX = 2;

/** Log records without a trace that one take settles of one frame. */
const UNTRACED_TAKE_MAX = 512;

/** Huge traces get at least this part of each take. */
const HUGE_SHARE = 4;

const NO_BYTES = new Uint8Array(0);

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
  readonly #settled: SettledTraces;
  readonly #inFlight = new Map<number, InFlight>();
  readonly #entriesMemory = new EntriesMemory();
  readonly #settler: TraceSettler;
  readonly #huge: HugeQueue;
  /** Groups without a trace of which a part is settled: what is left, and what the parts came to; the entry comes with the last. */
  readonly #groups = new Map<number, { left: number; fresh: FreshCounts[] }>();
  #quarantined: SetAside[] = [];
  /** Frames that are not set aside yet, with their segments. */
  readonly #badFrames = new Map<SetAside, number>();
  #replaying = true;
  #firstSegment = 0;
  #horizonMs = 0;
  #batchNumber = 0;
  /** The newest time that was passed in, for calls that bring none. */
  #lastNowMs = 0;

  constructor(options: JoinShardOptions) {
    const { settings } = options;
    const storedBytesMax = Math.floor(settings.indexBytesMax * STORED_SHARE);
    this.#options = options;
    this.#settled = new SettledTraces(storedBytesMax, options.readJournal);
    this.#join = new TraceJoin(settings, settings.indexBytesMax - storedBytesMax);
    this.#index = new EvidenceIndex(this.#join, this.#settled, options);
    this.#reader = new EvidenceReader(options.readFrame, options.keys, options.known);
    const settling = { ...options, reader: this.#reader, spansMax: settings.spansMax };
    this.#settler = new TraceSettler(settling);
    this.#huge = new HugeQueue((due) => {
      const piecesMax = piecesMaxOf(settings) - this.#join.table.traces.get(due.trace, TRACE.stored);
      const { list: fresh, unseen, newest: through } = this.#join.table.takeList(due.trace, piecesMax);
      return new HugeSettle({ ...this.#about(due, fresh, through), unseen }, settling);
    }, options.elapsedMs);
  }

  /** Adds this shard's evidence of a durable frame to the index. `isReplay` for frames read back at the start. */
  ingest(frame: StoredFrame, nowMs: number, isReplay = false): void {
    this.#lastNowMs = nowMs;
    const bad = this.#index.ingest(frame, nowMs, isReplay);
    if (!isReplay) this.#reader.remember(frame);
    if (bad === undefined) return;
    this.#quarantined.push(bad);
    this.#badFrames.set(bad, frame.position.segment);
  }

  /** As `ingest`, of spans that somebody else has found in a frame: this shard's. */
  ingestMailed(spans: MailedSpans): void {
    const { facts, nowMs, isReplay } = spans;
    this.#lastNowMs = nowMs;
    this.#index.ingestSpans(facts, spans, nowMs, isReplay);
    this.#reader.rememberMailed(spans);
  }

  /** Tells, before any frame is replayed, what the settle journal knows; entries in the order of the journal. */
  restore(entry: JournalHead, position: JournalPosition): void {
    this.#index.restore(entry, position);
  }

  /** Tells, before and between entries, that no frame of an earlier segment will be replayed. */
  replayFrom(segment: number): void {
    this.#settled.replayFrom(segment);
  }

  /** The replay is over (or there was none): from now on `take` gives batches. */
  endReplay(nowMs: number): void {
    this.#replaying = false;
    this.#settled.endReplay();
    this.#join.advance(nowMs);
  }

  /**
   * Settles traces that are due: until they have `recordsMax` records or the settings' number of pieces, and at least one
   * trace. Undefined when nothing is due.
   */
  take(nowMs: number, recordsMax: number): SettledBatch | undefined {
    if (this.#replaying) return undefined;
    this.#lastNowMs = nowMs;
    this.#join.advance(nowMs);
    const inFlight: InFlight = { taken: [], groups: [], parts: [], setAside: [...this.#quarantined], chunks: [] };
    const lists = { traces: [], untracedEntries: [], announced: [], superseded: [] };
    const coverage = new NoteSum();
    const entries = new EntriesWriter(this.#entriesMemory);
    const draft: Draft = { ...lists, entries, coverage, settledAtMs: nowMs, quarantined: this.#quarantined, inFlight };
    let [records, pieces, counted] = [0, 0, 0];
    const { settings, elapsedMs = () => 0 } = this.#options;
    const { takeEvidenceMax } = settings;
    const endMs = elapsedMs() + TAKE_MS_MAX;
    while (records < recordsMax && pieces < takeEvidenceMax && elapsedMs() < endMs) {
      const due = this.#join.nextDue();
      if (due === undefined) break;
      if (this.#isNothing(due.trace)) {
        this.#join.finished(due.trace, nowMs);
        continue;
      }
      if (this.#join.isClosed(due.trace)) {
        const { unseen, newest: through } = this.#join.table.takeList(due.trace, 0);
        this.#add(due.trace, settleClosed(this.#about(due, [], through), unseen), draft);
        continue;
      }
      if (this.#join.isHuge(due.trace)) {
        this.#huge.add(due);
        continue;
      }
      pieces += this.#join.isUntraced(due.trace)
        ? this.#settleUntraced(due.trace, draft)
        : this.#settleTrace(due, draft);
      for (; counted < draft.traces.length; counted++) records += (draft.traces[counted] as SettledTrace).writes.length;
    }
    // Others go first, but not for ever.
    const left = Math.max(takeEvidenceMax - pieces, takeEvidenceMax / HUGE_SHARE);
    const huge = this.#huge.step(left, nowMs);
    if (huge !== undefined) this.#add(huge.trace, huge.settled, draft);
    const { taken, groups, parts } = inFlight;
    if (taken.length + groups.length + parts.length + draft.quarantined.length === 0) return undefined;
    inFlight.chunks = this.#options.forms?.takeChunks() ?? [];
    this.#batchNumber++;
    this.#quarantined = [];
    this.#inFlight.set(this.#batchNumber, inFlight);
    const { traces, announced, superseded, quarantined } = draft;
    for (const entry of draft.untracedEntries) entries.add(entry);
    const { notes } = coverage;
    const told = { announced, superseded, quarantined, coverage: notes };
    inFlight.entries = entries.finish();
    return { number: this.#batchNumber, traces, entries: inFlight.entries, ...told };
  }

  /** The batch is in the store, and its entries are in the journal at these positions. */
  stored(batchNumber: number, journalPositions: readonly JournalPosition[]): void {
    const inFlight = this.#inFlight.get(batchNumber);
    assert(inFlight !== undefined, 'a batch is stored once');
    const { taken, groups, parts, setAside, chunks, entries } = inFlight;
    this.#inFlight.delete(batchNumber);
    this.#options.forms?.recycle(chunks);
    if (entries !== undefined) this.#entriesMemory.recycle(entries);
    for (const bad of setAside) this.#badFrames.delete(bad);
    for (let index = 0; index < taken.length; index++) {
      const trace = taken[index] as number;
      const position = journalPositions[index];
      if (position !== undefined) this.#index.putStored(trace, position);
      this.#join.finished(trace, this.#lastNowMs);
    }
    for (const group of parts) this.#join.partFinished(group);
    for (const group of groups) this.#join.finished(group, this.#lastNowMs);
  }

  /** Epoch milliseconds at which `take` has something; `nowMs` when it has now; undefined when nothing waits. */
  nextDueAtMs(nowMs: number): number | undefined {
    if (this.#replaying) return undefined;
    if (this.#quarantined.length > 0) return nowMs;
    const dueAtMs = this.#join.nextDueAtMs(nowMs);
    return this.#huge.isEmpty ? dueAtMs : Math.min(nowMs + this.#huge.restMs, dueAtMs ?? Number.POSITIVE_INFINITY);
  }

  /** Everything in the index that is not settled is due now. */
  flush(): void {
    this.#join.flush();
  }

  /**
   * Segments before this one are gone from the write-ahead log, and entries in journal segments before that one. `receivedMs`
   * is when the oldest evidence left was received (epoch milliseconds), 0 when none was ever let go.
   */
  dropBefore(segment: number, journalSegment: number, receivedMs: number): void {
    this.#firstSegment = Math.max(this.#firstSegment, segment);
    this.#horizonMs = Math.max(this.#horizonMs, receivedMs);
    this.#settled.dropBefore(journalSegment);
  }

  /** Ignored log records in segments before this one are counted elsewhere from now on. */
  forgetIgnored(beforeSegment: number): void {
    this.#index.forgetIgnored(beforeSegment);
  }

  /**
   * The spans of a trace that are still within the horizon, in all namespaces, without their raw bytes; changes nothing. Of a
   * huge trace as many as a settle looks at: the newest that are not stored yet, then the first that are.
   */
  spansOf(traceId: string): Span[] {
    const found = newFound();
    for (const { namespace, trace } of this.#index.namespacesOf(traceId)) {
      const { spansMax } = this.#options.settings;
      const pieces: Piece[] = trace === NONE ? [] : this.#join.table.spansOf(trace, spansMax);
      for (const place of eachPlace(this.#index.known(namespace, traceId)?.entry.pieces ?? [])) {
        if (pieces.length >= spansMax) break;
        if (place.segment >= this.#firstSegment && !place.isLog) pieces.push({ ...place, isNew: false });
      }
      this.#reader.read(pieces, found, { namespace, traceId });
    }
    return found.spans.map((span) => ({ ...span, raw: NO_BYTES }));
  }

  /** For each of these journal entries: is it the newest of its trace, as far as this shard knows the trace? */
  isCurrent(entries: readonly KnownEntry[]): boolean[] {
    return entries.map(({ namespace, traceId, position }) => {
      const newest = this.#index.positionOf(namespace, traceId);
      return newest !== undefined && comparePositions(newest, position) === 0;
    });
  }

  /**
   * Settles again what is known of a stored trace and gives its records to the store although it should have them: of the same
   * rank and revision when no evidence came meanwhile. False when this shard knows no such trace, or it is closed.
   */
  repeat(namespace: string, traceId: string): boolean {
    if (this.#index.known(namespace, traceId)?.entry.isClosed) return false;
    const trace = this.#index.recall(namespace, traceId);
    if (trace === undefined) return false;
    this.#join.repeat(trace);
    return true;
  }

  stats(nowMs: number): JoinStats {
    const { table } = this.#join;
    const oldest = table.oldestPendingMs();
    const { pieceCount, logCount } = table;
    const unfinished = [...table.segments.keys(), ...this.#badFrames.values()];
    return {
      isReplaying: this.#replaying,
      tracesOpen: table.traces.live,
      tracesStored: this.#settled.count,
      evidencePending: pieceCount,
      pendingBySignal: { traces: pieceCount - logCount, logs: logCount },
      oldestPendingMs: oldest === undefined ? undefined : nowMs - since(nowMs, oldest),
      indexBytes: table.usedBytes + this.#settled.bytes + this.#huge.bytes,
      indexBytesMax: this.#options.settings.indexBytesMax,
      // A copy: it must be of the same moment as the other figures when it is looked at.
      ignored: new Map(this.#index.ignored),
      replayed: this.#index.replayed,
      unfinishedFrom: unfinished.length === 0 ? undefined : unfinished.reduce((a, b) => Math.min(a, b)),
      segments: table.segments,
      knownSinceMs: this.#settled.knownSinceMs,
    };
  }

  /** Settles one trace into the draft: its new evidence with all that the journal knows of it. How many pieces were looked at. */
  #settleTrace(due: HugeDue, draft: Draft): number {
    const { pieces: fresh, newest: through } = this.#join.table.take(due.trace);
    const about = this.#about(due, fresh, through);
    const formed = this.#settler.settleByForm(about);
    if (formed === undefined) {
      const settled = this.#settler.settle(about);
      this.#add(due.trace, settled, draft);
      return settled.pieces;
    }
    const { namespace, traceId, reason, nowMs } = about;
    const { rank, writes, coverage } = formed;
    this.#join.table.traces.set(due.trace, TRACE.stored, fresh.length);
    draft.traces.push({ namespace, traceId, reason, rank, revision: 1, writes });
    draft.entries.addFormed(about, formed, fresh, nowMs);
    draft.coverage.add(coverage);
    draft.inFlight.taken.push(due.trace);
    return fresh.length;
  }

  /** What a settle is told of a trace. */
  #about<Fresh>({ trace, reason, isRepeat }: HugeDue, fresh: Fresh, through: FramePosition) {
    const { namespace, traceId } = this.#index.nameOf(trace);
    const previous = this.#previousOf(trace, namespace, traceId);
    return {
      namespace,
      traceId,
      reason,
      isRepeat,
      fresh,
      through,
      previous,
      isForgotten: previous === undefined && this.#join.isSettled(trace),
      isReplayed: this.#join.isReplayed(trace),
      settles: this.#join.settlesOf(trace) + 1,
      firstSegment: this.#firstSegment,
      horizonMs: Math.max(this.#horizonMs, this.#settled.knownSinceMs ?? 0),
      nowMs: this.#lastNowMs,
    };
  }

  #add(trace: number, settled: SettledOne, draft: Draft): void {
    this.#join.table.traces.set(trace, TRACE.stored, settled.entry.pieces.length);
    if (settled.entry.isClosed) this.#join.markClosed(trace);
    if (settled.trace !== undefined) draft.traces.push(settled.trace);
    draft.entries.add(settled.entry);
    if (settled.announced !== undefined) draft.announced.push(settled.announced);
    draft.superseded.push(...settled.superseded);
    draft.quarantined.push(...settled.setAside);
    draft.coverage.add(settled.coverage);
    draft.inFlight.taken.push(trace);
  }

  /** To be repeated, but what the journal knew is gone: settling nothing would make its records forgotten. */
  #isNothing(trace: number): boolean {
    if (this.#join.table.traces.get(trace, TRACE.pieces) > 0) return false;
    const { namespace, traceId } = this.#index.nameOf(trace);
    return this.#previousOf(trace, namespace, traceId) === undefined;
  }

  /** What the journal remembers; undefined when the trace was never stored, or the entry is gone or damaged. */
  #previousOf(trace: number, namespace: string, traceId: string): JournalEntry | undefined {
    const position = this.#index.journalOf(trace);
    const entry = position === undefined ? undefined : this.#settled.read(position);
    return entry?.traceId === traceId && entry.namespace === namespace ? entry : undefined;
  }

  /** Settles log records that name no trace, each by itself; they share the journal entry of their frame. */
  #settleUntraced(group: number, draft: Draft): number {
    const { pieces, newest } = this.#join.table.take(group, UNTRACED_TAKE_MAX);
    const settled = this.#settler.settleUntraced(pieces, newest, draft.settledAtMs);
    draft.traces.push(settled.trace);
    draft.quarantined.push(...settled.setAside);
    draft.coverage.add(settled.coverage);
    const { left, fresh } = this.#groups.get(group) ?? {
      left: this.#join.table.traces.get(group, TRACE.pieces),
      fresh: [],
    };
    fresh.push(settled.fresh);
    if (left > pieces.length) {
      this.#groups.set(group, { left: left - pieces.length, fresh });
      draft.inFlight.parts.push(group);
    } else {
      this.#groups.delete(group);
      draft.untracedEntries.push(untracedEntry(settled.trace.namespace, newest, fresh, draft.settledAtMs));
      draft.inFlight.groups.push(group);
    }
    return settled.pieces;
  }
}
