import { type ClientHttp2Session, connect } from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { buildTemplate, freshen, SPANS_A_REQUEST, uniqueValues } from './workload.ts';

/**
 * A load generator: OTLP traces over gRPC, written on node:http2 with pre-encoded requests so that it costs a fraction of what
 * any receiver does. Each slot has its own buffer and sends again when it was answered.
 */
export interface LoadOptions {
  readonly port: number;
  readonly connections: number;
  /** Requests in flight on each connection. */
  readonly slots: number;
  /** Stops at whichever comes first. */
  readonly seconds: number;
  readonly spansMax: number;
  /** Spans a second; as fast as answers come when undefined. */
  readonly rate?: number | undefined;
  /** Ends the load early. */
  readonly signal?: AbortSignal;
  /** Told the first half, 8 bytes, of the trace ids of each request that was acknowledged; the second half counts from 0. */
  readonly acknowledged?: (unique: Buffer) => void;
}

export interface LoadResult {
  readonly acknowledgedSpans: number;
  readonly refused: Readonly<Record<string, number>>;
  readonly elapsedMs: number;
  /** What it cost to make the load. */
  readonly generatorCpuSeconds: number;
  /** From the time the request was due (with a rate) or sent to its answer, milliseconds, ascending. */
  readonly latenciesMs: readonly number[];
}

/** The methods that take evidence. */
export const EXPORT_PATHS = {
  traces: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
  logs: '/opentelemetry.proto.collector.logs.v1.LogsService/Export',
} as const;

/** Sends one framed request and resolves with the gRPC status number, or a word for a broken stream. */
export function exportOnce(
  session: ClientHttp2Session,
  framed: Buffer,
  path: string = EXPORT_PATHS.traces,
): Promise<string> {
  return new Promise((resolve) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    let answer = 'no status';
    stream.on('response', (headers) => {
      if (headers['grpc-status'] !== undefined) answer = String(headers['grpc-status']);
    });
    stream.on('trailers', (trailers) => {
      answer = String(trailers['grpc-status'] ?? answer);
    });
    stream.on('error', () => {
      answer = 'stream error';
    });
    stream.on('close', () => resolve(answer));
    stream.resume();
    stream.end(framed);
  });
}

export async function openSession(port: number): Promise<ClientHttp2Session> {
  const session = connect('http://127.0.0.1', {
    createConnection: () => connectSocket({ host: '127.0.0.1', port, noDelay: true }),
  });
  await new Promise<void>((resolve, reject) => {
    session.once('connect', () => resolve());
    session.once('error', reject);
  });
  session.on('error', () => undefined);
  return session;
}

export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const template = buildTemplate();
  const unique = uniqueValues();
  const refused: Record<string, number> = {};
  const latenciesMs: number[] = [];
  const requestsMax = Math.ceil(options.spansMax / SPANS_A_REQUEST);
  const intervalMs = options.rate ? (SPANS_A_REQUEST / options.rate) * 1000 : 0;
  const cpuBefore = process.cpuUsage();
  const startedMs = performance.now();
  let sent = 0;
  let acknowledged = 0;

  const slot = async (session: ClientHttp2Session): Promise<void> => {
    const buffer = Buffer.from(template.bytes);
    const isOver = () => performance.now() - startedMs >= options.seconds * 1000 || options.signal?.aborted;
    while (sent < requestsMax && !isOver() && !session.destroyed) {
      const number = sent++;
      const dueMs = intervalMs > 0 ? startedMs + number * intervalMs : performance.now();
      const earlyMs = dueMs - performance.now();
      if (earlyMs > 0) await new Promise((resolve) => setTimeout(resolve, earlyMs));
      const ids = Buffer.from(unique());
      freshen(buffer, template, ids, Date.now());
      const status = await exportOnce(session, buffer);
      latenciesMs.push(performance.now() - dueMs);
      if (status === '0') {
        acknowledged++;
        options.acknowledged?.(ids);
      } else refused[status] = (refused[status] ?? 0) + 1;
    }
  };

  const sessions = await Promise.all(Array.from({ length: options.connections }, () => openSession(options.port)));
  await Promise.all(sessions.flatMap((session) => Array.from({ length: options.slots }, () => slot(session))));
  const elapsedMs = performance.now() - startedMs;
  const { user, system } = process.cpuUsage(cpuBefore);
  for (const session of sessions) session.close();
  latenciesMs.sort((a, b) => a - b);
  const acknowledgedSpans = acknowledged * SPANS_A_REQUEST;
  return { acknowledgedSpans, refused, elapsedMs, generatorCpuSeconds: (user + system) / 1e6, latenciesMs };
}

/** The value below which `percent` of the ascending values are; NaN without values. */
export function percentile(ascending: readonly number[], percent: number): number {
  return ascending[Math.min(ascending.length - 1, Math.floor((ascending.length * percent) / 100))] ?? Number.NaN;
}
