import { constants, type Http2Session, type ServerHttp2Stream } from 'node:http2';
import { Duplex } from 'node:stream';
import type { ServerInterceptingCallInterface, ServerInterceptor } from '@grpc/grpc-js';
import { Metadata, ResponderBuilder, ServerInterceptingCall, ServerListenerBuilder, status } from '@grpc/grpc-js';
import { clientCertificateOf } from '../auth/client-certificate.ts';
import type { SentSignal } from '../auth/principal.ts';
import { assert } from '../core/assert.ts';
import type { Counters } from '../core/metrics.ts';
import { encodeStatus } from '../otlp/response.ts';
import { BUDGET_MESSAGE, type Budget, LIMIT_MESSAGES, NAMESPACE_HEADER, RETRY_AFTER_MS } from './admission.ts';
import type { Limit } from './fair-share.ts';
import type { Connection, Reservation } from './in-flight.ts';
import { CONTENT_ENCODINGS, inflate, looksCompressed } from './inflate.ts';
import { type CutReason, PIECE_BYTES_MIN } from './limits.ts';
import type { Closed, Entrance, Gate, Pass } from './senders.ts';

export interface Refusal {
  readonly kind: 'status';
  readonly code: status;
  readonly message: string;
  readonly metadata: Metadata;
}

/** Never acceptable: the client must not retry. */
export function badRequest(field: string, message: string): Refusal {
  const badRequest = { field, description: message };
  return refusal(status.INVALID_ARGUMENT, message, { badRequest });
}

/** Nothing was kept; the client sends the same again after the time in RetryInfo. */
export function unavailable(message: string, retryAfterMs: number): Refusal {
  return refusal(status.UNAVAILABLE, message, { retryAfterMs });
}

/** The same, when it is this sender who has too much in work: its RetryInfo is what makes the status one to retry. */
export function overLimit(limit: Limit): Refusal {
  const code = limit === 'share' ? status.RESOURCE_EXHAUSTED : status.UNAVAILABLE;
  return refusal(code, LIMIT_MESSAGES[limit], { retryAfterMs: RETRY_AFTER_MS });
}

/** Of a sender over its quota: what makes clients retry is RetryInfo. */
export function overQuota(message: string, retryAfterMs: number): Refusal {
  return refusal(status.RESOURCE_EXHAUSTED, message, { retryAfterMs });
}

function notLetIn({ code, message, retryAfterMs = RETRY_AFTER_MS }: Closed): Refusal {
  if (code === 'over_share') return overQuota(message, retryAfterMs);
  const number = code === 'unauthenticated' ? status.UNAUTHENTICATED : status.PERMISSION_DENIED;
  return { kind: 'status', code: number, message, metadata: new Metadata() };
}

/** Without RetryInfo, which tells clients not to retry. */
function tooLarge(bytesMax: number): Refusal {
  const message = `the request inflates to more than ${bytesMax} bytes; send smaller batches`;
  return { kind: 'status', code: status.RESOURCE_EXHAUSTED, message, metadata: new Metadata() };
}

function refusal(
  code: status,
  message: string,
  details: { retryAfterMs?: number; badRequest?: { field: string; description: string } },
): Refusal {
  const metadata = new Metadata();
  metadata.set('grpc-status-details-bin', encodeStatus('protobuf', { code, message, ...details }));
  return { kind: 'status', code, message, metadata };
}

export interface CallLimits {
  readonly budget: Budget;
  readonly counters: Counters;
  readonly requestBytesMax: number;
  /** How long the next bytes may take, in either direction. */
  readonly stallMs: number;
  /** How long a request may take to arrive. */
  readonly requestMs: number;
  /** What the requests of each method path are counted as. */
  readonly signals: ReadonlyMap<string, SentSignal>;
  /** Asked before a byte of the message is read. */
  readonly gate: Gate;
  /** The connections that are served. */
  readonly connections: WeakMap<Http2Session, Connection>;
  /** Filled with what is known of each call, by the metadata object that its handler gets too. */
  readonly begun: WeakMap<Metadata, BegunCall>;
}

export interface BegunCall {
  readonly reservation: Reservation;
  readonly pass: Pass | undefined;
  readonly namespace: string | undefined;
}

