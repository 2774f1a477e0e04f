/**
 * The same panels for Grafana, on its Elasticsearch data source, and the health of Spantrail itself, on Prometheus. Queries are
 * in the form that Grafana 10 to 12 save: metrics and buckets by id, a query in Lucene.
 */
import { findField } from '../../src/core/fields.ts';
import { DASHBOARDS } from './catalogue.ts';
import { HEALTH, type HealthPanel } from './health.ts';
import type { Json, JsonObject } from './kibana-panels.ts';
import { toLucene } from './lucene.ts';
import { both, type Dashboard, type Measure, type Panel, type Top } from './panels.ts';
import { SEARCHES } from './searches.ts';

/** Kibana's grid has 48 columns and rows of 20 pixels, Grafana's 24 and 30 with gaps. */
const COLUMNS = 24;
const toWidth = (width: number) => width / 2;
const toHeight = (height: number) => Math.round((height * 2) / 3);

/** Longest list of a search's panel; the search itself is Kibana's. */
const ROWS_MAX = 200;

const ELASTICSEARCH = { type: 'elasticsearch', uid: '${datasource}' };
const PROMETHEUS = { type: 'prometheus', uid: '${datasource}' };
const TRACE_URL = 'http://127.0.0.1:4320/api/v1/traces/';

export function grafanaAudit(): string {
  const panels: JsonObject[] = [];
  let y = 0;
  // Those of one actor and one target go by a choice of their own, which must not narrow the others.
  for (const dashboard of DASHBOARDS) {
    // One data source reads one set of indices, and earlier states lie in another.
    const shown = dashboard.panels.filter((panel) => panel.kind !== 'search' || panel.search !== 'revisions');
    const row = layOut(
      shown.map((panel) => [panel, auditPanel(panel, dashboard)]),
      y + 1,
    );
    const isOpen = dashboard.id === 'overview';
    const header = { type: 'row', title: dashboard.title, collapsed: !isOpen, gridPos: { x: 0, y, w: COLUMNS, h: 1 } };
    panels.push({ ...header, panels: isOpen ? [] : row.panels }, ...(isOpen ? row.panels : []));
    y = isOpen ? row.bottom : y + 1;
  }
  const variables = [
    dataSource('elasticsearch'),
    choice('namespace', 'Namespace', 'data_stream.namespace'),
    choice('actor', 'One actor', 'user.id'),
    choice('target', 'One target', 'audit.target.id'),
    text('trace_url', 'Traces at', TRACE_URL),
  ];
  return dashboardText('spantrail-audit', 'Spantrail: who accessed what', panels, variables);
}

export function grafanaHealth(): string {
  const { panels } = layOut(
    HEALTH.map((panel) => [panel, healthPanel(panel)]),
    0,
  );
  return dashboardText('spantrail-health', 'Spantrail: its own health', panels, [
    dataSource('prometheus'),
    {
      type: 'query',
      name: 'instance',
      label: 'Instance',
      datasource: PROMETHEUS,
      query: { query: 'label_values(spantrail_wal_bytes, instance)', refId: 'instance' },
      refresh: 2,
      includeAll: true,
      multi: true,
      allValue: '.*',
      current: { text: 'All', value: '$__all' },
    },
  ]);
}

function layOut(
  pairs: readonly (readonly [{ readonly width: number; readonly height: number }, JsonObject])[],
  top: number,
): { panels: JsonObject[]; bottom: number } {
  const panels: JsonObject[] = [];
  let [x, y, tallest] = [0, top, 0];
  for (const [{ width, height }, panel] of pairs) {
    const [w, h] = [toWidth(width), toHeight(height)];
    if (x + w > COLUMNS) {
      y += tallest;
      x = 0;
      tallest = 0;
    }
    panels.push({ ...panel, gridPos: { x, y, w, h } });
    x += w;
    tallest = Math.max(tallest, h);
  }
  return { panels, bottom: y + tallest };
}

