import {
  BIGINT,
  BOOLEAN,
  type DuckDBConnection,
  DuckDBDataChunk,
  type DuckDBType,
  LIST,
  VARCHAR,
} from '@duckdb/node-api';
import duckdb, { type Vector } from '@duckdb/node-bindings';
import type { Field, FieldValue } from '../../core/fields.ts';
import type { RecordWrite } from '../../core/settlement.ts';
import { type Cell, columnValue, LATE_COLUMNS, type Row, rowOf } from './rows.ts';
import { COLUMN_FIELDS, DOCUMENT_LANES, sqlType } from './schema.ts';
import { writeBigints, writeBooleans, writeDistinctTexts, writeLists, writeTexts } from './vectors.ts';

/** Rows of one data chunk: DuckDB's vector size. */
const CHUNK_ROWS = 2048;

/** Rows, one after the other, whose documents stand in lanes side by side: a trace's records mostly do. */
const LANE_ROWS = (CHUNK_ROWS * 2) / DOCUMENT_LANES.length;

/** Lists are of texts, and no column is a fraction: `test/store/duckdb-rows.test.ts` looks. */
const SQL_TYPES: Readonly<Record<string, DuckDBType>> = { VARCHAR, BIGINT, BOOLEAN };

/** Of the columns of `records`, in their order. */
const TYPES: readonly DuckDBType[] = [
  VARCHAR,
  BIGINT,
  BIGINT,
  VARCHAR,
  LIST(VARCHAR),
  ...COLUMN_FIELDS.map((field) => {
    const type = SQL_TYPES[sqlType(field)] ?? VARCHAR;
    return field.many ? LIST(type) : type;
  }),
  ...DOCUMENT_LANES.map(() => VARCHAR),
  BIGINT,
  BIGINT,
];

/** Rows of `records`, at most CHUNK_ROWS. */
export function recordsChunk(writes: readonly RecordWrite[]): DuckDBDataChunk {
  const rows = writes.map(rowOf);
  const chunk = DuckDBDataChunk.create(TYPES, rows.length);
  let column = 0;
  const next = (): Vector => duckdb.data_chunk_get_vector(chunk.chunk, column++);
  writeDistinctTexts(
    next(),
    writes.map(({ id }) => id),
  );
  writeBigints(
    next(),
    writes.map(({ rank }) => rank),
  );
  writeBigints(
    next(),
    writes.map(({ timestampNs }) => timestampNs),
  );
  writeTexts(
    next(),
    rows.map(({ letters }) => letters),
  );
  writeLists(
    next(),
    rows.map(({ bare }) => bare),
  );
  for (const at of COLUMN_FIELDS.keys()) writeCells(next(), at, rows);
  const lanes = rows.map(
    ({ shared }, row) => Math.floor(row / LANE_ROWS) + (shared.isEntry ? 0 : DOCUMENT_LANES.length / 2),
  );
  for (const at of DOCUMENT_LANES.keys()) {
    writeDistinctTexts(
      next(),
      rows.map(({ document }, row) => (lanes[row] === at ? document : null)),
    );
  }
  writeBigints(next(), lanes.map(BigInt));
  writeBigints(
    next(),
    rows.map(({ shared }) => shared.userKey),
  );
  return chunk;
}

function writeCells(vector: Vector, column: number, rows: readonly Row[]): void {
  const field = COLUMN_FIELDS[column] as Field;
  const late = LATE_COLUMNS[column] as number;
  const cells = rows.map((row) =>
    late === -1 ? (row.shared.columns[column] as Cell) : lateCell(field, row.late[late]),
  );
  const type = sqlType(field);
  if (field.many) writeLists(vector, cells as (readonly string[] | null)[]);
  else if (type === 'VARCHAR') writeTexts(vector, cells as (string | null)[]);
  else if (type === 'BOOLEAN') writeBooleans(vector, cells as (boolean | null)[]);
  else writeBigints(vector, cells as (bigint | null)[]);
}

function lateCell(field: Field, value: FieldValue | undefined): Cell {
  return value === undefined ? null : columnValue(field, value);
}

/** Appends the rows that `toChunk` makes of the writes, a chunk at a time, within the transaction of the connection. */
export async function append<T>(
  connection: DuckDBConnection,
  table: string,
  database: 'temp' | null,
  writes: readonly T[],
  toChunk: (some: readonly T[]) => DuckDBDataChunk,
): Promise<void> {
  if (writes.length === 0) return;
  const appender = await connection.createAppender(table, null, database);
  try {
    for (let from = 0; from < writes.length; from += CHUNK_ROWS) {
      appender.appendDataChunk(toChunk(writes.slice(from, from + CHUNK_ROWS)));
    }
    appender.flushSync();
  } finally {
    appender.closeSync();
  }
}

/** A chunk of texts that all differ, and whole numbers. */
export function narrowChunk(columns: readonly (readonly string[] | readonly bigint[])[]): DuckDBDataChunk {
  const types = columns.map(([first]) => (typeof first === 'bigint' ? BIGINT : VARCHAR));
  const chunk = DuckDBDataChunk.create(types, columns[0]?.length ?? 0);
  for (const [at, values] of columns.entries()) {
    const vector = duckdb.data_chunk_get_vector(chunk.chunk, at);
    if (types[at] === BIGINT) writeBigints(vector, values as readonly bigint[]);
    else writeDistinctTexts(vector, values as readonly string[]);
  }
  return chunk;
}
