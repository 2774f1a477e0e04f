import { type Attributes, context, type Span, trace } from '@opentelemetry/api';
import { core } from '@opentelemetry/sdk-node';

/** Whom a service has authenticated. What is not known is left out. */
export interface User {
  readonly id: string;
  readonly name?: string | undefined;
  readonly email?: string | undefined;
  readonly roles?: readonly string[] | undefined;
  /** The directory or tenant that the id belongs to. */
  readonly domain?: string | undefined;
}

/** Who acts. For an AI agent or a service that acts for somebody: the agent, and `onBehalfOf` the person. */
export interface Actor extends User {
  /** A user unless said otherwise. */
  readonly type?: 'user' | 'service' | 'script' | 'agent' | undefined;
  readonly onBehalfOf?: { readonly id: string; readonly name?: string | undefined } | undefined;
}

/** An actor in the names of the audit record. */
export function attributesOfActor(actor: Actor): Attributes {
  return known({
    'user.id': actor.id,
    'user.name': actor.name,
    'user.email': actor.email,
    'user.roles': actor.roles && [...actor.roles],
    'user.domain': actor.domain,
    'audit.actor.type': actor.type,
    'user.effective.id': actor.onBehalfOf?.id,
    'user.effective.name': actor.onBehalfOf?.name,
  });
}

/** The attributes that have a value. */
export function known(attributes: Attributes): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined));
}

/**
 * The span of the request that is being served; the current span outside of one. Frameworks run middleware in spans of their own,
 * and a user belongs on the request.
 */
export function requestSpan(): Span | undefined {
  const metadata = core.getRPCMetadata(context.active());
  return metadata?.type === core.RPCType.HTTP ? metadata.span : trace.getActiveSpan();
}

/** Puts the authenticated user on the span of the current request: everything done inside it is attributed to that user. */
export function setUser(user: Actor): void {
  requestSpan()?.setAttributes(attributesOfActor(user));
}