function auditPanel(panel: Panel, dashboard: Dashboard): JsonObject {
  const common = { title: panel.title, datasource: ELASTICSEARCH };
  const narrowed = narrowing(dashboard);
  if (panel.kind === 'search') return { ...common, ...searchPanel(panel.search, narrowed) };
  const query = (where?: string) => `${toLucene(withWhere(both(dashboard.query, panel.query), where))} AND ${narrowed}`;
  switch (panel.kind) {
    case 'number':
      return {
        ...common,
        type: 'stat',
        targets: [target(query(panel.measure.where), [panel.measure], [ONE_BUCKET])],
        fieldConfig: { defaults: { unit: unitOf(panel.measure) }, overrides: [] },
        options: { reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false }, graphMode: 'none' },
      };
    case 'timeline':
      return {
        ...common,
        type: 'timeseries',
        targets: panel.measures.map((measure, index) =>
          target(
            query(measure.where),
            [measure],
            panel.split ? [terms(panel.split, measure), TIME_BUCKETS] : [TIME_BUCKETS],
            { refId: refId(index), alias: panel.split ? `{{term ${panel.split.field}}}` : measure.label },
          ),
        ),
        fieldConfig: timelineConfig(panel.shape, panel.measures, panel.right),
        options: { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi' } },
      };
    case 'bars':
      return {
        ...common,
        type: 'barchart',
        targets: [target(query(panel.measure.where), [panel.measure], [terms(panel.by, panel.measure)])],
        fieldConfig: { defaults: { unit: unitOf(panel.measure) }, overrides: [] },
        options: { orientation: 'horizontal', showValue: 'always', legend: { showLegend: false } },
      };
    case 'table':
      return { ...common, ...tablePanel(panel, query()) };
  }
}

/** A column cannot have a query of its own here: such columns become rows, one for each. */
function tablePanel(panel: Extract<Panel, { kind: 'table' }>, query: string): JsonObject {
  const whole = panel.measures.filter(({ where }) => where === undefined);
  const parts = panel.measures.flatMap(({ label, where }) =>
    where === undefined ? [] : [{ label, query: toLucene(where) }],
  );
  const [first] = whole;
  if (!first) throw new Error(`the table "${panel.title}" needs a measure of all its records`);
  const buckets = panel.by.map((by) => terms(by, first));
  if (parts.length > 0) {
    const filters = [{ label: 'All', query: '*:*' }, ...parts];
    buckets.push({ type: 'filters', settings: { filters } });
  }
  const overrides = whole.flatMap((measure) =>
    'field' in measure && unitOf(measure) !== 'short'
      ? [
          {
            matcher: { id: 'byRegexp', options: `.*${measure.field.replaceAll('.', '\\.')}` },
            properties: [{ id: 'unit', value: unitOf(measure) }],
          },
        ]
      : [],
  );
  return {
    type: 'table',
    targets: [target(query, whole, buckets)],
    fieldConfig: { defaults: {}, overrides },
    options: {},
  };
}

function searchPanel(id: string, narrowed: string): JsonObject {
  const search = SEARCHES.find((one) => one.id === id);
  if (!search) throw new Error(`there is no search "${id}"`);
  const columns = ['@timestamp', ...search.columns];
  const query = `${toLucene(search.query)} AND ${narrowed}`;
  const overrides = columns.flatMap((name): Json[] => {
    if (name === 'trace.id') {
      const link = { title: 'Open the trace', url: '${trace_url}${__value.raw}', targetBlank: true };
      return [{ matcher: { id: 'byName', options: name }, properties: [{ id: 'links', value: [link] }] }];
    }
    if (findField(name)?.type !== 'duration') return [];
    return [{ matcher: { id: 'byName', options: name }, properties: [{ id: 'unit', value: 'ns' }] }];
  });
  return {
    type: 'table',
    description: search.text,
    targets: [
      {
        refId: 'A',
        datasource: ELASTICSEARCH,
        query,
        timeField: '@timestamp',
        metrics: [{ id: '1', type: 'raw_data', settings: { size: String(ROWS_MAX) } }],
        bucketAggs: [],
      },
    ],
    transformations: [{ id: 'filterFieldsByName', options: { include: { names: columns } } }],
    fieldConfig: { defaults: {}, overrides },
    options: {},
  };
}

function withWhere(query: string, where: string | undefined): string {
  return both(query, where);
}

function narrowing({ id }: Dashboard): string {
  const choices = ['data_stream.namespace:${namespace:lucene}'];
  if (id === 'actor') choices.push('user.id:${actor:lucene}');
  if (id === 'target') choices.push('audit.target.id:${target:lucene}');
  return choices.join(' AND ');
}

const ONE_BUCKET = { type: 'filters', settings: { filters: [{ label: '', query: '*:*' }] } };
const TIME_BUCKETS = {
  type: 'date_histogram',
  field: '@timestamp',
  settings: { interval: 'auto', min_doc_count: '0', trimEdges: '0' },
};

function refId(index: number): string {
  return String.fromCharCode('A'.charCodeAt(0) + index);
}

function target(
  query: string,
  measures: readonly Measure[],
  buckets: readonly JsonObject[],
  { refId: id = 'A', alias = '' } = {},
): JsonObject {
  const metrics = measures.map((measure, index) => metric(measure, String(index + 1)));
  // Ids are numbers, as Grafana gives them; those of metrics come first.
  const bucketAggs = buckets.map((bucket, index) => ({ id: String(metrics.length + index + 1), ...bucket }));
  return { refId: id, datasource: ELASTICSEARCH, query, alias, timeField: '@timestamp', metrics, bucketAggs };
}

