import { msToNs } from '../core/clock.ts';
import type { BySignal, FreshCounts } from '../core/settlement.ts';
import { JournalOutput } from './journal-bytes.ts';
import {
  ENTRY_KIND,
  ENTRY_VERSION,
  encodeFormed,
  encodeSettle,
  type FormedAbout,
  type FormedOutcome,
  type JournalEntry,
} from './journal-codec.ts';
import type { EvidencePlaces } from './journal-places.ts';
import { ENTRY_HEAD_BYTES, sealEntry } from './segment-format.ts';

/**
 * Entries as the journal's segments hold them, one behind the other, and what else is asked of them: plain data, so that it crosses
 * between threads, and few objects, however many entries wait for the store.
 */
export interface EncodedEntries {
  readonly bytes: Uint8Array;
  /** Where each begins. */
  readonly starts: Uint32Array;
  /** When the first and the last were settled, epoch milliseconds. */
  readonly firstMs: number;
  readonly lastMs: number;
  /** The newest segment of the write-ahead log that they speak of. */
  readonly newestThrough: number;
  /** Sums of all. */
  readonly fresh: BySignal<FreshCounts>;
}

const NO_BYTES = Buffer.alloc(0);
const BYTES_MIN = 16 * 1024;
const ROOM = 1.25;

/** Memory of entries that is free and kept: of as many as two writes have. */
const FREE_MAX = 32;
/** Larger pieces are of huge traces, which are few. */
const FREE_BYTES_MAX = 256 * 1024;

/** Room for the next entries: what the last ones took, and some more. */
let roomBytes = BYTES_MIN;

/** The memory that entries lie in until the journal has them; what is given back is used again. */
export class EntriesMemory {
  readonly #free: Buffer[] = [];

  /** At least so many bytes. */
  take(bytes: number): Buffer {
    const free = this.#free.pop();
    return free !== undefined && free.length >= bytes ? free : Buffer.allocUnsafeSlow(bytes);
  }

  /** Nobody looks at them any more. */
  recycle({ bytes: { buffer } }: EncodedEntries): void {
    const { byteLength } = buffer;
    // Of those that went to another thread none is left.
    if (byteLength < BYTES_MIN || byteLength > FREE_BYTES_MAX || this.#free.length === FREE_MAX) return;
    this.#free.push(Buffer.from(buffer));
  }
}

/** Writes entries one behind the other, as they come. */
export class EntriesWriter {
  readonly #memory: EntriesMemory;
  /** Most takes have nothing to write. */
  #output: JournalOutput | undefined;
  readonly #starts: number[] = [];
  readonly #fresh = { traces: noCounts(), logs: noCounts() };
  #firstMs = Number.POSITIVE_INFINITY;
  #lastMs = 0;
  #newestThrough = 0;

  constructor(memory = new EntriesMemory()) {
    this.#memory = memory;
  }

  add(entry: JournalEntry): void {
    const output = this.#begin();
    encodeSettle(output, entry);
    this.#end(output, entry.settledAtMs, entry, entry);
  }

  /** The entry of a first settle by form at this time, epoch milliseconds. */
  addFormed(about: FormedAbout, outcome: FormedOutcome, pieces: EvidencePlaces, settledAtMs: number): void {
    const output = this.#begin();
    encodeFormed(output, about, outcome, pieces);
    this.#end(output, settledAtMs, about, outcome);
  }

  finish(): EncodedEntries {
    const output = this.#output ?? new JournalOutput(NO_BYTES);
    roomBytes = Math.max(Math.ceil(output.at * ROOM), BYTES_MIN);
    return {
      bytes: output.part(0, output.at),
      starts: Uint32Array.from(this.#starts),
      firstMs: this.#firstMs,
      lastMs: this.#lastMs,
      newestThrough: this.#newestThrough,
      fresh: this.#fresh,
    };
  }

  #begin(): JournalOutput {
    this.#output ??= new JournalOutput(this.#memory.take(roomBytes));
    this.#starts.push(this.#output.at);
    this.#output.skip(ENTRY_HEAD_BYTES);
    return this.#output;
  }

  #end(
    output: JournalOutput,
    settledAtMs: number,
    { through }: Pick<JournalEntry, 'through'>,
    { fresh }: Pick<JournalEntry, 'fresh'>,
  ): void {
    seal(output, this.#starts.at(-1) as number, ENTRY_KIND.settle, settledAtMs);
    this.#firstMs = Math.min(this.#firstMs, settledAtMs);
    this.#lastMs = Math.max(this.#lastMs, settledAtMs);
    this.#newestThrough = Math.max(this.#newestThrough, through.segment);
    add(this.#fresh.traces, fresh.traces);
    add(this.#fresh.logs, fresh.logs);
  }
}

export function encodeEntries(entries: readonly JournalEntry[]): EncodedEntries {
  const writer = new EntriesWriter();
  for (const entry of entries) writer.add(entry);
  return writer.finish();
}

/** Seals the entry whose head is at `start` and whose body ends where the output does. */
export function seal(output: JournalOutput, start: number, kind: number, timeMs: number): void {
  sealEntry(output.part(start, output.at), kind, msToNs(timeMs), undefined, ENTRY_VERSION);
}

type Counts = { -readonly [Use in keyof FreshCounts]: number };

function noCounts(): Counts {
  return { used: 0, context: 0, excluded: 0, duplicate: 0, quarantined: 0 };
}

function add(sum: Counts, { used, context, excluded, duplicate, quarantined }: FreshCounts): void {
  sum.used += used;
  sum.context += context;
  sum.excluded += excluded;
  sum.duplicate += duplicate;
  sum.quarantined += quarantined;
}
