import { msToNs } from '../core/clock.ts';
import type { BySignal, FreshCounts } from '../core/settlement.ts';
import { JournalOutput } from './journal-bytes.ts';
import { ENTRY_KIND, ENTRY_VERSION, encodeSettle, type JournalEntry } from './journal-codec.ts';
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

const BYTES_MIN = 16 * 1024;
const ROOM = 1.25;

/** Room for the next entries: what the last ones took, and some more. */
let roomBytes = BYTES_MIN;

export function encodeEntries(entries: readonly JournalEntry[]): EncodedEntries {
  const output = new JournalOutput(roomBytes);
  const starts = new Uint32Array(entries.length);
  const fresh = { traces: noCounts(), logs: noCounts() };
  let [firstMs, lastMs, newestThrough] = [Number.POSITIVE_INFINITY, 0, 0];
  for (const [index, entry] of entries.entries()) {
    const start = output.at;
    starts[index] = start;
    output.skip(ENTRY_HEAD_BYTES);
    encodeSettle(output, entry);
    seal(output, start, ENTRY_KIND.settle, entry.settledAtMs);
    firstMs = Math.min(firstMs, entry.settledAtMs);
    lastMs = Math.max(lastMs, entry.settledAtMs);
    newestThrough = Math.max(newestThrough, entry.through.segment);
    add(fresh.traces, entry.fresh.traces);
    add(fresh.logs, entry.fresh.logs);
  }
  roomBytes = Math.max(Math.ceil(output.at * ROOM), BYTES_MIN);
  return { bytes: output.part(0, output.at), starts, firstMs, lastMs, newestThrough, fresh };
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
