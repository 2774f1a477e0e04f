import { createPublicKey } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openCredentials } from '../../src/app/identity.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import type { FrameNote } from '../../src/core/evidence.ts';
import { Counters } from '../../src/core/metrics.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { makeRecord, type Overrides } from '../fixtures/records.ts';
import { encodeTraces } from '../otlp/encode.ts';
import { makeSigner } from '../receive/token-signer.ts';

const IDS = { traceId: 'a1'.repeat(16), spanId: 'b2'.repeat(8) };
const START = '2026-11-22T10:00:00.000Z';
const NOW_MS = Date.parse(START) + 60_000;
const NOTE: FrameNote = {
  ...{ receivedNs: BigInt(NOW_MS) * 1_000_000n, namespace: 'default', sender: 'grpc' },
  ...{ trusted: true, vouches: false, peer: '10.0.0.7' },
};
const SESSION = '7f3c2c1e-8a51-4b90-9d0e-52e1c3a7b955';

let folder: string;
const warnings: string[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'spantrail-identity-'));
  warnings.length = 0;
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function open(identity: object = {}) {
  const counters = new Counters();
  const log = {
    info: () => undefined,
    warn: (fields: object, message: string) => void warnings.push(`${message} ${JSON.stringify(fields)}`),
    error: () => undefined,
  };
  const credentials = await openCredentials({
    settings: settingsSchema.parse({ identity }),
    ...{ folder, counters, log, clock: { nowMs: () => NOW_MS } },
  });
  const inspect = async (attributes: Record<string, unknown>) => {
    const payload = encodeTraces([{ spans: [{ ...IDS, attributes }] }]);
    return { payload, ...(await credentials.inspect('traces', payload, NOTE)) };
  };
  /** The hash that stands in a record, found where admission put it. */
  const hashed = async (id: string) => {
    const { payload } = await inspect({ 'session.id': id });
    return payload.toString('latin1').match(/session\.id[\s\S]*?([\w-]{36,})/)?.[1] ?? '';
  };
  return { ...credentials, counters, inspect, hashed };
}

function record(session: string, overrides: Overrides<AuditRecord> = {}): AuditRecord {
  return makeRecord({
    '@timestamp': START,
    session: { id: session },
    user: { id: 'alice', name: 'Alice' },
    ...overrides,
  });
}

const OWNER = { id: 'alice', name: 'Alice' };

