import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { clientCertificateOf } from '../auth/client-certificate.ts';
import type { Credentials, Permission, Principal, Verdict } from '../auth/principal.ts';
import { AppError, ERROR_CODES } from '../core/errors.ts';
import { type ErrorAnswer, ROUTES } from './contract.ts';
import { type Route, SESSION_ROUTES } from './route.ts';
import type { Sessions } from './session.ts';
import { type ApiAccess, Teller, type TellerOptions, type Visit } from './teller.ts';

/** What is known of who asks the page: `stranger` with a word of why, where something was tried. */
export type Door =
  | { readonly kind: 'open'; readonly name?: string | undefined }
  | { readonly kind: 'stranger'; readonly message?: string | undefined }
  | { readonly kind: 'forbidden'; readonly name: string; readonly message: string };

export interface Forbidden {
  readonly kind: 'forbidden';
  readonly message: string;
}

export interface AccessControl {
  /** For the page, which answers strangers by asking who they are. */
  doorOf(request: FastifyRequest): Door;
  /**
   * Identifies by other means than what the request came with, and makes what follows be recorded as theirs. Who can only send has
   * nothing to do here.
   */
  admit(request: FastifyRequest, authorization: string): Verdict | Forbidden;
  /** May who began this answer still have it? Asked of answers that last. */
  mayGoOn(request: FastifyRequest): boolean;
  /** Counts rows of an answer that is no JSON. */
  noteRows(request: FastifyRequest, rows: number): void;
  /** An answer that began well and did not end so. */
  noteFailure(request: FastifyRequest, reason: string): void;
  /** Resolves when it is recorded how the answers ended that have ended by now. */
  settled(): Promise<void>;
}

export interface AccessOptions extends TellerOptions {
  readonly sessions: Sessions;
}

const WORDS: Readonly<Record<Permission, string>> = {
  send: 'send',
  read: 'read records',
  monitor: 'see metrics and the pipeline',
  operate: 'change anything here',
};

const visits = new WeakMap<FastifyRequest, Visit>();

/** Who asks; undefined where nobody has to say so. */
export function principalOf(request: FastifyRequest): Principal | undefined {
  const visit = visits.get(request);
  return visit?.refusal === undefined ? visit?.principal : undefined;
}

/**
 * Lets in who may come in, and has each question recorded before the first byte of its answer. The order of it: who is it → may they →
 * what changes something or lasts is recorded as begun → the work → recorded with what came of it → the answer. What cannot be recorded
 * is not answered. Every route has to be in the contract, and needs what stands there.
 */
export function addAccessControl(server: FastifyInstance, options: AccessOptions): AccessControl {
  const keeper = new Keeper(options);
  const teller = new Teller(options);
  server.addHook('onRoute', ({ method, url }) => {
    for (const each of [method].flat()) {
      if (each !== 'HEAD' && !keeper.knows(each, url)) {
        throw new Error(`src/api/contract.ts does not say what ${each} ${url} needs`);
      }
    }
  });
  server.addHook('onRequest', async (request, reply) => keeper.check(request, reply));
  server.addHook('preHandler', async (request) => {
    const visit = visits.get(request);
    if (visit?.route.method === undefined || !visit.route.record || visit.refusal !== undefined) return;
    await teller.start(request, visit);
  });
  server.addHook('preSerialization', async (request, _reply, payload) => {
    const visit = visits.get(request);
    if (visit) visit.rows ??= rowsOf(payload);
    return payload;
  });
  server.addHook('onSend', async (request, reply, payload) => {
    const visit = visits.get(request);
    if (!visit?.route.record || visit.isTold) return payload;
    try {
      await teller.answer(request, reply, visit, payload);
      return payload;
    } catch (error) {
      // Thrown on, it would not find its way from inside of another error's answer.
      return withheld(reply, error, options);
    }
  });
  return {
    doorOf: (request) => keeper.doorOf(request),
    admit: (request, authorization) => keeper.admit(request, authorization),
    mayGoOn: (request) => keeper.mayGoOn(request),
    noteRows(request, rows) {
      const visit = visits.get(request);
      if (visit) visit.rows = (visit.rows ?? 0) + rows;
    },
    noteFailure(request, reason) {
      const visit = visits.get(request);
      if (visit) visit.reason = reason;
    },
    settled: () => teller.settled(),
  };
}

