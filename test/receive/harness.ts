import { request as httpRequest } from 'node:http';
import { connect } from 'node:http2';
import protobuf from 'protobufjs';
import type { Tls } from '../../src/auth/tls.ts';
import { Counters } from '../../src/core/metrics.ts';
import { compileMask } from '../../src/otlp/mask.ts';
import { createAccessService } from '../../src/receive/access-service.ts';
import { type AdmissionOptions, createAdmission } from '../../src/receive/admission.ts';
import { createEventsRoute, type EventsServiceOptions } from '../../src/receive/events-service.ts';
import { startGrpcServer } from '../../src/receive/grpc-server.ts';
import { startHttpServer } from '../../src/receive/http-server.ts';
import { createInFlight, type InFlight, type Reservation } from '../../src/receive/in-flight.ts';
import { createInspect } from '../../src/receive/inspect.ts';
import { CLIENT_TIMES, type ClientTimes } from '../../src/receive/listen.ts';
import type { Gate } from '../../src/receive/senders.ts';
import type { Frame } from '../../src/wal/frame.ts';

export const REQUEST_BYTES_MAX = 256 * 1024;

export const PATHS = {
  traces: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
  logs: '/opentelemetry.proto.collector.logs.v1.LogsService/Export',
  metrics: '/opentelemetry.proto.collector.metrics.v1.MetricsService/Export',
} as const;

/** What a test wants to be different. */
export interface HarnessOptions {
  readonly wal?: AdmissionOptions['wal'];
  readonly inFlightBytesMax?: number;
  readonly requestBytesMax?: number;
  readonly corsOrigins?: readonly string[];
  readonly requestsMax?: number;
  readonly connectionsMax?: number;
  readonly times?: Partial<ClientTimes>;
  readonly signatures?: EventsServiceOptions['signatures'];
  readonly gate?: Gate;
  readonly tls?: { readonly grpc: Tls; readonly http: Tls };
}

/** What the receivers take for the present. */
export const NOW_MS = 1_700_000_000_000;

export type Harness = Awaited<ReturnType<typeof startHarness>>;

/** Both receivers on free ports in front of a log that keeps frames in memory, or the one that is given. */
export async function startHarness(options: HarnessOptions = {}) {
  const frames: Frame[] = [];
  const faults: unknown[] = [];
  const counters = new Counters();
  const inFlight = createInFlight({
    bytesMax: options.inFlightBytesMax ?? 16 * 1024 * 1024,
    connectionsMax: options.connectionsMax ?? 10_000,
    requestsMax: options.requestsMax ?? 4096,
  });
  const budget = { refuse: false, retryAfterMs: 2500 };
  const memory = {
    append: async ({ items: _, ...frame }: Frame) => {
      frames.push({ ...frame, payload: Buffer.from(frame.payload) });
    },
  };
  const wal = options.wal ?? memory;
  /** Counts as the composition does: what is durable is accepted. */
  const counting = {
    append: async (frame: Frame) => {
      await wal.append(frame);
      counters.add('accepted', frame.items ?? 0, { signal: frame.signal });
    },
  };
  const onFault = (thrown: unknown): void => void faults.push(thrown);
  const clock = { nowMs: () => NOW_MS };
  const admit = createAdmission({
    wal: counting,
    counters,
    inspect: createInspect(compileMask({ attributes: ['session.token'], queryParameters: ['token'] })),
    tie: (payload) => payload,
    namespace: 'default',
    budget: () => budget,
    trust: (_peer, browser) => ({ trusted: !browser, vouches: false }),
    clock,
    onAppendFailure: onFault,
  });
  const shared = {
    host: '127.0.0.1',
    port: 0,
    admit,
    budget: () => budget,
    inFlight,
    times: { ...CLIENT_TIMES, ...options.times },
    counters,
    requestBytesMax: options.requestBytesMax ?? REQUEST_BYTES_MAX,
    onFault,
    ...(options.gate && { gate: options.gate }),
  };
  const access = createAccessService({ admit, counters, clock });
  const presets = ['kubernetes', 'opa', 'hoop'];
  const events = createEventsRoute({ admit, counters, clock, presets, signatures: options.signatures ?? new Map() });
  const grpc = await startGrpcServer({ ...shared, tls: options.tls?.grpc, methods: [access.method] });
  const routes = [access.route, events];
  const http = await startHttpServer({
    ...{ ...shared, tls: options.tls?.http, routes },
    corsOrigins: options.corsOrigins ?? [],
  });
  return {
    grpc,
    http,
    options: shared,
    url: `http://127.0.0.1:${http.port}`,
    frames,
    faults,
    counters,
    budget,
    inFlight,
    close: async () => {
      await Promise.all([grpc.close(1000), http.close(1000)]);
    },
  };
}

