import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, inject, it } from 'vitest';
import { grafanaAudit, grafanaHealth } from '../../deploy/dashboards/grafana.ts';
import { kibanaFile } from '../../deploy/dashboards/kibana.ts';
import { startTelemetry } from '../../src/app/telemetry.ts';
import { Counters, METRICS, type MetricName } from '../../src/core/metrics.ts';
import { runProgram } from '../setup/cache.ts';
import { allPanels, grafanaPath, grafanaTargets, readGrafana } from './grafana-query.ts';
import { SAVED_OBJECT } from './kibana-form.ts';
import { KIBANA_FILE, ofType, panelsOf, readExport } from './saved-objects.ts';

describe('the file for Kibana', () => {
  const { objects, exportedCount } = readExport(readFileSync(KIBANA_FILE, 'utf8'));
  const dashboards = ofType(objects, 'dashboard');

  it('is what the catalogue makes', () => expect(readFileSync(KIBANA_FILE, 'utf8')).toBe(kibanaFile()));

  it('holds what it should, and counts it', () => {
    expect(exportedCount).toBe(objects.length);
    expect(new Set(objects.map(({ id }) => id)).size).toBe(objects.length);
    expect(dashboards.map(({ id }) => id.replace('spantrail-', ''))).toEqual([
      'overview',
      'refusals',
      'actor',
      'target',
      'errors',
      'pressure',
      'checks',
      'pipeline',
    ]);
  });

  it('has the form that Kibana knows, and no key beyond it', () => {
    for (const object of objects) {
      const { success, error } = SAVED_OBJECT.safeParse(object);
      expect(success, `${object.id}: ${error?.message}`).toBe(true);
    }
    const [view] = objects;
    expect(SAVED_OBJECT.safeParse({ ...view, attributes: { ...view?.attributes, extra: 1 } }).success).toBe(false);
  });

  it('refers to nothing that is not in it', () => {
    const known = new Set(objects.map(({ type, id }) => `${type} ${id}`));
    const lost = objects.flatMap(({ id, references }) =>
      references
        .filter((reference) => !known.has(`${reference.type} ${reference.id}`))
        .map(({ name }) => `${id}: ${name}`),
    );
    expect(lost).toEqual([]);
    const shown = new Set(dashboards.flatMap(({ references }) => references.map(({ id }) => id)));
    expect(ofType(objects, 'search').filter(({ id }) => !shown.has(id))).toEqual([]);
  });

  it('has a reference for each panel, drill-down and control, and none that nothing asks for', () => {
    for (const dashboard of dashboards) {
      const asked = panelsOf(dashboard).flatMap(({ panelIndex, panelRefName, embeddableConfig }) => [
        ...(panelRefName === undefined ? [] : [`${panelIndex}:${panelRefName}`]),
        ...(embeddableConfig.attributes?.references ?? []).map(({ name }) => `${panelIndex}:${name}`),
        ...(embeddableConfig.enhancements.dynamicActions?.events ?? [])
          .filter(({ action }) => action.factoryId.startsWith('DASHBOARD_TO_DASHBOARD'))
          .map(({ eventId, action }) => `${panelIndex}:drilldown:${action.factoryId}:${eventId}:dashboardId`),
      ]);
      const controls = (dashboard.attributes['controlGroupInput'] as { panelsJSON: string }).panelsJSON;
      const controlled = Object.keys(JSON.parse(controls) as object).map(
        (id) => `controlGroup_${id}:optionsListDataView`,
      );
      expect(dashboard.references.map(({ name }) => name).sort()).toEqual([...asked, ...controlled].sort());
    }
  });

  it('lets every chart lead to its records, and from every record to its trace', () => {
    for (const dashboard of dashboards) {
      for (const { title, embeddableConfig } of panelsOf(dashboard)) {
        const { attributes, enhancements } = embeddableConfig;
        if (
          !attributes ||
          Object.keys(attributes.state.datasourceStates.formBased.layers['layer']?.columns ?? {}).length < 2
        )
          continue;
        const factories = enhancements.dynamicActions?.events.map(({ action }) => action.factoryId);
        expect(factories, title).toContain('OPEN_IN_DISCOVER_DRILLDOWN');
      }
    }
    for (const view of ofType(objects, 'index-pattern')) {
      const formats = JSON.parse(String(view.attributes['fieldFormatMap'])) as Record<
        string,
        { id: string; params: { urlTemplate?: string } }
      >;
      expect(formats['trace.id']?.params.urlTemplate).toContain('{{value}}');
    }
  });

  it('lays panels out side by side, none over another', () => {
    for (const dashboard of dashboards)
      expectNoOverlap(
        panelsOf(dashboard).map(({ gridData }) => gridData),
        48,
      );
  });
});

