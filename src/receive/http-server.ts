import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import { ERROR_CODES, type ErrorCode } from '../core/errors.ts';
import type { Signal } from '../core/evidence.ts';
import type { Counters } from '../core/metrics.ts';
import { transcodeJson } from '../otlp/json.ts';
import { type Encoding, encodeExportResponse, encodeStatus } from '../otlp/response.ts';
import type { Admit, AdmitResult, Budget } from './admission.ts';
import { BUDGET_MESSAGE, FAULT_MESSAGE, LIMIT_MESSAGES, NAMESPACE_HEADER, RETRY_AFTER_MS } from './admission.ts';
import { compileOrigins, corsHeaders, isPreflight, type OriginCheck, PREFLIGHT_HEADERS } from './cors.ts';
import type { Limit } from './fair-share.ts';
import { type BodyResult, readBody } from './http-body.ts';
import { watchConnections } from './http-connections.ts';
import type { Connection, InFlight, Reservation } from './in-flight.ts';
import { CONTENT_ENCODINGS } from './inflate.ts';
import { type CutReason, HEADER_BYTES_MAX, HEADERS_MAX } from './limits.ts';
import { type ClientTimes, type Listening, listen, peerAddress, SOCKET_OPTIONS } from './listen.ts';

export interface HttpServerOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly admit: Admit;
  /** Asked before a body is read, so that an overload does not cost the reading of what is refused. */
  readonly budget: Budget;
  readonly inFlight: InFlight;
  readonly counters: Counters;
  /** Cap on one request's body, both as it is sent and after it is inflated. */
  readonly requestBytesMax: number;
  /** Origins whose pages may send, e.g. `https://*.example`. */
  readonly corsOrigins: readonly string[];
  readonly times: ClientTimes;
  /** Told of a fault of ours: the sender only hears "unavailable". */
  readonly onFault: (thrown: unknown) => void;
}

interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** Why it was refused, if it was for a limit. */
  readonly reason?: CutReason;
}

const SIGNALS: ReadonlyMap<string, Signal> = new Map([
  ['/v1/traces', 'traces'],
  ['/v1/logs', 'logs'],
  ['/v1/metrics', 'metrics'],
]);

const CONTENT_TYPES = { protobuf: 'application/x-protobuf', json: 'application/json' } as const satisfies Record<
  Encoding,
  string
>;

/** Longer than the 90 s after which Go's client (the Collector) drops idle connections, so that it is never cut in between. */
const KEEP_ALIVE_MS = 120_000;
/** How often slow requests are looked for. */
const CHECK_MS = 2000;

