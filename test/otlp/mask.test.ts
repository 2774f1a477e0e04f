import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEFAULT_ACCESS_SETTINGS } from '../../src/access/settings.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import type { AttributeValue, FrameNote, Span } from '../../src/core/evidence.ts';
import { compileKeys, PayloadReader } from '../../src/otlp/decode.ts';
import { compileMask, maskSecrets } from '../../src/otlp/mask.ts';
import { scanLogs, scanTraces } from '../../src/otlp/scan.ts';
import './attribute-equality.ts';
import { anyValue, delimited, encodeLogs, encodeMetrics, encodeTraces, keyValues, spanMessage } from './encode.ts';
import { ORACLE, oracleDecode } from './oracle.ts';
import { chooser, encodeUnusually } from './unusual.ts';

const MASK = compileMask({
  attributes: ['http.request.header.authorization', 'password', 'api_key', 'x-secret-*', 'proxy-authorization'],
  queryParameters: ['token', 'api-key', 'sig*', '*signature', '*session*id'],
});
const NOTE: FrameNote = { receivedNs: 0n, namespace: 'd', sender: 'grpc', trusted: true, vouches: false, peer: '' };
const IDS = { traceId: 'a1'.repeat(16), spanId: 'b2'.repeat(8) };
const SECRET = 'hunter2';

/** The last span of the payload. */
function spanAfter(payload: Buffer): Span | undefined {
  let start = 0;
  scanTraces(payload, ({ itemStart }) => {
    start = itemStart;
  });
  return new PayloadReader(payload, 'traces', NOTE, compileKeys(['*'])).span(start);
}

/** What one attribute of a span is after masking, and how many values were masked. */
function masked(key: string, value: unknown): [AttributeValue | undefined, number] {
  const payload = encodeTraces([{ spans: [{ ...IDS, attributes: { [key]: value } }] }]);
  const count = maskSecrets(payload, 'traces', MASK);
  return [spanAfter(payload)?.attributes.get(key), count];
}

const base64 = (text: string) => Buffer.from(text).toString('base64');
const JWT_KEPT = `${Buffer.from('{"alg":"RS256"}').toString('base64url')}.${Buffer.from('{"sub":"alice"}').toString('base64url')}.`;
const AUTHORIZATION = 'http.request.header.authorization';

describe('a masked value', () => {
  it.each<[string, unknown, unknown, number]>([
    ['password', SECRET, '*******', 1],
    ['PassWord', SECRET, '*******', 1],
    ['api-key', SECRET, '*******', 1],
    ['API_KEY', SECRET, '*******', 1],
    ['X_Secret_Thing', SECRET, '*******', 1],
    ['password', 'pä🔑', '*******', 1],
    ['password', '', '', 0],
    ['password', ['a', 'bc', true, 5, 1.5, 2n ** 60n], ['*', '**', true, 0, 0, 0], 5],
    ['password', { a: 'b', c: { d: ['e'] } }, { a: '*', c: { d: ['*'] } }, 2],
    ['password', Buffer.from('abc'), base64('***'), 1],
    ['list', [{ password: SECRET, kept: 'x' }], [{ password: '*******', kept: 'x' }], 1],
    ['passwords', SECRET, SECRET, 0],
    ['x.password', SECRET, '*******', 1],
    ['form.Api_Key', SECRET, '*******', 1],
    ['password.policy', SECRET, SECRET, 0],
    ['note', 'password=hunter2', 'password=*******', 1],
    ['note', 'login with DB_PASSWORD=hunter2, then', 'login with DB_PASSWORD=*******, then', 1],
    ['note', 'Server=db;Pwd=hunter2;Database=shop', 'Server=db;Pwd=*******;Database=shop', 1],
    ['note', `client_secret='hunter two' x=1`, `client_secret='**********' x=1`, 1],
    ['note', 'token=\\"abc\\" and', 'token=\\"***\\" and', 1],
    ['note', 'where password=$1 and token=? or secret=:name', 'where password=$1 and token=? or secret=:name', 0],
    ['note', 'password: hunter2', 'password: hunter2', 0],
    ['x'.repeat(200), SECRET, SECRET, 0],
  ])('%s (case %#)', (key, value, expected, count) => expect(masked(key, value)).toEqual([expected, count]));
});

