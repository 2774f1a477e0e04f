import type { AuditRecord } from '../core/record.ts';

/**
 * Texts of a record in which a sender can put anything, by the names of their fields. Ids, names of services and who acted are what a
 * record is for.
 */
export const TEXTS: readonly string[] = [
  'message',
  'event.reason',
  'url.path',
  'url.query',
  'url.full',
  'http.route',
  'db.statement',
  'error.message',
  'error.stack_trace',
  'user_agent.original',
  'file.path',
  'file.name',
  'rule.name',
  'audit.target.id',
  'audit.target.name',
  'audit.entry_target',
  'audit.denied_by',
  'audit.purpose',
  'audit.change.before',
  'audit.change.after',
  'audit.checks.permission',
  'audit.checks.target',
  'audit.checks.rule',
  'audit.error_origin.name',
  'audit.error_origin.message',
  'audit.path.name',
  'audit.trace.root.name',
  'audit.trace.critical_path.name',
  'audit.db.slowest',
  'audit.join.conflicts',
];

type Test = (text: string) => boolean;

/** Does one of these texts of the record, or part of one, pass the test? By name: nearly every record is only looked at. */
export function someText(record: Partial<AuditRecord>, test: Test): boolean {
  const has = (text: string | undefined): boolean => typeof text === 'string' && test(text);
  const { event, url, http, db, error, user_agent: agent, file, rule, audit } = record;
  return (
    has(record.message) ||
    has(event?.reason) ||
    (url !== undefined && (has(url.path) || has(url.query) || has(url.full))) ||
    has(http?.route) ||
    has(db?.statement) ||
    (error !== undefined && (has(error.message) || has(error.stack_trace))) ||
    has(agent?.original) ||
    (file !== undefined && (has(file.path) || has(file.name))) ||
    has(rule?.name) ||
    (audit !== undefined && (someOfAudit(audit, has) || someOfTrace(audit, has)))
  );
}

function someOfAudit(audit: AuditRecord['audit'], has: (text: string | undefined) => boolean): boolean {
  const { target, change, checks, error_origin: origin, join } = audit;
  return (
    has(target.id) ||
    has(target.name) ||
    has(audit.entry_target) ||
    has(audit.denied_by) ||
    has(audit.purpose) ||
    (change !== undefined && (has(change.before) || has(change.after))) ||
    (origin !== undefined && (has(origin.name) || has(origin.message))) ||
    (checks?.some(({ permission, target: of, rule }) => has(permission) || has(of) || has(rule)) ?? false) ||
    (join.conflicts?.some(has) ?? false)
  );
}

function someOfTrace({ trace, path, db }: AuditRecord['audit'], has: (text: string | undefined) => boolean): boolean {
  if (path !== undefined) for (const { name } of path) if (has(name)) return true;
  if (trace?.critical_path !== undefined) for (const { name } of trace.critical_path) if (has(name)) return true;
  return has(trace?.root?.name) || has(db?.slowest);
}
