import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { settingsSchema } from '../../src/config/schema.ts';
import type { FrameNote, SessionOwner, TokenVerdict } from '../../src/core/evidence.ts';
import { Counters } from '../../src/core/metrics.ts';
import { sessionId, sessionOfCookies } from '../../src/core/session-id.ts';
import { tokenKey } from '../../src/core/token-key.ts';
import { compileKeys, PayloadReader } from '../../src/otlp/decode.ts';
import { compileMask } from '../../src/otlp/mask.ts';
import { scanTraces } from '../../src/otlp/scan.ts';
import type { Use } from '../../src/receive/credentials.ts';
import { createCredentialInspect } from '../../src/receive/inspect.ts';
import { createSessionHash } from '../../src/receive/session-hash.ts';
import { SessionOwners } from '../../src/receive/session-owners.ts';
import { encodeLogs, encodeTraces } from '../otlp/encode.ts';
import { ORACLE, oracleDecode } from '../otlp/oracle.ts';
import { openWal, replayed } from '../wal/helpers.ts';
import { MemoryDisk } from '../wal/memory-disk.ts';

const IDS = { traceId: 'a1'.repeat(16), spanId: 'b2'.repeat(8) };
const NOW_MS = 1_800_000_000_000;
const NOTE: FrameNote = {
  ...{ receivedNs: BigInt(NOW_MS) * 1_000_000n, namespace: 'shop', sender: 'grpc' },
  ...{ trusted: true, vouches: false, peer: '10.0.0.7' },
};
const SESSION = '7f3c2c1e-8a51-4b90-9d0e-52e1c3a7b955';
const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
const token = (sub: string, signature = 'c2lnbmF0dXJl') => `${part({ alg: 'ES256' })}.${part({ sub })}.${signature}`;

function setUp(verdicts?: (token: string, use: Use) => TokenVerdict) {
  const counters = new Counters();
  const { receive, identity } = settingsSchema.parse({});
  const mask = compileMask({
    attributes: receive.maskAttributes,
    queryParameters: receive.maskQueryParameters,
    sessions: identity.sessions,
  });
  const owners = new SessionOwners({ max: 10, keepMs: 1000 });
  const hash = createSessionHash(Buffer.alloc(32, 7));
  const inspect = createCredentialInspect({ mask, counters, owners, hash, check: verdicts });
  return {
    counters,
    owners,
    hashOf: (id: string) => hash(Buffer.from(id)),
    inspect: async (payload: Buffer, note: Partial<FrameNote> = {}) => inspect('traces', payload, { ...NOTE, ...note }),
    inspectLogs: async (payload: Buffer) => inspect('logs', payload, NOTE),
  };
}

function traces(...spans: Record<string, unknown>[]): Buffer {
  return encodeTraces([
    { spans: spans.map((attributes, index) => ({ ...IDS, startNs: BigInt(index + 1) * 1_000_000_000n, attributes })) },
  ]);
}

function attributeOf(payload: Buffer, key: string): unknown {
  let start = 0;
  scanTraces(payload, ({ itemStart }) => {
    start = itemStart;
  });
  return new PayloadReader(payload, 'traces', NOTE, compileKeys(['*'])).span(start).attributes.get(key);
}

