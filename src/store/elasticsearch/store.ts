import { errors } from '@elastic/elasticsearch';
import { AppError } from '../../core/errors.ts';
import type { Store } from '../port.ts';
import { aggregate, facets, histogram } from './aggregations.ts';
import { createElasticsearchAlerts, setUpAlerts } from './alerts.ts';
import { connect, type ElasticsearchSettings, isForbidden } from './connection.ts';
import { ALL_INDICES } from './indices.ts';
import { inspectCluster } from './inspect.ts';
import { count, get, iterate, ranks, revisions, search, trace } from './reader.ts';
import { retireIndices } from './retention.ts';
import { setUpIndices } from './set-up.ts';
import { SUPPORTED } from './versions.ts';
import { Writer } from './writer.ts';

/**
 * Records in Elasticsearch 8.19 or 9: one index for each namespace and UTC period, under a template that `setUp` installs.
 * Uses only what a basic licence has. Nothing is asked of the cluster before the first call.
 */
export async function openElasticsearchStore(settings: ElasticsearchSettings): Promise<Store> {
  const connection = await connect(settings);
  const writer = new Writer(connection, settings.indexPeriod);
  const { retentionMs } = settings;
  return {
    capabilities: {
      name: 'elasticsearch',
      searchableAfterMs: settings.refreshIntervalMs,
      takesTexts: true,
      exactAggregations: false,
    },
    alerts: createElasticsearchAlerts(connection, settings),
    setUp: async (options) => {
      await setUpIndices(connection, settings, options).catch(refuseOthers);
      // A user who may not install it writes records all the same; alerts wait, and say so.
      await setUpAlerts(connection, settings).catch(unlessForbidden);
    },
    care: {
      inspect: () => inspectCluster(connection, settings),
      ...(retentionMs !== undefined && {
        retire: (nowMs: number) => retireIndices(connection, retentionMs, nowMs),
      }),
    },
    write: (batch) => writer.write(batch),
    search: (selection, sort, limit, cursor) => search(connection, selection, sort, limit, cursor),
    get: (id, hint) => get(connection, id, settings.indexPeriod, hint),
    ranks: (requests) => ranks(connection, requests, settings.indexPeriod),
    revisions: (id) => revisions(connection, id),
    trace: (traceId) => trace(connection, traceId),
    count: (selection) => count(connection, selection),
    facets: (selection, fields, limit) => facets(connection, selection, fields, limit),
    histogram: (selection, bucketMs) => histogram(connection, selection, bucketMs),
    aggregate: (selection, aggregation) => aggregate(connection, selection, aggregation),
    iterate: (selection) => iterate(connection, selection),
    refresh: async () => {
      await connection.request((client) =>
        client.indices.refresh({ index: [...ALL_INDICES], ignore_unavailable: true }),
      );
    },
    close: () => connection.client.close(),
  };
}

function unlessForbidden(error: unknown): void {
  if (!isForbidden(error instanceof AppError ? error.cause : error)) throw error;
}

/** What answers, but is no Elasticsearch, or too old a one, is named wrongly in the settings: no wait mends that. */
function refuseOthers(error: unknown): never {
  if (!(error instanceof AppError && error.cause instanceof errors.ProductNotSupportedError)) throw error;
  const words = `what answers there is no Elasticsearch, or one that is too old; ${SUPPORTED}`;
  throw new AppError('config', `store.elasticsearch.urls: ${words}`, { cause: error });
}
