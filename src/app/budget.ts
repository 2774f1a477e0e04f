/** A sender is asked to come back after this long: the store needs some time to catch up. */
const RETRY_AFTER_MS = 5_000;
/** Refusing ends when this share of the budget is used again, so that it does not flicker. */
const RESUME_SHARE = 0.9;

/** Is there room for more evidence that is not stored yet? Reads the figure when asked. */
export function createBudget(bytesMax: number, unsettledBytes: () => number) {
  let refuse = false;
  return () => {
    refuse = unsettledBytes() >= (refuse ? bytesMax * RESUME_SHARE : bytesMax);
    return { refuse, retryAfterMs: RETRY_AFTER_MS };
  };
}
