import type { Access, AccessSections, AccessTarget, Actor, Identity } from '../access/access.ts';
import { clip, section } from '../access/attributes.ts';
import { formatTimestamp } from '../core/clock.ts';
import type { LogRecord, Span } from '../core/evidence.ts';
import { LIST_ITEMS_MAX, STACK_TRACE_CHARS_MAX } from '../core/limits.ts';
import {
  type AuditRecord,
  type Check,
  type EvidencePiece,
  type JoinState,
  type PathStep,
  SCHEMA_VERSION,
} from '../core/record.ts';
import type { SettledRecord } from '../core/settlement.ts';
import type { FoundCheck } from './checks.ts';
import { criticalPath, selfTime } from './critical-path.ts';
import { originSection } from './error-origin.ts';
import type { Finding } from './findings.ts';
import { pathIndexes } from './path.ts';
import { describeAccess } from './sentence.ts';
import { isOutOfBand, weakestTie } from './testimony.ts';
import { type AccessTimes, timesOf } from './times.ts';
import type { TraceFacts } from './trace-facts.ts';
import { NONE } from './trace-tree.ts';
import { placeOf } from './where.ts';
import { type Explaining, failureAt, isFailed, type Origin, originOf, type Why, whyOf } from './why.ts';

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
  /** What its checks rest on, and what else explains its end. */
  readonly explaining: readonly Explaining[];
}

/** All that one record is made of. */
interface Parts extends AccessContext {
  readonly facts: TraceFacts;
  readonly finding: Finding;
  readonly times: AccessTimes;
  readonly origin: Origin | undefined;
  readonly why: Why;
  /** The check for which it was refused. */
  readonly refusing: FoundCheck | undefined;
}

function eventSection({ finding, times, why }: Parts): AuditRecord['event'] {
  const { access } = finding;
  let ingestedNs = access.from.note.receivedNs;
  for (const { note } of finding.pieces) if (note.receivedNs < ingestedNs) ingestedNs = note.receivedNs;
  const { id } = finding;
  const { kind, outcome } = access;
  const category = [...access.category];
  const action = clip(access.action);
  const event = { id, action, category, type: typesOf(access), kind, outcome } as AuditRecord['event'];
  if (why.reason !== undefined) event.reason = clip(why.reason);
  const end = formatTimestamp(times.endNs);
  event.start = times.endNs === times.startNs ? end : formatTimestamp(times.startNs);
  event.end = end;
  event.created = times.createdNs === times.endNs ? end : formatTimestamp(times.createdNs);
  event.ingested = receivedText(ingestedNs);
  event.duration = times.duration;
  return event;
}

/** Spans of one request were received at one time. */
let received = { atNs: 0n, text: formatTimestamp(0n) };

function receivedText(atNs: bigint): string {
  if (received.atNs !== atNs) received = { atNs, text: formatTimestamp(atNs) };
  return received.text;
}

/** The event types with what the decision says, which may be another than the one they were given with. */
function typesOf({ type, decision }: Access): string[] {
  if (decision === 'none') return [...type];
  const others = type.filter((name) => name !== 'allowed' && name !== 'denied');
  return [...others, decision === 'deny' ? 'denied' : 'allowed'];
}

function userSection({ identity }: Actor, login: Identity['effective']): AuditRecord['user'] {
  const { id, name, email, roles, group, domain, effective = login } = identity;
  const user: NonNullable<AuditRecord['user']> = {};
  if (id !== undefined) user.id = clip(id);
  if (name !== undefined) user.name = clip(name);
  if (email !== undefined) user.email = email;
  if (roles) user.roles = [...roles];
  if (group !== undefined) user.group = { name: group };
  if (domain !== undefined) user.domain = domain;
  if (effective) user.effective = { ...effective };
  return id !== undefined || name !== undefined || email !== undefined || effective ? user : undefined;
}

