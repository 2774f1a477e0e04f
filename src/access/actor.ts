import { type LogRecord, SPAN_KIND, type Span } from '../core/evidence.ts';
import type { Attribution } from '../core/record.ts';
import type { Access, AccessSections, Actor, Identity, Naming } from './access.ts';
import { compact, NAMES, serviceOf, textOf } from './attributes.ts';
import { clientSections, sourceSections } from './http.ts';
import { identityOfAttributes, identityOfHeaders } from './identity.ts';
import { fieldsOf } from './log-fields.ts';
import type { AccessRules } from './rules.ts';
import type { TraceView } from './trace-view.ts';

/** Answers about the accesses of one trace. Answers depend on the trace alone, not on the order of asking. */
export interface Attributor {
  actorOf(access: Access): Actor;
  /** Where the request came from: what the outermost server saw, for the entry and for everything inside it. */
  sourceOf(access: Access): Pick<AccessSections, 'source' | 'user_agent'>;
}

/** An identity with the evidence that supplies it. */
interface Found {
  readonly identity: Identity;
  readonly attribution: Attribution;
  readonly vouched: boolean;
  /** Whether a failed authentication does not refute it: vouched for, and neither credentials nor told of another span. */
  readonly isProof: boolean;
  readonly named: readonly Naming[];
}

type Source = Pick<AccessSections, 'source' | 'user_agent'>;

/**
 * Finds who made the accesses of one trace, in the order of record.md: stated outright, on the span, in captured headers, on the
 * nearest ancestor, in a log record, anywhere in the trace, an AI agent, the calling service. An ancestor's explicit event speaks
 * for that ancestor. Senders that are not trusted supply nobody. What a failed authentication says about its caller is a claim:
 * it names nobody unless the sender vouches for it, neither there nor elsewhere in the trace, and credentials that were refused
 * name nobody at all. `accesses` are all accesses of the trace, in an order that depends on the set alone.
 */
export function attributeTrace(view: TraceView, accesses: readonly Access[], rules: AccessRules): Attributor {
  const claims = accesses.filter((access) => access.claimedAccount !== undefined);
  const claimingSpans = new Set(claims.map(({ spanId }) => spanId));
  const claimingLogs = new Set<Span | LogRecord>(claims.map(({ from }) => from));
  const isClaim = (isClaiming: boolean, { note }: Span | LogRecord): boolean => isClaiming && !note.vouches;

  const onSpan = (span: Span): Found | undefined => {
    const person = identityOnSpan(span, rules);
    return person?.isProof === false && claimingSpans.has(span.spanId) ? undefined : person;
  };
  const stated = (access: Access): Found | undefined =>
    isClaim(access.claimedAccount !== undefined, access.from) ? undefined : explicit(access);
  const inLog = (log: LogRecord): Found | undefined => {
    if (!log.note.trusted || isClaim(claimingLogs.has(log), log)) return undefined;
    const identity = identityOfAttributes(fieldsOf(log));
    return identity && found(identity, 'log', log);
  };
  const events = eventsBySpan(accesses, stated);
  const { spans, parent, logs, logsBySpan } = view;
  const inLogs = (spanId: string): Found | undefined => firstOf(logsBySpan.get(spanId) ?? [], inLog);
  // Thousands of events may name one span that never came.
  const onAbsent = new Map<string, Found | undefined>();
  const inLogsOfAbsent = (spanId: string): Found | undefined => {
    if (!onAbsent.has(spanId)) onAbsent.set(spanId, inLogs(spanId));
    return onAbsent.get(spanId);
  };
  // For each span what it has itself or its nearest ancestor with one; parents come before their children.
  const nearest: (Found | undefined)[] = [];
  const nearestLog: (Found | undefined)[] = [];
  const agents: (Found | undefined)[] = [];
  const servers: (number | undefined)[] = [];
  const sources: (Source | undefined)[] = [];
  spans.forEach((span, index) => {
    const above = parent[index] ?? -1;
    const event = events.get(span.spanId);
    // An event may speak for a parent that never came itself.
    const known = onSpan(span) ?? asAncestor(above < 0 ? events.get(span.parentSpanId) : nearest[above]);
    nearest.push(event ? { ...withMore(event, known), attribution: 'log' } : known);
    if (logs.length > 0) nearestLog.push(inLogs(span.spanId) ?? nearestLog[above]);
    agents.push(agentOn(span) ?? asAncestor(agents[above]));
    servers.push(span.kind === SPAN_KIND.server ? index : servers[above]);
    sources.push(sources[above] ?? sourceOn(span));
  });
  const anywhere = once(() => firstOf(logs, inLog) ?? firstOf(spans, onSpan, 'trace'));
  const callerOf = (access: Access, index: number): Found | undefined => {
    const server = servers[index];
    return callingService(access, spans[index], spans[server ?? -1], spans[parent[server ?? -1] ?? -1]);
  };

  const find = (access: Access, index: number): Found | undefined => {
    const itself = stated(access);
    if (itself) return withMore(itself, nearest[index]);
    return (
      (access.source === 'span' && events.size > 0 ? onSpan(access.from) : undefined) ??
      nearest[index] ??
      (index < 0 ? inLogsOfAbsent(access.spanId) : nearestLog[index]) ??
      anywhere() ??
      agents[index] ??
      callerOf(access, index)
    );
  };
  const indexOf = ({ spanId }: Access): number => view.indexOf.get(spanId) ?? -1;
  return {
    actorOf: (access) => {
      const index = indexOf(access);
      return toActor(access, find(access, index));
    },
    sourceOf: (access) => {
      const said: Source = access.source === 'event' && access.from.note.trusted ? access.sections : {};
      const { source, user_agent: agent } = sources[indexOf(access)] ?? access.sections;
      return sourceSections(said.source ?? source, said.user_agent ?? agent);
    },
  };
}

