import { BIGINT, type DuckDBConnection } from '@duckdb/node-api';
import type { RecordWrite } from '../../core/settlement.ts';
import { appendNarrow } from './chunks.ts';

/** Rows that a run keeps, at least: several times what is written before the settle journal knows of it. */
const ROWS_KEPT = 20_000;

/** Runs that are kept: as many could end one after the other, each before it settled again what the first one wrote. */
const RUNS_KEPT = 16n;

/**
 * Where the last records of each run were written, in a table beside them and by the same transactions. A run that ends between
 * the store's acknowledgement and the journal's leaves records that nobody else remembers. The next runs find them here,
 * wherever they are, without a look at all records. Bounded: some hundred thousand rows of an id and a time.
 */
export class RecentWrites {
  /** Undefined until the first commit: it is also when the oldest run is forgotten. */
  #run: bigint | undefined;
  #number = 0n;
  #rows = 0;
  /** Writes of this run that are kept, oldest first. */
  #kept: { readonly number: bigint; readonly rows: number }[] = [];

  /** Times at which recent writes put what is staged, epoch nanoseconds. */
  async timesOfStaged(connection: DuckDBConnection): Promise<bigint[]> {
    const found = await connection.runAndReadAll(
      'SELECT DISTINCT w."@timestamp" FROM recent_writes w JOIN staging s ON w.id = s.id',
    );
    return found.getRows().map(([time]) => BigInt(String(time)));
  }

  /** Adds writes, within their transaction. Returns what is to be called when it is committed. */
  async add(connection: DuckDBConnection, writes: readonly RecordWrite[]): Promise<() => void> {
    const rows = writes.length;
    const run = this.#run ?? (await this.#begin(connection));
    const number = this.#number++;
    await appendNarrow(connection, 'recent_writes', null, [
      writes.map(() => run),
      writes.map(() => number),
      writes.map(({ id }) => id),
      writes.map(({ timestampNs }) => timestampNs),
    ]);
    const kept = [...this.#kept, { number, rows }];
    let left = this.#rows + rows;
    while (left - (kept[0]?.rows ?? left) >= ROWS_KEPT) left -= kept.shift()?.rows ?? 0;
    if (left < this.#rows + rows) {
      const bounds = [run, kept[0]?.number ?? number];
      await connection.run('DELETE FROM recent_writes WHERE run = $1 AND number < $2', bounds, [BIGINT, BIGINT]);
    }
    return () => {
      this.#run = run;
      this.#kept = kept;
      this.#rows = left;
    };
  }

  async #begin(connection: DuckDBConnection): Promise<bigint> {
    const found = await connection.runAndReadAll('SELECT coalesce(max(run), 0) + 1 FROM recent_writes');
    const run = BigInt(String(found.getRows()[0]?.[0] ?? 1));
    await connection.run('DELETE FROM recent_writes WHERE run <= $1', [run - RUNS_KEPT], [BIGINT]);
    return run;
  }
}
