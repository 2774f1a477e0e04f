import type { estypes } from '@elastic/elasticsearch';
import type { Field, FieldValue } from '../../core/fields.ts';
import { checkAggregation, checkGroupLimit, groupField, histogramWidthNs, measureField } from '../paging.ts';
import type { Aggregation, AggregationRow, Facet, HistogramBucket, Selection } from '../port.ts';
import type { Connection } from './connection.ts';
import { indexPattern } from './indices.ts';
import { selectionToDsl } from './query-dsl.ts';
import { WHOLE } from './reader.ts';

/** Groups that each shard hands in, beyond those asked for: what makes the counts of the largest ones exact in practice. */
const SHARD_GROUPS_MIN = 2_000;

/** Groups of one request when groups are made of several fields. */
const COMPOSITE_PAGE = 1_000;

const NANOS_PER_MILLI = 1_000_000n;

type Requested = Record<string, estypes.AggregationsAggregationContainer>;

/** Answers as far as they are read here; the client's own types leave every part open. */
interface Bucket {
  readonly key: FieldValue | Readonly<Record<string, FieldValue>>;
  readonly key_as_string?: string;
  readonly doc_count: number;
  readonly failures?: { readonly doc_count: number };
  readonly denied?: { readonly doc_count: number };
  readonly percentiles?: { readonly values: Readonly<Record<string, number | null>> };
  readonly distinct?: { readonly value: number };
}
interface Answered {
  readonly buckets?: readonly Bucket[];
  readonly after_key?: Readonly<Record<string, FieldValue>>;
  readonly value?: number | null;
}

async function ask(connection: Connection, selection: Selection, aggs: Requested) {
  const answer = await connection.request((client) =>
    client.search({
      index: indexPattern('audit', selection.namespace),
      ...WHOLE,
      query: selectionToDsl(selection),
      size: 0,
      track_total_hits: true,
      aggs,
    }),
  );
  const total = answer.hits.total;
  return {
    count: typeof total === 'object' ? total.value : (total ?? 0),
    // Aggregations are absent when no index fits yet.
    results: (answer.aggregations ?? {}) as Readonly<Record<string, Answered>>,
  };
}

export async function facets(
  connection: Connection,
  selection: Selection,
  names: readonly string[],
  limit: number,
): Promise<readonly Facet[]> {
  checkGroupLimit(limit);
  const fields = names.map(groupField);
  const aggs: Requested = {};
  for (const field of fields) aggs[field.name] = terms(field, limit);
  if (fields.length === 0) return [];
  const { results } = await ask(connection, selection, aggs);
  return fields.map((field) => ({
    field: field.name,
    buckets: (results[field.name]?.buckets ?? []).map((bucket) => ({
      value: termValue(field, bucket),
      count: bucket.doc_count,
    })),
  }));
}

/** Largest first, ties by value: the server's own order. */
function terms(field: Field, limit: number, aggs?: Requested): estypes.AggregationsAggregationContainer {
  const shardSize = Math.max(SHARD_GROUPS_MIN, 2 * limit);
  return { terms: { field: field.name, size: limit, shard_size: shardSize }, ...(aggs && { aggs }) };
}

function termValue(field: Field, bucket: Bucket): FieldValue {
  if (typeof bucket.key === 'object') return '';
  return field.type === 'boolean' ? bucket.key_as_string === 'true' : bucket.key;
}

