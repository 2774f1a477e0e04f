import { chmod, mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';
import { AppError } from '../../core/errors.ts';
import type { AuditRecord } from '../../core/record.ts';
import type { RecordWrite } from '../../core/settlement.ts';
import type {
  Aggregation,
  AggregationRow,
  Capabilities,
  Facet,
  GetHint,
  HistogramBucket,
  Page,
  RankRequest,
  Selection,
  Sort,
  Store,
  WriteResult,
} from '../port.ts';
import { aggregate, facets } from './aggregate.ts';
import { CREATE_ALERTS, createDuckDbAlerts } from './alerts.ts';
import { asOpenFailure, asWorkFailure, firstLine, isFatal, isOutOfMemory } from './failures.ts';
import { FormTexts } from './form-texts.ts';
import { StoredForms } from './forms.ts';
import { KnownIds } from './known-ids.ts';
import { ranks } from './ranks.ts';
import { documents, histogram, query, STORED, search } from './reads.ts';
import { RecentWrites } from './recent-writes.ts';
import { CREATE_STAGING, CREATE_TABLES, recordsSql, TABLES_VERSION, UPGRADE_TABLES } from './schema.ts';
import { Bindings, selectionSql } from './sql.ts';
import { type WriterMemory, writeBatch } from './writer.ts';

export interface DuckDbSettings {
  /** The database file; its folder is made when it is missing. */
  readonly file: string;
  readonly memoryBytes: number;
  readonly threads: number;
  /**
   * Log that DuckDB keeps before it moves it into the database file, which holds up the commit that crosses it.
   * Default 256 MiB, or a quarter of the memory when that is less: what is in the log only is in memory, too.
   */
  readonly checkpointBytes?: number;
}

/** Records of one page of `iterate`. */
const ITERATE_RECORDS = 2000;

/** Each checkpoint makes row groups of its own: with less, they would be small ones, and a checkpoint costs something for each there is. */
const CHECKPOINT_BYTES_MAX = 256 * 1024 * 1024;

/** File format of new databases: the first that has zstd. */
const STORAGE_VERSION = 'v1.2.0';

/**
 * Blocks of new databases; one that has others keeps them. A page of one actor reads about one block for each of its records, and of DuckDB's
 * own 256 KiB most of a page is spent on loading and checking what is beside them. With 16 KiB, looking through all keys costs twice as much.
 */
const BLOCK_BYTES = 64 * 1024;

interface Connections {
  readonly instance: DuckDBInstance;
  readonly writes: DuckDBConnection;
  /** Connections that no read is using. A read has one to itself, so that none waits for another, nor a write for it. */
  readonly idle: DuckDBConnection[];
  /** Connections in use, for reads and writes, and what is done with them. */
  readonly busy: Map<DuckDBConnection, Promise<unknown>>;
}

/** The embedded store: one DuckDB file. Only one process may have it open. */
export class DuckDbStore implements Store {
  readonly capabilities: Capabilities = {
    name: 'duckdb',
    searchableAfterMs: 0,
    takesTexts: false,
    exactAggregations: true,
  };
  readonly alerts = createDuckDbAlerts({
    read: (work) => this.#read(work),
    write: (work) => this.#write(work),
  });
  readonly #settings: DuckDbSettings;
  /** Absent after a fatal error, until the next call opens the file again. */
  #connections: Connections | undefined;
  #opening: Promise<Connections> | undefined;
  /** The file is let go of before it is opened again: two instances would write over each other. */
  #released: Promise<void> = Promise.resolve();
  #isClosed = false;
  readonly #memory: WriterMemory = {
    known: new KnownIds(),
    recent: new RecentWrites(),
    forms: new StoredForms(),
  };
  readonly #formTexts = new FormTexts();
  /** Records that one transaction takes, for want of memory. */
  #partRecordsMax = Number.POSITIVE_INFINITY;
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
    await this.#inTurn(async () => {
      const connections = await this.#connected();
      const { file } = this.#settings;
      await use(connections, connections.writes, (writes) => setUpTables(writes, file)).catch((error: unknown) => {
        throw asOpenFailure(file, error);
      });
    });
  }

  write(batch: readonly RecordWrite[]): Promise<WriteResult> {
    return this.#write((connection) => this.#writeParts(connection, batch));
  }

  #write<T>(work: (connection: DuckDBConnection) => Promise<T>): Promise<T> {
    return this.#inTurn(async () => {
      const connections = await this.#connected();
      try {
        return await use(connections, connections.writes, work);
      } catch (error) {
        if (isFatal(error)) this.#abandon(connections);
        throw asWorkFailure(this.#settings.file, 'did not take the batch', error);
      }
    });
  }

  /**
   * One transaction for a batch, unless the memory does not suffice: then parts of it, in order, each durable for itself, as
   * small as it takes, and again larger ones while they are taken. What is only in DuckDB's log yet takes memory, too:
   * it goes into the file first.
   */
  async #writeParts(connection: DuckDBConnection, batch: readonly RecordWrite[]): Promise<WriteResult> {
    let [written, outranked, at] = [0, 0, 0];
    do {
      const part = batch.slice(at, at + this.#partRecordsMax);
      try {
        const result = await writeBatch(connection, part, this.#memory);
        written += result.written;
        outranked += result.outranked;
        at += part.length;
        this.#partRecordsMax *= 2;
      } catch (error) {
        const isShort = isOutOfMemory(error);
        // A commit for which the memory does not suffice may be fatal: then the file is opened again for the next try.
        if (isShort || isFatal(error)) this.#partRecordsMax = Math.max(1, Math.ceil(part.length / 2));
        if (!isShort || part.length < 2) throw error;
        await connection.run('CHECKPOINT').catch(() => undefined);
      }
    } while (at < batch.length);
    return { written, outranked, rejected: [] };
  }

  search(selection: Selection, sort: Sort, limit: number, cursor?: string): Promise<Page> {
    return this.#read((connection) => search(connection, this.#formTexts, selection, sort, limit, cursor));
  }

  async get(id: string, hint?: GetHint): Promise<AuditRecord | undefined> {
    const find = async (condition: string, bindings: Bindings) => {
      const sql = `SELECT ${STORED} FROM records WHERE id = ${bindings.add(id)}${condition}`;
      return (await this.#read((connection) => documents(connection, this.#formTexts, sql, bindings)))[0];
    };
    // With its time, only the row groups that hold it are read.
    const near = new Bindings();
    const found = hint && (await find(` AND "@timestamp" = ${near.add(hint.timestampNs)}`, near));
    return found ?? find('', new Bindings());
  }

  ranks(requests: readonly RankRequest[]): Promise<readonly (bigint | undefined)[]> {
    return this.#read((connection) => ranks(connection, requests));
  }

  revisions(id: string): Promise<readonly AuditRecord[]> {
    const bindings = new Bindings();
    const bound = bindings.add(id);
    // The current state has the highest rank, so it comes last.
    const sql = `SELECT * EXCLUDE (rank) FROM (SELECT doc, form, rank FROM revisions WHERE id = ${bound}
      UNION ALL SELECT ${STORED}, rank FROM records WHERE id = ${bound}) ORDER BY rank`;
    return this.#read((connection) => documents(connection, this.#formTexts, sql, bindings));
  }

  trace(traceId: string): Promise<readonly AuditRecord[]> {
    const bindings = new Bindings();
    const sql = `SELECT ${STORED} FROM records WHERE "trace.id" = ${bindings.add(traceId)} AND "audit.superseded_by" IS NULL
      ORDER BY "@timestamp", id`;
    return this.#read((connection) => documents(connection, this.#formTexts, sql, bindings));
  }

  async count(selection: Selection): Promise<number> {
    const bindings = new Bindings();
    const condition = selectionSql(selection, bindings);
    const sql = `SELECT count(*) FROM ${recordsSql(condition)} WHERE ${condition}`;
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

  /** Waits for the last write, moves DuckDB's log into the file and lets go of it. Reads that are under way fail. */
  async close(): Promise<void> {
    await this.#inTurn(async () => {
      this.#isClosed = true;
      await this.#opening?.catch(() => undefined);
      // Not needed for safety: what a failed checkpoint leaves in the log is read again at the next start.
      await this.#connections?.writes.run('CHECKPOINT').catch(() => undefined);
      if (this.#connections) this.#abandon(this.#connections);
      await this.#released;
    });
  }

  /** After a fatal error (a disk that is full at a checkpoint) DuckDB refuses everything until the file is opened again. */
  #connected(): Promise<Connections> {
    if (this.#isClosed) return Promise.reject(new AppError('store_unavailable', 'the DuckDB file is closed'));
    if (this.#connections) return Promise.resolve(this.#connections);
    this.#opening ??= this.#open().finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  async #open(): Promise<Connections> {
    try {
      await this.#released;
      const connections = await connect(this.#settings);
      try {
        await setUpTables(connections.writes, this.#settings.file);
      } catch (error) {
        await release(connections);
        throw error;
      }
      this.#memory.forms.forget();
      this.#formTexts.forget();
      this.#connections = connections;
      return connections;
    } catch (error) {
      throw new AppError('store_unavailable', `DuckDB did not open again: ${firstLine(error)}`, { cause: error });
    }
  }

  #abandon(connections: Connections): void {
    if (this.#connections !== connections) return;
    this.#connections = undefined;
    this.#released = release(connections);
  }

  async #read<T>(work: (connection: DuckDBConnection) => Promise<T>): Promise<T> {
    const connections = await this.#connected();
    try {
      const connection = connections.idle.pop() ?? (await connections.instance.connect());
      // Only now is it known that the instance was let go of while the connection was made.
      if (this.#connections !== connections) {
        connection.closeSync();
        return await this.#read(work);
      }
      try {
        return await use(connections, connection, work);
      } finally {
        connections.idle.push(connection);
      }
    } catch (error) {
      if (isFatal(error)) this.#abandon(connections);
      const failure = asWorkFailure(this.#settings.file, 'could not answer', error);
      if (error instanceof AppError || failure.retryable) throw failure;
      throw new AppError('store_unavailable', failure.message, { cause: error });
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#lastWrite.then(work);
    this.#lastWrite = result.catch(() => undefined);
    return result;
  }
}

async function connect({
  file,
  memoryBytes,
  threads,
  checkpointBytes = Math.min(CHECKPOINT_BYTES_MAX, Math.floor(memoryBytes / 4)),
}: DuckDbSettings): Promise<Connections> {
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    const instance = await DuckDBInstance.create(file, {
      threads: String(threads),
      memory_limit: `${memoryBytes}B`,
      checkpoint_threshold: `${checkpointBytes}B`,
      // Else every third checkpoint writes three row groups anew as two: six times the work, for nothing that reads gain by.
      max_vacuum_tasks: '0',
      storage_compatibility_version: STORAGE_VERSION,
      default_block_size: String(BLOCK_BYTES),
      autoinstall_known_extensions: 'false',
      autoload_known_extensions: 'false',
    });
    try {
      await chmod(file, 0o600);
      const writes = await instance.connect();
      await writes.run(CREATE_STAGING);
      return { instance, writes, idle: [], busy: new Map() };
    } catch (error) {
      instance.closeSync();
      throw error;
    }
  } catch (error) {
    throw asOpenFailure(file, error);
  }
}

async function use<T>(
  { busy }: Connections,
  connection: DuckDBConnection,
  work: (connection: DuckDBConnection) => Promise<T>,
): Promise<T> {
  const working = work(connection);
  busy.set(connection, working);
  try {
    return await working;
  } finally {
    busy.delete(connection);
  }
}

/** Closes the file once what is still under way has ended, which is asked to end now. */
async function release({ instance, writes, idle, busy }: Connections): Promise<void> {
  for (const connection of busy.keys()) connection.interrupt();
  await Promise.allSettled(busy.values());
  // Those who used a connection give it back in turns of their own, after this one.
  await nextTurn();
  writes.closeSync();
  for (const connection of idle) connection.closeSync();
  instance.closeSync();
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
    for (const [made, statements] of names.includes('records') ? UPGRADE_TABLES : []) {
      for (const statement of made > version ? statements : []) await connection.run(statement);
    }
  }
  for (const statement of [...CREATE_TABLES, CREATE_ALERTS]) await connection.run(statement);
  await connection.run(`INSERT OR REPLACE INTO meta VALUES ('tables_version', '${TABLES_VERSION}')`);
}
