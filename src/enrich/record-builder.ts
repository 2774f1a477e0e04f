import type { AccessSections, Actor } from '../access/access.ts';
import { clip, compact, section } from '../access/attributes.ts';
import { formatTimestamp } from '../core/clock.ts';
import type { LogRecord, Span } from '../core/evidence.ts';
import { LIST_ITEMS_MAX, STACK_TRACE_CHARS_MAX } from '../core/limits.ts';
import { type AuditRecord, type EvidencePiece, type JoinState, type PathStep, SCHEMA_VERSION } from '../core/record.ts';
import type { SettledRecord } from '../core/settlement.ts';
import { criticalPath, selfTime } from './critical-path.ts';
import { originSection } from './error-origin.ts';
import type { Finding } from './findings.ts';
import { pathIndexes, pathSteps } from './path.ts';
import { describeAccess } from './sentence.ts';
import { type AccessTimes, timesOf } from './times.ts';
import type { TraceFacts } from './trace-facts.ts';
import { NONE } from './trace-tree.ts';
import { serviceName, whereSections } from './where.ts';
import { failureAt, isFailed, type Origin, originOf, type Why, whyOf } from './why.ts';

export interface EnrichSettings {
  /** Address of a trace in another tool, with `${trace_id}` and `${span_id}`; empty for none. */
  readonly traceUrlTemplate: string;
}

/** What was found out about an access with an eye on the whole trace. */
interface AccessContext {
  readonly actor: Actor;
  /** Where the request came from, as its outermost server saw it. */
  readonly source: Pick<AccessSections, 'source' | 'user_agent'>;
  /** How many other contents of its span were sent. */
  readonly rivals: number;
}

/** All that one record is made of. */
interface Parts extends AccessContext {
  readonly facts: TraceFacts;
  readonly finding: Finding;
  readonly times: AccessTimes;
  readonly origin: Origin | undefined;
  readonly why: Why;
}

function eventSection({ finding, times, why }: Parts): AuditRecord['event'] {
  const { access } = finding;
  const decided = { allow: 'allowed', deny: 'denied', none: undefined }[access.decision];
  const types = access.type.filter((type) => decided === undefined || (type !== 'allowed' && type !== 'denied'));
  const ingestedNs = finding.pieces.reduce(
    (first, piece) => (piece.note.receivedNs < first ? piece.note.receivedNs : first),
    access.from.note.receivedNs,
  );
  const end = formatTimestamp(times.endNs);
  return {
    id: finding.id,
    action: access.action,
    category: [...access.category],
    type: decided === undefined ? types : [...types, decided],
    kind: access.kind,
    outcome: access.outcome,
    ...(why.reason !== undefined && { reason: why.reason }),
    start: formatTimestamp(times.startNs),
    end,
    created: times.createdNs === times.endNs ? end : formatTimestamp(times.createdNs),
    ingested: formatTimestamp(ingestedNs),
    duration: times.duration,
  };
}

function userSection({ identity }: Actor, login: { id?: string; name?: string } | undefined): AuditRecord['user'] {
  return section({
    id: identity.id,
    name: identity.name,
    email: identity.email,
    roles: identity.roles && [...identity.roles],
    group: identity.group === undefined ? undefined : { name: identity.group },
    domain: identity.domain,
    effective: identity.effective ?? login,
  });
}

function actorSection(actor: Actor): AuditRecord['audit']['actor'] {
  const { type, attribution, verified, claimed, identity } = actor;
  return compact({ type, attribution, verified, relation: identity.relation, claimed });
}

function idSections({ facts, finding }: Parts): Pick<AuditRecord, 'trace' | 'span' | 'parent' | 'transaction'> {
  const { tree, traceId } = facts;
  const span = tree.spans[finding.index];
  const top = tree.spans[tree.top[finding.index] ?? NONE];
  const transaction = top && tree.rooted[finding.index] === 1 ? { id: top.spanId } : undefined;
  return compact({
    trace: traceId === '' ? undefined : { id: traceId },
    span: finding.access.spanId === '' ? undefined : { id: finding.access.spanId },
    parent: span && span.parentSpanId !== '' ? { id: span.parentSpanId } : undefined,
    transaction,
  });
}

