import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { benchmarksMarkdown } from '../bench/page.ts';

it('docs/benchmarks.md says what test/bench/results say', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/benchmarks.md'), 'utf8');
  expect(page).toBe(benchmarksMarkdown());
});
