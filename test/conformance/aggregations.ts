import { expect, it } from 'vitest';
import { findField } from '../../src/core/fields.ts';
import type { Query } from '../../src/query/ast.ts';
import type { Aggregation } from '../../src/store/port.ts';
import { NOON_NS, SECOND_NS, type Space } from './space.ts';

const NOON_MS = Number(NOON_NS / 1_000_000n);

function equals(name: string, value: string): Query {
  const field = findField(name);
  if (!field) throw new Error(name);
  return { kind: 'equals', field, value };
}

/** What groups are asked for beyond their count: sums, bands, counts of a query, times. A part of the suite of store.ts. */
export function describeAggregations(newSpace: () => Space): void {
  const access = (user: string | undefined, duration: number, outcome: 'success' | 'failure', after = 0n) => ({
    user: user === undefined ? undefined : { id: user },
    event: { duration, outcome },
    after,
  });

  it('adds up, counts by bands and by queries, and says from when to when', async () => {
    const space = newSpace();
    await space.fill([
      access('b', 10, 'success', SECOND_NS),
      access('a', 11, 'failure'),
      access('a', 20, 'success', 2n * SECOND_NS + 999_999n),
      access('a', 99, 'failure', 1n),
      access(undefined, 5, 'success'),
      { user: { id: 'b' }, event: { duration: 21 } },
    ]);
    const aggregation: Aggregation = {
      groupBy: ['user.id'],
      measures: ['event.duration', 'source.port'],
      bands: { field: 'event.duration', bounds: [0, 10, 20] },
      counts: { failed: equals('event.outcome', 'failure'), none: equals('event.outcome', 'unknown') },
      extent: true,
      limit: 10,
    };
    const none = { count: 0, sum: 0 };
    const [a, b] = [
      {
        group: ['a'],
        count: 3,
        measures: { 'event.duration': { count: 3, sum: 130, min: 11, max: 99 }, 'source.port': none },
        bands: [0, 0, 2, 1],
        counts: { failed: 2, none: 0 },
        firstMs: NOON_MS,
        lastMs: NOON_MS + 2000,
      },
      {
        group: ['b'],
        count: 2,
        measures: { 'event.duration': { count: 2, sum: 31, min: 10, max: 21 }, 'source.port': none },
        bands: [0, 1, 0, 1],
        counts: { failed: 0, none: 0 },
        firstMs: NOON_MS,
        lastMs: NOON_MS + 1000,
      },
    ];
    const ask = (more: Partial<Aggregation>) => space.store.aggregate(space.selection(), { ...aggregation, ...more });
    expect(await ask({})).toEqual([a, b]);
    const missing = await ask({ withMissing: true, countMin: 2 });
    expect(missing).toEqual([a, b]);
    const all = await ask({ withMissing: true, orderBy: { field: 'event.duration', by: 'sum' } });
    expect(all.map(({ group, count }) => [...group, count])).toEqual([
      ['a', 3],
      ['b', 2],
      [null, 1],
    ]);
    const [whole] = await ask({ groupBy: [] });
    expect(whole).toMatchObject({ group: [], count: 6, bands: [0, 2, 2, 2], counts: { failed: 2 } });
    const nothing = space.selection('user.id: nobody');
    expect(await space.store.aggregate(nothing, { ...aggregation, groupBy: [] })).toEqual([
      {
        group: [],
        count: 0,
        measures: { 'event.duration': none, 'source.port': none },
        bands: [0, 0, 0, 0],
        counts: { failed: 0, none: 0 },
      },
    ]);
  });

  it('keeps the groups with the largest sum, mean or value, those without a value last', async () => {
    const space = newSpace();
    const port = (user: string, ...ports: (number | undefined)[]) =>
      ports.map((value) => ({ user: { id: user }, ...(value === undefined ? {} : { source: { port: value } }) }));
    await space.fill([...port('many', 5, 5, 5), ...port('one', 9), ...port('far', 1, 10), ...port('none', undefined)]);
    const order = async (by: 'sum' | 'mean' | 'max', more: Partial<Aggregation> = {}) => {
      const rows = await space.store.aggregate(space.selection(), {
        ...{ groupBy: ['user.id'], measures: ['source.port'], orderBy: { field: 'source.port', by }, limit: 9 },
        ...more,
      });
      return rows.map(({ group }) => group[0]);
    };
    expect(await order('sum')).toEqual(['many', 'far', 'one', 'none']);
    expect(await order('mean')).toEqual(['one', 'far', 'many', 'none']);
    expect(await order('max')).toEqual(['far', 'one', 'many', 'none']);
    expect(await order('mean', { countMin: 2 })).toEqual(['far', 'many']);
    expect(await order('max', { limit: 1 })).toEqual(['far']);
  });

  it('groups what is missing, of several fields, and takes every value of lists', async () => {
    const space = newSpace();
    const check = (granted: boolean, duration?: number) => ({
      granted,
      ...(duration === undefined ? {} : { duration }),
    });
    await space.fill([
      { user: { id: 'a', roles: ['x', 'y'] }, audit: { checks: [check(true, 7), check(true, 7), check(false)] } },
      { user: undefined, audit: { checks: [check(false, 1)] } },
      { user: { id: 'a' } },
      { user: { id: 'é', roles: ['x'] }, event: { action: 'z' } },
    ]);
    const rows = await space.store.aggregate(space.selection(), {
      groupBy: ['user.id', 'user.roles'],
      withMissing: true,
      measures: ['audit.checks.granted', 'audit.checks.duration'],
      limit: 10,
    });
    const granted = (count: number, sum: number, min: number, max: number) => ({ count, sum, min, max });
    const none = { count: 0, sum: 0 };
    const first = { 'audit.checks.granted': granted(3, 2, 0, 1), 'audit.checks.duration': granted(2, 14, 7, 7) };
    expect(rows).toEqual([
      {
        group: [null, null],
        count: 1,
        measures: { 'audit.checks.granted': granted(1, 0, 0, 0), 'audit.checks.duration': granted(1, 1, 1, 1) },
      },
      { group: ['a', null], count: 1, measures: { 'audit.checks.granted': none, 'audit.checks.duration': none } },
      { group: ['a', 'x'], count: 1, measures: first },
      { group: ['a', 'y'], count: 1, measures: first },
      { group: ['é', 'x'], count: 1, measures: { 'audit.checks.granted': none, 'audit.checks.duration': none } },
    ]);
  });

  it('groups by time, in the order of time', async () => {
    const space = newSpace();
    await space.fill([
      { after: 61n * SECOND_NS, event: { duration: 4 } },
      { after: 0n, event: { duration: 1 } },
      { after: 60n * SECOND_NS - 1n, event: { duration: 2 } },
      { after: 200n * SECOND_NS, event: { duration: 8 } },
    ]);
    const series = { groupBy: [], everyMs: 60_000, measures: ['event.duration'], limit: 10 };
    const rows = await space.store.aggregate(space.selection(), series);
    expect(rows.map(({ startMs, count, measures }) => [startMs, count, measures?.['event.duration']?.sum])).toEqual([
      [NOON_MS, 2, 3],
      [NOON_MS + 60_000, 1, 4],
      [NOON_MS + 180_000, 1, 8],
    ]);
    expect(rows.every(({ group }) => group.length === 0)).toBe(true);
    expect(await space.store.aggregate(space.selection(), { ...series, countMin: 2, limit: 1 })).toHaveLength(1);
  });

  it.each([
    { groupBy: [], limit: 1, measures: ['user.id'] },
    { groupBy: [], limit: 1, bands: { field: 'audit.checks.duration', bounds: [1] } },
    { groupBy: [], limit: 1, bands: { field: 'audit.pressure.ratio', bounds: [1] } },
    { groupBy: [], limit: 1, bands: { field: 'event.duration', bounds: [2, 1] } },
    { groupBy: [], limit: 1, bands: { field: 'event.duration', bounds: [0.5] } },
    { groupBy: ['user.id'], limit: 1, orderBy: { field: 'event.duration', by: 'sum' as const } },
    { groupBy: ['user.id'], limit: 1, everyMs: 1000 },
    { groupBy: [], limit: 1, everyMs: 0 },
  ])('refuses to aggregate %j', async (aggregation) => {
    const space = newSpace();
    await expect(space.store.aggregate(space.selection(), aggregation)).rejects.toMatchObject({ code: 'bad_request' });
  });
}
