/** What Grafana asks for a panel, out of the dashboard's own JSON: as its Elasticsearch data source builds the request. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Client, estypes } from '@elastic/elasticsearch';
import { type Aggregations, hasNumbers, type NamedField } from './lens-query.ts';

interface Metric {
  readonly id: string;
  readonly type: string;
  readonly field?: string;
  readonly settings?: { readonly percents?: readonly string[] };
}

interface BucketAgg {
  readonly id: string;
  readonly type: string;
  readonly field?: string;
  readonly settings: {
    readonly size?: string;
    readonly orderBy?: string;
    readonly filters?: readonly { readonly label: string; readonly query: string }[];
  };
}

export interface Target {
  readonly panel: string;
  readonly query: string;
  readonly timeField: string;
  readonly metrics: readonly Metric[];
  readonly bucketAggs: readonly BucketAgg[];
  readonly expr?: string;
}

export interface GrafanaPanel {
  readonly id: number;
  readonly title: string;
  readonly type: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly Target[];
  readonly panels?: readonly GrafanaPanel[];
}

export interface GrafanaDashboard {
  readonly uid: string;
  readonly panels: readonly GrafanaPanel[];
  readonly templating: {
    readonly list: readonly { readonly name: string; readonly query: unknown; readonly type: string }[];
  };
}

export function grafanaPath(name: string): string {
  return join(import.meta.dirname, `../../deploy/grafana/${name}.json`);
}

export function readGrafana(name: string): GrafanaDashboard {
  return JSON.parse(readFileSync(grafanaPath(name), 'utf8')) as GrafanaDashboard;
}

/** Those inside of closed rows, too. */
export function allPanels(panels: readonly GrafanaPanel[]): GrafanaPanel[] {
  return panels.flatMap((panel) => [panel, ...allPanels(panel.panels ?? [])]);
}

export function grafanaTargets(dashboard: GrafanaDashboard): Target[] {
  return allPanels(dashboard.panels).flatMap(({ id, title, targets = [] }) =>
    targets.map((target) => ({ ...target, panel: `${id} ${title}` })),
  );
}

/** Every variable at "All", whose value is `*`. */
function interpolate(query: string): string {
  return query.replace(/\$\{\w+:lucene\}/g, '*');
}

export function grafanaFields(target: Target): NamedField[] {
  const parts = target.bucketAggs.flatMap(({ settings }) => settings.filters ?? []);
  const texts = [interpolate(target.query), ...parts.map(({ query }) => query)];
  const conditions = texts.flatMap((text) =>
    // Values stand in quotes, so what is left before a colon is a field.
    [
      ...text
        .replace(/"(?:[^"\\]|\\.)*"/g, '""')
        .matchAll(/(?:_exists_:([\w.@]+))|(?<![:\w.@])(?!_exists_)([\w.@]+):/g),
    ].map((match): NamedField => ({ field: match[1] ?? match[2] ?? '', use: 'condition' })),
  );
  const metrics = target.metrics.flatMap(({ type, field }): NamedField[] => {
    if (field === undefined) return [];
    const use = type === 'cardinality' ? 'terms' : type === 'max' ? 'extreme' : 'number';
    return [{ field, use }];
  });
  const buckets = target.bucketAggs.flatMap(({ type, field }): NamedField[] =>
    field === undefined ? [] : [{ field, use: type === 'terms' ? 'terms' : 'time' }],
  );
  return [...conditions, ...metrics, ...buckets, { field: target.timeField, use: 'time' }];
}

/** Whether the target's request is answered with a number above 0 for each metric, or a document. */
export async function askGrafana(client: Client, index: string, target: Target): Promise<boolean> {
  const query = { query_string: { query: interpolate(target.query), analyze_wildcard: true } };
  if (target.metrics[0]?.type === 'raw_data') {
    const { hits } = await client.search({ index, query, size: 1, sort: [{ [target.timeField]: 'desc' }] });
    return hits.hits.length > 0;
  }
  let aggs: Aggregations = {};
  for (const metric of target.metrics) if (metric.type !== 'count') aggs[metric.id] = metricAggregation(metric);
  for (const bucket of [...target.bucketAggs].reverse()) {
    aggs = { [bucket.id]: { ...bucketAggregation(bucket), ...(Object.keys(aggs).length > 0 && { aggs }) } };
  }
  const { hits, aggregations } = await client.search({ index, query, size: 0, aggs });
  const total = typeof hits.total === 'number' ? hits.total : (hits.total?.value ?? 0);
  return hasNumbers(
    { total, aggregations },
    target.metrics.map(({ id }) => id),
  );
}

function metricAggregation({ type, field = '', settings }: Metric): estypes.AggregationsAggregationContainer {
  switch (type) {
    case 'percentiles':
      return { percentiles: { field, percents: (settings?.percents ?? []).map(Number) } };
    case 'avg':
      return { avg: { field } };
    case 'sum':
      return { sum: { field } };
    case 'max':
      return { max: { field } };
    case 'cardinality':
      return { cardinality: { field } };
    default:
      throw new Error(`Grafana's data source knows no metric "${type}"`);
  }
}

function bucketAggregation({ type, field = '', settings }: BucketAgg): estypes.AggregationsAggregationContainer {
  switch (type) {
    case 'date_histogram':
      return { date_histogram: { field, fixed_interval: '1h' } };
    case 'terms':
      return { terms: { field, size: Number(settings.size), order: { [settings.orderBy ?? '']: 'desc' } } };
    case 'filters': {
      const filters = (settings.filters ?? []).map(({ label, query }) => [label || 'all', { query_string: { query } }]);
      return { filters: { filters: Object.fromEntries(filters) } };
    }
    default:
      throw new Error(`Grafana's data source knows no buckets of "${type}"`);
  }
}
