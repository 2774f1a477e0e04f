import duckdb, { type Vector } from '@duckdb/node-bindings';

/**
 * Writes whole columns of a data chunk. What `@duckdb/node-api` does value by value costs many times as much: here all texts of a chunk
 * are handed to DuckDB in one piece, and rows of all columns are the 16 bytes that stand for a text within it (`duckdb_string_t` in
 * duckdb.h: its length, then the text itself where it is short, or how it begins and where it lies). The piece belongs to one vector
 * of the chunk, and lives as long as all of them.
 */

/** Rows of one data chunk: DuckDB's vector size. */
export const CHUNK_ROWS = 2048;

/** Words of `duckdb_string_t` and of `duckdb_list_entry`, of four bytes each. */
export const ENTRY_WORDS = 4;
const ENTRY_BYTES = 16;
const LIST_LENGTH = 2;

/** A text of so many bytes stands in its entry. */
const SHORT_BYTES = 12;
const SHORT_FIRST = 4;
const PREFIX_BYTES = 4;

const ALL_BITS = 0xffffffff;
const WORD_VALUES = 2 ** 32;

/** What an entry has in place of a length where there is no text. */
export const NO_TEXT = 0xffffffff;

/** Entries of texts: until their chunk is written, those of long ones say where in its texts they begin. */
export class TextEntries {
  words: Uint32Array<ArrayBuffer>;
  bytes: Uint8Array;

  constructor(entries = CHUNK_ROWS) {
    this.words = new Uint32Array(entries * ENTRY_WORDS);
    this.bytes = new Uint8Array(this.words.buffer);
  }

  /** Room for this one, which keeps what is there. */
  reserve(entry: number): void {
    if ((entry + 1) * ENTRY_WORDS <= this.words.length) return;
    const words = new Uint32Array(Math.max(this.words.length * 2, (entry + 1) * ENTRY_WORDS));
    words.set(this.words);
    this.words = words;
    this.bytes = new Uint8Array(words.buffer);
  }

  /** A text that is among those of the chunk. */
  put(entry: number, texts: Uint8Array, start: number, end: number): void {
    const { words, bytes } = this;
    const word = entry * ENTRY_WORDS;
    const size = end - start;
    words[word] = size;
    words[word + 1] = 0;
    words[word + 2] = size > SHORT_BYTES ? start : 0;
    words[word + 3] = 0;
    const first = entry * ENTRY_BYTES + SHORT_FIRST;
    const kept = size > SHORT_BYTES ? PREFIX_BYTES : size;
    for (let at = 0; at < kept; at++) bytes[first + at] = texts[start + at] as number;
  }

  putNone(entry: number): void {
    this.words[entry * ENTRY_WORDS] = NO_TEXT;
  }

  /** A copy of the first so many, as `copy` takes them. */
  first(count: number): Uint32Array {
    return this.words.slice(0, count * ENTRY_WORDS);
  }

  /** A copy of one that somebody else made, whose long texts begin at `base` of what they were. */
  copy(entry: number, from: Uint32Array, fromEntry: number, base: number): void {
    const { words } = this;
    const word = entry * ENTRY_WORDS;
    const source = fromEntry * ENTRY_WORDS;
    const size = from[source] as number;
    words[word] = size;
    words[word + 1] = from[source + 1] as number;
    words[word + 2] = size > SHORT_BYTES ? (from[source + 2] as number) + base : (from[source + 2] as number);
    words[word + 3] = from[source + 3] as number;
  }

  /** Writes the first so many, whose long texts lie behind `place`. */
  write(vector: Vector, count: number, place: Place): void {
    const { words } = this;
    const isNone = new Nulls(count);
    for (let entry = 0, word = 0; entry < count; entry++, word += ENTRY_WORDS) {
      const size = words[word] as number;
      if (size === NO_TEXT) {
        words[word] = 0;
        isNone.add(entry);
      } else if (size > SHORT_BYTES) {
        const low = place.low + (words[word + 2] as number);
        words[word + 2] = low;
        words[word + 3] = place.high + (low >= WORD_VALUES ? 1 : 0);
      }
    }
    duckdb.copy_data_to_vector(vector, 0, words.buffer, 0, count * ENTRY_BYTES);
    isNone.write(vector);
  }
}

/** An address in memory. */
export interface Place {
  readonly low: number;
  readonly high: number;
}

/** All texts of a chunk, one behind the other. */
export class ChunkTexts {
  bytes = Buffer.allocUnsafeSlow(1024 * 1024);
  size = 0;

