import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '@elastic/elasticsearch';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import type { ElasticsearchSettings } from '../../src/store/elasticsearch/connection.ts';
import { openElasticsearchStore } from '../../src/store/elasticsearch/store.ts';
import { describeDifferential } from '../conformance/differential.ts';
import { describeStore } from '../conformance/store.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';
import type { ElasticsearchVersion } from '../setup/elasticsearch.ts';
import type { Skipped } from '../setup/require.ts';

const SETTINGS: ElasticsearchSettings = { urls: [], indexPeriod: 'day', replicas: 0, refreshIntervalMs: 1000 };

/** A text where the mapping has an object: no Elasticsearch will ever take it. */
function poison(record: AuditRecord): RecordWrite {
  return toWrite({ ...record, user: 'alice' } as unknown as AuditRecord);
}

/** Everything that the adapter is tested for, against a running server of one version. */
export function describeElasticsearch(version: ElasticsearchVersion, server: { readonly url: string } | Skipped): void {
  describe.skipIf('skipped' in server)(`Elasticsearch ${version}`, () => {
    const urls = 'url' in server ? [server.url] : [];
    const open = async () => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls });
      return { store, dispose: () => store.close() };
    };
    describeStore(`on Elasticsearch ${version}`, open, { poison });
    describeDifferential(`Elasticsearch ${version}`, open, 150);
  });
}
