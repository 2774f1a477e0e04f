import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, inject, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { METRICS } from '../../src/core/metrics.ts';
import { SETTLE_REASONS } from '../../src/core/record.ts';
import { runProgram } from '../setup/cache.ts';

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string; readonly runbook_url: string };
}

const root = join(import.meta.dirname, '../..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const RULES_FILE = join(root, 'deploy/prometheus/alerts.yaml');
const rules: readonly Rule[] = parse(readFileSync(RULES_FILE, 'utf8')).groups.flatMap(
  (group: { rules: Rule[] }) => group.rules,
);
const names = rules.map(({ alert }) => alert);
/** As Prometheus reads the catalogue. */
const exported = new Set(
  Object.entries(METRICS).map(([name, { kind }]) => `spantrail_${name}${kind === 'counter' ? '_total' : ''}`),
);
const metricsOf = (expression: string) => expression.match(/\bspantrail_\w+/g) ?? [];

describe('the alert rules', () => {
  it('have names of their own', () => expect(new Set(names).size).toBe(rules.length));

  it.each(rules.map((rule) => [rule.alert, rule] as const))('%s names metrics that there are', (_, { expr }) => {
    expect(metricsOf(expr).filter((name) => !exported.has(name))).toEqual([]);
    const reasons = [...expr.matchAll(/settled_total\{reason="(\w+)"/g)].map((match) => match[1]);
    expect(SETTLE_REASONS).toEqual(expect.arrayContaining(reasons));
  });

  it.each(rules.map((rule) => [rule.alert, rule] as const))('%s says what happens and leads on', (alert, rule) => {
    expect(['page', 'ticket', 'info']).toContain(rule.labels.severity);
    expect(rule.annotations.summary).toMatch(/^[A-Z{].{10,}[^.]$/);
    expect(rule.annotations.description).toMatch(/^[A-Z].{10,}\.$/);
    expect(rule.annotations.runbook_url).toBe(`docs/runbook.md#${alert.toLowerCase()}`);
  });
});

describe('the runbook', () => {
  const entries = read('docs/runbook.md').split(/^## /m).slice(1);

  it('has one entry for each alert, and no other, in the same order', () => {
    expect(entries.map((entry) => entry.slice(0, entry.indexOf('\n')))).toEqual(names);
  });

  it.each(entries.map((entry) => [entry.slice(0, entry.indexOf('\n')), entry] as const))(
    '%s says enough',
    (_, entry) => {
      expect(entry.length).toBeGreaterThan(200);
      const unknown = metricsOf(entry).filter((name) => !exported.has(name));
      expect(unknown).toEqual([]);
    },
  );
});

interface Case {
  readonly alert: string;
  /** Minutes from one value to the next, and from one evaluation to the next; 1 by default. */
  readonly stepMinutes?: number;
  /** Series in Prometheus' notation, a value each step. */
  readonly series: Readonly<Record<string, string>>;
  /** A moment at which it fires, and one at which it does not. */
  readonly fires?: string;
  readonly silent: string;
}

const ONE = '{instance="a"}';
const WEEK_MINUTES = 7 * 24 * 60;
const WEEK_STEPS = WEEK_MINUTES / 15;

const CASES: readonly Case[] = [
  { alert: 'SpantrailDown', series: { 'up{job="spantrail",instance="a"}': '1x2 0x20' }, fires: '5m', silent: '4m' },
  {
    alert: 'SpantrailRefusing',
    series: { 'spantrail_refusing{reason="budget"}': '0x2 1x20', 'spantrail_refusing{reason="disk"}': '0x30' },
    fires: '5m',
    silent: '2m',
  },
  {
    alert: 'SpantrailBufferFullSoon',
    series: {
      [`spantrail_wal_unsettled_bytes${ONE}`]: '300+6x60',
      [`spantrail_wal_unsettled_bytes_max${ONE}`]: '1000x60',
    },
    fires: '20m',
    silent: '5m',
  },
  {
    // Grows fast, from nothing.
    alert: 'SpantrailBufferFullSoon',
    series: {
      [`spantrail_wal_unsettled_bytes${ONE}`]: '0+10x15 0x30',
      [`spantrail_wal_unsettled_bytes_max${ONE}`]: '1000x60',
    },
    silent: '15m',
  },
  {
    alert: 'SpantrailUnaccounted',
    series: { 'spantrail_unaccounted{of="traces"}': '0x5 -3x20' },
    fires: '8m',
    silent: '5m',
  },
  {
    alert: 'SpantrailLogDamaged',
    series: { [`spantrail_wal_damaged_files${ONE}`]: '0x5 1x9' },
    fires: '6m',
    silent: '5m',
  },
  {
    alert: 'SpantrailStoreFailing',
    series: { [`spantrail_store_failing${ONE}`]: '0x5 1x20' },
    fires: '12m',
    silent: '9m',
  },
  {
    alert: 'SpantrailStoreFindings',
    series: { 'spantrail_store_findings{instance="one",kind="template_changed"}': '0x5 1x30' },
    fires: '25m',
    silent: '18m',
  },
  {
    alert: 'SpantrailStoreFindings',
    series: { 'spantrail_store_findings{instance="one",kind="unprotected"}': '1x40' },
    silent: '40m',
  },
  {
    alert: 'SpantrailLagging',
    series: { [`spantrail_wal_lag_ms${ONE}`]: '0+60000x40', [`spantrail_store_failing${ONE}`]: '0x40' },
    fires: '30m',
    silent: '22m',
  },
  {
    alert: 'SpantrailLagging',
    series: { [`spantrail_wal_lag_ms${ONE}`]: '0+60000x40', [`spantrail_store_failing${ONE}`]: '1x40' },
    silent: '40m',
  },
  { alert: 'SpantrailReplayLong', series: { [`spantrail_replaying${ONE}`]: '1x20 0x5' }, fires: '16m', silent: '22m' },
  {
    alert: 'SpantrailQuarantine',
    series: {
      'spantrail_quarantine_open{stage="store"}': '0x2 4x20',
      'spantrail_quarantine_open{stage="settle"}': '0x30',
    },
    fires: '15m',
    silent: '9m',
  },
  {
    alert: 'SpantrailDiskFilling',
    series: { [`spantrail_disk_free_bytes${ONE}`]: '10000x60 9980-40x120' },
    fires: '150m',
    silent: '60m',
  },
  {
    alert: 'SpantrailHorizonCut',
    series: {
      'spantrail_evicted_total{reason="bytes"}': '0x20 1+1x60',
      'spantrail_evicted_total{reason="age"}': '0+1x90',
    },
    fires: '60m',
    silent: '20m',
  },
  {
    alert: 'SpantrailSettlingEarly',
    series: {
      'spantrail_settled_total{reason="memory_pressure"}': '0x20 1+5x60',
      'spantrail_settled_total{reason="idle"}': '0+9x90',
    },
    fires: '40m',
    silent: '20m',
  },
  {
    alert: 'SpantrailRejecting',
    series: { 'spantrail_rejected_total{signal="traces",reason="invalid_id"}': '0x20 10+10x40' },
    fires: '40m',
    silent: '20m',
  },
  {
    alert: 'SpantrailRejecting',
    series: { 'spantrail_rejected_total{signal="traces",reason="invalid_id"}': '0+1x60' },
    silent: '60m',
  },
  {
    alert: 'SpantrailSendersCut',
    series: { 'spantrail_cut_total{transport="grpc",reason="share"}': '0x20 10+10x40' },
    fires: '40m',
    silent: '20m',
  },
  {
    alert: 'SpantrailSendersCut',
    series: { 'spantrail_cut_total{transport="grpc",reason="budget"}': '0+99x60' },
    silent: '60m',
  },
  {
    // The same hour of the week: something, then nothing. Metrics alone are no traffic.
    alert: 'SpantrailSilent',
    stepMinutes: 15,
    series: {
      'spantrail_accepted_total{signal="traces",instance="a"}': `0+1x${WEEK_STEPS + 4} ${WEEK_STEPS + 4}x9`,
      'spantrail_accepted_total{signal="metrics",instance="a"}': `0+1x${WEEK_STEPS + 20}`,
    },
    fires: `${WEEK_MINUTES + 120}m`,
    silent: `${WEEK_MINUTES + 60}m`,
  },
  {
    alert: 'SpantrailSilent',
    series: { 'spantrail_accepted_total{signal="traces",instance="a"}': '5x300' },
    silent: '300m',
  },
  {
    alert: 'SpantrailSendersRefused',
    series: {
      'spantrail_unauthenticated_total{reason="expired"}': '0x10 1+1x30',
      'spantrail_unauthenticated_total{reason="missing"}': '0+9x60',
    },
    fires: '14m',
    silent: '10m',
  },
  {
    alert: 'SpantrailCertificateEnds',
    series: { [`spantrail_tls_certificate_ends{listener="api.tls"}`]: `${14 * 86_400 + 1800}x90` },
    fires: '60m',
    silent: '30m',
  },
  {
    alert: 'SpantrailNoticesDead',
    series: { [`spantrail_notices_dead${ONE}`]: '0x5 2x20' },
    fires: '17m',
    silent: '12m',
  },
  {
    alert: 'SpantrailAlertsUnstored',
    series: { [`spantrail_alerts_unstored${ONE}`]: '0x5 7x30' },
    fires: '22m',
    silent: '17m',
  },
  {
    alert: 'SpantrailReloadFailing',
    series: { 'spantrail_reload_failing{file="auth.tokensFile"}': '0x5 1x30' },
    fires: '20m',
    silent: '10m',
  },
  {
    alert: 'SpantrailTokenKeysUnread',
    series: { 'spantrail_token_keys{state="stale"}': '0x5 2x60', 'spantrail_token_keys{state="ready"}': '3x60' },
    fires: '40m',
    silent: '30m',
  },
  {
    alert: 'SpantrailPlacesUnread',
    series: { 'spantrail_place_databases_read_total{outcome="failure"}': '0x10 1x90' },
    fires: '20m',
    silent: '90m',
  },
  {
    alert: 'SpantrailWebhookUnmapped',
    series: { 'spantrail_unmapped_total{preset="opa"}': '0x10 2x90' },
    fires: '30m',
    silent: '90m',
  },
  {
    alert: 'SpantrailPressureFull',
    series: { 'spantrail_pressure_refused_total{reason="full"}': '0x10 1+1x60' },
    fires: '60m',
    silent: '10m',
  },
  {
    alert: 'SpantrailCoverageGaps',
    series: { 'spantrail_coverage_gaps{kind="silence"}': '0x9 1x90' },
    fires: '80m',
    silent: '60m',
  },
];

const stepOf = ({ stepMinutes = 1 }: Case) => stepMinutes;

/** A case as promtool reads it. */
function testOf({ alert, series, fires, silent }: Case, stepMinutes: number): object {
  const moments = [...(fires === undefined ? [] : [{ at: fires, count: 1 }]), { at: silent, count: 0 }];
  return {
    name: alert,
    interval: `${stepMinutes}m`,
    input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
    promql_expr_test: moments.map(({ at, count }) => ({
      expr: `count(ALERTS{alertname="${alert}",alertstate="firing"}) or vector(0)`,
      eval_time: at,
      exp_samples: [{ labels: '{}', value: count }],
    })),
  };
}

const promtool = inject('promtool');

describe.skipIf('skipped' in promtool)('Prometheus', () => {
  const folder = mkdtempSync(join(tmpdir(), 'spantrail-alerts-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const run = (...words: string[]) => runProgram('binary' in promtool ? promtool.binary : '', words);

  it('takes the rules', async () =>
    expect(await run('check', 'rules', RULES_FILE)).toContain(`${rules.length} rules found`));

  it('fires each of them when it should, and not before', async () => {
    expect([...new Set(CASES.filter(({ fires }) => fires !== undefined).map(({ alert }) => alert))].sort()).toEqual(
      [...names].sort(),
    );
    for (const steps of new Set(CASES.map(stepOf))) {
      const tests = CASES.filter((one) => stepOf(one) === steps).map((one) => testOf(one, steps));
      const file = join(folder, `${steps}.yaml`);
      writeFileSync(file, stringify({ rule_files: [RULES_FILE], evaluation_interval: `${steps}m`, tests }));
      expect(await run('test', 'rules', file)).toContain('SUCCESS');
    }
  });
});
