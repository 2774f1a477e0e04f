import type { Scheduler } from '../core/clock.ts';
import { Pauses } from '../core/pauses.ts';
import type { RecordWrite } from '../core/settlement.ts';

/** Records annotated between two looks at the clock. */
const ANNOTATED_MAX = 64;

/** Adds to all records what is known from beyond their traces, with pauses: of a huge trace there are ten thousand. */
export async function annotateAll(
  writes: readonly RecordWrite[],
  annotate: ((part: readonly RecordWrite[]) => void) | undefined,
  scheduler: Scheduler,
): Promise<void> {
  if (annotate === undefined) return;
  const pauses = new Pauses(scheduler);
  for (let from = 0; from < writes.length; from += ANNOTATED_MAX) {
    if (pauses.isDue) await pauses.take();
    annotate(writes.slice(from, from + ANNOTATED_MAX));
  }
}
