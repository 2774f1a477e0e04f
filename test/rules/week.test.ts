import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Alert } from '../../src/core/alert.ts';
import { alertsAfter, DAY_MS, engineWith, MONDAY_MS, shippedRules } from './shipped.ts';
import { ordinaryDays } from './week.ts';

const page = readFileSync(join(import.meta.dirname, '../../docs/shipped-rules.md'), 'utf8');
const SECOND_WEEK_MS = MONDAY_MS + 7 * DAY_MS;

function countsOf(alerts: readonly Alert[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { rule } of alerts) counts[rule.id] = (counts[rule.id] ?? 0) + 1;
  return counts;
}

/** What docs/shipped-rules.md says of each week: rule → at most so many alerts. */
function stated(column: number): Record<string, number> {
  const rows = [...page.matchAll(/^\| `([a-z-]+)` \| (\d+) \| (\d+) \|$/gm)];
  return Object.fromEntries(rows.map((row) => [row[1] ?? '', Number(row[column])]));
}

describe('ordinary days', () => {
  it('raise no more alerts than docs/shipped-rules.md states', { timeout: 300_000 }, async () => {
    const alerts = alertsAfter(engineWith(await shippedRules()), ordinaryDays(14, 1));
    const isFirst = ({ firstAt }: Alert) => Date.parse(firstAt) < SECOND_WEEK_MS;
    for (const [counts, limits] of [
      [countsOf(alerts.filter(isFirst)), stated(2)],
      [countsOf(alerts.filter((alert) => !isFirst(alert))), stated(3)],
    ] as const) {
      expect(Object.keys(limits).length).toBeGreaterThan(3);
      const beyond = Object.entries(counts).filter(([rule, count]) => count > (limits[rule] ?? 0));
      expect(beyond).toEqual([]);
    }
  });

  it('say of every rule what it is for', async () => {
    for (const { id, severity } of await shippedRules()) expect(page).toContain(`| \`${id}\` | ${severity} |`);
  });
});
