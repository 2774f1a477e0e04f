import { DuckDBDataChunk, VARCHAR } from '@duckdb/node-api';
import duckdb, { type Vector } from '@duckdb/node-bindings';
import { Nulls } from './vectors.ts';

/** Words of 32 bits that stand for a text; the longest one that they hold themselves, bytes. */
const ENTRY_WORDS = 4;
const ENTRY_BYTES = 16;
const INLINE_BYTES_MAX = 12;

/** UTF-8 bytes that one unit of a JavaScript text takes at most. */
const UNIT_BYTES_MAX = 3;

const FIRST_BYTES = 64 * 1024;
const WORD_VALUES = 2 ** 32;

/**
 * The texts of one vector, made as DuckDB has them (`duckdb_string_t` in duckdb.h, little-endian): 16 bytes a row, its length, then the text
 * itself, or its first four bytes and where it lies. Longer ones are handed over as one, of which they are parts, so that a vector costs
 * three calls instead of one a row. One such object serves one vector after the other.
 */
export class Texts {
  #words = new Uint32Array(0);
  /** The longer texts, one behind the other; until the end an entry says at which place its own begins. */
  #bytes = Buffer.allocUnsafeSlow(FIRST_BYTES);
  #length = 0;
  /** Rows whose text lies there. */
  readonly #longer: number[] = [];
  #rows = 0;
  readonly #nulls = new Nulls();

  /** So many rows, to be told one by one in any order. Those of which nothing is told are empty texts. */
  begin(rows: number): void {
    if (this.#words.length < rows * ENTRY_WORDS) this.#words = new Uint32Array(rows * ENTRY_WORDS);
    else this.#words.fill(0, 0, rows * ENTRY_WORDS);
    this.#rows = rows;
    this.#length = 0;
    this.#longer.length = 0;
    this.#nulls.begin(rows);
  }

  setNull(row: number): void {
    this.#nulls.add(row);
  }

  set(row: number, text: string): void {
    this.#reserve(text.length * UNIT_BYTES_MAX);
    this.#take(row, this.#bytes.write(text, this.#length));
  }

  /** UTF-8 out of other bytes. */
  setPart(row: number, bytes: Uint8Array, from: number, to: number): void {
    this.#reserve(to - from);
    const own = this.#bytes;
    for (let at = this.#length, next = from; next < to; ) own[at++] = bytes[next++] as number;
    this.#take(row, to - from);
  }

  /** One that was made before. */
  setKept(row: number, { words }: KeptTexts, index: number): void {
    const [own, to, from] = [this.#words, row * ENTRY_WORDS, index * ENTRY_WORDS];
    own[to] = words[from] as number;
    own[to + 1] = words[from + 1] as number;
    own[to + 2] = words[from + 2] as number;
    own[to + 3] = words[from + 3] as number;
  }

  /** The first so many, into an empty vector with room for them. */
  writeTo(vector: Vector, rows = this.#rows): void {
    if (rows === 0) return;
    this.#point(vector, 0);
    duckdb.copy_data_to_vector(vector, 0, this.#words.buffer as ArrayBuffer, 0, rows * ENTRY_BYTES);
    this.#nulls.writeTo(vector);
  }

  /** What they are made of, to be used as long as it is held. */
  keep(): KeptTexts {
    if (shelf === undefined || shelf.used === SHELF_ROWS) {
      shelf = { chunk: DuckDBDataChunk.create([VARCHAR], SHELF_ROWS), used: 0 };
    }
    this.#point(duckdb.data_chunk_get_vector(shelf.chunk.chunk, 0), shelf.used++);
    return { words: this.#words.slice(0, this.#rows * ENTRY_WORDS), chunk: shelf.chunk };
  }

  /** What was written behind the other texts becomes the row's. */
  #take(row: number, length: number): void {
    const [words, bytes, from, at] = [this.#words, this.#bytes, this.#length, row * ENTRY_WORDS];
    words[at] = length;
    if (length > INLINE_BYTES_MAX) {
      words[at + 1] = bytes.readUInt32LE(from);
      words[at + 2] = from;
      this.#length += length;
      this.#longer.push(row);
      return;
    }
    for (let index = 0; index < length; index++) {
      const word = at + 1 + (index >>> 2);
      words[word] = (words[word] as number) | ((bytes[from + index] as number) << ((index & 3) * 8));
    }
  }

  #reserve(bytes: number): void {
    if (this.#bytes.length - this.#length >= bytes) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#length + bytes));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }

  /** Hands the longer texts over, as the text of this row of the vector; places become addresses, of 64 bits in two words. */
  #point(vector: Vector, row: number): void {
    if (this.#length === 0) return;
    duckdb.vector_assign_string_element_len(vector, row, this.#bytes.subarray(0, this.#length));
    const entries = duckdb.vector_get_data(vector, (row + 1) * ENTRY_BYTES);
    const entry = new Uint32Array(entries.buffer, entries.byteOffset + row * ENTRY_BYTES, ENTRY_WORDS);
    // DuckDB takes no text that is not UTF-8: then nothing is where the entry says.
    if (entry[0] !== this.#length) throw new Error('DuckDB did not take the texts of a column');
    const [, , low, high] = entry;
    const words = this.#words;
    for (const longer of this.#longer) {
      const at = longer * ENTRY_WORDS + 2;
      const place = (low as number) + (words[at] as number);
      words[at] = place;
      words[at + 1] = place < WORD_VALUES ? (high as number) : (high as number) + 1;
    }
  }
}

/** Texts as entries of a vector; the longer ones lie in DuckDB's memory, which is given back with the chunk. */
export interface KeptTexts {
  readonly words: Uint32Array;
  readonly chunk: DuckDBDataChunk;
}

/** Chunks whose rows are what is kept: many share one, as a chunk takes 16 bytes for each of its rows. */
const SHELF_ROWS = 256;
let shelf: { readonly chunk: DuckDBDataChunk; used: number } | undefined;
