import { nsToMs } from '../core/clock.ts';
import type { LogRecord } from '../core/evidence.ts';
import { FACT, FACT_WORDS } from '../core/span-columns.ts';
import { ROW, ROW_WORDS, type SpanRows } from '../core/span-rows.ts';
import { type KeySet, PayloadReader } from '../otlp/decode.ts';
import { type ScanResult, scanLogs } from '../otlp/scan.ts';
import { SpanWalk } from '../otlp/span-walk.ts';
import type { StoredFrame } from '../wal/frame.ts';
import type { FramePosition } from '../wal/segment-format.ts';
import type { JournalEntry, JournalHead, JournalPosition } from '../wal/settle-journal.ts';
import type { SetAside } from './batch.ts';
import { shardOf, wordAt } from './frame-split.ts';
import type { SettledTraces } from './settled-traces.ts';
import type { TraceJoin } from './trace-join.ts';
import type { PieceIds } from './trace-table.ts';
import { parseTraceId, TRACE, traceIdText } from './trace-words.ts';
import { NONE } from './word-pool.ts';

export interface EvidenceIndexOptions {
  /** What `settle` and `isAccessLog` need decoded. */
  readonly keys: KeySet;
  /** Is this log record, which names no trace, an access by itself? Others without a trace are counted as context only. */
  readonly isAccessLog: (log: LogRecord) => boolean;
  /** This shard owns the traces whose hash modulo `shardCount` is `shardIndex`. */
  readonly shardIndex: number;
  readonly shardCount: number;
}

/** Where evidence comes from, without what it says. */
export interface FrameOrigin {
  readonly position: FramePosition;
  readonly note: { readonly namespace: string; readonly receivedNs: bigint };
}

/** Namespace number of the groups of log records without a trace; their id is the frame's position. */
const UNTRACED = 0;

/** Scans frames and puts where the evidence of this shard's traces lies into the join's table. */
export class EvidenceIndex {
  readonly #join: TraceJoin;
  readonly #settled: SettledTraces;
  readonly #options: EvidenceIndexOptions;
  readonly #namespaces: string[] = [''];
  readonly #namespaceNumbers = new Map<string, number>();
  readonly #ignored = new Map<number, number>();
  readonly #walk = new SpanWalk();
  #replayed = 0;
  #isReplay = false;
  /** The frame being scanned in the table, once it has evidence of this shard. */
  #frame = NONE;
  /** The trace and piece being looked at: kept here so that scanning allocates nothing. */
  readonly #id = new Uint32Array(4);
  readonly #ids: PieceIds = { spanHigh: 0, spanLow: 0, parentHigh: 0, parentLow: 0 };
  /** Of the frame being scanned. */
  #frameNamespace = UNTRACED;
  /** The trace of `#id`, as long as the frame goes on with it: spans of one trace mostly come one after the other. */
  #last: number | undefined;

  constructor(join: TraceJoin, settled: SettledTraces, options: EvidenceIndexOptions) {
    this.#join = join;
    this.#settled = settled;
    this.#options = options;
  }

  /** Log records so far that name no trace and are no access, by the segment they are in. */
  get ignored(): ReadonlyMap<number, number> {
    return this.#ignored;
  }

  /** Pieces so far that a replay brought back as not stored yet. */
  get replayed(): number {
    return this.#replayed;
  }

  /** Returns the frame to be set aside when it cannot be scanned to its end; what came before that is in the index. */
  ingest(frame: StoredFrame, nowMs: number, isReplay: boolean): SetAside | undefined {
    if (frame.signal === 'metrics') return undefined;
    const { table } = this.#join;
    const before = table.pieceCount;
    this.#begin(frame, isReplay);
    const result = frame.signal === 'traces' ? this.#ingestSpans(frame, nowMs) : this.#ingestLogs(frame, nowMs);
    if (result.ok) frame.items ??= result.items - result.rejected;
    if (isReplay) this.#replayed += table.pieceCount - before;
    this.#join.relieve();
    if (result.ok || this.#options.shardIndex !== 0) return undefined;
    const { segment, offset } = frame.position;
    // A copy: of a replay the memory is used again.
    const body = [{ signal: frame.signal, segment, offset, bytes: Buffer.from(frame.payload) }];
    return { stage: 'decode', reason: result.message, id: `${segment}/${offset}`, body, pieces: 0 };
  }

  #begin({ note }: FrameOrigin, isReplay: boolean): void {
    this.#frame = NONE;
    this.#isReplay = isReplay;
    this.#frameNamespace = this.#namespaceNumber(note.namespace);
    this.#last = undefined;
  }