describe('credentials of HTTP keep who it was and lose the proof', () => {
  it.each([
    [`Bearer ${JWT_KEPT}c2lnbmF0dXJl`, `Bearer ${JWT_KEPT}************`],
    [`bearer  ${JWT_KEPT}c2ln`, `bearer  ${JWT_KEPT}****`],
    [`Bearer ${JWT_KEPT}`, `Bearer ${JWT_KEPT}`],
    [`Bearer ${JWT_KEPT}a.b.c`, `Bearer ${'*'.repeat(JWT_KEPT.length + 5)}`],
    ['Bearer opaque-token', 'Bearer ************'],
    ['Bearer a.b.c', 'Bearer *****'],
    [`Basic ${base64('alice:secret')}`, `Basic ${base64('alice:******')}`],
    [`basic ${base64('al:s')}`, `basic ${base64('al:*')}`],
    [`Basic ${base64('al:s').replace(/=+$/, '')}`, `Basic ${base64('al:*').replace(/=+$/, '')}`],
    [`Basic ${base64('ö:a:b')}`, `Basic ${base64('ö:***')}`],
    [`Basic ${base64('no colon')}`, `Basic ${'*'.repeat(12)}`],
    ['Basic not!base64', 'Basic **********'],
    ['Digest username="alice", response="0"', `Digest ${'*'.repeat(30)}`],
    ['no-scheme-at-all', '****************'],
    ['Bearer', '******'],
    ['  Token  abc', '  Token  ***'],
  ])('%s', (value, expected) => {
    expect(masked(AUTHORIZATION, value)[0]).toBe(expected);
    expect(masked('proxy_authorization', [value])[0]).toEqual([expected]);
  });

  it('in bytes as well as in text', () => {
    expect(masked(AUTHORIZATION, Buffer.from('Bearer abc'))).toEqual([base64('Bearer ***'), 1]);
  });

  it('and nested in a list all is proof', () => {
    expect(masked(AUTHORIZATION, { any: 'thing' })).toEqual([{ any: '*****' }, 1]);
  });
});

describe('secret query parameters', () => {
  it.each([
    ['url.query', 'token=abc', 'token=***'],
    ['url.query', 'a=1&TOKEN=abc&b=2', 'a=1&TOKEN=***&b=2'],
    ['url.query', 'api_key=abc;x&b=token', 'api_key=*****&b=token'],
    ['url.query', 't%6Fken=abc&%74oken=d', 't%6Fken=***&%74oken=*'],
    ['url.query', 'signature=a&sigh=b&Sig=', 'signature=*&sigh=*&Sig='],
    ['url.query', 'a=1;token=b', 'a=1;token=*'],
    ['url.query', 'token&tokens=1&token==2', 'token&tokens=1&token=**'],
    ['url.query', '', ''],
    ['url.full', 'https://h/token=1/x?token=1#y', 'https://h/token=1/x?token=*#y'],
    ['url.full', 'https://h/cb#token=abc&b=1', 'https://h/cb#token=***&b=1'],
    ['url.full', 'https://bob:pw@h/?q=ä', 'https://bob:**@h/?q=ä'],
    ['url.full', 'https://h/a:b@c', 'https://h/a:b@c'],
    ['http.url', 'http://h?token=ü%20', 'http://h?token=*****'],
    ['http.target', '/a?token=1', '/a?token=*'],
    ['HTTP.Request.Header.Referer', 'http://h?token=1', 'http://h?token=*'],
    ['other', 'http://h?token=1', 'http://h?token=*'],
    ['other', 'token=1', 'token=*'],
    ['url.query', 'X-Amz-Signature=ab&page=2', 'X-Amz-Signature=**&page=2'],
    ['url.query', 'signatures=1&my_session_id=2&session=3', 'signatures=*&my_session_id=*&session=3'],
  ])('%s %s', (key, value, expected) => {
    expect(masked(key, value)).toEqual([expected, expected === value ? 0 : 1]);
    expect(masked(key, [value])[0]).toEqual([expected]);
  });

  it('may be masked with their whole attribute', () => {
    const payload = encodeTraces([{ spans: [{ ...IDS, attributes: { 'url.query': 'a=1' } }] }]);
    maskSecrets(payload, 'traces', compileMask({ attributes: ['url.*'], queryParameters: [] }));
    expect(spanAfter(payload)?.attributes.get('url.query')).toBe('***');
  });
});