/** One request of a sender of its own. */
export function reserve(inFlight: InFlight, peer = '10.0.0.7'): Reservation {
  const connection = inFlight.connect(peer);
  if (typeof connection === 'string') throw new Error(connection);
  const reservation = connection.begin();
  if (typeof reservation === 'string') throw new Error(reservation);
  return reservation;
}

/** How often a limit was met: `reason` → count. */
export function cuts({ counters }: { counters: Counters }): Record<string, number> {
  const samples = counters.samples().filter((sample) => sample.name === 'cut');
  return Object.fromEntries(samples.map(({ labels, value }) => [`${labels['transport']} ${labels['reason']}`, value]));
}

/** An independent reading of the answers, by a full protobuf library. */
const schema = protobuf.parse(`
  syntax = "proto3";
  message PartialSuccess { int64 rejected = 1; string error_message = 2; }
  message ExportResponse { PartialSuccess partial_success = 1; }
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message FieldViolation { string field = 1; string description = 2; }
  message BadRequest { repeated FieldViolation field_violations = 1; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }
`).root;

export function decodeMessage(type: string, bytes: Uint8Array): Record<string, unknown> {
  const message = schema.lookupType(type);
  return message.toObject(message.decode(bytes), { longs: Number });
}

/** A google.rpc.Status with its details decoded: `{ code, message, BadRequest?, RetryInfo? }`. */
export function decodeStatus(bytes: Uint8Array): Record<string, unknown> {
  const { details = [], ...status } = decodeMessage('Status', bytes);
  for (const { type_url: url, value } of normaliseAny(details)) {
    const name = url.replace('type.googleapis.com/google.rpc.', '');
    status[name] = decodeMessage(name, value);
  }
  return status;
}

function normaliseAny(details: unknown): { type_url: string; value: Uint8Array }[] {
  if (!Array.isArray(details)) throw new Error('details is a list');
  return details.map((any) => ({ type_url: any.typeUrl, value: any.value }));
}

export interface GrpcAnswer {
  readonly status: number;
  readonly message: string;
  /** Decoded `grpc-status-details-bin`; undefined when there is none. */
  readonly details: Record<string, unknown> | undefined;
  /** The response message without its prefix; undefined when there is none. */
  readonly body: Buffer | undefined;
}

export interface GrpcRequest {
  readonly path?: string;
  readonly compressed?: boolean;
  readonly headers?: Record<string, string>;
  /** Send this instead of the message with its prefix. */
  readonly raw?: Buffer;
  /** Leave the request open. */
  readonly open?: boolean;
}

/** One unary call over a connection of its own, byte by byte as the protocol has it. */
export function callGrpc(port: number, message: Buffer, request: GrpcRequest = {}): Promise<GrpcAnswer> {
  const session = connect(`http://127.0.0.1:${port}`);
  return new Promise<GrpcAnswer>((resolve, reject) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': request.path ?? PATHS.traces,
      'content-type': 'application/grpc+proto',
      te: 'trailers',
      ...request.headers,
    });
    const chunks: Buffer[] = [];
    let end: Record<string, unknown> = {};
    const note = (headers: Record<string, unknown>): void => {
      if ('grpc-status' in headers) end = headers;
    };
    stream.on('response', note).on('trailers', note);
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', reject);
    session.on('error', reject);
    stream.on('close', () => {
      const bytes = Buffer.concat(chunks);
      const details = end['grpc-status-details-bin'];
      resolve({
        status: end['grpc-status'] === undefined ? -1 : Number(end['grpc-status']),
        message: decodeURIComponent(String(end['grpc-message'] ?? '')),
        details: details === undefined ? undefined : decodeStatus(Buffer.from(String(details), 'base64')),
        body: bytes.length < 5 ? undefined : bytes.subarray(5),
      });
    });
    const framed = request.raw ?? frame(message, request.compressed ?? false);
    if (request.open) stream.write(framed);
    else stream.end(framed);
  }).finally(() => session.destroy());
}

export function frame(message: Buffer, compressed = false): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = compressed ? 1 : 0;
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

/** One HTTP/1.1 request over a connection of its own; unlike fetch it sends any method, header and length. */
export function callHttp(
  url: string,
  request: { method?: string; headers?: Record<string, string>; body?: Buffer | string; localAddress?: string } = {},
): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest(url, {
      method: request.method ?? 'POST',
      agent: false,
      localAddress: request.localAddress,
      headers: request.headers ?? {},
    });
    outgoing.on('error', reject);
    outgoing.on('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }),
      );
    });
    outgoing.end(request.body);
  });
}

export const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';
export const SPAN_ID = '00f067aa0ba902b7';
