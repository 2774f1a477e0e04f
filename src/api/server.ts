import type { RequestListener, Server } from 'node:http';
import { createServer } from 'node:https';
import { isIP } from 'node:net';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Tls } from '../auth/tls.ts';
import type { Clock } from '../core/clock.ts';
import { AppError, describeError, ERROR_CODES, type ErrorCode } from '../core/errors.ts';
import type { Span } from '../core/evidence.ts';
import type { AuditRecord } from '../core/record.ts';
import type { Store } from '../store/port.ts';
import { type AccessControl, addAccessControl } from './access.ts';
import { type AlertDesk, addAlertRoutes } from './alerts.ts';
import type { ErrorAnswer, PipelineAnswer } from './contract.ts';
import { addCoverageRoute, type CoverageSource } from './coverage.ts';
import { addHistogramRoute } from './histogram.ts';
import { addInsightRoutes, type InsightSettings } from './insights.ts';
import { addLogin } from './login.ts';
import { openApiDocument } from './openapi.ts';
import { addPage } from './page.ts';
import { addQuarantineRoutes, type QuarantineDesk } from './quarantine.ts';
import { addReadinessRoute, type Readiness } from './readiness.ts';
import { addReconcileRoute, type ReconcileDesk } from './reconcile.ts';
import { addRecordRoutes } from './records.ts';
import { addRuleRoutes, type RuleDesk } from './rules.ts';
import { QueryTextError } from './selection.ts';
import { createSessions } from './session.ts';
import { addStreamRoutes } from './streams.ts';
import type { ApiAccess } from './teller.ts';

/** What the API needs from the rest of the house. */
export interface ApiDependencies {
  readonly store: Store;
  readonly clock: Clock;
  readonly version: string;
  /** Without it nobody is asked who they are, and nothing is recorded. */
  readonly access?: ApiAccess;
  readonly tls?: Pick<Tls, 'serverOptions' | 'protect'> | undefined;
  /** Something in front decides who may ask: then this machine may have names that are not known here. */
  readonly isGuarded?: boolean;
  /** Calls the listener with records as they are written; answers how to stop. */
  subscribe(listener: (records: readonly AuditRecord[]) => void): () => void;
  /** Every span of a trace as long as the write-ahead log holds it; none when it does not. */
  readTrace(traceId: string): Promise<readonly Span[]>;
  pipeline(): Promise<PipelineAnswer>;
  readonly coverage: CoverageSource;
  readonly quarantine: QuarantineDesk;
  readonly reconcile: ReconcileDesk;
  readonly insights: InsightSettings;
  readonly alerts: AlertDesk;
  /** Absent when rules are switched off. */
  readonly rules?: RuleDesk;
  readiness(): Readiness;
  metricsText(): Promise<string>;
  reportFailure(error: unknown): void;
}

/** Longest URL and header block that are read: a long query fits, nothing else needs more. */
const HEADER_BYTES_MAX = 32 * 1024;
const REQUEST_TIMEOUT_MS = 60_000;

/** The contract's own schemas check parameters. Without these fastify loads libraries for its kind of schemas, of which there are none. */
const NO_SCHEMAS = { compilersFactory: { buildValidator: noSchema, buildSerializer: noSchema } };

export interface RunningApi {
  readonly port: number;
  close(): Promise<void>;
}

/** Throws AppError('usage') when the port is taken. Port 0 takes any free one. */
export async function startApi(address: { host: string; port: number }, needs: ApiDependencies): Promise<RunningApi> {
  const { server, control } = buildApi(needs);
  try {
    await server.listen(address);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw cause;
    throw new AppError(
      'usage',
      `port ${address.port} (API) is in use; choose another with --api-port N, or 0 for any`,
      {
        cause,
      },
    );
  }
  const bound = server.server.address();
  return {
    port: typeof bound === 'object' && bound !== null ? bound.port : address.port,
    close: async () => {
      server.server.closeAllConnections();
      await server.close();
      await control.settled();
    },
  };
}

function noSchema(): never {
  throw new Error('routes have no schemas of fastify');
}

/** The API without a socket, for tests. */
export function createApi(needs: ApiDependencies): FastifyInstance {
  return buildApi(needs).server;
}

