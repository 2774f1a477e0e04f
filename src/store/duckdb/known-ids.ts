import { BIGINT, type DuckDBConnection } from '@duckdb/node-api';
import type { RecordWrite } from '../../core/settlement.ts';
import { IdFilters } from '../id-filters.ts';
import { BIGINT_MAX } from './sql.ts';

/** Time is looked at in slices of 69 seconds: more than how far a state may have moved and must still be found. */
const SLICE_NS = 2 ** 36;

/** Of nearly all times the slice is in this run's memory. Forgotten slices cost a look into the table. */
const SLICES_KEPT = 100_000;

/** Slices that one batch asks the table about: with more, its times are spread so far that they are looked up anyhow. */
const SLICES_ASKED_MAX = 64;

/**
 * Which ids this run wrote, and where in time the table holds no others: so that new ids, which nearly all are, need no look
 * into the table, however much it holds. It may take a new id for a known one, never the other way round.
 */
export class KnownIds {
  /** Whether all ids of the slice are in the filters. */
  readonly #slices = new Map<number, boolean>();
  /** Of each filter the slices in which its ids are. */
  readonly #filters = new IdFilters<Set<number>>(
    () => new Set(),
    (slices) => {
      for (const slice of slices) this.#slices.set(slice, false);
    },
  );

  /** Those of the writes that may be in the table within a minute of their time. */
  async mayHold(connection: DuckDBConnection, writes: readonly RecordWrite[]): Promise<RecordWrite[]> {
    await this.#ask(connection, writes);
    return writes.filter((write) => {
      const slice = sliceOf(write.timestampNs);
      const isKnown = this.#slices.get(slice) && this.#slices.get(slice - 1) && this.#slices.get(slice + 1);
      return !isKnown || this.#filters.has(write.id);
    });
  }

  /** Before they are committed: what is in doubt afterwards counts as written. */
  add(writes: readonly RecordWrite[]): void {
    for (const { id, timestampNs } of writes) {
      this.#filters.add(id);
      this.#filters.scope?.add(sliceOf(timestampNs));
    }
  }

  async #ask(connection: DuckDBConnection, writes: readonly RecordWrite[]): Promise<void> {
    if (this.#slices.size > SLICES_KEPT) this.#slices.clear();
    const unknown = new Set<number>();
    let last = Number.NaN;
    for (const { timestampNs } of writes) {
      const slice = sliceOf(timestampNs);
      if (slice === last) continue;
      last = slice;
      for (const near of [slice - 1, slice, slice + 1]) if (!this.#slices.has(near)) unknown.add(near);
    }
    if (unknown.size > SLICES_ASKED_MAX) return;
    for (const slice of unknown) {
      const found = await connection.runAndReadAll(
        'SELECT 1 FROM records WHERE "@timestamp" BETWEEN $1 AND $2 LIMIT 1',
        [startOf(slice), startOf(slice + 1)],
        [BIGINT, BIGINT],
      );
      this.#slices.set(slice, found.currentRowCount === 0);
    }
  }
}

/** Of a time that is more than a number holds exactly: what lies at an end may count to either side, but always to the same. */
function sliceOf(timestampNs: bigint): number {
  return Math.floor(Number(timestampNs) / SLICE_NS);
}

function startOf(slice: number): bigint {
  const startNs = BigInt(slice) * BigInt(SLICE_NS);
  return startNs > BIGINT_MAX ? BIGINT_MAX : startNs;
}
