import { describe, expect, it } from 'vitest';
import { formatTimestamp } from '../../src/core/clock.ts';
import { findField } from '../../src/core/fields.ts';
import { FIELD_CHARS_MAX } from '../../src/core/limits.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { Page, Sort } from '../../src/store/port.ts';
import { type Overrides, toWrite } from '../fixtures/records.ts';
import { describeAggregations } from './aggregations.ts';
import { BY_TIME, collect, DAY_NS, NOON_NS, SECOND_NS, type Space } from './space.ts';

/** The reading half of the suite of store.ts. */
export function describeReads(newSpace: () => Space): void {
  describe('searches', () => {
    describeQueries(newSpace);
    describeOrder(newSpace);
    describePaging(newSpace);
  });
  describe('counts', () => describeCounts(newSpace));
  describe('aggregations', () => describeAggregations(newSpace));
}

function describeQueries(newSpace: () => Space): void {
  it('finds by field, word, range, network and their combinations', async () => {
    const space = newSpace();
    await space.fill([
      {
        user: { id: 'alice', roles: ['nurse', 'ward 7'] },
        source: { ip: '10.0.0.7' },
        event: { duration: 41_000_000 },
      },
      { user: { id: 'bob' }, source: { ip: '10.9.0.1' }, event: { duration: 2_000_000_000, outcome: 'failure' } },
      {
        user: { id: 'Alice' },
        source: { ip: '2001:db8::1' },
        message: 'Somebody was refused: 42',
        http: { route: '/a/{id}' },
      },
      {
        user: undefined,
        audit: {
          checks: [
            { granted: false, permission: 'p1' },
            { granted: true, permission: 'p2' },
          ],
        },
      },
    ]);
    const table: readonly (readonly [string, number[]])[] = [
      ['', [1, 2, 3, 4]],
      ['user.id: alice', [1]],
      ['not user.id: alice', [2, 3, 4]],
      ['user.id: *', [1, 2, 3]],
      ['user.id: *li*', [1, 3]],
      ['user.roles: "ward 7" or user.id: bob', [1, 2]],
      ['user.roles: w*', [1]],
      ['http.route: /a/*', [3]],
      ['message: "ALICE READ shop"', [1, 2, 4]],
      ['message: "alice shop"', []],
      ['message: "42"', []],
      ['refused', [3]],
      ['bob', [2]],
      ['10.0.0.7', [1]],
      ['10.0.0.0/8', [1, 2]],
      ['source.ip: 10.0.0.0/16', [1]],
      ['source.ip: 2001:0db8:0:0::1', [3]],
      ['source.ip: ::ffff:10.0.0.7', [1]],
      ['event.duration >= 1s', [2]],
      ['event.duration < 41ms', []],
      ['event.duration: 41ms and not event.outcome: failure', [1, 3, 4]],
      ['audit.checks.granted: false', [4]],
      ['audit.checks.permission: (p1 and p2)', [4]],
      ['audit.entry: true', [1, 2, 3, 4]],
      ['@timestamp: 2026-11-22', [1, 2, 3, 4]],
      ['event.created > 2026-11-22', []],
    ];
    for (const [text, numbers] of table) expect(await space.numbers(space.selection(text)), text).toEqual(numbers);
  });

  const NASTY = [
    'a*b',
    'a%b',
    'a_b',
    'axb',
    'a"b',
    'a\\b',
    "a'b",
    'a\nb',
    'a\tb',
    ' a b',
    '日本語',
    '𝒜',
    'é',
    'e\u0301',
    '$.a[*]',
    '{}',
  ];
  it('takes every character of a value literally', async () => {
    const space = newSpace();
    const long = 'ä'.repeat(FIELD_CHARS_MAX);
    const values = [...NASTY, long, `${long.slice(1)}b`];
    await space.fill(
      values.map((value) => ({ user: { id: value }, url: { path: value }, related: { user: ['x', value] } })),
    );
    for (const [index, value] of values.entries()) {
      for (const name of ['user.id', 'url.path', 'related.user']) {
        const field = findField(name);
        if (!field) throw new Error(name);
        const query = { kind: 'equals', field, value } as const;
        expect(await space.numbers({ ...space.selection(), query }), `${name} ${value}`).toEqual([index + 1]);
      }
    }
    expect(await space.numbers(space.selection('user.id: a\\**'))).toEqual([1]);
    expect(await space.numbers(space.selection('url.path: "a*b"'))).toEqual([1]);
    expect(await space.numbers(space.selection('url.path: a%*'))).toEqual([2]);
    expect(await space.numbers(space.selection('related.user: *\\n*'))).toEqual([8]);
  });

  it('keeps to the namespace, to the half-open time range and to entries', async () => {
    const space = newSpace();
    const other = newSpace();
    await space.fill([{}, { after: 1n }, { after: 2n, audit: { entry: false } }, { after: 3n }]);
    await other.fill([{}]);
    expect(await space.numbers()).toEqual([1, 2, 3, 4]);
    expect(await other.numbers()).toEqual([1]);
    expect(await space.numbers(space.selection('', { fromNs: NOON_NS + 1n, toNs: NOON_NS + 3n }))).toEqual([2, 3]);
    expect(await space.numbers(space.selection('', { fromNs: NOON_NS + 1n, toNs: NOON_NS + 1n }))).toEqual([]);
    expect(await space.numbers(space.selection('', { inner: false }))).toEqual([1, 2, 4]);
  });

  it('shows a trace with its inner records by start time', async () => {
    const space = newSpace();
    const trace = { id: space.id(77) };
    await space.fill([
      { trace, after: 5n },
      { trace, after: 1n, audit: { entry: false } },
      { after: 2n },
      { trace, after: DAY_NS },
    ]);
    expect((await space.store.trace(trace.id)).map((record) => space.number(record))).toEqual([2, 1, 4]);
  });
}

