import { createHmac, generateKeyPairSync, sign as signBytes } from 'node:crypto';
import fc from 'fast-check';
import { SignJWT } from 'jose';
import { describe, expect, it } from 'vitest';
import type { TokenVerdict } from '../../src/core/evidence.ts';
import { tokenKey } from '../../src/core/token-key.ts';
import { parseKeys, RefreshedKeys, secretKeys, type TokenKeys } from '../../src/receive/token-keys.ts';
import { type CheckToken, createTokenCheck, type TokenIssuer } from '../../src/receive/tokens.ts';
import { makeSigner, type Signer } from './token-signer.ts';

const NOW_MS = 1_800_000_000_000;
const NOW = NOW_MS / 1000;
const LEEWAY_MS = 60_000;
const ISSUER = 'https://login.example';
const CLAIMS = { iss: ISSUER, sub: 'alice', aud: 'shop', exp: NOW + 300 };
const NO_TIME = { earliestNs: 0n, latestNs: 0n };

function known(text: string): TokenKeys {
  const key = parseKeys(text);
  const algorithms = ['RS256', 'PS384', 'ES256', 'EdDSA'];
  return { key, algorithms, generation: 1, missed: () => undefined, close: () => undefined };
}

const keysOf = (...signers: Signer[]) => known(JSON.stringify({ keys: signers.flatMap(({ jwks }) => jwks.keys) }));
const at = (seconds: number) => ({ earliestNs: BigInt(seconds) * 10n ** 9n, latestNs: BigInt(seconds) * 10n ** 9n });

function checkWith(issuers: readonly TokenIssuer[]): CheckToken {
  const check = createTokenCheck(issuers, LEEWAY_MS);
  if (check === undefined) throw new Error('there are no issuers');
  return check;
}

async function verdict(token: string, issuers: readonly TokenIssuer[], use = NO_TIME): Promise<TokenVerdict> {
  const check = checkWith(issuers);
  const first = await check(token, use, NOW_MS);
  // What is remembered says the same.
  expect(await check(token, use, NOW_MS)).toBe(first);
  return first;
}

