import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TIMESTAMP_NS_MAX } from '../../src/core/clock.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import type { Store } from '../../src/store/port.ts';
import { formedWrites } from '../fixtures/formed.ts';
import { toWrite } from '../fixtures/records.ts';
import { describeAlerts } from './alerts.ts';
import { describeReads } from './reads.ts';
import { collect, DAY_NS, NOON_NS, SECOND_NS, Space } from './space.ts';

export interface OpenedStore {
  readonly store: Store;
  dispose(): Promise<void>;
}

export interface SuiteOptions {
  /** Turns a record into a write that this store will always refuse; absent when it refuses none. */
  readonly poison?: (record: AuditRecord) => RecordWrite;
}

/** What every adapter of the store port must do. Each test works in a namespace of its own, so that one store serves all. */
export function describeStore(name: string, open: () => Promise<OpenedStore>, options: SuiteOptions = {}): void {
  describe(`store ${name}`, () => {
    let opened: OpenedStore;
    beforeAll(async () => {
      opened = await open();
      await opened.store.setUp();
    });
    afterAll(() => opened.dispose());
    const newSpace = () => new Space(opened.store);
    describeWrites(newSpace);
    describeRevisions(newSpace);
    describeReads(newSpace);
    describeAlerts(newSpace);
    const { poison } = options;
    if (poison) {
      it('rejects a document with a reason and stores its neighbours', async () => {
        const space = newSpace();
        const writes = [toWrite(space.record(1)), poison(space.record(2)), toWrite(space.record(3))];
        const result = await space.put(writes);
        expect(result).toMatchObject({ written: 2, outranked: 0, rejected: [{ id: space.id(2) }] });
        expect(result.rejected[0]?.reason).not.toBe('');
        expect(await space.numbers()).toEqual([1, 3]);
      });
    }
  });
}