function errorSection({ facts, finding }: Parts): AuditRecord['error'] {
  if (!isFailed(finding)) return undefined;
  const ofSpan = finding.standsForSpan && finding.index !== NONE ? failureAt(facts, finding.index) : undefined;
  const { type, message, stack } = { ...ofSpan, ...finding.access.error };
  return section({ type, message, stack_trace: stack });
}

function relatedSection(
  record: Pick<AuditRecord, 'user' | 'source' | 'host'>,
  claimed: string | undefined,
): AuditRecord['related'] {
  const { user, source, host } = record;
  const names = [user?.id, user?.name, user?.email, user?.effective?.id, user?.effective?.name, claimed];
  const users = [...new Set(names.filter((name) => name !== undefined))];
  return section({
    user: users.length > 0 ? users : undefined,
    ip: source?.ip === undefined ? undefined : [source.ip],
    hosts: host === undefined ? undefined : [host.name],
  });
}

function stateOf({ traceId, tree }: TraceFacts, finding: Finding): JoinState {
  if (traceId === '') return 'out_of_band';
  if (tree.spans.length === 0) return 'unsampled';
  const isLost = finding.index === NONE ? finding.access.spanId !== '' : tree.rooted[finding.index] === 0;
  if (isLost) return 'orphan';
  return tree.roots === 1 && tree.cut.length === 0 && tree.missingParents === 0 ? 'complete' : 'partial';
}

function conflictsOf({ facts, finding, times, rivals }: Parts): string[] | undefined {
  const { tree } = facts;
  const conflicts = [...finding.conflicts, ...times.conflicts];
  if (rivals > 0) conflicts.push(`span ${finding.access.spanId} came in ${rivals + 1} versions`);
  const top = tree.spans[tree.top[finding.index] ?? NONE];
  if (top && top.parentSpanId !== '' && tree.rooted[finding.index] === 1) {
    conflicts.push(`span ${top.spanId} is its own ancestor; its parent link was cut`);
  }
  return conflicts.length > 0 ? conflicts.slice(0, LIST_ITEMS_MAX) : undefined;
}

function traceUrl(template: string, traceId: string, spanId: string): string | undefined {
  if (template === '') return undefined;
  return template.replaceAll('${trace_id}', traceId).replaceAll('${span_id}', spanId);
}

function traceSection({ facts, finding }: Parts, settings: EnrichSettings): AuditRecord['audit']['trace'] {
  const { tree, timeline } = facts;
  if (tree.spans.length === 0) return undefined;
  const root = tree.spans[tree.root];
  const ownsSpan = finding.standsForSpan && finding.index !== NONE;
  const isEntry = !facts.entries.has(finding);
  return compact({
    root: root && compact({ service: serviceName(root.resource), name: root.name }),
    duration: facts.duration,
    span_count: tree.spans.length,
    error_count: facts.errorCount,
    services: [...facts.services],
    self_time: ownsSpan ? selfTime(tree, timeline, finding.index) : undefined,
    critical_path: ownsSpan && isEntry ? criticalPath(tree, timeline, finding.index) : undefined,
    url: traceUrl(settings.traceUrlTemplate, facts.traceId, finding.access.spanId),
  });
}

function pathSection({ facts, finding, origin }: Parts): PathStep[] | undefined {
  if (finding.index === NONE) return undefined;
  const indexes = pathIndexes(facts.tree, facts.heads, origin?.index ?? finding.index);
  return pathSteps(facts.tree, facts.timeline, facts.verdicts, indexes);
}

function databaseSection({ facts, finding }: Parts): AuditRecord['audit']['db'] {
  const count = facts.databaseWork.count[finding.index] ?? 0;
  if (count === 0 || !finding.standsForSpan) return undefined;
  const slowest = facts.standing[facts.databaseWork.slowest[finding.index] ?? NONE]?.access;
  return compact({
    count,
    duration: Math.min(facts.databaseWork.duration[finding.index] ?? 0, Number.MAX_SAFE_INTEGER),
    slowest: slowest && (slowest.sections.db?.statement ?? slowest.target.name ?? slowest.target.id),
  });
}

