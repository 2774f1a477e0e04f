import type { Access, AccessTarget, Actor, Identity } from '../access/access.ts';
import { clip, section } from '../access/attributes.ts';
import { formatTimestamp } from '../core/clock.ts';
import { STACK_TRACE_CHARS_MAX } from '../core/limits.ts';
import type { AuditRecord, WhySource } from '../core/record.ts';
import { criticalPath, selfTime } from './critical-path.ts';
import type { Finding } from './findings.ts';
import { type Parts, sharing } from './record-parts.ts';
import { NONE } from './trace-tree.ts';
import { failureAt, isFailed } from './why.ts';

type Audit = AuditRecord['audit'];

/** Spans of one request were received at one time. */
const receivedText = sharing(formatTimestamp);

export function eventSection({ finding, times, why }: Parts): AuditRecord['event'] {
  const { access, id, pieces } = finding;
  let ingestedNs = access.from.note.receivedNs;
  for (let at = 0; at < pieces.length; at += 1) {
    const { receivedNs } = (pieces[at] as Finding['pieces'][number]).note;
    if (receivedNs < ingestedNs) ingestedNs = receivedNs;
  }
  const { kind, outcome } = access;
  const action = clip(access.action);
  // Lists of an access are shared by all that say the same, and changed by nobody.
  const category = access.category as string[];
  const type = typesOf(access);
  const end = formatTimestamp(times.endNs);
  const start = times.endNs === times.startNs ? end : formatTimestamp(times.startNs);
  const created = times.createdNs === times.endNs ? end : formatTimestamp(times.createdNs);
  const ingested = receivedText(ingestedNs);
  const { duration } = times;
  // Each in one piece: adding one field after the other costs more than all the rest.
  if (why.reason === undefined)
    return { id, action, category, type, kind, outcome, start, end, created, ingested, duration };
  const reason = clip(why.reason);
  return { id, action, category, type, kind, outcome, reason, start, end, created, ingested, duration };
}

/** The event types with what the decision says, which may be another than the one they were given with. */
function typesOf({ type, decision }: Access): string[] {
  if (decision === 'none') return type as string[];
  const others = type.filter((name) => name !== 'allowed' && name !== 'denied');
  return [...others, decision === 'deny' ? 'denied' : 'allowed'];
}

const userAlone = sharing((identity: Identity) => userOf(identity, undefined));

export function userSection({ identity }: Actor, login: Identity['effective']): AuditRecord['user'] {
  return login === undefined ? userAlone(identity) : userOf(identity, login);
}

function userOf(identity: Identity, login: Identity['effective']): AuditRecord['user'] {
  const { id, name, email, roles, group, domain, effective = login } = identity;
  if (id === undefined && name === undefined && email === undefined && effective === undefined) return undefined;
  const user: NonNullable<AuditRecord['user']> = {};
  if (id !== undefined) user.id = clip(id);
  if (name !== undefined) user.name = clip(name);
  if (email !== undefined) user.email = email;
  if (roles) user.roles = [...roles];
  if (group !== undefined) user.group = { name: group };
  if (domain !== undefined) user.domain = domain;
  if (effective) user.effective = { ...effective };
  return user;
}

export function actorSection({ type, attribution, verified, claimed, identity }: Actor): Audit['actor'] {
  const actor: Audit['actor'] = { type, attribution, verified };
  if (identity.relation !== undefined) actor.relation = identity.relation;
  if (claimed !== undefined) actor.claimed = clip(claimed);
  return actor;
}

export function errorSection({ facts, finding }: Parts): AuditRecord['error'] {
  if (!isFailed(finding)) return undefined;
  const ofSpan = finding.standsForSpan && finding.index !== NONE ? failureAt(facts, finding.index) : undefined;
  const { type, message, stack } = { ...ofSpan, ...finding.access.error };
  return section({
    type: type && clip(type),
    message: message && clip(message),
    stack_trace: stack && clip(stack, STACK_TRACE_CHARS_MAX),
  });
}

