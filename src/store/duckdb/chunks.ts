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
import type { FieldValue } from '../../core/fields.ts';
import type { RecordWrite } from '../../core/settlement.ts';
import type { FormedText } from './forms.ts';
import { LATE_NAMES, type LateValues } from './late-values.ts';
import { LATE_BARE, LATE_COLUMNS, lettersOf, MESSAGE, rowOf, type StaticCells, sharedOf, textOf } from './rows.ts';
import { COLUMN_FIELDS, DOCUMENT_LANES, sqlType } from './schema.ts';
import {
  CHUNK_ROWS,
  ChunkTexts,
  ListEntries,
  Longs,
  NO_TEXT,
  type Place,
  TextEntries,
  writeBooleans,
} from './vectors.ts';

/** Bytes of texts after which a chunk ends, however few rows it has. */
const CHUNK_BYTES = 8 * 1024 * 1024;

/** Rows, one after the other, whose documents stand in lanes side by side: a trace's records mostly do. */
const LANE_ROWS = (CHUNK_ROWS * 2) / DOCUMENT_LANES.length;

/** Lists are of texts, and no column is a fraction: `test/store/duckdb-rows.test.ts` looks. */
const SQL_TYPES: Readonly<Record<string, DuckDBType>> = { VARCHAR, BIGINT, BOOLEAN };

const COLUMN_TYPES = COLUMN_FIELDS.map((field) => {
  const type = SQL_TYPES[sqlType(field)] ?? VARCHAR;
  return field.many ? LIST(type) : type;
});

/** Of the columns of `records`, in their order. */
const TYPES: readonly DuckDBType[] = [
  VARCHAR,
  BIGINT,
  BIGINT,
  VARCHAR,
  LIST(VARCHAR),
  ...COLUMN_TYPES,
  ...DOCUMENT_LANES.map(() => VARCHAR),
  BIGINT,
  BIGINT,
  BIGINT,
];

/** Rows of `records`, put together one by one and made a chunk of. It is used again for the next chunk. */
export class RecordRows {
  count = 0;
  readonly #texts = new ChunkTexts();
  readonly #shared: StaticCells[] = [];
  /** Where the texts that a row shares with others begin. */
  readonly #bases = new Uint32Array(CHUNK_ROWS);
  readonly #placed = new Map<StaticCells, number>();
  readonly #ids = new TextEntries();
  readonly #ranks = new Longs();
  readonly #times = new Longs();
  readonly #letters = new TextEntries();
  readonly #bare = new ListEntries();
  /** By place in `LATE_NAMES`; of each only texts or only numbers are used. */
  readonly #lateTexts = LATE_NAMES.map(() => new TextEntries());
  readonly #lateNumbers = LATE_NAMES.map(() => new Longs());
  /** Documents, or the texts of gaps. */
  readonly #documents = new TextEntries();
  readonly #lanes = new Longs();
  readonly #userKeys = new Longs();
  readonly #forms = new Longs();
  /** For what is written column by column. */
  readonly #cells = new TextEntries();
  readonly #longs = new Longs();
  readonly #lists = new ListEntries();

  /** Forgets what an append left that failed. */
  clear(): void {
    this.count = 0;
    this.#texts.size = 0;
    this.#bare.count = 0;
    this.#placed.clear();
  }

  get isFull(): boolean {
    return this.count >= CHUNK_ROWS || this.#texts.size >= CHUNK_BYTES;
  }

  /** A write, and how its document is written by its form. */
  add(write: RecordWrite, text: FormedText | undefined): void {
    const row = this.count;
    this.#putText(this.#ids, row, write.id);
    this.#ranks.put(row, write.rank);
    this.#times.put(row, write.timestampNs);
    const shared = (text && sharedOf(write)) ?? this.#addWhole(row, write);
    if (text) this.#addFormed(row, write, shared, text);
    this.#shared[row] = shared;
    this.#bases[row] = this.#baseOf(shared);
    this.#lanes.putNumber(row, Math.floor(row / LANE_ROWS) + (shared.isEntry ? 0 : DOCUMENT_LANES.length / 2));
    this.#putBare(row, shared);
    if (shared.userKey === null) this.#userKeys.putNone(row);
    else this.#userKeys.put(row, shared.userKey);
    this.count++;
  }

