import { byContent } from '../core/by-content.ts';
import { type LogRecord, SPAN_KIND, type Span } from '../core/evidence.ts';
import type { Attribution } from '../core/record.ts';
import type { Access, AccessSections, Actor } from './access.ts';
import { serviceOf } from './attributes.ts';
import {
  agentOn,
  asAncestor,
  baggageOn,
  type Found,
  found,
  inTrace,
  NOTHING,
  onBehalfOf,
  saidOn,
  serviceOn,
  sessionOn,
  withMore,
} from './found.ts';
import { clientSections, sourceSections } from './http.ts';
import { identityOfAttributes } from './identity.ts';
import { fieldsOf } from './log-fields.ts';
import type { AccessRules } from './rules.ts';
import { sessionOf } from './session.ts';
import type { TraceView } from './trace-view.ts';

/** What the trace tells of an access besides: where the request came from, its session, the AI agent that acted. */
export type Surroundings = Pick<AccessSections, 'source' | 'user_agent' | 'session' | 'gen_ai'>;

/** Answers about the accesses of one trace. Answers depend on the trace alone, not on the order of asking. */
export interface Attributor {
  actorOf(access: Access): Actor;
  /** Where the request came from: what the outermost server saw, for the entry and for everything inside it. */
  sourceOf(access: Access): Surroundings;
}

type Source = Pick<AccessSections, 'source' | 'user_agent'>;

/** For each span what it has itself or its nearest ancestor with one; parents come before their children. */
interface Inherited {
  readonly person: (Found | undefined)[];
  readonly log: (Found | undefined)[];
  readonly agent: (AgentAbove | undefined)[];
  /** Whom a refused token names, and whom a caller impersonates. */
  readonly claimed: (string | undefined)[];
  readonly onBehalfOf: (string | undefined)[];
  readonly server: (number | undefined)[];
  readonly source: (Source | undefined)[];
  readonly session: (string | undefined)[];
}

/** An agent with the person who is known where it is named. */
interface AgentAbove {
  readonly agent: Found;
  readonly person: Found | undefined;
}

const NOBODY: ReadonlySet<string> = new Set();
const NO_LOGS: ReadonlySet<Span | LogRecord> = new Set();

/**
 * Finds who made the accesses of one trace, in the order of record.md: stated outright, on the span, in captured headers, on the
 * nearest ancestor, in a log record, anywhere in the trace, in baggage, by the session, the calling service. What happens below
 * a span that names an AI agent is done by the agent, on behalf of the one who is found so; only an event that states its actor
 * outright is believed first. An ancestor's explicit event speaks for that ancestor. Senders that are not trusted supply nobody.
 * What a failed authentication says about its caller is a claim: it names nobody unless the sender vouches for it, neither there
 * nor elsewhere in the trace, and credentials that were refused name nobody at all; neither does a token that did not stand its
 * check. `accesses` are all accesses of the trace, in an order that depends on the set alone.
 */
