import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { attributeTrace } from '../../src/access/actor.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import type { Span } from '../../src/core/evidence.ts';
import { compileKeys, PayloadReader } from '../../src/otlp/decode.ts';
import { compileMask, maskSecrets } from '../../src/otlp/mask.ts';
import { scanTraces } from '../../src/otlp/scan.ts';
import { encodeTraces } from '../otlp/encode.ts';
import { accessOf, NOTE, RULES, span, viewOf } from './evidence.ts';

const { receive } = settingsSchema.parse({});
const MASK = compileMask({ attributes: receive.maskAttributes, queryParameters: receive.maskQueryParameters });
const KEYS = compileKeys(RULES.keys);

/** A server span as the settle sees it: masked as by default, decoded with the keys that the rules ask for. */
function admitted(attributes: Record<string, unknown>): Span {
  const ids = { traceId: 'a1'.repeat(16), spanId: 'b2'.repeat(8), kind: 2 };
  const http = { 'http.request.method': 'GET', 'url.path': '/x', 'http.response.status_code': 200 };
  const payload = encodeTraces([{ spans: [{ ...ids, attributes: { ...http, ...attributes } }] }]);
  maskSecrets(payload, 'traces', MASK);
  let span: Span | undefined;
  scanTraces(payload, ({ itemStart }) => {
    span = new PayloadReader(payload, 'traces', NOTE, KEYS).span(itemStart);
  });
  if (!span) throw new Error('no span');
  return span;
}

const base64 = (value: object | string) =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64');
const token = (claims: object) =>
  [{ alg: 'RS256', typ: 'JWT' }, claims, 'not a real signature, but long enough to be one']
    .map((part) => Buffer.from(typeof part === 'string' ? part : JSON.stringify(part)).toString('base64url'))
    .join('.');

describe('what masking leaves of captured headers still says who called', () => {
  it.each<[string, string, unknown, object]>([
    ['a gateway', 'x-forwarded-user', ['alice'], { id: 'alice' }],
    ['a gateway, underscores', 'x_auth_request_email', ['a@x.org'], { id: 'a@x.org' }],
    ['a bearer token', 'authorization', [`Bearer ${token({ sub: 'u1' })}`], { id: 'u1' }],
    ['a bare token', 'x-pomerium-jwt-assertion', [token({ sub: 'u1' })], { id: 'u1' }],
    ['a token of a proxy', 'x-forwarded-access-token', [token({ sub: 'u1' })], { id: 'u1' }],
    ['Basic', 'authorization', [`Basic ${base64('alice:not a real password')}`], { id: 'alice' }],
    ['claims', 'x-userinfo', [base64({ sub: 'u1', email: 'a@x.org' })], { id: 'u1', email: 'a@x.org' }],
    [
      'a certificate',
      'x-forwarded-client-cert',
      ['By=spiffe://x.org/a;Hash=00ff;Subject="CN=alice,O=Clinic";URI=;DNS=x.org'],
      { id: 'alice', name: 'alice' },
    ],
    ['impersonation', 'x-remote-user', ['admin'], { id: 'admin' }],
    ['baggage', 'baggage', ['userId=alice;p,tenant=x'], { id: 'alice' }],
  ])('%s', (_, header, value, identity) => {
    const span = admitted({ [`http.request.header.${header}`]: value });
    const access = accessOf(span);
    expect(attributeTrace(viewOf([span]), [access], RULES).actorOf(access).identity).toMatchObject(identity);
  });

  it('names the session in an attribute', () => {
    const span = admitted({ 'session.id': 'aGFzaC1vZi1hLXNlc3Npb24' });
    const access = accessOf(span);
    const { session } = attributeTrace(viewOf([span]), [access], RULES).sourceOf(access);
    expect(session).toEqual({ id: 'aGFzaC1vZi1hLXNlc3Npb24' });
  });

  it('whatever is sent: nobody, or somebody with an id', () => {
    const piece = fc.constantFrom(
      ...[
        'By=',
        'Subject="',
        'CN=',
        'URI=spiffe://',
        '"',
        '\\',
        ';',
        ',',
        '/',
        '=',
        '%22',
        '%',
        '{',
        '}',
        '[]',
        'a',
        'é',
      ],
      ...['Bearer ', 'Basic ', 'e30', '.', 'eyJhbGciOiJub25lIn0', 'W10', 'user.id=', ' ', '\u0000', '{"sub":{}}'],
    );
    const text = fc.oneof(
      fc.string(),
      fc.array(piece, { maxLength: 30 }).map((pieces) => pieces.join('')),
    );
    const names = ['x-forwarded-user', 'x-forwarded-client-cert', 'authorization', 'x-ms-client-principal', 'baggage'];
    const header = fc.tuple(fc.constantFrom(...names, 'impersonate-user', 'cookie'), fc.oneof(text, fc.array(text)));
    fc.assert(
      fc.property(fc.array(header, { maxLength: 4 }), (headers) => {
        const captured = headers.map(([name, value]) => [`http.request.header.${name}`, value] as const);
        const given = span({ 'http.request.method': 'GET', ...Object.fromEntries(captured) }, { kind: 'server' });
        const access = accessOf(given);
        const { identity, attribution } = attributeTrace(viewOf([given]), [access], RULES).actorOf(access);
        if (attribution === 'none') expect(identity).toEqual({});
        else expect(identity.id).toMatch(/\S/);
      }),
      { numRuns: 2000, examples: [[[['x-forwarded-client-cert', 'Subject=" =']]]] },
    );
  });
});
