import type { SettleReason } from '../core/record.ts';
import type { HugeSettle } from './huge-settle.ts';
import type { SettledOne } from './trace-settler.ts';

export interface HugeDue {
  readonly trace: number;
  readonly reason: SettleReason;
  readonly isRepeat: boolean;
}

/** Huge traces that are due, worked on one after the other: only one at a time takes memory for its pieces. */
export class HugeQueue {
  readonly #start: (due: HugeDue) => HugeSettle;
  readonly #waiting: HugeDue[] = [];
  #current: { trace: number; work: HugeSettle } | undefined;

  constructor(start: (due: HugeDue) => HugeSettle) {
    this.#start = start;
  }

  get isEmpty(): boolean {
    return this.#current === undefined && this.#waiting.length === 0;
  }

  /** Memory of the one that is worked on. */
  get bytes(): number {
    return this.#current?.work.bytes ?? 0;
  }

  add(due: HugeDue): void {
    this.#waiting.push(due);
  }

  /** Works on for about as long as decoding that many pieces takes. The trace that is done with it, if one is. */
  step(piecesMax: number, nowMs: number): { trace: number; settled: SettledOne } | undefined {
    if (this.#current === undefined) {
      const due = this.#waiting.shift();
      if (due === undefined) return undefined;
      this.#current = { trace: due.trace, work: this.#start(due) };
    }
    const { trace, work } = this.#current;
    const settled = work.step(piecesMax, nowMs);
    if (settled === undefined) return undefined;
    this.#current = undefined;
    return { trace, settled };
  }
}
