import { ERROR_CODES, type ErrorCode } from '../core/errors.ts';
import { type Encoding, encodeStatus, type StatusAnswer } from '../otlp/response.ts';
import { LIMIT_MESSAGES, RETRY_AFTER_MS } from './admission.ts';
import type { Limit } from './fair-share.ts';
import type { Reservation } from './in-flight.ts';
import type { CutReason } from './limits.ts';
import type { WayIn } from './listen.ts';
import type { Closed, Pass } from './senders.ts';

/** An answer to be sent over HTTP. */
export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** Why it was refused, if it was for a limit. */
  readonly reason?: CutReason;
}

export const CONTENT_TYPES = { protobuf: 'application/x-protobuf', json: 'application/json' } as const satisfies Record<
  Encoding,
  string
>;

/** Answers to requests of no known content type are JSON, which a person can read. */
export function reply(
  status: number,
  encoding: Encoding | undefined,
  body: Buffer,
  headers: Record<string, string> = {},
): Reply {
  return { status, headers: { ...headers, 'content-type': CONTENT_TYPES[encoding ?? 'json'] }, body };
}

export function fail(code: ErrorCode, encoding: Encoding | undefined, message: string, headers = {}): Reply {
  const { http, grpc } = ERROR_CODES[code];
  return reply(http, encoding, encodeStatus(encoding ?? 'json', { code: grpc, message }), headers);
}

/** Never acceptable: which part of the request is wrong, and how it would be right. */
export function failField(encoding: Encoding, badRequest: NonNullable<StatusAnswer['badRequest']>): Reply {
  const { http, grpc } = ERROR_CODES.bad_request;
  return reply(http, encoding, encodeStatus(encoding, { code: grpc, message: badRequest.description, badRequest }));
}

/** 503 when the server is full, 429 when it is this sender who has too much in work: clients retry both. */
export function overLimit(encoding: Encoding | undefined, limit: Limit): Reply {
  const code = limit === 'share' ? 'over_share' : 'unavailable';
  return { ...retryLater(code, encoding, LIMIT_MESSAGES[limit], RETRY_AFTER_MS), reason: limit };
}

export function unavailable(encoding: Encoding | undefined, message: string, retryAfterMs: number): Reply {
  return retryLater('unavailable', encoding, message, retryAfterMs);
}

/** Of a sender over its quota. */
export function overQuota(encoding: Encoding | undefined, message: string, retryAfterMs: number): Reply {
  return retryLater('over_share', encoding, message, retryAfterMs);
}

/** The challenge is that of RFC 6750. */
export function notLetIn(
  encoding: Encoding | undefined,
  { code, message, retryAfterMs = RETRY_AFTER_MS }: Closed,
): Reply {
  if (code === 'over_share') return overQuota(encoding, message, retryAfterMs);
  const error = code === 'forbidden' ? ', error="insufficient_scope"' : '';
  return fail(code, encoding, message, { 'www-authenticate': `Bearer realm="spantrail"${error}` });
}

function retryLater(code: ErrorCode, encoding: Encoding | undefined, message: string, retryAfterMs: number): Reply {
  const { http, grpc } = ERROR_CODES[code];
  const body = encodeStatus(encoding ?? 'json', { code: grpc, message, retryAfterMs });
  return reply(http, encoding, body, { 'retry-after': String(Math.max(1, Math.ceil(retryAfterMs / 1000))) });
}

/** What a route of the HTTP server beside those of OTLP is given. */
export interface RouteRequest {
  /** Without the query. */
  readonly path: string;
  /** Lower case, with its parameters. */
  readonly contentType: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** IP address. */
  readonly peer: string;
  /** As the sender gave it. */
  readonly namespace: string | undefined;
  readonly pass?: Pass | undefined;
  readonly browser: boolean;
  /** What it holds of what is in flight. */
  readonly room: Pick<Reservation, 'add' | 'shrinkTo'>;
}

/** Requests are counted as the signal. */
export interface HttpRoute extends WayIn {
  /** Of a path: the preset that is meant. */
  readonly presetOf?: (path: string) => string;
  /** Of a path: does the sender prove itself to the route, by what is in the body, when it has no token of ours? */
  readonly isSigned?: (path: string) => boolean;
  /** Looks at all but the body: refuses, or says what is to be done with it. */
  readonly open: (request: RouteRequest) => Reply | ((body: Buffer) => Promise<Reply>);
}