function actorSection({ type, attribution, verified, claimed, identity }: Actor): AuditRecord['audit']['actor'] {
  const actor: AuditRecord['audit']['actor'] = { type, attribution, verified };
  if (identity.relation !== undefined) actor.relation = identity.relation;
  if (claimed !== undefined) actor.claimed = clip(claimed);
  return actor;
}

function addIds(record: AuditRecord, { facts, finding }: Parts): void {
  const { tree, traceId } = facts;
  const span = tree.spans[finding.index];
  const top = tree.spans[tree.top[finding.index] ?? NONE];
  if (traceId !== '') record.trace = { id: traceId };
  if (finding.access.spanId !== '') record.span = { id: finding.access.spanId };
  if (span && span.parentSpanId !== '') record.parent = { id: span.parentSpanId };
  if (top && tree.rooted[finding.index] === 1) {
    record.transaction = { id: facts.beyond?.rootOf.get(top.spanId) ?? top.spanId };
  }
}

function errorSection({ facts, finding }: Parts): AuditRecord['error'] {
  if (!isFailed(finding)) return undefined;
  const ofSpan = finding.standsForSpan && finding.index !== NONE ? failureAt(facts, finding.index) : undefined;
  const { type, message, stack } = { ...ofSpan, ...finding.access.error };
  return section({
    type: type && clip(type),
    message: message && clip(message),
    stack_trace: stack && clip(stack, STACK_TRACE_CHARS_MAX),
  });
}

function relatedSection({ user, source, host }: AuditRecord, claimed: string | undefined): AuditRecord['related'] {
  const users: string[] = [];
  const add = (name: string | undefined): void => {
    if (name !== undefined && !users.includes(name)) users.push(name);
  };
  if (user) {
    add(user.id);
    add(user.name);
    add(user.email);
    add(user.effective?.id);
    add(user.effective?.name);
  }
  if (claimed !== undefined) add(clip(claimed));
  const related: NonNullable<AuditRecord['related']> = {};
  if (users.length > 0) related.user = users;
  if (source?.ip !== undefined) related.ip = [source.ip];
  if (host) related.hosts = [host.name];
  return users.length > 0 || related.ip || host ? related : undefined;
}

function stateOf({ traceId, tree, spanCount, beyond }: TraceFacts, finding: Finding): JoinState {
  const witnessOf = finding.index === NONE ? undefined : finding.index;
  if (isOutOfBand(finding.access, traceId, witnessOf)) return 'out_of_band';
  // It names no trace, so that nothing of it can be missing.
  if (traceId === '') return 'complete';
  if (spanCount === 0) return 'unsampled';
  const { spanId } = finding.access;
  const isLost =
    finding.index === NONE ? spanId !== '' && !beyond?.named.has(spanId) : tree.rooted[finding.index] === 0;
  if (isLost) return 'orphan';
  // Accesses without a record, or paths with gaps, though all of it came.
  if (beyond !== undefined && beyond.accesses + beyond.ways > 0) return 'partial';
  return tree.roots === 1 && (beyond?.cuts ?? tree.cut.length) === 0 && tree.missingParents === 0
    ? 'complete'
    : 'partial';
}

function conflictsOf({ facts, finding, times, rivals }: Parts): string[] | undefined {
  const { tree } = facts;
  const conflicts = [...finding.conflicts, ...times.conflicts];
  for (const piece of finding.pieces) {
    if (piece.unreadable === undefined) continue;
    const what = 'kind' in piece ? `span ${piece.spanId}` : 'the event';
    conflicts.push(`${piece.unreadable} attributes or other parts of ${what} cannot be decoded and are left out`);
  }
  if (rivals > 0) conflicts.push(`span ${finding.access.spanId} came in ${rivals + 1} versions`);
  const top = tree.spans[tree.top[finding.index] ?? NONE];
  const isCut = top && (tree.indexOf.has(top.parentSpanId) || facts.beyond?.rootOf.get(top.spanId) === top.spanId);
  if (isCut && tree.rooted[finding.index] === 1) {
    conflicts.push(`span ${top.spanId} is its own ancestor; its parent link was cut`);
  }
  return conflicts.length > 0 ? conflicts.slice(0, LIST_ITEMS_MAX).map((text) => clip(text)) : undefined;
}