export async function histogram(
  connection: Connection,
  selection: Selection,
  bucketMs: number,
): Promise<readonly HistogramBucket[]> {
  const field = '@timestamp';
  const ends = await ask(connection, selection, { first: { min: { field } }, last: { max: { field } } });
  const toNs = (milliseconds: number) => BigInt(Math.floor(milliseconds)) * NANOS_PER_MILLI;
  histogramWidthNs(bucketMs, toNs(ends.results['first']?.value ?? 0), toNs(ends.results['last']?.value ?? 0));
  const aggs: Requested = {
    failures: { filter: { term: { 'event.outcome': 'failure' } } },
    denied: { filter: { term: { 'audit.decision': 'deny' } } },
  };
  const date_histogram = { field, fixed_interval: `${bucketMs}ms`, min_doc_count: 0 };
  const { results } = await ask(connection, selection, { time: { date_histogram, aggs } });
  return (results['time']?.buckets ?? []).map((bucket) => ({
    startNs: toNs(Number(bucket.key)),
    count: bucket.doc_count,
    failures: bucket.failures?.doc_count ?? 0,
    denied: bucket.denied?.doc_count ?? 0,
  }));
}

export async function aggregate(
  connection: Connection,
  selection: Selection,
  aggregation: Aggregation,
): Promise<readonly AggregationRow[]> {
  checkAggregation(aggregation);
  const fields = aggregation.groupBy.map(groupField);
  const measures = measuresOf(aggregation);
  const [first, ...others] = fields;
  if (!first) {
    const { count, results } = await ask(connection, selection, measures);
    const whole = { ...(results as object), key: '', doc_count: count };
    return [toRow(aggregation, [], whole)];
  }
  if (others.length === 0) {
    const { results } = await ask(connection, selection, { groups: terms(first, aggregation.limit, measures) });
    const buckets = results['groups']?.buckets ?? [];
    return buckets.map((bucket) => toRow(aggregation, [termValue(first, bucket)], bucket));
  }
  return aggregateSeveral(connection, selection, aggregation, fields, measures);
}

function measuresOf({ percentiles, distinct }: Aggregation): Requested {
  const measures: Requested = {};
  if (percentiles) {
    const percents = [...percentiles.percents];
    measures['percentiles'] = { percentiles: { field: measureField(percentiles.field).name, percents } };
  }
  if (distinct !== undefined) measures['distinct'] = { cardinality: { field: groupField(distinct).name } };
  return measures;
}

/** Reads all groups page by page, because the server cannot order groups of several fields by size; keeps the largest. */
async function aggregateSeveral(
  connection: Connection,
  selection: Selection,
  aggregation: Aggregation,
  fields: readonly Field[],
  aggs: Requested,
): Promise<readonly AggregationRow[]> {
  const sources = fields.map((field, at) => ({ [`group${at}`]: { terms: { field: field.name } } }));
  let rows: AggregationRow[] = [];
  let after: Readonly<Record<string, FieldValue>> | undefined;
  do {
    const composite = { sources, size: COMPOSITE_PAGE, ...(after && { after }) };
    const { results } = await ask(connection, selection, { groups: { composite, aggs } });
    for (const bucket of results['groups']?.buckets ?? []) {
      const key = typeof bucket.key === 'object' ? bucket.key : {};
      rows.push(
        toRow(
          aggregation,
          fields.map((_, at) => key[`group${at}`] ?? ''),
          bucket,
        ),
      );
    }
    // Groups arrive by value and the sort is stable: ties stay in that order.
    rows = rows.sort((one, other) => other.count - one.count).slice(0, aggregation.limit);
    after = results['groups']?.after_key;
  } while (after);
  return rows;
}

function toRow(aggregation: Aggregation, group: readonly FieldValue[], bucket: Bucket): AggregationRow {
  const { percentiles, distinct } = aggregation;
  return {
    group,
    count: bucket.doc_count,
    ...(percentiles && { percentiles: percentilesOf(percentiles.percents, bucket) }),
    ...(distinct !== undefined && { distinct: bucket.distinct?.value ?? 0 }),
  };
}

/** The server names 99 as `99.0`. A group without values has none. */
function percentilesOf(percents: readonly number[], bucket: Bucket): Record<string, number> {
  const values: Record<string, number> = {};
  for (const [name, value] of Object.entries(bucket.percentiles?.values ?? {})) {
    const percent = percents.find((wanted) => wanted === Number(name));
    if (percent !== undefined && value !== null) values[String(percent)] = value;
  }
  return values;
}
