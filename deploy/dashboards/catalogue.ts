import type { Dashboard, Measure, Top } from './panels.ts';
import { CURRENT, ENTRIES } from './searches.ts';

const REFUSED = 'audit.decision: deny';
const FAILED = 'event.outcome: failure and not audit.decision: deny';

const count = (label: string, where?: string): Measure => ({
  is: 'count',
  label,
  ...(where !== undefined && { where }),
});
const distinct = (field: string, label: string): Measure => ({ is: 'unique_count', field, label });
const percentile = (percent: number, field: string, label: string): Measure => ({
  is: 'percentile',
  field,
  percentile: percent,
  label,
});
const top = (field: string, label: string, size = 10): Top => ({ field, label, size });

const LATENCIES = [50, 95, 99].map((percent) => percentile(percent, 'event.duration', `p${percent}`));
/** The same four in the same order wherever outcomes are shown. */
const OUTCOMES = [
  count('Succeeded', 'event.outcome: success'),
  count('Refused', REFUSED),
  count('Failed', FAILED),
  count('Unknown', 'event.outcome: unknown'),
];
const WHOLE = { width: 48, height: 15 } as const;
const HALF = { width: 24, height: 12 } as const;
const THIRD = { width: 16, height: 12 } as const;
const NUMBER = { width: 8, height: 6 } as const;

const ACTOR = { field: 'user.id', label: 'Actor' } as const;
const TARGET = { field: 'audit.target.id', label: 'Target' } as const;
const SERVICE = { field: 'service.name', label: 'Service' } as const;

const OVERVIEW: Dashboard = {
  id: 'overview',
  title: 'Overview',
  text: 'Accesses, refusals, failures and latency. Entries only: what people did, not the statements inside.',
  query: ENTRIES,
  controls: [ACTOR, TARGET, SERVICE],
  panels: [
    { kind: 'number', title: 'Accesses', measure: count('Accesses'), ...NUMBER },
    { kind: 'number', title: 'Refused', measure: count('Refused', REFUSED), ...NUMBER },
    { kind: 'number', title: 'Failed', measure: count('Failed', FAILED), ...NUMBER },
    { kind: 'number', title: 'Actors', measure: distinct('user.id', 'Actors'), ...NUMBER },
    { kind: 'number', title: 'Targets', measure: distinct('audit.target.id', 'Targets'), ...NUMBER },
    { kind: 'number', title: 'Latency p95', measure: percentile(95, 'event.duration', 'p95'), ...NUMBER },
    { kind: 'timeline', title: 'Accesses by outcome', shape: 'bar_stacked', measures: OUTCOMES, ...HALF },
    { kind: 'timeline', title: 'Latency', shape: 'line', measures: LATENCIES, ...HALF },
    {
      kind: 'bars',
      title: 'Actors',
      by: top('user.id', 'Actor'),
      measure: count('Accesses'),
      leadsTo: ['actor'],
      ...THIRD,
    },
    {
      kind: 'bars',
      title: 'Targets',
      by: top('audit.target.id', 'Target'),
      measure: count('Accesses'),
      leadsTo: ['target'],
      ...THIRD,
    },
    {
      kind: 'table',
      title: 'Services',
      by: [top('service.name', 'Service')],
      measures: [
        count('Accesses'),
        count('Refused', REFUSED),
        count('Failed', FAILED),
        percentile(95, 'event.duration', 'p95'),
      ],
      leadsTo: ['refusals', 'errors'],
      ...THIRD,
    },
    { kind: 'search', title: 'Accesses', search: 'entries', ...WHOLE },
  ],
};