function describeWrites(newSpace: () => Space): void {
  it('gives back what was written, and writing it again changes nothing', async () => {
    const space = newSpace();
    const write = toWrite(space.record(1, { user: { id: 'naïve Ω 𝒜\n"\\*%_', roles: ['nurse', 'ünit'] } }));
    for (let time = 0; time < 3; time++) {
      expect(await space.put([write])).toEqual({ written: 1, outranked: 0, rejected: [] });
      expect(await space.store.get(write.id)).toEqual(write.record);
      expect(await space.store.revisions(write.id)).toEqual([write.record]);
      expect(await space.store.count(space.selection())).toBe(1);
    }
  });

  it('takes records that a form gave, and nothing of the memory that they lay in', async () => {
    const space = newSpace();
    const plain = [1, 2, 3].map((number) => toWrite(space.record(number), { rank: BigInt(number) << 33n }));
    const formed = formedWrites(plain);
    expect(await space.put(formed)).toEqual({ written: 3, outranked: 0, rejected: [] });
    for (const { chunk } of formed) chunk.bytes.fill(0xff);
    for (const { id, record } of plain) expect(await space.store.get(id)).toEqual(record);
    expect(await space.store.count(space.selection())).toBe(3);
    const [first, ...others] = plain;
    if (!first) throw new Error('three are made');
    expect(await space.put([{ ...first, rank: 1n }])).toEqual({ written: 0, outranked: 1, rejected: [] });
    const hours = await space.store.histogram(space.selection(), 3_600_000);
    expect(hours.reduce((sum, { count }) => sum + count, 0)).toBe(1 + others.length);
    const ranks = await space.store.ranks(
      plain.map(({ id, namespace, timestampNs }) => ({ id, namespace, timestampNs })),
    );
    expect(ranks).toEqual(plain.map(({ rank }) => rank));
  });

  it('knows nothing of an id that was never written, and takes an empty batch', async () => {
    const space = newSpace();
    expect(await space.put([])).toEqual({ written: 0, outranked: 0, rejected: [] });
    expect(await space.store.get(space.id(9))).toBeUndefined();
    expect(await space.store.revisions(space.id(9))).toEqual([]);
    expect(await space.store.trace(space.id(9))).toEqual([]);
  });

  it('finds a record right after its write by where it is, and also by where it is not', async () => {
    const space = newSpace();
    const write = toWrite(space.record(1));
    await space.store.write([write]);
    const hint = { namespace: space.namespace, timestampNs: write.timestampNs };
    expect(await space.store.get(write.id, hint)).toEqual(write.record);
    await space.store.refresh();
    expect(await space.store.get(write.id, { ...hint, timestampNs: NOON_NS - 40n * DAY_NS })).toEqual(write.record);
    expect(await space.store.get(write.id, { ...hint, namespace: 'elsewhere' })).toEqual(write.record);
    expect(await space.store.get(space.id(9), hint)).toBeUndefined();
  });

  it('tells the exact ranks, right after the writes, of what it has: where it is said to be and elsewhere', async () => {
    const space = newSpace();
    const highest = 2n ** 63n - 1n;
    const ranks = [1n, 2n ** 53n + 1n, highest];
    const place = (number: number) => NOON_NS - BigInt(number) * 3n * DAY_NS;
    const writes = ranks.map((rank, number) => toWrite(space.record(number, {}, place(number)), { rank }));
    const { namespace } = space;
    const ask = (number: number, timestampNs = place(number)) => ({ id: space.id(number), namespace, timestampNs });
    expect(await space.store.ranks([])).toEqual([]);
    expect(await space.store.ranks([ask(0), ask(1)])).toEqual([undefined, undefined]);
    await space.store.write(writes);
    const requests = [ask(2), ask(9), ask(0), ask(1), ask(2)];
    expect(await space.store.ranks(requests)).toEqual([highest, undefined, 1n, ranks[1], highest]);
    await space.store.write([toWrite(space.record(0, {}, place(0)), { rank: 2n })]);
    expect(await space.store.ranks([ask(0)])).toEqual([2n]);
    await space.store.refresh();
    expect(await space.store.ranks([ask(1, NOON_NS - 40n * DAY_NS), ask(9, 0n)])).toEqual([ranks[1], undefined]);
    const many = Array.from({ length: 2500 }, (_, number) => ask(number));
    expect((await space.store.ranks(many)).filter((rank) => rank !== undefined)).toEqual([2n, ranks[1], highest]);
  });

  it('may be set up again at any time', async () => {
    const space = newSpace();
    await space.fill([{}, {}]);
    await space.store.setUp();
    expect(await space.numbers()).toEqual([1, 2]);
  });

  it('stores 5,000 records in one batch', async () => {
    const space = newSpace();
    const writes = Array.from({ length: 5000 }, (_, index) =>
      toWrite(space.record(index, { user: { id: `user-${index % 10}` } }, NOON_NS + BigInt(index) * SECOND_NS)),
    );
    expect(await space.put(writes)).toEqual({ written: 5000, outranked: 0, rejected: [] });
    expect(await space.store.count(space.selection())).toBe(5000);
    expect(await space.store.count(space.selection('user.id: user-3'))).toBe(500);
    const all = await collect(space.store.iterate(space.selection()));
    expect(all.map((record) => space.number(record))).toEqual(Array.from({ length: 5000 }, (_, index) => index));
  });

  it('ends with the highest rank whatever is written at the same time', async () => {
    const space = newSpace();
    const batch = (rank: number) =>
      Array.from({ length: 20 }, (_, index) =>
        toWrite(space.record(index, { user: { id: `rank-${rank}` } }), { rank: BigInt(rank) }),
      );
    await Promise.all([3, 6, 1, 4, 2, 5].map((rank) => space.store.write(batch(rank))));
    await space.store.refresh();
    expect(await space.store.count(space.selection())).toBe(20);
    expect(await space.store.count(space.selection('user.id: rank-6'))).toBe(20);
  });
}