/** What `related` is made of. */
interface Relations {
  readonly user: AuditRecord['user'];
  readonly ip: string | undefined;
  readonly host: string | undefined;
  readonly claimed: string | undefined;
}

let related: Relations & { readonly section: AuditRecord['related'] } = {
  ...{ user: undefined, ip: undefined, host: undefined, claimed: undefined, section: undefined },
};

/** The same for records of a trace that name the same. */
export function relatedSection(given: Relations): AuditRecord['related'] {
  const { user, ip, host, claimed } = given;
  if (related.user !== user || related.ip !== ip || related.host !== host || related.claimed !== claimed) {
    related = { user, ip, host, claimed, section: relatedOf(given) };
  }
  return related.section;
}

function relatedOf({ user, ip, host, claimed }: Relations): AuditRecord['related'] {
  const named = [user?.id, user?.name, user?.email, user?.effective?.id, user?.effective?.name];
  if (claimed !== undefined) named.push(clip(claimed));
  const users = new Set<string>();
  for (const name of named) if (name !== undefined) users.add(name);
  const section: NonNullable<AuditRecord['related']> = {};
  if (users.size > 0) section.user = [...users];
  if (ip !== undefined) section.ip = [ip];
  if (host !== undefined) section.hosts = [host];
  return users.size > 0 || ip !== undefined || host !== undefined ? section : undefined;
}

export function targetSection({ type, id, name, service }: AccessTarget): Audit['target'] {
  if (name === undefined) {
    const target: Audit['target'] = { type: clip(type), id: clip(id) };
    if (service !== undefined) target.service = clip(service);
    return target;
  }
  if (service === undefined) return { type: clip(type), id: clip(id), name: clip(name) };
  return { type: clip(type), id: clip(id), name: clip(name), service: clip(service) };
}

const WHY: Readonly<Record<WhySource, Audit['why']>> = {
  rule: { source: 'rule' },
  check: { source: 'check' },
  status: { source: 'status' },
  none: { source: 'none' },
};

export function whySection(source: WhySource): Audit['why'] {
  return WHY[source];
}

/** `url` is the address of the trace in another tool, with its placeholders; empty for none. */
export function traceSection({ facts, finding }: Parts, url: string): Audit['trace'] {
  const { tree, timeline, duration, errorCount, services, root, spanCount } = facts;
  if (spanCount === 0) return undefined;
  const isSpan = finding.standsForSpan && finding.index !== NONE;
  let trace: NonNullable<Audit['trace']>;
  if (root !== undefined && isSpan) {
    const own = selfTime(tree, timeline, finding.index);
    trace = { root, duration, span_count: spanCount, error_count: errorCount, services, self_time: own };
  } else {
    const common = { duration, span_count: spanCount, error_count: errorCount, services };
    trace = root ? { root, ...common } : common;
    if (isSpan) trace.self_time = selfTime(tree, timeline, finding.index);
  }
  if (isSpan && !facts.entries.has(finding)) trace.critical_path = criticalPath(tree, timeline, finding.index);
  if (url !== '') trace.url = traceUrl(url, facts.traceId, finding);
  return trace;
}

function traceUrl(template: string, traceId: string, { access }: Finding): string {
  return clip(template.replaceAll('${trace_id}', traceId).replaceAll('${span_id}', access.spanId));
}

export function databaseSection({ facts, finding }: Parts): Audit['db'] {
  const count = facts.databaseWork.count[finding.index] ?? 0;
  if (count === 0 || !finding.standsForSpan) return undefined;
  const slowest = facts.standing[facts.databaseWork.slowest[finding.index] ?? NONE]?.access;
  const duration = Math.min(facts.databaseWork.duration[finding.index] ?? 0, Number.MAX_SAFE_INTEGER);
  if (slowest === undefined) return { count, duration };
  return { count, duration, slowest: clip(slowest.sections.db?.statement ?? slowest.target.name ?? slowest.target.id) };
}
