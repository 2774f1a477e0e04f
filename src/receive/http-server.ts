import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { Server as TlsServer } from 'node:tls';
import { clientCertificateOf } from '../auth/client-certificate.ts';
import type { SentSignal } from '../auth/principal.ts';
import type { Tls } from '../auth/tls.ts';
import { bearerToken } from '../auth/token.ts';
import type { Signal } from '../core/evidence.ts';
import type { Counters } from '../core/metrics.ts';
import { transcodeJson } from '../otlp/json.ts';
import { type Encoding, encodeExportResponse } from '../otlp/response.ts';
import type { Admit, AdmitResult, Budget } from './admission.ts';
import { BUDGET_MESSAGE, FAULT_MESSAGE, NAMESPACE_HEADER, RETRY_AFTER_MS } from './admission.ts';
import { compileOrigins, corsHeaders, isPreflight, type OriginCheck, PREFLIGHT_HEADERS } from './cors.ts';
import { type BodyResult, readBody } from './http-body.ts';
import { watchConnections } from './http-connections.ts';
import {
  CONTENT_TYPES,
  fail,
  failField,
  type HttpRoute,
  notLetIn,
  overLimit,
  overQuota,
  type Reply,
  reply,
  unavailable,
} from './http-reply.ts';
import type { Connection, InFlight, Reservation } from './in-flight.ts';
import { CONTENT_ENCODINGS } from './inflate.ts';
import { HEADER_BYTES_MAX, HEADERS_MAX } from './limits.ts';
import { type ClientTimes, listen, peerAddress, type Receiving, SOCKET_OPTIONS } from './listen.ts';
import { type Entrance, type Gate, OPEN_GATE, type Pass } from './senders.ts';

export interface HttpServerOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly admit: Admit;
  /** Asked before a body is read, so that an overload does not cost the reading of what is refused. */
  readonly budget: Budget;
  /** Who may send; default: everybody. */
  readonly gate?: Gate;
  /** Default: plain text. */
  readonly tls?: Tls | undefined;
  readonly inFlight: InFlight;
  readonly counters: Counters;
  /** Cap on one request's body, both as it is sent and after it is inflated. */
  readonly requestBytesMax: number;
  /** Origins whose pages may send, e.g. `https://*.example`. */
  readonly corsOrigins: readonly string[];
  readonly times: ClientTimes;
  /** Told of a fault of ours: the sender only hears "unavailable". */
  readonly onFault: (thrown: unknown) => void;
  /** Further paths to serve beside the three of OTLP. */
  readonly routes?: readonly HttpRoute[];
}

const SIGNALS: ReadonlyMap<string, Signal> = new Map([
  ['/v1/traces', 'traces'],
  ['/v1/logs', 'logs'],
  ['/v1/metrics', 'metrics'],
]);

/** Longer than the 90 s after which Go's client (the Collector) drops idle connections, so that it is never cut in between. */
const KEEP_ALIVE_MS = 120_000;
/** How often slow requests are looked for. */
const CHECK_MS = 2000;

/** Serves OTLP over HTTP/1.1: protobuf and JSON by content type on one port. */
export async function startHttpServer(options: HttpServerOptions): Promise<Receiving> {
  const originAllowed = compileOrigins(options.corsOrigins);
  const { times, counters } = options;
  let closing = false;
  const settings = {
    ...SOCKET_OPTIONS,
    headersTimeout: times.headersMs,
    requestTimeout: times.requestMs,
    connectionsCheckingInterval: CHECK_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxHeaderSize: HEADER_BYTES_MAX,
  };
  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    const connection = connectionOf(request.socket);
    if (!connection) return;
    const cors = corsHeaders(request.headers, originAllowed);
    void answer(request, connection, options, originAllowed).then((reply) => {
      const signal = SIGNALS.get(pathOf(request)) ?? routeOf(request, options)?.signal ?? 'other';
      const status = reply ? String(reply.status) : 'aborted';
      counters.add('requests', 1, { transport: 'http', signal, status });
      if (reply?.reason) counters.add('cut', 1, { transport: 'http', reason: reply.reason });
      if (reply) send(request, response, { ...reply, headers: { ...cors, ...reply.headers } }, closing);
    });
  };
  const { tls } = options;
  const server = tls
    ? createTlsServer({ ...settings, ...tls.serverOptions }, onRequest)
    : createServer(settings, onRequest);
  if (server instanceof TlsServer) tls?.protect(server);
  server.maxHeadersCount = HEADERS_MAX;
  const connectionOf = watchConnections(server, options);
  const port = await listen(server, {
    ...options,
    flag: '--http-port',
    exporter: 'otlp_http: { endpoint: "http://HOST:N" }',
  });
  const waysIn = [...SIGNALS].map(([path, signal]) => ({ path, signal }));
  return {
    port,
    waysIn: [...waysIn, ...(options.routes ?? [])],
    async close(graceMs) {
      closing = true;
      const force = setTimeout(() => server.closeAllConnections(), graceMs);
      await new Promise<void>((resolve) => server.close(() => resolve()));
      clearTimeout(force);
    },
  };
}

