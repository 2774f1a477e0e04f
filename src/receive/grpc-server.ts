import type { Http2Session } from 'node:http2';
import { createServer, type Server as NetServer, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import type { Metadata, ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { Tls } from '../auth/tls.ts';
import type { Signal } from '../core/evidence.ts';
import type { Counters } from '../core/metrics.ts';
import { encodeExportResponse } from '../otlp/response.ts';
import type { Admit, AdmitResult, Budget } from './admission.ts';
import { FAULT_MESSAGE, RETRY_AFTER_MS } from './admission.ts';
import { type BegunCall, badRequest, guardCalls, overQuota, type Refusal, unavailable } from './grpc-calls.ts';
import { onSessions, watchSession } from './grpc-sessions.ts';
import type { Connection, InFlight, Reservation } from './in-flight.ts';
import { STREAMS_MAX } from './limits.ts';
import { type ClientTimes, listen, peerAddress, type Receiving, SOCKET_OPTIONS, type WayIn } from './listen.ts';
import { type Gate, OPEN_GATE, type Pass } from './senders.ts';

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

/** The path is `/package.Service/Method`; requests are counted as the signal. */
export interface UnaryMethod extends WayIn {
  readonly handle: (message: Buffer, call: UnaryCall) => Promise<UnaryAnswer>;
}

/** What is known of a call beside its message. */
export interface UnaryCall {
  /** IP address. */
  readonly peer: string;
  /** As the sender gave it, or as its token has it. */
  readonly namespace: string | undefined;
  readonly pass: Pass | undefined;
  readonly reservation: Reservation | undefined;
}

export type UnaryAnswer = { readonly kind: 'message'; readonly message: Buffer } | Refusal;

/** The services of opentelemetry-proto's collector packages; each has the one method Export. */
const EXPORT_PATHS: readonly (readonly [string, Signal])[] = [
  ['/opentelemetry.proto.collector.trace.v1.TraceService/Export', 'traces'],
  ['/opentelemetry.proto.collector.logs.v1.LogsService/Export', 'logs'],
  ['/opentelemetry.proto.collector.metrics.v1.MetricsService/Export', 'metrics'],
];

/** Serves OTLP over gRPC. Messages stay bytes: what arrives is what is appended. */
export async function startGrpcServer(options: GrpcServerOptions): Promise<Receiving> {
  const methods = [
    ...EXPORT_PATHS.map(([path, signal]) => exportMethod(path, signal, options.admit)),
    ...(options.methods ?? []),
  ];
  const begun = new WeakMap<Metadata, BegunCall>();
  const connections = new WeakMap<Http2Session, Connection>();
  const signals = new Map(methods.map((method) => [method.path, method.signal]));
  const limits = { gate: OPEN_GATE, ...options, ...options.times };
  const grpc = new Server({
    interceptors: [guardCalls({ ...limits, signals, connections, begun })],
    'grpc.max_receive_message_length': options.requestBytesMax,
    'grpc.max_concurrent_streams': STREAMS_MAX,
  });
  onSessions(grpc, (session) => {
    const connection = watchSession(session, limits);
    if (connection) connections.set(session, connection);
  });
  for (const method of methods) {
    const handle = unaryHandler(method, begun, options.onFault);
    grpc.register(method.path, handle, asBuffer, asBuffer, 'unary');
  }

  // The sockets are ours, so that a taken port has a proper error and a shutdown past its grace can cut connections.
  const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure());
  const sockets = new Set<Socket>();
  const acceptor = accept(options.tls, (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    injector.injectConnection(socket);
  });
  const port = await listen(acceptor, {
    ...options,
    flag: '--grpc-port',
    exporter: 'otlp_grpc: { endpoint: "HOST:N" }',
  });
  return { port, waysIn: methods, close: (graceMs) => closeGrpc(grpc, acceptor, sockets, graceMs) };
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

function asBuffer(message: Buffer): Buffer {
  return message;
}

async function closeGrpc(
  grpc: Server,
  acceptor: NetServer,
  sockets: ReadonlySet<Socket>,
  graceMs: number,
): Promise<void> {
  const accepted = new Promise<void>((resolve) => acceptor.close(() => resolve()));
  const force = setTimeout(() => {
    for (const socket of sockets) socket.destroy();
  }, graceMs);
  await new Promise<void>((resolve) => grpc.tryShutdown(() => resolve()));
  await accepted;
  clearTimeout(force);
}

function unaryHandler(method: UnaryMethod, begun: WeakMap<Metadata, BegunCall>, onFault: (thrown: unknown) => void) {
  return (call: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>): void => {
    const answer = (result: UnaryAnswer): void => {
      if (result.kind === 'message') callback(null, result.message);
      else callback({ code: result.code, details: result.message, metadata: result.metadata });
    };
    const peer = peerAddress(call.getPeer().replace(/:\d+$/, ''));
    const { reservation, namespace, pass } = begun.get(call.metadata) ?? {};
    const work = method.handle(call.request, { peer, namespace, pass, reservation });
    // Clients that give up while the disk is slow send again: what they gave up on still takes its memory.
    reservation?.holdUntil(work);
    work.then(answer, (thrown) => {
      // A fault of ours must not cost the sender's data: clients drop what is answered with UNKNOWN or INTERNAL.
      onFault(thrown);
      answer(unavailable(FAULT_MESSAGE, RETRY_AFTER_MS));
    });
  };
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