const REFUSALS: Dashboard = {
  id: 'refusals',
  title: 'Refusals and their checks',
  text: 'Who was refused what, by which check or rule. A record may hold several checks: it counts once for each value.',
  query: `${ENTRIES} and ${REFUSED}`,
  controls: [ACTOR, TARGET, SERVICE],
  panels: [
    { kind: 'number', title: 'Refused', measure: count('Refused'), width: 12, height: 6 },
    { kind: 'number', title: 'Actors refused', measure: distinct('user.id', 'Actors'), width: 12, height: 6 },
    { kind: 'number', title: 'Targets refused', measure: distinct('audit.target.id', 'Targets'), width: 12, height: 6 },
    {
      kind: 'number',
      title: 'No rule in evidence',
      measure: count('No rule in evidence', 'audit.why.source: (status or none)'),
      width: 12,
      height: 6,
    },
    {
      kind: 'timeline',
      title: 'Refusals by how the reason is known',
      shape: 'bar_stacked',
      measures: [count('Refusals')],
      split: top('audit.why.source', 'Known from', 5),
      ...HALF,
    },
    {
      kind: 'table',
      title: 'Who was refused what',
      by: [top('user.id', 'Actor'), top('audit.target.id', 'Target', 5)],
      measures: [count('Refusals')],
      leadsTo: ['actor', 'target'],
      ...HALF,
    },
    {
      kind: 'bars',
      title: 'Refused by',
      by: top('audit.denied_by', 'Refused by'),
      measure: count('Refusals'),
      ...THIRD,
    },
    { kind: 'bars', title: 'Reasons', by: top('event.reason', 'Reason'), measure: count('Refusals'), ...THIRD },
    { kind: 'bars', title: 'Rules', by: top('rule.name', 'Rule'), measure: count('Refusals'), ...THIRD },
    {
      kind: 'bars',
      title: 'Permissions of checks that did not grant',
      query: 'audit.checks.granted: false',
      by: top('audit.checks.permission', 'Permission'),
      measure: count('Refusals'),
      ...HALF,
    },
    {
      kind: 'bars',
      title: 'What decided',
      query: 'audit.checks.granted: false',
      by: top('audit.checks.engine', 'Engine'),
      measure: count('Refusals'),
      ...HALF,
    },
    { kind: 'search', title: 'Refusals', search: 'refusals', ...WHOLE },
  ],
};

const ONE_ACTOR: Dashboard = {
  id: 'actor',
  title: 'One actor',
  text: 'Pick an actor above. What they did, to what, from where, and how it is known that it was them.',
  query: ENTRIES,
  controls: [ACTOR],
  panels: [
    { kind: 'number', title: 'Accesses', measure: count('Accesses'), width: 12, height: 6 },
    { kind: 'number', title: 'Refused', measure: count('Refused', REFUSED), width: 12, height: 6 },
    { kind: 'number', title: 'Targets', measure: distinct('audit.target.id', 'Targets'), width: 12, height: 6 },
    { kind: 'number', title: 'Addresses', measure: distinct('source.ip', 'Addresses'), width: 12, height: 6 },
    {
      kind: 'timeline',
      title: 'Actions',
      shape: 'bar_stacked',
      measures: [count('Accesses')],
      split: top('event.action', 'Action', 8),
      ...HALF,
    },
    { kind: 'timeline', title: 'Outcomes', shape: 'bar_stacked', measures: OUTCOMES, ...HALF },
    {
      kind: 'bars',
      title: 'Targets',
      by: top('audit.target.id', 'Target'),
      measure: count('Accesses'),
      leadsTo: ['target'],
      ...THIRD,
    },
    { kind: 'bars', title: 'From', by: top('source.ip', 'Address'), measure: count('Accesses'), ...THIRD },
    {
      kind: 'table',
      title: 'How it is known that it was them',
      by: [top('audit.actor.attribution', 'Known from'), top('audit.actor.verified', 'Verified', 2)],
      measures: [count('Accesses')],
      ...THIRD,
    },
    { kind: 'search', title: 'Everything they did', search: 'actor', ...WHOLE },
  ],
};

const ONE_TARGET: Dashboard = {
  id: 'target',
  title: 'One target',
  text: 'Pick a target above: who reached it, in what way and through which requests. Inner accesses count here, too.',
  query: CURRENT,
  controls: [TARGET],
  panels: [
    { kind: 'number', title: 'Accesses', measure: count('Accesses'), width: 12, height: 6 },
    { kind: 'number', title: 'Refused', measure: count('Refused', REFUSED), width: 12, height: 6 },
    { kind: 'number', title: 'Actors', measure: distinct('user.id', 'Actors'), width: 12, height: 6 },
    { kind: 'number', title: 'Latency p95', measure: percentile(95, 'event.duration', 'p95'), width: 12, height: 6 },
    { kind: 'timeline', title: 'Outcomes', shape: 'bar_stacked', measures: OUTCOMES, ...HALF },
    { kind: 'timeline', title: 'Latency', shape: 'line', measures: LATENCIES, ...HALF },
    {
      kind: 'table',
      title: 'Who did what',
      by: [top('user.id', 'Actor'), top('event.action', 'Action', 5)],
      measures: [count('Accesses'), percentile(95, 'event.duration', 'p95')],
      leadsTo: ['actor'],
      ...HALF,
    },
    {
      kind: 'bars',
      title: 'Reached through',
      query: 'audit.entry: false',
      by: top('audit.entry_target', 'What people accessed'),
      measure: count('Inner accesses'),
      ...HALF,
    },
    { kind: 'search', title: 'Everything that was done to it', search: 'target', ...WHOLE },
  ],
};

