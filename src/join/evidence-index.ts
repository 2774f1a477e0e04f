import { nsToMs } from '../core/clock.ts';
import type { LogRecord } from '../core/evidence.ts';
import { type KeySet, PayloadReader } from '../otlp/decode.ts';
import { type ScannedItem, type ScanResult, scanLogs, scanTraces } from '../otlp/scan.ts';
import type { StoredFrame } from '../wal/frame.ts';
import { comparePositions, type FramePosition } from '../wal/segment-format.ts';
import type { JournalEntry, JournalPosition } from '../wal/settle-journal.ts';
import type { SetAside } from './batch.ts';
import type { TraceJoin } from './trace-join.ts';
import { hashTrace } from './trace-slots.ts';
import type { PieceIds } from './trace-table.ts';
import { TRACE } from './trace-words.ts';
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

/** Namespace number of the groups of log records without a trace; their id is the frame's position. */
const UNTRACED = 0;

/** Scans frames and puts where the evidence of this shard's traces lies into the join's table. */
export class EvidenceIndex {
  readonly #join: TraceJoin;
  readonly #options: EvidenceIndexOptions;
  readonly #namespaces: string[] = [''];
  readonly #namespaceNumbers = new Map<string, number>();
  #ignored = 0;
  #replayed = 0;
  /** The frame being scanned in the table, once it has evidence of this shard. */
  #frame = NONE;
  /** The trace and piece being looked at: kept here so that scanning allocates nothing. */
  readonly #id = new Uint32Array(4);
  readonly #ids: PieceIds = { spanHigh: 0, spanLow: 0, parentHigh: 0, parentLow: 0 };

  constructor(join: TraceJoin, options: EvidenceIndexOptions) {
    this.#join = join;
    this.#options = options;
  }

  /** Log records so far that name no trace and are no access. */
  get ignored(): number {
    return this.#ignored;
  }

  /** Pieces so far that a replay brought back as not stored yet, or as ignored. */
  get replayed(): number {
    return this.#replayed;
  }

