const PRIME = 0x9e3779b1;
const OTHER_PRIME = 0x85ebca6b;

/** A part is compared in steps of so many bytes, the last of which overlaps the one before. */
const STEP_BYTES = 8;

/** Looks for parts that seldom repeat are left out, but for one in so many. */
const SELDOM = 16;
const LUCK_MAX = 256;

export const IS_CLEAN = -1;
export const NOT_KEPT = -2;

/**
 * Parts of requests in which there proved to be nothing that is secret, by their bytes: most of what a service says it has said
 * before, and need not be searched again. Exact: what is found has the very same bytes. Of fixed size; a part takes the place of
 * an older one. What is clean depends on the mask, so each mask has its own.
 */
export class CleanParts {
  readonly #partBytesMax: number;
  readonly #stepsASlot: number;
  readonly #shift: number;
  /** How long the part in each slot is, and its kind; 0 when there is none. */
  readonly #heads: Int32Array;
  /** Its last bytes, then all from the first on. */
  readonly #steps: BigInt64Array;
  /** Grows with what is found, falls with what is not. */
  #luck = LUCK_MAX;
  #leftOut = 0;

  /** @param slots a power of two, at least 2 */
  constructor(slots: number, partBytesMax: number) {
    this.#partBytesMax = partBytesMax;
    this.#stepsASlot = Math.ceil(partBytesMax / STEP_BYTES);
    this.#shift = Math.clz32(slots) + 1;
    this.#heads = new Int32Array(slots);
    this.#steps = new BigInt64Array(slots * this.#stepsASlot);
  }

  /** `IS_CLEAN` when this part has been kept; else where to keep it, or `NOT_KEPT`. `kind` (below 256) is what the bytes are. */
  find(view: DataView, start: number, end: number, kind = 0): number {
    const length = end - start;
    if (length > this.#partBytesMax || length < STEP_BYTES) return NOT_KEPT;
    if (this.#luck <= 0 && ++this.#leftOut % SELDOM !== 0) return NOT_KEPT;
    const head = headOf(length, kind);
    const slot = hashOf(view, start, end, head) >>> this.#shift;
    if (this.#heads[slot] !== head || !this.#isAt(slot, view, start, end)) {
      if (this.#luck > 0) this.#luck -= 1;
      return slot;
    }
    if (this.#luck < LUCK_MAX) this.#luck += SELDOM;
    return IS_CLEAN;
  }

  #isAt(slot: number, view: DataView, start: number, end: number): boolean {
    const steps = this.#steps;
    const last = end - STEP_BYTES;
    let at = slot * this.#stepsASlot;
    if (steps[at++] !== view.getBigInt64(last, true)) return false;
    for (let from = start; from < last; from += STEP_BYTES) {
      if (steps[at++] !== view.getBigInt64(from, true)) return false;
    }
    return true;
  }

  /** Keeps the part in the slot that `find` gave. */
  keep(slot: number, view: DataView, start: number, end: number, kind = 0): void {
    const steps = this.#steps;
    const last = end - STEP_BYTES;
    let at = slot * this.#stepsASlot;
    this.#heads[slot] = headOf(end - start, kind);
    steps[at++] = view.getBigInt64(last, true);
    for (let from = start; from < last; from += STEP_BYTES) steps[at++] = view.getBigInt64(from, true);
  }
}

function headOf(length: number, kind: number): number {
  return (length << 8) | kind;
}

/** Of no use against an attacker, who could only make parts displace each other. */
function hashOf(view: DataView, start: number, end: number, head: number): number {
  const last = end - STEP_BYTES;
  let even = Math.imul(head ^ view.getInt32(last, true), PRIME);
  let odd = Math.imul(view.getInt32(last + 4, true), OTHER_PRIME);
  for (let from = start; from < last; from += STEP_BYTES) {
    even = Math.imul(even ^ view.getInt32(from, true), PRIME);
    odd = Math.imul(odd ^ view.getInt32(from + 4, true), OTHER_PRIME);
  }
  return Math.imul(even ^ (odd >>> 15) ^ odd, PRIME);
}