export function attributeTrace(view: TraceView, accesses: readonly Access[], rules: AccessRules): Attributor {
  const claims = accesses.filter((access) => access.claimedAccount !== undefined);
  const claimingSpans = claims.length === 0 ? NOBODY : new Set(claims.map(({ spanId }) => spanId));
  const claimingLogs = claims.length === 0 ? NO_LOGS : new Set<Span | LogRecord>(claims.map(({ from }) => from));
  const isClaim = (isClaiming: boolean, { note }: Span | LogRecord): boolean => isClaiming && !note.vouches;

  const onSpan = (span: Span, said = saidOn(span, rules)): Found | undefined =>
    said.person?.isProof === false && claimingSpans.has(span.spanId) ? undefined : said.person;
  const stated = (access: Access): Found | undefined =>
    isClaim(access.claimedAccount !== undefined, access.from) ? undefined : explicit(access);
  const inLog = (log: LogRecord): Found | undefined => {
    if (!log.note.trusted || isClaim(claimingLogs.has(log), log)) return undefined;
    const identity = identityOfAttributes(fieldsOf(log));
    return identity && found(identity, 'log', log);
  };
  const events = eventsBySpan(accesses, stated);
  const { spans, logs, logsBySpan } = view;
  const inLogs = (spanId: string): Found | undefined => firstOf(logsBySpan.get(spanId) ?? [], inLog);
  // Thousands of events may name one span that never came.
  const onAbsent = new Map<string, Found | undefined>();
  const inLogsOfAbsent = (spanId: string): Found | undefined => {
    if (!onAbsent.has(spanId)) onAbsent.set(spanId, inLogs(spanId));
    return onAbsent.get(spanId);
  };
  const known = inherit(view, rules, { events, onSpan, inLogs });
  const anywhere = once(() => firstOf(logs, inLog) ?? firstOf(spans, onSpan, 'trace'));
  const hinted = hints(view, rules);

  const personOf = (access: Access, index: number): Found | undefined =>
    (access.source === 'span' && events.size > 0 ? onSpan(access.from) : undefined) ??
    known.person[index] ??
    (index < 0 ? inLogsOfAbsent(access.spanId) : known.log[index]) ??
    anywhere() ??
    hinted(access, index);
  const find = (access: Access, index: number): Found | undefined => {
    const itself = stated(access);
    if (itself) return withMore(itself, known.person[index]);
    const person = personOf(access, index);
    const above = known.agent[index];
    if (above === undefined) return person ?? callerOf(view, known, access, index);
    // A service's own credentials tell nothing of the person that the agent works for.
    return onBehalfOf(above.agent, person?.identity.type === 'service' ? (above.person ?? person) : person);
  };
  const indexOf = ({ spanId }: Access): number => view.indexOf.get(spanId) ?? -1;
  return {
    actorOf: (access) => {
      const index = indexOf(access);
      return toActor(access, find(access, index), known.claimed[index], known.onBehalfOf[index]);
    },
    sourceOf: (access) => surroundingsOf(access, known, indexOf(access), rules),
  };
}

interface Readers {
  readonly events: ReadonlyMap<string, Found | undefined>;
  readonly onSpan: (span: Span, said: ReturnType<typeof saidOn>) => Found | undefined;
  readonly inLogs: (spanId: string) => Found | undefined;
}

function inherit(view: TraceView, rules: AccessRules, { events, onSpan, inLogs }: Readers): Inherited {
  const { spans, parent, logs } = view;
  const said = spans.map((span) => saidOn(span, rules));
  const person = new Array<Found | undefined>(spans.length);
  const agent = new Array<AgentAbove | undefined>(spans.length);
  for (let index = 0; index < spans.length; index++) {
    const span = spans[index] as Span;
    const above = parent[index] ?? -1;
    const event = events.size === 0 ? undefined : events.get(span.spanId);
    // An event may speak for a parent that never came itself.
    const one =
      onSpan(span, said[index] ?? NOTHING) ??
      asAncestor(above >= 0 ? person[above] : events.size === 0 ? undefined : events.get(span.parentSpanId));
    person[index] = event ? { ...withMore(event, one), attribution: 'log' } : one;
    const own = agentOn(span);
    const agentAbove = above < 0 ? undefined : agent[above];
    if (own) agent[index] = { agent: own, person: person[index] };
    else if (agentAbove) agent[index] = { ...agentAbove, agent: asAncestor(agentAbove.agent) ?? agentAbove.agent };
  }
  return {
    person,
    agent,
    log: logs.length === 0 ? [] : inherited(view, ({ spanId }) => inLogs(spanId)),
    claimed: inherited(view, (_, index) => said[index]?.claimed),
    onBehalfOf: inherited(view, (_, index) => said[index]?.onBehalfOf),
    server: inherited(view, ({ kind }, index) => (kind === SPAN_KIND.server ? index : undefined)),
    source: inherited(view, (span, _, above) => above ?? sourceOn(span, rules)),
    session: inherited(view, (span) => sessionIdOn(span, rules)),
  };
}

/** For each span what `own` gives, else what the span above it has, which `own` gets, too. Nothing is kept where nothing is given. */
function inherited<T>(
  { spans, parent }: TraceView,
  own: (span: Span, index: number, above: T | undefined) => T | undefined,
): (T | undefined)[] {
  let known: (T | undefined)[] | undefined;
  for (let index = 0; index < spans.length; index++) {
    const from = parent[index] ?? -1;
    const above = from < 0 ? undefined : known?.[from];
    const given = own(spans[index] as Span, index, above) ?? above;
    if (given === undefined) continue;
    known ??= new Array<T | undefined>(spans.length);
    known[index] = given;
  }
  return known ?? [];
}

