import { describe, expect, it } from 'vitest';
import { runSeeds } from './run-seeds.ts';

/** .ci/run takes 2,000; more by `npm run simulate -- --seeds 100000`. */
const SEEDS = Number(process.env['SPANTRAIL_SIMULATION_SEEDS'] ?? 200);
const PARTS = 10;

async function failuresOf(from: number, count: number): Promise<string[]> {
  const failures: string[] = [];
  await runSeeds({ from, count, print: (line) => failures.push(line) });
  return failures;
}

describe('the pipeline under faults of disk, store, process and clock', () => {
  it.each(Array.from({ length: PARTS }, (_, part) => part))(
    'keeps every invariant (part %i)',
    { timeout: 600_000 },
    async (part) => {
      const count = Math.ceil(SEEDS / PARTS);
      expect(await failuresOf(1 + part * count, count)).toEqual([]);
    },
  );

  it('takes the same course again from the same seed', async () => {
    const course = async () => {
      const lines: string[] = [];
      await runSeeds({ from: 7, count: 1, print: (line) => lines.push(line), trace: (line) => lines.push(line) });
      return lines;
    };
    expect(await course()).toEqual(await course());
  });
});