function describeOrder(newSpace: () => Space): void {
  const user = (id?: string) => ({ user: id === undefined ? undefined : { id } });
  const ip = (text?: string) => ({ source: text === undefined ? undefined : { ip: text } });
  const ORDERS: readonly { field: string; list: Overrides<AuditRecord>[]; asc: number[]; desc: number[] }[] = [
    {
      field: 'user.id',
      list: [user('b'), user(), user('B'), user('\uffee'), user('𝒜'), user('b'), user('')],
      asc: [7, 3, 1, 6, 4, 5, 2],
      desc: [5, 4, 1, 6, 3, 7, 2],
    },
    {
      field: 'url.path',
      list: [{ url: { path: '/b' } }, {}, { url: { path: '/a' } }, { url: { path: '/ab' } }],
      asc: [3, 4, 1, 2],
      desc: [1, 4, 3, 2],
    },
    {
      field: 'source.ip',
      list: [ip('10.0.0.10'), ip('10.0.0.9'), ip(), ip('::1'), ip('2001:db8::1')],
      asc: [4, 2, 1, 5, 3],
      desc: [5, 1, 2, 4, 3],
    },
    {
      field: 'http.response.status_code',
      list: [{ http: { response: { status_code: 1000 } } }, {}, { http: { response: { status_code: 200 } } }],
      asc: [3, 1, 2],
      desc: [1, 3, 2],
    },
    {
      field: 'source.port',
      list: [{ source: { port: 10 } }, {}, { source: { port: 9 } }, { source: { port: 10 } }],
      asc: [3, 1, 4, 2],
      desc: [1, 4, 3, 2],
    },
    {
      field: 'event.duration',
      list: [{ event: { duration: 10 } }, { event: { duration: 9 } }],
      asc: [2, 1],
      desc: [1, 2],
    },
    {
      field: 'audit.revised_at',
      list: [
        { audit: { revised_at: '2026-11-22T10:00:00.000000002Z' } },
        {},
        { audit: { revised_at: '2026-11-22T10:00:00.000000001Z' } },
      ],
      asc: [3, 1, 2],
      desc: [1, 3, 2],
    },
    { field: 'audit.entry', list: [{}, { audit: { entry: false } }], asc: [2, 1], desc: [1, 2] },
  ];
  it.each(ORDERS)(
    'sorts by $field, ties by id, missing values last, page by page',
    async ({ field, list, asc, desc }) => {
      const space = newSpace();
      await space.fill(list);
      for (const [direction, wanted] of [
        ['asc', asc],
        ['desc', desc],
      ] as const) {
        const sort: Sort = { field, direction };
        expect(await space.numbers(space.selection(), sort), direction).toEqual(wanted);
        const paged: number[] = [];
        let page: Page | undefined;
        do {
          page = await space.store.search(space.selection(), sort, 1, page?.next);
          paged.push(...page.records.map((record) => space.number(record)));
        } while (page.next !== undefined && paged.length < 20);
        expect(paged, `${direction} in pages`).toEqual(wanted);
      }
    },
  );

  it.each([
    ['message', 'text'],
    ['user.roles', 'several'],
    ['no.such', 'no field'],
  ])('refuses to sort by %s', async (field, reason) => {
    const space = newSpace();
    const search = space.store.search(space.selection(), { field, direction: 'asc' }, 10);
    await expect(search).rejects.toMatchObject({ code: 'bad_request', message: expect.stringContaining(reason) });
  });
}

