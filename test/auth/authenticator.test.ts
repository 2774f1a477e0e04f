import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type ClientCertificate, splitNames } from '../../src/auth/client-certificate.ts';
import type { Authenticator, Credentials } from '../../src/auth/principal.ts';
import { createToken, hashToken } from '../../src/auth/token.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import { Counters } from '../../src/core/metrics.ts';
import { authenticatorFor, entryFor, listening } from './openings.ts';

const folder = mkdtempSync(join(tmpdir(), 'spantrail-auth-'));
const file = join(folder, 'tokens.yaml');
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const NOW_MS = Date.UTC(2026, 10, 22);

const bearing = (token: string): Credentials => ({ authorization: `Bearer ${token}`, certificate: undefined });

function outcome(authenticator: Authenticator, given: Credentials): string {
  const verdict = authenticator.identify(given);
  return verdict.kind === 'known' ? `${verdict.principal.name} by ${verdict.principal.via}` : verdict.reason;
}

describe('tokens', () => {
  it('are 256 bits of chance, kept as a hash', () => {
    expect(createToken()).toMatch(/^spantrail_[\w-]{43}$/);
    expect(createToken()).not.toBe(createToken());
    expect(hashToken('spantrail_')).toMatch(/^sha256:[0-9a-f]{64}$/);
  });

  it('are told apart by why they do not count', async () => {
    const clock = { nowMs: () => NOW_MS };
    const good = entryFor({ name: 'good', expiresAt: '2026-11-23' });
    const expired = entryFor({ name: 'expired', expiresAt: '2026-11-22T00:00:00Z' });
    const revoked = entryFor({ name: 'revoked', revoked: true });
    const counters = new Counters();
    const tokens = [good.entry, expired.entry, revoked.entry];
    const authenticator = await authenticatorFor({ tokens }, { clock, counters });
    expect(authenticator.isOn).toBe(true);
    const cases: [string | undefined, string][] = [
      [`Bearer ${good.token}`, 'good by token'],
      [`bearer  ${good.token} `, 'good by token'],
      [`Bearer ${expired.token}`, 'expired'],
      [`Bearer ${revoked.token}`, 'revoked'],
      [`Bearer ${createToken()}`, 'unknown'],
      [undefined, 'missing'],
      ['', 'missing'],
      [good.token, 'malformed'],
      [`Bearer ${good.token}x`, 'malformed'],
      [`Bearer ${good.token} ${good.token}`, 'malformed'],
      [`Basic ${Buffer.from(`good:${good.token}`).toString('base64')}`, 'malformed'],
      [`Bearer ${good.entry.hash}`, 'malformed'],
    ];
    for (const [authorization, expected] of cases) {
      expect([authorization, outcome(authenticator, { authorization, certificate: undefined })]).toEqual([
        authorization,
        expected,
      ]);
    }
    expect(counters.total('unauthenticated', { reason: 'malformed' })).toBe(5);
    // Who it was is told to us, so that a refused reading has a name.
    expect(authenticator.identify(bearing(expired.token))).toMatchObject({ principal: { name: 'expired' } });
  });

  it('ask nobody while there is none', async () => {
    expect((await authenticatorFor({})).isOn).toBe(false);
  });

  it('of webhooks alone do not send all else', async () => {
    const { token, entry } = entryFor({ name: 'hooks', presets: ['kubernetes'] });
    const verdict = (await authenticatorFor({ tokens: [entry] })).identify(bearing(token));
    expect(verdict).toMatchObject({ principal: { sending: { signals: ['events'], presets: ['kubernetes'] } } });
  });
});

describe('the file of tokens', () => {
  const write = (...entries: object[]) => writeFileSync(file, JSON.stringify({ tokens: entries }));

  it('is read again when it is replaced, and what is wrong with a new one costs nobody', async () => {
    const [first, second, inline] = [
      entryFor({ name: 'first' }),
      entryFor({ name: 'second' }),
      entryFor({ name: 'inline' }),
    ];
    write(first.entry);
    const counters = new Counters();
    const log = listening();
    const authenticator = await authenticatorFor({ tokens: [inline.entry], tokensFile: file }, { counters, log });
    const who = () => [first, second, inline].map(({ token }) => outcome(authenticator, bearing(token)));
    expect(who()).toEqual(['first by token', 'unknown', 'inline by token']);
    write({ ...first.entry, revoked: true }, second.entry);
    await authenticator.reload();
    expect(who()).toEqual(['revoked', 'second by token', 'inline by token']);
    for (const [text, words] of [
      ['tokens: [', /Flow sequence/],
      ['tokens: [{ name: x, can: [send], hash: secret }]', /tokens\.0\.hash: must be sha256: and 64 hex digits/],
      ['', /tokens: Invalid input/],
    ] as const) {
      writeFileSync(file, text);
      await authenticator.reload();
      expect(who()).toEqual(['revoked', 'second by token', 'inline by token']);
      expect(log.lines.at(-1)).toMatch(words);
      expect(counters.total('reload_failing', { file: 'auth.tokensFile' })).toBe(1);
    }
    write(first.entry);
    await authenticator.reload();
    expect(who()).toEqual(['first by token', 'unknown', 'inline by token']);
    expect(counters.total('reload_failing', { file: 'auth.tokensFile' })).toBe(0);
    authenticator.close();
  });

  it('is looked at by itself', async () => {
    const { token, entry } = entryFor({ name: 'late' });
    write();
    const authenticator = await authenticatorFor({ tokensFile: file });
    write(entry);
    await expect.poll(() => outcome(authenticator, bearing(token)), { timeout: 20_000 }).toBe('late by token');
    authenticator.close();
  });

  it('that cannot be read at the start is one line', async () => {
    await expect(authenticatorFor({ tokensFile: join(folder, 'none') })).rejects.toThrow(
      /^auth\.tokensFile: .*none: ENOENT/,
    );
  });
});