describe('sessions', () => {
  it('are learnt from records, and known after a restart', async () => {
    const first = await open();
    const id = await first.hashed(SESSION);
    expect((await first.inspect({ 'session.id': SESSION })).note).toEqual({});
    first.learn([record(id)]);
    expect((await first.inspect({ 'session.id': SESSION })).note).toEqual({ sessions: { [id]: OWNER } });
    expect(first.counters.total('sessions_known')).toBe(1);
    await first.close();
    const second = await open();
    expect((await second.inspect({ 'session.id': SESSION })).note).toEqual({ sessions: { [id]: OWNER } });
    const event = { category: ['authentication'], type: ['end'], end: '2026-11-22T10:00:30.000Z' };
    second.learn([record(id, { event })]);
    await second.close();
    const third = await open();
    expect((await third.inspect({ 'session.id': SESSION })).note).toEqual({});
    await third.close();
    for (const file of ['session-key', 'sessions']) {
      expect(statSync(join(folder, file)).mode & 0o777).toBe(0o600);
      expect(readFileSync(join(folder, file), 'utf8')).not.toContain(SESSION);
    }
    expect(warnings).toEqual([]);
  });

  it.each<[string, Overrides<AuditRecord>]>([
    ['learnt from a session', { audit: { actor: { attribution: 'session' } } }],
    ['said somewhere in the trace', { audit: { actor: { attribution: 'trace' } } }],
    ['in baggage', { audit: { actor: { attribution: 'baggage' } } }],
    ['of a service', { audit: { actor: { type: 'service' } } }],
    ['of nobody', { user: undefined, audit: { actor: { type: 'anonymous', attribution: 'none' } } }],
    ['of a record that gave way to another', { audit: { superseded_by: 'x' } }],
    ['of a logout', { event: { category: ['authentication'], type: ['end'] } }],
  ])('are not learnt from an actor %s', async (_, overrides) => {
    const { learn, inspect, hashed, close } = await open();
    learn([record(await hashed(SESSION), overrides), record('short')]);
    expect((await inspect({ 'session.id': SESSION })).note).toEqual({});
    await close();
  });

  it('are forgotten with the key, and not known when nobody wants it', async () => {
    const first = await open();
    first.learn([record(await first.hashed(SESSION))]);
    await first.close();
    rmSync(join(folder, 'session-key'));
    const second = await open();
    expect((await second.inspect({ 'session.id': SESSION })).note).toEqual({});
    expect(second.counters.total('sessions_known')).toBe(0);
    await second.close();
    const third = await open({ sessions: { keepMs: 0 } });
    third.learn([record(await third.hashed(SESSION))]);
    expect((await third.inspect({ 'session.id': SESSION })).note).toEqual({});
    await third.close();
  });

  it('survive a file that was torn, and one that grew old', async () => {
    const first = await open();
    const ids = await Promise.all(['a', 'b'].map((letter) => first.hashed(SESSION + letter)));
    first.learn(ids.map((id) => record(id)));
    await first.close();
    const path = join(folder, 'sessions');
    const text = readFileSync(path, 'utf8');
    writeFileSync(path, text.slice(0, -10));
    const second = await open();
    expect((await second.inspect({ 'session.id': `${SESSION}a` })).note.sessions).toEqual({ [ids[0] ?? '']: OWNER });
    expect((await second.inspect({ 'session.id': `${SESSION}b` })).note).toEqual({});
    // Each time somebody else: a line each, until they are worth writing anew.
    const lines = 25_000;
    for (let round = 0; round < lines; round += 100) {
      const people = Array.from({ length: 100 }, (_, index) => `session-of-${(round + index) % 5}-made-up`);
      const at = new Date(Date.parse(START) - (lines - round) * 4_000_000).toISOString();
      second.learn(people.map((id) => record(id, { '@timestamp': at, user: { id: `user-${round}` } })));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await second.close();
    expect(readFileSync(path, 'utf8').split('\n').length).toBeLessThan(15_000);
  });

  it('are hashed with a key of one’s own', async () => {
    const keyFile = join(folder, 'own-key');
    const setting = { sessions: { keyFile } };
    await expect(open(setting)).rejects.toThrow(/identity\.sessions\.keyFile: .*own-key cannot be read: ENOENT/);
    writeFileSync(keyFile, 'c2hvcnQ=');
    await expect(open(setting)).rejects.toThrow(/must hold at least 32 bytes in base64; make one with: openssl rand/);
    writeFileSync(keyFile, Buffer.alloc(32, 3).toString('base64'));
    const one = await open(setting);
    const id = await one.hashed(SESSION);
    await one.close();
    rmSync(join(folder, 'sessions'));
    const other = await open(setting);
    expect(await other.hashed(SESSION)).toBe(id);
    await other.close();
    writeFileSync(join(folder, 'session-key'), 'broken');
    await expect(open()).rejects.toThrow(/session-key must hold at least 32 bytes in base64; restore it from a backup/);
  });
});

describe('keys of tokens', () => {
  const bearer = (token: string) => ({ 'http.request.header.authorization': `Bearer ${token}` });
  const CLAIMS = { iss: 'https://login.example', sub: 'alice', exp: NOW_MS / 1000 + 60 };

  it('come from a file, or the start says what is wrong with it', async () => {
    const signer = await makeSigner();
    const keysFile = join(folder, 'keys.json');
    const tokens = { issuers: [{ issuer: CLAIMS.iss, keysFile }] };
    await expect(open({ tokens })).rejects.toThrow(/identity\.tokens\.issuers\.0\.keysFile: .*keys\.json: ENOENT/);
    writeFileSync(keysFile, '{"keys":[]}');
    await expect(open({ tokens })).rejects.toThrow(/keys\.json: is JSON without keys/);
    writeFileSync(keysFile, JSON.stringify(signer.jwks));
    const { inspect, counters, close } = await open({ tokens });
    const { note } = await inspect(bearer(await signer.sign(CLAIMS)));
    expect(Object.values(note.tokens ?? {})).toEqual(['verified']);
    expect(counters.total('token_keys', { state: 'ready' })).toBe(1);
    await close();
  });

  it('come from an address in the background, also when it answers later', async () => {
    const signer = await makeSigner();
    let status = 500;
    let asked = 0;
    const server = createServer((_, response) => {
      asked += 1;
      response.writeHead(status).end(JSON.stringify(signer.jwks));
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const keysUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`;
    const { inspect, counters, close } = await open({
      tokens: { issuers: [{ issuer: CLAIMS.iss, keysUrl }], refreshMs: 1000 },
    });
    const token = await signer.sign(CLAIMS);
    expect(asked).toBe(1);
    // Not there yet: nothing waits for them, and nothing is said against the token.
    expect(Object.values((await inspect(bearer(token))).note.tokens ?? {})).toEqual(['unchecked']);
    await expect.poll(() => warnings.length, { timeout: 10_000 }).toBe(1);
    expect(warnings[0]).toMatch(
      /keys of tokens cannot be read.*identity\.tokens\.issuers\.0.*answered with status 500/,
    );
    expect(counters.total('token_keys', { state: 'missing' })).toBe(1);
    status = 200;
    await expect
      .poll(async () => Object.values((await inspect(bearer(token))).note.tokens ?? {}), { timeout: 10_000 })
      .toEqual(['verified']);
    status = 404;
    await expect.poll(() => counters.total('token_keys', { state: 'stale' }), { timeout: 10_000 }).toBe(1);
    expect(Object.values((await inspect(bearer(token))).note.tokens ?? {})).toEqual(['verified']);
    expect(asked).toBeGreaterThan(2);
    await close();
    server.close();
  });

  it('come from an address for each name, of a signer whose keys others share', async () => {
    const [ours, theirs] = await Promise.all([makeSigner('lb-1'), makeSigner('lb-2')]);
    const pems = new Map<string, string>();
    for (const { jwks } of [ours, theirs]) {
      const [jwk] = jwks.keys;
      if (jwk?.kid === undefined) throw new Error('a key with a name');
      const key = createPublicKey({ key: { ...jwk }, format: 'jwk' });
      pems.set(`/${jwk.kid}`, key.export({ type: 'spki', format: 'pem' }).toString());
    }
    const asked: (string | undefined)[] = [];
    const server = createServer(({ url = '' }, response) => {
      asked.push(url);
      response.writeHead(pems.has(url) ? 200 : 404).end(pems.get(url));
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const keysUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/{kid}`;
    const signer = 'arn:aws:elasticloadbalancing:eu-central-1:1:loadbalancer/app/clinic';
    const { inspect, counters, close } = await open({
      tokens: { issuers: [{ issuer: CLAIMS.iss, signer, keysUrl }], refreshMs: 1000 },
    });
    expect(counters.total('token_keys', { state: 'ready' })).toBe(1);
    const verdict = async (token: string) =>
      Object.values((await inspect({ 'http.request.header.x-amzn-oidc-data': token })).note.tokens ?? {})[0];
    const token = await ours.sign(CLAIMS, { signer });
    expect(await verdict(token)).toBe('unknown_key');
    await expect.poll(() => verdict(token), { timeout: 10_000 }).toBe('verified');
    expect(await verdict(await theirs.sign(CLAIMS, { signer: `${signer}-of-others` }))).toBe('wrong_issuer');
    expect(await verdict(await theirs.sign(CLAIMS))).toBe('wrong_issuer');
    // Names that are made up are asked for once, and only if they can be names.
    expect(await verdict(await theirs.sign(CLAIMS, { signer, kid: '../x' }))).toBe('unknown_key');
    expect(await verdict(await theirs.sign(CLAIMS, { signer, kid: 'made-up' }))).toBe('unknown_key');
    await expect.poll(() => asked.filter((url) => url === '/lb-1').length, { timeout: 10_000 }).toBeGreaterThan(3);
    expect(asked.filter((url) => url === '/made-up')).toHaveLength(1);
    expect(asked.some((url) => url?.includes('x') || url?.includes('lb-2'))).toBe(false);
    expect(warnings).toEqual([]);
    await close();
    server.close();
  });

  it('are of one kind each', () => {
    const parse = (issuer: object) =>
      settingsSchema.safeParse({ identity: { tokens: { issuers: [issuer] } } }).error?.issues;
    expect(parse({ issuer: 'a' })?.[0]?.message).toMatch(/needs one of keysUrl .*keysFile .*secret/);
    expect(parse({ issuer: 'a', keysFile: 'x', secret: 'y' })?.[0]?.message).toMatch(/needs one of/);
    expect(parse({ issuer: 'a', keysUrl: 'ftp://x' })?.[0]?.message).toMatch(/must be an address like https/);
    expect(parse({ issuer: 'a', secret: 'y' })).toBeUndefined();
  });
});