describe('tokens', () => {
  it.each([
    ['http.request.header.authorization', (text: string) => [`Bearer ${text}`]],
    ['http.request.header.authorization', (text: string) => `bearer  ${text} `],
    ['rpc.request.metadata.authorization', (text: string) => `Bearer ${text}`],
    ['http.request.header.x-amzn-oidc-data', (text: string) => text],
    ['http.request.header.cf_access_jwt_assertion', (text: string) => [text]],
    ['http.request.header.x-my-own-header', (text: string) => text],
  ])('in %s are checked before their signature goes', async (key, value) => {
    const seen: string[] = [];
    const { inspect } = setUp((text) => {
      seen.push(text);
      return 'expired';
    });
    const payload = traces({ [key]: value(token('alice')) });
    const { note, masked } = await inspect(payload);
    expect(seen).toEqual([token('alice')]);
    expect(note).toEqual({ tokens: { [tokenKey(token('alice')) ?? '']: 'expired' } });
    expect(masked).toBe(1);
    expect(payload.includes('c2lnbmF0dXJl')).toBe(false);
    // What is left has the same key.
    const left = String([attributeOf(payload, key)].flat()[0]).replace(/^bearer\s+/i, '');
    expect(tokenKey(left.trim())).toBe(tokenKey(token('alice')));
  });

  it('of logs, too, in JSON as well', async () => {
    const { inspectLogs } = setUp(() => 'verified');
    const body = JSON.stringify({ status: 200, authorization: `Bearer ${token('alice')}` });
    const payload = encodeLogs([
      { logs: [{ body }, { body: 'x', attributes: { authorization: `Bearer ${token('bob')}` } }] },
    ]);
    const { note } = await inspectLogs(payload);
    expect(Object.keys(note.tokens ?? {})).toEqual([tokenKey(token('alice')), tokenKey(token('bob'))]);
    expect(payload.includes('c2lnbmF0dXJl')).toBe(false);
  });

  it('were used between the first and the last span that holds them', async () => {
    const uses: Use[] = [];
    const { inspect } = setUp((_, use) => {
      uses.push(use);
      return 'verified';
    });
    const attributes = { 'http.request.header.authorization': `Bearer ${token('alice')}` };
    await inspect(traces({}, attributes, { 'http.request.header.authorization': 'Bearer x' }, attributes, {}));
    expect(uses).toEqual([{ earliestNs: 2_000_000_000n, latestNs: 4_000_000_000n }]);
  });

  it('of several signatures under the same claims: the worst verdict counts', async () => {
    for (const order of [
      ['cmlnaHQ', 'Zm9yZ2Vk'],
      ['Zm9yZ2Vk', 'cmlnaHQ'],
    ]) {
      const { inspect, counters } = setUp((text) => (text.endsWith('cmlnaHQ') ? 'verified' : 'bad_signature'));
      const { note } = await inspect(
        traces(
          ...order.map((signature) => ({ 'http.request.header.authorization': `Bearer ${token('alice', signature)}` })),
        ),
      );
      expect(note.tokens).toEqual({ [tokenKey(token('alice')) ?? '']: 'bad_signature' });
      expect(counters.total('tokens', { verdict: 'verified' })).toBe(1);
      expect(counters.total('credentials', { kind: 'authorization' })).toBe(2);
    }
  });

  it('that are not checked, or come from untrusted senders, leave nothing in the note', async () => {
    const attributes = { 'http.request.header.authorization': `Bearer ${token('alice')}` };
    const unchecked = setUp();
    expect((await unchecked.inspect(traces(attributes))).note).toEqual({});
    expect(unchecked.counters.total('tokens', { verdict: 'unchecked' })).toBe(1);
    const payload = traces(attributes);
    const { inspect } = setUp(() => 'verified');
    expect((await inspect(payload, { trusted: false })).note).toEqual({});
    // What is checked and what only looks like it can be told apart.
    expect((await inspect(traces({ 'http.request.header.authorization': 'Bearer x' }))).note).toEqual({ tokens: {} });
    expect(payload.includes('c2lnbmF0dXJl')).toBe(false);
  });

  it('and sessions beyond what a request may have are masked and not looked at', async () => {
    const { inspect, counters } = setUp(() => 'verified');
    const payload = traces(
      ...Array.from({ length: 2001 }, (_, index) => ({
        'http.request.header.authorization': `Bearer ${token(`user-${index}`)}`,
        'session.id': `${SESSION}-${index}`,
      })),
      { 'http.request.header.authorization': `Bearer ${token('x'.repeat(20_000))}` },
    );
    const { note } = await inspect(payload);
    expect(Object.keys(note.tokens ?? {})).toHaveLength(2000);
    expect(counters.total('tokens', { verdict: 'too_many' })).toBe(1);
    expect(counters.total('tokens', { verdict: 'too_long' })).toBe(1);
    expect(counters.total('sessions', { owner: 'too_many' })).toBe(1);
    expect(payload.includes('c2lnbmF0dXJl') || payload.includes(SESSION)).toBe(false);

    // The note is longer than what a frame of older times could say.
    const disk = new MemoryDisk();
    const { wal } = await openWal(disk);
    const frame = { signal: 'traces' as const, note: { ...NOTE, ...note }, payload };
    const position = await wal.append(frame);
    expect(wal.read(position).note).toEqual(frame.note);
    await wal.close();
    const again = await openWal(disk);
    expect(
      (await replayed(again.wal)).map(({ note: found, payload: bytes }) => [found, bytes.equals(payload)]),
    ).toEqual([[frame.note, true]]);
    await again.wal.close();
  });
});

