import { compact } from '../access/attributes.ts';
import { headline } from '../access/draft.ts';
import { type LogRecord, SPAN_KIND, type Span } from '../core/evidence.ts';
import { LIST_ITEMS_MAX } from '../core/limits.ts';
import type { AuditRecord, WhySource } from '../core/record.ts';
import { answerOf, withoutStatus } from './answer.ts';
import type { FoundCheck } from './checks.ts';
import { type Failure, failureOf } from './error-origin.ts';
import type { Finding } from './findings.ts';
import { withoutSecrets } from './redact.ts';
import type { TraceFacts } from './trace-facts.ts';
import { NONE } from './trace-tree.ts';
import { serviceName } from './where.ts';

/** Why an access ended as it did, and who refused it. */
export interface Why {
  readonly reason?: string;
  readonly source: WhySource;
  readonly rule?: NonNullable<AuditRecord['rule']>;
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
  const { loneFailure, logsBySpan } = facts;
  const logs = logsBySpan.get(span.spanId) ?? [];
  const all = loneFailure?.index === index ? [...logs, ...loneFailure.logs] : logs;
  return { ...withoutSecrets(failureOf(span, all), facts.isSecret), ...facts.standing[index]?.access.error };
}

/** Events that share a span have none: which of them the spans below belong to cannot be known. */
export function originOf(facts: TraceFacts, finding: Finding): Origin | undefined {
  if (finding.index === NONE || !finding.standsForSpan || !isFailed(finding)) return undefined;
  const index = facts.origins[finding.index] ?? NONE;
  const span = facts.tree.spans[index];
  return span && { index, span, failure: failureAt(facts, index), finding: facts.standing[index] };
}

function nameOf(span: Span): string {
  return [serviceName(span.resource), span.name].filter(Boolean).join('/');
}

/**
 * The explanation of a failed span that its own status lacks: an exception logged for it, or what its caller was told, which is
 * all that gRPC hands over to tracing on many servers.
 */
function toldBeside(facts: TraceFacts, finding: Finding): { readonly text: string; readonly by?: Span } | undefined {
  const { access, index, standsForSpan } = finding;
  if (access.error?.message || access.source !== 'span' || !standsForSpan) return undefined;
  const logged = headline(failureAt(facts, index).message);
  if (logged !== undefined) return { text: logged };
  if (access.preset !== 'rpc.server') return undefined;
  const above = facts.tree.parent[index] ?? NONE;
  const caller = facts.tree.spans[above];
  if (caller?.kind !== SPAN_KIND.client || (access.from.note.trusted && !caller.note.trusted)) return undefined;
  const text = withoutStatus(headline(failureAt(facts, above).message));
  return text === undefined ? undefined : { text, by: caller };
}

/** The caller's span that explains why an access ended as it did, where only that one was told. */
function tellingCaller(facts: TraceFacts, finding: Finding): Span | undefined {
  if (!isFailed(finding) || finding.access.whySource === 'rule' || finding.access.whySource === 'check')
    return undefined;
  return toldBeside(facts, finding)?.by;
}

/** The reason that the evidence of an access gives itself, and who refused it: a check that it states, a rule, else the place. */
function ownWhy(facts: TraceFacts, finding: Finding): Why {
  const { access } = finding;
  const { reason, rule, whySource } = access;
  if (!isFailed(finding)) {
    if (reason === undefined && rule === undefined) return { source: whySource };
    return { source: whySource, ...(reason === undefined ? undefined : { reason }), ...(rule && { rule }) };
  }
  const check = access.checks?.find(({ granted }) => !granted);
  const span = facts.tree.spans[finding.index];
  const place = (span && nameOf(span)) ?? serviceName(access.from.resource) ?? access.target.service;
  const deniedBy = check?.rule ?? check?.permission ?? rule?.name ?? rule?.id ?? place;
  return compact({
    reason: ownReason(facts, finding),
    source: whySource,
    rule,
    deniedBy: access.decision === 'deny' ? deniedBy : undefined,
  });
}

