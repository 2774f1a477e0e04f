import type { Server } from 'node:net';
import type { SentSignal } from '../auth/principal.ts';
import { AppError, describeError } from '../core/errors.ts';

/** A server that listens. */
export interface Listening {
  readonly port: number;
  /** Stops accepting, lets running requests finish for `graceMs`, then cuts what is left. Resolves when all is closed. */
  close(graceMs: number): Promise<void>;
}

/** A way in: a gRPC method or an HTTP path (one that ends in `/` is that of all below it), and what its requests are. */
export interface WayIn {
  readonly path: string;
  readonly signal: SentSignal;
}

/** A server that takes evidence. */
export interface Receiving extends Listening {
  /** All that it serves. */
  readonly waysIn: readonly WayIn[];
}

/** How long a client may take. Over it, it is cut, so that slow, stalled and vanished clients do not pile up. */
export interface ClientTimes {
  /** For the headers of a request, or the first words of a connection. */
  readonly headersMs: number;
  /** For a whole request to arrive. */
  readonly requestMs: number;
  /** For the next bytes, in either direction. */
  readonly stallMs: number;
  /** Between pings over HTTP/2, and for the answer to one. */
  readonly pingMs: number;
  readonly pingTimeoutMs: number;
}

/** Times that a client on a bad line keeps: it is slow, not silent. */
export const CLIENT_TIMES: ClientTimes = {
  headersMs: 15_000,
  requestMs: 60_000,
  stallMs: 30_000,
  pingMs: 60_000,
  pingTimeoutMs: 20_000,
};

/** Peers that vanished without a word are found by TCP's own keepalive, too: it needs no word of ours to be on its way. */
export const SOCKET_OPTIONS = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 } as const;

export interface ListenOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** What to say when the port is taken: the option that moves it and the exporter of the Collector that points to it. */
  readonly flag: string;
  readonly exporter: string;
}

/** Resolves with the port once connections are accepted; throws AppError('usage') that says what to do when they can't be. */
export function listen(server: Server, options: ListenOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    const onError = (thrown: Error): void => {
      reject(new AppError('usage', listenMessage(thrown, options), { cause: thrown }));
    };
    server.once('error', onError);
    server.listen({ host: options.host, port: options.port }, () => {
      server.off('error', onError);
      const address = server.address();
      resolve(typeof address === 'object' && address ? address.port : options.port);
    });
  });
}

function listenMessage(thrown: Error, { host, port, flag, exporter }: ListenOptions): string {
  const inUse = 'code' in thrown && thrown.code === 'EADDRINUSE';
  if (!inUse) return `cannot listen on ${host} port ${port}: ${describeError(thrown)}`;
  return (
    `port ${port} is in use. Choose another with ${flag} N (0 takes any free one) and point the Collector's exporter ` +
    `to it: exporters: { ${exporter} }`
  );
}

const MAPPED_V4 = /^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i;

/** The peer's address without zone, IPv4 as IPv4 also when it came in over an IPv6 socket; empty when it is not known. */
export function peerAddress(remoteAddress: string | undefined): string {
  return (remoteAddress ?? '').replace(/%.*$/, '').replace(MAPPED_V4, '');
}