describe('a token', () => {
  it.each(['RS256', 'PS384', 'ES256', 'EdDSA'])('signed with %s is verified', async (alg) => {
    const signer = await makeSigner('one', alg);
    const issuers = [{ issuer: ISSUER, audience: ['shop'], keys: keysOf(signer) }];
    const token = await signer.sign(CLAIMS);
    expect(await verdict(token, issuers)).toBe('verified');
    const [header = '', , signature = ''] = token.split('.');
    const forged = `${header}.${Buffer.from(JSON.stringify({ ...CLAIMS, sub: 'root' })).toString('base64url')}.${signature}`;
    expect(await verdict(forged, issuers)).toBe('bad_signature');
  });

  it('has a verdict for each way to be wrong', async () => {
    const signer = await makeSigner();
    const stranger = await makeSigner('key-2');
    const impostor = await makeSigner();
    const issuers = [{ issuer: ISSUER, audience: ['shop', 'clinic'], keys: keysOf(signer) }];
    const check = async (claims: object, by = signer) => verdict(await by.sign({ ...CLAIMS, ...claims }), issuers);
    expect(await check({ aud: ['x', 'clinic'] })).toBe('verified');
    expect(await check({ aud: 'other' })).toBe('wrong_audience');
    expect(await check({ aud: undefined })).toBe('wrong_audience');
    expect(await check({ iss: 'https://other.example' })).toBe('wrong_issuer');
    expect(await check({ iss: undefined })).toBe('wrong_issuer');
    expect(await check({ exp: NOW - 61 })).toBe('expired');
    expect(await check({ exp: NOW - 59 })).toBe('verified');
    expect(await check({ exp: undefined })).toBe('verified');
    expect(await check({ nbf: NOW + 61 })).toBe('not_yet_valid');
    expect(await check({ nbf: NOW + 59 })).toBe('verified');
    expect(await check({}, stranger)).toBe('unknown_key');
    expect(await check({}, impostor)).toBe('bad_signature');
    // A bad signature is told before what the claims say, since anybody may have written them.
    expect(await check({ exp: NOW - 1000 }, impostor)).toBe('bad_signature');
    expect(await verdict('eyJhbGciOiJFUzI1NiJ9.bm8ganNvbg.c2ln', issuers)).toBe('bad_signature');
    expect(createTokenCheck([], LEEWAY_MS)).toBeUndefined();
  });

  it('must have been valid when it was used, not when the evidence comes', async () => {
    const signer = await makeSigner();
    const issuers = [{ issuer: ISSUER, keys: keysOf(signer) }];
    const token = await signer.sign({ ...CLAIMS, nbf: NOW - 900, exp: NOW - 600 });
    expect(await verdict(token, issuers, at(NOW - 700))).toBe('verified');
    expect(await verdict(token, issuers)).toBe('expired');
    expect(
      await verdict(token, issuers, { earliestNs: at(NOW - 700).earliestNs, latestNs: at(NOW - 1).latestNs }),
    ).toBe('expired');
    expect(await verdict(token, issuers, at(NOW - 1000))).toBe('not_yet_valid');
    // A sender's clock that is ahead.
    expect(await verdict(await signer.sign(CLAIMS), issuers, at(NOW + 100_000))).toBe('verified');
  });

  it('cannot choose how it is checked', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
    const issuers = [{ issuer: ISSUER, keys: known(pem) }];
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const claims = encode(CLAIMS);
    const signed = (header: object, by: (text: string) => string) => {
      const text = `${encode(header)}.${claims}`;
      return `${text}.${by(text)}`;
    };
    const right = signed({ alg: 'RS256' }, (text) =>
      signBytes('sha256', Buffer.from(text), privateKey).toString('base64url'),
    );
    expect(await verdict(right, issuers)).toBe('verified');
    const none = signed({ alg: 'none' }, () => '');
    const confused = signed({ alg: 'HS256' }, (text) => createHmac('sha256', pem).update(text).digest('base64url'));
    const critical = signed({ alg: 'RS256', crit: ['x'], x: 1 }, (text) =>
      signBytes('sha256', Buffer.from(text), privateKey).toString('base64url'),
    );
    for (const token of [none, confused, critical]) expect(await verdict(token, issuers)).toBe('bad_signature');
  });

  it('may be signed with a secret that both sides know', async () => {
    const secret = 'made up for this test, and long enough';
    const token = await new SignJWT(CLAIMS).setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode(secret));
    expect(await verdict(token, [{ issuer: ISSUER, keys: secretKeys(secret) }])).toBe('verified');
    expect(await verdict(token, [{ issuer: ISSUER, keys: secretKeys(`${secret}!`) }])).toBe('bad_signature');
  });

  it('without the name of a key is tried with each, and so are issuers of one name', async () => {
    const [one, two, three] = await Promise.all(['a', 'b', 'c'].map((kid) => makeSigner(kid)));
    if (!one || !two || !three) throw new Error('three signers');
    const both = [{ issuer: ISSUER, keys: keysOf(one, two) }];
    expect(await verdict(await two.sign(CLAIMS, { kid: undefined }), both)).toBe('verified');
    expect(await verdict(await three.sign(CLAIMS, { kid: undefined }), both)).toBe('bad_signature');
    const named = [
      { issuer: ISSUER, keys: keysOf(one) },
      { issuer: ISSUER, audience: ['shop'], keys: keysOf(three) },
    ];
    expect(await verdict(await three.sign(CLAIMS), named)).toBe('verified');
    expect(await verdict(await three.sign({ ...CLAIMS, aud: 'x' }), named)).toBe('wrong_audience');
  });

  it('is verified with the padding of a load balancer', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const padded = (value: object) =>
      Buffer.from(JSON.stringify(value)).toString('base64').replaceAll('+', '-').replaceAll('/', '_');
    const text = `${padded({ alg: 'ES256', kid: 'x', signer: 'lb' })}.${padded(CLAIMS)}`;
    const signature = signBytes('sha256', Buffer.from(text), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString(
      'base64',
    );
    const token = `${text}.${signature.replaceAll('+', '-').replaceAll('/', '_')}`;
    const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
    expect(await verdict(token, [{ issuer: ISSUER, keys: known(pem) }])).toBe('verified');
  });

  it('of any kind gets a verdict, and none that was not signed is verified', async () => {
    const signer = await makeSigner();
    const check = checkWith([{ issuer: ISSUER, keys: keysOf(signer) }]);
    const [header = '', claims = '', signature = ''] = (await signer.sign(CLAIMS)).split('.');
    const part = fc.oneof(
      fc.string(),
      fc.constantFrom(header, claims, signature, 'e30', 'bnVsbA', 'W10', ''),
      fc.json().map((text) => Buffer.from(text).toString('base64url')),
      fc
        .record({ alg: fc.constantFrom('ES256', 'none', 'HS256', 1, null), kid: fc.constantFrom('key-1', 1, null, {}) })
        .map((value) => Buffer.from(JSON.stringify(value)).toString('base64url')),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 4 }), async (parts) => {
        const token = parts.join('.');
        const found = await check(token, NO_TIME, NOW_MS);
        expect(found === 'verified').toBe(token === `${header}.${claims}.${signature}`);
      }),
      { numRuns: 500 },
    );
  });

  it('has a key that does not depend on its signature', () => {
    expect(tokenKey('aaa.bbb.ccc')).toMatch(/^[\w-]{22}$/);
    expect(tokenKey('aaa.bbb.***')).toBe(tokenKey('aaa.bbb.ccc'));
    expect(tokenKey('aaa.bbc.ccc')).not.toBe(tokenKey('aaa.bbb.ccc'));
    for (const text of ['', 'a', 'a.b', '.b.c', 'a..c']) expect(tokenKey(text)).toBeUndefined();
  });
});

