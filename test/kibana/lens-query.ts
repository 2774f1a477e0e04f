/**
 * What Kibana asks Elasticsearch for a panel, out of the saved object itself: the fields it names, each with its use, and the
 * query with its aggregations as Query DSL.
 */
import type { estypes } from '@elastic/elasticsearch';
import type { Query } from '../../src/query/ast.ts';
import { parseQuery } from '../../src/query/parse.ts';
import { queryToDsl } from '../../src/store/elasticsearch/query-dsl.ts';

export type Dsl = estypes.QueryDslQueryContainer;
export type Aggregations = Record<string, estypes.AggregationsAggregationContainer>;

/** What a field must be able to do where it is named. */
export type Use = 'terms' | 'number' | 'extreme' | 'time' | 'shown' | 'sorted' | 'condition';

export interface NamedField {
  readonly field: string;
  readonly use: Use;
}

interface Column {
  readonly operationType: string;
  readonly sourceField: string;
  readonly filter?: { readonly query: string; readonly language: string };
  readonly params: {
    readonly size?: number;
    readonly percentile?: number;
    readonly orderBy?: { readonly columnId: string };
    readonly orderDirection?: 'asc' | 'desc';
  };
}

/** The parts of a Lens object's state that make its request. */
export interface LensState {
  readonly query: { readonly query: string; readonly language: string };
  readonly datasourceStates: {
    readonly formBased: {
      readonly layers: Readonly<
        Record<string, { readonly columnOrder: readonly string[]; readonly columns: Readonly<Record<string, Column>> }>
      >;
    };
  };
}

export interface PanelRequest {
  readonly query: Dsl;
  readonly aggregations: Aggregations;
  readonly fields: readonly NamedField[];
  /** Columns that hold numbers, by id. */
  readonly measures: readonly string[];
}

/** Throws when the KQL does not parse or names a field that is not in the catalogue. */
export function parseKql(text: string): { dsl: Dsl; fields: NamedField[] } {
  const parsed = parseQuery(text, { nowMs: 0 });
  if (!parsed.ok) throw new Error(`"${text}", column ${parsed.column}: ${parsed.message}`);
  return {
    dsl: queryToDsl(parsed.query),
    fields: fieldsOf(parsed.query).map((field) => ({ field, use: 'condition' })),
  };
}

function fieldsOf(query: Query): string[] {
  if (query.kind === 'and' || query.kind === 'or') return query.parts.flatMap(fieldsOf);
  if (query.kind === 'not') return fieldsOf(query.part);
  if (query.kind === 'words') throw new Error('a bare word in a dashboard asks every field');
  return query.kind === 'all' ? [] : [query.field.name];
}

/** The request of a panel, as Kibana makes it of the layer's columns: buckets in their order, numbers in the innermost. */
export function panelRequest(state: LensState): PanelRequest {
  const layers = Object.values(state.datasourceStates.formBased.layers);
  const [layer] = layers;
  if (layers.length !== 1 || !layer) throw new Error(`${layers.length} layers; one is expected`);
  const { dsl, fields } = parseKql(state.query.query);
  const named = [...fields];
  const buckets: [string, Column][] = [];
  const metrics: [string, Column][] = [];
  for (const id of layer.columnOrder) {
    const column = layer.columns[id];
    if (!column) throw new Error(`columnOrder names "${id}", which is no column`);
    if (column.operationType === 'terms' || column.operationType === 'date_histogram') buckets.push([id, column]);
    else metrics.push([id, column]);
  }
  let inner: Aggregations = {};
  for (const [id, column] of metrics) {
    const { aggregation, fields: of } = metricAggregation(column);
    named.push(...of);
    if (aggregation) inner[id] = aggregation;
  }
  for (const [id, column] of buckets.reverse()) {
    named.push({ field: column.sourceField, use: column.operationType === 'terms' ? 'terms' : 'time' });
    inner = {
      [id]: { ...bucketAggregation(column, layer.columns), ...(Object.keys(inner).length > 0 && { aggs: inner }) },
    };
  }
  return { query: dsl, aggregations: inner, fields: named, measures: metrics.map(([id]) => id) };
}

