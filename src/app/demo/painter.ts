import type { Alert } from '../../core/alert.ts';
import type { AuditRecord } from '../../core/record.ts';

/** Turns records into lines for the terminal. */
export interface Painter {
  line(record: AuditRecord): string;
  /** The answers of one record: who, what, to what, outcome, why, how long, where it went wrong, by which path. */
  card(title: string, record: AuditRecord): string;
  alert(alert: Alert): string;
  check(found: boolean, title: string): string;
}

const RED = 31;
const GREEN = 32;
const YELLOW = 33;
const BOLD = 1;
const DIM = 2;

export function createPainter(colours: boolean): Painter {
  const paint = (code: number, text: string) => (colours ? `\u001b[${code}m${text}\u001b[0m` : text);
  const mark = ({ event, audit }: AuditRecord) =>
    audit.decision === 'deny'
      ? paint(RED, 'refused')
      : event.outcome === 'failure'
        ? paint(YELLOW, 'failed ')
        : paint(GREEN, 'ok     ');
  const row = (name: string, text: string | undefined) => `    ${paint(DIM, name.padEnd(13))}${text ?? '-'}`;
  return {
    line: (record) => `  ${paint(DIM, record['@timestamp'].slice(11, 23))}  ${mark(record)}  ${record.message}`,
    card: (title, record) =>
      [
        `  ${paint(BOLD, title)}`,
        `    ${record.message}`,
        row('actor', actorText(record)),
        row('action', record.event.action),
        row('target', `${record.audit.target.id} (${record.audit.target.name ?? record.audit.target.type})`),
        row('outcome', `${record.event.outcome}, ${record.audit.decision}`),
        row('reason', record.event.reason),
        row('duration', `${milliseconds(record.event.duration)}${databaseText(record)}`),
        row('error origin', originText(record)),
        row('path', pathText(record)),
        row('record', record.event.id),
        '',
      ].join('\n'),
    alert: ({ id, rule, reason }) =>
      `  ${paint(rule.severity === 'low' ? DIM : rule.severity === 'medium' ? YELLOW : RED, rule.severity.padEnd(8))}  ${reason}  ${paint(DIM, id.slice(0, 12))}`,
    check: (found, title) => `  ${found ? paint(GREEN, 'there  ') : paint(RED, 'missing')}  ${title}`,
  };
}

function actorText({ user, audit }: AuditRecord): string {
  const roles = user?.roles === undefined ? '' : ` [${user.roles.join(', ')}]`;
  return `${user?.id ?? 'nobody known'}${roles}, a ${audit.actor.type} known by ${audit.actor.attribution}`;
}

function milliseconds(nanoseconds: number): string {
  return `${(nanoseconds / 1e6).toFixed(1)} ms`;
}

function databaseText({ audit }: AuditRecord): string {
  if (audit.db === undefined) return '';
  return `, ${milliseconds(audit.db.duration)} of it in the database: ${audit.db.slowest}`;
}

function originText({ audit }: AuditRecord): string | undefined {
  const origin = audit.error_origin;
  if (origin === undefined) return undefined;
  return `${origin.service} ${origin.name}: ${[origin.type, origin.message].filter(Boolean).join(': ')}`;
}

function pathText({ audit }: AuditRecord): string {
  return (audit.path ?? []).map((step) => `${step.service} ${step.name} ${milliseconds(step.duration)}`).join(' > ');
}
