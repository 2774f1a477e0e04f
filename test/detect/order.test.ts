import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Alert } from '../../src/core/alert.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { BatchChanges } from '../../src/detect/changes.ts';
import type { Engine } from '../../src/detect/engine.ts';
import { subjectOf } from '../../src/detect/subject.ts';
import { alertsAfter, engineOf, LIMITS, NOON_MS, recordOf, type Short } from './world.ts';

/** One of each kind whose state is a window or a history. */
const RULES = `
- { id: count, name: Count, type: threshold, severity: low, query: 'event.outcome: failure', group_by: user.id, window: 60s, threshold: { value: 3 }, suppress: 120s }
- { id: spread, name: Spread, type: threshold, severity: low, query: '*', group_by: user.id, window: 90s, threshold: { cardinality: { field: audit.target.id, value: 3 } }, suppress: 120s }
- { id: after, name: After, type: threshold, severity: low, query: 'event.outcome: failure', group_by: user.id, window: 60s, threshold: { value: 2 }, then: 'event.outcome: success', suppress: 60s }
- { id: denied, name: Denied, type: query, severity: low, query: 'audit.decision: deny', group_by: user.id, suppress: 60s }
- { id: each, name: Each, type: query, severity: low, query: 'audit.decision: deny and event.outcome: failure' }
- { id: country, name: Country, type: new_terms, severity: low, query: '*', group_by: user.id, new_terms: { fields: source.geo.country_iso_code, history: 1d } }
`;

const short = fc.record({
  at: fc.integer({ min: 0, max: 900 }),
  user: fc.constantFrom('alice', 'bob'),
  outcome: fc.constantFrom('success' as const, 'failure' as const, 'failure' as const),
  decision: fc.constantFrom('allow' as const, 'deny' as const),
  target: fc.constantFrom('a', 'b', 'c', 'd'),
  country: fc.constantFrom('DE', 'DE', 'DE', 'FR'),
});
const shorts = fc
  .array(short, { maxLength: 60 })
  .map((all) => all.map((one, index): Short => ({ ...one, id: `r${index}` })));

function inOrder(all: readonly Short[]): AuditRecord[] {
  return [...all].sort((a, b) => a.at - b.at).map(recordOf);
}

/** Each may be passed by others that are later by less than the lateness. */
function within(all: readonly Short[], delays: readonly number[], latenessS: number): AuditRecord[] {
  const moved = all.map((one, index) => ({ one, comes: one.at + ((delays[index % delays.length] ?? 0) % latenessS) }));
  return moved.sort((a, b) => a.comes - b.comes).map(({ one }) => recordOf(one));
}

interface Span {
  readonly id: string;
  readonly rule: string;
  readonly group: string;
  readonly from: string;
  readonly to: string;
  readonly records: readonly string[];
}

function spanOf({ id, rule, group, firstAt, lastAt, records }: Alert): Span {
  return { id, rule: rule.id, group: JSON.stringify(group), from: firstAt, to: lastAt, records };
}

const same = (left: Span, right: Span) => left.rule === right.rule && left.group === right.group;

describe('records in any order within the lateness', () => {
  it('raise for the same groups, lose no alert and merge no two', () => {
    fc.assert(
      fc.property(shorts, fc.array(fc.nat(59), { minLength: 1 }), (all, delays) => {
        // `after` forgets what follows when nothing came before: docs/rules.md says so.
        const rules = RULES.split('\n')
          .filter((line) => !line.includes('id: after'))
          .join('\n');
        const expected = alertsAfter(engineOf(rules), inOrder(all)).map(spanOf);
        const found = alertsAfter(engineOf(rules), within(all, delays, LIMITS.latenessMs / 1000)).map(spanOf);
        for (const one of expected) {
          // Of a value that several show at about the same time, the one that came first is named.
          if (one.rule === 'country') expect(found.map(({ id }) => id)).toContain(one.id);
          if (one.rule === 'country') continue;
          const covering = found.filter((other) => same(one, other) && other.from <= one.to && one.from <= other.to);
          expect(covering.length, JSON.stringify({ one, found })).toBeGreaterThan(0);
          const records = new Set(covering.flatMap((other) => other.records));
          expect(one.records.filter((record) => !records.has(record))).toEqual([]);
        }
        for (const other of found) {
          const touched = expected.filter(
            (one) => same(one, other) && one.records.some((id) => other.records.includes(id)),
          );
          if (other.rule !== 'country') expect(touched).toHaveLength(1);
        }
      }),
      { numRuns: 150 },
    );
  });

  it('make one alert of a burst that is shorter than it is suppressed, with all that is in it, whatever came first', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray([0, 5, 10, 15, 20, 30, 40, 50], { minLength: 8 }), (seconds) => {
        const burst = seconds.map((at): Short => ({ at, outcome: 'failure', target: `patients/${at}` }));
        const alerts = alertsAfter(engineOf(RULES), burst);
        for (const id of ['count', 'spread']) {
          expect(alerts.filter(({ rule }) => rule.id === id)).toMatchObject([{ count: 8, value: 8 }]);
        }
      }),
      { numRuns: 100 },
    );
  });
});

