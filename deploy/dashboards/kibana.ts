/** The saved objects of `deploy/kibana/spantrail.ndjson`, in the order and form in which Kibana exports them. */
import { FIELDS } from '../../src/core/fields.ts';
import { DASHBOARDS } from './catalogue.ts';
import { DATA_VIEW, isLens, type Json, type JsonObject, kuery, LAYER, lensAttributes } from './kibana-panels.ts';
import type { Dashboard, DashboardId, Panel, Search } from './panels.ts';
import { SEARCHES } from './searches.ts';

/**
 * Forms that Kibana 8.19 knows and later ones migrate from: an import refuses what is newer than itself. As exported by the
 * packages of elastic/integrations for 8.15 and later.
 */
const CORE_VERSION = '8.8.0';
const TYPE_VERSIONS = { 'index-pattern': '8.0.0', search: '10.4.0', dashboard: '10.2.0' } as const;

/** Where a trace is shown unless `spantrail setup --kibana` is told another place: this machine's Spantrail. */
export const TRACE_URL = 'http://127.0.0.1:4320/api/v1/traces/{{value}}';

interface Reference {
  readonly type: string;
  readonly id: string;
  readonly name: string;
}

function savedObject(
  type: keyof typeof TYPE_VERSIONS,
  id: string,
  attributes: JsonObject,
  references: readonly Reference[],
): JsonObject {
  return {
    attributes,
    coreMigrationVersion: CORE_VERSION,
    id,
    managed: false,
    references: references.map((reference) => ({ ...reference })),
    type,
    typeMigrationVersion: TYPE_VERSIONS[type],
  };
}

/** The whole file: one object a line, then the export's own summary. */
export function kibanaFile(): string {
  const objects = [
    dataView(DATA_VIEW, 'spantrail-audit-*', 'Spantrail: audit records'),
    dataView('spantrail-revisions', 'spantrail-revisions-*', 'Spantrail: earlier states of records'),
    ...SEARCHES.map(searchObject),
    ...DASHBOARDS.map(dashboardObject),
  ];
  const summary = {
    excludedObjects: [],
    excludedObjectsCount: 0,
    exportedCount: objects.length,
    missingRefCount: 0,
    missingReferences: [],
  };
  return [...objects, summary].map((line) => `${JSON.stringify(line)}\n`).join('');
}

function dataView(id: string, title: string, name: string): JsonObject {
  const formats: Record<string, JsonObject> = {
    'trace.id': {
      id: 'url',
      params: { urlTemplate: TRACE_URL, labelTemplate: '{{value}}', openLinkInCurrentTab: false },
    },
    'audit.pressure.ratio': { id: 'percent', params: { pattern: '0,0.[0]%' } },
  };
  for (const { name: field, type } of FIELDS) {
    if (type === 'duration') {
      formats[field] = {
        id: 'duration',
        params: {
          inputFormat: 'nanoseconds',
          outputFormat: 'humanizePrecise',
          outputPrecision: 1,
          showSuffix: true,
          useShortSuffix: true,
          includeSpaceWithSuffix: true,
        },
      };
    }
    // Identifying numbers read better without separators.
    if (field === 'http.response.status_code' || field === 'source.port') {
      formats[field] = { id: 'number', params: { pattern: '0' } };
    }
  }
  const attributes = {
    allowHidden: false,
    // Before the first record, and the first revision, there is none; that is no error to show on a dashboard.
    allowNoIndex: true,
    fieldAttrs: '{}',
    fieldFormatMap: JSON.stringify(formats),
    fields: '[]',
    name,
    runtimeFieldMap: '{}',
    sourceFilters: '[]',
    timeFieldName: '@timestamp',
    title,
  };
  return savedObject('index-pattern', id, attributes, []);
}

function searchObject(search: Search): JsonObject {
  const index = 'kibanaSavedObjectMeta.searchSourceJSON.index';
  const attributes = {
    columns: search.columns,
    description: search.text,
    grid: { columns: { message: { width: 480 } } },
    hideChart: false,
    isTextBasedQuery: false,
    kibanaSavedObjectMeta: {
      searchSourceJSON: JSON.stringify({ query: kuery(search.query), filter: [], indexRefName: index }),
    },
    sort: [['@timestamp', 'desc']],
    timeRestore: false,
    title: `Spantrail: ${search.title}`,
  };
  const view = search.view === 'audit' ? DATA_VIEW : 'spantrail-revisions';
  return savedObject('search', searchId(search.id), attributes, [{ type: 'index-pattern', id: view, name: index }]);
}

const searchId = (id: string) => `spantrail-search-${id}`;
export const dashboardId = (id: DashboardId) => `spantrail-${id}`;

/** Height of the line with links to the other dashboards. */
const NAVIGATION_HEIGHT = 3;
const GRID_COLUMNS = 48;