describe('keys', () => {
  it.each([
    ['', /neither a JWK set .* nor PEM/],
    ['{}', /JSON without keys/],
    ['{"keys":[]}', /JSON without keys/],
    ['-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----', /private key: give the public one/],
    ['x'.repeat(2 ** 20 + 1), /larger than/],
  ])('of this text are refused (case %#)', (text, message) => expect(() => parseKeys(text)).toThrow(message));

  it('are read in the background, soon after an unknown one, and kept when they cannot be read', async () => {
    const [old, fresh] = await Promise.all([makeSigner('old'), makeSigner('fresh')]);
    let answer: () => Promise<string> = async () => JSON.stringify(old?.jwks);
    let nowMs = NOW_MS;
    const planned: { delayMs: number; act: () => void }[] = [];
    const told: (string | undefined)[] = [];
    const keys = new RefreshedKeys({
      read: () => answer(),
      refreshMs: 600_000,
      clock: { nowMs: () => nowMs },
      scheduler: {
        after: (delayMs, act) => {
          planned.push({ delayMs, act });
          return () => undefined;
        },
        elapsedMs: () => 0,
        random: () => 0,
      },
      report: (failure) => told.push(failure),
    });
    const check = checkWith([{ issuer: ISSUER, keys }]);
    const attempts = async (count: number) => {
      while (told.length < count) await new Promise((resolve) => setImmediate(resolve));
    };
    const token = async (signer: Signer | undefined) => (await signer?.sign(CLAIMS)) ?? '';
    expect(await check(await token(old), NO_TIME, nowMs)).toBe('unchecked');
    planned.at(-1)?.act();
    await attempts(1);
    expect(await check(await token(old), NO_TIME, nowMs)).toBe('verified');
    expect(planned.at(-1)?.delayMs).toBe(600_000);

    answer = async () => JSON.stringify(fresh?.jwks);
    expect(await check(await token(fresh), NO_TIME, nowMs)).toBe('unknown_key');
    expect(told).toHaveLength(1);
    nowMs += 30_000;
    // Nothing waits for the keys: this one is not checked yet.
    expect(await check(await token(fresh), NO_TIME, nowMs)).toBe('unknown_key');
    await attempts(2);
    expect(await check(await token(fresh), NO_TIME, nowMs)).toBe('verified');
    expect(await check(await token(old), NO_TIME, nowMs)).toBe('unknown_key');

    nowMs += 600_000;
    answer = async () => 'gone';
    planned.at(-1)?.act();
    await attempts(3);
    expect(told).toEqual([undefined, undefined, expect.stringMatching(/neither a JWK set/)]);
    expect(await check(await token(fresh), NO_TIME, nowMs - 600_000)).toBe('verified');
    keys.close();
  });
});
