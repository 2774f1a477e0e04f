import { randomInt } from 'node:crypto';
import { assert } from '../core/assert.ts';
import { TRACE } from './trace-words.ts';
import { NONE, type WordPool } from './word-pool.ts';

const SLOTS_FIRST = 1024;
/** Slots fill up to four fifths: at two words a slot that is 10 to 20 bytes a trace. */
const LOAD_MAX = 0.8;

/** Mixes a trace id (four words) and its namespace number into 32 bits. */
export function hashTrace(id: Uint32Array, namespace: number): number {
  let hash = namespace;
  for (let index = 0; index < 4; index++) {
    hash = Math.imul(hash ^ (id[index] as number), 0x9e37_79b1);
    hash ^= hash >>> 15;
  }
  return Math.imul(hash, 0x85eb_ca6b) >>> 0;
}

/** Finds traces by id: open addressing; each slot is the hash, so that growing looks at no trace, and the trace's index. */
export class TraceSlots {
  readonly #traces: WordPool;
  /** Senders choose trace ids: without it they could choose 40,000 of one hash, which took half a minute to add. */
  readonly #seed = randomInt(2 ** 32);
  #slots = new Uint32Array(SLOTS_FIRST * 2);
  #used = 0;
  /** Of the trace that is being removed. */
  readonly #id = new Uint32Array(4);

  constructor(traces: WordPool) {
    this.#traces = traces;
  }

  get bytes(): number {
    return this.#slots.byteLength;
  }

  /** NONE when there is no such trace. */
  find(id: Uint32Array, namespace: number): number {
    return this.#slots[this.#slotOf(this.#hash(id, namespace), id, namespace) * 2 + 1] as number;
  }

  insert(trace: number, id: Uint32Array, namespace: number): void {
    if (this.#used + 1 > (this.#slots.length / 2) * LOAD_MAX) this.#grow();
    const hash = this.#hash(id, namespace);
    const slot = this.#slotOf(hash, id, namespace);
    assert(this.#slots[slot * 2 + 1] === NONE, 'a trace is added once');
    this.#slots[slot * 2] = hash;
    this.#slots[slot * 2 + 1] = trace;
    this.#used++;
  }

  /** Empties a trace's slot and moves back what had to step aside for it, so that no search ends early. */
  remove(trace: number): void {
    const slots = this.#slots;
    const mask = slots.length / 2 - 1;
    const id = this.#id;
    for (let word = 0; word < 4; word++) id[word] = this.#traces.get(trace, TRACE.id + word);
    const namespace = this.#traces.get(trace, TRACE.namespace);
    let hole = this.#slotOf(this.#hash(id, namespace), id, namespace);
    for (let slot = (hole + 1) & mask; slots[slot * 2 + 1] !== NONE; slot = (slot + 1) & mask) {
      const home = (slots[slot * 2] as number) & mask;
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      slots[hole * 2] = slots[slot * 2] as number;
      slots[hole * 2 + 1] = slots[slot * 2 + 1] as number;
      hole = slot;
    }
    slots[hole * 2] = 0;
    slots[hole * 2 + 1] = NONE;
    this.#used--;
  }

  #hash(id: Uint32Array, namespace: number): number {
    return hashTrace(id, namespace ^ this.#seed);
  }

  /** The slot that holds this trace, or the empty slot where it belongs. */
  #slotOf(hash: number, id: Uint32Array, namespace: number): number {
    const mask = this.#slots.length / 2 - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const trace = this.#slots[slot * 2 + 1] as number;
      if (trace === NONE) return slot;
      if (this.#slots[slot * 2] === hash && this.#isTrace(trace, id, namespace)) return slot;
    }
  }

  #isTrace(trace: number, id: Uint32Array, namespace: number): boolean {
    const words = this.#traces.wordsOf(trace);
    const start = this.#traces.startOf(trace);
    for (let index = 0; index < 4; index++) if (words[start + TRACE.id + index] !== id[index]) return false;
    return words[start + TRACE.namespace] === namespace;
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Uint32Array(old.length * 2);
    const mask = this.#slots.length / 2 - 1;
    for (let at = 0; at < old.length; at += 2) {
      if (old[at + 1] === NONE) continue;
      let slot = (old[at] as number) & mask;
      while (this.#slots[slot * 2 + 1] !== NONE) slot = (slot + 1) & mask;
      this.#slots[slot * 2] = old[at] as number;
      this.#slots[slot * 2 + 1] = old[at + 1] as number;
    }
  }
}
