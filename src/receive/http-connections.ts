import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { ERROR_CODES, type ErrorCode } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import { encodeStatus } from '../otlp/response.ts';
import { RETRY_AFTER_MS } from './admission.ts';
import type { Connection, InFlight } from './in-flight.ts';
import { type CutReason, HEADER_BYTES_MAX } from './limits.ts';
import { type ClientTimes, peerAddress } from './listen.ts';

export interface ConnectionLimits {
  readonly inFlight: InFlight;
  readonly counters: Counters;
  readonly times: ClientTimes;
}

/**
 * Counts connections in and out, and cuts those that nothing comes of: what is not HTTP, slow and stalled senders, readers
 * that take no answers. Returns the way from a socket to its connection; undefined when it was cut for lack of room.
 */
export function watchConnections(
  server: Server,
  { inFlight, counters, times }: ConnectionLimits,
): (socket: Socket) => Connection | undefined {
  const connections = new WeakMap<Duplex, Connection>();
  const inWork = new WeakMap<Duplex, IncomingMessage>();
  const cut = (reason: CutReason): void => counters.add('cut', 1, { transport: 'http', reason });
  server.on('connection', (socket) => {
    const connection = inFlight.connect(peerAddress(socket.remoteAddress));
    if (typeof connection === 'string') {
      cut('connections');
      socket.destroy();
      return;
    }
    connections.set(socket, connection);
    socket.once('close', () => connection.close());
  });
  server.on('request', (request, response) => {
    inWork.set(request.socket, request);
    response.once('close', () => {
      if (inWork.get(request.socket) === request) inWork.delete(request.socket);
    });
  });
  // Nothing came or went for a while. Node ends the wait of idle connections with the same event.
  server.setTimeout(times.stallMs, (socket) => {
    const request = inWork.get(socket);
    const isUnread = socket.writableLength > 0;
    // It is we who let the client wait.
    if (request?.complete && !isUnread) return;
    if (isUnread) cut('unread');
    else if (request) cut('stalled');
    if (request && !isUnread) endWith(socket, ...STALLED);
    else socket.destroy();
  });
  server.on('clientError', (error: Error & { code?: unknown }, socket) => {
    const reason = answerBrokenRequest(error.code, socket);
    if (reason) cut(reason);
  });
  return (socket) => connections.get(socket);
}

type BrokenAnswer = readonly [line: string, code: ErrorCode, message: string];

/** The client shall send the same again: a status of the 400s would make exporters drop it. */
const SLOW: BrokenAnswer = ['503 Service Unavailable', 'unavailable', 'the request took too long to arrive'];
const STALLED: BrokenAnswer = ['503 Service Unavailable', 'unavailable', 'the request stalled'];
const LONG_HEADERS: BrokenAnswer = [
  '431 Request Header Fields Too Large',
  'bad_request',
  `headers are larger than ${HEADER_BYTES_MAX} bytes`,
];
const NOT_HTTP: BrokenAnswer = ['400 Bad Request', 'bad_request', 'this is not a valid HTTP/1.1 request'];

/** Requests that are not HTTP, or too slow, before there is a request to answer. Returns the reason unless the client left. */
function answerBrokenRequest(code: unknown, socket: Duplex): CutReason | undefined {
  if (code === 'ECONNRESET' || code === 'EPIPE' || code === 'HPE_INVALID_EOF_STATE' || !socket.writable) {
    socket.destroy();
    return undefined;
  }
  const isSlow = code === 'ERR_HTTP_REQUEST_TIMEOUT';
  endWith(socket, ...(isSlow ? SLOW : code === 'HPE_HEADER_OVERFLOW' ? LONG_HEADERS : NOT_HTTP));
  return isSlow ? 'slow' : 'protocol';
}

function endWith(socket: Duplex, line: string, code: ErrorCode, message: string): void {
  const { grpc, retryable } = ERROR_CODES[code];
  const body = encodeStatus('json', { code: grpc, message, ...(retryable && { retryAfterMs: RETRY_AFTER_MS }) });
  const retryAfter = retryable ? ['retry-after: 1'] : [];
  const head = [`HTTP/1.1 ${line}`, 'content-type: application/json', `content-length: ${body.length}`, ...retryAfter];
  const text = [...head, 'connection: close', '', ''].join('\r\n');
  // The socket goes as soon as the answer has left, whatever the client still wants to send.
  socket.end(Buffer.concat([Buffer.from(text), body]), () => socket.destroy());
}