  /** Room for so many bytes more. */
  reserve(bytes: number): void {
    if (this.size + bytes <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.bytes.length * 2, this.size + bytes));
    larger.set(this.bytes.subarray(0, this.size));
    this.bytes = larger;
  }

  /** Where it begins; it ends where the next one does. Half a surrogate pair becomes U+FFFD. */
  add(text: string): number {
    this.reserve(text.length * 3);
    const start = this.size;
    this.size += this.bytes.write(text, start, 'utf8');
    return start;
  }

  /** A copy of so many bytes of others. */
  addPart(from: Uint8Array, start: number, end: number): number {
    this.reserve(end - start);
    const { bytes, size } = this;
    for (let at = start; at < end; at++) bytes[size + at - start] = from[at] as number;
    this.size = size + end - start;
    return size;
  }

  addBytes(bytes: Uint8Array): number {
    this.reserve(bytes.length);
    const start = this.size;
    this.bytes.set(bytes, start);
    this.size += bytes.length;
    return start;
  }

  /** Hands all of it to DuckDB, as a text of the vector, whose entries are to be written afterwards. */
  give(vector: Vector): Place {
    while (this.size <= SHORT_BYTES) this.add(' ');
    duckdb.vector_assign_string_element_len(vector, 0, this.bytes.subarray(0, this.size));
    const entry = Buffer.from(duckdb.vector_get_data(vector, ENTRY_BYTES));
    this.size = 0;
    return { low: entry.readUInt32LE(8), high: entry.readUInt32LE(12) };
  }
}

/** Which rows have no value. */
class Nulls {
  readonly #rows: number;
  #bits: Uint32Array | undefined;

  constructor(rows: number) {
    this.#rows = rows;
  }

  add(row: number): void {
    this.#bits ??= new Uint32Array(Math.ceil(this.#rows / 64) * 2).fill(ALL_BITS);
    this.#bits[row >>> 5] = (this.#bits[row >>> 5] as number) & ~(1 << (row & 31));
  }

  /** A bit for each row that has a value; a vector without any such bits has all of them. */
  write(vector: Vector): void {
    const bits = this.#bits;
    if (bits === undefined) return;
    duckdb.vector_ensure_validity_writable(vector);
    duckdb.copy_data_to_vector_validity(vector, 0, bits.buffer as ArrayBuffer, 0, bits.byteLength);
  }
}

/** Lists of texts. */
export class ListEntries {
  readonly items = new TextEntries();
  count = 0;
  readonly #words = new Uint32Array(CHUNK_ROWS * ENTRY_WORDS);

  /** So many items from this one on. */
  put(row: number, first: number, length: number): void {
    this.#words[row * ENTRY_WORDS] = first;
    this.#words[row * ENTRY_WORDS + LIST_LENGTH] = length;
  }

  putNone(row: number): void {
    this.put(row, 0, NO_TEXT);
  }

  write(vector: Vector, rows: number, place: Place): void {
    const words = this.#words;
    const isNone = new Nulls(rows);
    for (let row = 0, word = LIST_LENGTH; row < rows; row++, word += ENTRY_WORDS) {
      if (words[word] !== NO_TEXT) continue;
      words[word] = 0;
      isNone.add(row);
    }
    duckdb.list_vector_reserve(vector, this.count);
    duckdb.list_vector_set_size(vector, this.count);
    this.items.write(duckdb.list_vector_get_child(vector), this.count, place);
    duckdb.copy_data_to_vector(vector, 0, words.buffer as ArrayBuffer, 0, rows * ENTRY_BYTES);
    isNone.write(vector);
    this.count = 0;
  }
}

/** Whole numbers of 64 bits, from numbers or bigints. */
export class Longs {
  readonly #words = new Uint32Array(CHUNK_ROWS * 2);
  readonly #longs = new BigInt64Array(this.#words.buffer);
  readonly #isNone = new Uint8Array(CHUNK_ROWS);

  put(row: number, value: bigint): void {
    if (BigInt.asIntN(64, value) !== value) throw new RangeError(`${value} has more than 64 bits`);
    this.#longs[row] = value;
    this.#isNone[row] = 0;
  }

  /** A whole number below 2^63. */
  putNumber(row: number, value: number): void {
    this.#words[2 * row] = value;
    this.#words[2 * row + 1] = Math.floor(value / WORD_VALUES);
    this.#isNone[row] = 0;
  }

  putNone(row: number): void {
    this.#longs[row] = 0n;
    this.#isNone[row] = 1;
  }

  /** The lower half of a row's value. */
  at(row: number): number {
    return this.#words[2 * row] as number;
  }

  write(vector: Vector, rows: number): void {
    const isNone = new Nulls(rows);
    for (let row = 0; row < rows; row++) if (this.#isNone[row] !== 0) isNone.add(row);
    duckdb.copy_data_to_vector(vector, 0, this.#words.buffer as ArrayBuffer, 0, rows * 8);
    isNone.write(vector);
  }
}

/** Truths; null for none. */
export function writeBooleans(vector: Vector, values: readonly (boolean | null)[]): void {
  const isNone = new Nulls(values.length);
  const data = new Uint8Array(values.length);
  for (const [row, value] of values.entries()) {
    if (value === null) isNone.add(row);
    else if (value) data[row] = 1;
  }
  duckdb.copy_data_to_vector(vector, 0, data.buffer as ArrayBuffer, 0, data.byteLength);
  isNone.write(vector);
}
