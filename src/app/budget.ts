/** A sender is asked to come back after this long: the store needs some time to catch up. */
const RETRY_AFTER_MS = 5_000;
/** Refusing ends when this share of the budget is used again, so that it does not flicker. */
const RESUME_SHARE = 0.9;

interface Figure {
  readonly used: number;
  readonly max: number;
}

/** Is there room for more evidence that is not stored yet: on disk, and in the index? Reads the figures when asked. */
export function createBudget(figures: () => readonly Figure[]) {
  let refuse = false;
  return () => {
    refuse = figures().some(({ used, max }) => used >= (refuse ? max * RESUME_SHARE : max));
    return { refuse, retryAfterMs: RETRY_AFTER_MS };
  };
}