const JWT = `${JWT_KEPT}c2lnbmF0dXJl`;
const JWT_MASKED = `${JWT_KEPT}************`;
/** As some libraries write it: the header does not begin with `{"`. */
const SPACED_KEPT = `${Buffer.from('{ "alg" : "RS256"}').toString('base64url')}.${Buffer.from('{"sub":"a"}').toString('base64url')}.`;
/** With the padding of Amazon's load balancer. */
const PADDED_KEPT = `${base64('{"alg":"ES256","a":1}').replace(/=*$/, '==')}.${base64('{"sub":"alice"}').replace(/=*$/, '=')}.`;

describe('captured headers and metadata', () => {
  it.each([
    'http.request.header.x-amzn-oidc-data',
    'http.request.header.x_goog_iap_jwt_assertion',
    'http.request.header.cf-access-jwt-assertion',
    'http.request.header.X-Forwarded-Access-Token',
    'http.request.header.x-ms-token-aad-id-token',
    'http.response.header.x-csrf-token',
    'rpc.request.metadata.authorization',
    'rpc.grpc.request.metadata.Authorization',
    'rpc.response.metadata.x-anything',
    'other.request.header.user',
    'HTTP.REQUEST.HEADER.X-USER',
  ])('%s keeps the claims of a token and loses its signature', (key) => {
    expect(masked(key, JWT)).toEqual([JWT_MASKED, 1]);
    expect(masked(key, [`Bearer ${JWT}`, JWT])).toEqual([[`Bearer ${JWT_MASKED}`, JWT_MASKED], 2]);
    expect(masked(key, `${SPACED_KEPT}abc`)[0]).toBe(`${SPACED_KEPT}***`);
    expect(masked(key, `${PADDED_KEPT}abc=`)[0]).toBe(`${PADDED_KEPT}****`);
  });

  it.each([
    'http.request.header.x-auth-token',
    'http.request.header.x_amz_security_token',
    'rpc.grpc.request.metadata.x-client-secret',
    'rpc.request.metadata.my-api-key',
    'http.request.header.x-goog-apikey',
    'http.request.header.x-hub-signature-256',
    'http.request.header.X-Password',
    'http.request.header.x-credentials',
  ])('%s is masked when it is no token of that kind', (key) => {
    expect(masked(key, SECRET)).toEqual(['*******', 1]);
    expect(masked(key, [SECRET, 1, 'a.b.c'])).toEqual([['*******', 0, '*****'], 3]);
    expect(masked(key, 'x'.repeat(300))[0]).toBe('*'.repeat(300));
  });

  it.each(['http.response.header.set-cookie2', 'http.request.header.cookie', 'rpc.request.metadata.Cookie'])(
    '%s is masked whatever it holds',
    (key) => {
      expect(masked(key, JWT)[0]).toBe('*'.repeat(JWT.length));
      expect(masked(key, ['a=b'])[0]).toEqual(['***']);
    },
  );

  it.each([
    ['http.request.header.x-request-id', 'e4a1-77'],
    ['http.request.header.accept', 'en.a.b'],
    ['http.request.header.x-ratelimit-remaining-tokens', '100'],
    ['http.request.header.', 'a'],
    ['x.header', 'a'],
    ['my.headers.token', 'a'],
    ['gen_ai.usage.metadata.input_tokens', 5],
  ])('%s stays', (key, value) => expect(masked(key, value)).toEqual([value, 0]));
});