function traceSection({ facts, finding }: Parts, settings: EnrichSettings): AuditRecord['audit']['trace'] {
  const { tree, timeline } = facts;
  if (facts.spanCount === 0) return undefined;
  const { duration, errorCount, services, root } = facts;
  const common = { duration, span_count: facts.spanCount, error_count: errorCount, services };
  const trace: NonNullable<AuditRecord['audit']['trace']> = root ? { root, ...common } : common;
  if (finding.standsForSpan && finding.index !== NONE) {
    trace.self_time = selfTime(tree, timeline, finding.index);
    if (!facts.entries.has(finding)) trace.critical_path = criticalPath(tree, timeline, finding.index);
  }
  if (settings.traceUrlTemplate !== '') trace.url = traceUrl(settings.traceUrlTemplate, facts.traceId, finding);
  return trace;
}

function traceUrl(template: string, traceId: string, { access }: Finding): string {
  return clip(template.replaceAll('${trace_id}', traceId).replaceAll('${span_id}', access.spanId));
}

function pathSection(parts: Parts): PathStep[] | undefined {
  const { facts, finding } = parts;
  if (finding.index === NONE) return undefined;
  const indexes = pathIndexes(facts.tree, facts.heads, endOf(parts));
  return indexes.map((index) => facts.stepAt(index));
}

/** Where the path of an access ends: at the check that refused it, else where what failed it did. */
function endOf({ facts, finding, origin, refusing }: Parts): number {
  const at = refusing?.index ?? NONE;
  // The check of another branch may explain it, too: the path leads from the root to the access and on.
  for (let above = at; above !== NONE; above = facts.tree.parent[above] ?? NONE) if (above === finding.index) return at;
  return origin?.index ?? finding.index;
}

function databaseSection({ facts, finding }: Parts): AuditRecord['audit']['db'] {
  const count = facts.databaseWork.count[finding.index] ?? 0;
  if (count === 0 || !finding.standsForSpan) return undefined;
  const slowest = facts.standing[facts.databaseWork.slowest[finding.index] ?? NONE]?.access;
  const work: NonNullable<AuditRecord['audit']['db']> = {
    count,
    duration: Math.min(facts.databaseWork.duration[finding.index] ?? 0, Number.MAX_SAFE_INTEGER),
  };
  if (slowest) work.slowest = clip(slowest.sections.db?.statement ?? slowest.target.name ?? slowest.target.id);
  return work;
}

/** What the record rests on: what states the access, what explains its failure, what names its actor. */
function evidenceOf({ facts, finding, origin, actor, explaining }: Parts): EvidencePiece[] {
  const pieces = [...finding.evidence];
  const add = (piece: Span | LogRecord, source: string): void => {
    const isSpan = 'kind' in piece;
    const id = isSpan ? piece.spanId : facts.logIds.get(piece);
    if (id === undefined || pieces.some((known) => known.id === id)) return;
    pieces.push({ signal: isSpan ? 'traces' : 'logs', source, sender: piece.note.sender, id });
  };
  for (const piece of origin?.finding?.evidence ?? []) {
    if (!pieces.some((known) => known.id === piece.id)) pieces.push(piece);
  }
  if (origin) add(origin.span, 'span');
  if (origin?.failure.reported) add(origin.failure.reported, 'log.exception');
  for (const { piece, source } of explaining) add(piece, source);
  for (const { by, as } of actor.named) add(by, `actor.${as}`);
  return pieces.slice(0, LIST_ITEMS_MAX);
}

function checksOf({ facts, finding }: Parts): Check[] | undefined {
  const found = facts.checks.of(finding);
  return found.length === 0 ? undefined : found.map(({ check }) => check);
}

function targetSection({ type, id, name, service }: AccessTarget): AuditRecord['audit']['target'] {
  const target: AuditRecord['audit']['target'] = { type: clip(type), id: clip(id) };
  if (name !== undefined) target.name = clip(name);
  if (service !== undefined) target.service = clip(service);
  return target;
}