describe('the same records again', () => {
  it('change nothing', () => {
    fc.assert(
      fc.property(shorts, fc.array(fc.nat(59), { minLength: 1 }), (all, again) => {
        const records = inOrder(all);
        // Each is followed by some that were there shortly before.
        const repeated = records.flatMap((record, index) => [
          record,
          ...(again.includes(index % 60) ? records.slice(Math.max(0, index - 5), index + 1) : []),
        ]);
        expect(alertsAfter(engineOf(RULES), repeated)).toEqual(alertsAfter(engineOf(RULES), records));
      }),
      { numRuns: 100 },
    );
  });

  it('count as they are now when they are revised within the lateness', () => {
    fc.assert(
      fc.property(shorts, fc.array(fc.boolean(), { minLength: 1 }), (all, flags) => {
        // What is settled at first says success of some that failed; the revision follows at once.
        const sorted = [...all].sort((a, b) => a.at - b.at);
        const revised = sorted.flatMap((one, index): Short[] => {
          if (one.outcome !== 'failure' || !flags[index % flags.length]) return [one];
          return [
            { ...one, outcome: 'success' },
            { ...one, revision: 2 },
          ];
        });
        const rules = RULES.split('\n')
          .filter((line) => !line.includes('id: after'))
          .join('\n');
        const expected = alertsAfter(engineOf(rules), sorted.map(recordOf));
        expect(ids(alertsAfter(engineOf(rules), revised))).toEqual(ids(expected));
      }),
      { numRuns: 100 },
    );
  });
});

function ids(alerts: readonly Alert[]): string[] {
  return alerts.map(({ id, count }) => `${id} ${count}`).sort();
}

describe('state', () => {
  const observe = (engine: Engine, records: readonly AuditRecord[]): BatchChanges[] => {
    for (const record of records) engine.observe(subjectOf(record));
    return [engine.takeChanges() ?? []].flat();
  };
  const restored = (lines: Iterable<readonly [string, string, unknown]>, changes: readonly BatchChanges[]): Engine => {
    const engine = engineOf(RULES);
    for (const [id, fingerprint, line] of JSON.parse(JSON.stringify([...lines]))) engine.restore(id, fingerprint, line);
    const fingerprints = new Map(Object.entries(engine.fingerprints()));
    for (const batch of JSON.parse(JSON.stringify(changes)) as BatchChanges[]) engine.apply(batch, fingerprints);
    engine.forgetAlerts();
    return engine;
  };

  it('is the same after a restart from any checkpoint and the changes since, in the middle of any window', () => {
    fc.assert(
      fc.property(shorts, fc.nat(60), fc.nat(60), fc.array(fc.nat(59), { minLength: 1 }), (all, one, two, delays) => {
        const records = within(all, delays, LIMITS.latenessMs / 1000);
        const checkpoint = Math.min(one, two, records.length);
        const crash = Math.min(Math.max(one, two), records.length);
        const engine = engineOf(RULES);
        observe(engine, records.slice(0, checkpoint));
        const lines = [...engine.snapshot()].map((line) => structuredClone(line));
        const changes = records.slice(checkpoint, crash).flatMap((record) => observe(engine, [record]));
        const after = restored(lines, changes);
        expect([...after.snapshot()]).toEqual([...engine.snapshot()]);
        engine.forgetAlerts();
        // The batch in flight comes again, and what comes later finds the same.
        const rest = [...records.slice(Math.max(0, crash - 3), crash), ...records.slice(crash)];
        expect(alertsAfter(after, rest)).toEqual(alertsAfter(engine, rest));
        expect(engine.alerts(NOON_MS)).toEqual([]);
      }),
      { numRuns: 100 },
    );
  });
});