  /** As `ingest`, of spans that somebody else has found in a frame: this shard's, `FACT_WORDS` each. */
  ingestSpans(facts: Uint32Array, frame: FrameOrigin, nowMs: number, isReplay: boolean): void {
    const { table } = this.#join;
    const before = table.pieceCount;
    this.#begin(frame, isReplay);
    for (let at = 0; at < facts.length; at += FACT_WORDS) this.#ingestSpan(facts, at, frame, nowMs);
    if (isReplay) this.#replayed += table.pieceCount - before;
    this.#join.relieve();
  }

  /** Tells what the journal knows of a trace, before the frames are replayed; entries in the order of the journal. */
  restore(entry: JournalHead, position: JournalPosition): void {
    const isUntraced = entry.traceId === '';
    if (isUntraced) this.#setUntracedId(entry.through);
    else parseTraceId(entry.traceId, this.#id);
    const namespace = isUntraced ? UNTRACED : this.#namespaceNumber(entry.namespace);
    if (!this.#owns()) return;
    this.#settled.putThrough(namespace, this.#id, entry.through);
    if (isUntraced) {
      this.#settled.putGroup(entry.through, position);
      return;
    }
    this.#settled.put(namespace, this.#id, position);
    // What was received before the journal was read.
    const trace = this.#join.table.find(this.#id, namespace);
    if (trace === NONE) return;
    this.setJournal(trace, position);
    const whole = this.#settled.read(position);
    this.#join.markSettled(trace, entry.settledAtMs, entry.settles, whole?.pieces.length ?? 0);
    if (whole?.isClosed) this.#join.markClosed(trace);
  }

  /** Counts of these segments are taken over by somebody else. */
  forgetIgnored(beforeSegment: number): void {
    for (const segment of this.#ignored.keys()) if (segment < beforeSegment) this.#ignored.delete(segment);
  }

  /** The newest journal entry of a trace; undefined when it is not known (any more), or is of a trace with the same hash. */
  known(namespace: string, traceId: string): { position: JournalPosition; entry: JournalEntry } | undefined {
    const number = this.#namespaceNumbers.get(namespace);
    if (number === undefined) return undefined;
    parseTraceId(traceId, this.#id);
    return this.#known(number, namespace, traceId);
  }

  /** Where the newest journal entry of a trace is, not looked at. */
  positionOf(namespace: string, traceId: string): JournalPosition | undefined {
    const number = this.#namespaceNumbers.get(namespace);
    if (number === undefined || traceId === '') return undefined;
    parseTraceId(traceId, this.#id);
    return this.#settled.find(number, this.#id);
  }

  /** The trace in the table, put there from its journal entry when it is not; undefined when it was never stored. */
  recall(namespace: string, traceId: string): number | undefined {
    const known = this.known(namespace, traceId);
    if (known === undefined) return undefined;
    const number = this.#namespaceNumber(namespace);
    parseTraceId(traceId, this.#id);
    const found = this.#join.table.find(this.#id, number);
    return found === NONE ? this.#addKnown(number, known) : found;
  }

  /** All traces of this id: one a namespace. */
  namespacesOf(traceId: string): { namespace: string; trace: number }[] {
    parseTraceId(traceId, this.#id);
    return this.#namespaces
      .map((namespace, number) => ({ namespace, trace: this.#join.table.find(this.#id, number) }))
      .slice(UNTRACED + 1);
  }

  nameOf(trace: number): { namespace: string; traceId: string } {
    const { traces } = this.#join.table;
    for (let word = 0; word < 4; word++) this.#id[word] = traces.get(trace, TRACE.id + word);
    return { namespace: this.#namespaces[traces.get(trace, TRACE.namespace)] ?? '', traceId: traceIdText(this.#id) };
  }

  setJournal(trace: number, position: JournalPosition): void {
    this.#join.table.traces.set(trace, TRACE.journalSegment, position.segment);
    this.#join.table.traces.set(trace, TRACE.journalOffset, position.offset);
  }

  /** The trace is stored: late evidence finds it by this entry. */
  putStored(trace: number, position: JournalPosition): void {
    this.setJournal(trace, position);
    const { traces } = this.#join.table;
    for (let word = 0; word < 4; word++) this.#id[word] = traces.get(trace, TRACE.id + word);
    this.#settled.put(traces.get(trace, TRACE.namespace), this.#id, position);
  }

  journalOf(trace: number): JournalPosition | undefined {
    const { traces } = this.#join.table;
    const offset = traces.get(trace, TRACE.journalOffset);
    return offset === 0 ? undefined : { segment: traces.get(trace, TRACE.journalSegment), offset };
  }

  #ingestSpan(facts: Uint32Array, at: number, frame: FrameOrigin, nowMs: number): void {
    const [id, ids] = [this.#id, this.#ids];
    let isSame = this.#last !== undefined;
    for (let word = 0; word < 4; word++) {
      const value = facts[at + FACT.traceId + word] as number;
      isSame &&= id[word] === value;
      id[word] = value;
    }
    if (!isSame) this.#last = this.#traceOf(frame);
    const trace = this.#last ?? NONE;
    if (trace === NONE) return;
    ids.spanHigh = facts[at + FACT.idHigh] as number;
    ids.spanLow = facts[at + FACT.idLow] as number;
    ids.parentHigh = facts[at + FACT.parentHigh] as number;
    ids.parentLow = facts[at + FACT.parentLow] as number;
    this.#put(trace, frame, facts[at + FACT.itemStart] as number, false, nowMs);
  }

  /** From where its spans are, if that is known, else by a walk of its own. */
  #ingestSpans(frame: StoredFrame, nowMs: number): ScanResult {
    const { payload, spans } = frame;
    const { rows, result } = spans ? { rows: spans, result: wholeOf(spans) } : this.#walk.walk(payload);
    const { words } = rows;
    for (let at = 0; at < rows.count * ROW_WORDS; at += ROW_WORDS) {
      const start = words[at + ROW.itemStart] as number;
      const traceIdAt = words[at + ROW.traceIdAt] as number;
      const spanIdAt = words[at + ROW.spanIdAt] as number;
      this.#ingestTraced(frame, start, traceIdAt, spanIdAt, words[at + ROW.parentIdAt] as number, false, nowMs);
    }
    return result;
  }

  #ingestTraced(
    frame: StoredFrame,
    itemStart: number,
    traceIdAt: number,
    spanIdAt: number,
    parentSpanIdAt: number,
    isLog: boolean,
    nowMs: number,
  ): void {
    const { payload } = frame;
    if (!this.#isSameTrace(payload, traceIdAt)) this.#last = this.#traceOf(frame);
    const trace = this.#last ?? NONE;
    if (trace === NONE) return;
    const ids = this.#ids;
    ids.spanHigh = spanIdAt < 0 ? 0 : wordAt(payload, spanIdAt);
    ids.spanLow = spanIdAt < 0 ? 0 : wordAt(payload, spanIdAt + 4);
    ids.parentHigh = parentSpanIdAt < 0 ? 0 : wordAt(payload, parentSpanIdAt);
    ids.parentLow = parentSpanIdAt < 0 ? 0 : wordAt(payload, parentSpanIdAt + 4);
    this.#put(trace, frame, itemStart, isLog, nowMs);
  }

  /** The piece whose ids were read. */
  #put(trace: number, frame: FrameOrigin, itemStart: number, isLog: boolean, nowMs: number): void {
    const ids = this.#ids;
    this.#join.table.addPiece(trace, this.#place(frame), itemStart, isLog, ids);
    if (this.#isReplay) this.#join.markReplayed(trace);
    this.#join.arrived(trace, !isLog && ids.parentHigh === 0 && ids.parentLow === 0, nowMs);
  }

  /** Reads the trace id; answers whether it is that of the item before, whose trace is known. */
  #isSameTrace(payload: Buffer, at: number): boolean {
    const id = this.#id;
    let isSame = this.#last !== undefined;
    for (let word = 0; word < 4; word++) {
      const value = wordAt(payload, at + word * 4);
      isSame &&= id[word] === value;
      id[word] = value;
    }
    return isSame;
  }

  /** The trace of `#id`, made when there is none; NONE when it is another shard's, or its part of the frame is stored already. */
  #traceOf(frame: FrameOrigin): number {
    const namespace = this.#frameNamespace;
    if (!this.#owns()) return NONE;
    if (this.#isReplay && this.#settled.isStored(namespace, this.#id, frame.position)) return NONE;
    const trace = this.#join.table.find(this.#id, namespace);
    return trace === NONE ? this.#add(namespace, frame.note.namespace) : trace;
  }

  /** A trace for evidence that has none in the table: a new one, or one that is stored and gets late evidence. */
  #add(namespace: number, name: string): number {
    const position = this.#settled.find(namespace, this.#id);
    const known = position === undefined ? undefined : this.#known(namespace, name, traceIdText(this.#id));
    return known === undefined ? this.#join.table.add(this.#id, namespace) : this.#addKnown(namespace, known);
  }

  #known(number: number, namespace: string, traceId: string) {
    const position = this.#settled.find(number, this.#id);
    const entry = position === undefined ? undefined : this.#settled.read(position);
    if (position === undefined || entry === undefined) return undefined;
    return entry.traceId === traceId && entry.namespace === namespace ? { position, entry } : undefined;
  }

  #addKnown(namespace: number, { position, entry }: { position: JournalPosition; entry: JournalEntry }): number {
    const trace = this.#join.table.add(this.#id, namespace);
    this.setJournal(trace, position);
    this.#join.markSettled(trace, entry.settledAtMs, entry.settles, entry.pieces.length);
    if (entry.isClosed) this.#join.markClosed(trace);
    return trace;
  }

  #ingestLogs(frame: StoredFrame, nowMs: number): ScanResult {
    const untraced: number[] = [];
    const result = scanLogs(frame.payload, (item) => {
      if (item.traceIdAt < 0) untraced.push(item.itemStart);
      else this.#ingestTraced(frame, item.itemStart, item.traceIdAt, item.spanIdAt, -1, true, nowMs);
    });
    if (untraced.length > 0) this.#ingestUntraced(frame, untraced, nowMs);
    return result;
  }

  /** All of one frame are one group, so that one position in the journal says whether they are stored. */
  #ingestUntraced(frame: StoredFrame, itemStarts: readonly number[], nowMs: number): void {
    this.#setUntracedId(frame.position);
    if (!this.#owns()) return;
    const isStored = this.#isReplay && this.#settled.isStored(UNTRACED, this.#id, frame.position);
    const stored = isStored ? this.#settled.countOfGroup(frame.position) : undefined;
    if (stored !== undefined) {
      // By the rules of then: those of now may see other accesses among them.
      this.#ignore(frame, Math.max(itemStarts.length - stored, 0));
      return;
    }
    const { table } = this.#join;
    let trace = NONE;
    const reader = new PayloadReader(frame.payload, 'logs', frame.note, this.#options.keys);
    Object.assign(this.#ids, { spanHigh: 0, spanLow: 0, parentHigh: 0, parentLow: 0 });
    for (const itemStart of itemStarts) {
      if (!this.#isAccess(reader, itemStart)) {
        this.#ignore(frame, 1);
        continue;
      }
      if (isStored) continue;
      if (trace === NONE) {
        trace = table.add(this.#id, UNTRACED);
        this.#join.markUntraced(trace);
      }
      table.addPiece(trace, this.#place(frame), itemStart, true, this.#ids);
      this.#join.arrived(trace, false, nowMs);
    }
  }

  #ignore({ position: { segment } }: StoredFrame, count: number): void {
    if (count > 0) this.#ignored.set(segment, (this.#ignored.get(segment) ?? 0) + count);
  }

  /** What cannot be decided is kept: settling it sets it aside with its reason. */
  #isAccess(reader: PayloadReader, itemStart: number): boolean {
    try {
      return this.#options.isAccessLog(reader.logRecord(itemStart));
    } catch {
      return true;
    }
  }

  #place(frame: FrameOrigin): number {
    if (this.#frame === NONE) {
      const { segment, offset } = frame.position;
      this.#frame = this.#join.table.addFrame(segment, offset, nsToMs(frame.note.receivedNs));
    }
    return this.#frame;
  }

  #owns(): boolean {
    const { shardIndex, shardCount } = this.#options;
    return shardCount === 1 || shardOf(this.#id, shardCount) === shardIndex;
  }

  #setUntracedId(position: FramePosition): void {
    this.#id.set([0, 0, position.segment, position.offset]);
  }

  #namespaceNumber(namespace: string): number {
    let number = this.#namespaceNumbers.get(namespace);
    if (number === undefined) {
      number = this.#namespaces.push(namespace) - 1;
      this.#namespaceNumbers.set(namespace, number);
    }
    return number;
  }
}

/** What there was of others was rejected before the frame was written. */
function wholeOf({ count }: SpanRows): ScanResult {
  return { ok: true, items: count, rejected: 0, reason: '' };
}