/** Asks who somebody is and whether they may. */
class Keeper {
  readonly #access: ApiAccess | undefined;
  readonly #options: AccessOptions;
  readonly #routes = new Map(
    [...ROUTES, ...SESSION_ROUTES].map((route) => [keyOf(route.method ?? 'GET', route.path), route] as const),
  );
  /** Who came to the page with what did not let them in, and why not. */
  readonly #strangers = new WeakMap<FastifyRequest, string>();

  constructor(options: AccessOptions) {
    this.#options = options;
    this.#access = options.access?.authenticator.isOn ? options.access : undefined;
  }

  knows(method: string, url: string): boolean {
    return this.#routes.has(keyOf(method, url));
  }

  /** Throws AppError for who may not come in, unless it is the page: it says so itself. */
  check(request: FastifyRequest, reply: FastifyReply): void {
    const route = this.#routeOf(request);
    if (route?.needs === undefined || !this.#access) return;
    const given = this.#credentialsOf(request);
    if (route.shell && given.authorization === undefined && given.certificate === undefined) return;
    const verdict = this.#identify(request, route, given.authorization);
    if (verdict?.kind === 'refused') {
      if (!route.shell) throw unauthenticated(reply, verdict.message);
      this.#strangers.set(request, verdict.message);
    } else if (verdict && !verdict.principal.can.has(route.needs)) {
      const message = this.#forbid(request, verdict.principal.name, route.needs);
      if (!route.shell) throw new AppError('forbidden', message);
    }
  }

  doorOf(request: FastifyRequest): Door {
    if (!this.#access) return { kind: 'open' };
    const visit = visits.get(request);
    const message = this.#strangers.get(request);
    if (message !== undefined || visit === undefined) return { kind: 'stranger', message };
    const { name } = visit.principal;
    if (visit.refusal !== undefined) return { kind: 'forbidden', name, message: visit.refusal };
    return { kind: 'open', name };
  }

  admit(request: FastifyRequest, authorization: string): Verdict | Forbidden {
    const route = this.#routeOf(request);
    const verdict = route && this.#identify(request, route, authorization);
    if (verdict?.kind === 'known' && [...verdict.principal.can].every((one) => one === 'send')) {
      return { kind: 'forbidden', message: this.#forbid(request, verdict.principal.name, 'read') };
    }
    return verdict ?? { kind: 'refused', reason: 'missing', message: 'nobody has to say here who they are' };
  }

  mayGoOn(request: FastifyRequest): boolean {
    const visit = visits.get(request);
    if (!this.#access || visit?.route.needs === undefined) return true;
    const verdict = this.#access.authenticator.identify(this.#credentialsOf(request));
    return verdict.kind === 'known' && verdict.principal.can.has(visit.route.needs);
  }

  #forbid(request: FastifyRequest, name: string, needed: Permission): string {
    this.#access?.counters.add('forbidden', 1, { reason: 'permission' });
    const message = `${name} may not ${WORDS[needed]}: that takes a token or certificate that can \`${needed}\``;
    const visit = visits.get(request);
    if (visit) visit.refusal = message;
    return message;
  }

  #routeOf({ method, routeOptions }: FastifyRequest): Route | undefined {
    return this.#routes.get(keyOf(method === 'HEAD' ? 'GET' : method, routeOptions.url ?? ''));
  }

  /** A header counts before a session of the page, so that a program in a browser's profile is who it says. */
  #credentialsOf({ headers, raw }: FastifyRequest): Credentials {
    const authorization = headers.authorization ?? this.#options.sessions.authorizationOf(headers.cookie);
    return { authorization, certificate: clientCertificateOf(raw.socket) };
  }

  #identify(request: FastifyRequest, route: Route, authorization: string | undefined): Verdict | undefined {
    const certificate = clientCertificateOf(request.raw.socket);
    const verdict = this.#access?.authenticator.identify({ authorization, certificate });
    if (verdict?.principal) {
      const refusal = verdict.kind === 'refused' ? verdict.message : undefined;
      visits.set(request, { route, principal: verdict.principal, startMs: this.#options.clock.nowMs(), refusal });
    }
    return verdict;
  }
}

/** How many records an answer of the contract holds. */
function rowsOf(payload: unknown): number | undefined {
  if (typeof payload !== 'object' || payload === null) return undefined;
  for (const key of ['records', 'revisions', 'items']) {
    const list = (payload as Readonly<Record<string, unknown>>)[key];
    if (Array.isArray(list)) return list.length;
  }
  return '@timestamp' in payload ? 1 : undefined;
}

/** What is answered in place of what could not be recorded. */
function withheld(reply: FastifyReply, error: unknown, { reportFailure }: AccessOptions): string {
  if (!(error instanceof AppError)) reportFailure(error);
  const code = error instanceof AppError ? error.code : 'internal';
  const message = error instanceof AppError ? error.message : 'internal error; the log of the server says more';
  reply.code(ERROR_CODES[code].http).type('application/json; charset=utf-8');
  for (const name of ['content-disposition', 'content-length']) reply.removeHeader(name);
  return JSON.stringify({ error: { code, message } } satisfies ErrorAnswer);
}

function unauthenticated(reply: FastifyReply, message: string): AppError {
  reply.header('www-authenticate', 'Bearer realm="spantrail"');
  return new AppError('unauthenticated', message);
}

/** `/records/:id` and `/records/{id}` are the same. */
function keyOf(method: string, path: string): string {
  return `${method} ${path.replace(/:(\w+)/g, '{$1}')}`;
}