const METRIC_TYPES = { average: 'avg', max: 'max', sum: 'sum', unique_count: 'cardinality' } as const;

function metric(measure: Measure, id: string): JsonObject {
  if (measure.is === 'count') return { id, type: 'count' };
  if (measure.is === 'percentile') {
    return { id, type: 'percentiles', field: measure.field, settings: { percents: [String(measure.percentile)] } };
  }
  return { id, type: METRIC_TYPES[measure.is], field: measure.field };
}

/** The first measure has the id 1; of a percentile the data source wants the percent, too. */
function terms({ field, size }: Top, first: Measure): JsonObject {
  const byFirst = first.is === 'percentile' ? `1[${first.percentile}.0]` : '1';
  const orderBy = first.is === 'count' ? '_count' : byFirst;
  return {
    type: 'terms',
    field,
    settings: { size: String(size), order: 'desc', orderBy, min_doc_count: '1' },
  };
}

function unitOf(measure: Measure): string {
  if (measure.is === 'count' || measure.is === 'unique_count') return 'short';
  if (measure.field === 'audit.pressure.ratio') return 'percentunit';
  const type = findField(measure.field)?.type;
  if (type === 'duration') return 'ns';
  return type === 'date' ? 'dateTimeAsIso' : 'short';
}

function timelineConfig(shape: 'bar_stacked' | 'line', measures: readonly Measure[], right?: number): JsonObject {
  const style: JsonObject =
    shape === 'line'
      ? { drawStyle: 'line', spanNulls: true }
      : { drawStyle: 'bars', fillOpacity: 80, stacking: { mode: 'normal', group: 'A' } };
  const [first] = measures;
  const onTheRight = right === undefined ? undefined : measures[right];
  const overrides = onTheRight
    ? [
        {
          matcher: { id: 'byName', options: onTheRight.label },
          properties: [
            { id: 'custom.axisPlacement', value: 'right' },
            { id: 'unit', value: unitOf(onTheRight) },
          ],
        },
      ]
    : [];
  return { defaults: { unit: first ? unitOf(first) : 'short', custom: style }, overrides };
}

function healthPanel(panel: HealthPanel): JsonObject {
  return {
    title: panel.title,
    description: panel.text,
    datasource: PROMETHEUS,
    type: panel.kind === 'number' ? 'stat' : 'timeseries',
    targets: panel.queries.map(({ expression, legend }, index) => ({
      refId: refId(index),
      datasource: PROMETHEUS,
      expr: expression,
      legendFormat: legend,
    })),
    fieldConfig: {
      defaults: {
        unit: panel.unit,
        ...(panel.redFrom !== undefined && {
          thresholds: {
            mode: 'absolute',
            steps: [
              { color: 'green', value: null },
              { color: 'red', value: panel.redFrom },
            ],
          },
        }),
      },
      overrides: [],
    },
    options: panel.kind === 'number' ? { reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false } } : {},
  };
}

function dataSource(type: string): JsonObject {
  return { type: 'datasource', name: 'datasource', label: 'Data source', query: type, current: {}, refresh: 1 };
}

function choice(name: string, label: string, field: string): JsonObject {
  return {
    type: 'query',
    name,
    label,
    datasource: ELASTICSEARCH,
    query: JSON.stringify({ find: 'terms', field, size: 1000 }),
    refresh: 2,
    includeAll: true,
    allValue: '*',
    current: { text: 'All', value: '$__all' },
  };
}

function text(name: string, label: string, value: string): JsonObject {
  return { type: 'textbox', name, label, query: value, current: { text: value, value } };
}

function dashboardText(uid: string, title: string, panels: readonly JsonObject[], list: readonly JsonObject[]): string {
  let id = 0;
  const numbered = (panel: JsonObject): JsonObject => ({
    id: ++id,
    ...panel,
    ...(Array.isArray(panel['panels']) && { panels: (panel['panels'] as JsonObject[]).map(numbered) }),
  });
  const dashboard = {
    uid,
    title,
    tags: ['spantrail'],
    timezone: 'browser',
    editable: true,
    graphTooltip: 1,
    schemaVersion: 39,
    version: 1,
    refresh: '',
    time: { from: 'now-24h', to: 'now' },
    annotations: { list: [] },
    links: [],
    templating: { list },
    panels: panels.map(numbered),
  };
  return `${JSON.stringify(dashboard, undefined, 1)}\n`;
}
