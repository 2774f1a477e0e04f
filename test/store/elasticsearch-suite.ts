import { Client } from '@elastic/elasticsearch';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatTimestamp, parseTimestamp } from '../../src/core/clock.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { EVERYTHING } from '../../src/query/ast.ts';
import type { ElasticsearchSettings } from '../../src/store/elasticsearch/connection.ts';
import { openElasticsearchStore } from '../../src/store/elasticsearch/store.ts';
import { describeDifferential } from '../conformance/differential.ts';
import { describeStore } from '../conformance/store.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';
import type { ElasticsearchVersion } from '../setup/elasticsearch.ts';
import type { Skipped } from '../setup/require.ts';
import { type FaultyWay, openFaultyWay } from './elasticsearch-faults.ts';

const SETTINGS: ElasticsearchSettings = { urls: [], indexPeriod: 'day', replicas: 0, refreshIntervalMs: 1000 };
const MIDNIGHT_NS = parseTimestamp('2026-11-23T00:00:00Z') ?? 0n;
const HOUR_NS = 3_600_000_000_000n;

/** A text where the mapping has an object: no Elasticsearch will ever take it. */
function poison(record: AuditRecord): RecordWrite {
  return toWrite({ ...record, user: 'alice' } as unknown as AuditRecord);
}

/** The conformance suites, and what the adapter alone promises, against a running server of one version. */
export function describeElasticsearch(version: ElasticsearchVersion, server: { readonly url: string } | Skipped): void {
  describe.skipIf('skipped' in server)(`Elasticsearch ${version}`, () => {
    const urls = 'url' in server ? [server.url] : [];
    const open = async () => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls });
      return { store, dispose: () => store.close() };
    };
    describeStore(`on Elasticsearch ${version}`, open, { poison });
    describeDifferential(`Elasticsearch ${version}`, open, 150);
    describeIndices(urls);
    describeFaults(urls);
  });
}

/** Records numbered from 0, an hour apart around midnight, with these ranks and this shift in time. */
function hourly(namespace: string, count: number, rank: bigint, shiftNs = 0n, previousShiftNs?: bigint): RecordWrite[] {
  return Array.from({ length: count }, (_, number) => {
    const atNs = MIDNIGHT_NS + BigInt(number - Math.floor(count / 2)) * HOUR_NS;
    const record = makeRecord({
      '@timestamp': formatTimestamp(atNs + shiftNs),
      data_stream: { namespace },
      event: { id: `${namespace}${number}`, duration: (number + 1) * 1_000_000 },
    });
    return toWrite(record, { rank, ...(previousShiftNs !== undefined && { previous: atNs + previousShiftNs }) });
  });
}

