import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const MEBIBYTE = 1024 * 1024;
const MODULE = join(import.meta.dirname, '../../src/app/young-generation.ts');

/** Bytes of the young generation of a process that keeps for a while what it makes. */
function youngBytes(execArgv: readonly string[], nodeOptions: string): number {
  const script = `
    import { getHeapSpaceStatistics } from 'node:v8';
    const { boundYoungGeneration } = await import(${JSON.stringify(MODULE)});
    boundYoungGeneration(${JSON.stringify(execArgv)}, ${JSON.stringify(nodeOptions)});
    const kept = [];
    for (let round = 0; round < 400; round++) {
      kept.push(Array.from({ length: 10_000 }, (_, number) => ({ number })));
      if (kept.length > 40) kept.shift();
      await new Promise((resolve) => setImmediate(resolve));
    }
    const young = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space');
    console.log(young.space_size);
    process.exit();
  `;
  const environment = { ...process.env, NODE_OPTIONS: '' };
  return Number(execFileSync(process.execPath, ['--input-type=module', '-e', script], { env: environment }));
}

describe('the young generation', () => {
  test('grows no further than its bound, give or take one step', () => {
    expect(youngBytes([], '')).toBeLessThanOrEqual(32 * MEBIBYTE);
  });

  test('grows as V8 would have it where somebody has said how large it may be', () => {
    expect(youngBytes(['--max-semi-space-size=64'], '')).toBeGreaterThan(32 * MEBIBYTE);
    expect(youngBytes([], '--max-semi-space-size=64')).toBeGreaterThan(32 * MEBIBYTE);
  });
});
