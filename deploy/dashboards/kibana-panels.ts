/**
 * Panels as Lens objects. The shape follows what Kibana 8.15 to 9 exports, as the public packages of elastic/integrations show
 * it: state of a form-based layer, columns by id, a reference to the data view by name.
 */
import { findField } from '../../src/core/fields.ts';
import {
  type BarsPanel,
  both,
  type Measure,
  type Panel,
  type SearchPanel,
  type TablePanel,
  type TimelinePanel,
  type Top,
} from './panels.ts';

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

export const DATA_VIEW = 'spantrail-audit';
export const LAYER = 'layer';

type LensPanel = Exclude<Panel, SearchPanel>;

interface Layer {
  readonly columns: Record<string, JsonObject>;
  readonly order: string[];
}

/** The attributes of a Lens object by value: what a dashboard holds of a panel. */
export function lensAttributes(panel: LensPanel, dashboardQuery: string): JsonObject {
  const layer = layerOf(panel);
  return {
    title: '',
    description: '',
    visualizationType: visualizationType(panel),
    type: 'lens',
    references: [{ type: 'index-pattern', id: DATA_VIEW, name: `indexpattern-datasource-layer-${LAYER}` }],
    state: {
      visualization: visualization(panel),
      query: kuery(both(dashboardQuery, panel.query)),
      filters: [],
      datasourceStates: {
        formBased: {
          layers: {
            [LAYER]: { columnOrder: layer.order, columns: layer.columns, incompleteColumns: {}, sampling: 1 },
          },
        },
        textBased: { layers: {} },
      },
      internalReferences: [],
      adHocDataViews: {},
    },
  };
}

export function kuery(query: string): JsonObject {
  return { query, language: 'kuery' };
}

function visualizationType(panel: LensPanel): string {
  if (panel.kind === 'number') return 'lnsMetric';
  return panel.kind === 'table' ? 'lnsDatatable' : 'lnsXY';
}

function layerOf(panel: LensPanel): Layer {
  const measures = panel.kind === 'number' || panel.kind === 'bars' ? [panel.measure] : panel.measures;
  const columns: Record<string, JsonObject> = {};
  for (const [index, top] of tops(panel).entries()) columns[`by${index}`] = termsColumn(top);
  if (panel.kind === 'timeline') columns['time'] = TIME_COLUMN;
  for (const [index, measure] of measures.entries()) columns[`m${index}`] = measureColumn(measure);
  return { columns, order: Object.keys(columns) };
}

function tops(panel: LensPanel): readonly Top[] {
  if (panel.kind === 'bars') return [panel.by];
  if (panel.kind === 'table') return panel.by;
  return panel.kind === 'timeline' && panel.split ? [panel.split] : [];
}

const TIME_COLUMN: JsonObject = {
  label: '@timestamp',
  dataType: 'date',
  operationType: 'date_histogram',
  sourceField: '@timestamp',
  isBucketed: true,
  scale: 'interval',
  params: { interval: 'auto', includeEmptyRows: true, dropPartials: false },
};

function termsColumn({ field, label, size }: Top): JsonObject {
  return {
    label,
    customLabel: true,
    dataType: dataType(field),
    operationType: 'terms',
    scale: 'ordinal',
    sourceField: field,
    isBucketed: true,
    params: {
      size,
      orderBy: { type: 'column', columnId: 'm0' },
      orderDirection: 'desc',
      otherBucket: false,
      missingBucket: false,
      parentFormat: { id: 'terms' },
      include: [],
      exclude: [],
      includeIsRegex: false,
      excludeIsRegex: false,
      secondaryFields: [],
    },
  };
}

function measureColumn(measure: Measure): JsonObject {
  const common = {
    label: measure.label,
    customLabel: true,
    isBucketed: false,
    scale: 'ratio',
    ...(measure.where !== undefined && { filter: kuery(measure.where) }),
  };
  if (measure.is === 'count') {
    return {
      ...common,
      dataType: 'number',
      operationType: 'count',
      sourceField: '___records___',
      params: { emptyAsNull: false },
    };
  }
  const column = { ...common, operationType: measure.is, sourceField: measure.field };
  if (measure.is === 'percentile') return { ...column, dataType: 'number', params: { percentile: measure.percentile } };
  if (measure.is === 'unique_count') return { ...column, dataType: 'number', params: { emptyAsNull: false } };
  return { ...column, dataType: dataType(measure.field), params: { emptyAsNull: true } };
}

/** Kibana's word for the type of a field's values. */
function dataType(name: string): string {
  switch (findField(name)?.type) {
    case 'ip':
      return 'ip';
    case 'boolean':
      return 'boolean';
    case 'date':
      return 'date';
    case 'long':
    case 'double':
    case 'duration':
      return 'number';
    default:
      return 'string';
  }
}

function visualization(panel: LensPanel): JsonObject {
  switch (panel.kind) {
    case 'number':
      return { layerId: LAYER, layerType: 'data', metricAccessor: 'm0' };
    case 'table':
      return tableVisualization(panel);
    default:
      return chartVisualization(panel);
  }
}

function tableVisualization(panel: TablePanel): JsonObject {
  const ids = [...panel.by.keys()]
    .map((index) => `by${index}`)
    .concat([...panel.measures.keys()].map((index) => `m${index}`));
  return {
    layerId: LAYER,
    layerType: 'data',
    columns: ids.map((columnId) => ({ columnId, isTransposed: false })),
    paging: { size: 10, enabled: true },
  };
}

function chartVisualization(panel: TimelinePanel | BarsPanel): JsonObject {
  const isTimeline = panel.kind === 'timeline';
  const seriesType = isTimeline ? panel.shape : 'bar_horizontal';
  const measures = isTimeline ? [...panel.measures.keys()] : [0];
  const right = isTimeline ? panel.right : undefined;
  return {
    legend: {
      isVisible: isTimeline,
      position: 'bottom',
      showSingleSeries: isTimeline,
      shouldTruncate: true,
      maxLines: 1,
    },
    valueLabels: isTimeline ? 'hide' : 'show',
    fittingFunction: isTimeline ? 'Linear' : 'None',
    axisTitlesVisibilitySettings: { x: false, yLeft: false, yRight: right !== undefined },
    tickLabelsVisibilitySettings: { x: true, yLeft: true, yRight: true },
    labelsOrientation: { x: 0, yLeft: 0, yRight: 0 },
    gridlinesVisibilitySettings: { x: false, yLeft: isTimeline, yRight: false },
    preferredSeriesType: seriesType,
    layers: [
      {
        layerId: LAYER,
        layerType: 'data',
        seriesType,
        accessors: measures.map((index) => `m${index}`),
        xAccessor: isTimeline ? 'time' : 'by0',
        ...(isTimeline && panel.split && { splitAccessor: 'by0' }),
        yConfig: right === undefined ? [] : [{ forAccessor: `m${right}`, axisMode: 'right' }],
        palette: { name: 'default', type: 'palette' },
      },
    ],
  };
}

/** Whether a panel's numbers come from Lens, or its rows from a saved search. */
export function isLens(panel: Panel): panel is LensPanel {
  return panel.kind !== 'search';
}
