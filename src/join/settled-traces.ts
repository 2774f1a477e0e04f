import { AppError } from '../core/errors.ts';
import { comparePositions, type FramePosition, positionKey } from '../wal/segment-format.ts';
import type { JournalEntry, JournalPosition } from '../wal/settle-journal.ts';
import { KeyedHash } from './keyed-hash.ts';
import { PositionTable } from './position-table.ts';

/** For the positions that a replay is compared with: they are few, and forgetting one would count its evidence twice. */
const THROUGH_BYTES_MAX = 2 ** 30;

/** Parts of the table that are swept each time segments are dropped: all of them after some times. */
const SWEPT_PARTS = 64;

/**
 * What is in memory of traces that are settled and stored: where the newest journal entry of each is, some 20 bytes a trace.
 * The journal has the rest.
 */
export class SettledTraces {
  readonly #hash = new KeyedHash();
  readonly #newest: PositionTable;
  /** While the write-ahead log is replayed: up to where the evidence of each trace is stored, as far as it is read again. */
  #through: PositionTable | undefined = new PositionTable(THROUGH_BYTES_MAX);
  /** For as long: the entries of groups of log records without a trace, by the frame that is read again. */
  readonly #groups = new Map<number, { readonly segment: number; readonly entry: JournalPosition }>();
  readonly #readJournal: (position: JournalPosition) => JournalEntry;
  #knownSinceMs: number | undefined;

  constructor(bytesMax: number, readJournal: (position: JournalPosition) => JournalEntry) {
    this.#newest = new PositionTable(bytesMax);
    this.#readJournal = readJournal;
  }

  get count(): number {
    return this.#newest.count;
  }

  get bytes(): number {
    return this.#newest.bytes + (this.#through?.bytes ?? 0);
  }

  /** Epoch milliseconds: of traces settled last before this nothing is known any more, for want of memory. */
  get knownSinceMs(): number | undefined {
    return this.#knownSinceMs;
  }

  /** Where the newest journal entry of a trace is. */
  find(namespace: number, id: Uint32Array): JournalPosition | undefined {
    this.#hash.hash(namespace, id);
    return this.#newest.get(this.#hash.high, this.#hash.low);
  }

  put(namespace: number, id: Uint32Array, position: JournalPosition): void {
    const before = this.#newest.floor;
    this.#hash.hash(namespace, id);
    this.#newest.put(this.#hash.high, this.#hash.low, position);
    const { floor } = this.#newest;
    if (floor === before) return;
    const settledAtMs = this.read(floor)?.settledAtMs;
    this.#knownSinceMs = Math.max(this.#knownSinceMs ?? 0, settledAtMs ?? 0);
  }

  /** The entry there; undefined when it is gone or damaged. */
  read(position: JournalPosition): JournalEntry | undefined {
    try {
      return this.#readJournal(position);
    } catch (thrown) {
      if (thrown instanceof AppError) return undefined;
      throw thrown;
    }
  }

  /** Before the replay: evidence of this trace up to there is stored. Says nothing when it is of no frame, or less than is known. */
  putThrough(namespace: number, id: Uint32Array, through: FramePosition): void {
    this.#hash.hash(namespace, id);
    const known = this.#through?.get(this.#hash.high, this.#hash.low);
    if (through.offset === 0 || (known !== undefined && comparePositions(through, known) <= 0)) return;
    this.#through?.put(this.#hash.high, this.#hash.low, through);
  }

  /** Before the replay: the log records of this frame that name no trace and are accesses are stored, says the entry there. */
  putGroup(frame: FramePosition, entry: JournalPosition): void {
    this.#groups.set(positionKey(frame), { segment: frame.segment, entry });
  }

  /** How many log records of the frame that entry counts; undefined when it is not known. */
  countOfGroup(frame: FramePosition): number | undefined {
    const position = this.#groups.get(positionKey(frame))?.entry;
    const entry = position === undefined ? undefined : this.read(position);
    if (entry?.traceId !== '') return undefined;
    const { used, context, excluded, duplicate, quarantined } = entry.fresh.logs;
    return used + context + excluded + duplicate + quarantined;
  }

  /** Frames in segments before this one are not replayed. */
  replayFrom(segment: number): void {
    for (const [key, group] of this.#groups) if (group.segment < segment) this.#groups.delete(key);
    this.#through?.raiseFloor({ segment, offset: 0 });
    this.#through?.sweep(SWEPT_PARTS);
  }

  /**
   * Is a frame that is replayed stored already, as far as this trace is concerned? Two traces of one 64-bit hash would be
   * mistaken here; at a million traces the odds are one in ten million a restart.
   */
  isStored(namespace: number, id: Uint32Array, position: FramePosition): boolean {
    if (this.#through === undefined || this.#through.count === 0) return false;
    this.#hash.hash(namespace, id);
    const through = this.#through.get(this.#hash.high, this.#hash.low);
    return through !== undefined && comparePositions(position, through) <= 0;
  }

  endReplay(): void {
    this.#through = undefined;
    this.#groups.clear();
  }

  /** Entries in journal segments before this one are gone. */
  dropBefore(segment: number): void {
    this.#newest.raiseFloor({ segment, offset: 0 });
    this.#newest.sweep(SWEPT_PARTS);
  }
}
