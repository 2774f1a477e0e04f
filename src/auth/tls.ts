import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { createSecureContext, type SecureContextOptions, type Server, type TLSSocket, type TlsOptions } from 'node:tls';
import type { Clock, Scheduler } from '../core/clock.ts';
import { AppError, describeError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import { watchFiles } from './watched-files.ts';

/** As in the settings. */
export interface TlsSettings {
  readonly certFile: string;
  readonly keyFile: string;
  readonly clientCaFile?: string | undefined;
  readonly clientCertificate: 'none' | 'optional' | 'required';
  readonly crlFile?: string | undefined;
}

/** TLS of one listener, from files that are read again when they are replaced. */
export interface Tls {
  /** For `createServer` of node:tls or node:https. The server needs `protect` beside it. */
  readonly serverOptions: TlsOptions;
  /**
   * Cuts clients whose certificate is not as it must be before they can say anything, and gives the server what is read later. When
   * authorities or their lists of revoked certificates were replaced, clients with certificates are cut, to be checked anew.
   */
  protect(server: Server): void;
  /** Epoch milliseconds: when the server's certificate ends. */
  endsAtMs(): number;
  /** Looks at once whether files were replaced. */
  reload(): Promise<void>;
  close(): void;
}

export interface TlsOptionsGiven {
  /** Path of the settings, for what is said to people: `receive.grpc.tls`. */
  readonly setting: string;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly counters: Counters;
  readonly log: TlsLog;
}

export interface TlsLog {
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
}

/** Older ones have known weaknesses; all exporters have had this one for ten years. */
const VERSION_MIN = 'TLSv1.2';

/** For the first words of TLS, as for those of HTTP. */
const HANDSHAKE_MS = 15_000;

/** Handshakes in work at one listener: some 50 kB each. A thousand agents that all come back at once are done in seconds. */
const HANDSHAKES_MAX = 1000;

/** Refused clients of one address are told of in the log once in so long, so that they cannot fill it. */
const TELL_MS = 60_000;
const TOLD_MAX = 1000;

interface Material {
  readonly context: SecureContextOptions;
  readonly endsAtMs: number;
  /** Of what clients are checked by. */
  readonly clients: string;
}

/** When the certificate ends, in epoch milliseconds. Throws AppError('config') with one line, as `openTls` does. */
export async function inspectTls(settings: TlsSettings, setting: string, nowMs: number): Promise<number> {
  return (await readMaterial(settings, setting, nowMs)).endsAtMs;
}

/** Reads and checks the files. Throws AppError('config') with one line: which file, and what is wrong with it. */
export async function openTls(settings: TlsSettings, options: TlsOptionsGiven): Promise<Tls> {
  const { setting, counters, log } = options;
  let material = await readMaterial(settings, setting, options.clock.nowMs());
  const servers = new Map<Server, Set<TLSSocket>>();
  const note = (isFailing: boolean): void => {
    counters.set('reload_failing', Number(isFailing), { file: setting });
    counters.set('tls_certificate_ends', Math.floor(material.endsAtMs / 1000), { listener: setting });
  };
  note(false);
  const { certFile, keyFile, clientCaFile, crlFile } = settings;
  const watched = await watchFiles({
    paths: [certFile, keyFile, clientCaFile, crlFile].filter((path) => path !== undefined),
    scheduler: options.scheduler,
    async read() {
      const before = material;
      material = await readMaterial(settings, setting, options.clock.nowMs());
      for (const [server, clients] of servers) {
        server.setSecureContext(material.context);
        // They were let in by what does not hold any more.
        if (material.clients !== before.clients) for (const socket of clients) socket.destroy();
      }
      note(false);
      log.info({ setting, endsAt: new Date(material.endsAtMs).toISOString() }, 'certificates were read again');
    },
    failed(cause) {
      counters.add('tls_reload_failures', 1, { listener: setting });
      note(true);
      const reason = describeError(cause);
      log.warn({ setting, reason }, 'the new certificates cannot be used; those read before are used on');
    },
  });
  const judge = judgeOf(settings, options);
  return {
    serverOptions: {
      ...material.context,
      handshakeTimeout: HANDSHAKE_MS,
      requestCert: settings.clientCertificate !== 'none',
      // Checked below: this one would cut without a word of why.
      rejectUnauthorized: false,
    },
    protect(server) {
      const clients = new Set<TLSSocket>();
      servers.set(server, clients);
      limitHandshakes(server, () => counters.add('tls_refused', 1, { listener: setting, reason: 'busy' }));
      // What was read since the options were taken.
      server.setSecureContext(material.context);
      server.prependListener('secureConnection', (socket) => {
        if (!judge(socket)) socket.destroy();
        else if (socket.authorized) {
          clients.add(socket);
          socket.once('close', () => clients.delete(socket));
        }
      });
      server.on('tlsClientError', (_, socket) => {
        counters.add('tls_refused', 1, { listener: setting, reason: 'protocol' });
        socket.destroy();
      });
      server.once('close', () => servers.delete(server));
    },
    endsAtMs: () => material.endsAtMs,
    reload: watched.look,
    close: watched.close,
  };
}

/** Handshakes cost us more than those who begin them; connections are counted by the receivers when they are through. */
function limitHandshakes(server: Server, refused: () => void): void {
  const inWork = new Set<string>();
  const originOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;
  server.prependListener('connection', (socket: Socket) => {
    if (inWork.size >= HANDSHAKES_MAX) {
      refused();
      socket.destroy();
      return;
    }
    const origin = originOf(socket);
    inWork.add(origin);
    socket.once('close', () => inWork.delete(origin));
  });
  server.prependListener('secureConnection', (socket) => inWork.delete(originOf(socket)));
}

/** May this client stay? Tells the log and the counters of those who may not. */
function judgeOf(
  settings: TlsSettings,
  { setting, clock, counters, log }: TlsOptionsGiven,
): (socket: TLSSocket) => boolean {
  const told = new Map<string, number>();
  return (socket) => {
    if (settings.clientCertificate === 'none' || socket.authorized) return true;
    const isGiven = Boolean(socket.getPeerCertificate()?.raw);
    if (!isGiven && settings.clientCertificate === 'optional') return true;
    const reason = isGiven ? reasonOf(socket.authorizationError) : 'missing';
    counters.add('tls_refused', 1, { listener: setting, reason });
    const peer = socket.remoteAddress ?? '';
    const nowMs = clock.nowMs();
    if ((told.get(`${peer} ${reason}`) ?? Number.NEGATIVE_INFINITY) > nowMs - TELL_MS) return false;
    if (told.size >= TOLD_MAX) told.clear();
    told.set(`${peer} ${reason}`, nowMs);
    const details = { setting, peer, reason, error: String(socket.authorizationError) };
    log.warn(details, 'a client was refused for its certificate; others of this address are only counted for a minute');
    return false;
  };
}

/** Codes of OpenSSL as Node tells them. */
function reasonOf(error: unknown): 'expired' | 'revoked' | 'no_crl' | 'unknown' {
  const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') return 'expired';
  if (code === 'CERT_REVOKED') return 'revoked';
  // The authority has no list in the file, or one whose time is over: nobody is let in then.
  return code.includes('CRL') ? 'no_crl' : 'unknown';
}

async function readMaterial(settings: TlsSettings, setting: string, nowMs: number): Promise<Material> {
  const wrong = (key: keyof TlsSettings, words: string, cause?: unknown): AppError =>
    new AppError('config', `${setting}.${key}: ${settings[key]}: ${words}`, { cause });
  const read = async (key: 'certFile' | 'keyFile' | 'clientCaFile' | 'crlFile'): Promise<string> => {
    try {
      return await readFile(settings[key] ?? '', 'utf8');
    } catch (cause) {
      throw wrong(key, `cannot be read: ${describeError(cause)}`, cause);
    }
  };
  const cert = await read('certFile');
  const key = await read('keyFile');
  const certificate = parsed(
    () => new X509Certificate(cert),
    (cause) => wrong('certFile', 'is no PEM certificate', cause),
  );
  const privateKey = parsed(
    () => createPrivateKey(key),
    (cause) => wrong('keyFile', 'is no PEM key without a passphrase', cause),
  );
  if (!certificate.checkPrivateKey(privateKey))
    throw wrong('keyFile', `is not the key of the certificate in ${settings.certFile}`);
  const endsAtMs = Date.parse(certificate.validTo);
  if (endsAtMs <= nowMs) throw wrong('certFile', `this certificate expired on ${certificate.validTo}; renew it`);
  if (Date.parse(certificate.validFrom) > nowMs) {
    throw wrong('certFile', `this certificate is not valid before ${certificate.validFrom}`);
  }
  const ca = settings.clientCaFile === undefined ? undefined : await read('clientCaFile');
  if (ca !== undefined) {
    parsed(
      () => new X509Certificate(ca),
      (cause) => wrong('clientCaFile', 'is no PEM certificate', cause),
    );
  }
  const crl = settings.crlFile === undefined ? undefined : await read('crlFile');
  const context = {
    cert,
    key,
    minVersion: VERSION_MIN,
    ...(ca !== undefined && { ca }),
    ...(crl !== undefined && { crl }),
  } as const;
  parsed(
    () => createSecureContext(context),
    (cause) =>
      crl === undefined
        ? wrong('certFile', describeError(cause), cause)
        : wrong('crlFile', 'is no PEM list of revoked certificates', cause),
  );
  return { context, endsAtMs, clients: `${ca}${crl}` };
}

function parsed<Result>(parse: () => Result, wrong: (cause: unknown) => AppError): Result {
  try {
    return parse();
  } catch (cause) {
    throw wrong(cause);
  }
}