function buildApi(needs: ApiDependencies): { readonly server: FastifyInstance; readonly control: AccessControl } {
  const { tls } = needs;
  const server: FastifyInstance = fastify({
    logger: false,
    requestTimeout: REQUEST_TIMEOUT_MS,
    http: { maxHeaderSize: HEADER_BYTES_MAX },
    routerOptions: { maxParamLength: 200 },
    schemaController: NO_SCHEMAS,
    ...(tls && { serverFactory: (handler: RequestListener) => createSecureServer(tls, handler) }),
  });
  const sessions = createSessions(needs.clock, tls !== undefined);
  const asksNobody = needs.access?.authenticator.isOn !== true && needs.isGuarded !== true;
  server.addHook('onRequest', async (request) => {
    if (asksNobody) refuseForeignNames(request);
    refuseForeignPages(request);
  });
  const control = addAccessControl(server, { ...needs, access: needs.access, sessions });
  server.addHook('onSend', async (_request, reply) => {
    reply.header('x-content-type-options', 'nosniff');
    reply.header('cache-control', 'no-store');
  });
  server.setErrorHandler((error, request, reply) => sendError(error, request, reply, needs, control));
  server.setNotFoundHandler((request, reply) => {
    const body: ErrorAnswer = {
      error: {
        code: 'not_found',
        message: `no route ${request.method} ${request.url.split('?')[0]}; see /api/v1/openapi.json`,
      },
    };
    return reply.code(404).send(body);
  });
  addRecordRoutes(server, needs);
  addHistogramRoute(server, needs);
  addCoverageRoute(server, needs);
  addInsightRoutes(server, needs);
  addAlertRoutes(server, needs);
  addRuleRoutes(server, needs.rules);
  addStreamRoutes(server, needs, control);
  addQuarantineRoutes(server, needs.quarantine);
  addReconcileRoute(server, needs, control);
  addPage(server, needs, control);
  addLogin(server, { sessions, control });
  server.get('/api/v1/pipeline', async () => needs.pipeline());
  server.get('/api/v1/openapi.json', async () => openApiDocument(needs.version));
  server.get('/healthz', async (_request, reply) => reply.type('text/plain').send('ok\n'));
  addReadinessRoute(server, needs.readiness);
  server.get('/metrics', async (_request, reply) =>
    reply.type('text/plain; version=0.0.4; charset=utf-8').send(await needs.metricsText()),
  );
  return { server, control };
}

function createSecureServer(tls: NonNullable<ApiDependencies['tls']>, handler: RequestListener): Server {
  const limits = { maxHeaderSize: HEADER_BYTES_MAX, requestTimeout: REQUEST_TIMEOUT_MS };
  const server = createServer({ ...tls.serverOptions, ...limits }, handler);
  tls.protect(server);
  // It has all that fastify asks of a server; the types of Node know it as another kind.
  return server as unknown as Server;
}

/**
 * A page of another site that has its own name lead to this machine is of the same origin for a browser, and says nothing that would tell
 * it from ours but that name. Where nobody is asked who they are, only this machine's reach counts, so it must be called by its own.
 */
function refuseForeignNames({ headers: { host } }: FastifyRequest): void {
  // No browser leaves it out.
  if (host === undefined || host === '') return;
  const { hostname } = URL.canParse(`http://${host}`) ? new URL(`http://${host}`) : { hostname: host };
  if (/(^|\.)localhost\.?$/.test(hostname) || isIP(hostname.replace(/^\[|\]$/g, '')) !== 0) return;
  throw new AppError(
    'forbidden',
    `${hostname.slice(0, 200)} is no name of this machine: ask 127.0.0.1 or localhost, have everybody say who they are (docs/senders.md), or set "insecure" where something in front of this protects it`,
  );
}

/**
 * What changes something is not for pages of other origins: a browser would send it for them, with the user's reach. Nor are questions
 * that they put behind a person's back, also in a frame: those would be recorded as that person's. To follow a link is one's own deed.
 */
function refuseForeignPages({ method, headers }: FastifyRequest): void {
  const { origin } = headers;
  const isFollowed =
    headers['sec-fetch-mode'] === 'navigate' && ['document', undefined].includes(headers['sec-fetch-dest']);
  // Of another origin of the same site, as on another port of this machine, a page would even bring the session's cookie.
  if (['cross-site', 'same-site'].includes(String(headers['sec-fetch-site'])) && !isFollowed) {
    throw new AppError('forbidden', 'a page of another site may not ask anything here');
  }
  if (origin === undefined || method === 'GET' || method === 'HEAD') return;
  if (URL.canParse(origin) && new URL(origin).host === headers.host) return;
  throw new AppError('forbidden', `a page of ${origin} may not change anything here`);
}

function sendError(
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  needs: ApiDependencies,
  control: AccessControl,
): FastifyReply {
  const known = error instanceof AppError;
  const status = (error as { statusCode?: number }).statusCode;
  const clientsFault = !known && status !== undefined && status >= 400 && status < 500;
  if (!known && !clientsFault) needs.reportFailure(error);
  const code: ErrorCode = known ? error.code : clientsFault ? 'bad_request' : 'internal';
  const body: ErrorAnswer = {
    error: {
      code,
      message: known || clientsFault ? describeError(error) : 'internal error; the log of the server says more',
      ...(error instanceof QueryTextError ? { column: error.column } : {}),
    },
  };
  control.noteFailure(request, body.error.message);
  return reply
    .code(known ? ERROR_CODES[code].http : (status ?? 500))
    .type('application/json; charset=utf-8')
    .send(body);
}
