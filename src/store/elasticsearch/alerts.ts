import type { estypes } from '@elastic/elasticsearch';
import type { Alert } from '../../core/alert.ts';
import { formatTimestamp } from '../../core/clock.ts';
import { AppError } from '../../core/errors.ts';
import { ALERTS_MAX, checkAlertLimit, decodeAlertCursor, encodeAlertCursor, groupKey } from '../alerts.ts';
import type { AlertGroup, AlertPage, AlertSelection, AlertStore, AlertWrite, StoredAlert } from '../port.ts';
import { type Connection, type ElasticsearchSettings, isForbidden, isTransient } from './connection.ts';

const NAME = 'spantrail-alerts';
const ALL_ALERTS = `${NAME}-*`;

/** Above the templates that the stack brings (100 to 200), so that ours win. */
const TEMPLATE_PRIORITY = 300;
const TEMPLATE_VERSION = 1;

const keyword = { type: 'keyword', ignore_above: 8191 } as const;

/** The alert as it is, with `@timestamp` (of its last access) for Kibana and the key of its group. Names of groups are not fields. */
const MAPPINGS: estypes.MappingTypeMapping = {
  dynamic: false,
  properties: {
    '@timestamp': { type: 'date_nanos' },
    id: keyword,
    group_key: keyword,
    namespace: keyword,
    state: keyword,
    reason: { type: 'text' },
    rule: { properties: { id: keyword, name: keyword, type: keyword, severity: keyword, tags: keyword } },
    group: { type: 'object', enabled: false },
    count: { type: 'long' },
    firstAt: { type: 'date_nanos' },
    lastAt: { type: 'date_nanos' },
    raisedAt: { type: 'date_nanos' },
    records: keyword,
    traces: keyword,
  },
};

/**
 * Alerts are one index a namespace: `spantrail-alerts-default`, made by its first alert under this template. An older Spantrail
 * leaves the template of a newer one alone. Throws AppError `store_unavailable` when it is not there and this user may not
 * install it.
 */
export async function setUpAlerts(connection: Connection, { replicas }: ElasticsearchSettings): Promise<void> {
  const known = await connection.request((client) =>
    client.indices.getIndexTemplate({ name: NAME }, { ignore: [404] }),
  );
  const installed = known.index_templates?.[0]?.index_template;
  if (Number(installed?.version ?? 0) > TEMPLATE_VERSION || installed?._meta?.['replicas'] === replicas) return;
  const template = {
    name: NAME,
    index_patterns: [ALL_ALERTS],
    priority: TEMPLATE_PRIORITY,
    version: TEMPLATE_VERSION,
    _meta: { managed_by: 'spantrail', replicas },
    template: {
      mappings: MAPPINGS,
      settings: { index: { number_of_replicas: replicas, 'translog.durability': 'request' } },
    },
  };
  try {
    await connection.request((client) => client.indices.putIndexTemplate(template));
  } catch (error) {
    if (!isForbidden(error)) throw error;
    if (installed !== undefined) return;
    const words =
      'the template of alerts is not installed, and this user may not install it: run "spantrail setup" as an administrator';
    throw new AppError('store_unavailable', words, { cause: error });
  }
}

/**
 * What somebody changed since it was read is found by sequence number and primary term. Each write refreshes the index: alerts are
 * few, and whoever changed one looks at it next.
 */
export function createElasticsearchAlerts(connection: Connection, settings: ElasticsearchSettings): AlertStore {
  let isSetUp = false;
  return {
    read: (ids) => readAlerts(connection, ids),
    async write(writes) {
      // Without the template the first alert would make an index in which nothing is found.
      if (!isSetUp) await setUpAlerts(connection, settings);
      isSetUp = true;
      return writeAlerts(connection, writes);
    },
    search: (selection, limit, cursor) => searchAlerts(connection, selection, limit, cursor),
    groups: (selection, limit) => searchGroups(connection, selection, limit),
  };
}

async function searchAlerts(
  connection: Connection,
  selection: AlertSelection,
  limit: number,
  cursor: string | undefined,
): Promise<AlertPage> {
  checkAlertLimit(limit);
  const position = cursor === undefined ? undefined : decodeAlertCursor(cursor);
  const answer = await search(connection, {
    query: selectionQuery(selection),
    size: limit + 1,
    sort: [{ raisedAt: { order: 'desc', format: 'strict_date_optional_time_nanos' } }, { id: 'asc' }],
    ...(position && { search_after: [position.raisedAt, position.id] }),
  });
  const alerts = answer.hits.hits.slice(0, limit).flatMap(({ _source }) => (_source ? [toAlert(_source)] : []));
  const last = alerts.at(-1);
  return last && answer.hits.hits.length > limit ? { alerts, next: encodeAlertCursor(last) } : { alerts };
}