function dashboardObject(dashboard: Dashboard): JsonObject {
  const references: Reference[] = [];
  const panels: JsonObject[] = [navigation(dashboard)];
  const grid = { x: 0, y: NAVIGATION_HEIGHT, rowHeight: 0 };
  for (const [position, panel] of dashboard.panels.entries()) {
    if (grid.x + panel.width > GRID_COLUMNS) {
      grid.y += grid.rowHeight;
      grid.x = 0;
      grid.rowHeight = 0;
    }
    const place = { x: grid.x, y: grid.y, w: panel.width, h: panel.height };
    panels.push(panelObject(dashboard, panel, { id: `${dashboard.id}-${position + 1}`, place }, references));
    grid.x += panel.width;
    grid.rowHeight = Math.max(grid.rowHeight, panel.height);
  }
  const attributes = {
    controlGroupInput: controls(dashboard, references),
    description: dashboard.text,
    // Each panel has its query itself, so that what a person types above narrows it and never widens it.
    kibanaSavedObjectMeta: { searchSourceJSON: JSON.stringify({ query: kuery(''), filter: [] }) },
    optionsJSON: JSON.stringify({
      useMargins: true,
      syncColors: true,
      syncCursor: true,
      syncTooltips: false,
      hidePanelTitles: false,
    }),
    panelsJSON: JSON.stringify(panels),
    timeRestore: false,
    title: `Spantrail: ${dashboard.title}`,
    version: 2,
  };
  return savedObject('dashboard', dashboardId(dashboard.id), attributes, references);
}

interface Slot {
  readonly id: string;
  readonly place: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
}

function panelObject(dashboard: Dashboard, panel: Panel, { id, place }: Slot, references: Reference[]): JsonObject {
  const common = { gridData: { ...place, i: id }, panelIndex: id, title: panel.title };
  if (!isLens(panel)) {
    references.push({ type: 'search', id: searchId(panel.search), name: `${id}:panel_${id}` });
    return { ...common, type: 'search', embeddableConfig: { enhancements: {} }, panelRefName: `panel_${id}` };
  }
  references.push({ type: 'index-pattern', id: DATA_VIEW, name: `${id}:indexpattern-datasource-layer-${LAYER}` });
  return {
    ...common,
    type: 'lens',
    embeddableConfig: {
      attributes: lensAttributes(panel, dashboard.query),
      enhancements: { dynamicActions: { events: drilldowns(panel, id, references) } },
    },
  };
}

/** A click leads to the records behind it, or to another dashboard with the value as its filter. Free in every licence. */
function drilldowns(panel: Panel, panelId: string, references: Reference[]): Json[] {
  if (panel.kind === 'number' || panel.kind === 'search') return [];
  const event = (eventId: string, factoryId: string, name: string, config: JsonObject) => ({
    eventId,
    triggers: ['FILTER_TRIGGER'],
    action: { factoryId, name, config },
  });
  const events = [
    event(`${panelId}-records`, 'OPEN_IN_DISCOVER_DRILLDOWN', 'Show the records', { openInNewTab: false }),
  ];
  for (const target of 'leadsTo' in panel ? (panel.leadsTo ?? []) : []) {
    const factory = 'DASHBOARD_TO_DASHBOARD_DRILLDOWN';
    const eventId = `${panelId}-to-${target}`;
    const title = DASHBOARDS.find(({ id }) => id === target)?.title ?? target;
    events.push(
      event(eventId, factory, `Go to: ${title}`, {
        useCurrentFilters: true,
        useCurrentDateRange: true,
        openInNewTab: false,
      }),
    );
    references.push({
      type: 'dashboard',
      id: dashboardId(target),
      name: `${panelId}:drilldown:${factory}:${eventId}:dashboardId`,
    });
  }
  return events;
}

function controls(dashboard: Dashboard, references: Reference[]): JsonObject {
  const panels: Record<string, JsonObject> = {};
  for (const [order, { field, label }] of dashboard.controls.entries()) {
    const id = `${dashboard.id}-control-${order + 1}`;
    references.push({ type: 'index-pattern', id: DATA_VIEW, name: `controlGroup_${id}:optionsListDataView` });
    panels[id] = {
      order,
      width: 'medium',
      grow: true,
      type: 'optionsListControl',
      explicitInput: {
        id,
        fieldName: field,
        title: label,
        searchTechnique: 'prefix',
        selectedOptions: [],
        sort: { by: '_count', direction: 'desc' },
        enhancements: {},
      },
    };
  }
  return {
    chainingSystem: 'HIERARCHICAL',
    controlStyle: 'oneLine',
    ignoreParentSettingsJSON: JSON.stringify({
      ignoreFilters: false,
      ignoreQuery: false,
      ignoreTimerange: false,
      ignoreValidations: false,
    }),
    panelsJSON: JSON.stringify(panels),
    showApplySelections: false,
  };
}

function navigation(current: Dashboard): JsonObject {
  const links = DASHBOARDS.map(({ id, title }) =>
    id === current.id ? `**${title}**` : `[${title}](#/dashboard/${dashboardId(id)})`,
  );
  const id = `${current.id}-0`;
  return {
    type: 'visualization',
    gridData: { x: 0, y: 0, w: GRID_COLUMNS, h: NAVIGATION_HEIGHT, i: id },
    panelIndex: id,
    title: '',
    embeddableConfig: {
      enhancements: {},
      hidePanelTitles: true,
      savedVis: {
        id: '',
        title: '',
        description: '',
        type: 'markdown',
        params: { fontSize: 12, openLinksInNewTab: false, markdown: links.join(' · ') },
        uiState: {},
        data: { aggs: [], searchSource: { query: kuery(''), filter: [] } },
      },
    },
  };
}
