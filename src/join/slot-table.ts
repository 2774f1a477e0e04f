import { randomInt } from 'node:crypto';

/** Slots are filled up to this share. */
const LOAD_MAX = 0.7;

/** The index that stands for no entry. */
export const NO_ENTRY = 0;

/**
 * Finds entries, which are numbers above zero, by a hash of what they hold; the caller tells equal ones. Open addressing, two
 * words a slot. Senders choose what is hashed, but not the seed, so they cannot make all entries meet.
 */
export class SlotTable {
  readonly seed = randomInt(2 ** 32);
  #slots: Uint32Array;
  #used = 0;

  constructor(expected: number) {
    let size = 64;
    while (size * LOAD_MAX < expected) size *= 2;
    this.#slots = new Uint32Array(size * 2);
  }

  get bytes(): number {
    return this.#slots.byteLength;
  }

  /** The entry of this hash that is the one; NO_ENTRY when there is none. */
  find(hash: number, isSame: (entry: number) => boolean): number {
    const slots = this.#slots;
    const mask = slots.length / 2 - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const entry = slots[slot * 2 + 1] as number;
      if (entry === NO_ENTRY || (slots[slot * 2] === hash && isSame(entry))) return entry;
    }
  }

  /** Adds an entry that `find` did not find. */
  add(hash: number, entry: number): void {
    if (this.#used + 1 > (this.#slots.length / 2) * LOAD_MAX) this.#grow();
    this.#used++;
    put(this.#slots, hash, entry);
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Uint32Array(old.length * 2);
    for (let at = 0; at < old.length; at += 2) {
      if (old[at + 1] !== NO_ENTRY) put(this.#slots, old[at] as number, old[at + 1] as number);
    }
  }
}

function put(slots: Uint32Array, hash: number, entry: number): void {
  const mask = slots.length / 2 - 1;
  let slot = hash & mask;
  while (slots[slot * 2 + 1] !== NO_ENTRY) slot = (slot + 1) & mask;
  slots[slot * 2] = hash;
  slots[slot * 2 + 1] = entry;
}

/** Mixes words into 32 bits. */
export function mixWords(seed: number, first: number, second: number, third = 0): number {
  let hash = Math.imul(seed ^ first, 0x9e37_79b1);
  hash = Math.imul(hash ^ (hash >>> 15) ^ second, 0x9e37_79b1);
  hash = Math.imul(hash ^ (hash >>> 15) ^ third, 0x85eb_ca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}