/** Serves OTLP over HTTP/1.1 without TLS: protobuf and JSON by content type on one port. */
export async function startHttpServer(options: HttpServerOptions): Promise<Listening> {
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
  const server = createServer(settings, (request, response) => {
    const connection = connectionOf(request.socket);
    if (!connection) return;
    const cors = corsHeaders(request.headers, originAllowed);
    void answer(request, connection, options, originAllowed).then((reply) => {
      const signal = SIGNALS.get(pathOf(request)) ?? 'other';
      const status = reply ? String(reply.status) : 'aborted';
      counters.add('requests', 1, { transport: 'http', signal, status });
      if (reply?.reason) counters.add('cut', 1, { transport: 'http', reason: reply.reason });
      if (reply) send(request, response, { ...reply, headers: { ...cors, ...reply.headers } }, closing);
    });
  });
  server.maxHeadersCount = HEADERS_MAX;
  const connectionOf = watchConnections(server, options);
  const port = await listen(server, {
    ...options,
    flag: '--http-port',
    exporter: 'otlp_http: { endpoint: "http://HOST:N" }',
  });
  return {
    port,
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
  if (!signal) return fail('not_found', encoding, notFoundMessage(request));
  if (isPreflight(request.method, request.headers)) return preflight(request, originAllowed);
  if (request.method !== 'POST') {
    return fail('method_not_allowed', encoding, `${pathOf(request)} takes POST`, { allow: 'POST' });
  }
  if (!encoding) {
    const message = `content-type must be ${CONTENT_TYPES.protobuf} or ${CONTENT_TYPES.json} (UTF-8)`;
    return fail('unsupported_media_type', encoding, message);
  }
  const budget = options.budget();
  if (budget.refuse) return { ...unavailable(encoding, BUDGET_MESSAGE, budget.retryAfterMs), reason: 'budget' };
  const body = await readBody(request, options.requestBytesMax, reservation);
  if (body.kind === 'aborted') return undefined;
  if (body.kind !== 'body') return bodyFailure(body, encoding, options.requestBytesMax);
  return exportReply(signal, encoding, await admitBody(request, signal, encoding, body.bytes, options.admit));
}

function admitBody(
  request: IncomingMessage,
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
  return admit(signal, transcoded.payload, {
    transport: 'http',
    peer: peerAddress(request.socket.remoteAddress),
    namespace: request.headers[NAMESPACE_HEADER]?.toString(),
    browser: request.headers.origin !== undefined,
  });
}

function exportReply(signal: Signal, encoding: Encoding, result: AdmitResult): Reply {
  switch (result.kind) {
    case 'accepted':
      return reply(200, encoding, encodeExportResponse(encoding, signal, result.rejected, result.reason));
    case 'invalid': {
      const { http, grpc } = ERROR_CODES.bad_request;
      const badRequest = { field: result.field, description: result.message };
      return reply(http, encoding, encodeStatus(encoding, { code: grpc, message: result.message, badRequest }));
    }
    case 'unavailable':
      return unavailable(encoding, result.message, result.retryAfterMs);
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

/** 503 when the server is full, 429 when it is this sender who has too much in work: clients retry both. */
function overLimit(encoding: Encoding | undefined, limit: Limit): Reply {
  const code = limit === 'share' ? 'over_share' : 'unavailable';
  return { ...retryLater(code, encoding, LIMIT_MESSAGES[limit], RETRY_AFTER_MS), reason: limit };
}

function unavailable(encoding: Encoding | undefined, message: string, retryAfterMs: number): Reply {
  return retryLater('unavailable', encoding, message, retryAfterMs);
}

function retryLater(code: ErrorCode, encoding: Encoding | undefined, message: string, retryAfterMs: number): Reply {
  const { http, grpc } = ERROR_CODES[code];
  const body = encodeStatus(encoding ?? 'json', { code: grpc, message, retryAfterMs });
  return reply(http, encoding, body, { 'retry-after': String(Math.max(1, Math.ceil(retryAfterMs / 1000))) });
}

function fail(code: ErrorCode, encoding: Encoding | undefined, message: string, headers = {}): Reply {
  const { http, grpc } = ERROR_CODES[code];
  return reply(http, encoding, encodeStatus(encoding ?? 'json', { code: grpc, message }), headers);
}

/** Answers to requests of no known content type are JSON, which a person can read. */
function reply(
  status: number,
  encoding: Encoding | undefined,
  body: Buffer,
  headers: Record<string, string> = {},
): Reply {
  return { status, headers: { ...headers, 'content-type': CONTENT_TYPES[encoding ?? 'json'] }, body };
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').replace(/[?#].*$/, '');
}

function notFoundMessage(request: IncomingMessage): string {
  const paths = [...SIGNALS.keys()].join(', ');
  return `there is nothing at ${pathOf(request).slice(0, 200)}: OTLP is taken by POST at ${paths}`;
}

/** The encoding that the content type names; undefined for others and for JSON that is not UTF-8. */
function encodingOf(request: IncomingMessage): Encoding | undefined {
  const [type = '', ...parameters] = (request.headers['content-type'] ?? '').toLowerCase().split(';');
  if (type.trim() === CONTENT_TYPES.protobuf) return 'protobuf';
  if (type.trim() !== CONTENT_TYPES.json) return undefined;
  const charset = parameters.map((parameter) => /^\s*charset\s*=\s*"?([^"\s]*)/.exec(parameter)?.[1]).find(Boolean);
  return charset === undefined || charset === 'utf-8' || charset === 'utf8' ? 'json' : undefined;
}
