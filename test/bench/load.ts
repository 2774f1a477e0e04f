import { type ClientHttp2Session, connect } from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { gzipSync } from 'node:zlib';
import {
  buildTraffic,
  framed,
  freshen,
  GRPC_PREFIX_BYTES,
  hugeRoot,
  type Template,
  type Traffic,
  uniqueValues,
} from './workload.ts';

/**
 * A load generator: OTLP traces over gRPC, written on node:http2 with pre-encoded requests so that it costs a fraction of what
 * any receiver does. Each slot has its own buffer and sends again when it was answered.
 */
export interface LoadOptions {
  readonly port: number;
  readonly connections: number;
  /** Requests in flight on each connection. */
  readonly slots: number;
  /** Orders in requests of 64 traces when undefined. */
  readonly traffic?: Traffic;
  /** Compressed before the load begins, so that it must be bounded by `spansMax`. */
  readonly gzip?: boolean | undefined;
  /** Stops at whichever comes first. */
  readonly seconds: number;
  readonly spansMax: number;
  /** Spans a second; as fast as answers come when undefined. */
  readonly rate?: number | undefined;
  /** Ends the load early. */
  readonly signal?: AbortSignal;
  /** Told the first half, 8 bytes, of the trace ids of whole traces that were acknowledged; the second half counts from 0. */
  readonly acknowledged?: (unique: Buffer) => void;
  /** Told each framed request before it is sent; its bytes change afterwards. */
  readonly sending?: (bytes: Buffer) => void;
}

export interface LoadResult {
  readonly acknowledgedSpans: number;
  /** Those of which each span was acknowledged. */
  readonly acknowledgedTraces: number;
  readonly refused: Readonly<Record<string, number>>;
  readonly elapsedMs: number;
  /** What it cost to make the load. */
  readonly generatorCpuSeconds: number;
  /** From the time the request was due (with a rate) or sent to its answer, milliseconds, ascending. */
  readonly latenciesMs: readonly number[];
}

/** Traces begin so long before they are sent that all their spans have ended. */
export const TRACE_AGE_MS = 50;

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
      ...(framed[0] === 1 && { 'grpc-encoding': 'gzip' }),
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
  const sessions = await Promise.all(Array.from({ length: options.connections }, () => openSession(options.port)));
  const traffic = options.traffic ?? buildTraffic('orders');
  const source = options.gzip ? compressedBundles(traffic, options.spansMax) : freshBundles(traffic);
  const intervalMs = options.rate ? (traffic.spansABundle / options.rate) * 1000 : 0;
  const bundlesMax = Math.ceil(options.spansMax / traffic.spansABundle);
  const refused: Record<string, number> = {};
  const latenciesMs: number[] = [];
  const cpuBefore = process.cpuUsage();
  const startedMs = performance.now();
  let [sent, spans, traces] = [0, 0, 0];

  /** Sends requests that make whole traces together; a refused one does not keep back the others. */
  const sendBundle = async (session: ClientHttp2Session, bundle: Bundle, dueMs: number): Promise<void> => {
    let isWhole = true;
    for (const [part, request] of bundle.requests().entries()) {
      const sentMs = part === 0 ? dueMs : performance.now();
      if (request.signal === 'traces') options.sending?.(request.bytes);
      const status = await exportOnce(session, request.bytes, EXPORT_PATHS[request.signal]);
      latenciesMs.push(performance.now() - sentMs);
      if (status === '0') spans += request.spans;
      else {
        refused[status] = (refused[status] ?? 0) + 1;
        isWhole = false;
      }
    }
    if (!isWhole) return;
    traces += traffic.tracesABundle;
    options.acknowledged?.(bundle.unique);
  };

  const slot = async (session: ClientHttp2Session): Promise<void> => {
    const next = source.slot();
    const isOver = () => performance.now() - startedMs >= options.seconds * 1000 || options.signal?.aborted;
    while (sent < bundlesMax && !isOver() && !session.destroyed) {
      const number = sent++;
      const dueMs = intervalMs > 0 ? startedMs + number * intervalMs : performance.now();
      const earlyMs = dueMs - performance.now();
      if (earlyMs > 0) await new Promise((resolve) => setTimeout(resolve, earlyMs));
      await sendBundle(session, next(number), intervalMs > 0 ? dueMs : performance.now());
    }
  };

  await Promise.all(sessions.flatMap((session) => Array.from({ length: options.slots }, () => slot(session))));
  const [session] = sessions;
  const root = source.closing?.();
  if (root) options.sending?.(root);
  if (session && root && (await exportOnce(session, root)) === '0') [spans, traces] = [spans + 1, 1];
  const elapsedMs = performance.now() - startedMs;
  const { user, system } = process.cpuUsage(cpuBefore);
  for (const session of sessions) session.close();
  latenciesMs.sort((a, b) => a - b);
  const generatorCpuSeconds = (user + system) / 1e6;
  return { acknowledgedSpans: spans, acknowledgedTraces: traces, refused, elapsedMs, generatorCpuSeconds, latenciesMs };
}

interface Bundle {
  readonly unique: Buffer;
  /** Valid until the next bundle of the same slot is asked for. */
  readonly requests: () => readonly Pick<Template, 'signal' | 'bytes' | 'spans'>[];
}

interface BundleSource {
  /** For one slot: each has buffers of its own, which are filled anew for each sending. */
  readonly slot: () => (number: number) => Bundle;
  /** The request that is sent when all others were answered. */
  readonly closing: (() => Buffer) | undefined;
}

function freshBundles(traffic: Traffic): BundleSource {
  const unique = uniqueValues();
  const ofTrace = traffic.shape === 'huge' ? Buffer.from(unique()) : undefined;
  const startMs = Date.now();
  const slot = () => {
    const buffers = new Map<Template, Buffer>();
    return (number: number): Bundle => {
      const ids = Buffer.from(unique());
      const nowMs = Date.now() - TRACE_AGE_MS;
      const templates = traffic.bundles[number % traffic.bundles.length] ?? [];
      const fill = (template: Template) => {
        const bytes = buffers.get(template) ?? Buffer.from(template.bytes);
        buffers.set(template, bytes);
        freshen(bytes, template, ids, nowMs, ofTrace);
        return { signal: template.signal, bytes, spans: template.spans };
      };
      return { unique: ids, requests: () => templates.map(fill) };
    };
  };
  const closing = ofTrace && (() => hugeRoot(ofTrace, startMs - TRACE_AGE_MS, Date.now()));
  return { slot, closing };
}

/** Made and compressed before the first is sent, so that it costs the load nothing. */
function compressedBundles(traffic: Traffic, spansMax: number): BundleSource {
  if (!Number.isFinite(spansMax))
    throw new Error('compressed requests are made before the load: say how many (--spans)');
  const fresh = freshBundles(traffic);
  const next = fresh.slot();
  const made = Array.from({ length: Math.ceil(spansMax / traffic.spansABundle) }, (_, number): Bundle => {
    const { unique, requests } = next(number);
    const compressed = requests().map(({ bytes, ...request }) => ({
      ...request,
      bytes: framed(gzipSync(bytes.subarray(GRPC_PREFIX_BYTES)), true),
    }));
    return { unique, requests: () => compressed };
  });
  return { slot: () => (number) => made[number] ?? next(number), closing: fresh.closing };
}

/** The value below which `percent` of the ascending values are; NaN without values. */
export function percentile(ascending: readonly number[], percent: number): number {
  return ascending[Math.min(ascending.length - 1, Math.floor((ascending.length * percent) / 100))] ?? Number.NaN;
}
