import type { Server } from 'node:net';
import { AppError, describeError } from '../core/errors.ts';

/** A server that listens. */
export interface Listening {
  readonly port: number;
  /** Stops accepting, lets running requests finish for `graceMs`, then cuts what is left. Resolves when all is closed. */
  close(graceMs: number): Promise<void>;
}

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