describe('client certificates', () => {
  const certificate = (more: Partial<ClientCertificate> = {}): ClientCertificate => ({
    subject: { CN: ['gateway'], O: ['Example'] },
    alternativeNames: ['DNS:gateway.clinic.example', 'URI:spiffe://clinic/gateway'],
    fingerprint: 'ab'.repeat(32),
    endsAtMs: NOW_MS + 1,
    ...more,
  });

  const can = ['send'];
  const cases: [object, boolean][] = [
    [{ subject: { CN: 'gateway' } }, true],
    [{ subject: { CN: 'gateway', O: 'Example' } }, true],
    [{ subject: { CN: 'gateway', O: 'Other' } }, false],
    [{ subject: { OU: 'gateway' } }, false],
    [{ san: 'DNS:gateway.clinic.example' }, true],
    [{ san: 'DNS:*.clinic.example' }, true],
    [{ san: 'DNS:*.example.org' }, false],
    [{ san: 'DNS:gatewayXclinic.example' }, false],
    [{ san: 'URI:spiffe://clinic/*' }, true],
    [{ fingerprint: `sha256:${'AB:'.repeat(31)}AB` }, true],
    [{ fingerprint: 'cd'.repeat(32) }, false],
    [{ fingerprint: 'ab'.repeat(32), subject: { CN: 'another' } }, false],
  ];
  it.each(cases)('%o', async (how, fits) => {
    const clock = { nowMs: () => NOW_MS };
    const authenticator = await authenticatorFor({ certificates: [{ name: 'gate', can, ...how }] }, { clock });
    const given = { authorization: undefined, certificate: certificate() };
    expect(outcome(authenticator, given)).toBe(fits ? 'gate by certificate' : 'unknown');
  });

  it('end while their connection goes on', async () => {
    let nowMs = NOW_MS;
    const clock = { nowMs: () => nowMs };
    const authenticator = await authenticatorFor(
      { certificates: [{ name: 'gate', can, subject: { CN: 'gateway' } }] },
      { clock },
    );
    const given = { authorization: undefined, certificate: certificate() };
    expect(outcome(authenticator, given)).toBe('gate by certificate');
    nowMs += 1;
    expect(outcome(authenticator, given)).toBe('expired');
  });

  it('have no second name by a comma in the first', () => {
    expect(splitNames('DNS:a.example, URI:spiffe://x, IP Address:10.0.0.7')).toEqual([
      'DNS:a.example',
      'URI:spiffe://x',
      'IP Address:10.0.0.7',
    ]);
    expect(splitNames('DNS:"a.example, DNS:gateway.example", DNS:b.example')).toEqual(['DNS:b.example']);
    expect(splitNames('')).toEqual([]);
  });
});

describe('settings', () => {
  const wrong: [object, string][] = [
    [{ tokens: [{ ...entryFor({ name: 'webhook' }).entry }] }, 'must not be one of grpc'],
    [{ tokens: [{ ...entryFor({ name: 'a b' }).entry }] }, 'must be 1 to 63 letters'],
    [{ tokens: [{ ...entryFor({ name: 'a', can: [] }).entry }] }, 'must name at least one of send'],
    [{ tokens: [{ ...entryFor({ name: 'a', expiresAt: 'soon' }).entry }] }, 'must be a time such as'],
    [
      { tokens: [entryFor({ name: 'a' }).entry, entryFor({ name: 'a', trusted: false }).entry] },
      'trusted and vouches must be the same',
    ],
    [{ certificates: [{ name: 'a', can: ['send'] }] }, 'needs fingerprint, subject or san'],
    [{ certificates: [{ name: 'a', can: ['send'], san: 'gateway' }] }, 'must be like DNS:'],
  ];
  it.each(wrong)('%o', (auth, words) => {
    const parsed = settingsSchema.safeParse({ auth });
    expect(JSON.stringify(parsed.error?.issues)).toContain(words);
  });

  const files = { certFile: 'a', keyFile: 'b' };
  const tls: [object, string][] = [
    [{ certFile: 'a' }, 'needs certFile and keyFile'],
    [{ ...files, clientCertificate: 'required' }, 'optional and required need clientCaFile'],
    [{ ...files, clientCaFile: 'c' }, 'clientCaFile needs one of them'],
    [{ ...files, crlFile: 'c' }, 'so it needs clientCaFile'],
  ];
  it.each(tls)('tls %o', (given, words) => {
    const parsed = settingsSchema.safeParse({ api: { tls: given } });
    expect(JSON.stringify(parsed.error?.issues)).toContain(words);
  });
});
