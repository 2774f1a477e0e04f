/**
 * The form of saved objects: which keys Kibana's own validation knows for the versions that the file names, and which it asks
 * for. Strict, since an import refuses an object with a key that it does not know. After the schemas of the types `dashboard`
 * (10.2), `search` (10.4) and `index-pattern` (8) in Kibana's sources, and the exports of elastic/integrations.
 */
import { z } from 'zod';

const text = z.string();
const json = <T extends z.ZodType>(inner: T) => text.transform((value) => JSON.parse(value) as unknown).pipe(inner);

const reference = z.strictObject({ type: text, id: text, name: text });
const query = z.strictObject({ query: text, language: z.literal('kuery') });
const empty = z.array(z.never());
const searchSource = z.strictObject({ query, filter: empty, indexRefName: text.optional() });
const meta = z.strictObject({ searchSourceJSON: json(searchSource) });

const columnBase = { label: text, customLabel: z.literal(true).optional(), dataType: text, sourceField: text };
const bucketColumn = z.strictObject({
  ...columnBase,
  operationType: z.enum(['terms', 'date_histogram']),
  isBucketed: z.literal(true),
  scale: z.enum(['ordinal', 'interval']),
  params: z.union([
    z.strictObject({ interval: z.literal('auto'), includeEmptyRows: z.boolean(), dropPartials: z.boolean() }),
    z.strictObject({
      size: z.int().min(1).max(1000),
      orderBy: z.strictObject({ type: z.literal('column'), columnId: text }),
      orderDirection: z.enum(['asc', 'desc']),
      otherBucket: z.boolean(),
      missingBucket: z.boolean(),
      parentFormat: z.strictObject({ id: z.literal('terms') }),
      include: empty,
      exclude: empty,
      includeIsRegex: z.boolean(),
      excludeIsRegex: z.boolean(),
      secondaryFields: empty,
    }),
  ]),
});
const numberColumn = z.strictObject({
  ...columnBase,
  operationType: z.enum(['count', 'percentile', 'average', 'sum', 'max', 'unique_count']),
  isBucketed: z.literal(false),
  scale: z.literal('ratio'),
  filter: query.optional(),
  params: z.union([
    z.strictObject({ emptyAsNull: z.boolean() }),
    z.strictObject({ percentile: z.number().gt(0).lt(100) }),
  ]),
});
const layer = z.strictObject({
  columnOrder: z.array(text).min(1),
  columns: z.record(text, z.union([bucketColumn, numberColumn])),
  incompleteColumns: z.strictObject({}),
  sampling: z.literal(1),
});

const layerOf = { layerId: text, layerType: z.literal('data') };
const sides = z.strictObject({ x: z.boolean(), yLeft: z.boolean(), yRight: z.boolean() });
const chart = z.strictObject({
  legend: z.strictObject({
    isVisible: z.boolean(),
    position: z.enum(['bottom', 'right']),
    showSingleSeries: z.boolean(),
    shouldTruncate: z.boolean(),
    maxLines: z.int(),
  }),
  valueLabels: z.enum(['hide', 'show']),
  fittingFunction: z.enum(['None', 'Linear']),
  axisTitlesVisibilitySettings: sides,
  tickLabelsVisibilitySettings: sides,
  gridlinesVisibilitySettings: sides,
  labelsOrientation: z.strictObject({ x: z.number(), yLeft: z.number(), yRight: z.number() }),
  preferredSeriesType: text,
  layers: z
    .array(
      z.strictObject({
        ...layerOf,
        seriesType: z.enum(['bar_stacked', 'bar_horizontal', 'line']),
        accessors: z.array(text).min(1),
        xAccessor: text,
        splitAccessor: text.optional(),
        yConfig: z.array(z.strictObject({ forAccessor: text, axisMode: z.literal('right') })),
        palette: z.strictObject({ name: z.literal('default'), type: z.literal('palette') }),
      }),
    )
    .length(1),
});
const table = z.strictObject({
  ...layerOf,
  columns: z.array(z.strictObject({ columnId: text, isTransposed: z.literal(false) })).min(2),
  paging: z.strictObject({ size: z.int(), enabled: z.boolean() }),
});
const metric = z.strictObject({ ...layerOf, metricAccessor: text });

const lensOf = (visualizationType: string, visualization: z.ZodType) =>
  z.strictObject({
    title: text,
    description: text,
    visualizationType: z.literal(visualizationType),
    type: z.literal('lens'),
    references: z.array(reference).length(1),
    state: z.strictObject({
      visualization,
      query,
      filters: empty,
      datasourceStates: z.strictObject({
        formBased: z.strictObject({ layers: z.record(text, layer) }),
        textBased: z.strictObject({ layers: z.strictObject({}) }),
      }),
      internalReferences: empty,
      adHocDataViews: z.strictObject({}),
    }),
  });

