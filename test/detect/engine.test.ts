import { describe, expect, it } from 'vitest';
import { alertsAfter, engineOf, type Short } from './world.ts';

const FAILURES = `
- id: failures
  name: Failed logins
  type: threshold
  severity: high
  query: 'event.action: login and event.outcome: failure'
  group_by: user.id
  window: 60s
  threshold: { value: 3 }
`;

function logins(...seconds: readonly number[]): Short[] {
  return seconds.map((at) => ({ at, action: 'login', outcome: 'failure' }));
}

describe('threshold', () => {
  it('fires when so many matches lie in a window, once for as long as they go on', () => {
    const [alert, ...others] = alertsAfter(engineOf(FAILURES), logins(0, 20, 40, 45, 90));
    expect(others).toEqual([]);
    expect(alert).toMatchObject({
      rule: { id: 'failures', type: 'threshold', severity: 'high' },
      reason: 'Failed logins: 4 within 1 min (user.id alice)',
      group: { 'user.id': 'alice' },
      ...{ value: 4, threshold: 3, count: 5, suppressed: 2 },
      ...{ firstAt: '2026-11-23T12:00:00.000000000Z', lastAt: '2026-11-23T12:01:30.000000000Z' },
    });
    expect(alert?.records).toHaveLength(5);
    expect(alert?.traces).toHaveLength(5);
  });

  it('does not fire when they are farther apart, of others, or of another namespace', () => {
    expect(alertsAfter(engineOf(FAILURES), logins(0, 30, 61, 100))).toEqual([]);
    const others = logins(0, 1, 2, 3).map((short, index) => ({ ...short, user: `user${index}` }));
    expect(alertsAfter(engineOf(FAILURES), others)).toEqual([]);
    const namespaces = logins(0, 1, 2).map((short, index) => ({ ...short, namespace: `n${index}` }));
    expect(alertsAfter(engineOf(FAILURES), namespaces)).toEqual([]);
  });

  it('fires again after it was quiet for as long as it is suppressed', () => {
    const alerts = alertsAfter(engineOf(FAILURES), logins(0, 1, 2, 200, 201, 202));
    expect(alerts.map(({ count }) => count)).toEqual([3, 3]);
    expect(new Set(alerts.map(({ id }) => id)).size).toBe(2);
  });

  it('counts distinct values', () => {
    const rule = FAILURES.replace('{ value: 3 }', '{ cardinality: { field: audit.target.id, value: 3 } }');
    const same = logins(0, 1, 2, 3).map((short, at) => ({ ...short, target: `patients/${at % 2}` }));
    expect(alertsAfter(engineOf(rule), same)).toEqual([]);
    const [alert] = alertsAfter(engineOf(rule), [
      ...same,
      ...logins(4).map((one) => ({ ...one, target: 'patients/9' })),
    ]);
    expect(alert).toMatchObject({ value: 3, threshold: 3, count: 5 });
  });

  it('waits for what follows, in any order within the lateness', () => {
    const rule = `${FAILURES}  then: 'event.action: login and event.outcome: success'\n`;
    const success: Short = { at: 30, action: 'login' };
    expect(alertsAfter(engineOf(rule), [...logins(0, 1, 2), success])).toMatchObject([{ count: 4 }]);
    expect(alertsAfter(engineOf(rule), [...logins(0, 1), success, ...logins(2)])).toMatchObject([{ count: 4 }]);
    expect(alertsAfter(engineOf(rule), logins(0, 1, 2, 3))).toEqual([]);
    expect(alertsAfter(engineOf(rule), [...logins(0, 1, 2), { ...success, at: 90 }])).toEqual([]);
    expect(alertsAfter(engineOf(rule), [...logins(0, 1, 2), { ...success, user: 'bob' }])).toEqual([]);
  });

  it('counts no record twice, takes out what a revision changes, and takes in what it makes fit', () => {
    const [first, second, third] = ['a', 'b', 'c'].map((id, at) => ({
      id,
      at,
      action: 'login',
      outcome: 'failure' as const,
    }));
    if (!first || !second || !third) throw new Error('three are made');
    const engine = engineOf(FAILURES);
    expect(alertsAfter(engine, [first, first, second, second, first])).toEqual([]);
    expect(alertsAfter(engine, [{ ...second, outcome: 'success', revision: 2 }, third])).toEqual([]);
    expect(alertsAfter(engine, [{ ...second, revision: 3 }])).toMatchObject([{ count: 3 }]);
    expect(alertsAfter(engine, [{ ...third, revision: 2, supersededBy: 'x' }])).toEqual([]);
  });

  it('says what had to make room', () => {
    const engine = engineOf(FAILURES, { groupsMax: 2 });
    alertsAfter(
      engine,
      ['a', 'b', 'c'].flatMap((user) => logins(0, 1).map((short) => ({ ...short, user }))),
    );
    expect(engine.statuses()).toMatchObject([{ groups: 2, entries: 4, evicted: 1 }]);
  });

  it('believes no clock that is far ahead, and tells what is too late', () => {
    const engine = engineOf(FAILURES);
    const ahead = { ...logins(86_400 * 365)[0], at: 86_400 * 365, ingestedAt: 0 } as Short;
    expect(alertsAfter(engine, [ahead, ...logins(1, 2)])).toMatchObject([{ count: 3 }]);
    alertsAfter(engine, [...logins(1000), ...logins(5)]);
    expect(engine.statuses()).toMatchObject([{ late: 1 }]);
  });
});

