import { copyFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { connect, createServer, type Server, type TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Tls } from '../../src/auth/tls.ts';
import { Counters } from '../../src/core/metrics.ts';
import { type Authority, createAuthority, type Pair } from './certificates.ts';
import { listening, tlsFor } from './openings.ts';

let authority: Authority;
let other: Authority;
let server: Pair;
let client: Pair;
const opened: { close(): unknown }[] = [];

beforeAll(() => {
  authority = createAuthority();
  other = createAuthority('another authority');
  server = authority.server();
  client = authority.client('agent');
});

afterEach(() => {
  for (const each of opened.splice(0)) each.close();
});

afterAll(() => {
  authority.remove();
  other.remove();
});

const path = (name: string) => join(authority.folder, name);

describe('files that cannot be used at the start', () => {
  const cases: [string, () => Parameters<typeof tlsFor>[0], RegExp][] = [
    [
      'absent',
      () => ({ ...server, certFile: path('none') }),
      /^receive\.grpc\.tls\.certFile: .*none: cannot be read: ENOENT/,
    ],
    ['no certificate', () => ({ ...server, certFile: server.keyFile }), /certFile: .*: is no PEM certificate$/],
    ['no key', () => ({ ...server, keyFile: server.certFile }), /keyFile: .*: is no PEM key without a passphrase$/],
    [
      'another key',
      () => ({ ...server, keyFile: client.keyFile }),
      /keyFile: .*: is not the key of the certificate in .*localhost-0\.pem$/,
    ],
    [
      'expired',
      () => authority.server('localhost', { startsInDays: -2, endsInDays: -1 }),
      /certFile: .*: this certificate expired on .*; renew it$/,
    ],
    [
      'not begun',
      () => authority.server('localhost', { startsInDays: 1, endsInDays: 2 }),
      /certFile: .*: this certificate is not valid before/,
    ],
    [
      'no authority',
      () => ({ ...server, clientCaFile: server.keyFile, clientCertificate: 'required' }),
      /clientCaFile: .*: is no PEM certificate$/,
    ],
    [
      'no list',
      () => ({ ...server, clientCaFile: authority.caFile, clientCertificate: 'required', crlFile: server.keyFile }),
      /crlFile: .*: is no PEM list of revoked certificates$/,
    ],
  ];
  it.each(cases)('%s: one line that says which and why', async (_, files, words) => {
    const message = await tlsFor(files()).then(
      () => 'opened',
      (error: Error) => error.message,
    );
    expect(message).toMatch(words);
    expect(message).not.toContain('\n');
  });
});

/** A server that says hello, in front of files of its own. */
async function serve(more: Partial<Parameters<typeof tlsFor>[0]> = {}) {
  const files = { certFile: path('live.pem'), keyFile: path('live.key'), ...more };
  install(server);
  const counters = new Counters();
  const log = listening();
  const tls: Tls = await tlsFor(files, { counters, log });
  const listener: Server = createServer(tls.serverOptions, (socket) => {
    socket.on('error', () => undefined);
    if (!socket.destroyed) socket.write('hello');
  });
  tls.protect(listener);
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  opened.push(tls, listener);
  const address = listener.address();
  return { tls, counters, log, port: typeof address === 'object' && address ? address.port : 0 };
}

function install({ certFile, keyFile }: Pair): void {
  copyFileSync(certFile, path('live.pem'));
  copyFileSync(keyFile, path('live.key'));
}

interface Met {
  /** Of the server's certificate; undefined when no word came. */
  readonly serial: string | undefined;
  /** To go on with later. */
  readonly session: Promise<Buffer>;
  readonly resumed: boolean;
  readonly socket: TLSSocket;
}

function meet(port: number, pair?: Pair, before?: Buffer): Promise<Met> {
  const identity = pair && { cert: pair.cert, key: pair.key };
  const socket = connect({
    port,
    host: '127.0.0.1',
    rejectUnauthorized: false,
    ...identity,
    ...(before && { session: before }),
  });
  opened.push({ close: () => socket.destroy() });
  const session = new Promise<Buffer>((resolve) => socket.once('session', resolve));
  return new Promise((resolve) => {
    const end = (serial?: string) => resolve({ serial, session, resumed: socket.isSessionReused(), socket });
    socket.once('data', () => end(socket.getPeerCertificate(true).serialNumber ?? 'resumed'));
    socket.once('error', () => end()).once('close', () => end());
  });
}

const closed = (socket: TLSSocket) =>
  new Promise<void>((resolve) => (socket.closed ? resolve() : socket.once('close', () => resolve())));

describe('files that are replaced', () => {
  it('count from the next connection on', async () => {
    const { tls, port, log, counters } = await serve();
    const before = await meet(port);
    install(authority.server('localhost', { endsInDays: 50 }));
    await tls.reload();
    const after = await meet(port);
    expect(before.serial).toMatch(/\w/);
    expect(after.serial).toMatch(/\w/);
    expect(after.serial).not.toBe(before.serial);
    // Who has a connection keeps it.
    expect(before.socket.destroyed).toBe(false);
    expect(log.lines.join()).toContain('certificates were read again');
    expect(counters.total('tls_certificate_ends')).toBe(Math.floor(tls.endsAtMs() / 1000));
  });

  it('leave those before in use when they cannot be used, and say so', async () => {
    const { tls, port, log, counters } = await serve();
    const before = await meet(port);
    // Half of a replacement.
    copyFileSync(client.keyFile, path('live.key'));
    await tls.reload();
    expect((await meet(port)).serial).toBe(before.serial);
    expect(counters.total('tls_reload_failures', { listener: 'receive.grpc.tls' })).toBe(1);
    expect(counters.total('reload_failing', { file: 'receive.grpc.tls' })).toBe(1);
    expect(log.lines.join()).toMatch(
      /cannot be used; those read before are used on .*is not the key of the certificate/,
    );
    // Told once.
    await tls.reload();
    expect(counters.total('tls_reload_failures')).toBe(1);
    rmSync(path('live.pem'));
    await tls.reload();
    expect((await meet(port)).serial).toBe(before.serial);
    install(authority.server());
    await tls.reload();
    expect((await meet(port)).serial).not.toBe(before.serial);
    expect(counters.total('reload_failing')).toBe(0);
  });

  it.each(['optional', 'required'] as const)(
    'cut whom a new list of revoked certificates names (%s)',
    async (clientCertificate) => {
      const revoked = authority.client('stolen');
      copyFileSync(authority.crl(), path('live.crl'));
      const { tls, port, counters } = await serve({
        clientCaFile: authority.caFile,
        crlFile: path('live.crl'),
        clientCertificate,
      });
      const before = await meet(port, revoked);
      const good = await meet(port, client);
      expect(before.serial).toMatch(/\w/);
      const session = await before.session;
      const again = await meet(port, revoked, session);
      expect(again).toMatchObject({ serial: expect.stringMatching(/\w/), resumed: true });
      authority.revoke(revoked);
      copyFileSync(authority.crl(), path('live.crl'));
      await tls.reload();
      await Promise.all([closed(before.socket), closed(good.socket)]);
      expect((await meet(port, revoked)).serial).toBeUndefined();
      // Nor by going on with a session of before.
      expect((await meet(port, revoked, session)).serial).toBeUndefined();
      expect((await meet(port, client)).serial).toMatch(/\w/);
      expect(counters.total('tls_refused', { listener: 'receive.grpc.tls', reason: 'revoked' })).toBe(2);
    },
  );

  it('let in whom another authority signs from then on, and nobody else', async () => {
    copyFileSync(authority.caFile, path('live-ca.pem'));
    const { tls, port } = await serve({ clientCaFile: path('live-ca.pem'), clientCertificate: 'required' });
    const stranger = other.client('stranger');
    expect((await meet(port, client)).serial).toMatch(/\w/);
    expect((await meet(port, stranger)).serial).toBeUndefined();
    copyFileSync(other.caFile, path('live-ca.pem'));
    await tls.reload();
    expect((await meet(port, client)).serial).toBeUndefined();
    expect((await meet(port, stranger)).serial).toMatch(/\w/);
  });
});

describe('clients', () => {
  it('without a certificate are cut only where one is required', async () => {
    const required = await serve({ clientCaFile: authority.caFile, clientCertificate: 'required' });
    expect((await meet(required.port)).serial).toBeUndefined();
    expect(required.counters.total('tls_refused', { listener: 'receive.grpc.tls', reason: 'missing' })).toBe(1);
    const optional = await serve({ clientCaFile: authority.caFile, clientCertificate: 'optional' });
    expect((await meet(optional.port)).serial).toMatch(/\w/);
  });

  it('are told of in the log once a minute for each reason, and counted each time', async () => {
    const { port, counters, log } = await serve({ clientCaFile: authority.caFile, clientCertificate: 'required' });
    for (let count = 0; count < 5; count++) await meet(port);
    expect(counters.total('tls_refused')).toBe(5);
    expect(log.lines.filter((line) => line.includes('refused'))).toHaveLength(1);
  });

  it('are not let in where their authority has no list of revoked certificates, but others have', async () => {
    const { port, counters } = await serve({
      clientCaFile: other.caFile,
      clientCertificate: 'required',
      crlFile: authority.crl(),
    });
    expect((await meet(port, other.client('agent'))).serial).toBeUndefined();
    expect(counters.total('tls_refused', { listener: 'receive.grpc.tls', reason: 'no_crl' })).toBe(1);
  });
});