function ownReason(facts: TraceFacts, finding: Finding): string | undefined {
  const { reason, whySource, source, decision, error } = finding.access;
  if (whySource === 'rule' || whySource === 'check') return reason;
  const told = toldBeside(facts, finding)?.text;
  if (told !== undefined) return reason === undefined ? told : `${reason}: ${told}`;
  // A bare status says that it was refused and no more; that nobody told why is worth saying.
  const isBare = source === 'span' && decision === 'deny' && !error?.message;
  return reason && isBare ? `${reason}; no rule in evidence` : reason;
}

/** The reason of a check that was not granted: what the event that states it says, else the engine, else what was asked. */
function whyOfCheck(facts: TraceFacts, { check, reason, index, stated }: FoundCheck): Why {
  const own = stated && ownWhy(facts, stated);
  const what = [check.permission, check.target && `on ${check.target}`].filter(Boolean).join(' ') || 'a check';
  const by = [check.engine?.replaceAll('_', ' '), check.rule].filter(Boolean).join(' ');
  const sentence = `${what} was not granted${check.engine && by ? ` by ${by}` : ''}`;
  const span = facts.tree.spans[index];
  return compact({
    reason: own?.reason ?? (reason === undefined ? sentence : `${sentence}: ${reason}`),
    source: 'check' as const,
    rule: own?.rule ?? (check.rule !== undefined && check.engine !== undefined ? { name: check.rule } : undefined),
    deniedBy: check.rule ?? check.permission ?? stated?.access.target.service ?? (span && nameOf(span)) ?? check.engine,
  });
}

/**
 * The reason of the failing span below the access, be it the call of a service that sends no evidence itself; undefined when it
 * gives none, or none that explains a refusal.
 */
function whyOfOrigin(facts: TraceFacts, finding: Finding, origin: Origin): Why | undefined {
  if (origin.index === finding.index) return undefined;
  const below = origin.finding && ownWhy(facts, origin.finding);
  const answer = origin.finding === undefined ? answerOf(origin.span, origin.failure.message) : undefined;
  const isRefusal = finding.access.decision === 'deny';
  if (isRefusal && origin.finding?.access.decision !== 'deny' && !answer?.isRefusal) return undefined;
  const reason = below?.reason ?? answer?.reason ?? origin.failure.message;
  const bare = origin.failure.type;
  if (!reason && (!bare || toldBeside(facts, finding) !== undefined)) return undefined;
  const source: WhySource = below && below.source !== 'none' ? below.source : 'status';
  return compact({
    reason: (reason || bare)?.split('\n', 1)[0],
    source,
    rule: below?.rule,
    deniedBy: isRefusal ? (below?.deniedBy ?? answer?.from ?? nameOf(origin.span)) : undefined,
  });
}

/**
 * Why: what a rule or check of the access itself says; for a refusal the check below that refused; the failing span
 * below; an event beside it that tells of a refusal; else what the status says.
 */
export function whyOf(facts: TraceFacts, finding: Finding, origin: Origin | undefined): Why {
  const own = ownWhy(facts, finding);
  if (!isFailed(finding) || own.source === 'rule' || own.source === 'check') return own;
  const check = facts.checks.refusing(finding);
  if (check !== undefined) return whyOfCheck(facts, check);
  const refusal = finding.access.decision === 'deny' ? facts.refusals.get(finding) : undefined;
  return (origin && whyOfOrigin(facts, finding, origin)) ?? (refusal ? ownWhy(facts, refusal) : own);
}

/** A piece of evidence that explains an access without stating it, with what read it. */
export interface Explaining {
  readonly piece: Span | LogRecord;
  readonly source: string;
}

const NOTHING: readonly Explaining[] = [];

/** What the checks of an access rest on, and the caller's span that tells why it was refused. */
export function explainingPieces(
  facts: TraceFacts,
  finding: Finding,
  origin: Origin | undefined,
): readonly Explaining[] {
  const checks = facts.checks.of(finding);
  if (checks.length === 0 && !isFailed(finding)) return NOTHING;
  const pieces = checks.flatMap((found) => found.pieces);
  for (const at of [finding, origin?.finding]) {
    const caller = at && tellingCaller(facts, at);
    if (caller !== undefined) pieces.push({ piece: caller, source: 'rpc.client' });
  }
  return pieces.slice(0, LIST_ITEMS_MAX);
}