function asAncestor(above: Found | undefined): Found | undefined {
  return above === undefined || above.attribution === 'ancestor' ? above : { ...above, attribution: 'ancestor' };
}

/**
 * Whom the explicit events on each span name. Where they name several people (a loop over requests) they speak only for
 * themselves.
 */
function eventsBySpan(
  accesses: readonly Access[],
  stated: (access: Access) => Found | undefined,
): ReadonlyMap<string, Found | undefined> {
  const bySpan = new Map<string, Found | undefined>();
  for (const access of accesses) {
    const said = access.source === 'event' && access.spanId !== '' ? stated(access) : undefined;
    if (said === undefined) continue;
    const known = bySpan.get(access.spanId);
    const agrees = !bySpan.has(access.spanId) || known?.identity.id === said.identity.id;
    bySpan.set(access.spanId, agrees ? (known ?? said) : undefined);
  }
  return bySpan;
}

function once<T>(compute: () => T): () => T {
  let result: { readonly value: T } | undefined;
  return () => {
    result ??= { value: compute() };
    return result.value;
  };
}

function firstOf<T>(
  items: readonly T[],
  find: (item: T) => Found | undefined,
  attribution?: Attribution,
): Found | undefined {
  for (const item of items) {
    const person = find(item);
    if (person !== undefined) return attribution === undefined ? person : { ...person, attribution, isProof: false };
  }
  return undefined;
}

const PROOFS: ReadonlySet<Naming['as']> = new Set(['explicit', 'span', 'header'] as const);

function found(identity: Identity, as: Naming['as'], by: Span | LogRecord, isCredentials = false): Found {
  const attribution = as === 'agent' ? 'span' : as;
  const { vouches } = by.note;
  return {
    identity,
    attribution,
    vouched: vouches,
    isProof: vouches && !isCredentials && PROOFS.has(as),
    named: [{ by, as }],
  };
}

function explicit({ actor, from }: Access): Found | undefined {
  return actor === undefined || !from.note.trusted ? undefined : found(actor, 'explicit', from);
}

function identityOnSpan(span: Span, rules: AccessRules): Found | undefined {
  if (!span.note.trusted || span.attributes.size === 0) return undefined;
  const onSpan = identityOfAttributes(span.attributes);
  if (onSpan !== undefined) return found(onSpan, 'span', span);
  const inHeaders = identityOfHeaders(span.attributes, rules.identityHeaders);
  return inHeaders && found(inHeaders.identity, 'header', span, inHeaders.by === 'credentials');
}

/** A stated actor with what the trace knows of the same one besides: roles, mail address. */
function withMore(stated: Found, inTrace: Found | undefined): Found {
  if (inTrace === undefined || inTrace.identity.id !== stated.identity.id) return stated;
  const more = inTrace.named.filter(({ by }) => !stated.named.some((naming) => naming.by === by));
  return {
    ...stated,
    identity: { ...inTrace.identity, ...stated.identity },
    named: more.length > 0 ? [...stated.named, ...more] : stated.named,
  };
}

/** The AI agent that a span names, for when no person is known: whoever is above it acts through it. */
function agentOn(span: Span): Found | undefined {
  if (!span.note.trusted || span.attributes.size === 0) return undefined;
  const name = textOf(span.attributes, NAMES.agentName);
  const id = textOf(span.attributes, NAMES.agentId) ?? name;
  return id === undefined ? undefined : found(compact({ id, name, type: 'agent' as const }), 'agent', span);
}

/**
 * What a service does by itself it does in its own name: calls, messages, files. What it was asked for is done in the name of
 * the service that asked, which is known from the parent of the server span.
 */
function callingService(
  access: Access,
  span: Span | undefined,
  server: Span | undefined,
  aboveServer: Span | undefined,
): Found | undefined {
  if (span === undefined) return undefined;
  const wasAsked = access.source === 'event' || span.kind === SPAN_KIND.server;
  const caller = wasAsked && server !== undefined ? aboveServer : span;
  if (caller === undefined || !caller.note.trusted) return undefined;
  const id = serviceOf(caller);
  if (id === undefined || (server !== undefined && wasAsked && id === serviceOf(server))) return undefined;
  return found({ id, name: id, type: 'service' }, 'service', caller);
}

function sourceOn(span: Span): Source | undefined {
  if (span.kind !== SPAN_KIND.server || !span.note.trusted) return undefined;
  const seen = clientSections(span);
  return seen.source === undefined ? undefined : seen;
}

function toActor(access: Access, person: Found | undefined): Actor {
  const claimed = access.claimedAccount;
  if (person === undefined || (claimed !== undefined && !person.isProof)) {
    const nobody = { identity: {}, type: 'anonymous', attribution: 'none', verified: false, named: [] } as const;
    return claimed === undefined ? nobody : { ...nobody, claimed };
  }
  const { identity, attribution, vouched, named } = person;
  return { identity, type: identity.type ?? 'user', attribution, verified: vouched, named };
}
