import { createServer as createHttp2Server, type ServerHttp2Session } from 'node:http2';
import { createServer, type Server as NetServer, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { clientCertificateOf } from '../auth/client-certificate.ts';
import type { Tls } from '../auth/tls.ts';
import type { Signal } from '../core/evidence.ts';
import type { Counters } from '../core/metrics.ts';
import { encodeExportResponse } from '../otlp/response.ts';
import type { Admit, AdmitResult, Budget } from './admission.ts';
import { Call, type UnaryAnswer, type UnaryMethod } from './grpc-call.ts';
import { STREAM_WINDOW_BYTES, watchSession } from './grpc-sessions.ts';
import { badRequest, overQuota, unavailable } from './grpc-status.ts';
import type { InFlight } from './in-flight.ts';
import { STREAMS_MAX } from './limits.ts';
import { type ClientTimes, listen, peerAddress, type Receiving, SOCKET_OPTIONS } from './listen.ts';
import { type Gate, OPEN_GATE } from './senders.ts';

export interface GrpcServerOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly admit: Admit;
  /** Asked before a request is read, so that an overload does not cost the reading of what is refused. */
  readonly budget: Budget;
  /** Who may send; default: everybody. */
  readonly gate?: Gate;
  /** Default: plain text. */
  readonly tls?: Tls | undefined;
  readonly inFlight: InFlight;
  readonly counters: Counters;
  /** Cap on one request, both as it is sent and after it is inflated. */
  readonly requestBytesMax: number;
  readonly times: ClientTimes;
  /** Told of a fault of ours in a handler: the sender only hears "unavailable". */
  readonly onFault: (thrown: unknown) => void;
  /** Further unary methods to serve beside the three of OTLP. */
  readonly methods?: readonly UnaryMethod[];
}

/** The services of opentelemetry-proto's collector packages; each has the one method Export. */
const EXPORT_PATHS: readonly (readonly [string, Signal])[] = [
  ['/opentelemetry.proto.collector.trace.v1.TraceService/Export', 'traces'],
  ['/opentelemetry.proto.collector.logs.v1.LogsService/Export', 'logs'],
  ['/opentelemetry.proto.collector.metrics.v1.MetricsService/Export', 'metrics'],
];

/**
 * Calls are asked about their times this many times in the shortest of these: one timer for all of them, as most calls are over
 * long before.
 */
const CHECKS_A_TIME = 8;

/** Serves OTLP over gRPC. Messages stay bytes: what arrives is what is appended. */
export async function startGrpcServer(options: GrpcServerOptions): Promise<Receiving> {
  const methods = [
    ...EXPORT_PATHS.map(([path, signal]) => exportMethod(path, signal, options.admit)),
    ...(options.methods ?? []),
  ];
  const byPath = new Map(methods.map((method) => [method.path, method]));
  const limits = { gate: OPEN_GATE, ...options, ...options.times };
  const calls = new Set<Call>();
  const sessions = new Set<ServerHttp2Session>();
  const http2 = createHttp2Server({
    settings: { maxConcurrentStreams: STREAMS_MAX, initialWindowSize: STREAM_WINDOW_BYTES },
    // What requests hold is counted and bounded by us (`in-flight.ts`); a session that meets Node's own bound is broken.
    maxSessionMemory: Number.MAX_SAFE_INTEGER,
    maxSendHeaderBlockLength: Number.MAX_SAFE_INTEGER,
  });
  http2.on('session', (session) => {
    const connection = watchSession(session, limits);
    if (!connection) return;
    sessions.add(session);
    session.once('close', () => sessions.delete(session));
    const { socket } = session;
    const peer = peerAddress(socket.remoteAddress);
    const caller = { peer, connection, certificate: () => clientCertificateOf(session.socket) };
    session.on('stream', (stream, headers) => {
      const call = new Call(stream, headers, byPath.get(headers[':path'] ?? ''), caller, limits);
      calls.add(call);
      stream.once('close', () => {
        calls.delete(call);
        call.closed();
      });
    });
  });
  const checkMs = Math.min(limits.stallMs, limits.requestMs) / CHECKS_A_TIME;
  const checks = setInterval(() => {
    const nowMs = performance.now();
    for (const call of calls) call.checkTimes(nowMs);
  }, checkMs).unref();

  // The sockets are ours, so that a taken port has a proper error and a shutdown past its grace can cut connections.
  const sockets = new Set<Socket>();
  const acceptor = accept(options.tls, (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    http2.emit('connection', socket);
  });
  const port = await listen(acceptor, {
    ...options,
    flag: '--grpc-port',
    exporter: 'otlp_grpc: { endpoint: "HOST:N" }',
  });
  const close = async (graceMs: number): Promise<void> => {
    await closeGrpc(sessions, acceptor, sockets, graceMs);
    clearInterval(checks);
  };
  return { port, waysIn: methods, close };
}

/** TLS is done here, too, so that certificates can be replaced; HTTP/2 goes on with the socket as it comes out of it. */
function accept(tls: Tls | undefined, onSocket: (socket: Socket) => void): NetServer {
  if (!tls) return createServer(SOCKET_OPTIONS, onSocket);
  const server = createTlsServer({ ...SOCKET_OPTIONS, ...tls.serverOptions, ALPNProtocols: ['h2'] });
  tls.protect(server);
  return server.on('secureConnection', (socket) => {
    if (!socket.destroyed) onSocket(socket);
  });
}

/** Running calls finish; connections without any end at once. */
async function closeGrpc(
  sessions: ReadonlySet<ServerHttp2Session>,
  acceptor: NetServer,
  sockets: ReadonlySet<Socket>,
  graceMs: number,
): Promise<void> {
  // Resolves when the last connection is closed.
  const accepted = new Promise<void>((resolve) => acceptor.close(() => resolve()));
  const force = setTimeout(() => {
    for (const socket of sockets) socket.destroy();
  }, graceMs);
  for (const session of sessions) session.close();
  await accepted;
  clearTimeout(force);
}

function exportMethod(path: string, signal: Signal, admit: Admit): UnaryMethod {
  return {
    path,
    signal,
    handle: async (message, { peer, namespace, pass }) => {
      const source = { transport: 'grpc', peer, namespace, pass, browser: false } as const;
      return answerFor(signal, await admit(signal, message, source));
    },
  };
}

function answerFor(signal: Signal, result: AdmitResult): UnaryAnswer {
  switch (result.kind) {
    case 'accepted':
      return { kind: 'message', message: encodeExportResponse('protobuf', signal, result.rejected, result.reason) };
    case 'invalid':
      return badRequest(result.field, result.message);
    case 'unavailable':
      return unavailable(result.message, result.retryAfterMs);
    case 'over_quota':
      return overQuota(result.message, result.retryAfterMs);
  }
}
