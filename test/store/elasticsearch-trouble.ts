import { Client } from '@elastic/elasticsearch';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { EVERYTHING } from '../../src/query/ast.ts';
import { openElasticsearchStore } from '../../src/store/elasticsearch/store.ts';
import { type FaultyWay, openFaultyWay } from './elasticsearch-faults.ts';
import { HOUR_NS, hourly, SETTINGS } from './elasticsearch-records.ts';

/** What the adapter does when the cluster, or the way to it, is in trouble. */
export function describeTrouble(urls: string[]): void {
  describeLimits(urls);
  describe('a way that fails', () => {
    let way: FaultyWay;
    beforeAll(async () => {
      way = await openFaultyWay(urls[0] ?? '');
    });
    afterAll(() => way.close());

    it('sends again what an overloaded cluster did not take, and halves what is too large for it', async () => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls: [way.url] });
      const writes = hourly('overload', 40, 1n);
      let busy = 2;
      way.fault = (path, body) => {
        if (!path.startsWith('/_bulk')) return undefined;
        if (busy-- > 0) return { status: 429 };
        return body.length > 10_000 ? { status: 413 } : undefined;
      };
      expect(await store.write(writes)).toEqual({ written: 40, outranked: 0, rejected: [] });
      expect(way.passed.filter((path) => path.startsWith('/_bulk')).length).toBeGreaterThan(3);
      way.fault = undefined;
      await store.refresh();
      expect(await store.count({ query: EVERYTHING, inner: true, namespace: 'overload' })).toBe(40);
      await store.close();
    });

    it('makes what earlier runs wrote findable once, and what this one moved each time', async () => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls: [way.url] });
      const write = async (rank: bigint, mayBeElsewhere?: true | 'moved') => {
        const writes = hourly('findable', 4, rank, rank * 24n * HOUR_NS);
        const before = way.passed.filter((path) => path.includes('/_refresh')).length;
        await store.write(writes.map((one) => ({ ...one, ...(mayBeElsewhere && { mayBeElsewhere }) })));
        return way.passed.filter((path) => path.includes('/_refresh')).length - before;
      };
      expect(await write(1n)).toBe(0);
      expect(await write(2n, true)).toBe(1);
      expect(await write(2n, true)).toBe(0);
      expect(await write(3n, 'moved')).toBe(1);
      expect(await write(4n, 'moved')).toBe(1);
      await store.refresh();
      expect(await store.count({ query: EVERYTHING, inner: true, namespace: 'findable' })).toBe(4);
      await store.close();
    });

    it('rejects alone a record that is larger than the cluster takes', async () => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls: [way.url] });
      const [first, second, third] = hourly('large', 3, 1n);
      if (!first || !second || !third) throw new Error('three records are made');
      const large = { ...second, record: { ...second.record, message: 'x'.repeat(50_000) } };
      way.fault = (_, body) => (body.length > 40_000 ? { status: 413 } : undefined);
      const result = await store.write([first, large, third]);
      expect(result).toMatchObject({
        written: 2,
        rejected: [{ id: second.id, reason: expect.stringContaining('413') }],
      });
      way.fault = undefined;
      await store.close();
    });

    it.each([
      ['is busy for long', 429],
      ['refuses our credentials', 401],
    ])('throws store_unavailable when the cluster %s, and the same batch is taken later', async (_, status) => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls: [way.url] });
      const writes = hourly(`later${status}`, 5, 1n);
      way.fault = (path) => (path.startsWith('/_bulk') ? { status } : undefined);
      await expect(store.write(writes)).rejects.toMatchObject({ code: 'store_unavailable', retryable: true });
      way.fault = undefined;
      expect(await store.write(writes)).toEqual({ written: 5, outranked: 0, rejected: [] });
      await store.close();
    });

    /** Says this of every document of a bulk request. */
    const failing = (status: number, type: string) => (path: string, body: string) => {
      if (!path.startsWith('/_bulk')) return undefined;
      const items = body.split('\n').filter((line) => /^\{"(index|create)"/.test(line));
      return { status: 200, body: { errors: true, items: items.map(() => ({ index: { status, error: { type } } })) } };
    };

    it.each([
      [400, 'validation_exception', 'store_unavailable'],
      [403, 'cluster_block_exception', 'store_unavailable'],
      [500, 'null_pointer_exception', 'internal'],
    ])('throws for documents that fail with %i %s, and takes them later', async (status, type, code) => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls: [way.url] });
      const writes = hourly(`blocked-${type}`, 3, 1n);
      way.fault = failing(status, type);
      await expect(store.write(writes)).rejects.toMatchObject({ code, message: expect.stringContaining(type) });
      way.fault = undefined;
      expect(await store.write(writes)).toEqual({ written: 3, outranked: 0, rejected: [] });
      await store.close();
    });

    it('rejects documents that keep failing with a 400 of no known name', async () => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls: [way.url] });
      way.fault = failing(400, 'new_kind_of_exception');
      const { rejected } = await store.write(hourly('unheard', 2, 1n));
      expect(rejected).toMatchObject([{ reason: 'new_kind_of_exception' }, { reason: 'new_kind_of_exception' }]);
      way.fault = undefined;
      await store.close();
    });

    it('does not write over what it cannot read', async () => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls: [way.url] });
      const [first] = hourly('unread', 1, 1n);
      const [second] = hourly('unread', 1, 2n);
      if (!first || !second) throw new Error('a record is made');
      await store.write([first]);
      const error = { type: 'no_shard_available_action_exception', reason: 'away' };
      way.fault = (path) =>
        path === '/_mget' ? { status: 200, body: { docs: [{ _index: 'x', _id: first.id, error }] } } : undefined;
      await expect(store.write([second])).rejects.toMatchObject({ code: 'store_unavailable' });
      way.fault = undefined;
      await store.write([second]);
      await store.refresh();
      expect(await store.revisions(first.id)).toHaveLength(2);
      await store.close();
    });

    it('waits for the shards of an index that is just being made', async () => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls: [way.url] });
      const [first] = hourly('starting', 1, 1n);
      const [second] = hourly('starting', 1, 2n);
      if (!first || !second) throw new Error('a record is made');
      await store.write([first]);
      const error = { type: 'no_shard_available_action_exception', reason: 'starting' };
      let answers = 0;
      way.fault = (path) =>
        path === '/_mget' && ++answers < 3
          ? { status: 200, body: { docs: [{ _index: 'x', _id: first.id, error }] } }
          : undefined;
      expect(await store.write([second])).toEqual({ written: 1, outranked: 0, rejected: [] });
      expect(answers).toBeGreaterThanOrEqual(3);
      way.fault = undefined;
      await store.refresh();
      expect(await store.revisions(first.id)).toHaveLength(2);
      let searches = 0;
      const all = {
        type: 'search_phase_execution_exception',
        reason: '',
        phase: 'query',
        grouped: true,
        root_cause: [],
      };
      way.fault = (path) =>
        /_search|_pit/.test(path) && ++searches % 3 !== 0
          ? { status: 503, body: { error: all, status: 503 } }
          : undefined;
      expect(await store.revisions(first.id)).toHaveLength(2);
      const starting = { query: EVERYTHING, inner: true, namespace: 'starting' };
      expect(await store.count(starting)).toBe(1);
      const found: string[] = [];
      for await (const { event } of store.iterate(starting)) found.push(event.id);
      expect(found).toEqual([first.id]);
      expect(searches).toBeGreaterThan(9);
      way.fault = (path) => (/_search/.test(path) ? { status: 503, body: { error: all, status: 503 } } : undefined);
      await expect(store.count(starting)).rejects.toThrow(/overloaded \(503\): search_phase_execution/);
      way.fault = undefined;
      await store.close();
    });

    it.each([
      ['never comes', 'silence'],
      ['breaks off', 'cut'],
    ] as const)('writes again, and nothing twice, when the answer to a write %s', async (_, answer) => {
      const namespace = `answer-${answer}`;
      const store = await openElasticsearchStore({ ...SETTINGS, urls: [way.url], requestTimeoutMs: 1000 });
      const writes = hourly(namespace, 30, 1n);
      for (const path of ['/_bulk', '/_mget']) {
        way.fault = (wanted) => (wanted.startsWith(path) ? { answer } : undefined);
        await expect(store.write(writes)).rejects.toMatchObject({ code: 'store_unavailable', retryable: true });
      }
      const hint = { namespace, timestampNs: writes[0]?.timestampNs ?? 0n };
      await expect(store.get(writes[0]?.id ?? '', hint)).rejects.toMatchObject({ code: 'store_unavailable' });
      way.fault = undefined;
      expect(await store.write(writes)).toEqual({ written: 30, outranked: 0, rejected: [] });
      await store.refresh();
      expect(await store.count({ query: EVERYTHING, inner: true, namespace })).toBe(30);
      expect(await store.revisions(writes[5]?.id ?? '')).toHaveLength(1);
      await store.close();
    });

    it('throws store_unavailable naming the place when nothing listens, for every call', async () => {
      const gone = await openFaultyWay(urls[0] ?? '');
      await gone.close();
      const store = await openElasticsearchStore({ ...SETTINGS, urls: [gone.url.replace('//', '//user:secret@')] });
      const selection = { query: EVERYTHING, inner: true };
      const calls = [
        () => store.setUp(),
        () => store.write(hourly('gone', 1, 1n)),
        () => store.get('x'),
        () => store.count(selection),
        () => store.search(selection, { field: '@timestamp', direction: 'asc' }, 10),
        () => store.iterate(selection)[Symbol.asyncIterator]().next(),
      ];
      for (const call of calls) {
        const failure: unknown = await Promise.resolve(call()).catch((error: unknown) => error);
        expect(failure).toMatchObject({ code: 'store_unavailable', message: expect.stringContaining(gone.url) });
        expect((failure as Error).message).not.toContain('secret');
      }
      await store.close();
    });
  });
}

