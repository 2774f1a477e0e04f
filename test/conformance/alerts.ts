import { expect, it } from 'vitest';
import type { Alert, AlertState, Severity } from '../../src/core/alert.ts';
import { parseTimestamp } from '../../src/core/clock.ts';
import { groupKey } from '../../src/store/alerts.ts';
import type { AlertSelection, AlertStore } from '../../src/store/port.ts';
import { makeAlert } from '../fixtures/alerts.ts';
import type { Space } from './space.ts';

const at = (minute: number) => `2026-11-22T10:${String(minute).padStart(2, '0')}:00.000000000Z`;
const ns = (minute: number) => parseTimestamp(at(minute));

/** What every store does with alerts. */
export function describeAlerts(newSpace: () => Space): void {
  const open = (): {
    alerts: AlertStore;
    namespace: string;
    make: (number: number, given?: Partial<Alert>) => Alert;
  } => {
    const { store, namespace } = newSpace();
    const make = (number: number, given: Partial<Alert> = {}) =>
      makeAlert({
        id: `${namespace}-${number}`,
        namespace,
        raisedAt: at(number),
        firstAt: at(number),
        lastAt: at(number + 1),
        records: [`${namespace}-r${number}`],
        traces: [`${namespace}-t${number}`],
        ...given,
      });
    return { alerts: store.alerts, namespace, make };
  };

  it('keeps an alert as it is, and takes a change only from who saw its last state', async () => {
    const { alerts, make } = open();
    const alert = make(1, {
      reason: 'naïve "Ω" \\ 𝒜',
      // Names that would be in each other's way as fields.
      group: { user: 'a', 'user.id': 'b', 'audit.target.id': "x'; DROP TABLE alerts" },
      suppressed: 3,
      atLeast: true,
      history: [{ at: at(2), by: 'bob', state: 'open', note: 'looking' }],
    });
    expect(await alerts.read([alert.id])).toEqual([undefined]);
    expect(await alerts.write([])).toEqual([]);
    expect(await alerts.write([{ alert }])).toEqual([true]);
    const [first] = await alerts.read([alert.id]);
    expect(first?.alert).toEqual(alert);
    expect(await alerts.write([{ alert }])).toEqual([false]);
    const version = first?.version ?? '';
    const closed: Alert = { ...alert, state: 'closed' };
    const other = make(2);
    expect(await alerts.write([{ alert: closed, version }, { alert: other }])).toEqual([true, true]);
    expect(await alerts.write([{ alert, version }])).toEqual([false]);
    const read = await alerts.read([other.id, 'nobody', alert.id]);
    expect(read.map((one) => one?.alert)).toEqual([other, undefined, closed]);
    const missing = make(3);
    expect(await alerts.write([{ alert: missing, version: read[2]?.version ?? '' }])).toEqual([false]);
  });

  it('finds alerts by each of their sides, the last raised first', async () => {
    const { alerts, namespace, make } = open();
    const of = (number: number, state: AlertState, severity: Severity, rule: string) =>
      make(number, { state, rule: { id: rule, name: rule, type: 'query', severity } });
    const all = [
      of(10, 'open', 'low', 'one'),
      of(20, 'acknowledged', 'high', 'two'),
      of(30, 'closed', 'critical', 'one'),
      of(40, 'open', 'high', 'two'),
    ];
    expect(await alerts.write(all.map((alert) => ({ alert })))).toEqual([true, true, true, true]);
    const find = async (selection: AlertSelection) => {
      const page = await alerts.search({ namespace, ...selection }, 100);
      return page.alerts.map(({ id }) => Number(id.split('-').at(-1)));
    };
    expect(await find({})).toEqual([40, 30, 20, 10]);
    expect(await find({ states: ['open'] })).toEqual([40, 10]);
    expect(await find({ states: ['open', 'closed'] })).toEqual([40, 30, 10]);
    expect(await find({ states: [] })).toEqual([]);
    expect(await find({ severities: ['high', 'critical'] })).toEqual([40, 30, 20]);
    expect(await find({ rule: 'one' })).toEqual([30, 10]);
    expect(await find({ namespace: 'elsewhere' })).toEqual([]);
    expect(await find({ records: [`${namespace}-r20`, `${namespace}-r40`, 'x'] })).toEqual([40, 20]);
    expect(await find({ records: [] })).toEqual([]);
    expect(await find({ traces: [`${namespace}-t30`] })).toEqual([30]);
    expect(await find({ traces: [`${namespace}-r30`] })).toEqual([]);
    // The last access counts for the beginning, the first one for the end.
    const [from, to] = [ns(21) ?? 0n, ns(40) ?? 0n];
    expect(await find({ fromNs: from, toNs: to })).toEqual([30, 20]);
    expect(await find({ fromNs: from + 1n, toNs: to + 1n })).toEqual([40, 30]);
    expect(await find({ group: groupKey(make(1, { rule: all[0]?.rule ?? makeAlert().rule })) })).toEqual([30, 10]);
  });

  it('gives pages that neither overlap nor skip, also of alerts that were raised together', async () => {
    const { alerts, namespace, make } = open();
    const all = Array.from({ length: 25 }, (_, number) => make(number, { raisedAt: at(Math.floor(number / 10)) }));
    await alerts.write(all.map((alert) => ({ alert })));
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await alerts.search({ namespace }, 7, cursor);
      seen.push(...page.alerts.map(({ id }) => id));
      cursor = page.next;
    } while (cursor !== undefined);
    const expected = all.toSorted((a, b) => b.raisedAt.localeCompare(a.raisedAt) || (a.id < b.id ? -1 : 1));
    expect(seen).toEqual(expected.map(({ id }) => id));
    await expect(alerts.search({ namespace }, 7, 'foreign')).rejects.toMatchObject({ code: 'bad_request' });
    await expect(alerts.search({ namespace }, 0)).rejects.toMatchObject({ code: 'bad_request' });
  });

  it('counts the alerts of one rule and group together', async () => {
    const { alerts, namespace, make } = open();
    const alice = { 'user.id': 'alice', 'source.ip': '10.0.0.1' };
    const same = { 'source.ip': '10.0.0.1', 'user.id': 'alice' };
    await alerts.write([
      { alert: make(1, { group: alice, count: 5 }) },
      { alert: make(4, { group: same, count: 7, state: 'closed' }) },
      { alert: make(3, { group: { 'user.id': 'bob' }, count: 2 }) },
    ]);
    const groups = await alerts.groups({ namespace }, 10);
    expect(
      groups.map(({ key, newest, ...sums }) => ({ ...sums, newest: newest.id, same: key === groupKey(newest) })),
    ).toEqual([
      { alerts: 2, open: 1, count: 12, newest: `${namespace}-4`, same: true },
      { alerts: 1, open: 1, count: 2, newest: `${namespace}-3`, same: true },
    ]);
    expect(await alerts.groups({ namespace }, 1)).toHaveLength(1);
    expect(await alerts.groups({ namespace, states: ['closed'] }, 10)).toMatchObject([{ alerts: 1, open: 0 }]);
  });
}
