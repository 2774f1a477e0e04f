import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import { REDACTED_BY_DEFAULT, SECRET_KINDS } from '../../src/core/secret-kinds.ts';
import { TEXTS } from '../../src/enrich/record-texts.ts';
import { compileRedactors, createRecordRedaction, redactText } from '../../src/enrich/redact-record.ts';
import { makeRecord } from '../fixtures/records.ts';

const NOTHING = { kinds: [], patterns: [], fields: [] };
const redactors = compileRedactors({ ...NOTHING, kinds: SECRET_KINDS });

function redacted(text: string): string {
  return redactText(text, redactors, () => undefined);
}

describe('texts lose secrets that are known by their shape', () => {
  it.each([
    ['key AKIAIOSFODNN7EXAMPLE refused', 'key [redacted] refused'],
    [`with ghp_${'a1'.repeat(18)}, twice`, 'with [redacted], twice'],
    ['Authorization: Bearer abcdefgh12345', 'Authorization: Bearer [redacted]'],
    ['Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl', 'Bearer [redacted]'],
    ['login failed: password=hunter2 for alice', 'login failed: password=[redacted] for alice'],
    ['{"password": "correct horse", "user": "a"}', '{"password": [redacted], "user": "a"}'],
    ['DB_PASSWORD=hunter2;Database=shop', 'DB_PASSWORD=[redacted];Database=shop'],
    ['client_secret: s3cr3t, next', 'client_secret: [redacted], next'],
    ['-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY----- end', '[redacted] end'],
    ['-----BEGIN PRIVATE KEY-----\ncut off', '[redacted]'],
    ['paid with 4111 1111 1111 1111.', 'paid with [redacted].'],
    ['sent to alice@example.com now', 'sent to [redacted] now'],
  ])('%j', (sent, left) => {
    expect(redacted(sent)).toBe(left);
    // What is left has nothing more to take out.
    expect(redacted(left)).toBe(left);
  });

  it.each([
    'invalid token: unexpected end of input',
    'update users set password = ? where id = $1 and token = $2',
    'order 4111 1111 1111 1112 shipped',
    'the basic idea of a bearer',
    'password: [redacted], token=***',
    'a tokenizer, secretary of state',
  ])('leaves %j as it is', (text) => expect(redacted(text)).toBe(text));

  it('takes any text, and nothing twice', () => {
    const pieces = fc.constantFrom(
      'password',
      '=',
      ': ',
      '"',
      ' ',
      'eyJ',
      '.',
      '@',
      '4111',
      '-----BEGIN ',
      'PRIVATE KEY-----',
      'a1',
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(pieces, fc.string()), { maxLength: 40 }), (parts) => {
        const once = redacted(parts.join(''));
        expect(redacted(once)).toBe(once);
      }),
    );
  });
});

