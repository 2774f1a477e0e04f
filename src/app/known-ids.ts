import { hash, randomUUID } from 'node:crypto';

/**
 * A set of ids in 16 to 32 bytes each: of an id, 64 bits of a digest are kept, with a salt of this set, so that nobody can
 * choose an id that is mistaken for another. By chance it happens to one of a trillion ids that are asked for.
 */
export class KnownIds {
  readonly #salt = randomUUID();
  /** Open addressing, at most half full; 0 is free. */
  #slots: BigUint64Array;
  #count = 0;

  /** `expected`: how many there will be, or so. */
  constructor(expected: number) {
    this.#slots = new BigUint64Array(2 ** Math.ceil(Math.log2(2 * expected + 64)));
  }

  add(id: string): void {
    if (2 * this.#count >= this.#slots.length) this.#grow();
    const key = this.#keyOf(id);
    const at = this.#find(key);
    if (this.#slots[at] === 0n) this.#count++;
    this.#slots[at] = key;
  }

  has(id: string): boolean {
    return this.#slots[this.#find(this.#keyOf(id))] !== 0n;
  }

  #keyOf(id: string): bigint {
    return BigInt(`0x${hash('sha1', this.#salt + id).slice(0, 16)}`) || 1n;
  }

  /** Where the key is, or would be. */
  #find(key: bigint): number {
    const mask = this.#slots.length - 1;
    let at = Number(key & 0xffff_ffffn) & mask;
    while (this.#slots[at] !== 0n && this.#slots[at] !== key) at = (at + 1) & mask;
    return at;
  }

  #grow(): void {
    const before = this.#slots;
    this.#slots = new BigUint64Array(2 * before.length);
    for (const key of before) if (key !== 0n) this.#slots[this.#find(key)] = key;
  }
}