const drilldown = z.strictObject({
  eventId: text,
  triggers: z.tuple([z.literal('FILTER_TRIGGER')]),
  action: z.union([
    z.strictObject({
      factoryId: z.literal('OPEN_IN_DISCOVER_DRILLDOWN'),
      name: text,
      config: z.strictObject({ openInNewTab: z.boolean() }),
    }),
    z.strictObject({
      factoryId: z.literal('DASHBOARD_TO_DASHBOARD_DRILLDOWN'),
      name: text,
      config: z.strictObject({
        useCurrentFilters: z.boolean(),
        useCurrentDateRange: z.boolean(),
        openInNewTab: z.boolean(),
      }),
    }),
  ]),
});
const panelBase = {
  panelIndex: text,
  title: text,
  gridData: z.strictObject({ x: z.int(), y: z.int(), w: z.int(), h: z.int(), i: text }),
};
const markdown = z.strictObject({
  id: text,
  title: text,
  description: text,
  type: z.literal('markdown'),
  params: z.strictObject({ fontSize: z.int(), openLinksInNewTab: z.boolean(), markdown: text }),
  uiState: z.strictObject({}),
  data: z.strictObject({ aggs: empty, searchSource: z.strictObject({ query, filter: empty }) }),
});
const none = z.strictObject({});
const panel = z.union([
  z.strictObject({
    ...panelBase,
    type: z.literal('lens'),
    embeddableConfig: z.strictObject({
      attributes: z.union([lensOf('lnsXY', chart), lensOf('lnsDatatable', table), lensOf('lnsMetric', metric)]),
      enhancements: z.strictObject({ dynamicActions: z.strictObject({ events: z.array(drilldown) }) }),
    }),
  }),
  z.strictObject({
    ...panelBase,
    type: z.literal('search'),
    panelRefName: text,
    embeddableConfig: z.strictObject({ enhancements: none }),
  }),
  z.strictObject({
    ...panelBase,
    type: z.literal('visualization'),
    embeddableConfig: z.strictObject({ enhancements: none, hidePanelTitles: z.boolean(), savedVis: markdown }),
  }),
]);
const control = z.strictObject({
  order: z.int(),
  width: z.enum(['small', 'medium', 'large']),
  grow: z.boolean(),
  type: z.literal('optionsListControl'),
  explicitInput: z.strictObject({
    id: text,
    fieldName: text,
    title: text,
    searchTechnique: z.literal('prefix'),
    selectedOptions: empty,
    sort: z.strictObject({ by: z.literal('_count'), direction: z.literal('desc') }),
    enhancements: none,
  }),
});

const ignored = z.strictObject({
  ignoreFilters: z.boolean(),
  ignoreQuery: z.boolean(),
  ignoreTimerange: z.boolean(),
  ignoreValidations: z.boolean(),
});
const dashboard = z.strictObject({
  title: text,
  description: text,
  kibanaSavedObjectMeta: meta,
  timeRestore: z.boolean(),
  controlGroupInput: z.strictObject({
    panelsJSON: json(z.record(text, control)),
    controlStyle: z.literal('oneLine'),
    chainingSystem: z.literal('HIERARCHICAL'),
    ignoreParentSettingsJSON: json(ignored),
    showApplySelections: z.boolean(),
  }),
  panelsJSON: json(z.array(panel)),
  optionsJSON: json(
    z.strictObject({
      useMargins: z.boolean(),
      syncColors: z.boolean(),
      syncCursor: z.boolean(),
      syncTooltips: z.boolean(),
      hidePanelTitles: z.boolean(),
    }),
  ),
  version: z.int(),
});
const search = z.strictObject({
  title: text,
  description: text,
  columns: z.array(text),
  sort: z.array(z.tuple([text, z.enum(['asc', 'desc'])])),
  grid: z.strictObject({ columns: z.record(text, z.strictObject({ width: z.number() })) }),
  hideChart: z.boolean(),
  kibanaSavedObjectMeta: meta,
  isTextBasedQuery: z.boolean(),
  timeRestore: z.boolean(),
});
const dataView = z.strictObject({
  title: text,
  name: text,
  timeFieldName: text,
  fields: json(empty),
  fieldAttrs: json(none),
  sourceFilters: json(empty),
  fieldFormatMap: json(
    z.record(
      text,
      z.strictObject({ id: z.enum(['url', 'percent', 'duration', 'number']), params: z.record(text, z.unknown()) }),
    ),
  ),
  runtimeFieldMap: json(none),
  allowNoIndex: z.boolean(),
  allowHidden: z.boolean(),
});

const objectOf = (type: string, version: string, attributes: z.ZodType) =>
  z.strictObject({
    attributes,
    coreMigrationVersion: z.literal('8.8.0'),
    id: text,
    managed: z.literal(false),
    references: z.array(reference),
    type: z.literal(type),
    typeMigrationVersion: z.literal(version),
  });

export const SAVED_OBJECT = z.discriminatedUnion('type', [
  objectOf('index-pattern', '8.0.0', dataView),
  objectOf('search', '10.4.0', search),
  objectOf('dashboard', '10.2.0', dashboard),
]);