describe('texts lose secrets inside', () => {
  it.each([
    ['failed: GET https://h/a?x=1&token=abc&y=2 refused', 'failed: GET https://h/a?x=1&token=***&y=2 refused'],
    ['"GET /patients/7?token=abc HTTP/1.1" 200', '"GET /patients/7?token=*** HTTP/1.1" 200'],
    ['see </a?token=abc>', 'see </a?token=***>'],
    ['/a?b=1\\u0026token=abc\\u0026c=2', '/a?b=1\\u0026token=***\\u0026c=2'],
    ['/a?b=1&amp;token=abc&amp;c=2', '/a?b=1&amp;token=***&amp;c=2'],
    ['a ? token = b', 'a ? token = b'],
    ['SELECT a FROM b WHERE token = c AND d=e', 'SELECT a FROM b WHERE token = c AND d=e'],
    ['postgres://bob:pw@h/db and amqp://al:x@q', 'postgres://bob:**@h/db and amqp://al:*@q'],
    ['mail bob@h: at https://h:80/x', 'mail bob@h: at https://h:80/x'],
    [`invalid: ${JWT}, sorry; ${JWT}`, `invalid: ${JWT_MASKED}, sorry; ${JWT_MASKED}`],
    [`${'com.example.SurveyJob.run.now '.repeat(5)}`, `${'com.example.SurveyJob.run.now '.repeat(5)}`],
    ['?token=ü€🔑 ü', `?token=${'*'.repeat(9)} ü`],
    ['{"password":"abc","x":1}', '{"password":"***","x":1}'],
    ['[{"API_KEY": "a\\"b", "x": "y"}]', '[{"API_KEY": "****", "x": "y"}]'],
    ['{"password":-125,"x":1}', '{"password":0   ,"x":1}'],
    ['{"password":{"a":["}"]},"x":1}', '{"password":{         },"x":1}'],
    ['{"password":[],"api-key":null,"x":1}', '{"password":[],"api-key":null,"x":1}'],
    ['{"a":"{\\"password\\":\\"ab\\",\\"x\\":1}"}', '{"a":"{\\"password\\":\\"**\\",\\"x\\":1}"}'],
    ['{"password":"cut sh', '{"password":"******'],
    ['{"passwords":"abc","x":"password"}', '{"passwords":"abc","x":"password"}'],
    [`{"proxy-authorization":"Bearer abc"}`, `{"proxy-authorization":"Bearer ***"}`],
  ])('%s', (text, expected) => {
    const count = text === expected ? 0 : 1;
    const long = 'x'.repeat(300);
    const payload = encodeTraces([
      {
        spans: [
          {
            ...IDS,
            name: text,
            statusMessage: text,
            attributes: { 'mcp.resource.uri': text, long: text + long },
            events: [{ name: 'exception', attributes: { 'exception.stacktrace': [text] } }],
          },
        ],
      },
    ]);
    const length = payload.length;
    const masks = maskSecrets(payload, 'traces', MASK);
    expect(masks === 0).toBe(count === 0);
    const span = spanAfter(payload);
    expect([span?.name, span?.statusMessage]).toEqual([expected, expected]);
    expect(span?.attributes.get('mcp.resource.uri')).toBe(expected);
    expect(span?.events[0]?.attributes.get('exception.stacktrace')).toEqual([expected]);
    expect(payload).toHaveLength(length);
    oracleDecode(ORACLE.traces, payload);
  });

  it('a log body also when it is JSON behind other text', () => {
    for (const body of [`x {"password":"${SECRET}"}`, `/a?token=${SECRET}`, { note: `{"password":"${SECRET}"}` }]) {
      const payload = encodeLogs([{ logs: [{ body }] }]);
      expect(maskSecrets(payload, 'logs', MASK)).toBe(1);
      expect(payload.includes(SECRET)).toBe(false);
    }
  });

  it('any text in any encoding keeps its length and stays UTF-8', () => {
    const piece = fc.constantFrom(
      '"password":',
      '"',
      '\\',
      '{',
      '[',
      ']',
      '}',
      '?token=',
      '&',
      ' ',
      'eyJ',
      '.',
      ':',
      '//',
      '@',
      'ü',
      'a',
      '1',
      ',',
      JWT,
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 60 }), fc.integer(), (pieces, seed) => {
        const text = pieces.join('');
        const usual = encodeLogs([
          { logs: [{ body: text, attributes: { 'x.header.a': text, 'url.full': text, b: [text] } }] },
        ]);
        const payload = encodeUnusually(ORACLE.logs, oracleDecode(ORACLE.logs, usual), chooser(seed));
        const length = payload.length;
        maskSecrets(payload, 'logs', MASK);
        expect(payload).toHaveLength(length);
        expect(JSON.stringify(oracleDecode(ORACLE.logs, payload))).not.toContain('\ufffd');
        const once = Buffer.from(payload);
        maskSecrets(payload, 'logs', MASK);
        expect(payload.equals(once)).toBe(true);
      }),
      { numRuns: 400 },
    );
  });

  it('a hostile text takes no longer than its length', () => {
    for (const part of ['eyJ', 'eyJ.', '\\', '"password":[\\', ':', '&a=', '//a:', '"', '{"password":{"', ' ', '@']) {
      const text = part.repeat(50_000);
      for (const start of ['', '{', '{"password":[', '//a:']) {
        maskSecrets(encodeLogs([{ logs: [{ body: start + text, attributes: { 'url.full': text } }] }]), 'logs', MASK);
      }
    }
  });
});