/** What the record rests on: what states the access, what explains its failure, what names its actor. */
function evidenceOf({ facts, finding, origin, actor }: Parts): EvidencePiece[] {
  const pieces = [...finding.evidence];
  const add = (piece: Span | LogRecord, source: string): void => {
    const isSpan = 'kind' in piece;
    const id = isSpan ? piece.spanId : facts.logIds.get(piece);
    if (id === undefined || pieces.some((known) => known.id === id)) return;
    pieces.push({ signal: isSpan ? 'traces' : 'logs', source, sender: piece.note.sender, id });
  };
  if (origin) add(origin.span, origin.finding?.access.preset ?? 'span');
  if (origin?.failure.reported) add(origin.failure.reported, 'log.exception');
  for (const { by, as } of actor.named) add(by, `actor.${as}`);
  return pieces.slice(0, LIST_ITEMS_MAX);
}

function auditSection(parts: Parts, settings: EnrichSettings): AuditRecord['audit'] {
  const { facts, finding, actor, origin, why } = parts;
  const { access } = finding;
  const entry = facts.entries.get(finding);
  const checks = [...(access.checks ?? []), ...(facts.checksBelow.get(finding) ?? [])].slice(0, LIST_ITEMS_MAX);
  return compact({
    schema_version: SCHEMA_VERSION,
    entry: entry === undefined,
    entry_id: entry?.id,
    entry_action: entry?.access.action,
    entry_target: entry?.access.target.id,
    actor: actorSection(actor),
    target: { ...access.target },
    decision: access.decision,
    why: { source: why.source },
    denied_by: why.deniedBy,
    checks: checks.length > 0 ? checks : undefined,
    purpose: access.purpose,
    change: access.change && { ...access.change },
    trace: traceSection(parts, settings),
    error_origin: origin && originSection(origin.span, origin.failure),
    path: pathSection(parts),
    db: databaseSection(parts),
    join: compact({
      state: stateOf(facts, finding),
      spans: facts.tree.spans.length,
      missing_parents: facts.tree.missingParents,
      orphans: facts.tree.orphans,
      conflicts: conflictsOf(parts),
      // How and when it came to this settle is stamped on by those who know.
      reason: facts.traceId === '' ? ('untraced' as const) : ('complete' as const),
      late: false,
    }),
    revision: 1,
    evidence: evidenceOf(parts),
  });
}

/** Cuts every text of a record to what stores take. */
function clipTexts<T>(value: T, key = ''): T {
  if (typeof value === 'string') return clip(value, key === 'stack_trace' ? STACK_TRACE_CHARS_MAX : undefined) as T;
  if (typeof value !== 'object' || value === null) return value;
  const holder = value as Record<string, unknown>;
  for (const name of Object.keys(holder)) {
    const child = holder[name];
    const clipped = clipTexts(child, name);
    if (clipped !== child) holder[name] = clipped;
  }
  return value;
}

/** The record of one access. */
export function buildRecord(
  facts: TraceFacts,
  finding: Finding,
  settings: EnrichSettings,
  context: AccessContext,
): SettledRecord {
  const origin = originOf(facts, finding);
  const times = timesOf(finding.access, facts.tree.baseNs);
  const parts: Parts = { ...context, facts, finding, times, origin, why: whyOf(facts, finding, origin) };
  const { access } = finding;
  const sections = { ...access.sections, ...context.source };
  const span = facts.tree.spans[finding.index];
  const event = eventSection(parts);
  const user = userSection(context.actor, access.effective);
  const where = { ...(span && whereSections(span.resource)), ...whereSections(access.from.resource) };
  const body: Omit<AuditRecord, 'message'> = compact({
    '@timestamp': event.start,
    data_stream: { namespace: facts.namespace },
    event,
    user,
    rule: parts.why.rule && { ...parts.why.rule },
    ...sections,
    ...where,
    ...idSections(parts),
    error: errorSection(parts),
    related: relatedSection(compact({ user, source: sections.source, ...where }), context.actor.claimed),
    audit: auditSection(parts, settings),
  });
  const clipped = clipTexts(body);
  const { '@timestamp': timestamp, ...rest } = clipped;
  const record: AuditRecord = { '@timestamp': timestamp, message: clip(describeAccess(clipped)), ...rest };
  return { id: finding.id, timestampNs: times.startNs, record };
}
