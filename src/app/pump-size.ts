import type { SettledBatch } from '../join/batch.ts';
import { sum } from './pump-status.ts';

/** Small writes are over soon: what is on its way is little, and dies young. */
const RECORDS_MIN = 256;

/** A write that takes longer than this has more gathered behind it. */
export const GROW_MS = 10;

/**
 * How many records are gathered for the next write while one is under way. While the store keeps up it is few, so that the
 * garbage collector, which stops everything, finds few of them to keep alive. It grows while more is due than that.
 */
export class WriteSize {
  readonly #recordsMax: number;
  #records: number;

  constructor(recordsMax: number) {
    this.#recordsMax = recordsMax;
    this.#records = Math.min(RECORDS_MIN, recordsMax);
  }

  get records(): number {
    return this.#records;
  }

  get isLargest(): boolean {
    return this.#records === this.#recordsMax;
  }

  /** So many were gathered, and the write before them goes on. */
  grow(): void {
    this.#records = Math.min(this.#records * 2, this.#recordsMax);
  }

  /** Nothing more is due than so many records. */
  restAt(records: number): void {
    if (records >= this.#records / 2) return;
    this.#records = Math.max(Math.ceil(this.#records / 2), Math.min(RECORDS_MIN, this.#recordsMax));
  }
}

/** Records to write; a trace without one and what is set aside count as one, so that a write ends also where there is none. */
export function sizeOf(batches: readonly SettledBatch[]): number {
  return sum(
    batches,
    (batch) => sum(batch.traces, (trace) => Math.max(trace.writes.length, 1)) + batch.quarantined.length,
  );
}