it('what the default rules hide in records, the default mask hides on disk', () => {
  const { maskAttributes, maskQueryParameters } = settingsSchema.parse({}).receive;
  const mask = compileMask({ attributes: maskAttributes, queryParameters: maskQueryParameters });
  for (const pattern of DEFAULT_ACCESS_SETTINGS.secretParameters) {
    const name = pattern.replaceAll('*', 'x');
    const payload = encodeTraces([{ spans: [{ ...IDS, attributes: { 'url.query': `a=1&${name}=${SECRET}` } }] }]);
    maskSecrets(payload, 'traces', mask);
    expect(spanAfter(payload)?.attributes.get('url.query')).toBe(`a=1&${name}=*******`);
  }
});

describe('no place is forgotten', () => {
  const attributes = { password: SECRET, deep: [{ deeper: { password: SECRET } }], kept: 'open' };
  const home = { attributes, scope: { name: 's', attributes } };
  it.each([
    [
      'traces',
      10,
      encodeTraces([{ ...home, spans: [{ ...IDS, attributes, events: [{ attributes }], links: [{ attributes }] }] }]),
    ],
    ['logs', 8, encodeLogs([{ ...home, logs: [{ ...IDS, attributes, body: attributes }] }])],
    ['metrics', 6, encodeMetrics([{ ...home, metrics: [{ name: 'm', points: [{ value: 1, attributes }] }] }])],
  ] as const)('in %s', (signal, count, payload) => {
    const before = JSON.stringify(oracleDecode(ORACLE[signal], payload));
    const length = payload.length;
    expect(maskSecrets(payload, signal, MASK)).toBe(count);
    expect(payload).toHaveLength(length);
    expect(JSON.stringify(oracleDecode(ORACLE[signal], payload))).toBe(before.replaceAll(SECRET, '*******'));
  });

  it('a log body that is plain text stays', () => {
    const payload = encodeLogs([{ logs: [{ body: `password ${SECRET}` }] }]);
    expect(maskSecrets(payload, 'logs', MASK)).toBe(0);
  });

  it('whatever the encoding, and what is not secret stays', () => {
    const payload = encodeTraces([
      { ...home, spans: [{ ...IDS, attributes, events: [{ attributes }], links: [{ attributes }] }] },
    ]);
    const message = oracleDecode(ORACLE.traces, payload);
    const expected: unknown = JSON.parse(JSON.stringify(message).replaceAll(SECRET, '*******'));
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const unusual = encodeUnusually(ORACLE.traces, message, chooser(seed));
        const length = unusual.length;
        maskSecrets(unusual, 'traces', MASK);
        expect(unusual).toHaveLength(length);
        expect(unusual.includes(SECRET)).toBe(false);
        expect(JSON.parse(JSON.stringify(oracleDecode(ORACLE.traces, unusual)))).toEqual(expected);
      }),
      { numRuns: 500 },
    );
  });
});