/** Whom baggage names, else whose session it is: on the span, on its nearest ancestor, anywhere in the trace, root first. */
function hints({ spans, parent, logs }: TraceView, rules: AccessRules) {
  const nearest = (on: (span: Span) => Found | undefined) =>
    once(() => {
      const known: (Found | undefined)[] = [];
      spans.forEach((span, index) => {
        known.push(on(span) ?? known[parent[index] ?? -1]);
      });
      return { known, any: known.find((person) => person !== undefined) };
    });
  const byBaggage = nearest((span) => baggageOn(span, rules));
  const bySession = nearest((span) => sessionOn(span, rules));
  const byLog = once(() => firstOf(logs, (log) => sessionOn(log, rules)));
  return (access: Access, index: number): Found | undefined => {
    const own = access.source === 'event' ? sessionOn(access.from, rules) : undefined;
    const { known: carried, any: carriedAnywhere } = byBaggage();
    const { known: owned, any: ownedAnywhere } = bySession();
    return carried[index] ?? carriedAnywhere ?? own ?? owned[index] ?? ownedAnywhere ?? byLog();
  };
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
    if (person !== undefined) return attribution === undefined ? person : inTrace(person, attribution);
  }
  return undefined;
}

function explicit({ actor, from }: Access): Found | undefined {
  return actor === undefined || !from.note.trusted ? undefined : found(actor, 'explicit', from);
}

/**
 * What a service does by itself it does in its own name: calls, messages, files. What it was asked for is done in the name of
 * the service that asked, which is known from the parent of the server span.
 */
function callerOf({ spans, parent }: TraceView, known: Inherited, access: Access, index: number): Found | undefined {
  const span = spans[index];
  if (span === undefined) return undefined;
  const serverIndex = known.server[index] ?? -1;
  const server = spans[serverIndex];
  // A database that tells of a call tells of what the caller did.
  const isEvent = access.source === 'event' && access.outOfBand !== true;
  const wasAsked = isEvent || span.kind === SPAN_KIND.server;
  const caller = wasAsked && server !== undefined ? spans[parent[serverIndex] ?? -1] : span;
  if (caller === undefined || !caller.note.trusted) return undefined;
  if (server !== undefined && wasAsked && serviceOf(caller) === serviceOf(server)) return undefined;
  return serviceOn(caller);
}

const sourceOn = byContent((span: Span, { origin }: AccessRules): Source | undefined => {
  if (span.kind !== SPAN_KIND.server || !span.note.trusted) return undefined;
  const seen = clientSections(span, origin);
  return seen.source === undefined ? undefined : seen;
});

const sessionIdOn = byContent((span: Span, rules: AccessRules) =>
  span.note.trusted ? sessionOf(span.attributes, rules.sessionAttributes) : undefined,
);

function surroundingsOf(access: Access, known: Inherited, index: number, rules: AccessRules): Surroundings {
  const { from } = access;
  const said: Source = access.source === 'event' && from.note.trusted ? access.sections : {};
  const { source, user_agent: agent } = known.source[index] ?? access.sections;
  const surroundings: Surroundings = sourceSections(said.source ?? source, said.user_agent ?? agent);
  const session = sessionOf(from.attributes, rules.sessionAttributes) ?? known.session[index];
  if (session !== undefined) surroundings.session = { id: session };
  const { id, name } = (agentOn(from) ?? known.agent[index]?.agent)?.identity ?? {};
  if (id !== undefined) {
    const named = name === undefined ? { id } : id === name ? { name } : { id, name };
    surroundings.gen_ai = { ...access.sections.gen_ai, agent: named };
  }
  return surroundings;
}

function toActor(
  access: Access,
  person: Found | undefined,
  refused: string | undefined,
  impersonated: string | undefined,
): Actor {
  const account = access.claimedAccount;
  if (person === undefined || (account !== undefined && !person.isProof)) {
    const nobody = { identity: {}, type: 'anonymous', attribution: 'none', verified: false, named: [] } as const;
    const claimed = account ?? refused;
    return claimed === undefined ? nobody : { ...nobody, claimed };
  }
  const { identity: own, attribution, isVerified, named } = person;
  const isOther = impersonated !== undefined && own.effective === undefined && impersonated !== own.id;
  const identity = isOther ? { ...own, effective: { id: impersonated } } : own;
  const actor = { identity, type: identity.type ?? 'user', attribution, verified: isVerified, named } as const;
  // A service acts, and somebody at its door claims to be a person.
  return refused !== undefined && attribution === 'service' ? { ...actor, claimed: refused } : actor;
}
