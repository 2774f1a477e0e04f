/** Keeps the smallest numbers of all that are offered, by an order of the caller's, in a heap with the largest on top. */
export class SmallestPieces {
  readonly #compare: (left: number, right: number) => number;
  readonly #heap: Uint32Array;
  #size = 0;

  constructor(countMax: number, compare: (left: number, right: number) => number) {
    this.#compare = compare;
    this.#heap = new Uint32Array(countMax);
  }

  /** In no particular order. */
  get kept(): Uint32Array {
    return this.#heap.subarray(0, this.#size);
  }

  offer(piece: number): void {
    if (this.#size < this.#heap.length) {
      this.#rise(this.#size++, piece);
    } else if (this.#size > 0 && this.#compare(piece, this.#heap[0] as number) < 0) {
      this.#sink(piece);
    }
  }

  #rise(from: number, piece: number): void {
    let at = from;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (this.#compare(piece, this.#heap[above] as number) <= 0) break;
      this.#heap[at] = this.#heap[above] as number;
      at = above;
    }
    this.#heap[at] = piece;
  }

  #sink(piece: number): void {
    const heap = this.#heap;
    let at = 0;
    for (let below = 1; below < this.#size; below = 2 * at + 1) {
      if (below + 1 < this.#size && this.#compare(heap[below + 1] as number, heap[below] as number) > 0) below++;
      if (this.#compare(heap[below] as number, piece) <= 0) break;
      heap[at] = heap[below] as number;
      at = below;
    }
    heap[at] = piece;
  }
}