/**
 * Watches over each call from its first byte: refuses it unread when there is no room for it, counts what is in flight while
 * it is read, cuts stalled and slow senders and readers, counts the status that was sent, and inflates compressed messages.
 *
 * grpc-js would inflate by itself, but each call up to the cap on its own, so that a few hundred small gzip bombs exhaust the
 * memory; and it answers INTERNAL for a broken gzip, where OTLP asks for INVALID_ARGUMENT. It has no public way to see the
 * bytes before they are a whole message, so this reads two fields of its call object (`stream`, `incomingEncoding`); the
 * version is pinned and the first call would fail loudly.
 */
export function guardCalls(limits: CallLimits): ServerInterceptor {
  return (method, call) => {
    const { stream, encoding } = takeOver(call);
    const cut = (reason: CutReason): void => limits.counters.add('cut', 1, { transport: 'grpc', reason });
    stream.once('close', () => {
      const signal = limits.signals.get(method.path) ?? 'other';
      limits.counters.add('requests', 1, { transport: 'grpc', signal, status: sentStatus(stream) });
    });
    let refused = false;
    let release = (): void => undefined;
    const refuse = (reason: CutReason | undefined, answer: Refusal): void => {
      if (refused) return;
      refused = true;
      release();
      // Over the cap of grpc-js or of its deadline: then it has answered already.
      if (stream.headersSent || stream.destroyed) return;
      if (reason) cut(reason);
      call.sendStatus({ code: answer.code, details: answer.message, metadata: answer.metadata });
    };
    watchTimes(stream, limits, cut, refuse);
    const reservation = begin(stream, limits, refuse);
    if (reservation) watchBytes(stream, reservation, limits.requestBytesMax, cut, refuse);
    // Answered before it ended, by us or by grpc-js, which would go on to collect it: the rest is not wanted.
    stream.on('data', () => {
      if (stream.headersSent) stream.close(constants.NGHTTP2_NO_ERROR);
    });
    if (!reservation) return new ServerInterceptingCall(call);
    release = reservation.release;
    stream.once('close', release);
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => {
        const entrance = enter(method.path, metadata, stream, limits);
        if (!entrance.isOpen) return refuse(undefined, notLetIn(entrance));
        limits.begun.set(metadata, { ...entrance, reservation });
        next(metadata);
      })
      .withOnReceiveHalfClose((next) => {
        if (!refused) next();
      })
      .withOnReceiveMessage((message: Buffer, next) => {
        if (refused) return;
        // In one piece from here on.
        reservation.shrinkTo(message.length + PREFIX_BYTES);
        if (!looksCompressed(message, encoding)) return next(message);
        const inflating = inflateMessage(message, encoding, limits.requestBytesMax, reservation);
        void inflating.then((result) => {
          if (Buffer.isBuffer(result)) next(result);
          else refuse(result.reason, result.answer);
        });
      })
      .build();
    return new ServerInterceptingCall(call, new ResponderBuilder().withStart((next) => next(listener)).build());
  };
}

function enter(path: string, metadata: Metadata, { session }: ServerHttp2Stream, limits: CallLimits): Entrance {
  const namespace = metadata.get(NAMESPACE_HEADER)[0]?.toString();
  const signal = limits.signals.get(path);
  // There is no such method, and that is the answer.
  if (signal === undefined) return { isOpen: true, pass: undefined, namespace };
  const authorization = metadata.get('authorization')[0]?.toString();
  const certificate = session && clientCertificateOf(session.socket);
  return limits.gate({ credentials: { authorization, certificate }, signal, namespace });
}

type Refuse = (reason: CutReason | undefined, answer: Refusal) => void;

/** The room for one more call; undefined when there is none and it was refused. */
function begin(stream: ServerHttp2Stream, limits: CallLimits, refuse: Refuse): Reservation | undefined {
  const budget = limits.budget();
  if (budget.refuse) {
    refuse('budget', unavailable(BUDGET_MESSAGE, budget.retryAfterMs));
    return undefined;
  }
  const connection = stream.session && limits.connections.get(stream.session);
  const reservation = connection?.begin() ?? 'full';
  if (typeof reservation !== 'string') return reservation;
  refuse(reservation, overLimit(reservation));
  return undefined;
}

/**
 * Neither a sender nor a reader may keep a call for longer than it takes; only we may, while the disk is slow. Timers of our
 * own: the stream's goes on waiting whenever anything else left on the connection.
 */
