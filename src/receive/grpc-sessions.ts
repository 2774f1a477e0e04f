import type { ServerHttp2Session } from 'node:http2';
import type { Counters } from '../core/metrics.ts';
import type { Connection, InFlight } from './in-flight.ts';
import type { CutReason } from './limits.ts';
import { peerAddress } from './listen.ts';

/**
 * HTTP/2 flow control: how much a client may send before it hears from us. The protocol's own 64 KiB let one connection over
 * a link of 10 ms carry 6.5 MB/s. A batch of the usual size fits a stream's window; the connection's bounds what is buffered.
 */
export const STREAM_WINDOW_BYTES = 1 << 20;
const CONNECTION_WINDOW_BYTES = 8 << 20;

export interface SessionLimits {
  readonly inFlight: InFlight;
  readonly counters: Counters;
  /** The client's HTTP/2 preface and settings must be there after this long. */
  readonly headersMs: number;
  /** Every so often the client is pinged, and cut when it does not answer in time: it vanished, or it does not read. */
  readonly pingMs: number;
  readonly pingTimeoutMs: number;
}

/** Counts the connection in and watches over it; undefined when there is no room for it and it was cut. */
export function watchSession(session: ServerHttp2Session, limits: SessionLimits): Connection | undefined {
  const cut = (reason: CutReason): void => {
    limits.counters.add('cut', 1, { transport: 'grpc', reason });
    session.destroy();
  };
  // Floods and what is not HTTP/2 end here; a reset by the client is none of our doing.
  session.on('error', (error: Error & { code?: unknown }) => {
    if (String(error.code).startsWith('ERR_HTTP2')) cut('protocol');
  });
  const connection = limits.inFlight.connect(peerAddress(session.socket.remoteAddress));
  if (typeof connection === 'string') {
    cut('connections');
    return undefined;
  }
  session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
  const stopPings = watchForSilence(session, limits, () => cut('silent'));
  session.once('close', () => {
    stopPings();
    connection.close();
  });
  return connection;
}

function watchForSilence(session: ServerHttp2Session, limits: SessionLimits, onSilent: () => void): () => void {
  let deadline: NodeJS.Timeout | undefined = setTimeout(onSilent, limits.headersMs).unref();
  const heard = (): void => {
    clearTimeout(deadline);
    deadline = undefined;
  };
  session.once('remoteSettings', heard);
  const pings = setInterval(() => {
    // Its first words or its last answer are still waited for.
    if (deadline || session.destroyed || session.closed) return;
    deadline = setTimeout(onSilent, limits.pingTimeoutMs).unref();
    session.ping((error) => error ?? heard());
  }, limits.pingMs).unref();
  return () => {
    heard();
    clearInterval(pings);
  };
}
