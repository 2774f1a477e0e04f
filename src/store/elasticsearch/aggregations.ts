import type { estypes } from '@elastic/elasticsearch';
import type { Field, FieldValue } from '../../core/fields.ts';
import {
  bandsField,
  checkAggregation,
  checkGroupLimit,
  groupField,
  histogramWidthNs,
  measureField,
  percentileField,
  rankOf,
} from '../paging.ts';
import type { Aggregation, AggregationRow, Facet, HistogramBucket, Measured, Selection } from '../port.ts';
import type { Connection } from './connection.ts';
import { indexPattern } from './indices.ts';
import { queryToDsl, selectionToDsl } from './query-dsl.ts';
import { WHOLE } from './reader.ts';

/** Groups that each shard hands in, beyond those asked for: what makes the counts of the largest ones exact in practice. */
const SHARD_GROUPS_MIN = 2_000;

/** Groups of one request when all are read. */
const COMPOSITE_PAGE = 1_000;

/** Buckets of one answer, with those inside others; the server's own limit is 65,536. */
const BUCKETS_MAX = 50_000;

const TIME = '@timestamp';

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
  readonly bands?: { readonly buckets: readonly { readonly doc_count: number }[] };
  readonly first?: { readonly value?: number | null };
  readonly last?: { readonly value?: number | null };
  readonly [measure: `measure ${string}`]: Statistics | undefined;
  readonly [count: `count ${string}`]: { readonly doc_count: number } | undefined;
}
interface Statistics {
  readonly count: number;
  readonly sum: number;
  readonly min?: number | null;
  readonly max?: number | null;
}
interface Answered {
  readonly buckets?: readonly Bucket[];
  readonly after_key?: Readonly<Record<string, FieldValue>>;
  readonly value?: number | null;
}