function describePaging(newSpace: () => Space): void {
  it('pages without overlap or gap while records are written and revised', async () => {
    const space = newSpace();
    await space.fill(Array.from({ length: 10 }, (_, index) => ({ after: BigInt(index) * 10n })));
    const sort: Sort = { field: '@timestamp', direction: 'desc' };
    const seen: number[] = [];
    let page = await space.store.search(space.selection(), sort, 3);
    for (let step = 0; ; step++) {
      seen.push(...page.records.map((record) => space.number(record)));
      if (page.next === undefined) break;
      // Newer than everything: never on a later page. And a revision of what was seen already.
      await space.put([
        toWrite(space.record(100 + step, {}, NOON_NS + 1000n + BigInt(step))),
        toWrite(space.record(10, { user: { id: `again-${step}` } }, NOON_NS + 90n), { rank: BigInt(step + 2) }),
      ]);
      page = await space.store.search(space.selection(), sort, 3, page.next);
    }
    expect(seen).toEqual([10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
  });

  it.each([1, 3, 4, 5, 30])(
    'pages through records of few times, those of one by their ids, %i a page',
    async (size) => {
      const space = newSpace();
      const times = Array.from({ length: 30 }, (_, index) => [0, 3, 3, 5, 9][(index * 7) % 5] as number);
      await space.fill(times.map((after) => ({ after: BigInt(after) })));
      for (const [direction, sign] of [
        ['asc', 1],
        ['desc', -1],
      ] as const) {
        const seen: AuditRecord[] = [];
        let page: Page | undefined;
        do {
          page = await space.store.search(space.selection(), { field: '@timestamp', direction }, size, page?.next);
          expect(page.records.length).toBeLessThanOrEqual(size);
          seen.push(...page.records);
        } while (page.next !== undefined && seen.length < 100);
        const wanted = seen.toSorted(
          (a, b) => sign * compare(a['@timestamp'], b['@timestamp']) || compare(a.event.id, b.event.id),
        );
        expect(seen.map((record) => space.number(record))).toEqual(wanted.map((record) => space.number(record)));
        expect(new Set(seen.map((record) => space.number(record))).size, direction).toBe(30);
      }
    },
  );

  it('iterates oldest first, and through what is written meanwhile', async () => {
    const space = newSpace();
    await space.fill(Array.from({ length: 30 }, (_, index) => ({ after: BigInt(index % 7) })));
    const seen: AuditRecord[] = [];
    for await (const record of space.store.iterate(space.selection('user.id: alice'))) {
      if (seen.length === 3) await space.put([toWrite(space.record(99, {}, NOON_NS - 1n))]);
      seen.push(record);
    }
    const keys = seen.map((record) => `${record['@timestamp']} ${record.event.id}`);
    expect(keys).toEqual(keys.toSorted());
    expect(new Set(keys).size).toBe(30);
    expect(seen.map((record) => space.number(record))).not.toContain(99);
    expect(await collect(space.store.iterate(space.selection('user.id: nobody')))).toEqual([]);
  });

  it('refuses foreign cursors and limits', async () => {
    const space = newSpace();
    await space.fill([{}, {}, {}]);
    const { next } = await space.store.search(space.selection(), BY_TIME, 1);
    const forged = Buffer.from(JSON.stringify(['@timestamp', 'asc', space.id(1), true])).toString('base64url');
    for (const cursor of ['', 'x', 'e30', forged]) {
      await expect(space.store.search(space.selection(), BY_TIME, 1, cursor)).rejects.toMatchObject({
        code: 'bad_request',
      });
    }
    const other: Sort = { field: 'user.id', direction: 'asc' };
    await expect(space.store.search(space.selection(), other, 1, next)).rejects.toMatchObject({ code: 'bad_request' });
    for (const limit of [0, -1, 1.5, 1_000_000, Number.NaN]) {
      await expect(space.store.search(space.selection(), BY_TIME, limit)).rejects.toMatchObject({
        code: 'bad_request',
      });
    }
  });
}

function describeCounts(newSpace: () => Space): void {
  it('facets: largest first, ties by value, each record once a value', async () => {
    const space = newSpace();
    await space.fill([
      { user: { id: 'b', roles: ['x', 'y'] } },
      { user: { id: 'a', roles: ['x', 'x'] } },
      { user: { id: 'c' }, audit: { entry: false } },
      { user: { id: 'c' }, source: { ip: '10.0.0.7', port: 80 } },
    ]);
    const fields = ['user.id', 'user.roles', 'audit.entry', 'source.ip', 'source.port', 'host.name'];
    expect(await space.store.facets(space.selection(), fields, 2)).toEqual([
      {
        field: 'user.id',
        buckets: [
          { value: 'c', count: 2 },
          { value: 'a', count: 1 },
        ],
      },
      {
        field: 'user.roles',
        buckets: [
          { value: 'x', count: 2 },
          { value: 'y', count: 1 },
        ],
      },
      {
        field: 'audit.entry',
        buckets: [
          { value: true, count: 3 },
          { value: false, count: 1 },
        ],
      },
      { field: 'source.ip', buckets: [{ value: '10.0.0.7', count: 1 }] },
      { field: 'source.port', buckets: [{ value: 80, count: 1 }] },
      { field: 'host.name', buckets: [] },
    ]);
    await expect(space.store.facets(space.selection(), ['message'], 2)).rejects.toMatchObject({ code: 'bad_request' });
  });

  it('histogram: equal buckets from first to last, empty ones too', async () => {
    const space = newSpace();
    expect(await space.store.histogram(space.selection(), 1000)).toEqual([]);
    await space.fill([
      {},
      { after: SECOND_NS - 1n, event: { outcome: 'failure' }, audit: { decision: 'deny' } },
      { after: 3n * SECOND_NS, event: { outcome: 'failure' } },
    ]);
    const bucket = (seconds: bigint, count: number, failures: number, denied: number) => ({
      startNs: NOON_NS + seconds * SECOND_NS,
      count,
      failures,
      denied,
    });
    const wanted = [bucket(0n, 2, 1, 1), bucket(1n, 0, 0, 0), bucket(2n, 0, 0, 0), bucket(3n, 1, 1, 0)];
    expect(await space.store.histogram(space.selection(), 1000)).toEqual(wanted);
    expect(await space.store.histogram(space.selection('event.outcome: failure'), 60_000)).toEqual([
      bucket(0n, 2, 2, 1),
    ]);
    await space.put([toWrite(space.record(9, {}, NOON_NS - 30n * DAY_NS))]);
    for (const width of [1, 0, 0.5]) {
      await expect(space.store.histogram(space.selection(), width)).rejects.toMatchObject({ code: 'bad_request' });
    }
  });

  // The server takes the ends of its intervals from the query: one that it lacked made some refuse the request.
  it.each(['<', '<=', '>', '>='])('histogram: of records %s an instant, without another end', async (operator) => {
    const space = newSpace();
    await space.fill([-1n, 0n, 1n].map((seconds) => ({ after: seconds * SECOND_NS })));
    const query = `@timestamp ${operator} "${formatTimestamp(NOON_NS)}"`;
    const wanted = { '<': [-1n], '<=': [-1n, 0n], '>': [1n], '>=': [0n, 1n] }[operator] ?? [];
    const starts = wanted.map((seconds) => NOON_NS + seconds * SECOND_NS);
    const buckets = await space.store.histogram(space.selection(query), 1000);
    expect(buckets.map(({ startNs }) => startNs)).toEqual(starts);
    const measures = ['event.duration'];
    const rows = await space.store.aggregate(space.selection(query), {
      groupBy: [],
      everyMs: 1000,
      measures,
      limit: 9,
    });
    expect(rows.map(({ startMs = 0 }) => BigInt(startMs) * 1_000_000n)).toEqual(starts);
  });

  it('aggregates counts, percentiles and distinct values by group', async () => {
    const space = newSpace();
    const one = (service: string, duration: number, id: string) => ({
      service: { name: service },
      event: { duration },
      user: { id },
    });
    await space.fill([
      ...Array.from({ length: 100 }, (_, index) => one('shop', (index + 1) * 1000, `user-${index % 3}`)),
      one('orders', 7, 'x'),
      { service: undefined },
    ]);
    const percentiles = { field: 'event.duration', percents: [50, 99.9] };
    const rows = await space.store.aggregate(space.selection(), {
      groupBy: ['service.name'],
      percentiles,
      distinct: 'user.id',
      limit: 5,
    });
    expect(rows).toMatchObject([
      { group: ['shop'], count: 100, distinct: 3 },
      { group: ['orders'], count: 1, distinct: 1, percentiles: { '50': 7, '99.9': 7 } },
    ]);
    const { exactAggregations } = space.store.capabilities;
    const tolerance = exactAggregations ? 0.001 : 1500;
    expect(Math.abs((rows[0]?.percentiles?.['50'] ?? 0) - 50_500)).toBeLessThanOrEqual(tolerance);
    expect(Math.abs((rows[0]?.percentiles?.['99.9'] ?? 0) - 99_901)).toBeLessThanOrEqual(tolerance);
    expect(await space.store.aggregate(space.selection(), { groupBy: [], limit: 1 })).toEqual([
      { group: [], count: 102 },
    ]);
    const pairs = await space.store.aggregate(space.selection(), { groupBy: ['service.name', 'user.id'], limit: 2 });
    expect(pairs).toEqual([
      { group: ['shop', 'user-0'], count: 34 },
      { group: ['shop', 'user-1'], count: 33 },
    ]);
    const nothing = space.selection('user.id: nobody');
    expect(await space.store.aggregate(nothing, { groupBy: [], percentiles, distinct: 'user.id', limit: 1 })).toEqual([
      { group: [], count: 0, percentiles: {}, distinct: 0 },
    ]);
    expect(await space.store.aggregate(nothing, { groupBy: ['user.id'], limit: 1 })).toEqual([]);
  });

  it.each([
    { groupBy: ['message'], limit: 1 },
    { groupBy: ['no.such'], limit: 1 },
    { groupBy: ['user.id', 'user.name', 'event.action', 'event.outcome'], limit: 1 },
    { groupBy: [], limit: 0 },
    { groupBy: [], limit: 1, percentiles: { field: 'user.id', percents: [50] } },
    { groupBy: [], limit: 1, percentiles: { field: 'event.duration', percents: [101] } },
    { groupBy: [], limit: 1, distinct: 'message' },
  ])('refuses to aggregate %j', async (aggregation) => {
    const space = newSpace();
    await expect(space.store.aggregate(space.selection(), aggregation)).rejects.toMatchObject({ code: 'bad_request' });
  });
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