describe('query', () => {
  const RULE = `
- id: denied
  name: Refused
  type: query
  severity: low
  query: 'audit.decision: deny'
  group_by: user.id
`;

  it('makes an alert of each match, the same one for the same record', () => {
    const denied: Short[] = [1, 2].map((at) => ({ id: `d${at}`, at, decision: 'deny' }));
    const alerts = alertsAfter(engineOf(RULE), [...denied, ...denied, { at: 3 }]);
    expect(alerts).toMatchObject([
      { count: 1, records: ['d1'], reason: 'alice did GET on patients/7' },
      { count: 1, records: ['d2'] },
    ]);
  });

  it('tells it in one line, whatever the record says', () => {
    const rule = `${RULE}  reason: '\${user.id} read \${audit.target.id}'\n`;
    const [alert] = alertsAfter(engineOf(rule), [{ at: 0, decision: 'deny', target: 'notes/1\r\nSeverity: low' }]);
    expect(alert?.reason).toBe('alice read notes/1 Severity: low');
  });

  it('holds back further ones of the group', () => {
    const rule = `${RULE}  suppress: 10m\n  reason: 'refused \${count} times, last by \${service.name} (\${nobody})'\n`;
    const denied: Short[] = [0, 300, 800].map((at) => ({ at, decision: 'deny' }));
    expect(() => engineOf(rule)).toThrow('there is no field "nobody"');
    const engine = engineOf(rule.replace(' (${nobody})', ''));
    const alerts = alertsAfter(engine, [...denied, { at: 300, decision: 'deny', user: 'bob' }]);
    expect(alerts).toMatchObject([
      { count: 3, suppressed: 2, reason: 'refused 3 times, last by records' },
      { count: 1, group: { 'user.id': 'bob' } },
    ]);
  });

  it('looks at inner accesses, and hours, when it is told to', () => {
    const inner: Short = { at: 0, decision: 'deny', entry: false };
    expect(alertsAfter(engineOf(RULE), [inner])).toEqual([]);
    expect(alertsAfter(engineOf(`${RULE}  inner: true\n`), [inner])).toHaveLength(1);
    const hours = `${RULE}  hours: { outside: 'Mon-Fri 07:00-19:00', timezone: Europe/Berlin }\n`;
    // Noon in UTC is one o'clock in Berlin; 18:30 there is 17:30.
    const at = [0, 5.4 * 3600, 6.1 * 3600, -6.1 * 3600, 5 * 86_400].map(
      (seconds): Short => ({ at: seconds, decision: 'deny' }),
    );
    expect(alertsAfter(engineOf(hours), at)).toHaveLength(3);
  });
});

