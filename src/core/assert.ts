/** Stops on a broken assumption of ours. For bugs only: bad input gets an AppError or a tagged result instead. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`);
}