describe('the dashboards for Grafana', () => {
  it('are what the catalogue makes', () => {
    expect(readFileSync(grafanaPath('audit'), 'utf8')).toBe(grafanaAudit());
    expect(readFileSync(grafanaPath('health'), 'utf8')).toBe(grafanaHealth());
  });

  it('use only variables that they have, and number their panels once', () => {
    for (const name of ['audit', 'health']) {
      const dashboard = readGrafana(name);
      const variables = new Set(dashboard.templating.list.map((variable) => variable.name));
      const text = JSON.stringify(dashboard);
      const used = [...text.matchAll(/\$\{?(?!__)(\w+)/g)].map((match) => match[1] ?? '');
      expect(used.filter((variable) => !variables.has(variable))).toEqual([]);
      const panels = allPanels(dashboard.panels);
      expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
      expectNoOverlap(
        dashboard.panels.map(({ gridPos }) => gridPos),
        24,
      );
    }
  });

  it('ask Prometheus only for metrics that Spantrail has', async () => {
    const names = await exposedNames();
    const targets = grafanaTargets(readGrafana('health'));
    expect(targets.length).toBeGreaterThan(20);
    for (const { expr = '' } of targets) {
      const asked = [...expr.matchAll(/\bspantrail_\w+/g)].map(([name]) => name);
      expect(asked.length, expr).toBeGreaterThan(0);
      for (const name of asked) {
        expect(names, expr).toContain(name);
        // A counter is asked for its rate, a gauge for its value.
        expect(expr.includes('rate(')).toBe(name.endsWith('_total'));
      }
    }
  });
});

const promtool = inject('promtool');

describe.skipIf('skipped' in promtool)('the health dashboard', () => {
  it('has expressions that Prometheus takes', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'spantrail-health-'));
    const rules = grafanaTargets(readGrafana('health')).map(({ expr = '' }, index) => ({
      record: `health_${index}`,
      // As Grafana fills them in.
      expr: expr.replaceAll('$__rate_interval', '1m').replaceAll('$instance', '.*'),
    }));
    const file = join(folder, 'rules.json');
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'health', rules }] }));
    const said = await runProgram('binary' in promtool ? promtool.binary : '', ['check', 'rules', file]);
    rmSync(folder, { recursive: true });
    expect(said).toContain(`${rules.length} rules found`);
  });
});

function expectNoOverlap(places: readonly { x: number; y: number; w: number; h: number }[], columns: number): void {
  for (const [index, one] of places.entries()) {
    expect(one.x + one.w).toBeLessThanOrEqual(columns);
    for (const other of places.slice(index + 1)) {
      const apart =
        one.x + one.w <= other.x ||
        other.x + other.w <= one.x ||
        one.y + one.h <= other.y ||
        other.y + other.h <= one.y;
      expect(apart, JSON.stringify([one, other])).toBe(true);
    }
  }
}

/** The names under which Prometheus sees the catalogue of metrics. */
async function exposedNames(): Promise<string[]> {
  const counters = new Counters();
  for (const name of Object.keys(METRICS)) counters.add(name as MetricName, 1);
  const telemetry = startTelemetry({
    environment: {},
    version: '0',
    counters,
    refreshGauges: async () => {},
    ownPorts: [],
    log: { warn: () => {} } as never,
  });
  const text = await telemetry.metricsText();
  await telemetry.shutdown();
  return [...text.matchAll(/^# TYPE (spantrail_\w+) /gm)].map((match) => match[1] ?? '');
}
