import { chmod, mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';
import { AppError, describeError } from '../../core/errors.ts';
import type { AuditRecord } from '../../core/record.ts';
import type { RecordWrite } from '../../core/settlement.ts';
import type {
  Aggregation,
  AggregationRow,
  Capabilities,
  Facet,
  HistogramBucket,
  Page,
  Selection,
  Sort,
  Store,
  WriteResult,
} from '../port.ts';
import { aggregate, documents, facets, histogram, query, search } from './reads.ts';
import { CREATE_STAGING, CREATE_TABLES, TABLES_VERSION } from './schema.ts';
import { Bindings, selectionSql } from './sql.ts';
import { writeBatch } from './writer.ts';

export interface DuckDbSettings {
  /** The database file; its folder is made when it is missing. */
  readonly file: string;
  readonly memoryBytes: number;
  readonly threads: number;
}

/** Records of one page of `iterate`. */
const ITERATE_RECORDS = 2000;

/** Log that DuckDB keeps before it moves it into the database file, which holds up the commit that crosses it. */
const CHECKPOINT_THRESHOLD = '128MiB';

/** File format of new databases: the first that has zstd. */
const STORAGE_VERSION = 'v1.2.0';

interface Connections {
  readonly instance: DuckDBInstance;
  readonly writes: DuckDBConnection;
  /** Connections that no read is using. A read has one to itself, so that none waits for another, nor a write for it. */
  readonly idle: DuckDBConnection[];
}

/** The embedded store: one DuckDB file. Only one process may have it open. */
export class DuckDbStore implements Store {
  readonly capabilities: Capabilities = { name: 'duckdb', searchableAfterMs: 0, exactAggregations: true };
  readonly #settings: DuckDbSettings;
  /** Absent after a fatal error, until the next write opens the file again. */
  #connections: Connections | undefined;
  /** The last write; the next one starts after it. */
  #lastWrite: Promise<unknown> = Promise.resolve();

  private constructor(settings: DuckDbSettings, connections: Connections) {
    this.#settings = settings;
    this.#connections = connections;
  }

  /** Opens or makes the file. AppError('storage') when another process has it, or it is no database of ours. */
  static async open(settings: DuckDbSettings): Promise<DuckDbStore> {
    return new DuckDbStore(settings, await connect(settings));
  }

  async setUp(): Promise<void> {
    await this.#inTurn(async () => setUpTables((await this.#connected()).writes, this.#settings.file));
  }

  write(batch: readonly RecordWrite[]): Promise<WriteResult> {
    return this.#inTurn(async () => {
      try {
        return await writeBatch((await this.#connected()).writes, batch);
      } catch (error) {
        if (isFatal(error)) this.#letGo();
        throw new AppError('store_unavailable', `DuckDB did not take the batch: ${firstLine(error)}`, { cause: error });
      }
    });
  }

  search(selection: Selection, sort: Sort, limit: number, cursor?: string): Promise<Page> {
    return this.#read((connection) => search(connection, selection, sort, limit, cursor));
  }

  async get(id: string): Promise<AuditRecord | undefined> {
    const bindings = new Bindings();
    const sql = `SELECT doc FROM records WHERE id = ${bindings.add(id)}`;
    return (await this.#read((connection) => documents(connection, sql, bindings)))[0];
  }

  revisions(id: string): Promise<readonly AuditRecord[]> {
    const bindings = new Bindings();
    const bound = bindings.add(id);
    // The current state has the highest rank, so it comes last.
    const sql = `SELECT doc FROM (SELECT doc, rank FROM revisions WHERE id = ${bound}
      UNION ALL SELECT doc, rank FROM records WHERE id = ${bound}) ORDER BY rank`;
    return this.#read((connection) => documents(connection, sql, bindings));
  }

  trace(traceId: string): Promise<readonly AuditRecord[]> {
    const bindings = new Bindings();
    const sql = `SELECT doc FROM records WHERE "trace.id" = ${bindings.add(traceId)} AND "audit.superseded_by" IS NULL
      ORDER BY "@timestamp", id`;
    return this.#read((connection) => documents(connection, sql, bindings));
  }

  async count(selection: Selection): Promise<number> {
    const bindings = new Bindings();
    const sql = `SELECT count(*) FROM records WHERE ${selectionSql(selection, bindings)}`;
    const [row] = await this.#read((connection) => query(connection, sql, bindings));
    return Number(row?.[0] ?? 0);
  }

  facets(selection: Selection, fields: readonly string[], limit: number): Promise<readonly Facet[]> {
    return this.#read((connection) => facets(connection, selection, fields, limit));
  }

  histogram(selection: Selection, bucketMs: number): Promise<readonly HistogramBucket[]> {
    return this.#read((connection) => histogram(connection, selection, bucketMs));
  }

  aggregate(selection: Selection, aggregation: Aggregation): Promise<readonly AggregationRow[]> {
    return this.#read((connection) => aggregate(connection, selection, aggregation));
  }

  async *iterate(selection: Selection): AsyncIterable<AuditRecord> {
    const sort: Sort = { field: '@timestamp', direction: 'asc' };
    let page = await this.search(selection, sort, ITERATE_RECORDS);
    for (;;) {
      yield* page.records;
      if (page.next === undefined) return;
      page = await this.search(selection, sort, ITERATE_RECORDS, page.next);
    }
  }

  async refresh(): Promise<void> {}

  /** Waits for the last write, moves DuckDB's log into the file and lets go of it. */
  async close(): Promise<void> {
    await this.#inTurn(async () => {
      // Not needed for safety: what a failed checkpoint leaves in the log is read again at the next start.
      await this.#connections?.writes.run('CHECKPOINT').catch(() => undefined);
      this.#letGo();
    });
  }

  /** After a fatal error (a disk that is full at a checkpoint) DuckDB refuses everything until the file is opened again. */
  async #connected(): Promise<Connections> {
    if (this.#connections) return this.#connections;
    const connections = await connect(this.#settings);
    await setUpTables(connections.writes, this.#settings.file);
    this.#connections = connections;
    return connections;
  }

  #letGo(): void {
    if (!this.#connections) return;
    const { instance, writes, idle } = this.#connections;
    this.#connections = undefined;
    writes.closeSync();
    for (const connection of idle) connection.closeSync();
    instance.closeSync();
  }

  async #read<T>(work: (connection: DuckDBConnection) => Promise<T>): Promise<T> {
    if (!this.#connections)
      throw new AppError('store_unavailable', 'the DuckDB file is closed; it opens with the next write');
    const { instance, idle } = this.#connections;
    try {
      const connection = idle.pop() ?? (await instance.connect());
      try {
        return await work(connection);
      } finally {
        idle.push(connection);
      }
    } catch (error) {
      if (error instanceof AppError) throw error;
      throw new AppError('store_unavailable', `DuckDB could not answer: ${firstLine(error)}`, { cause: error });
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#lastWrite.then(work);
    this.#lastWrite = result.catch(() => undefined);
    return result;
  }
}

async function connect({ file, memoryBytes, threads }: DuckDbSettings): Promise<Connections> {
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    const instance = await DuckDBInstance.create(file, {
      threads: String(threads),
      memory_limit: `${memoryBytes}B`,
      checkpoint_threshold: CHECKPOINT_THRESHOLD,
      storage_compatibility_version: STORAGE_VERSION,
      autoinstall_known_extensions: 'false',
      autoload_known_extensions: 'false',
    });
    await chmod(file, 0o600);
    return { instance, writes: await instance.connect(), idle: [] };
  } catch (error) {
    throw new AppError('storage', `cannot open the DuckDB file ${file}: ${whyNotOpened(error)}`, { cause: error });
  }
}

async function setUpTables(connection: DuckDBConnection, file: string): Promise<void> {
  const tables = await query(connection, 'SELECT table_name FROM duckdb_tables() WHERE NOT temporary');
  const names = tables.map(([name]) => name);
  if (names.length > 0 && !names.includes('meta')) {
    throw new AppError('storage', `${file} is a DuckDB database of something else; name another file`);
  }
  if (names.includes('meta')) {
    const [row] = await query(connection, "SELECT value FROM meta WHERE name = 'tables_version'");
    const version = Number(row?.[0] ?? 0);
    if (version > TABLES_VERSION) {
      throw new AppError(
        'storage',
        `${file} was written by a newer Spantrail (tables ${version}, this one knows ${TABLES_VERSION}); start that version or name another file`,
      );
    }
  }
  for (const statement of CREATE_TABLES) await connection.run(statement);
  await connection.run(CREATE_STAGING);
  await connection.run(`INSERT OR REPLACE INTO meta VALUES ('tables_version', '${TABLES_VERSION}')`);
}

function whyNotOpened(error: unknown): string {
  const line = firstLine(error);
  if (/lock/i.test(line)) return 'another process has it open';
  if (/not a valid DuckDB|newer version|storage version/i.test(line))
    return 'it is no DuckDB file that this version can read';
  return line;
}

function isFatal(error: unknown): boolean {
  return /FATAL|database has been invalidated/i.test(describeError(error));
}

function firstLine(error: unknown): string {
  return describeError(error).split('\n')[0] ?? '';
}
