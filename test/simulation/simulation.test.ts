import { describe, expect, it } from 'vitest';
import { PARTS, seedsOfPart } from './parts.ts';
import { runSeeds } from './run-seeds.ts';

describe('the pipeline under faults of disk, store, process and clock', () => {
  it.each(PARTS.slice(0, PARTS.length / 2))('keeps every invariant (part %i)', { timeout: 600_000 }, seedsOfPart);

  it('takes the same course again from the same seed', async () => {
    const course = async () => {
      const lines: string[] = [];
      await runSeeds({ from: 7, count: 1, print: (line) => lines.push(line), trace: (line) => lines.push(line) });
      return lines;
    };
    expect(await course()).toEqual(await course());
  });
});