describe('records', () => {
  function without(
    settings: Partial<Parameters<typeof createRecordRedaction>[0]>,
    change: (record: AuditRecord) => void,
  ) {
    const record = structuredClone(makeRecord());
    change(record);
    const counts: Record<string, number> = {};
    createRecordRedaction({ ...NOTHING, ...settings }, (rule, found) => {
      counts[rule] = (counts[rule] ?? 0) + found;
    })(record);
    return { record, counts };
  }

  it('lose secrets in every text, and ids stay', () => {
    const { record, counts } = without({ kinds: REDACTED_BY_DEFAULT }, (given) => {
      given.message = 'alice failed: password=hunter2';
      given.audit.path = [
        {
          name: 'GET /?token=x1',
          kind: 'server',
          span_id: '0102030405060708',
          start_offset: 0,
          duration: 1,
          status: 'ok',
        },
      ];
      given.audit.join.conflicts = ['the event says secret=a, the span none'];
    });
    expect(record.message).toBe('alice failed: password=[redacted]');
    expect(record.audit.path?.[0]?.name).toBe('GET /?token=[redacted]');
    expect(record.audit.join.conflicts).toEqual(['the event says secret=[redacted], the span none']);
    expect(counts).toEqual({ password: 3 });
  });

  it.each(TEXTS)('lose secrets in %s', (name) => {
    const lists = ['audit.checks', 'audit.path', 'audit.trace.critical_path', 'audit.join.conflicts'];
    const told = name.split('.').reduceRight<unknown>((inner, key, at, keys) => {
      return { [key]: lists.includes(keys.slice(0, at + 1).join('.')) ? [inner] : inner };
    }, 'token=x1');
    const { record, counts } = without({ kinds: REDACTED_BY_DEFAULT }, (given) => {
      Object.assign(given, structuredClone(makeRecord(told as Parameters<typeof makeRecord>[0])));
    });
    expect(counts).toEqual({ password: 1 });
    expect(JSON.stringify(record)).toContain('token=[redacted]');
  });

  it('are looked through as texts are', () => {
    const words = [
      'PRIVATE KEY-----',
      '-----BEGIN ',
      'AKIA',
      'ASIA',
      'ABCDEFGH01234567',
      'ghp_',
      'gho_',
      'ghu_',
      'ghs_',
      'ghr_',
    ];
    const more = [
      'github_pat_',
      'glpat-',
      'xoxb-',
      'sk_live_',
      'rk_live_',
      'AIza',
      'a1b2c3d4e5f6g7h8i9j0',
      'eyJ',
      '.',
      'Bearer ',
      'BASIC ',
    ];
    const names = [
      'password',
      'passwd',
      'PassPhrase',
      'pwd',
      'secret',
      'Token',
      'api-key',
      'apikey',
      'access_key',
      'credential',
    ];
    const rest = [
      '=',
      ': ',
      '"',
      ' ',
      '-',
      '4111 1111 1111 1111',
      '4111-1111-1111-1111',
      '41',
      '@',
      'example.com',
      'ſ',
      'é',
      'K',
    ];
    const text = fc.array(fc.oneof(fc.constantFrom(...words, ...more, ...names, ...rest), fc.string()), {
      maxLength: 12,
    });
    fc.assert(
      fc.property(text, (parts) => {
        const { record } = without({ kinds: SECRET_KINDS }, (given) => {
          given.message = parts.join('');
        });
        expect(record.message).toBe(redacted(parts.join('')));
      }),
      { numRuns: 2000 },
    );
  });

  it('lose what patterns of the settings fit, each counted under its name', () => {
    const patterns = [{ name: 'patient', pattern: String.raw`\bMRN-\d+`, replacement: '$1 [patient]' }];
    const { record, counts } = without({ patterns }, (given) => {
      given.event.reason = 'no consent for MRN-4711 and MRN-12';
    });
    expect(record.event.reason).toBe('no consent for $1 [patient] and $1 [patient]');
    expect(counts).toEqual({ patient: 2 });
  });

  it('lose fields, and what shares parts with them does not', () => {
    const host = { name: 'node-7' };
    const { record, counts } = without({ fields: ['host.name', 'url.query', 'user'] }, (given) => {
      given.host = host;
      given.user = { id: 'alice' };
    });
    expect(record.host).toEqual({});
    expect(record.user).toBeUndefined();
    expect(host).toEqual({ name: 'node-7' });
    expect(counts).toEqual({ 'host.name': 1, user: 1 });
  });

  it.each([
    [{ fields: ['url.quory'] }, /redact\.fields: url\.quory is no field/],
    [{ fields: ['audit.join'] }, /redact\.fields: a record cannot be without audit\.join/],
    [{ patterns: [{ name: 'mine', pattern: '(a' }] }, /redact\.patterns: "mine": .*missing closing \)/],
    [{ patterns: [{ name: 'all', pattern: 'x*' }] }, /redact\.patterns: "all": it fits the empty text/],
  ])('settings that cannot be used are named: %j', (settings, message) => {
    expect(() => createRecordRedaction({ ...NOTHING, ...settings }, () => undefined)).toThrow(message);
  });
});
