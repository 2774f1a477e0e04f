import { expect } from 'vitest';
import { runSeeds } from './run-seeds.ts';

/** .ci/run takes 2,000; more by `npm run simulate -- --seeds 100000`. */
const SEEDS = Number(process.env['SPANTRAIL_SIMULATION_SEEDS'] ?? 200);

export const PARTS: readonly number[] = Array.from({ length: 10 }, (_, part) => part);

/** Runs one part of the seeds and expects that nothing is found. */
export async function seedsOfPart(part: number): Promise<void> {
  const count = Math.ceil(SEEDS / PARTS.length);
  const failures: string[] = [];
  await runSeeds({ from: 1 + part * count, count, print: (line) => failures.push(line) });
  expect(failures).toEqual([]);
}