function watchTimes(
  stream: ServerHttp2Stream,
  { stallMs, requestMs }: CallLimits,
  cut: (reason: CutReason) => void,
  refuse: Refuse,
): void {
  const end = (reason: CutReason, message: string): void => {
    refuse(reason, unavailable(message, RETRY_AFTER_MS));
    stream.close(constants.NGHTTP2_NO_ERROR);
  };
  const deadline = setTimeout(() => end('slow', 'the request took too long to arrive'), requestMs).unref();
  let wasAnswered = false;
  const stall = setTimeout(() => {
    if (!stream.headersSent && !stream.readableEnded) end('stalled', 'the request stalled');
    else if (!wasAnswered) {
      wasAnswered = stream.headersSent;
      stall.refresh();
    } else {
      if (!stream.writableFinished) cut('unread');
      stream.close(stream.writableFinished ? constants.NGHTTP2_NO_ERROR : constants.NGHTTP2_CANCEL);
    }
  }, stallMs).unref();
  stream.on('data', () => stall.refresh());
  stream.once('end', () => clearTimeout(deadline));
  stream.once('close', () => {
    clearTimeout(deadline);
    clearTimeout(stall);
  });
}

const PREFIX_BYTES = 5;

/** Takes room for a message when its prefix says how long it is, and stops what is longer. */
function watchBytes(
  stream: ServerHttp2Stream,
  reservation: Reservation,
  bytesMax: number,
  cut: (reason: CutReason) => void,
  refuse: Refuse,
): void {
  let prefix = Buffer.alloc(0);
  let bytes = 0;
  let messageBytes = Number.POSITIVE_INFINITY;
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    let limit: Limit | undefined;
    if (prefix.length < PREFIX_BYTES) {
      prefix = Buffer.concat([prefix, chunk.subarray(0, PREFIX_BYTES - prefix.length)]);
      if (prefix.length === PREFIX_BYTES) {
        messageBytes = prefix.readUInt32BE(1);
        // grpc-js, which got these bytes first, has answered that.
        if (messageBytes > bytesMax) cut('too_large');
        else limit = reservation.expect(messageBytes + PREFIX_BYTES);
      }
    }
    if (bytes > messageBytes + PREFIX_BYTES && !stream.headersSent) {
      refuse('messages', MESSAGES_REFUSAL);
    }
    limit ??= reservation.add(Math.max(chunk.length, PIECE_BYTES_MIN));
    if (limit) refuse(limit, overLimit(limit));
  });
}

/** The status that gRPC names for a call with more messages than its method takes. */
const MESSAGES_REFUSAL: Refusal = {
  kind: 'status',
  code: status.UNIMPLEMENTED,
  message: 'a call takes one message',
  metadata: new Metadata(),
};

async function inflateMessage(
  message: Buffer,
  encoding: string,
  bytesMax: number,
  reservation: Reservation,
): Promise<Buffer | { reason: CutReason | undefined; answer: Refusal }> {
  const result = await inflate(message, encoding, bytesMax, reservation);
  switch (result.kind) {
    case 'inflated':
      return result.payload;
    case 'too_large':
      return { reason: 'too_large', answer: tooLarge(bytesMax) };
    case 'busy':
      return { reason: result.limit, answer: overLimit(result.limit) };
    case 'corrupt':
      return { reason: undefined, answer: badRequest('body', result.message) };
  }
}

/** The call's stream, and its encoding if it is one we inflate; grpc-js is then told that there is nothing to inflate. */
function takeOver(call: ServerInterceptingCallInterface): { stream: ServerHttp2Stream; encoding: string } {
  assert('stream' in call && isServerStream(call.stream), 'grpc-js keeps the call in `stream`');
  assert('incomingEncoding' in call && typeof call.incomingEncoding === 'string', 'and its encoding beside it');
  const encoding = call.incomingEncoding;
  if (!CONTENT_ENCODINGS.includes(encoding)) return { stream: call.stream, encoding: 'identity' };
  call.incomingEncoding = 'identity';
  return { stream: call.stream, encoding };
}

function isServerStream(value: unknown): value is ServerHttp2Stream {
  return value instanceof Duplex && 'sentTrailers' in value;
}

/** The name of the gRPC status that went out; `CANCELLED` when the client was gone first. */
function sentStatus(stream: ServerHttp2Stream): string {
  const code = stream.sentTrailers?.['grpc-status'] ?? stream.sentHeaders?.['grpc-status'];
  return status[code === undefined ? status.CANCELLED : Number(code)] ?? 'UNKNOWN';
}