/** None for a plain count: every bucket has that. */
function metricAggregation(column: Column): {
  aggregation: estypes.AggregationsAggregationContainer | undefined;
  fields: NamedField[];
} {
  const { aggregation, fields } = plainMetric(column);
  if (!column.filter) return { aggregation, fields };
  const { dsl, fields: inFilter } = parseKql(column.filter.query);
  return {
    aggregation: { filter: dsl, ...(aggregation && { aggs: { value: aggregation } }) },
    fields: [...fields, ...inFilter],
  };
}

function plainMetric({ operationType, sourceField: field, params }: Column): {
  aggregation: estypes.AggregationsAggregationContainer | undefined;
  fields: NamedField[];
} {
  switch (operationType) {
    case 'count':
      if (field !== '___records___') throw new Error(`a count of "${field}" is a count of records that have it`);
      return { aggregation: undefined, fields: [] };
    case 'percentile':
      return {
        aggregation: { percentiles: { field, percents: [params.percentile ?? 0] } },
        fields: [{ field, use: 'number' }],
      };
    case 'average':
      return { aggregation: { avg: { field } }, fields: [{ field, use: 'number' }] };
    case 'sum':
      return { aggregation: { sum: { field } }, fields: [{ field, use: 'number' }] };
    case 'max':
      return { aggregation: { max: { field } }, fields: [{ field, use: 'extreme' }] };
    case 'unique_count':
      return { aggregation: { cardinality: { field } }, fields: [{ field, use: 'terms' }] };
    default:
      throw new Error(`no request is known for the operation "${operationType}"`);
  }
}

function bucketAggregation(
  column: Column,
  columns: Readonly<Record<string, Column>>,
): estypes.AggregationsAggregationContainer {
  const { operationType, sourceField: field, params } = column;
  if (operationType === 'date_histogram') return { date_histogram: { field, fixed_interval: '1h', min_doc_count: 1 } };
  const orderId = params.orderBy?.columnId ?? '';
  const by = columns[orderId];
  if (!by) throw new Error(`values of ${field} are ordered by "${orderId}", which is no column`);
  const path = by.operationType === 'count' ? '_count' : `${orderId}${by.filter ? '>value' : ''}`;
  const key = by.operationType === 'percentile' ? `${path}.${by.params.percentile}` : path;
  return { terms: { field, size: params.size ?? 0, order: { [key]: params.orderDirection ?? 'desc' } } };
}

interface Bucket {
  readonly doc_count: number;
  readonly [aggregation: string]: unknown;
}

/** Whether an answer has a number other than 0 for each measure, in any bucket. */
export function hasNumbers(
  answer: { readonly total: number; readonly aggregations: unknown },
  measures: readonly string[],
): boolean {
  const leaves = leavesOf({ doc_count: answer.total, ...(answer.aggregations as object) });
  return measures.every((id) => leaves.some((leaf) => numberOf(leaf, id) > 0));
}

function leavesOf(bucket: Bucket): Bucket[] {
  for (const value of Object.values(bucket)) {
    const buckets = (value as { buckets?: object } | undefined)?.buckets;
    // Those of filters come by name, all others as a list.
    if (buckets) return (Object.values(buckets) as Bucket[]).flatMap(leavesOf);
  }
  return [bucket];
}

function numberOf(bucket: Bucket, id: string): number {
  const own = bucket[id] as Record<string, unknown> | undefined;
  // A plain count has no aggregation of its own.
  if (own === undefined) return bucket.doc_count;
  const inner = (own['value'] ?? own) as Record<string, unknown> | number | null;
  if (typeof inner === 'number') return inner;
  if (inner === null) return 0;
  const percentiles = inner['values'] as Record<string, number | null> | undefined;
  if (percentiles) return Object.values(percentiles)[0] ?? 0;
  return Number(inner['value'] ?? inner['doc_count'] ?? 0);
}