  /** Returns the frame to be set aside when it cannot be scanned to its end; what came before that is in the index. */
  ingest(frame: StoredFrame, nowMs: number, isReplay: boolean): SetAside | undefined {
    if (frame.signal === 'metrics') return undefined;
    const { table } = this.#join;
    const before = table.pendingPieces + this.#ignored;
    this.#frame = NONE;
    const result =
      frame.signal === 'traces'
        ? scanTraces(frame.payload, (item) => this.#ingestTraced(frame, item, false, nowMs))
        : this.#ingestLogs(frame, nowMs);
    if (isReplay) this.#replayed += table.pendingPieces + this.#ignored - before;
    this.#join.relieve();
    if (result.ok || this.#options.shardIndex !== 0) return undefined;
    const { segment, offset } = frame.position;
    const body = [{ signal: frame.signal, segment, offset, bytes: frame.payload }];
    return { stage: 'decode', reason: result.message, id: `${segment}/${offset}`, body, pieces: 0 };
  }

  restore(entry: JournalEntry, position: JournalPosition): void {
    const isUntraced = entry.traceId === '';
    if (isUntraced) this.#setUntracedId(entry.through);
    else parseId(entry.traceId, this.#id);
    const namespace = isUntraced ? UNTRACED : this.#namespaceNumber(entry.namespace);
    if (!this.#owns(namespace)) return;
    const { table } = this.#join;
    let trace = table.find(this.#id, namespace);
    if (trace === NONE) trace = table.add(this.#id, namespace);
    table.traces.set(trace, TRACE.throughSegment, entry.through.segment);
    table.traces.set(trace, TRACE.throughOffset, entry.through.offset);
    this.setJournal(trace, position);
    if (isUntraced) this.#join.markUntraced(trace);
    this.#join.restored(trace, entry.settledAtMs);
    this.#join.relieve();
  }

  /** The traces of this id, one a namespace. */
  find(traceId: string): number[] {
    parseId(traceId, this.#id);
    const found = this.#namespaces.map((_, namespace) => this.#join.table.find(this.#id, namespace));
    return found.filter((trace, namespace) => trace !== NONE && namespace !== UNTRACED);
  }

  nameOf(trace: number): { namespace: string; traceId: string } {
    const { traces } = this.#join.table;
    let traceId = '';
    for (let word = 0; word < 4; word++) {
      traceId += traces
        .get(trace, TRACE.id + word)
        .toString(16)
        .padStart(8, '0');
    }
    return { namespace: this.#namespaces[traces.get(trace, TRACE.namespace)] ?? '', traceId };
  }

  setJournal(trace: number, position: JournalPosition): void {
    this.#join.table.traces.set(trace, TRACE.journalSegment, position.segment);
    this.#join.table.traces.set(trace, TRACE.journalOffset, position.offset);
  }

  journalOf(trace: number): JournalPosition | undefined {
    const { traces } = this.#join.table;
    const offset = traces.get(trace, TRACE.journalOffset);
    return offset === 0 ? undefined : { segment: traces.get(trace, TRACE.journalSegment), offset };
  }

  #ingestTraced(frame: StoredFrame, item: ScannedItem, isLog: boolean, nowMs: number): void {
    const { payload, position } = frame;
    for (let word = 0; word < 4; word++) this.#id[word] = payload.readUInt32BE(item.traceIdAt + word * 4);
    const namespace = this.#namespaceNumber(frame.note.namespace);
    if (!this.#owns(namespace)) return;
    const { spanIdAt, parentSpanIdAt } = item;
    const ids = this.#ids;
    ids.spanHigh = spanIdAt < 0 ? 0 : payload.readUInt32BE(spanIdAt);
    ids.spanLow = spanIdAt < 0 ? 0 : payload.readUInt32BE(spanIdAt + 4);
    ids.parentHigh = parentSpanIdAt < 0 ? 0 : payload.readUInt32BE(parentSpanIdAt);
    ids.parentLow = parentSpanIdAt < 0 ? 0 : payload.readUInt32BE(parentSpanIdAt + 4);
    const { table } = this.#join;
    let trace = table.find(this.#id, namespace);
    if (trace === NONE) trace = table.add(this.#id, namespace);
    const isPending = !this.#isStored(trace, position);
    table.addPiece(trace, this.#place(frame), item.itemStart, isLog, ids, isPending);
    if (isPending) this.#join.arrived(trace, !isLog && parentSpanIdAt < 0, nowMs);
  }

  #ingestLogs(frame: StoredFrame, nowMs: number): ScanResult {
    const untraced: number[] = [];
    const result = scanLogs(frame.payload, (item) => {
      if (item.traceIdAt < 0) untraced.push(item.itemStart);
      else this.#ingestTraced(frame, item, true, nowMs);
    });
    if (untraced.length > 0) this.#ingestUntraced(frame, untraced, nowMs);
    return result;
  }

  /** All of one frame are one group, so that one position in the journal says whether they are stored. */
  #ingestUntraced(frame: StoredFrame, itemStarts: readonly number[], nowMs: number): void {
    this.#setUntracedId(frame.position);
    if (!this.#owns(UNTRACED)) return;
    const { table } = this.#join;
    let trace = table.find(this.#id, UNTRACED);
    if (trace !== NONE) return;
    const reader = new PayloadReader(frame.payload, 'logs', frame.note, this.#options.keys);
    Object.assign(this.#ids, { spanHigh: 0, spanLow: 0, parentHigh: 0, parentLow: 0 });
    for (const itemStart of itemStarts) {
      if (!this.#isAccess(reader, itemStart)) {
        this.#ignored++;
        continue;
      }
      if (trace === NONE) {
        trace = table.add(this.#id, UNTRACED);
        this.#join.markUntraced(trace);
      }
      table.addPiece(trace, this.#place(frame), itemStart, true, this.#ids, true);
      this.#join.arrived(trace, false, nowMs);
    }
  }

  /** What cannot be decided is kept: settling it sets it aside with its reason. */
  #isAccess(reader: PayloadReader, itemStart: number): boolean {
    try {
      return this.#options.isAccessLog(reader.logRecord(itemStart));
    } catch {
      return true;
    }
  }

  #isStored(trace: number, position: FramePosition): boolean {
    if (!this.#join.isRestored(trace)) return false;
    const { traces } = this.#join.table;
    const segment = traces.get(trace, TRACE.throughSegment);
    return comparePositions(position, { segment, offset: traces.get(trace, TRACE.throughOffset) }) <= 0;
  }

  #place(frame: StoredFrame): number {
    if (this.#frame === NONE) {
      const { segment, offset } = frame.position;
      this.#frame = this.#join.table.addFrame(segment, offset, nsToMs(frame.note.receivedNs));
    }
    return this.#frame;
  }

  #owns(namespace: number): boolean {
    const { shardIndex, shardCount } = this.#options;
    // Namespace numbers differ between shards (they are given in order of arrival), so the hash for this leaves them out.
    return shardCount === 1 || hashTrace(this.#id, namespace === UNTRACED ? 0 : 1) % shardCount === shardIndex;
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

function parseId(hex: string, id: Uint32Array): void {
  for (let word = 0; word < 4; word++) id[word] = Number.parseInt(hex.slice(word * 8, word * 8 + 8), 16);
}
