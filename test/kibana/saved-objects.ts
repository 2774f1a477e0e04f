import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type LensState, type NamedField, parseKql } from './lens-query.ts';

export const KIBANA_FILE = join(import.meta.dirname, '../../deploy/kibana/spantrail.ndjson');

interface Reference {
  readonly type: string;
  readonly id: string;
  readonly name: string;
}

export interface SavedObject {
  readonly type: string;
  readonly id: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly references: readonly Reference[];
  readonly coreMigrationVersion: string;
  readonly typeMigrationVersion: string;
}

export interface DashboardPanel {
  readonly type: string;
  readonly panelIndex: string;
  readonly title: string;
  readonly gridData: {
    readonly x: number;
    readonly y: number;
    readonly w: number;
    readonly h: number;
    readonly i: string;
  };
  readonly panelRefName?: string;
  readonly embeddableConfig: {
    readonly attributes?: { readonly references: readonly Reference[]; readonly state: LensState };
    readonly enhancements: { readonly dynamicActions?: { readonly events: readonly DrilldownEvent[] } };
  };
}

interface DrilldownEvent {
  readonly eventId: string;
  readonly action: { readonly factoryId: string };
}

/** The objects of an export and its last line, which counts them. */
export function readExport(text: string): { objects: SavedObject[]; exportedCount: number } {
  const lines = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as SavedObject & { exportedCount?: number });
  return { objects: lines.slice(0, -1), exportedCount: lines.at(-1)?.exportedCount ?? -1 };
}

export function readKibanaFile(): SavedObject[] {
  return readExport(readFileSync(KIBANA_FILE, 'utf8')).objects;
}

export function ofType(objects: readonly SavedObject[], type: string): SavedObject[] {
  return objects.filter((object) => object.type === type);
}

export function panelsOf(dashboard: SavedObject): DashboardPanel[] {
  return JSON.parse(String(dashboard.attributes['panelsJSON'])) as DashboardPanel[];
}

/** The Lens panels of all dashboards with a name to tell them by. */
export function lensPanels(objects: readonly SavedObject[]): { name: string; state: LensState }[] {
  return ofType(objects, 'dashboard').flatMap((dashboard) =>
    panelsOf(dashboard).flatMap(({ title, embeddableConfig: { attributes } }) =>
      attributes ? [{ name: `${dashboard.id}: ${title}`, state: attributes.state }] : [],
    ),
  );
}

export function searchQuery(search: SavedObject): string {
  const meta = search.attributes['kibanaSavedObjectMeta'] as { searchSourceJSON: string };
  return (JSON.parse(meta.searchSourceJSON) as { query: { query: string } }).query.query;
}

/** What a saved search, a data view or a dashboard's control names, beside the panels. */
export function otherFields(object: SavedObject): NamedField[] {
  const { attributes } = object;
  if (object.type === 'search') {
    const columns = attributes['columns'] as string[];
    const sort = attributes['sort'] as [string, string][];
    return [
      ...columns.map((field): NamedField => ({ field, use: 'shown' })),
      ...sort.map(([field]): NamedField => ({ field, use: 'sorted' })),
      ...parseKql(searchQuery(object)).fields,
    ];
  }
  if (object.type === 'index-pattern') {
    const formats = Object.keys(JSON.parse(String(attributes['fieldFormatMap'])) as object);
    const time: NamedField = { field: String(attributes['timeFieldName']), use: 'time' };
    return [time, ...formats.map((field): NamedField => ({ field, use: 'shown' }))];
  }
  const controls = (attributes['controlGroupInput'] as { panelsJSON: string }).panelsJSON;
  const panels = Object.values(JSON.parse(controls) as Record<string, { explicitInput: { fieldName: string } }>);
  return panels.map(({ explicitInput }): NamedField => ({ field: explicitInput.fieldName, use: 'terms' }));
}