const ERRORS: Dashboard = {
  id: 'errors',
  title: 'Errors and their origin',
  text: 'Accesses that failed without being refused. The origin is the deepest failing span that explains the failure.',
  query: `${ENTRIES} and ${FAILED}`,
  controls: [SERVICE, { field: 'audit.error_origin.service', label: 'Origin' }],
  panels: [
    {
      kind: 'timeline',
      title: 'Failures by the service they began in',
      shape: 'bar_stacked',
      measures: [count('Failures')],
      split: top('audit.error_origin.service', 'Origin', 8),
      ...HALF,
    },
    {
      kind: 'timeline',
      title: 'Failures by type',
      shape: 'bar_stacked',
      measures: [count('Failures')],
      split: top('error.type', 'Type', 8),
      ...HALF,
    },
    {
      kind: 'table',
      title: 'From where people saw it to where it began',
      by: [top('service.name', 'Seen at'), top('audit.error_origin.service', 'Began in', 5)],
      measures: [count('Failures'), percentile(95, 'event.duration', 'p95')],
      ...THIRD,
    },
    {
      kind: 'bars',
      title: 'What failed there',
      by: top('audit.error_origin.name', 'Operation'),
      measure: count('Failures'),
      ...THIRD,
    },
    {
      kind: 'bars',
      title: 'Messages',
      by: top('audit.error_origin.message', 'Message'),
      measure: count('Failures'),
      ...THIRD,
    },
    {
      kind: 'bars',
      title: 'Actors affected',
      by: top('user.id', 'Actor'),
      measure: count('Failures'),
      leadsTo: ['actor'],
      ...HALF,
    },
    {
      kind: 'bars',
      title: 'Targets affected',
      by: top('audit.target.id', 'Target'),
      measure: count('Failures'),
      leadsTo: ['target'],
      ...HALF,
    },
    { kind: 'search', title: 'Failures and their origin', search: 'errors', ...WHOLE },
  ],
};

const PRESSURE: Dashboard = {
  id: 'pressure',
  title: 'Pressure beside failures',
  text: 'What was near its limit while accesses failed. It stands beside the failures; it is not said to be their cause.',
  query: ENTRIES,
  controls: [SERVICE],
  panels: [
    {
      kind: 'timeline',
      title: 'Failures, and the highest share of a limit',
      shape: 'line',
      measures: [
        count('Failures', FAILED),
        { is: 'max', field: 'audit.pressure.ratio', label: 'Highest share of a limit' },
      ],
      right: 1,
      width: 48,
      height: 12,
    },
    {
      kind: 'timeline',
      title: 'Accesses by pressure',
      query: 'audit.pressure.state: *',
      shape: 'bar_stacked',
      measures: [count('Accesses')],
      split: top('audit.pressure.state', 'Pressure', 3),
      ...HALF,
    },
    {
      kind: 'table',
      title: 'The same accesses, calm and under pressure',
      by: [top('audit.pressure.state', 'Pressure', 3)],
      measures: [
        count('Accesses'),
        count('Failed', FAILED),
        percentile(95, 'event.duration', 'p95'),
        { is: 'max', field: 'audit.pressure.ratio', label: 'Highest share' },
      ],
      ...HALF,
    },
    {
      kind: 'bars',
      title: 'Nearest to its limit while accesses failed',
      query: `${FAILED} and audit.pressure.state: (high or exhausted)`,
      by: top('audit.pressure.metric', 'Metric'),
      measure: count('Failures'),
      ...HALF,
    },
    {
      kind: 'bars',
      title: 'On what it was measured',
      query: `${FAILED} and audit.pressure.state: (high or exhausted)`,
      by: top('audit.pressure.metrics.of', 'Measured on'),
      measure: count('Failures'),
      ...HALF,
    },
    { kind: 'search', title: 'Failures under pressure', search: 'pressure', ...WHOLE },
  ],
};