describe('what cannot be decoded is overwritten, not kept unread', () => {
  const broken = delimited(9, Buffer.concat([delimited(1, 'x'), delimited(2, Buffer.from([0x2a, 0x7f]))]));
  const spanWith = (...fields: Buffer[]) => delimited(2, Buffer.concat([spanMessage(IDS), ...fields]));
  const secret = keyValues(9, { password: SECRET });

  it('and what is around it is masked as usual', () => {
    const neighbour = spanWith(keyValues(9, { kept: 'open', password: SECRET }));
    const payload = delimited(1, delimited(2, Buffer.concat([spanWith(broken, secret), neighbour])));
    expect(maskSecrets(payload, 'traces', MASK)).toBe(3);
    expect(payload.includes(SECRET)).toBe(false);
    expect(scanTraces(payload)).toMatchObject({ ok: true, items: 2, rejected: 0 });
    expect(spanAfter(payload)?.attributes).toEqual(
      new Map([
        ['kept', 'open'],
        ['password', '*******'],
      ]),
    );
  });

  it('in a resource', () => {
    const resource = Buffer.concat([delimited(1, Buffer.from([0xff])), keyValues(1, { password: SECRET })]);
    const payload = delimited(1, Buffer.concat([delimited(1, resource), delimited(2, spanWith())]));
    maskSecrets(payload, 'traces', MASK);
    expect(payload.includes(SECRET)).toBe(false);
    expect(scanTraces(payload)).toMatchObject({ ok: true, items: 1 });
  });

  it('in a log body nested too deeply', () => {
    let body: unknown = { password: SECRET };
    for (let level = 0; level < 2000; level++) body = [body];
    const payload = encodeLogs([{ logs: [{ body }] }]);
    maskSecrets(payload, 'logs', MASK);
    expect(payload.includes(SECRET)).toBe(false);
    expect(scanLogs(payload)).toMatchObject({ ok: true, items: 1 });
    let kept: unknown = '[nested too deep]';
    for (let level = 0; level < 32; level++) kept = [kept];
    let start = 0;
    scanLogs(payload, ({ itemStart }) => {
      start = itemStart;
    });
    expect(new PayloadReader(payload, 'logs', NOTE, compileKeys([])).logRecord(start).body).toEqual(kept);
  });

  it('in lists of any length that are nested too deeply, and the rest of the payload is protobuf', () => {
    for (let length = 2; length < 300; length++) {
      let value: unknown = 'a'.repeat(length);
      for (let level = 0; level < 33; level++) value = [value];
      const payload = encodeTraces([{ spans: [{ ...IDS, attributes: { deep: value, kept: 'open' } }] }]);
      expect(maskSecrets(payload, 'traces', MASK)).toBe(1);
      oracleDecode(ORACLE.traces, payload);
      expect(spanAfter(payload)?.attributes.get('kept')).toBe('open');
    }
  });

  it('in a payload full of it', () => {
    const payload = delimited(
      1,
      delimited(2, Buffer.concat(Array.from({ length: 3000 }, () => spanWith(broken, secret)))),
    );
    maskSecrets(payload, 'traces', MASK);
    expect(payload.includes(SECRET)).toBe(false);
    expect(scanTraces(payload)).toMatchObject({ ok: true, items: 3000, rejected: 0 });
  });

  it('in a payload that the scan refuses', () => {
    const payload = encodeTraces([{ spans: [{ attributes: { password: SECRET } }] }]);
    const refused = Buffer.concat([Buffer.from([0x0f]), payload]);
    maskSecrets(refused, 'traces', MASK);
    expect(refused.includes(SECRET)).toBe(false);
  });
});

it('a secret is found in a list that a value holds besides a number', () => {
  const value = Buffer.concat([anyValue(1), anyValue({ password: SECRET })]);
  const attribute = delimited(9, Buffer.concat([delimited(1, 'k'), delimited(2, value)]));
  const payload = delimited(1, delimited(2, delimited(2, Buffer.concat([spanMessage(IDS), attribute]))));
  expect(maskSecrets(payload, 'traces', MASK)).toBe(1);
  expect(spanAfter(payload)?.attributes.get('k')).toEqual({ password: '*******' });
});

it('a secret is found behind a key that stands after it', () => {
  const keyLast = delimited(9, Buffer.concat([delimited(2, anyValue(SECRET)), delimited(1, 'password')]));
  const payload = delimited(1, delimited(2, delimited(2, Buffer.concat([spanMessage(IDS), keyLast]))));
  expect(maskSecrets(payload, 'traces', MASK)).toBe(1);
  expect(spanAfter(payload)?.attributes.get('password')).toBe('*******');
});
