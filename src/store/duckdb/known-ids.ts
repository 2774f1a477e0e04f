import { BIGINT, type DuckDBConnection } from '@duckdb/node-api';
import type { RecordWrite } from '../../core/settlement.ts';
import { BIGINT_MAX } from './sql.ts';

/** Time is looked at in slices of 69 seconds: more than how far a state may have moved and must still be found. */
const SLICE_NS = 2 ** 36;

/** Of nearly all times the slice is in this run's memory. Forgotten slices cost a look into the table. */
const SLICES_KEPT = 100_000;

/** Slices that one batch asks the table about: with more, its times are spread so far that they are looked up anyhow. */
const SLICES_ASKED_MAX = 64;

/** Ids of one filter, its bits (32 for each id), and those that an id sets: one new id of 200,000 fits by chance. */
const FILTER_IDS = 2_000_000;
const FILTER_BITS_LOG2 = 26;
const BITS_SET = 8;

/** Filters that are kept: 48 MiB, twelve million ids. */
const FILTERS_KEPT = 6;

interface Filter {
  readonly words: Uint32Array;
  readonly slices: Set<number>;
  ids: number;
}

/**
 * Which ids this run wrote, and where in time the table holds no others: so that new ids, which nearly all are, need no look
 * into the table, however much it holds. It may take a new id for a known one, never the other way round.
 */
export class KnownIds {
  /** Whether all ids of the slice are in the filters. */
  readonly #slices = new Map<number, boolean>();
  /** Oldest first. */
  readonly #filters: Filter[] = [];

  /** Those of the writes that may be in the table within a minute of their time. */
  async mayHold(connection: DuckDBConnection, writes: readonly RecordWrite[]): Promise<RecordWrite[]> {
    await this.#ask(connection, writes);
    return writes.filter((write) => {
      const slice = sliceOf(write.timestampNs);
      const isKnown = this.#slices.get(slice) && this.#slices.get(slice - 1) && this.#slices.get(slice + 1);
      return !isKnown || this.#holds(write.id);
    });
  }

  /** Before they are committed: what is in doubt afterwards counts as written. */
  add(writes: readonly RecordWrite[]): void {
    for (const { id, timestampNs } of writes) {
      const filter = this.#filterToFill();
      filter.ids++;
      filter.slices.add(sliceOf(timestampNs));
      let [at, step] = hashesOf(id);
      for (let bit = 0; bit < BITS_SET; bit++) {
        const place = at >>> (32 - FILTER_BITS_LOG2);
        filter.words[place >>> 5] = (filter.words[place >>> 5] as number) | (1 << (place & 31));
        at = (at + step) | 0;
      }
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

  #holds(id: string): boolean {
    const [start, step] = hashesOf(id);
    return this.#filters.some(({ words }) => {
      for (let bit = 0, at = start; bit < BITS_SET; bit++, at = (at + step) | 0) {
        const place = at >>> (32 - FILTER_BITS_LOG2);
        if (((words[place >>> 5] as number) & (1 << (place & 31))) === 0) return false;
      }
      return true;
    });
  }

  #filterToFill(): Filter {
    const newest = this.#filters.at(-1);
    if (newest && newest.ids < FILTER_IDS) return newest;
    const oldest = this.#filters.length >= FILTERS_KEPT ? this.#filters.shift() : undefined;
    for (const slice of oldest?.slices ?? []) this.#slices.set(slice, false);
    const words = oldest?.words.fill(0) ?? new Uint32Array(2 ** (FILTER_BITS_LOG2 - 5));
    const filter = { words, slices: new Set<number>(), ids: 0 };
    this.#filters.push(filter);
    return filter;
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

/** Where the bits of an id begin and how far they are apart: two FNV-1a hashes, stirred. */
function hashesOf(id: string): [at: number, step: number] {
  let [first, second] = [0x811c9dc5, 0x01000193];
  for (let index = 0; index < id.length; index++) {
    const code = id.charCodeAt(index);
    first = Math.imul(first ^ code, 0x01000193);
    second = Math.imul(second ^ code, 0x85ebca6b);
  }
  first = Math.imul(first ^ (first >>> 15), 0x2c1b3c6d);
  second = Math.imul(second ^ (second >>> 13), 0x297a2d39);
  return [first ^ (first >>> 16), (second ^ (second >>> 15)) | 1];
}
