const WAYS = 4;

/**
 * Remembers hashes that were seen lately, in a fixed amount of memory. Each belongs into a set of four, of which the oldest makes way:
 * two that come in turn and belong into the same place do not make each other forgotten.
 */
export class SeenHashes {
  readonly #hashes: Int32Array;
  readonly #sets: number;
  #turn = 0;

  /** `count` is a power of two. */
  constructor(count: number) {
    this.#hashes = new Int32Array(count);
    this.#sets = count / WAYS;
  }

  /** Was this hash, 32 bits, seen before? It is from now on. 0 counts as seen. */
  see(hash: number): boolean {
    const hashes = this.#hashes;
    const first = ((hash ^ (hash >>> 16)) & (this.#sets - 1)) * WAYS;
    const wanted = hash | 0;
    for (let at = first; at < first + WAYS; at++) if (hashes[at] === wanted) return true;
    this.#turn = (this.#turn + 1) & (WAYS - 1);
    hashes[first + this.#turn] = wanted;
    return false;
  }
}
