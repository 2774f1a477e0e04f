import duckdb, { type Vector } from '@duckdb/node-bindings';

const BITS_A_WORD = 32;
const ALL_BITS = 0xffffffff;

const WORD_VALUES = 2 ** 32;

/** The rows of a vector that have no value: a bit for each that has one. A vector without any such bits has all of them. */
export class Nulls {
  #bits = new Uint32Array(0);
  #words = 0;
  #isAny = false;

  begin(rows: number): void {
    this.#words = Math.ceil(rows / 64) * 2;
    if (this.#bits.length < this.#words) this.#bits = new Uint32Array(this.#words);
    this.#bits.fill(ALL_BITS, 0, this.#words);
    this.#isAny = false;
  }

  add(row: number): void {
    const word = row >>> 5;
    this.#bits[word] = (this.#bits[word] as number) & ~(1 << (row % BITS_A_WORD));
    this.#isAny = true;
  }

  has(row: number): boolean {
    return this.#isAny && ((this.#bits[row >>> 5] as number) & (1 << (row % BITS_A_WORD))) === 0;
  }

  writeTo(vector: Vector): void {
    if (!this.#isAny) return;
    duckdb.vector_ensure_validity_writable(vector);
    duckdb.copy_data_to_vector_validity(vector, 0, this.#bits.buffer as ArrayBuffer, 0, this.#words * 4);
  }
}

const nulls = new Nulls();

/** Long texts of which hardly one is like another; null in the rows that have none. */
export function writeDocuments(vector: Vector, texts: readonly (string | Buffer | null)[]): void {
  nulls.begin(texts.length);
  for (let row = 0; row < texts.length; row++) {
    const text = texts[row];
    if (typeof text === 'string') duckdb.vector_assign_string_element(vector, row, text);
    else if (text) duckdb.vector_assign_string_element_len(vector, row, text);
    else nulls.add(row);
  }
  nulls.writeTo(vector);
}

/** Whole numbers, of 64 bits. */
export function writeBigints(vector: Vector, values: readonly (bigint | null)[]): void {
  const data = new BigInt64Array(values.length);
  nulls.begin(values.length);
  for (let row = 0; row < values.length; row++) {
    const value = values[row] as bigint | null;
    if (value === null) nulls.add(row);
    else if (BigInt.asIntN(64, value) !== value) throw new RangeError(`${value} has more than 64 bits`);
    else data[row] = value;
  }
  duckdb.copy_data_to_vector(vector, 0, data.buffer, 0, data.byteLength);
  nulls.writeTo(vector);
}

/** Whole numbers that a JavaScript number holds or comes near to; NaN is null. */
export function writeNumbers(vector: Vector, values: Float64Array): void {
  const data = new BigInt64Array(values.length);
  const words = new Uint32Array(data.buffer);
  nulls.begin(values.length);
  for (let row = 0; row < values.length; row++) {
    const value = values[row] as number;
    if (Number.isNaN(value)) nulls.add(row);
    else if (value >= 0 && value <= Number.MAX_SAFE_INTEGER) {
      words[row * 2] = value % WORD_VALUES;
      words[row * 2 + 1] = value / WORD_VALUES;
    } else data[row] = BigInt(value);
  }
  duckdb.copy_data_to_vector(vector, 0, data.buffer, 0, data.byteLength);
  nulls.writeTo(vector);
}

export function writeBooleans(vector: Vector, values: readonly (boolean | null)[]): void {
  const data = new Uint8Array(values.length);
  nulls.begin(values.length);
  for (let row = 0; row < values.length; row++) {
    if (values[row] === null) nulls.add(row);
    else if (values[row]) data[row] = 1;
  }
  duckdb.copy_data_to_vector(vector, 0, data.buffer, 0, data.byteLength);
  nulls.writeTo(vector);
}

/**
 * The lists of a vector: where in its further vector each begins and how many are its own (64-bit numbers), null where that is
 * below zero. `at` says where a row's are told.
 */
export function writeListEntries(
  vector: Vector,
  rows: number,
  at: (row: number) => number,
  starts: Uint32Array,
  lengths: Int32Array,
): void {
  const entries = new Uint32Array(rows * 4);
  nulls.begin(rows);
  for (let row = 0; row < rows; row++) {
    const length = lengths[at(row)] as number;
    if (length < 0) nulls.add(row);
    else {
      entries[row * 4] = starts[at(row)] as number;
      entries[row * 4 + 2] = length;
    }
  }
  duckdb.copy_data_to_vector(vector, 0, entries.buffer, 0, entries.byteLength);
  nulls.writeTo(vector);
}
