import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { Server as TlsServer } from 'node:tls';
import { ERROR_CODES, type ErrorCode } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import { encodeStatus } from '../otlp/response.ts';
import { RETRY_AFTER_MS } from './admission.ts';
import type { Connection, InFlight } from './in-flight.ts';
import { type CutReason, DISCARDED_BYTES_MAX, HEADER_BYTES_MAX } from './limits.ts';
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
  const answeredEarly = new WeakSet<Duplex>();
  const cut = (reason: CutReason): void => counters.add('cut', 1, { transport: 'http', reason });
  // With TLS, what comes out of a connection is a socket of its own; the first is known by where it comes from.
  const handshakes = new Map<string, Connection>();
  server.on('connection', (socket) => {
    const connection = inFlight.connect(peerAddress(socket.remoteAddress));
    if (typeof connection === 'string') {
      cut('connections');
      socket.destroy();
      return;
    }
    connections.set(socket, connection);
    const origin = originOf(socket);
    if (server instanceof TlsServer) handshakes.set(origin, connection);
    socket.once('close', () => {
      handshakes.delete(origin);
      connection.close();
    });
  });
  server.on('secureConnection', (socket: Socket) => {
    const connection = handshakes.get(originOf(socket));
    if (connection) connections.set(socket, connection);
    else socket.destroy();
  });
  server.on('request', (request, response) => {
    inWork.set(request.socket, request);
    response.once('close', () => {
      if (inWork.get(request.socket) === request) inWork.delete(request.socket);
    });
    // What was not read is discarded, not reset, so that a client that is still sending gets to see the answer.
    response.once('finish', () => {
      if (request.complete) return;
      answeredEarly.add(request.socket);
      let discarded = 0;
      const discard = (chunk: Buffer): void => {
        discarded += chunk.length;
        if (discarded <= DISCARDED_BYTES_MAX) return;
        request.off('data', discard);
        cut('too_large');
        request.socket.destroy();
      };
      request.on('data', discard);
      request.once('end', () => answeredEarly.delete(request.socket));
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
    else if (socket.bytesRead === 0) cut('silent');
    if (request && !isUnread && !answeredEarly.has(socket)) endWith(socket, ...STALLED);
    else socket.destroy();
  });
  server.on('clientError', (error: Error & { code?: unknown }, socket) => {
    // Not even TLS: that is told where TLS is.
    if (server instanceof TlsServer && !connections.has(socket)) {
      socket.destroy();
      return;
    }
    const reason = reasonFor(error.code, socket);
    if (reason) cut(reason);
    if (!reason || answeredEarly.has(socket)) socket.destroy();
    else endWith(socket, ...BROKEN_ANSWERS[error.code === 'HPE_HEADER_OVERFLOW' ? 'headers' : reason]);
  });
  return (socket) => connections.get(socket);
}

function originOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}

type BrokenAnswer = readonly [line: string, code: ErrorCode, message: string];

/** The client shall send the same again: a status of the 400s would make exporters drop it. */
const STALLED: BrokenAnswer = ['503 Service Unavailable', 'unavailable', 'the request stalled'];

const BROKEN_ANSWERS: Readonly<Record<'slow' | 'headers' | 'protocol', BrokenAnswer>> = {
  slow: ['503 Service Unavailable', 'unavailable', 'the request took too long to arrive'],
  headers: ['431 Request Header Fields Too Large', 'bad_request', `headers are larger than ${HEADER_BYTES_MAX} bytes`],
  protocol: ['400 Bad Request', 'bad_request', 'this is not a valid HTTP/1.1 request'],
};

/** Why there is no request to answer; undefined when the client left. */
function reasonFor(code: unknown, socket: Duplex): 'slow' | 'protocol' | undefined {
  if (code === 'ECONNRESET' || code === 'EPIPE' || code === 'HPE_INVALID_EOF_STATE' || !socket.writable)
    return undefined;
  return code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 'slow' : 'protocol';
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