async function searchGroups(connection: Connection, selection: AlertSelection, limit: number): Promise<AlertGroup[]> {
  checkAlertLimit(limit);
  const answer = await search(connection, {
    query: selectionQuery(selection),
    size: 0,
    aggs: {
      groups: {
        terms: { field: 'group_key', size: limit, order: [{ raised: 'desc' }, { _key: 'asc' }] },
        aggs: {
          raised: { max: { field: 'raisedAt' } },
          open: { filter: { term: { state: 'open' } } },
          count: { sum: { field: 'count' } },
          newest: { top_hits: { size: 1, sort: [{ raisedAt: 'desc' }, { id: 'asc' }] } },
        },
      },
    },
  });
  const groups = answer.aggregations?.['groups'] as { buckets?: readonly GroupBucket[] } | undefined;
  return (groups?.buckets ?? []).flatMap((bucket) => toGroup(bucket) ?? []);
}

interface Source extends Alert {
  readonly '@timestamp': string;
  readonly group_key: string;
}

interface GroupBucket {
  readonly key: string;
  readonly doc_count: number;
  readonly open: { readonly doc_count: number };
  readonly count: { readonly value: number };
  readonly newest: { readonly hits: { readonly hits: readonly { readonly _source: Source }[] } };
}

function toGroup({ key, doc_count: alerts, open, count, newest }: GroupBucket): AlertGroup | undefined {
  const source = newest.hits.hits[0]?._source;
  return source && { key, alerts, open: open.doc_count, count: count.value, newest: toAlert(source) };
}

function toAlert({ '@timestamp': _, group_key: __, ...alert }: Source): Alert {
  return alert;
}

function search(connection: Connection, body: estypes.SearchRequest) {
  return connection.read((client) =>
    client.search<Source>({
      index: ALL_ALERTS,
      ignore_unavailable: true,
      allow_partial_search_results: false,
      ...body,
    }),
  );
}

async function readAlerts(connection: Connection, ids: readonly string[]): Promise<(StoredAlert | undefined)[]> {
  const found = new Map<string, StoredAlert>();
  for (let at = 0; at < ids.length; at += ALERTS_MAX) {
    const values = ids.slice(at, at + ALERTS_MAX);
    const { hits } = await search(connection, {
      query: { ids: { values } },
      size: ALERTS_MAX,
      seq_no_primary_term: true,
    });
    for (const { _id, _index, _seq_no, _primary_term, _source } of hits.hits) {
      if (_id === undefined || _source === undefined) continue;
      found.set(_id, { alert: toAlert(_source), version: JSON.stringify([_index, _seq_no, _primary_term]) });
    }
  }
  return ids.map((id) => found.get(id));
}

function indexOf({ namespace }: Alert): string {
  return `${NAME}-${namespace.toLowerCase().replace(/[^a-z0-9_-]/g, '_')}`;
}

async function writeAlerts(connection: Connection, writes: readonly AlertWrite[]): Promise<boolean[]> {
  if (writes.length === 0) return [];
  const operations = writes.flatMap(({ alert, version }): object[] => {
    const source: Source = { '@timestamp': alert.lastAt, group_key: groupKey(alert), ...alert };
    if (version === undefined) return [{ create: { _index: indexOf(alert), _id: alert.id } }, source];
    const [_index, if_seq_no, if_primary_term] = JSON.parse(version) as [string, number, number];
    return [{ index: { _index, _id: alert.id, if_seq_no, if_primary_term } }, source];
  });
  const answer = await connection.request((client) => client.bulk({ operations, refresh: true }));
  return answer.items.map((item) => {
    const { status, error } = Object.values(item)[0] ?? { status: 503 };
    if (status === 200 || status === 201) return true;
    if (status === 409) return false;
    const reason = `Elasticsearch did not take an alert: ${status} ${error?.reason ?? ''}`;
    throw new AppError(isTransient(status) || status === 403 ? 'store_unavailable' : 'internal', reason);
  });
}

function selectionQuery(selection: AlertSelection): estypes.QueryDslQueryContainer {
  const { states, severities, rule, namespace, group, fromNs, toNs, records, traces } = selection;
  const filter: estypes.QueryDslQueryContainer[] = [];
  const lists = { state: states, 'rule.severity': severities, records, traces };
  for (const [field, values] of Object.entries(lists)) if (values) filter.push({ terms: { [field]: [...values] } });
  const terms = { 'rule.id': rule, namespace, group_key: group };
  for (const [field, value] of Object.entries(terms))
    if (value !== undefined) filter.push({ term: { [field]: value } });
  if (fromNs !== undefined) filter.push({ range: { lastAt: { gte: formatTimestamp(fromNs) } } });
  if (toNs !== undefined) filter.push({ range: { firstAt: { lt: formatTimestamp(toNs) } } });
  return { bool: { filter } };
}