async function ask(connection: Connection, selection: Selection, aggs: Requested) {
  const answer = await connection.read((client) =>
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
  const field = TIME;
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
  const { everyMs, countMin = 0, limit } = aggregation;
  const fields = aggregation.groupBy.map(groupField);
  const aggs = measuresOf(aggregation);
  const [first, ...others] = fields;
  if (everyMs !== undefined) {
    const date_histogram = { field: TIME, fixed_interval: `${everyMs}ms`, min_doc_count: Math.max(1, countMin) };
    const { results } = await ask(connection, selection, { time: { date_histogram, aggs } });
    const buckets = (results['time']?.buckets ?? []).slice(0, limit);
    return buckets.map((bucket) => ({ ...toRow(aggregation, [], bucket), startMs: Number(bucket.key) }));
  }
  if (!first) {
    const { count, results } = await ask(connection, selection, aggs);
    const whole = { ...(results as object), key: '', doc_count: count };
    return count < countMin ? [] : [toRow(aggregation, [], whole)];
  }
  const { withMissing, orderBy, bands } = aggregation;
  if (others.length > 0 || withMissing || orderBy || bands || countMin > 0) {
    return aggregateAll(connection, selection, aggregation, fields, aggs);
  }
  const { results } = await ask(connection, selection, { groups: terms(first, limit, aggs) });
  const buckets = results['groups']?.buckets ?? [];
  return buckets.map((bucket) => toRow(aggregation, [termValue(first, bucket)], bucket));
}

function measuresOf({ percentiles, distinct, measures, bands, counts, extent }: Aggregation): Requested {
  const requested: Requested = {};
  if (percentiles) {
    const percents = [...percentiles.percents];
    requested['percentiles'] = { percentiles: { field: percentileField(percentiles.field).name, percents } };
  }
  if (distinct !== undefined) requested['distinct'] = { cardinality: { field: groupField(distinct).name } };
  for (const name of measures ?? []) requested[`measure ${name}`] = { stats: { field: measureField(name).name } };
  if (bands) {
    // A range of the server has its lower end in it and its upper end not: with whole numbers, one more on both sides.
    const ends = bands.bounds.map((bound) => bound + 1);
    const ranges = [...ends, undefined].map((to, at) => ({
      ...(at > 0 && { from: ends[at - 1] as number }),
      ...(to !== undefined && { to }),
    }));
    requested['bands'] = { range: { field: bandsField(bands).name, ranges } };
  }
  for (const [name, query] of Object.entries(counts ?? {})) {
    requested[`count ${name}`] = { filter: queryToDsl(query) };
  }
  if (extent) {
    requested['first'] = { min: { field: TIME } };
    requested['last'] = { max: { field: TIME } };
  }
  return requested;
}

/**
 * Reads all groups page by page, because the server cannot order groups of several fields by size, and no groups of many shards
 * exactly by anything else; keeps the largest.
 */
async function aggregateAll(
  connection: Connection,
  selection: Selection,
  aggregation: Aggregation,
  fields: readonly Field[],
  aggs: Requested,
): Promise<readonly AggregationRow[]> {
  const { countMin = 0, orderBy, withMissing, bands, counts } = aggregation;
  const sources = fields.map((field, at) => ({
    [`group${at}`]: { terms: { field: field.name, ...(withMissing && { missing_bucket: true }) } },
  }));
  const bucketsEach = 1 + (bands ? bands.bounds.length + 1 : 0) + Object.keys(counts ?? {}).length;
  const size = Math.min(COMPOSITE_PAGE, Math.floor(BUCKETS_MAX / bucketsEach));
  const rank = (row: AggregationRow) => (orderBy ? rankOf(row, orderBy) : row.count);
  let rows: AggregationRow[] = [];
  let after: Readonly<Record<string, FieldValue>> | undefined;
  do {
    const composite = { sources, size, ...(after && { after }) };
    const { results } = await ask(connection, selection, { groups: { composite, aggs } });
    for (const bucket of results['groups']?.buckets ?? []) {
      const key = typeof bucket.key === 'object' ? bucket.key : {};
      const group = fields.map((_, at) => key[`group${at}`] ?? null);
      if (bucket.doc_count >= countMin) rows.push(toRow(aggregation, group, bucket));
    }
    // Groups arrive by value, missing ones first, and the sort is stable: ties stay in that order.
    rows = rows.sort((one, other) => rank(other) - rank(one) || 0).slice(0, aggregation.limit);
    after = results['groups']?.after_key;
  } while (after);
  return rows;
}

function toRow(aggregation: Aggregation, group: AggregationRow['group'], bucket: Bucket): AggregationRow {
  const { percentiles, distinct, measures, bands, counts, extent } = aggregation;
  return {
    group,
    count: bucket.doc_count,
    ...(percentiles && { percentiles: percentilesOf(percentiles.percents, bucket) }),
    ...(distinct !== undefined && { distinct: bucket.distinct?.value ?? 0 }),
    ...(measures && { measures: Object.fromEntries(measures.map((name) => [name, measuredOf(bucket, name)])) }),
    ...(bands && { bands: bandCounts(bands.bounds, bucket) }),
    ...(counts && {
      counts: Object.fromEntries(Object.keys(counts).map((name) => [name, bucket[`count ${name}`]?.doc_count ?? 0])),
    }),
    ...(extent && extentOf(bucket)),
  };
}

function measuredOf(bucket: Bucket, name: string): Measured {
  const { count = 0, sum, min, max } = bucket[`measure ${name}`] ?? {};
  const ends = typeof min === 'number' && typeof max === 'number' && count > 0 ? { min, max } : {};
  return { count, sum: sum ?? 0, ...ends };
}

/** In the server's order, which is that of the ranges. Without an index that fits there are none. */
function bandCounts(bounds: readonly number[], bucket: Bucket): number[] {
  return Array.from({ length: bounds.length + 1 }, (_, at) => bucket.bands?.buckets[at]?.doc_count ?? 0);
}

/** Milliseconds with a fraction where the field has nanoseconds. */
function extentOf({ first, last }: Bucket): Pick<AggregationRow, 'firstMs' | 'lastMs'> {
  if (typeof first?.value !== 'number' || typeof last?.value !== 'number') return {};
  return { firstMs: Math.floor(first.value), lastMs: Math.floor(last.value) };
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
