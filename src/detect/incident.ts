import { createHash } from 'node:crypto';
import { ALERT_RECORDS_MAX, ALERT_TRACES_MAX, type Alert } from '../core/alert.ts';
import { formatTimestamp } from '../core/clock.ts';
import { type Rule, shownFields } from './rule.ts';
import { fillTemplate, formatMs } from './template.ts';

/** Evidence of an incident: one record that matched. `timeMs` is event time, epoch milliseconds with a fraction. */
export interface Match {
  readonly record: string;
  readonly trace: string;
  readonly timeMs: number;
  /** Values of the fields that the rule's reason shows, in the order of the template; empty for unknown. */
  readonly shown: readonly string[];
}

/** What an alert is made of: times at which a group was abnormal, none farther than `suppress` from the next. */
export interface Incident {
  readonly id: string;
  readonly namespace: string;
  readonly group: readonly string[];
  readonly term: string;
  readonly shown: readonly string[];
  /** First and last time at which the group was abnormal. */
  firstMs: number;
  lastMs: number;
  /** Event time of the evidence. */
  fromMs: number;
  toMs: number;
  count: number;
  times: number;
  value: number;
  threshold: number;
  atLeast: boolean;
  records: string[];
  traces: string[];
}

/** An incident that goes on for longer is told again as another. */
const RENEWED_AFTER_MS = 86_400_000;

export interface IncidentStart {
  readonly rule: Rule;
  readonly namespace: string;
  readonly group: readonly string[];
  readonly term?: string;
  readonly shown: readonly string[];
  readonly timeMs: number;
  /** Two incidents of one group are never in the same cell of this length; 0: `cell` itself says which it is. */
  readonly cellMs: number;
  readonly cell?: string;
}

/**
 * The id says rule, namespace, group and the cell of time that it was first seen in: so it does not depend on which of a
 * burst's records came first.
 */
export function startIncident(start: IncidentStart): Incident {
  const { rule, namespace, group, term = '', shown, timeMs, cellMs } = start;
  const cell = start.cell ?? String(Math.floor(timeMs / cellMs));
  const parts = JSON.stringify([rule.id, namespace, group, term, cell]);
  return {
    id: createHash('sha256').update(parts).digest('hex').slice(0, 32),
    ...{ namespace, group, term, shown },
    ...{ firstMs: timeMs, lastMs: timeMs, fromMs: timeMs, toMs: timeMs },
    ...{ count: 0, times: 0, value: 0, threshold: 0, atLeast: false, records: [], traces: [] },
  };
}

/** The one of a group's incidents that a time at which it is abnormal belongs to. */
export function findIncident(incidents: readonly Incident[], timeMs: number, suppressMs: number): Incident | undefined {
  const spanMax = Math.max(RENEWED_AFTER_MS, suppressMs);
  return incidents.find(
    ({ firstMs, lastMs }) =>
      timeMs >= firstMs - suppressMs && timeMs <= lastMs + suppressMs && timeMs - firstMs <= spanMax,
  );
}

/** The group was abnormal at this time, too. */
export function extendIncident(incident: Incident, timeMs: number): void {
  incident.firstMs = Math.min(incident.firstMs, timeMs);
  incident.lastMs = Math.max(incident.lastMs, timeMs);
  incident.times++;
}

export function addEvidence(incident: Incident, match: Match): void {
  incident.fromMs = Math.min(incident.fromMs, match.timeMs);
  incident.toMs = Math.max(incident.toMs, match.timeMs);
  incident.count++;
  addNewest(incident.records, match.record, ALERT_RECORDS_MAX);
  if (match.trace !== '' && !incident.traces.includes(match.trace)) {
    addNewest(incident.traces, match.trace, ALERT_TRACES_MAX);
  }
}

function addNewest(list: string[], value: string, max: number): void {
  list.push(value);
  if (list.length > max) list.shift();
}

export function alertOf(rule: Rule, incident: Incident, raisedAtMs: number): Alert {
  const { id, namespace, firstMs, value, threshold, count, times, atLeast } = incident;
  const group = groupOf(rule, incident);
  const raisedAt = formatTimestamp(toNs(raisedAtMs));
  const named = <Key extends string>(key: Key, list: readonly string[]) => (list.length > 0 ? { [key]: list } : {});
  return {
    id,
    rule: {
      ...{ id: rule.id, name: rule.name, type: rule.type, severity: rule.severity },
      ...{ ...named('tags', rule.tags), ...named('references', rule.references), ...named('notify', rule.notify) },
    },
    namespace,
    state: 'open',
    reason: reasonOf(rule, incident, group),
    group,
    ...(threshold > 0 ? { value, threshold } : {}),
    firstAt: formatTimestamp(toNs(Math.min(incident.fromMs, firstMs))),
    lastAt: formatTimestamp(toNs(incident.toMs)),
    raisedAt,
    count,
    records: [...incident.records],
    traces: [...incident.traces],
    ...(times > 1 ? { suppressed: times - 1 } : {}),
    ...(atLeast ? { atLeast } : {}),
    history: [],
  };
}

function groupOf(rule: Rule, { group, term }: Incident): Record<string, string> {
  const grouped = rule.groupBy.map(({ name }, index) => [name, group[index] ?? ''] as const);
  if (rule.type !== 'new_terms' || term === '') return Object.fromEntries(grouped);
  const values = JSON.parse(term) as string[];
  return Object.fromEntries([
    ...grouped,
    ...rule.fields.map(({ name }, index) => [name, values[index] ?? ''] as const),
  ]);
}

function reasonOf(rule: Rule, incident: Incident, group: Readonly<Record<string, string>>): string {
  const { count, value, threshold, atLeast, term } = incident;
  const least = atLeast ? 'at least ' : '';
  const names = shownFields(rule);
  const shown = Object.fromEntries(names.map((name, index) => [name, incident.shown[index] || undefined]));
  return fillTemplate(rule.reason, {
    ...shown,
    ...group,
    rule: rule.name,
    count: `${least}${count}`,
    value: `${least}${formatValue(rule, value)}`,
    threshold: formatValue(rule, threshold),
    window:
      rule.type === 'threshold' ? formatMs(rule.windowMs) : rule.type === 'baseline' ? formatMs(rule.intervalMs) : '',
    group: rule.groupBy.map(({ name }) => `${name} ${group[name]}`).join(', '),
    term: term === '' ? '' : (JSON.parse(term) as string[]).join(' '),
  });
}

function formatValue(rule: Rule, value: number): string {
  if (rule.type !== 'baseline') return String(value);
  if (rule.of === 'failures') return `${Math.round(value * 1000) / 10} %`;
  return rule.of === 'latency' ? formatMs(value / 1e6) : String(Math.round(value * 10) / 10);
}

function toNs(timeMs: number): bigint {
  const whole = Math.floor(timeMs);
  return BigInt(whole) * 1_000_000n + BigInt(Math.round((timeMs - whole) * 1_000_000));
}