describe('session ids', () => {
  it.each<[unknown, RegExp]>([
    [SESSION, /^[\w-]{36}$/],
    ['x', /^[\w-]$/],
    ['pä🔑pä🔑', /^[\w-]{14}$/],
    ['y'.repeat(60), /^[\w-]{43}={17}$/],
  ])('%s become a hash of the same length', async (id, expected) => {
    const { inspect } = setUp();
    for (const key of ['session.id', 'session.previous_id', 'Session.Id']) {
      const payload = traces({ [key]: id });
      const length = payload.length;
      const { masked } = await inspect(payload);
      expect(payload).toHaveLength(length);
      expect(masked).toBe(1);
      if (key !== 'session.id') continue;
      expect(attributeOf(payload, key)).toMatch(expected);
      expect(attributeOf(payload, key)).not.toBe(id);
    }
  });

  it('are hashed with HMAC-SHA256', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 100 }), fc.uint8Array({ maxLength: 200 }), (key, id) => {
        const expected = createHmac('sha256', key).update(id).digest('base64url').slice(0, id.length);
        expect(createSessionHash(key)(Buffer.from(id))).toBe(expected);
      }),
    );
  });

  it.each([5, 2 ** 40, -1, 1.5])('also the number %d', async (id) => {
    const { inspect } = setUp();
    const [one, two] = [traces({ 'session.id': id }), traces({ 'session.id': id })];
    await Promise.all([one, two].map((payload) => inspect(payload)));
    oracleDecode(ORACLE.traces, one);
    expect(attributeOf(one, 'session.id')).toEqual(attributeOf(two, 'session.id'));
    expect(attributeOf(one, 'session.id')).not.toBe(id);
  });

  it('meet whatever they came in, under one key', async () => {
    const { inspect, inspectLogs, hashOf } = setUp();
    const id = hashOf(SESSION);
    const spans = traces({
      'session.id': SESSION,
      'http.request.header.cookie': [`theme=dark; JSESSIONID=${SESSION}; other=${SESSION}`],
      'http.response.header.set_cookie': [`__Host-sid="${SESSION}"; Path=/; HttpOnly`, 'theme=dark'],
    });
    await inspect(spans);
    expect(attributeOf(spans, 'session.id')).toBe(id);
    const cookie = '*'.repeat(10);
    const other = '*'.repeat(7 + SESSION.length);
    expect(attributeOf(spans, 'http.request.header.cookie')).toEqual([`${cookie}; JSESSIONID=${id};${other}`]);
    const cookies = [
      attributeOf(spans, 'http.response.header.set_cookie'),
      attributeOf(spans, 'http.request.header.cookie'),
    ];
    for (const header of cookies) expect(sessionOfCookies(String([header].flat()[0]))).toBe(id);
    const body = JSON.stringify({ 'session.id': SESSION, cookie: `a=b; sid=${SESSION}` });
    const logs = encodeLogs([{ logs: [{ body }] }]);
    await inspectLogs(logs);
    expect(logs.includes(SESSION)).toBe(false);
    expect(logs.toString('latin1').split(id)).toHaveLength(3);
    const long = 'y'.repeat(60);
    expect(sessionId(`${hashOf(long)}${'='.repeat(17)}`)).toBe(hashOf(long));
    expect(sessionOfCookies(`sid=${hashOf(long)}${'='.repeat(17)}`)).toBe(hashOf(long));
  });

  it.each(['', 'sid', 'sid=', 'sid=deleted', 'theme=dark', '****; ****', 'a=b=c', ';;', `sid*=${'a'.repeat(20)}`])(
    'are not read out of the cookies %j',
    async (cookies) => {
      const { inspect } = setUp();
      const payload = traces({ 'http.request.header.cookie': cookies });
      await inspect(payload);
      const left = String(attributeOf(payload, 'http.request.header.cookie'));
      expect(left).toMatch(/^[*; ]*$/);
      expect(sessionOfCookies(left)).toBeUndefined();
    },
  );

  it.each([
    ['{"session":{"id":"SESSION"},"user":{"id":"alice"}}', '{"session":{"id":"HASH"},"user":{"id":"alice"}}'],
    [
      '{ "session" : { "user" : { "id" : "alice" } , "n":[1,{"id":"a"}], "id" : "SESSION" } }',
      '{ "session" : { "user" : { "id" : "alice" } , "n":[1,{"id":"a"}], "id" : "HASH" } }',
    ],
    [
      'x {"a":"{\\"session\\":{\\"a\\":1,\\"id\\":\\"SESSION\\"}}"}',
      'x {"a":"{\\"session\\":{\\"a\\":1,\\"id\\":\\"HASH\\"}}"}',
    ],
    ['{"session":[{"id":"a"}],"id":"a"}', '{"session":[{"id":"a"}],"id":"a"}'],
    ['{"session":{"id":{"a":"b"}}}', '{"session":{"id":{       }}}'],
    ['{"session":{"a" "id":"x"}}', '{"session":{"a" "id":"x"}}'],
    ['{"session":{"id":"SESSION', '{"session":{"id":"HASH'],
    ['{"session":{"id', '{"session":{"id'],
    ['{"session":', '{"session":'],
  ])('are hashed as members of objects, too: %s', async (body, expected) => {
    const { inspectLogs, hashOf } = setUp();
    const payload = encodeLogs([{ logs: [{ body: body.replace('SESSION', SESSION) }] }]);
    const same = encodeLogs([{ logs: [{ body: expected.replace('HASH', hashOf(SESSION)) }] }]);
    await inspectLogs(payload);
    expect(payload.toString()).toBe(same.toString());
    const list = { session: { id: SESSION, user: { id: 'alice' } }, id: 'x' };
    const lists = encodeLogs([{ logs: [{ body: list, attributes: { session: list.session, event: list } }] }]);
    await inspectLogs(lists);
    const text = lists.toString('latin1');
    expect(text).not.toContain(SESSION);
    expect(text.split(hashOf(SESSION))).toHaveLength(4);
    expect(text.split('alice')).toHaveLength(4);
  });

  it.each([
    ['userId=alice,session.id=SESSION', 'userId=alice,session.id=HASH'],
    [' session.id = SESSION ;p=1, a=b', ' session.id = HASH ;p=1, a=b'],
    ['access_token=SESSION;p=1,a=b,password=x', 'access_token=************************************;p=1,a=b,password=*'],
    ['a,b=,session.id=,=c', 'a,b=,session.id=,=c'],
  ])('are hashed in the baggage %s, and its secrets go', async (header, expected) => {
    const { inspect, hashOf } = setUp();
    const payload = traces({
      'http.request.header.baggage': [header.replace('SESSION', SESSION)],
      'baggage.session.id': SESSION,
      'baggage.token': SESSION,
    });
    await inspect(payload);
    const left = attributeOf(payload, 'http.request.header.baggage');
    expect(left).toEqual([expected.replace('HASH', hashOf(SESSION))]);
    expect(attributeOf(payload, 'baggage.session.id')).toBe(hashOf(SESSION));
    expect(attributeOf(payload, 'baggage.token')).toBe('*'.repeat(36));
  });

  it.each([`/cart;jsessionid=${SESSION}`, `https://h/x?PHPSESSID=${SESSION}&a=b`])('go from %s', async (url) => {
    const { inspect } = setUp();
    const payload = traces({ 'url.path': url, 'url.full': url });
    await inspect(payload);
    expect(payload.includes(SESSION)).toBe(false);
    expect(attributeOf(payload, 'url.full')).toBe(url.replace(SESSION, '*'.repeat(36)));
  });

  it('tell whose they are when that is known, in their namespace only', async () => {
    const { inspect, owners, hashOf, counters } = setUp();
    const alice: SessionOwner = { id: 'alice', roles: ['nurse'] };
    owners.learn('shop', hashOf(SESSION), alice, NOW_MS - 10);
    const payload = () => traces({ 'session.id': SESSION }, { 'session.id': `${SESSION}2` }, { 'session.id': 'short' });
    // The spans say 1970: they are older than what is known.
    expect((await inspect(payload())).note).toEqual({ sessions: { [hashOf(SESSION)]: alice } });
    expect((await inspect(payload(), { namespace: 'clinic' })).note).toEqual({});
    expect((await inspect(payload(), { trusted: false })).note).toEqual({});
    expect(counters.total('sessions', { owner: 'known' })).toBe(1);
    expect(counters.total('sessions', { owner: 'unknown' })).toBe(3);
  });
});
