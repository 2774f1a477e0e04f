import type { Span } from '../core/evidence.ts';
import type { AuditRecord, Check, WhySource } from '../core/record.ts';
import { type Failure, failureOf } from './error-origin.ts';
import type { Finding } from './findings.ts';
import type { TraceFacts } from './trace-facts.ts';
import { NONE } from './trace-tree.ts';
import { serviceName } from './where.ts';

/** Why an access ended as it did, and who refused it. */
export interface Why {
  readonly reason?: string;
  readonly source: WhySource;
  readonly rule?: AuditRecord['rule'];
  readonly deniedBy?: string;
}

/** The failing span that explains a failed access. */
export interface Origin {
  readonly index: number;
  readonly span: Span;
  readonly failure: Failure;
  readonly finding: Finding | undefined;
}

export function isFailed(finding: Finding): boolean {
  return finding.access.outcome === 'failure' || finding.access.decision === 'deny';
}

/** What went wrong in one span: what its access says, filled from exceptions that were logged for it. */
export function failureAt(facts: TraceFacts, index: number): Failure {
  const span = facts.tree.spans[index];
  if (span === undefined) return {};
  return { ...failureOf(span, facts.logsBySpan.get(span.spanId) ?? []), ...facts.standing[index]?.access.error };
}

/** Events that share a span have none: which of them the spans below belong to cannot be known. */
export function originOf(facts: TraceFacts, finding: Finding): Origin | undefined {
  if (finding.index === NONE || !finding.standsForSpan || !isFailed(finding)) return undefined;
  const index = facts.origins[finding.index] ?? NONE;
  const span = facts.tree.spans[index];
  return span && { index, span, failure: failureAt(facts, index), finding: facts.standing[index] };
}

function refusingCheck(checks: readonly Check[] | undefined): Check | undefined {
  return checks?.find((check) => !check.granted);
}

function checkName(check: Check | undefined): string | undefined {
  return check?.rule ?? check?.permission;
}

function placeOf(span: Span): string {
  return [serviceName(span.resource), span.name].filter(Boolean).join('/');
}

/** The reason that an event or span gives itself, and for a refusal the one who refused: a check, a rule, else the place. */
function ownWhy(facts: TraceFacts, finding: Finding): Why {
  const { access } = finding;
  const { reason, rule, whySource } = access;
  const span = facts.tree.spans[finding.index];
  const place = (span && placeOf(span)) ?? serviceName(access.from.resource) ?? access.target.service;
  const deniedBy = checkName(refusingCheck(access.checks)) ?? rule?.name ?? rule?.id ?? place;
  // A bare status says that it was refused and no more; that nobody told why is worth saying.
  const isBare = access.decision === 'deny' && whySource !== 'rule' && whySource !== 'check' && !access.error?.message;
  const said = access.source === 'span' && isBare && reason ? `${reason}; no rule in evidence` : reason;
  return {
    ...(said !== undefined && { reason: said }),
    source: whySource,
    ...(rule && { rule }),
    ...(access.decision === 'deny' && deniedBy && { deniedBy }),
  };
}

/** The reason of a refused check below the access. */
function whyOfCheck(refusal: Finding): Why {
  const check = refusingCheck(refusal.access.checks);
  const what = [check?.permission, check?.target && `on ${check.target}`].filter(Boolean).join(' ') || 'a check';
  const deniedBy = checkName(check) ?? refusal.access.target.service;
  return {
    reason: refusal.access.reason ?? `${what} was not granted`,
    source: 'check',
    ...(refusal.access.rule && { rule: refusal.access.rule }),
    ...(deniedBy && { deniedBy }),
  };
}

/** The reason of the failing span below the access; undefined when it gives none, or none that explains a refusal. */
function whyOfOrigin(finding: Finding, origin: Origin): Why | undefined {
  const below = origin.finding?.access;
  const isRefusal = finding.access.decision === 'deny';
  if (origin.index === finding.index || (isRefusal && below?.decision !== 'deny')) return undefined;
  const reason = below?.reason ?? origin.failure.message ?? origin.failure.type;
  if (reason === undefined) return undefined;
  return {
    reason: reason.split('\n', 1)[0] ?? reason,
    source: below && below.whySource !== 'none' ? below.whySource : 'status',
    ...(below?.rule && { rule: below.rule }),
    ...(isRefusal && { deniedBy: placeOf(origin.span) }),
  };
}

/** Why: what a rule or check of the access itself says; for a refusal the check below that refused; the failing span below. */
export function whyOf(facts: TraceFacts, finding: Finding, origin: Origin | undefined): Why {
  const own = ownWhy(facts, finding);
  if (!isFailed(finding) || own.source === 'rule' || own.source === 'check') return own;
  const refusal = finding.access.decision === 'deny' ? facts.refusals.get(finding) : undefined;
  if (refusal !== undefined) return whyOfCheck(refusal);
  return (origin && whyOfOrigin(finding, origin)) ?? own;
}