function auditSection(parts: Parts, settings: EnrichSettings): AuditRecord['audit'] {
  const { facts, finding, actor, origin, why } = parts;
  const { access } = finding;
  const entry = facts.entries.get(finding);
  const checks = checksOf(parts);
  const trace = traceSection(parts, settings);
  const path = pathSection(parts);
  const work = databaseSection(parts);
  // Assigned one after the other: spreading what is there costs more than all the rest.
  const audit = { schema_version: SCHEMA_VERSION, entry: entry === undefined } as AuditRecord['audit'];
  if (entry) {
    audit.entry_id = entry.id;
    audit.entry_action = clip(entry.access.action);
    audit.entry_target = clip(entry.access.target.id);
  }
  audit.actor = actorSection(actor);
  audit.target = targetSection(access.target);
  audit.decision = access.decision;
  audit.why = { source: why.source };
  if (why.deniedBy !== undefined) audit.denied_by = clip(why.deniedBy);
  if (checks) audit.checks = checks;
  const purpose = facts.purposeOf(finding);
  if (purpose !== undefined) audit.purpose = purpose;
  if (access.rows !== undefined) audit.rows = access.rows;
  if (access.change) audit.change = { ...access.change };
  if (trace) audit.trace = trace;
  if (origin) audit.error_origin = originSection(origin.span, origin.failure);
  if (path) audit.path = path;
  if (work) audit.db = work;
  audit.join = joinSection(parts);
  audit.revision = 1;
  audit.evidence = evidenceOf(parts);
  return audit;
}

function joinSection(parts: Parts): AuditRecord['audit']['join'] {
  const { traceId, tree } = parts.facts;
  const { missingParents, orphans } = tree;
  const state = stateOf(parts.facts, parts.finding);
  const conflicts = conflictsOf(parts);
  const tie = weakestTie(parts.finding.pieces);
  const join = { state } as AuditRecord['audit']['join'];
  if (tie) join.tie = tie;
  join.spans = tree.spans.length;
  join.missing_parents = missingParents;
  join.orphans = orphans;
  if (conflicts) join.conflicts = conflicts;
  // How and when it came to this settle is stamped on by those who know.
  join.reason = traceId === '' ? 'untraced' : 'complete';
  join.late = false;
  return join;
}

/** The record of one access. Records share what they have in common (places, steps of the path): only `audit` may be changed. */
export function buildRecord(
  facts: TraceFacts,
  finding: Finding,
  settings: EnrichSettings,
  context: AccessContext,
): SettledRecord {
  const origin = originOf(facts, finding);
  const times = timesOf(finding.access, facts.tree.baseNs);
  const why = whyOf(facts, finding, origin);
  const refusing = facts.checks.refusing(finding);
  const parts: Parts = { ...context, facts, finding, times, origin, why, refusing };
  const { access } = finding;
  const event = eventSection(parts);
  const user = userSection(context.actor, access.effective);
  const error = errorSection(parts);
  const span = facts.tree.spans[finding.index];
  const record = { '@timestamp': event.start, message: '', data_stream: { namespace: facts.namespace } } as AuditRecord;
  record.event = event;
  if (user) record.user = user;
  if (parts.why.rule) record.rule = { ...parts.why.rule };
  Object.assign(record, access.sections, context.source);
  const isWitnessed = access.outOfBand === true && finding.standsForSpan;
  if (span && span.resource !== access.from.resource) Object.assign(record, placeOf(span.resource).sections);
  // What ran where is said by the call; the database's log says where the database is.
  if (!isWitnessed) Object.assign(record, placeOf(access.from.resource).sections);
  addIds(record, parts);
  if (error) record.error = error;
  const related = relatedSection(record, context.actor.claimed);
  if (related) record.related = related;
  record.audit = auditSection(parts, settings);
  record.message = clip(describeAccess(record));
  return { id: finding.id, timestampNs: times.startNs, record };
}
