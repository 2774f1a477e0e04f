import type { Alert, AlertChange } from '../core/alert.ts';
import { parseTimestamp } from '../core/clock.ts';
import { formatDuration } from '../core/duration-text.ts';
import type { Table } from '../core/insight.ts';
import type { AlertStore, Selection } from '../store/port.ts';
import { column, numbered, table } from './question.ts';
import type { ReportPart } from './report.ts';

/** Alerts on paper at most; whoever has more has another problem, and `spantrail alerts` lists all. */
const ALERTS_MAX = 1_000;
const PAGE = 200;

/** What the rules found, and what people did about it: as it stands now, also where that was after the report's time. */
export const alertsSection: ReportPart = async ({ store, rules }, { selection }) => {
  const { alerts, more } = await readAlerts(store.alerts, selection);
  return {
    title: 'Alerts, and what was done about them',
    for: ['NIST 800-53 AU-6 b', 'NIST 800-53 AU-6 (1)', 'PCI DSS 10.4.1.1', 'PCI DSS 10.4.3'],
    findings: [...findingsOf(alerts, more), watchText(rules())],
    tables: [alertsTable(alerts, more), handlingTable(alerts)],
  };
};

/** Alerts whose accesses lie in that time, oldest first. */
async function readAlerts(store: AlertStore, { fromNs, toNs, namespace }: Selection) {
  const chosen = {
    ...(fromNs === undefined ? {} : { fromNs }),
    ...(toNs === undefined ? {} : { toNs }),
    ...(namespace === undefined ? {} : { namespace }),
  };
  const alerts: Alert[] = [];
  let cursor: string | undefined;
  do {
    const page = await store.search(chosen, PAGE, cursor);
    alerts.push(...page.alerts);
    cursor = page.next;
  } while (cursor !== undefined && alerts.length < ALERTS_MAX);
  return { alerts: alerts.slice(0, ALERTS_MAX).toReversed(), more: cursor !== undefined || alerts.length > ALERTS_MAX };
}

function findingsOf(alerts: readonly Alert[], more: boolean): string[] {
  if (alerts.length === 0) return ['no alert was raised on accesses of that time'];
  const of = (state: Alert['state']) => alerts.filter((alert) => alert.state === state).length;
  const waits = alerts.flatMap((alert) => {
    const answer = firstAnswer(alert);
    return answer ? [Number((parseTimestamp(answer.at) ?? 0n) - (parseTimestamp(alert.raisedAt) ?? 0n))] : [];
  });
  const middle = waits.toSorted((a, b) => a - b)[Math.floor((waits.length - 1) / 2)];
  const unanswered = alerts.length - waits.length;
  return [
    `${numbered(alerts.length, 'alert')}${more ? ', the newest of more' : ''}: ${of('open')} open, ${of('acknowledged')} acknowledged, ${of('closed')} closed`,
    ...(middle === undefined
      ? []
      : [`half of those that somebody answered were answered within ${formatDuration(Math.max(0, middle))}`]),
    ...(unanswered > 0 ? [`${numbered(unanswered, 'alert')} nobody has answered yet`] : []),
  ];
}

function watchText(rules: number | undefined): string {
  if (rules === undefined) return 'rules are switched off: nothing watches for what is abnormal';
  return rules === 0
    ? 'no rule is at work: nothing watches for what is abnormal'
    : `${numbered(rules, 'rule')} at work`;
}

/** The first thing that somebody did about it. */
function firstAnswer({ history }: Alert): AlertChange | undefined {
  return history.find(({ state }) => state !== 'open');
}

function alertsTable(alerts: readonly Alert[], more: boolean): Table {
  const columns = [
    column('raised', 'Raised', 'time'),
    column('severity', 'Severity'),
    column('rule', 'Rule'),
    column('reason', 'What was found'),
    column('count', 'Accesses', 'count'),
    column('state', 'State'),
    column('id', 'Id'),
  ];
  const rows = alerts.map(({ id, raisedAt, rule, reason, count, state }) => ({
    ...{ raised: raisedAt, severity: rule.severity, rule: rule.name, reason, count, state, id: shortId(id) },
  }));
  return { ...table('Alerts', columns, rows, { empty: 'no alert was raised on accesses of that time' }), more };
}

function handlingTable(alerts: readonly Alert[]): Table {
  const columns = [
    column('at', 'When', 'time'),
    column('by', 'Who'),
    column('state', 'Did'),
    column('note', 'Note'),
    column('rule', 'Rule'),
    column('id', 'Alert'),
  ];
  const rows = alerts.flatMap(({ id, rule, history }) =>
    history.map(({ at, by, state, note = '' }) => ({
      at,
      by,
      state: deedOf(state),
      note,
      rule: rule.name,
      id: shortId(id),
    })),
  );
  return table('What was done about them', columns, rows, {
    empty: 'nobody has done anything about an alert of that time',
  });
}

/** `spantrail alerts show` takes the beginning of an id. */
function shortId(id: string): string {
  return id.slice(0, 12);
}

function deedOf(state: Alert['state']): string {
  return state === 'open' ? 'opened again' : state;
}
