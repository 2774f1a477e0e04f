import { byKeys } from '../core/attribute-table.ts';
import { byContent } from '../core/by-content.ts';
import type { LogRecord, Span } from '../core/evidence.ts';
import type { Attribution } from '../core/record.ts';
import type { Identity, Naming } from './access.ts';
import { compact, NAMES, serviceOf, textOf } from './attributes.ts';
import { baggageOf } from './baggage.ts';
import { identityOfAttributes, identityOfHeaders } from './identity.ts';
import type { AccessRules } from './rules.ts';
import { ownerOf, sessionOf } from './session.ts';

/** An identity with the evidence that supplies it. */
export interface Found {
  readonly identity: Identity;
  readonly attribution: Attribution;
  /** The sender vouches for it, or a token was checked. */
  readonly isVerified: boolean;
  /** Whether a failed authentication does not refute it: vouched for, and neither credentials nor told of another span. */
  readonly isProof: boolean;
  readonly named: readonly Naming[];
}

/** What one span says by itself of who acts. */
export interface SaidOnSpan {
  readonly person?: Found;
  /** Whom a token names that did not stand its check. */
  readonly claimed?: string;
  /** Whom the caller impersonates. */
  readonly onBehalfOf?: string;
}

const AGENT_KEYS: readonly string[] = [...NAMES.agentId, ...NAMES.agentName];

const PROOFS: ReadonlySet<Naming['as']> = new Set(['explicit', 'span', 'header'] as const);
/** A span that says nothing. */
export const NOTHING: SaidOnSpan = {};

export function found(identity: Identity, as: Naming['as'], by: Span | LogRecord, isCredentials = false): Found {
  const attribution = as === 'agent' ? 'span' : as;
  const { vouches } = by.note;
  return {
    identity,
    attribution,
    isVerified: vouches,
    isProof: vouches && !isCredentials && PROOFS.has(as),
    named: [{ by, as }],
  };
}

export function asAncestor(above: Found | undefined): Found | undefined {
  return above === undefined || above.attribution === 'ancestor' ? above : { ...above, attribution: 'ancestor' };
}

/** A stated actor with what the trace knows of the same one besides: roles, mail address, and that a token proves it. */
export function withMore(stated: Found, inTrace: Found | undefined): Found {
  if (inTrace === undefined || inTrace.identity.id !== stated.identity.id) return stated;
  const more = inTrace.named.filter(({ by }) => !stated.named.some((naming) => naming.by === by));
  return {
    ...stated,
    identity: { ...inTrace.identity, ...stated.identity },
    isVerified: stated.isVerified || inTrace.isVerified,
    named: more.length > 0 ? [...stated.named, ...more] : stated.named,
  };
}

/** Who stands on a span. */
const namesOn = byContent(({ attributes, note }: Span, rules: AccessRules) => {
  const stated = identityOfAttributes(attributes);
  const headers = identityOfHeaders(attributes, rules.identityHeaders, note);
  return stated === undefined && headers === undefined ? undefined : { stated, headers };
});

/** Whom a span names: in attributes, else in the headers of its request. Senders that are not trusted name nobody. */
export function saidOn(span: Span, rules: AccessRules): SaidOnSpan {
  if (!span.note.trusted || span.attributes.size === 0) return NOTHING;
  const names = namesOn(span, rules);
  if (names === undefined) return NOTHING;
  const { stated, headers } = names;
  if (headers === undefined) return stated === undefined ? NOTHING : { person: found(stated, 'span', span) };
  const inHeaders = headers.identity && found(headers.identity, 'header', span, headers.by === 'credentials');
  // What a key proves stands whatever the answer was.
  const checked = inHeaders && headers.isVerified ? { ...inHeaders, isVerified: true, isProof: true } : inHeaders;
  const person = stated === undefined ? checked : withMore(found(stated, 'span', span), checked);
  return compact({ person, claimed: headers.claimed?.id, onBehalfOf: headers.onBehalfOf });
}

const mayNameAgent = byKeys((keys) => keys.some((key) => AGENT_KEYS.includes(key)));

/** The AI agent that evidence names: it is what acts, on behalf of whoever is above it. */
export function agentOn(evidence: Span | LogRecord): Found | undefined {
  const { attributes } = evidence;
  if (!evidence.note.trusted || !mayNameAgent(attributes)) return undefined;
  const name = textOf(attributes, NAMES.agentName);
  const id = textOf(attributes, NAMES.agentId) ?? name;
  return id === undefined ? undefined : found(compact({ id, name, type: 'agent' as const }), 'agent', evidence);
}

const inBaggage = byContent(({ attributes }: Span, rules: AccessRules): Identity | undefined => {
  const baggage = baggageOf(attributes);
  if (baggage === undefined) return undefined;
  const stated = identityOfAttributes(baggage);
  const id = textOf(baggage, rules.baggageUsers) ?? stated?.id;
  return id === undefined ? undefined : { ...stated, id };
});

/** Whom the baggage of a request names. It came from whoever called, so that no sender's word makes it a proof. */
export function baggageOn(span: Span, rules: AccessRules): Found | undefined {
  const identity = span.note.trusted ? inBaggage(span, rules) : undefined;
  return identity && { ...found(identity, 'baggage', span), isVerified: false };
}

/** Whose session evidence names, as was known when it came. */
export function sessionOn(evidence: Span | LogRecord, rules: AccessRules): Found | undefined {
  if (!evidence.note.trusted || evidence.note.sessions === undefined) return undefined;
  const owner = ownerOf(sessionOf(evidence.attributes, rules.sessionAttributes), evidence.note);
  return owner === undefined ? undefined : { ...found({ ...owner }, 'session', evidence), isVerified: false };
}

/** The service that sent a span, in its own name. */
export function serviceOn(span: Span): Found | undefined {
  const id = serviceOf(span);
  return id === undefined ? undefined : found({ id, name: id, type: 'service' }, 'service', span);
}

/** Someone named anywhere in the trace; that proves nothing of the access. */
export function inTrace(person: Found, attribution: Attribution): Found {
  return { ...person, attribution, isProof: false };
}

/** What acts is the agent; the one it acts for is the person, or whom that person acts for. */
export function onBehalfOf(agent: Found, person: Found | undefined): Found {
  if (person === undefined) return agent;
  if (person.identity.id === agent.identity.id) return withMore(agent, person);
  const { id, name, effective } = person.identity;
  return {
    ...agent,
    identity: { ...agent.identity, effective: effective ?? compact({ id, name }) },
    named: [...agent.named, ...person.named],
  };
}