function describeIndices(urls: string[]): void {
  describe('indices', () => {
    let client: Client;
    beforeAll(async () => {
      client = new Client({ nodes: urls });
      const store = await openElasticsearchStore({ ...SETTINGS, urls });
      await store.setUp();
      await store.close();
    });
    afterAll(() => client.close());

    /** Documents by index, read behind the store's back. */
    async function documents(index: string): Promise<Record<string, number>> {
      const answer = await client.search({ index, size: 0, aggs: { indices: { terms: { field: '_index' } } } });
      const indices = answer.aggregations?.['indices'] as { buckets: { key: string; doc_count: number }[] } | undefined;
      return Object.fromEntries((indices?.buckets ?? []).map((bucket) => [bucket.key, bucket.doc_count]));
    }

    it('keeps one document a record through a second run, a move over midnight and another index period', async () => {
      const namespace = 'moving';
      const store = await openElasticsearchStore({ ...SETTINGS, urls });
      for (let run = 0; run < 2; run++) {
        await store.write(hourly(namespace, 10, 1n));
        await store.refresh();
        expect(await documents('spantrail-audit-moving-*')).toEqual({
          'spantrail-audit-moving-2026.11.22': 5,
          'spantrail-audit-moving-2026.11.23': 5,
        });
      }
      for (let run = 0; run < 2; run++) {
        await store.write(hourly(namespace, 10, 2n, 2n * HOUR_NS, 0n));
        await store.refresh();
        expect(await documents('spantrail-audit-moving-*')).toEqual({
          'spantrail-audit-moving-2026.11.22': 3,
          'spantrail-audit-moving-2026.11.23': 7,
        });
      }
      const monthly = await openElasticsearchStore({ ...SETTINGS, urls, indexPeriod: 'month' });
      expect(await monthly.write(hourly(namespace, 10, 3n, 0n, 2n * HOUR_NS))).toMatchObject({ written: 10 });
      await monthly.refresh();
      expect(await documents('spantrail-audit-moving')).toEqual({ 'spantrail-audit-moving-2026.11': 10 });
      expect(await documents('spantrail-revisions-moving-*')).toEqual({
        'spantrail-revisions-moving-2026.11.22': 8,
        'spantrail-revisions-moving-2026.11.23': 12,
      });
      expect(await monthly.revisions('moving4')).toHaveLength(3);
      await Promise.all([store.close(), monthly.close()]);
    });

    it.each([
      ['week', '2026-12-31T23:59:59.999999999Z', '2026.w53'],
      ['week', '2027-01-03T23:00:00Z', '2026.w53'],
      ['week', '2027-01-04T00:00:00Z', '2027.w01'],
      ['month', '2027-01-04T00:00:00Z', '2027.01'],
    ] as const)('by %s, %s is in %s', async (indexPeriod, time, suffix) => {
      const namespace = `by-${indexPeriod}-${suffix}-${time.slice(8, 10)}`.replaceAll('.', '');
      const store = await openElasticsearchStore({ ...SETTINGS, urls, indexPeriod });
      const record = makeRecord({ '@timestamp': time, data_stream: { namespace }, event: { id: namespace } });
      await store.write([toWrite(record)]);
      await store.refresh();
      expect(await documents(`spantrail-audit-${namespace}`)).toEqual({
        [`spantrail-audit-${namespace}-${suffix}`]: 1,
      });
      await store.close();
    });

    it.each([
      {
        name: 'its index is blocked',
        set: (isOn: boolean) =>
          client.indices.putSettings({
            index: 'spantrail-audit-hindered-*',
            settings: { 'index.blocks.write': isOn || null },
          }),
        hour: 0n,
      },
      {
        name: 'the cluster takes no more shards',
        set: (isOn: boolean) =>
          client.cluster.putSettings({ persistent: { 'cluster.max_shards_per_node': isOn ? 1 : null } }),
        hour: 1_000n,
      },
    ])('waits while $name', async ({ set, hour }) => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls });
      await store.write(hourly('hindered', 1, 1n));
      const writes = hourly('hindered', 1, 2n, hour * HOUR_NS);
      await set(true);
      await expect(store.write(writes))
        .rejects.toMatchObject({ code: 'store_unavailable' })
        .finally(() => set(false));
      expect(await store.write(writes)).toEqual({ written: 1, outranked: 0, rejected: [] });
      await store.close();
    });

    it('answers other tools over the alias: percentiles of latency, and only mapped fields', async () => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls });
      await store.write(hourly('kibana', 99, 1n));
      await store.write(hourly('kibana-west', 3, 1n));
      await store.refresh();
      const answer = await client.search({
        index: 'spantrail-audit-kibana',
        size: 0,
        track_total_hits: true,
        aggs: { latency: { percentiles: { field: 'event.duration', percents: [50] } } },
      });
      expect(answer.hits.total).toMatchObject({ value: 99 });
      const latency = answer.aggregations?.['latency'] as { values: Record<string, number> };
      expect(latency.values['50.0']).toBe(50_000_000);
      const { mappings, settings } =
        Object.values(await client.indices.get({ index: 'spantrail-audit-kibana' }))[0] ?? {};
      expect(mappings).toMatchObject({ dynamic: 'false', properties: { '@timestamp': { type: 'date_nanos' } } });
      expect(settings?.index).toMatchObject({ mode: 'logsdb', refresh_interval: '1000ms' });
      const selection = { query: EVERYTHING, inner: true, namespace: 'kibana' };
      expect(await store.count(selection)).toBe(99);
      await store.close();
    });

    it('gives existing indices the fields that are new', async () => {
      const index = 'spantrail-audit-early-2026.11.22';
      await client.indices.putIndexTemplate({
        name: 'spantrail-audit-early',
        index_patterns: ['spantrail-audit-early-*'],
        priority: 1000,
        template: {
          settings: { index: { mode: 'logsdb' } },
          mappings: { dynamic: false, properties: { '@timestamp': { type: 'date_nanos' } } },
        },
      });
      await client.indices.create({ index });
      await client.cluster.putComponentTemplate({ name: 'spantrail', template: {}, _meta: { schema_version: 0 } });
      const store = await openElasticsearchStore({ ...SETTINGS, urls });
      await store.setUp();
      const { mappings } = (await client.indices.get({ index }))[index] ?? {};
      expect(mappings?.properties?.['audit']).toMatchObject({ properties: { entry: { type: 'boolean' } } });
      await client.indices.delete({ index });
      await client.indices.deleteIndexTemplate({ name: 'spantrail-audit-early' });
      await store.close();
    });

    it('does not touch the templates of a newer Spantrail', async () => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls });
      const read = async () => {
        const answer = await client.cluster.getComponentTemplate({ name: 'spantrail' });
        const { template, _meta = {} } = answer.component_templates[0]?.component_template ?? { template: {} };
        return { template, _meta };
      };
      const before = await read();
      const foreign = (schema_version: number) =>
        client.cluster.putComponentTemplate({
          name: 'spantrail',
          template: { mappings: { properties: { '@timestamp': { type: 'date_nanos' } } } },
          _meta: { schema_version },
        });
      await foreign(1000);
      await store.setUp();
      expect((await read())._meta).toEqual({ schema_version: 1000 });
      await foreign(0);
      await store.setUp();
      expect(await read()).toEqual(before);
      await store.close();
    });
  });
}

function describeFaults(urls: string[]): void {
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
