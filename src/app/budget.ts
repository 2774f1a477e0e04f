import type { Refusal } from '../api/readiness.ts';

/** A sender is asked to come back after this long: the store needs some time to catch up. */
const RETRY_AFTER_MS = 5_000;
/** Refusing ends when this share of the budget is used again, so that it does not flicker. */
const RESUME_SHARE = 0.9;

interface Figure {
  readonly of: Refusal;
  readonly used: number;
  readonly max: number;
}

/** Is there room for more evidence that is not stored yet: on disk, and in the index? Reads the figures when asked; says which are full. */
export function createBudget(figures: () => readonly Figure[]) {
  let refuse = false;
  return () => {
    const full = figures().filter(({ used, max }) => used >= (refuse ? max * RESUME_SHARE : max));
    refuse = full.length > 0;
    return { refuse, retryAfterMs: RETRY_AFTER_MS, reasons: full.map((figure) => figure.of) };
  };
}
