import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { describeSettings } from '../../src/config/describe.ts';
import { METRICS } from '../../src/core/metrics.ts';
import { SETTLE_REASONS } from '../../src/core/record.ts';

const page = readFileSync(join(import.meta.dirname, '../../docs/tuning.md'), 'utf8');
const rows = [...page.matchAll(/^\| `([\w.]+)` \|(.*)\|(.*)\|(.*)\|$/gm)].map(
  ([, setting = '', small, large, seen]) => ({
    setting,
    cells: [small, large, seen].map((cell) => cell?.trim() ?? ''),
  }),
);
/** Settings that can be too small; where to listen is no measure. */
const measures = describeSettings()
  .filter(({ type, path }) => /number|integer/.test(type) && path.at(-1) !== 'port')
  .map(({ path }) => path.join('.'));

describe('docs/tuning.md', () => {
  it('has a row for each setting that can be too small, and no other', () => {
    expect(rows.map(({ setting }) => setting).sort()).toEqual([...measures].sort());
  });

  it.each(rows)('says it of $setting', ({ cells }) => {
    for (const cell of cells) expect(cell.length).toBeGreaterThan(3);
  });

  it('names settings, metrics and reasons that there are', () => {
    const settings = new Set(describeSettings().map(({ path }) => path.join('.')));
    const named = [...page.matchAll(/`([a-z]+(?:\.[a-zA-Z]+)+)`/g)].map(([, name = '']) => name);
    const others = named.filter(
      (name) => !settings.has(name) && !name.startsWith('audit.') && name !== 'records.duckdb',
    );
    expect(others).toEqual([]);
    const metrics = [...page.matchAll(/`([a-z_]+)(?:\{[^`]*\})?`/g)].map(([, name = '']) => name);
    expect(
      metrics.filter(
        (name) =>
          name.includes('_') &&
          !(name in METRICS) &&
          !(SETTLE_REASONS as readonly string[]).includes(name) &&
          name !== 'spantrail_',
      ),
    ).toEqual([]);
    const reasons = [...page.matchAll(/settled\{reason="(\w+)"/g)].map(([, reason]) => reason);
    expect(SETTLE_REASONS).toEqual(expect.arrayContaining(reasons));
  });
});