function send(request: IncomingMessage, response: ServerResponse, reply: Reply, closing: boolean): void {
  const last = closing ? { connection: 'close' } : {};
  response.on('error', () => response.destroy());
  response.writeHead(reply.status, { ...reply.headers, ...last, 'content-length': reply.body.length }).end(reply.body);
  request.resume();
}

/** What to say to a request; undefined when the client is gone. Holds the request's bytes in flight until it is decided. */
async function answer(
  request: IncomingMessage,
  connection: Connection,
  options: HttpServerOptions,
  originAllowed: OriginCheck,
): Promise<Reply | undefined> {
  const encoding = encodingOf(request);
  const reservation = connection.begin();
  if (typeof reservation === 'string') return overLimit(encoding, reservation);
  try {
    return await answerBegun(request, encoding, reservation, options, originAllowed);
  } catch (thrown) {
    options.onFault(thrown);
    return unavailable(encoding, FAULT_MESSAGE, RETRY_AFTER_MS);
  } finally {
    reservation.release();
  }
}

async function answerBegun(
  request: IncomingMessage,
  encoding: Encoding | undefined,
  reservation: Reservation,
  options: HttpServerOptions,
  originAllowed: OriginCheck,
): Promise<Reply | undefined> {
  const signal = SIGNALS.get(pathOf(request));
  const route = signal === undefined ? routeOf(request, options) : undefined;
  if (route) return answerRoute(route, request, reservation, options);
  if (!signal) return fail('not_found', encoding, notFoundMessage(request, options));
  // Without credentials, as browsers send it.
  if (isPreflight(request.method, request.headers)) return preflight(request, originAllowed);
  const entrance = enter(request, signal, undefined, options);
  if (!entrance.isOpen) return notLetIn(encoding, entrance);
  if (request.method !== 'POST') {
    return fail('method_not_allowed', encoding, `${pathOf(request)} takes POST`, { allow: 'POST' });
  }
  if (!encoding) {
    const message = `content-type must be ${CONTENT_TYPES.protobuf} or ${CONTENT_TYPES.json} (UTF-8)`;
    return fail('unsupported_media_type', encoding, message);
  }
  const body = await bodyWithin(request, encoding, reservation, options);
  if (!Buffer.isBuffer(body)) return body;
  const source = senderOf(request, entrance);
  return exportReply(signal, encoding, await admitBody(source, signal, encoding, body, options.admit));
}

/** The body of a request that there is room for; else the refusal, or undefined when the client is gone. */
async function bodyWithin(
  request: IncomingMessage,
  encoding: Encoding,
  reservation: Reservation,
  options: HttpServerOptions,
): Promise<Buffer | Reply | undefined> {
  const budget = options.budget();
  if (budget.refuse) return { ...unavailable(encoding, BUDGET_MESSAGE, budget.retryAfterMs), reason: 'budget' };
  const body = await readBody(request, options.requestBytesMax, reservation);
  if (body.kind === 'aborted') return undefined;
  return body.kind === 'body' ? body.bytes : bodyFailure(body, encoding, options.requestBytesMax);
}

function routeOf(request: IncomingMessage, { routes = [] }: HttpServerOptions): HttpRoute | undefined {
  const path = pathOf(request);
  return routes.find((route) => (route.path.endsWith('/') ? path.startsWith(route.path) : path === route.path));
}

/** Pages in browsers are not asked here: what they say of accesses is context at best, and for that they have OTLP. */
async function answerRoute(
  route: HttpRoute,
  request: IncomingMessage,
  reservation: Reservation,
  options: HttpServerOptions,
): Promise<Reply | undefined> {
  if (isPreflight(request.method, request.headers)) {
    return fail('forbidden', 'json', `${route.path} is not for pages in browsers; they send OTLP to /v1/traces`);
  }
  const path = pathOf(request);
  const entrance = enterRoute(request, route, path, options);
  if (!entrance.isOpen) return notLetIn(encodingOf(request) ?? 'json', entrance);
  if (request.method !== 'POST') {
    return fail('method_not_allowed', 'json', `${route.path} takes POST`, { allow: 'POST' });
  }
  const opened = route.open({
    path,
    contentType: (request.headers['content-type'] ?? '').toLowerCase(),
    headers: request.headers,
    room: reservation,
    ...senderOf(request, entrance),
  });
  if (typeof opened !== 'function') return opened;
  const body = await bodyWithin(request, encodingOf(request) ?? 'json', reservation, options);
  return Buffer.isBuffer(body) ? opened(body) : body;
}

