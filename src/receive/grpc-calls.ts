import { constants, type Http2Session, type ServerHttp2Stream } from 'node:http2';
import { Duplex } from 'node:stream';
import type { ServerInterceptingCallInterface, ServerInterceptor } from '@grpc/grpc-js';
import { Metadata, ResponderBuilder, ServerInterceptingCall, ServerListenerBuilder, status } from '@grpc/grpc-js';
import { assert } from '../core/assert.ts';
import type { Counters } from '../core/metrics.ts';
import { encodeStatus } from '../otlp/response.ts';
import { BUSY_MESSAGE, RETRY_AFTER_MS } from './admission.ts';
import type { InFlight, Reservation } from './in-flight.ts';
import { CONTENT_ENCODINGS, inflate, looksCompressed } from './inflate.ts';

export interface Refusal {
  readonly kind: 'status';
  readonly code: status;
  readonly message: string;
  readonly metadata: Metadata;
}

/** Never acceptable: the client must not retry. */
export function badRequest(field: string, message: string): Refusal {
  const metadata = new Metadata();
  const details = encodeStatus('protobuf', {
    code: status.INVALID_ARGUMENT,
    message,
    badRequest: { field, description: message },
  });
  metadata.set('grpc-status-details-bin', details);
  return { kind: 'status', code: status.INVALID_ARGUMENT, message, metadata };
}

/** Nothing was kept; the client sends the same again after the time in RetryInfo. */
export function unavailable(message: string, retryAfterMs: number): Refusal {
  const metadata = new Metadata();
  metadata.set(
    'grpc-status-details-bin',
    encodeStatus('protobuf', { code: status.UNAVAILABLE, message, retryAfterMs }),
  );
  return { kind: 'status', code: status.UNAVAILABLE, message, metadata };
}

/** Without RetryInfo, which tells clients not to retry. */
function tooLarge(bytesMax: number): Refusal {
  const message = `the request inflates to more than ${bytesMax} bytes; send smaller batches`;
  return { kind: 'status', code: status.RESOURCE_EXHAUSTED, message, metadata: new Metadata() };
}

/**
 * HTTP/2 flow control: how much a client may send before it hears from us. The protocol's own 64 KiB let one connection over
 * a link of 10 ms carry 6.5 MB/s. A batch of the usual size fits a stream's window; the connection's bounds what is buffered.
 */
const STREAM_WINDOW_BYTES = 1 << 20;
const CONNECTION_WINDOW_BYTES = 8 << 20;

export interface CallLimits {
  readonly inFlight: InFlight;
  readonly counters: Counters;
  readonly requestBytesMax: number;
  readonly stallMs: number;
  /** What the requests of each method path are counted as. */
  readonly signals: ReadonlyMap<string, string>;
  /** Filled with each call's reservation, by the metadata object that its handler gets too. */
  readonly reservations: WeakMap<Metadata, Reservation>;
}

/**
 * Watches over each call from its first byte: widens the connection's flow control, counts what is in flight while it is
 * read, cuts stalled senders, counts the status that was sent, and inflates compressed messages.
 *
 * grpc-js would inflate by itself, but each call up to the cap on its own, so that a few hundred small gzip bombs exhaust the
 * memory; and it answers INTERNAL for a broken gzip, where OTLP asks for INVALID_ARGUMENT. It has no public way to see the
 * bytes before they are a whole message, so this reads two fields of its call object (`stream`, `incomingEncoding`); the
 * version is pinned and the first call would fail loudly.
 */
export function guardCalls(limits: CallLimits): ServerInterceptor {
  const widened = new WeakSet<Http2Session>();
  return (method, call) => {
    const { stream, encoding } = takeOver(call);
    if (stream.session && !widened.has(stream.session)) {
      widened.add(stream.session);
      stream.session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
      stream.session.settings({ initialWindowSize: STREAM_WINDOW_BYTES });
    }
    const reservation = limits.inFlight.reserve();
    let refused = false;
    const refuse = (refusal: Refusal): void => {
      if (refused) return;
      refused = true;
      reservation.release();
      call.sendStatus({ code: refusal.code, details: refusal.message, metadata: refusal.metadata });
    };
    watchReads(stream, reservation, limits.stallMs, refuse);
    stream.once('close', () => {
      reservation.release();
      const signal = limits.signals.get(method.path) ?? 'other';
      limits.counters.add('requests', 1, { transport: 'grpc', signal, status: sentStatus(stream) });
    });
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => {
        limits.reservations.set(metadata, reservation);
        next(metadata);
      })
      .withOnReceiveMessage((message: Buffer, next) => {
        if (refused) return;
        if (!looksCompressed(message, encoding)) return next(message);
        void inflateMessage(message, encoding, limits.requestBytesMax, reservation).then((result) => {
          if (Buffer.isBuffer(result)) next(result);
          else refuse(result);
        });
      })
      .build();
    return new ServerInterceptingCall(call, new ResponderBuilder().withStart((next) => next(listener)).build());
  };
}

function watchReads(
  stream: ServerHttp2Stream,
  reservation: Reservation,
  stallMs: number,
  refuse: (refusal: Refusal) => void,
): void {
  stream.on('data', (chunk: Buffer) => {
    if (!reservation.add(chunk.length)) refuse(unavailable(BUSY_MESSAGE, RETRY_AFTER_MS));
    // Answered before it ended (refused above, or over the cap in grpc-js): the rest is not wanted.
    if (stream.headersSent) stream.close(constants.NGHTTP2_NO_ERROR);
  });
  stream.setTimeout(stallMs, () => {
    refuse(unavailable('the request stalled', RETRY_AFTER_MS));
    stream.close(constants.NGHTTP2_NO_ERROR);
  });
  // From here on it is we who let the client wait.
  stream.once('end', () => stream.setTimeout(0));
}

async function inflateMessage(
  message: Buffer,
  encoding: string,
  bytesMax: number,
  reservation: Reservation,
): Promise<Buffer | Refusal> {
  const result = await inflate(message, encoding, bytesMax, reservation);
  switch (result.kind) {
    case 'inflated':
      return result.payload;
    case 'too_large':
      return tooLarge(bytesMax);
    case 'busy':
      return unavailable(BUSY_MESSAGE, RETRY_AFTER_MS);
    case 'corrupt':
      return badRequest('body', result.message);
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
