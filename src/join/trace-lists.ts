import { TRACE } from './trace-words.ts';
import { NONE, type WordPool } from './word-pool.ts';

/** A timer fires at most this much late. */
export const TICK_MS = 32;
/** Slots of the timing wheel, a power of two: it turns once in 131 s; whatever is due later is put off when its slot comes. */
const WHEEL_SLOTS = 4096;

/** Timers stop firing while this many traces are due, so that after a long stop the event loop is not kept for all at once. */
const DUE_AHEAD_MAX = 4096;

/** The lists besides the wheel's slots. A trace is in one list at a time, and the list is the trace's state. */
export const LIST = {
  /** In none: it is being settled, or was just made. */
  none: 0,
  /** To be settled, first due first. */
  due: 1,
  /** This and higher numbers: open, in a slot of the wheel. */
  wheel: 2,
} as const;

/** Doubly linked lists over the traces' own words: one for each slot of a timing wheel, one of due traces. */
export class TraceLists {
  readonly #traces: WordPool;
  readonly #heads = new Uint32Array(LIST.wheel + WHEEL_SLOTS);
  readonly #tails = new Uint32Array(LIST.wheel + WHEEL_SLOTS);
  readonly #counts = { due: 0, open: 0 };
  /** The last tick whose slot was emptied. */
  #tick = 0;

  constructor(traces: WordPool) {
    this.#traces = traces;
  }

  get dueCount(): number {
    return this.#counts.due;
  }

  listOf(trace: number): number {
    return this.#traces.get(trace, TRACE.list);
  }

  first(list: number): number {
    return this.#heads[list] as number;
  }

  /** Moves a trace to the end of a list. */
  move(trace: number, list: number): void {
    this.#unlink(trace);
    if (list === LIST.none) return;
    const tail = this.#tails[list] as number;
    const words = this.#traces.wordsOf(trace);
    const start = this.#traces.startOf(trace);
    words[start + TRACE.previous] = tail;
    words[start + TRACE.next] = NONE;
    words[start + TRACE.list] = list;
    if (tail === NONE) this.#heads[list] = trace;
    else this.#traces.set(tail, TRACE.next, trace);
    this.#tails[list] = trace;
    this.#count(list, 1);
  }

  /** Puts a trace where the wheel comes by at `dueMs` (epoch milliseconds) or shortly after, or at its next turn if later. */
  schedule(trace: number, dueMs: number, nowMs: number): void {
    if (this.#counts.open === 0) this.#tick = Math.max(this.#tick, Math.floor(nowMs / TICK_MS));
    const wanted = Math.ceil(dueMs / TICK_MS);
    const tick = Math.min(Math.max(wanted, this.#tick + 1), this.#tick + WHEEL_SLOTS - 1);
    this.move(trace, LIST.wheel + (tick % WHEEL_SLOTS));
  }

  /** Calls `fire` for every trace whose slot has come; `fire` moves it to a list, or schedules it anew. */
  turn(nowMs: number, fire: (trace: number) => void): void {
    const last = Math.floor(nowMs / TICK_MS);
    if (last - this.#tick > WHEEL_SLOTS) this.#tick = last - WHEEL_SLOTS;
    while (this.#tick < last && this.#counts.open > 0) {
      this.#tick++;
      const list = LIST.wheel + (this.#tick % WHEEL_SLOTS);
      for (let trace = this.first(list); trace !== NONE; trace = this.first(list)) {
        if (this.#counts.due >= DUE_AHEAD_MAX) {
          this.#tick--;
          return;
        }
        fire(trace);
      }
    }
    this.#tick = Math.max(this.#tick, last);
  }

  /** Epoch milliseconds at which `turn` next has something to do. */
  nextTurnMs(): number | undefined {
    const list = this.#nextSlot();
    if (list === undefined) return undefined;
    return (this.#tick + ((list - LIST.wheel - this.#tick) & (WHEEL_SLOTS - 1))) * TICK_MS;
  }

  /** The open trace whose slot comes next. */
  firstOpen(): number {
    const list = this.#nextSlot();
    return list === undefined ? NONE : this.first(list);
  }

  #nextSlot(): number | undefined {
    if (this.#counts.open === 0) return undefined;
    for (let step = 1; step <= WHEEL_SLOTS; step++) {
      const list = LIST.wheel + ((this.#tick + step) % WHEEL_SLOTS);
      if (this.first(list) !== NONE) return list;
    }
    return undefined;
  }

  #unlink(trace: number): void {
    const words = this.#traces.wordsOf(trace);
    const start = this.#traces.startOf(trace);
    const list = words[start + TRACE.list] as number;
    if (list === LIST.none) return;
    const previous = words[start + TRACE.previous] as number;
    const next = words[start + TRACE.next] as number;
    if (previous === NONE) this.#heads[list] = next;
    else this.#traces.set(previous, TRACE.next, next);
    if (next === NONE) this.#tails[list] = previous;
    else this.#traces.set(next, TRACE.previous, previous);
    words[start + TRACE.list] = LIST.none;
    this.#count(list, -1);
  }

  #count(list: number, amount: number): void {
    if (list === LIST.due) this.#counts.due += amount;
    else this.#counts.open += amount;
  }
}
