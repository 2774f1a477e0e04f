import { context, diag } from '@opentelemetry/api';
import { core } from '@opentelemetry/sdk-node';
import type { FastifyPluginCallback, FastifyRequest } from 'fastify';
import { type Actor, attributesOfActor, requestSpan } from './user.ts';

/** Tells who the user of a request is; undefined when nobody is logged in. */
type Identify<Request> = (request: Request) => Actor | undefined;

/**
 * Express: puts the authenticated user on the span of the request. It looks when it is reached and again when the answer is
 * over, so that it may stand before or after what checks the login. Without `identify` it reads `request.user`, where Passport and
 * most others leave it.
 */
export function expressUser<Request extends object = object>(identify: Identify<Request> = userOfRequest) {
  return (request: Request, response: ResponseEvents, next: () => void): void => {
    const tell = teller(request, identify);
    // The span ends with the answer's `close`, finished or not: this must come first.
    if (!tell()) response.prependOnceListener('close', tell);
    next();
  };
}

/** What is needed of an answer of Node's. */
interface ResponseEvents {
  prependOnceListener(event: 'close', listener: () => void): unknown;
}

/**
 * Fastify: a plugin that puts the authenticated user on the span of the request, and the route, which auto-instrumentation does not
 * know of Fastify. `app.register(fastifyUser, { identify })`; without `identify` it reads `request.user`.
 */
export const fastifyUser: FastifyPluginCallback<{ readonly identify?: Identify<FastifyRequest> }> = (
  instance,
  { identify = userOfRequest },
  done,
) => {
  const tellers = new WeakMap<FastifyRequest, () => boolean>();
  instance.addHook('onRequest', (request, _reply, next) => {
    tellRoute(request.routeOptions.url);
    tellers.set(request, teller(request, identify));
    next();
  });
  // After the hooks that check logins, for what the handler does; and once more for logins that the handler checks itself.
  instance.addHook('preHandler', (request, _reply, next) => {
    tellers.get(request)?.();
    next();
  });
  instance.addHook('onSend', (request, _reply, payload, next) => {
    tellers.get(request)?.();
    next(null, payload);
  });
  done();
};
// Fastify keeps a plugin's hooks to itself unless it is marked so: these are for the whole application.
Object.assign(fastifyUser, {
  [Symbol.for('skip-override')]: true,
  [Symbol.for('fastify.display-name')]: 'spantrail-user',
});

/** The HTTP instrumentation takes the route of its span from here. */
export function tellRoute(route: string | undefined): void {
  const metadata = core.getRPCMetadata(context.active());
  if (route !== undefined && metadata?.type === core.RPCType.HTTP) metadata.route = route;
}

/** Puts the user on the request's span, once there is one; answers whether it has. The span is that of the time of making. */
function teller<Request>(request: Request, identify: Identify<Request>): () => boolean {
  const span = requestSpan();
  let isTold = false;
  return () => {
    if (isTold) return true;
    try {
      const actor = identify(request);
      if (actor === undefined) return false;
      span?.setAttributes(attributesOfActor(actor));
      isTold = true;
    } catch (error) {
      // The request must not fail for it; the record will say that nobody is known.
      diag.error('spantrail: the user of a request could not be told', error as Error);
    }
    return isTold;
  };
}

/** The user where login middleware leaves it: claims of a token, or an object of the application's own. */
function userOfRequest(request: object): Actor | undefined {
  const user = 'user' in request ? request.user : undefined;
  if (typeof user === 'string') return { id: user };
  if (typeof user !== 'object' || user === null) return undefined;
  const fields = user as Record<string, unknown>;
  const text = (...names: readonly string[]): string | undefined => {
    const value = names
      .map((name) => fields[name])
      .find((each) => typeof each === 'string' || typeof each === 'number');
    return value === undefined || value === '' ? undefined : String(value);
  };
  const name = text('username', 'preferred_username', 'name', 'displayName');
  const id = text('id', 'sub', 'userId') ?? name ?? text('email');
  const roles = [fields['roles'] ?? fields['role']].flat().filter((role) => typeof role === 'string');
  if (id === undefined) return undefined;
  return { id, name, email: text('email'), roles: roles.length > 0 ? roles : undefined };
}
