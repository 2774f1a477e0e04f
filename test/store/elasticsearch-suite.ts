import { Client } from '@elastic/elasticsearch';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { EVERYTHING } from '../../src/query/ast.ts';
import { openElasticsearchStore } from '../../src/store/elasticsearch/store.ts';
import { describeDifferential } from '../conformance/differential.ts';
import { describeStore } from '../conformance/store.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';
import type { ElasticsearchVersion } from '../setup/elasticsearch.ts';
import type { Skipped } from '../setup/require.ts';
import { describeNewIds } from './elasticsearch-new-ids.ts';
import { HOUR_NS, hourly, SETTINGS } from './elasticsearch-records.ts';
import { describeTrouble } from './elasticsearch-trouble.ts';

/** A text where the mapping has an object: no Elasticsearch will ever take it. */
function poison(record: AuditRecord): RecordWrite {
  return toWrite({ ...record, user: 'alice' } as unknown as AuditRecord);
}

/** As text alone: who asks for the record itself is told. */
function asBytes(write: RecordWrite): RecordWrite {
  const bytes = Buffer.from(JSON.stringify(write.record));
  return {
    ...write,
    json: () => bytes,
    get record(): AuditRecord {
      throw new Error('the record was made');
    },
  };
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
    describeTrouble(urls);
    describeNewIds(urls);
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

    it('takes a record again that somebody deleted, and its next revision, but no outranked one', async () => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls });
      const write = (rank: bigint) => hourly('deleted', 3, rank);
      await store.write(write(5n));
      for (const { id } of write(5n).slice(0, 2)) {
        await client.delete({ index: 'spantrail-audit-deleted-2026.11.22', id }, { ignore: [404] });
        await client.delete({ index: 'spantrail-audit-deleted-2026.11.23', id }, { ignore: [404] });
      }
      expect((await store.ranks(write(5n))).filter((rank) => rank === undefined)).toHaveLength(2);
      expect(await store.write(write(5n))).toEqual({ written: 3, outranked: 0, rejected: [] });
      const ranks = await store.ranks(write(5n));
      expect(ranks.every((rank) => rank !== undefined && rank >= 5n && rank < 10n)).toBe(true);
      expect(await store.write(write(4n))).toEqual({ written: 0, outranked: 3, rejected: [] });
      expect(await store.write(write(100n))).toEqual({ written: 3, outranked: 0, rejected: [] });
      expect(await store.ranks(write(5n))).toEqual([100n, 100n, 100n]);
      await store.refresh();
      expect(await documents('spantrail-audit-deleted-*')).toEqual({
        'spantrail-audit-deleted-2026.11.22': 1,
        'spantrail-audit-deleted-2026.11.23': 2,
      });
      await store.close();
    });

    it('writes records that come as bytes in several requests, and never makes them', async () => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls });
      const namespace = 'bytes';
      const message = 'ä'.repeat(1_000);
      const one = (number: number, rank: bigint) => {
        const changes = { data_stream: { namespace }, event: { id: `bytes${number}` }, message };
        return asBytes(toWrite(makeRecord(changes), { rank }));
      };
      const at = (rank: bigint) => Array.from({ length: 1_500 }, (_, number) => one(number, rank));
      expect(await store.write(at(1n))).toEqual({ written: 1_500, outranked: 0, rejected: [] });
      expect(await store.write(at(1n))).toEqual({ written: 1_500, outranked: 0, rejected: [] });
      expect(await store.write([...at(2n), ...at(3n)])).toEqual({ written: 3_000, outranked: 0, rejected: [] });
      expect(await store.write(at(2n))).toEqual({ written: 0, outranked: 1_500, rejected: [] });
      await store.refresh();
      expect(await store.count({ query: EVERYTHING, inner: true, namespace })).toBe(1_500);
      expect((await store.get('bytes700'))?.message).toBe(message);
      expect(await store.revisions('bytes700')).toHaveLength(3);
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
      await client.cluster.putComponentTemplate({
        name: 'spantrail',
        template: {},
        _meta: { managed_by: 'spantrail', schema_version: 0 },
      });
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
          _meta: { managed_by: 'spantrail', schema_version },
        });
      await foreign(1000);
      await store.setUp();
      expect((await read())._meta).toMatchObject({ schema_version: 1000 });
      await foreign(0);
      await store.setUp();
      expect(await read()).toEqual(before);
      await store.close();
    });
  });
}
