import type { SettleReason } from '../core/record.ts';
import type { HugeSettle } from './huge-settle.ts';
import type { SettledOne } from './trace-settler.ts';

export interface HugeDue {
  readonly trace: number;
  readonly reason: SettleReason;
  readonly isRepeat: boolean;
}

/** A step ends after this where it can. */
const STEP_MS_MAX = 2;

/** Huge traces that are due, worked on one after the other: only one at a time takes memory for its pieces. */
export class HugeQueue {
  readonly #start: (due: HugeDue) => HugeSettle;
  readonly #elapsedMs: () => number;
  readonly #waiting: HugeDue[] = [];
  /** By the steady clock. */
  #restsUntilMs = 0;
  #current: { trace: number; work: HugeSettle } | undefined;

  /** `elapsedMs` is a steady clock of a thread that has other work, too. */
  constructor(start: (due: HugeDue) => HugeSettle, elapsedMs = () => 0) {
    this.#start = start;
    this.#elapsedMs = elapsedMs;
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

  /** How long others are to have their turn: as long as the last step took, since not all of them can be cut. */
  get restMs(): number {
    return Math.max(this.#restsUntilMs - this.#elapsedMs(), 0);
  }

  /** Works on, unless it rests, for about as long as decoding that many pieces takes, or a while. The trace that is done with it, if one is. */
  step(piecesMax: number, nowMs: number): { trace: number; settled: SettledOne } | undefined {
    if (this.isEmpty || this.restMs > 0) return undefined;
    const fromMs = this.#elapsedMs();
    this.#current ??= this.#begin(this.#waiting.shift() as HugeDue);
    const { trace, work } = this.#current;
    const settled = work.step(piecesMax, nowMs, () => this.#elapsedMs() >= fromMs + STEP_MS_MAX);
    this.#restsUntilMs = 2 * this.#elapsedMs() - fromMs;
    if (settled === undefined) return undefined;
    this.#current = undefined;
    return { trace, settled };
  }

  #begin(due: HugeDue): { trace: number; work: HugeSettle } {
    return { trace: due.trace, work: this.#start(due) };
  }
}
