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

/**
 * Does one of these texts of the record, or part of one, pass the test? By name: nearly every record is only looked at. `often` is the
 * same test for texts that many records have alike: names, routes, statements without literals.
 */
export function someText(record: Partial<AuditRecord>, test: Test, often: Test = test): boolean {
  const has = (text: string | undefined): boolean => text !== undefined && test(text);
  const hasOften = (text: string | undefined): boolean => text !== undefined && often(text);
  const { event, url, http, db, error, user_agent: agent, file, rule, audit } = record;
  return (
    has(record.message) ||
    has(event?.reason) ||
    (url !== undefined && (has(url.path) || has(url.query) || has(url.full))) ||
    hasOften(http?.route) ||
    hasOften(db?.statement) ||
    (error !== undefined && (has(error.message) || has(error.stack_trace))) ||
    hasOften(agent?.original) ||
    (file !== undefined && (has(file.path) || has(file.name))) ||
    hasOften(rule?.name) ||
    (audit !== undefined && (someOfAudit(audit, has) || someOfTrace(audit, hasOften)))
  );
}

/** Asked for each text, also for those that a record does not have. */
type Asked = (text: string | undefined) => boolean;

function someOfAudit(audit: AuditRecord['audit'], has: Asked): boolean {
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

function someOfTrace({ trace, path, db }: AuditRecord['audit'], has: Asked): boolean {
  const critical = trace?.critical_path;
  return someName(path, has) || someName(critical, has) || has(trace?.root?.name) || has(db?.slowest);
}

function someName(steps: readonly { readonly name: string }[] | undefined, has: Asked): boolean {
  if (steps === undefined) return false;
  for (let at = 0; at < steps.length; at += 1) if (has(steps[at]?.name)) return true;
  return false;
}
