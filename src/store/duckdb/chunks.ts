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
import type { Field } from '../../core/fields.ts';
import type { RecordWrite } from '../../core/settlement.ts';
import { isPlain } from './late-values.ts';
import {
  isWhole,
  KEPT_BARE,
  KEPT_LETTERS,
  type Kind,
  LATE_BARE,
  LATE_COLUMNS,
  type Rows,
  rowsOf,
  textOf,
} from './rows.ts';
import { COLUMN_FIELDS, DOCUMENT_LANES, sqlType } from './schema.ts';
import { Texts } from './texts.ts';
import { writeBigints, writeBooleans, writeDocuments, writeListEntries, writeNumbers } from './vectors.ts';

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

/** What a vector is made in before it is handed over. */
const texts = new Texts();

/** Rows of `records`, at most CHUNK_ROWS. */
export function recordsChunk(writes: readonly RecordWrite[]): DuckDBDataChunk {
  const rows = rowsOf(writes);
  const chunk = DuckDBDataChunk.create(TYPES, writes.length);
  let column = 0;
  const next = (): Vector => duckdb.data_chunk_get_vector(chunk.chunk, column++);
  writeIds(
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
  writeLetters(next(), rows);
  writeBare(next(), rows);
  for (const at of COLUMN_FIELDS.keys()) writeColumn(next(), at, rows);
  const lanes = laneOf(rows);
  for (const at of DOCUMENT_LANES.keys()) {
    writeDocuments(
      next(),
      rows.documents.map((document, row) => (lanes[row] === at ? document : null)),
    );
  }
  writeNumbers(next(), lanes);
  writeBigints(
    next(),
    ofKinds(
      rows,
      rows.kinds.map(({ userKey }) => userKey),
    ),
  );
  return chunk;
}

function laneOf({ kinds, kindOf }: Rows): Float64Array {
  const inner = kinds.map(({ isEntry }) => (isEntry ? 0 : DOCUMENT_LANES.length / 2));
  return Float64Array.from(kindOf, (kind, row) => Math.floor(row / LANE_ROWS) + (inner[kind] as number));
}

/** By row, what is given by kind. */
function ofKinds<T>({ kindOf }: Rows, values: readonly T[]): T[] {
  return Array.from(kindOf, (kind) => values[kind] as T);
}

function writeIds(vector: Vector, ids: readonly string[]): void {
  texts.begin(ids.length);
  for (let row = 0; row < ids.length; row++) texts.set(row, ids[row] as string);
  texts.writeTo(vector);
}

function writeLetters(vector: Vector, { kinds, kindOf, letters }: Rows): void {
  texts.begin(letters.length);
  for (let row = 0; row < letters.length; row++) {
    const kind = kinds[kindOf[row] as number] as Kind;
    const line = letters[row] as string | null;
    if (line === null) texts.setNull(row);
    else if (line === kind.letters) setText(row, kind, KEPT_LETTERS, line);
    else texts.set(row, line);
  }
  texts.writeTo(vector);
}

function setText(place: number, { kept }: Kind, at: number, text: string): void {
  if (kept !== undefined) texts.setKept(place, kept, at);
  else texts.set(place, text);
}

function writeColumn(vector: Vector, column: number, rows: Rows): void {
  const field = COLUMN_FIELDS[column] as Field;
  const late = LATE_COLUMNS[column] as number;
  const type = sqlType(field);
  const cells = () =>
    ofKinds(
      rows,
      rows.kinds.map((kind) => kind.columns[column]),
    );
  if (late >= 0 && type === 'VARCHAR') writeLateTexts(vector, late, rows);
  else if (late >= 0) writeLateNumbers(vector, late, rows);
  else if (field.many) writeLists(vector, rows, column);
  else if (type === 'VARCHAR') writeShared(vector, rows, column);
  else if (type === 'BOOLEAN') writeBooleans(vector, cells() as (boolean | null)[]);
  else writeBigints(vector, cells() as (bigint | null)[]);
}

/** A text for each kind. */
function writeShared(vector: Vector, { kinds, kindOf }: Rows, column: number): void {
  texts.begin(kindOf.length);
  for (let row = 0; row < kindOf.length; row++) {
    const kind = kinds[kindOf[row] as number] as Kind;
    const text = kind.columns[column];
    if (typeof text === 'string') setText(row, kind, kind.keptAt[column] as number, text);
    else texts.setNull(row);
  }
  texts.writeTo(vector);
}

function writeLateTexts(vector: Vector, late: number, rows: Rows): void {
  texts.begin(rows.kindOf.length);
  for (let row = 0; row < rows.kindOf.length; row++) if (!setLate(row, rows, row, late)) texts.setNull(row);
  texts.writeTo(vector);
}

/** Makes what a row has there a text of the vector. False where it has nothing. */
function setLate(place: number, rows: Rows, row: number, late: number): boolean {
  const values = rows.lateValues[row];
  if (values !== undefined) {
    const value = values[late];
    if (value !== undefined) texts.set(place, textOf(value));
    return value !== undefined;
  }
  const from = rows.late.from(row, late);
  if (from < 0) return false;
  const bytes = rows.documents[row] as Buffer;
  const to = rows.late.to(row, late);
  if (isPlain(bytes, from, to)) texts.setPart(place, bytes, from, to);
  else texts.set(place, textOf(rows.late.text(row, bytes, late)));
  return true;
}

function writeLateNumbers(vector: Vector, late: number, rows: Rows): void {
  const values = new Float64Array(rows.kindOf.length);
  for (let row = 0; row < values.length; row++) {
    const value = rows.late.number(row, late);
    values[row] = isWhole(value) ? Math.round(value) : Number.NaN;
  }
  writeNumbers(vector, values);
}

/** A list for each kind, whose texts are there once. */
function writeLists(vector: Vector, { kinds, kindOf }: Rows, column: number): void {
  const listOf = (kind: Kind) => kind.columns[column] as readonly string[] | null;
  const count = kinds.reduce((sum, kind) => sum + (listOf(kind)?.length ?? 0), 0);
  const starts = new Uint32Array(kinds.length);
  texts.begin(count);
  for (let at = 0, place = 0; at < kinds.length; at++) {
    const kind = kinds[at] as Kind;
    const list = listOf(kind) ?? [];
    starts[at] = place;
    for (let index = 0; index < list.length; index++) {
      setText(place++, kind, (kind.keptAt[column] as number) + index, list[index] as string);
    }
  }
  writeTextsOfList(vector, count);
  const lengths = Int32Array.from(kinds, (kind) => listOf(kind)?.length ?? -1);
  writeListEntries(vector, kindOf.length, (row) => kindOf[row] as number, starts, lengths);
}

/** What a bare word is looked for in: a list for each row, as some of it is late. */
function writeBare(vector: Vector, rows: Rows): void {
  const { kinds, kindOf } = rows;
  const shared = kinds.reduce((most, { bare }) => Math.max(most, bare.length), 0);
  const [starts, lengths] = [new Uint32Array(kindOf.length), new Int32Array(kindOf.length)];
  texts.begin(kindOf.length * (shared + LATE_BARE.length));
  let place = 0;
  for (let row = 0; row < kindOf.length; row++) {
    const kind = kinds[kindOf[row] as number] as Kind;
    const { bare } = kind;
    starts[row] = place;
    for (let index = 0; index < bare.length; index++) setText(place++, kind, KEPT_BARE + index, bare[index] as string);
    for (const late of LATE_BARE) if (setLate(place, rows, row, late)) place++;
    lengths[row] = place - (starts[row] as number);
  }
  writeTextsOfList(vector, place);
  writeListEntries(vector, kindOf.length, (row) => row, starts, lengths);
}

function writeTextsOfList(vector: Vector, count: number): void {
  duckdb.list_vector_reserve(vector, count);
  duckdb.list_vector_set_size(vector, count);
  texts.writeTo(duckdb.list_vector_get_child(vector), count);
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
      const chunk = toChunk(writes.slice(from, from + CHUNK_ROWS));
      appender.appendDataChunk(chunk);
      // Megabytes that would else lie outside of the heap until the next full collection.
      chunk.reset();
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
    else writeIds(vector, values as readonly string[]);
  }
  return chunk;
}
