/** Index of no item: a pool never hands it out, so a zeroed word is a link to nothing. */
export const NONE = 0;

const CHUNK_BITS = 12;
const CHUNK_ITEMS = 1 << CHUNK_BITS;
const CHUNK_MASK = CHUNK_ITEMS - 1;

/**
 * Items of a fixed number of 32-bit words, addressed by index, kept in chunks so that growing copies nothing and no item
 * is a JavaScript object. Released items are handed out again; memory is never given back.
 */
export class WordPool {
  readonly itemBytes: number;
  readonly #words: number;
  readonly #chunks: Uint32Array[] = [];
  #free = NONE;
  #unused = 1;
  #live = 0;

  constructor(wordsPerItem: number) {
    this.#words = wordsPerItem;
    this.itemBytes = wordsPerItem * 4;
  }

  get live(): number {
    return this.#live;
  }

  /** Bytes of memory held, used or not. */
  get allocatedBytes(): number {
    return this.#chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0);
  }

  /** Index of a new item, all words zero. */
  allocate(): number {
    this.#live++;
    if (this.#free !== NONE) {
      const index = this.#free;
      const words = this.wordsOf(index);
      const start = this.startOf(index);
      this.#free = words[start] as number;
      words[start] = 0;
      return index;
    }
    const index = this.#unused++;
    if (index >>> CHUNK_BITS >= this.#chunks.length) this.#chunks.push(new Uint32Array(CHUNK_ITEMS * this.#words));
    return index;
  }

  release(index: number): void {
    const words = this.wordsOf(index);
    const start = this.startOf(index);
    // So few that a call of `fill` takes longer.
    for (let at = start + this.#words - 1; at > start; at--) words[at] = 0;
    words[start] = this.#free;
    this.#free = index;
    this.#live--;
  }

  /** The memory that an item is in, from `startOf` on: for who looks at several words of it. */
  wordsOf(index: number): Uint32Array {
    return this.#chunks[index >>> CHUNK_BITS] as Uint32Array;
  }

  startOf(index: number): number {
    return (index & CHUNK_MASK) * this.#words;
  }

  get(index: number, word: number): number {
    const chunk = this.#chunks[index >>> CHUNK_BITS] as Uint32Array;
    return chunk[(index & CHUNK_MASK) * this.#words + word] as number;
  }

  /** Keeps the low 32 bits of `value`. */
  set(index: number, word: number, value: number): void {
    const chunk = this.#chunks[index >>> CHUNK_BITS] as Uint32Array;
    chunk[(index & CHUNK_MASK) * this.#words + word] = value;
  }

  add(index: number, word: number, amount: number): number {
    const chunk = this.#chunks[index >>> CHUNK_BITS] as Uint32Array;
    const at = (index & CHUNK_MASK) * this.#words + word;
    const sum = (chunk[at] as number) + amount;
    chunk[at] = sum;
    return sum;
  }
}