const CHECKS: Dashboard = {
  id: 'checks',
  title: 'Role checks beside database latency',
  text: 'What the checks of an access cost, beside what its statements cost. A record with several checks counts with each.',
  query: ENTRIES,
  controls: [SERVICE, { field: 'audit.checks.engine', label: 'Engine' }],
  panels: [
    {
      kind: 'timeline',
      title: 'p95 of a check, of all statements, of the access',
      shape: 'line',
      measures: [
        percentile(95, 'audit.checks.duration', 'One check'),
        percentile(95, 'audit.db.duration', 'All statements'),
        percentile(95, 'event.duration', 'The access'),
      ],
      width: 48,
      height: 12,
    },
    {
      kind: 'table',
      title: 'Endpoints',
      query: 'audit.checks.granted: *',
      by: [top('audit.target.name', 'Endpoint')],
      measures: [
        count('Accesses'),
        percentile(95, 'audit.checks.duration', 'One check p95'),
        percentile(95, 'audit.db.duration', 'Statements p95'),
        { is: 'average', field: 'audit.db.count', label: 'Statements an access' },
      ],
      ...HALF,
    },
    {
      kind: 'table',
      title: 'Permissions',
      query: 'audit.checks.granted: *',
      by: [top('audit.checks.permission', 'Permission')],
      measures: [
        count('Accesses'),
        count('Refused', REFUSED),
        percentile(95, 'audit.checks.duration', 'One check p95'),
      ],
      ...HALF,
    },
    {
      kind: 'bars',
      title: 'What decides',
      query: 'audit.checks.granted: *',
      by: top('audit.checks.engine', 'Engine'),
      measure: percentile(95, 'audit.checks.duration', 'One check p95'),
      ...HALF,
    },
    {
      kind: 'bars',
      title: 'Slowest statements',
      query: 'audit.db.slowest: *',
      by: top('audit.db.slowest', 'Statement'),
      measure: { is: 'max', field: 'audit.db.duration', label: 'All statements of an access, longest' },
      ...HALF,
    },
    { kind: 'search', title: 'Accesses with checks', search: 'checks', ...WHOLE },
  ],
};

const PIPELINE: Dashboard = {
  id: 'pipeline',
  title: 'Pipeline health',
  text: 'What the records say of how they were made. Queues, refusals and the disk: see the metrics of Spantrail itself.',
  query: CURRENT,
  controls: [{ field: 'data_stream.namespace', label: 'Namespace' }, SERVICE],
  panels: [
    { kind: 'number', title: 'Records', measure: count('Records'), ...NUMBER },
    {
      kind: 'number',
      title: 'Newest access',
      measure: { is: 'max', field: '@timestamp', label: 'Newest access' },
      ...NUMBER,
    },
    {
      kind: 'number',
      title: 'Last written',
      measure: { is: 'max', field: 'event.ingested', label: 'Last written' },
      ...NUMBER,
    },
    {
      kind: 'number',
      title: 'Not complete',
      measure: count('Not complete', 'not audit.join.state: complete'),
      ...NUMBER,
    },
    { kind: 'number', title: 'Changed by late evidence', measure: count('Late', 'audit.join.late: true'), ...NUMBER },
    {
      kind: 'number',
      title: 'With contradictions',
      measure: count('Contradictions', 'audit.join.conflicts: *'),
      ...NUMBER,
    },
    {
      kind: 'timeline',
      title: 'How complete the traces were',
      shape: 'bar_stacked',
      measures: [count('Records')],
      split: top('audit.join.state', 'State', 5),
      ...HALF,
    },
    {
      kind: 'timeline',
      title: 'Why traces settled when they did',
      shape: 'bar_stacked',
      measures: [count('Records')],
      split: top('audit.join.reason', 'Reason', 8),
      ...HALF,
    },
    {
      kind: 'table',
      title: 'Services',
      by: [top('service.name', 'Service', 20)],
      measures: [
        count('Records'),
        count('Not complete', 'not audit.join.state: complete'),
        { is: 'sum', field: 'audit.join.missing_parents', label: 'Missing parents' },
        { is: 'average', field: 'audit.trace.span_count', label: 'Spans a trace' },
      ],
      ...HALF,
    },
    {
      kind: 'table',
      title: 'What the records rest on',
      by: [top('audit.evidence.source', 'Read as'), top('audit.evidence.sender', 'Sent by', 5)],
      measures: [count('Records')],
      ...HALF,
    },
    { kind: 'search', title: 'Records that say what they lack', search: 'doubtful', ...WHOLE },
    { kind: 'search', title: 'Past the application', search: 'out-of-band', ...WHOLE },
    { kind: 'search', title: 'Earlier states of records', search: 'revisions', ...WHOLE },
  ],
};

export const DASHBOARDS: readonly Dashboard[] = [
  OVERVIEW,
  REFUSALS,
  ONE_ACTOR,
  ONE_TARGET,
  ERRORS,
  PRESSURE,
  CHECKS,
  PIPELINE,
];