describe('new terms', () => {
  const RULE = `
- id: country
  name: New country
  type: new_terms
  severity: high
  query: '*'
  group_by: user.id
  new_terms: { fields: source.geo.country_iso_code, history: 30d }
`;
  const from = (at: number, country: string, user = 'alice'): Short => ({ at, country, user });

  it('fires for a value that the group never had, but not for its first', () => {
    const alerts = alertsAfter(engineOf(RULE), [
      from(0, 'DE'),
      from(1, 'DE'),
      from(2, 'KP'),
      from(3, 'KP'),
      from(4, 'DE'),
      from(5, 'KP', 'bob'),
    ]);
    expect(alerts).toMatchObject([
      {
        reason: 'New country: KP was never seen before (user.id alice)',
        group: { 'user.id': 'alice', 'source.geo.country_iso_code': 'KP' },
        count: 1,
      },
    ]);
  });

  it('fires for none in the warm-up, and again after the history', () => {
    const warm = RULE.replace('history: 30d', 'history: 30d, warm_up: 1d');
    const engine = engineOf(warm);
    const day = 86_400;
    expect(alertsAfter(engine, [from(0, 'DE'), from(5, 'FR'), from(day + 1, 'FR'), from(day + 2, 'IT')])).toHaveLength(
      1,
    );
    expect(alertsAfter(engine, [from(33 * day, 'IT')])).toHaveLength(1);
  });

  it('does not depend on which of two came first', () => {
    expect(alertsAfter(engineOf(RULE), [from(2, 'KP'), from(0, 'DE')])).toMatchObject([
      { group: { 'source.geo.country_iso_code': 'KP' } },
    ]);
  });

  it('remembers so many values', () => {
    const engine = engineOf(RULE, { termsMax: 2 });
    alertsAfter(engine, [from(0, 'DE'), from(1, 'FR'), from(2, 'IT')]);
    expect(engine.statuses()).toMatchObject([{ entries: 2, evicted: 1 }]);
    expect(alertsAfter(engine, [from(3, 'DE')])).toMatchObject([{ atLeast: true }]);
  });
});

describe('baseline', () => {
  const rule = (of: string, more = '') => `
- id: usual
  name: Unusual
  type: baseline
  severity: medium
  query: '*'
  group_by: audit.target.id
  baseline: { of: ${of}, interval: 1m, deviations: 4, min_volume: 5, warm_up: 10m ${more}}
`;
  /** Ten accesses a minute. */
  const minutes = (from: number, to: number, of: (at: number) => Partial<Short> = () => ({})): Short[] =>
    Array.from({ length: (to - from) * 10 }, (_, index) => {
      const at = from * 60 + index * 6;
      return { at, ...of(at) };
    });

  it.each([
    ['latency', (at: number) => ({ durationMs: 50 + (at % 7) }), () => ({ durationMs: 900 })],
    ['failures', () => ({}), () => ({ outcome: 'failure' as const })],
  ])('tells %s far above what is usual, while it happens', (of, usual, unusual) => {
    const engine = engineOf(rule(of));
    expect(alertsAfter(engine, minutes(0, 30, usual))).toEqual([]);
    expect(alertsAfter(engine, minutes(30, 31, unusual).slice(0, 4))).toEqual([]);
    const [alert, ...others] = alertsAfter(engine, minutes(30, 32, unusual));
    expect(others).toEqual([]);
    expect(alert?.group).toEqual({ 'audit.target.id': 'patients/7' });
    expect(alert?.value).toBeGreaterThan(alert?.threshold ?? 0);
  });

  it('tells a rate far above the usual one', () => {
    const engine = engineOf(rule('rate'));
    expect(alertsAfter(engine, minutes(0, 30))).toEqual([]);
    const burst = Array.from({ length: 60 }, (_, index): Short => ({ at: 1800 + index }));
    expect(alertsAfter(engine, burst)).toMatchObject([
      { value: 60, reason: expect.stringContaining('Unusual: 60 instead of') },
    ]);
    expect(engine.statuses()).toMatchObject([{ alerts: 1 }]);
  });

  it('compares with the same hour of the week once that is known', () => {
    const engine = engineOf(rule('rate', ', ').replace(', }', '}'));
    const week = 7 * 86_400;
    // Three busy hours on the first Mondays: 30 a minute, and nothing else in the week but one access a day.
    const busy = (start: number) => Array.from({ length: 30 * 30 }, (_, index): Short => ({ at: start + index * 2 }));
    alertsAfter(engine, [...busy(0), { at: 86_400 }, ...busy(week), { at: week + 86_400 }]);
    expect(alertsAfter(engine, busy(2 * week))).toEqual([]);
    expect(alertsAfter(engine, busy(2 * week + 3600 * 5)).length).toBeGreaterThan(0);
  });
});
