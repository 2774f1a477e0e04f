import { readFileSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import { Client, credentials, Metadata, status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SentSignal } from '../../src/auth/principal.ts';
import type { Tls } from '../../src/auth/tls.ts';
import { Counters } from '../../src/core/metrics.ts';
import type { WayIn } from '../../src/receive/listen.ts';
import { createGate } from '../../src/receive/senders.ts';
import { type Authority, createAuthority, type Pair } from '../auth/certificates.ts';
import { authenticatorFor, entryFor, tlsFor } from '../auth/openings.ts';
import { encodeLogs, encodeMetrics, encodeTraces } from '../otlp/encode.ts';
import { encodeRecordRequest } from './access-client.ts';
import { type Harness, NOW_MS, SPAN_ID, startHarness, TRACE_ID } from './harness.ts';

/**
 * Every method and route that the receivers serve, taken from what they have registered, with whatever somebody may bring who is
 * not to be let in. Over TLS, with real clients.
 */

const event = { id: 'e1', actor: { id: 'alice' }, action: 'read' };

const BODIES: Readonly<Record<SentSignal, Buffer>> = {
  traces: encodeTraces([{ spans: [{ traceId: TRACE_ID, spanId: SPAN_ID, name: 'GET' }] }]),
  logs: encodeLogs([{ logs: [{ body: 'a line' }] }]),
  metrics: encodeMetrics([{ metrics: [{ name: 'cpu', points: [{ value: 1 }] }] }]),
  access: encodeRecordRequest([event]),
  events: Buffer.from('{"kind":"Event","auditID":"1"}'),
};

const tokens = {
  right: entryFor({ name: 'agent' }),
  expired: entryFor({ name: 'old', expiresAt: new Date(NOW_MS - 1).toISOString() }),
  revoked: entryFor({ name: 'gone', revoked: true }),
  reader: entryFor({ name: 'auditor', can: ['read', 'monitor', 'operate'] }),
};

type Bearer = 'missing' | 'malformed' | 'unknown' | keyof typeof tokens;

const HEADERS: Readonly<Record<Bearer, string | undefined>> = {
  missing: undefined,
  malformed: 'Bearer of bad news',
  unknown: `Bearer ${entryFor({ name: 'nobody' }).token}`,
  right: `Bearer ${tokens.right.token}`,
  expired: `Bearer ${tokens.expired.token}`,
  revoked: `Bearer ${tokens.revoked.token}`,
  reader: `Bearer ${tokens.reader.token}`,
};

const REFUSED: readonly Exclude<Bearer, 'right'>[] = [
  'missing',
  'malformed',
  'unknown',
  'expired',
  'revoked',
  'reader',
];

let authority: Authority;
let strangers: Authority;
let certificates: Record<'right' | 'expired' | 'revoked' | 'stranger' | 'unnamed', Pair>;
let harness: Harness;
let tls: { grpc: Tls; http: Tls };
let grpcWays: readonly WayIn[] = [];
let httpWays: readonly WayIn[] = [];
const counters = new Counters();

beforeAll(async () => {
  authority = createAuthority();
  strangers = createAuthority('strangers');
  certificates = {
    right: authority.client('gateway'),
    expired: authority.client('gateway', { startsInDays: -3, endsInDays: -1 }),
    revoked: authority.client('gateway'),
    stranger: strangers.client('gateway'),
    unnamed: authority.client('nobody'),
  };
  authority.revoke(certificates.revoked);
  const files = {
    ...authority.server(),
    clientCaFile: authority.caFile,
    crlFile: authority.crl(),
    clientCertificate: 'optional',
  } as const;
  tls = {
    grpc: await tlsFor(files, { counters, setting: 'receive.grpc.tls' }),
    http: await tlsFor(files, { counters, setting: 'receive.http.tls' }),
  };
  const clock = { nowMs: () => NOW_MS };
  const auth = {
    tokens: Object.values(tokens).map(({ entry }) => entry),
    certificates: [{ name: 'gateway', can: ['send'], subject: { CN: 'gateway' }, san: 'DNS:gate*.example' }],
  };
  const gate = createGate({ authenticator: await authenticatorFor(auth, { clock, counters }), counters, clock });
  harness = await startHarness({ gate, tls });
  grpcWays = harness.grpc.waysIn;
  httpWays = harness.http.waysIn;
});

afterAll(async () => {
  await harness.close();
  for (const each of [tls.grpc, tls.http]) each.close();
  for (const each of [authority, strangers]) each.remove();
});

interface Answer {
  /** `refused`: no connection came about. */
  readonly code: number | 'refused';
  readonly message: string;
}

/** By grpc-js, on a connection of its own. */
function call({ path, signal }: WayIn, bearer: Bearer, pair?: Pair): Promise<Answer> {
  const [ca, key, cert] = [readFileSync(authority.caFile), pair?.key ?? null, pair?.cert ?? null];
  const pem = (text: string | null) => (text === null ? null : Buffer.from(text));
  const channel = credentials.createSsl(ca, pem(key), pem(cert));
  const client = new Client(`localhost:${harness.grpc.port}`, channel, { 'grpc.use_local_subchannel_pool': 1 });
  const metadata = new Metadata();
  const authorization = HEADERS[bearer];
  if (authorization !== undefined) metadata.set('authorization', authorization);
  const bytes = (message: Buffer) => message;
  return new Promise<Answer>((resolve) => {
    const deadline = { deadline: Date.now() + 10_000 };
    client.makeUnaryRequest(path, bytes, bytes, BODIES[signal], metadata, deadline, (error) => {
      const code = error?.code ?? status.OK;
      resolve({ code: code === status.UNAVAILABLE ? 'refused' : code, message: error?.details ?? '' });
    });
  }).finally(() => client.close());
}

interface Posted extends Answer {
  readonly headers: Readonly<Record<string, unknown>>;
}

/** By node:https. Without `isWhole` the body never comes: who is answered was answered by the headers alone. */
function post({ path, signal }: WayIn, bearer: Bearer, pair?: Pair, isWhole = true): Promise<Posted> {
  const authorization = HEADERS[bearer];
  const url = `https://localhost:${harness.http.port}${path}${path.endsWith('/') ? 'kubernetes' : ''}`;
  const body = BODIES[signal];
  return new Promise((resolve) => {
    const outgoing = httpsRequest(url, {
      method: 'POST',
      agent: false,
      ca: readFileSync(authority.caFile),
      ...(pair && { key: pair.key, cert: pair.cert }),
      headers: {
        'content-type': signal === 'events' ? 'application/json' : 'application/x-protobuf',
        'content-length': isWhole ? body.length : 100_000,
        ...(authorization !== undefined && { authorization }),
      },
    });
    outgoing.on('error', () => resolve({ code: 'refused', message: '', headers: {} }));
    outgoing.on('response', (response) => {
      let text = '';
      response.setEncoding('latin1');
      response.on('data', (chunk) => (text += chunk));
      response.on('end', () => {
        resolve({ code: response.statusCode ?? 0, message: text, headers: response.headers });
        outgoing.destroy();
      });
    });
    if (isWhole) outgoing.end(body);
    else outgoing.flushHeaders();
  });
}

function unauthenticated(): Record<string, number> {
  const samples = counters.samples().filter(({ name }) => name === 'unauthenticated');
  return Object.fromEntries(samples.map(({ labels, value }) => [labels['reason'], value]));
}

describe('every way in', () => {
  it('is known', () => {
    const services = grpcWays.map(({ path }) => path.split('/')[1]);
    expect(services).toContain('opentelemetry.proto.collector.trace.v1.TraceService');
    expect(services).toContain('spantrail.access.v1.AccessService');
    expect(new Set(grpcWays.map(({ signal }) => signal)).size).toBe(4);
    expect(httpWays.map(({ signal }) => signal)).toEqual(['traces', 'logs', 'metrics', 'access', 'events']);
  });

  it('takes the right token and the right certificate', async () => {
    for (const way of grpcWays) {
      expect({ way, ...(await call(way, 'right')) }).toMatchObject({ code: status.OK });
      expect({ way, ...(await call(way, 'missing', certificates.right)) }).toMatchObject({ code: status.OK });
    }
    for (const way of httpWays) {
      expect({ way, ...(await post(way, 'right')) }).toMatchObject({ code: 200 });
      expect({ way, ...(await post(way, 'missing', certificates.right)) }).toMatchObject({ code: 200 });
    }
    // The same principal is one sender by gRPC, HTTP and JSON; only webhooks stay apart.
    const senders = new Set(harness.frames.map(({ note }) => `${note.sender} ${note.trusted}`));
    expect([...senders].sort()).toEqual(
      ['agent', 'gateway', 'webhook:agent', 'webhook:gateway'].map((name) => `${name} true`),
    );
  });

  it.each(REFUSED)('refuses by the headers alone what comes with: %s', async (bearer) => {
    const before = { frames: harness.frames.length, counted: unauthenticated()[bearer] ?? 0 };
    const [grpcCode, httpCode] = bearer === 'reader' ? [status.PERMISSION_DENIED, 403] : [status.UNAUTHENTICATED, 401];
    for (const way of grpcWays) {
      expect({ way, ...(await call(way, bearer)) }).toMatchObject({
        code: grpcCode,
        message: expect.stringMatching(/\w/),
      });
    }
    for (const way of httpWays) {
      const answer = await post(way, bearer, undefined, false);
      expect({ way, ...answer }).toMatchObject({
        code: httpCode,
        headers: { 'www-authenticate': expect.stringMatching(/^Bearer realm="spantrail"/) },
      });
    }
    expect(harness.frames.length).toBe(before.frames);
    const counted = (unauthenticated()[bearer] ?? 0) - before.counted;
    expect(counted).toBe(bearer === 'reader' ? 0 : grpcWays.length + httpWays.length);
  });

  it.each(['expired', 'revoked', 'stranger'] as const)(
    'gives a connection to no certificate that is: %s',
    async (which) => {
      const frames = harness.frames.length;
      const pair = certificates[which];
      for (const way of grpcWays)
        expect({ way, ...(await call(way, 'right', pair)) }).toMatchObject({ code: 'refused' });
      for (const way of httpWays)
        expect({ way, ...(await post(way, 'right', pair)) }).toMatchObject({ code: 'refused' });
      expect(harness.frames.length).toBe(frames);
      const reason = which === 'stranger' ? 'unknown' : which;
      expect(counters.total('tls_refused', { listener: 'receive.http.tls', reason })).toBe(httpWays.length);
      expect(counters.total('tls_refused', { listener: 'receive.grpc.tls', reason })).toBeGreaterThan(0);
    },
  );

  it('tells a certificate of its authority that nobody has named so', async () => {
    for (const way of grpcWays) {
      const answer = await call(way, 'missing', certificates.unnamed);
      expect({ way, ...answer }).toMatchObject({
        code: status.UNAUTHENTICATED,
        message: expect.stringContaining('CN=nobody'),
      });
    }
    for (const way of httpWays) {
      expect({ way, ...(await post(way, 'missing', certificates.unnamed)) }).toMatchObject({ code: 401 });
    }
  });

  it('does not take a good certificate for a bad token', async () => {
    for (const way of grpcWays) {
      expect({ way, ...(await call(way, 'revoked', certificates.right)) }).toMatchObject({
        code: status.UNAUTHENTICATED,
      });
    }
    for (const way of httpWays) {
      expect({ way, ...(await post(way, 'malformed', certificates.right)) }).toMatchObject({ code: 401 });
    }
  });

  it('that are reached without TLS, or with what is no TLS, say nothing and count it', async () => {
    const ports = { 'receive.grpc.tls': harness.grpc.port, 'receive.http.tls': harness.http.port };
    for (const [listener, port] of Object.entries(ports)) {
      const before = counters.total('tls_refused', { listener, reason: 'protocol' });
      const heard = await new Promise<string>((resolve) => {
        const socket = connect(port, '127.0.0.1', () => socket.write('POST /v1/traces HTTP/1.1\r\nhost: x\r\n\r\n'));
        let text = '';
        socket.on('data', (chunk) => {
          text += chunk.toString('latin1');
        });
        socket.on('error', () => undefined);
        socket.on('close', () => resolve(text));
      });
      expect(heard).not.toContain('HTTP');
      expect(counters.total('tls_refused', { listener, reason: 'protocol' })).toBe(before + 1);
    }
    await expect.poll(() => harness.inFlight.connections).toBe(0);
  });
});