function enter(
  { headers, socket }: IncomingMessage,
  signal: SentSignal,
  preset: string | undefined,
  { gate = OPEN_GATE }: HttpServerOptions,
): Entrance {
  const credentials = { authorization: headers.authorization, certificate: clientCertificateOf(socket) };
  return gate({ credentials, signal, preset, namespace: namespaceIn(headers) });
}

function enterRoute(request: IncomingMessage, route: HttpRoute, path: string, options: HttpServerOptions): Entrance {
  // The header may be the secret that the route asks for.
  const hasToken = bearerToken(request.headers.authorization ?? '') !== undefined;
  if (hasToken || !route.isSigned?.(path)) return enter(request, route.signal, route.presetOf?.(path), options);
  return { isOpen: true, pass: undefined, namespace: namespaceIn(request.headers) };
}

function namespaceIn(headers: IncomingMessage['headers']): string | undefined {
  return headers[NAMESPACE_HEADER]?.toString();
}

interface HttpSource {
  readonly transport: 'http';
  readonly peer: string;
  readonly namespace: string | undefined;
  readonly pass: Pass | undefined;
  readonly browser: boolean;
}

function senderOf(request: IncomingMessage, { pass, namespace }: Extract<Entrance, { isOpen: true }>): HttpSource {
  return {
    transport: 'http',
    peer: peerAddress(request.socket.remoteAddress),
    namespace,
    pass,
    browser: request.headers.origin !== undefined,
  };
}

function admitBody(
  source: HttpSource,
  signal: Signal,
  encoding: Encoding,
  body: Buffer,
  admit: Admit,
): Promise<AdmitResult> | AdmitResult {
  const transcoded = encoding === 'json' ? transcodeJson(signal, body) : { ok: true as const, payload: body };
  if (!transcoded.ok) {
    const field = transcoded.path || 'body';
    return { kind: 'invalid', field, message: `${field}: ${transcoded.message}`, offset: 0 };
  }
  return admit(signal, transcoded.payload, source);
}

function exportReply(signal: Signal, encoding: Encoding, result: AdmitResult): Reply {
  switch (result.kind) {
    case 'accepted':
      return reply(200, encoding, encodeExportResponse(encoding, signal, result.rejected, result.reason));
    case 'invalid':
      return failField(encoding, { field: result.field, description: result.message });
    case 'unavailable':
      return unavailable(encoding, result.message, result.retryAfterMs);
    case 'over_quota':
      return overQuota(encoding, result.message, result.retryAfterMs);
  }
}

function bodyFailure(
  result: Exclude<BodyResult, { kind: 'body' } | { kind: 'aborted' }>,
  encoding: Encoding,
  bytesMax: number,
): Reply {
  switch (result.kind) {
    case 'too_large': {
      const message = `the request is larger than ${bytesMax} bytes; send smaller batches`;
      return { ...fail('too_large', encoding, message), reason: 'too_large' };
    }
    case 'busy':
      return overLimit(encoding, result.limit);
    case 'corrupt':
      return fail('bad_request', encoding, result.message);
    case 'unsupported_encoding': {
      const accepted = CONTENT_ENCODINGS.join(', ');
      const message = `content-encoding must be identity or one of ${accepted}`;
      return fail('unsupported_media_type', encoding, message, { 'accept-encoding': accepted });
    }
  }
}

function preflight(request: IncomingMessage, originAllowed: OriginCheck): Reply {
  const { origin = '' } = request.headers;
  if (!originAllowed(origin)) return fail('forbidden', 'json', `origin ${origin} is not among the allowed origins`);
  return { status: 204, headers: PREFLIGHT_HEADERS, body: Buffer.alloc(0) };
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').replace(/[?#].*$/, '');
}

function notFoundMessage(request: IncomingMessage, { routes = [] }: HttpServerOptions): string {
  const paths = [...SIGNALS.keys()].join(', ');
  const others = routes.map(({ path }) => (path.endsWith('/') ? `${path}{preset}` : path));
  const more = others.length > 0 ? `, access events at ${others.join(', ')}` : '';
  return `there is nothing at ${pathOf(request).slice(0, 200)}: OTLP is taken by POST at ${paths}${more}`;
}

/** The encoding that the content type names; undefined for others and for JSON that is not UTF-8. */
function encodingOf(request: IncomingMessage): Encoding | undefined {
  const [type = '', ...parameters] = (request.headers['content-type'] ?? '').toLowerCase().split(';');
  if (type.trim() === CONTENT_TYPES.protobuf) return 'protobuf';
  if (type.trim() !== CONTENT_TYPES.json) return undefined;
  const charset = parameters.map((parameter) => /^\s*charset\s*=\s*"?([^"\s]*)/.exec(parameter)?.[1]).find(Boolean);
  return charset === undefined || charset === 'utf-8' || charset === 'utf8' ? 'json' : undefined;
}