/** Trouble that a real cluster makes by itself, and its end. */
function describeLimits(urls: string[]): void {
  describe('a cluster in trouble', () => {
    let client: Client;
    beforeAll(async () => {
      client = new Client({ nodes: urls });
      const store = await openElasticsearchStore({ ...SETTINGS, urls });
      await store.setUp();
      await store.close();
    });
    afterAll(() => client.close());

    const block = (name: string) => (isOn: boolean) =>
      client.indices.putSettings({
        index: 'spantrail-audit-hindered-*',
        settings: { [`index.blocks.${name}`]: isOn || null },
      });
    const limit = (name: string, value: number | string) => (isOn: boolean) =>
      client.cluster.putSettings({ persistent: { [name]: isOn ? value : null } });

    it.each([
      {
        name: 'its disk is full: the flood stage makes the index read-only',
        set: block('read_only_allow_delete'),
        hour: 0n,
      },
      { name: 'somebody blocked writes to the index', set: block('write'), hour: 0n },
      { name: 'somebody made the index read-only', set: block('read_only'), hour: 0n },
      { name: 'it takes no more shards', set: limit('cluster.max_shards_per_node', 1), hour: 1_000n },
      {
        name: 'its circuit breaker has no memory for requests',
        set: limit('indices.breaker.total.limit', '10mb'),
        hour: 0n,
      },
    ])('is waited for while $name', async ({ name, set, hour }) => {
      const namespace = `hindered-${name.length}`;
      const store = await openElasticsearchStore({ ...SETTINGS, urls });
      await store.write(hourly(namespace, 10, 1n));
      const writes = hourly(namespace, 10, 2n, hour * HOUR_NS);
      await set(true);
      await expect(store.write(writes))
        .rejects.toMatchObject({ code: 'store_unavailable', retryable: true })
        .finally(() => set(false));
      expect(await store.write(writes)).toEqual({ written: 10, outranked: 0, rejected: [] });
      expect(await store.ranks(writes)).toEqual(writes.map(() => 2n));
      const end = hourly(namespace, 10, 3n);
      expect(await store.write(end)).toEqual({ written: 10, outranked: 0, rejected: [] });
      await store.close();
    });

    it('stores the neighbours of records that it refuses, and says why it refuses them', async () => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls });
      const writes = hourly('refusing', 20, 1n);
      const broken = (at: number, change: object): RecordWrite => {
        const write = writes[at];
        if (!write) throw new Error('twenty records are made');
        return { ...write, record: { ...write.record, ...change } as AuditRecord };
      };
      const bad = [broken(3, { user: 'alice' }), broken(15, { '@timestamp': 'yesterday' })];
      const batch = writes.map((write) => bad.find(({ id }) => id === write.id) ?? write);
      const { rejected, ...counts } = await store.write(batch);
      expect(counts).toEqual({ written: 18, outranked: 0 });
      expect(rejected.map(({ id }) => id)).toEqual(bad.map(({ id }) => id));
      for (const { reason } of rejected) expect(reason).toMatch(/document_parsing_exception.*(user|timestamp)/);
      expect((await store.ranks(batch)).filter((rank) => rank === undefined)).toHaveLength(2);
      await store.close();
    });
  });
}