function describeRevisions(newSpace: () => Space): void {
  const RANKS = [
    { first: 5n, second: 6n, kept: 'second', result: { written: 1, outranked: 0 }, states: ['first', 'second'] },
    { first: 5n, second: 4n, kept: 'first', result: { written: 0, outranked: 1 }, states: ['first'] },
    {
      first: 2n ** 62n,
      second: 2n ** 62n + 1n,
      kept: 'second',
      result: { written: 1, outranked: 0 },
      states: ['first', 'second'],
    },
    {
      first: 2n ** 63n - 1n,
      second: 2n ** 63n - 2n,
      kept: 'first',
      result: { written: 0, outranked: 1 },
      states: ['first'],
    },
  ];
  it.each(RANKS)('rank $second after rank $first keeps the $kept', async ({ first, second, kept, result, states }) => {
    const space = newSpace();
    const write = (name: string, rank: bigint) => toWrite(space.record(1, { user: { id: name } }), { rank });
    await space.put([write('first', first)]);
    expect(await space.put([write('second', second)])).toEqual({ ...result, rejected: [] });
    expect((await space.store.get(space.id(1)))?.user?.id).toBe(kept);
    expect((await space.store.revisions(space.id(1))).map((record) => record.user?.id)).toEqual(states);
    expect(await space.numbers()).toEqual([1]);
  });

  it('keeps the state before though it was written a moment ago and not announced', async () => {
    const space = newSpace();
    const write = (rank: bigint) => toWrite(space.record(1, { audit: { revision: Number(rank) } }), { rank });
    await space.store.write([write(1n)]);
    await space.put([write(2n)]);
    expect((await space.store.revisions(space.id(1))).map(({ audit }) => audit.revision)).toEqual([1, 2]);
  });

  it('takes text without a UTF-8 form', async () => {
    const space = newSpace();
    await space.fill([{ user: { id: 'cut \ud83d', name: '\\ud83d' } }]);
    const { id, name } = (await space.store.get(space.id(1)))?.user ?? {};
    expect(id).toMatch(/^cut .$/);
    expect(name).toBe('\\ud83d');
  });

  it.each([[[1, 3, 2]], [[3, 2, 1]], [[1, 2, 3]]])('keeps the highest of ranks %j in one batch', async (ranks) => {
    const space = newSpace();
    const writes = ranks.map((rank) =>
      toWrite(space.record(1, { user: { id: `rank-${rank}` } }), { rank: BigInt(rank) }),
    );
    const result = await space.put(writes);
    expect(result.written + result.outranked).toBe(3);
    expect((await space.store.get(space.id(1)))?.user?.id).toBe('rank-3');
    expect(await space.numbers()).toEqual([1]);
  });

  it('keeps every earlier state, oldest first, when revisions move between days', async () => {
    const space = newSpace();
    const times = [NOON_NS, NOON_NS - DAY_NS, NOON_NS + DAY_NS];
    const records = times.map((atNs, index) => space.record(1, { audit: { revision: index + 1 } }, atNs));
    for (const [index, record] of records.entries()) {
      const previous = times[index - 1];
      await space.put([toWrite(record, { rank: BigInt(index + 1), ...(previous !== undefined && { previous }) })]);
      // A retry of a batch whose answer was lost.
      await space.put([toWrite(record, { rank: BigInt(index + 1), ...(previous !== undefined && { previous }) })]);
      expect(await space.numbers()).toEqual([1]);
      expect(await space.store.revisions(space.id(1))).toEqual(records.slice(0, index + 1));
    }
    expect(await space.store.get(space.id(1))).toEqual(records[2]);
    expect(await space.numbers(space.selection('', { toNs: NOON_NS + SECOND_NS }))).toEqual([]);
    expect(await space.numbers(space.selection('', { fromNs: NOON_NS + DAY_NS }))).toEqual([1]);
  });

  it.each([
    ['a run wrote before it ended', true],
    ['was moved meanwhile', 'moved'],
  ] as const)('has a record once that %s, though nobody remembers where', async (_, elsewhere) => {
    const space = newSpace();
    const mayBeElsewhere = { mayBeElsewhere: elsewhere };
    const first = toWrite(space.record(1), { rank: 1n });
    const other = toWrite(space.record(2), { rank: 1n });
    await space.store.write([first, other]);
    const moved = { ...toWrite(space.record(1, {}, NOON_NS - 5n * DAY_NS), { rank: 2n }), ...mayBeElsewhere };
    await space.store.write([moved, toWrite(space.record(3))]);
    expect(await space.store.write([moved, { ...other, ...mayBeElsewhere }])).toMatchObject({ rejected: [] });
    await space.store.refresh();
    expect(await space.numbers()).toEqual([1, 2, 3]);
    expect(await space.store.get(first.id)).toEqual(moved.record);
    expect((await space.store.revisions(first.id)).map((record) => record['@timestamp'])).toEqual([
      first.record['@timestamp'],
      moved.record['@timestamp'],
    ]);
  });

  it('ignores a late lower rank from another day', async () => {
    const space = newSpace();
    await space.put([toWrite(space.record(1), { rank: 2n })]);
    const late = toWrite(space.record(1, {}, NOON_NS - DAY_NS), { rank: 1n, previous: NOON_NS });
    expect(await space.put([late])).toEqual({ written: 0, outranked: 1, rejected: [] });
    expect(await space.store.get(space.id(1))).toEqual(space.record(1));
    expect(await space.numbers()).toEqual([1]);
  });

  it('takes records from both ends of time, and their revisions', async () => {
    const space = newSpace();
    const ends = [0n, 1n, TIMESTAMP_NS_MAX - 1n, TIMESTAMP_NS_MAX];
    for (const rank of [1n, 2n]) {
      const previous = rank === 1n ? undefined : (atNs: bigint) => ({ previous: atNs });
      const writes = ends.map((atNs, number) =>
        toWrite(space.record(number, { audit: { revision: Number(rank) } }, atNs), { rank, ...previous?.(atNs) }),
      );
      expect(await space.put(writes)).toEqual({ written: 4, outranked: 0, rejected: [] });
      expect(await space.numbers()).toEqual([0, 1, 2, 3]);
    }
    for (const number of ends.keys()) expect(await space.store.revisions(space.id(number))).toHaveLength(2);
    expect(await space.numbers(space.selection('', { toNs: 1n }))).toEqual([0]);
    expect(await space.numbers(space.selection('', { fromNs: TIMESTAMP_NS_MAX, toNs: TIMESTAMP_NS_MAX + 1n }))).toEqual(
      [3],
    );
    expect(await collect(space.store.iterate(space.selection()))).toHaveLength(4);
    const buckets = await space.store.histogram(space.selection(), 365 * 86_400_000);
    expect(buckets.map(({ count }) => count).filter((count) => count > 0)).toEqual([2, 2]);
  });

  it('replaces and adds in one batch', async () => {
    const space = newSpace();
    await space.fill([{ user: { id: 'old' } }, { user: { id: 'old' } }]);
    const change = (number: number, rank: bigint) => toWrite(space.record(number, { user: { id: 'new' } }), { rank });
    expect(await space.put([change(1, 2n), change(2, 0n), change(3, 1n)])).toEqual({
      written: 2,
      outranked: 1,
      rejected: [],
    });
    expect(await space.numbers(space.selection('user.id: new'))).toEqual([1, 3]);
    expect(await space.numbers(space.selection('user.id: old'))).toEqual([2]);
  });

  it('hides superseded records from everything but get, revisions and queries that ask for them', async () => {
    const space = newSpace();
    const trace = { trace: { id: space.id(0) } };
    await space.fill([trace, { ...trace, audit: { superseded_by: space.id(1) } }]);
    const { store } = space;
    const selection = space.selection();
    expect(await space.numbers()).toEqual([1]);
    expect(await store.count(selection)).toBe(1);
    expect((await store.trace(space.id(0))).map((record) => space.number(record))).toEqual([1]);
    expect(await store.facets(selection, ['event.outcome'], 5)).toMatchObject([{ buckets: [{ count: 1 }] }]);
    expect(await store.histogram(selection, 1000)).toMatchObject([{ count: 1 }]);
    expect(await store.aggregate(selection, { groupBy: [], limit: 1 })).toMatchObject([{ count: 1 }]);
    expect(await collect(store.iterate(selection))).toHaveLength(1);
    expect(await space.numbers(space.selection('audit.superseded_by: *'))).toEqual([2]);
    expect((await store.get(space.id(2)))?.audit.superseded_by).toBe(space.id(1));
    expect(await store.revisions(space.id(2))).toHaveLength(1);
  });
}
