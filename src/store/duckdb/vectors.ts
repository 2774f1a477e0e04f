import duckdb, { type Vector } from '@duckdb/node-bindings';

/**
 * Writes whole columns of a data chunk. What `@duckdb/node-api` does value by value costs several times as much: here a text that
 * many rows have is handed to DuckDB once and then copied as the 16 bytes that stand for it (`duckdb_string_t` in duckdb.h:
 * its length, then the text itself or where it lies), within its own vector, which the text lives as long as.
 */

/** Bytes of `duckdb_string_t` and of `duckdb_list_entry`; 32-bit words of them. */
const ENTRY_BYTES = 16;
const ENTRY_WORDS = 4;

const BITS_A_WORD = 32;
const ALL_BITS = 0xffffffff;

/** Texts of which hardly one is like another: without a look for those that are. */
export function writeDistinctTexts(vector: Vector, texts: readonly (string | Buffer | null)[]): void {
  for (let row = 0; row < texts.length; row++) {
    const text = texts[row];
    if (typeof text === 'string') duckdb.vector_assign_string_element(vector, row, text);
    else if (text) duckdb.vector_assign_string_element_len(vector, row, text);
  }
  writeNulls(vector, texts);
}

export function writeTexts(vector: Vector, texts: readonly (string | null)[]): void {
  const firsts = new Map<string, number>();
  /** For each row the first one that has its text. */
  const like = new Uint32Array(texts.length);
  let last = -1;
  let repeats = 0;
  for (let row = 0; row < texts.length; row++) {
    const text = texts[row] as string | null;
    like[row] = row;
    if (text === null) continue;
    // Rows of one trace come one after the other.
    const first = last >= 0 && texts[last] === text ? last : firsts.get(text);
    if (first === undefined) {
      duckdb.vector_assign_string_element(vector, row, text);
      firsts.set(text, row);
      last = row;
    } else {
      like[row] = first;
      last = first;
      repeats++;
    }
  }
  if (repeats > 0) copyEntries(vector, like);
  writeNulls(vector, texts);
}

function copyEntries(vector: Vector, like: Uint32Array): void {
  const bytes = duckdb.vector_get_data(vector, like.length * ENTRY_BYTES);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, like.length * ENTRY_WORDS);
  for (let row = 0; row < like.length; row++) {
    if (like[row] !== row)
      words.copyWithin(
        row * ENTRY_WORDS,
        (like[row] as number) * ENTRY_WORDS,
        (like[row] as number) * ENTRY_WORDS + ENTRY_WORDS,
      );
  }
  duckdb.copy_data_to_vector(vector, 0, bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}

/** Lists of texts. A list that many rows share is written once. */
export function writeLists(vector: Vector, lists: readonly (readonly (string | null)[] | null)[]): void {
  const texts: (string | null)[] = [];
  const starts = new Map<object, number>();
  /** Offset and length of each, as 64-bit numbers of which only the lower half is needed. */
  const entries = new Uint32Array(lists.length * ENTRY_WORDS);
  for (let row = 0; row < lists.length; row++) {
    const list = lists[row];
    if (!list) continue;
    let start = starts.get(list);
    if (start === undefined) {
      start = texts.length;
      starts.set(list, start);
      for (const text of list) texts.push(text);
    }
    entries[row * ENTRY_WORDS] = start;
    entries[row * ENTRY_WORDS + 2] = list.length;
  }
  duckdb.list_vector_reserve(vector, texts.length);
  duckdb.list_vector_set_size(vector, texts.length);
  writeTexts(duckdb.list_vector_get_child(vector), texts);
  duckdb.copy_data_to_vector(vector, 0, entries.buffer, 0, entries.byteLength);
  writeNulls(vector, lists);
}

export function writeBigints(vector: Vector, values: readonly (bigint | null)[]): void {
  const data = new BigInt64Array(values.length);
  for (let row = 0; row < values.length; row++) {
    const value = values[row] as bigint | null;
    if (value === null) continue;
    if (BigInt.asIntN(64, value) !== value) throw new RangeError(`${value} has more than 64 bits`);
    data[row] = value;
  }
  duckdb.copy_data_to_vector(vector, 0, data.buffer, 0, data.byteLength);
  writeNulls(vector, values);
}

export function writeBooleans(vector: Vector, values: readonly (boolean | null)[]): void {
  const data = new Uint8Array(values.length);
  for (let row = 0; row < values.length; row++) if (values[row]) data[row] = 1;
  duckdb.copy_data_to_vector(vector, 0, data.buffer, 0, data.byteLength);
  writeNulls(vector, values);
}

/** A bit for each row that has a value; a vector without any such bits has all of them. */
function writeNulls(vector: Vector, values: readonly unknown[]): void {
  if (!values.includes(null)) return;
  const bits = new Uint32Array(Math.ceil(values.length / 64) * 2).fill(ALL_BITS);
  for (let row = 0; row < values.length; row++) {
    if (values[row] === null) bits[row >>> 5] = (bits[row >>> 5] as number) & ~(1 << (row % BITS_A_WORD));
  }
  duckdb.vector_ensure_validity_writable(vector);
  duckdb.copy_data_to_vector_validity(vector, 0, bits.buffer, 0, bits.byteLength);
}
