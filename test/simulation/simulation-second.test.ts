import { describe, it } from 'vitest';
import { PARTS, seedsOfPart } from './parts.ts';

/** In a file of its own, so that two cores share the seeds. */
describe('the pipeline under faults of disk, store, process and clock: the second half of the seeds', () => {
  it.each(PARTS.slice(PARTS.length / 2))('keeps every invariant (part %i)', { timeout: 600_000 }, seedsOfPart);
});