  #addWhole(row: number, write: RecordWrite): StaticCells {
    const { shared, late, document } = rowOf(write);
    this.#putLate(row, late);
    const start = typeof document === 'string' ? this.#texts.add(document) : this.#texts.addBytes(document);
    this.#documents.put(row, this.#texts.bytes, start, this.#texts.size);
    this.#forms.putNone(row);
    return shared;
  }

  #addFormed(row: number, write: RecordWrite, shared: StaticCells, text: FormedText): void {
    if (!this.#readLate(row, shared, text)) this.#putLate(row, rowOf(write).late);
    this.#forms.putNumber(row, text.number);
    // A separator for each gap, too.
    this.#texts.reserve(text.bytes.length + text.form.gaps.ranges.length);
    const start = this.#texts.size;
    this.#texts.size = text.form.putGaps(text.bytes, this.#texts.bytes, start);
    this.#documents.put(row, this.#texts.bytes, start, this.#texts.size);
  }

  #putLate(row: number, late: LateValues): void {
    for (const [at, value] of late.entries()) {
      if (at === MESSAGE) this.#putLetters(row, value);
      else if (typeof value === 'string') this.#putText(this.#lateTexts[at] as TextEntries, row, textOf(value));
      else (this.#lateTexts[at] as TextEntries).putNone(row);
      if (typeof value === 'number') (this.#lateNumbers[at] as Longs).put(row, BigInt(Math.round(value)));
      else (this.#lateNumbers[at] as Longs).putNone(row);
    }
  }

  /** Late values out of the bytes, where those of the form's other records have them; false where they are not so simple. */
  #readLate(row: number, shared: StaticCells, { form, bytes }: FormedText): boolean {
    const starts = form.lateStarts(shared, bytes);
    if (starts === undefined) return false;
    for (let at = 0; at < starts.length; at++) {
      const start = starts[at] as number;
      const texts = this.#lateTexts[at] as TextEntries;
      const numbers = this.#lateNumbers[at] as Longs;
      if (at === MESSAGE) {
        const letters = start < 0 ? undefined : form.lettersOf(bytes, start);
        if (start >= 0 && letters === undefined) return false;
        if (letters === undefined) this.#letters.putNone(row);
        else this.#putText(this.#letters, row, letters);
      } else if (start < 0) {
        texts.putNone(row);
        numbers.putNone(row);
      } else if (bytes[start - 1] === QUOTE) {
        const end = plainEnd(bytes, start);
        if (end < 0) return false;
        const from = this.#texts.addPart(bytes, start, end);
        texts.put(row, this.#texts.bytes, from, this.#texts.size);
      } else {
        const value = wholeNumber(bytes, start);
        if (Number.isNaN(value)) return false;
        numbers.putNumber(row, value);
      }
    }
    return true;
  }

  #putLetters(row: number, message: FieldValue | undefined): void {
    if (message === undefined) this.#letters.putNone(row);
    else this.#putText(this.#letters, row, lettersOf(String(message)));
  }

  #putText(entries: TextEntries, entry: number, text: string): void {
    const start = this.#texts.add(text);
    entries.put(entry, this.#texts.bytes, start, this.#texts.size);
  }

  #baseOf(shared: StaticCells): number {
    let base = this.#placed.get(shared);
    if (base === undefined) {
      base = this.#texts.addBytes(shared.texts);
      this.#placed.set(shared, base);
    }
    return base;
  }

  #putBare(row: number, shared: StaticCells): void {
    const { items } = this.#bare;
    const first = this.#bare.count;
    this.#copyItems(this.#bare, row, shared, COLUMN_FIELDS.length);
    for (const at of LATE_BARE) {
      const late = this.#lateTexts[at] as TextEntries;
      if (late.words[row * 4] === NO_TEXT) continue;
      items.reserve(this.#bare.count);
      items.copy(this.#bare.count++, late.words, row, 0);
    }
    this.#bare.put(row, first, this.#bare.count - first);
  }

  /** The list that a row shares with others, at this place. */
  #copyItems(to: ListEntries, row: number, shared: StaticCells, place: number): void {
    const from = shared.lists[2 * place] as number;
    const length = shared.lists[2 * place + 1] as number;
    if (length === NO_TEXT) {
      to.putNone(row);
      return;
    }
    const base = this.#bases[row] as number;
    to.put(row, to.count, length);
    to.items.reserve(to.count + length);
    for (let item = from; item < from + length; item++) to.items.copy(to.count++, shared.items, item, base);
  }

  /** What was added, for DuckDB to take before anything else is added. */
  take(): DuckDBDataChunk {
    const { count } = this;
    const chunk = DuckDBDataChunk.create(TYPES, count);
    let column = 0;
    const next = (): Vector => duckdb.data_chunk_get_vector(chunk.chunk, column++);
    const place = this.#texts.give(duckdb.data_chunk_get_vector(chunk.chunk, 0));
    this.#ids.write(next(), count, place);
    this.#ranks.write(next(), count);
    this.#times.write(next(), count);
    this.#letters.write(next(), count, place);
    this.#bare.write(next(), count, place);
    for (const at of COLUMN_FIELDS.keys()) this.#writeColumn(next(), at, place);
    for (const at of DOCUMENT_LANES.keys()) this.#writeLane(next(), at, place);
    this.#lanes.write(next(), count);
    this.#userKeys.write(next(), count);
    this.#forms.write(next(), count);
    this.count = 0;
    this.#placed.clear();
    return chunk;
  }

  #writeLane(vector: Vector, lane: number, place: Place): void {
    for (let row = 0; row < this.count; row++) {
      if (this.#lanes.at(row) === lane) this.#cells.copy(row, this.#documents.words, row, 0);
      else this.#cells.putNone(row);
    }
    this.#cells.write(vector, this.count, place);
  }

  #writeColumn(vector: Vector, at: number, place: Place): void {
    const { count } = this;
    const field = COLUMN_FIELDS[at] as (typeof COLUMN_FIELDS)[number];
    const late = LATE_COLUMNS[at] as number;
    const type = sqlType(field);
    if (field.many) {
      for (let row = 0; row < count; row++) this.#copyItems(this.#lists, row, this.#shared[row] as StaticCells, at);
      this.#lists.write(vector, count, place);
    } else if (type === 'VARCHAR') {
      const entries = late === -1 ? this.#cells : (this.#lateTexts[late] as TextEntries);
      for (let row = 0; late === -1 && row < count; row++) {
        entries.copy(row, (this.#shared[row] as StaticCells).entries, at, this.#bases[row] as number);
      }
      entries.write(vector, count, place);
    } else if (type === 'BOOLEAN') {
      writeBooleans(
        vector,
        this.#shared.slice(0, count).map(({ columns }) => columns[at] as boolean | null),
      );
    } else {
      const longs = late === -1 ? this.#longs : (this.#lateNumbers[late] as Longs);
      for (let row = 0; late === -1 && row < count; row++) {
        const value = (this.#shared[row] as StaticCells).columns[at] as bigint | null;
        if (value === null) longs.putNone(row);
        else longs.put(row, value);
      }
      longs.write(vector, count);
    }
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SPACE = 0x20;
const COMMA = 0x2c;
const BRACE = 0x7d;
const ZERO = 0x30;

/** Where a text of plain ASCII ends that begins here; -1 for another one. */
function plainEnd(bytes: Buffer, start: number): number {
  for (let at = start; at < bytes.length; at++) {
    const byte = bytes[at] as number;
    if (byte === QUOTE) return at;
    if (byte === BACKSLASH || byte >= 0x80) return -1;
  }
  return -1;
}

/** Spaces and digits up to what may stand behind a number, at most 2^53; NaN for anything else. */
function wholeNumber(bytes: Buffer, start: number): number {
  let at = start;
  while (bytes[at] === SPACE) at++;
  let value = bytes[at] === COMMA || bytes[at] === BRACE ? Number.NaN : 0;
  for (; at < bytes.length; at++) {
    const byte = bytes[at] as number;
    if (byte === COMMA || byte === BRACE) return value;
    const digit = byte - ZERO;
    if (digit < 0 || digit > 9 || value > Number.MAX_SAFE_INTEGER / 10 - 1) return Number.NaN;
    value = value * 10 + digit;
  }
  return Number.NaN;
}

const ROWS = new RecordRows();

/** Appends rows of `records` within the transaction of the connection. */
export async function appendRecords(
  connection: DuckDBConnection,
  writes: readonly RecordWrite[],
  texts: readonly (FormedText | undefined)[],
): Promise<void> {
  if (writes.length === 0) return;
  await appending(connection, 'records', null, (appendChunk) => {
    ROWS.clear();
    for (let at = 0; at < writes.length; at++) {
      ROWS.add(writes[at] as RecordWrite, texts[at]);
      if (ROWS.isFull || at === writes.length - 1) appendChunk(ROWS.take());
    }
  });
}

/** Columns of rows: texts, or whole numbers. */
export type NarrowColumns = readonly (readonly string[] | readonly bigint[])[];

/** Appends rows of these columns within the transaction of the connection. */
export async function appendNarrow(
  connection: DuckDBConnection,
  table: string,
  database: 'temp' | null,
  columns: NarrowColumns,
): Promise<void> {
  const rows = columns[0]?.length ?? 0;
  if (rows === 0) return;
  await appending(connection, table, database, (appendChunk) => {
    for (let from = 0; from < rows; from += CHUNK_ROWS) {
      appendChunk(narrowChunk(columns.map((values) => values.slice(from, from + CHUNK_ROWS) as typeof values)));
    }
  });
}

async function appending(
  connection: DuckDBConnection,
  table: string,
  database: 'temp' | null,
  work: (appendChunk: (chunk: DuckDBDataChunk) => void) => void,
): Promise<void> {
  const appender = await connection.createAppender(table, null, database);
  try {
    work((chunk) => appender.appendDataChunk(chunk));
    appender.flushSync();
  } finally {
    appender.closeSync();
  }
}

const NARROW = { texts: new ChunkTexts(), entries: new TextEntries(), longs: new Longs() };

function narrowChunk(columns: NarrowColumns): DuckDBDataChunk {
  const rows = columns[0]?.length ?? 0;
  const types = columns.map(([first]) => (typeof first === 'bigint' ? BIGINT : VARCHAR));
  const chunk = DuckDBDataChunk.create(types, rows);
  for (const [at, values] of columns.entries()) {
    const vector = duckdb.data_chunk_get_vector(chunk.chunk, at);
    const { texts, entries, longs } = NARROW;
    texts.size = 0;
    for (const [row, value] of values.entries()) {
      if (typeof value === 'bigint') longs.put(row, value);
      else {
        const start = texts.add(value);
        entries.put(row, texts.bytes, start, texts.size);
      }
    }
    if (types[at] === BIGINT) longs.write(vector, rows);
    else entries.write(vector, rows, texts.give(vector));
  }
  return chunk;
}
