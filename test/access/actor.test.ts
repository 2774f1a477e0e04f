import { describe, expect, it } from 'vitest';
import { attributeTrace } from '../../src/access/actor.ts';
import { recogniseLog, recogniseSpan } from '../../src/access/recognise.ts';
import type { LogRecord, Span } from '../../src/core/evidence.ts';
import { accessOf, log, NOTE, RULES, type SpanParts, span, type Values, viewOf } from './evidence.ts';

const VOUCHED = { ...NOTE, vouches: true };
const UNTRUSTED = { ...NOTE, trusted: false };

function token(claims: object, scheme = 'Bearer '): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${scheme}${part({ alg: 'RS256' })}.${part(claims)}.*****`;
}

function basic(user: string): string {
  return `Basic ${Buffer.from(`${user}:****`).toString('base64')}`;
}

/** The entry of a request. */
function entry(values: Values = {}, parts: SpanParts = {}): Span {
  const http = { 'http.request.method': 'GET', 'url.path': '/x', 'http.response.status_code': 200 };
  return span({ ...http, ...values }, { id: 'e', kind: 'server', ...parts });
}

function statement(values: Values = {}, parts: SpanParts = {}): Span {
  return span(
    { 'db.system': 'postgresql', 'db.statement': 'SELECT a FROM t', ...values },
    { id: 'd', parent: 'e', kind: 'client', ...parts },
  );
}

/** The actor of each access of a trace, by span id for spans and by `event` for events. */
function actorsOf(spans: readonly Span[], logs: readonly LogRecord[] = []) {
  const verdicts = [
    ...spans.map((each) => recogniseSpan(each, RULES)),
    ...logs.map((each) => recogniseLog(each, RULES)),
  ];
  const accesses = verdicts.flatMap((verdict) => (verdict.kind === 'access' ? [verdict.access] : []));
  const attributor = attributeTrace(viewOf(spans, logs), accesses, RULES);
  return new Map(
    accesses.map((access) => [
      access.source === 'span' ? access.spanId : 'event',
      { ...attributor.actorOf(access), from: attributor.sourceOf(access) },
    ]),
  );
}

const header = (name: string, value: string | string[]): Values => ({ [`http.request.header.${name}`]: value });

describe('captured headers of an entry', () => {
  it.each<[string, Values, object]>([
    ['a gateway, dashes', header('x-forwarded-user', ['alice']), { id: 'alice' }],
    [
      'a gateway, underscores',
      {
        ...header('x_auth_request_user', ['alice']),
        ...header('x_auth_request_email', ['a@x.org']),
        ...header('x_auth_request_groups', ['nurse,lead']),
      },
      { id: 'alice', email: 'a@x.org', roles: ['nurse', 'lead'] },
    ],
    [
      'an LDAP group keeps its commas',
      { ...header('x-forwarded-user', ['a']), ...header('x-forwarded-groups', ['CN=nurse,OU=x']) },
      { id: 'a', roles: ['CN=nurse,OU=x'] },
    ],
    [
      'a gateway beats a token',
      { ...header('x-user-id', 'alice'), ...header('authorization', token({ sub: 'robot' })) },
      { id: 'alice' },
    ],
    [
      'Google',
      header('x-goog-authenticated-user-email', 'accounts.google.com:a@x.org'),
      { id: 'a@x.org', email: 'a@x.org' },
    ],
    [
      'a token',
      header('authorization', [token({ sub: 'u1', preferred_username: 'alice', email: 'a@x.org', roles: ['nurse'] })]),
      { id: 'u1', name: 'alice', email: 'a@x.org', roles: ['nurse'] },
    ],
    [
      'a token of Keycloak',
      header('authorization', token({ sub: 'u1', name: 'Alice', realm_access: { roles: ['nurse'] } })),
      { id: 'u1', name: 'Alice', roles: ['nurse'] },
    ],
    [
      'a token on behalf of someone',
      header('authorization', token({ sub: 'alice', act: { sub: 'batch' } })),
      { id: 'batch', effective: { id: 'alice' } },
    ],
    [
      'a token of a program',
      header('authorization', token({ sub: 'job', client_id: 'job' })),
      { id: 'job', type: 'service' },
    ],
    [
      'a bare token of a proxy',
      header('x-amzn-oidc-data', token({ sub: 'u1', username: 'alice' }, '')),
      { id: 'u1', name: 'alice' },
    ],
    ['Basic', header('authorization', basic('alice')), { id: 'alice', name: 'alice' }],
    [
      'gRPC metadata, old names',
      { 'rpc.grpc.request.metadata.x-forwarded-user': ['alice'], 'rpc.grpc.request.metadata.x_user_roles': ['nurse'] },
      { id: 'alice', roles: ['nurse'] },
    ],
    [
      'gRPC metadata, new names',
      { 'rpc.request.metadata.authorization': [token({ sub: 'u1', name: 'Alice' })] },
      { id: 'u1', name: 'Alice' },
    ],
  ])('%s', (_, values, identity) => {
    expect(actorsOf([entry(values)]).get('e')).toMatchObject({ identity, attribution: 'header', verified: false });
    expect(actorsOf([entry(values)]).get('e')?.identity).toEqual(identity);
  });

  it.each<[string, Values]>([
    ['an opaque token', header('authorization', 'Bearer **************')],
    ['claims that are no JSON', header('authorization', 'Bearer eyJh.eyJ.x')],
    ['claims that are a list', header('authorization', `Bearer e.${Buffer.from('[1]').toString('base64url')}.x`)],
    ['Basic without a user', header('authorization', basic(''))],
    ['Basic that is no text', header('authorization', `Basic ${Buffer.from([0xff, 0xfe, 0x3a]).toString('base64')}`)],
    ['a masked header', header('x-forwarded-user', '****')],
    ['nobody', header('x-forwarded-user', 'anonymous')],
    ['an empty list', header('x-forwarded-user', [])],
  ])('%s names nobody', (_, values) => {
    expect(actorsOf([entry(values)]).get('e')).toMatchObject({ identity: {}, type: 'anonymous', attribution: 'none' });
  });
});

describe('the order of sources', () => {
  const person = (id: string): Values => ({ 'enduser.id': id });
  const [alice, bob] = [person('alice'), person('bob')];
  const hop = span({}, { id: 'h', parent: 'e' });

  it.each<[string, Span[], LogRecord[], string, object]>([
    [
      'on the span before its headers',
      [entry({ ...alice, ...header('x-user-id', 'bob') })],
      [],
      'e',
      { identity: { id: 'alice' }, attribution: 'span' },
    ],
    [
      'old names on the span',
      [entry({ 'enduser.pseudo.id': 'p1', 'enduser.role': 'admin,dev' })],
      [],
      'e',
      { identity: { id: 'p1', roles: ['admin', 'dev'] } },
    ],
    [
      'a name serves as id',
      [entry({ 'user.name': 'alice', 'enduser.pseudo.id': 'p1' })],
      [],
      'e',
      { identity: { id: 'alice', name: 'alice' } },
    ],
    [
      'the nearest ancestor',
      [entry(alice), hop, statement({}, { parent: 'h' })],
      [],
      'd',
      { identity: { id: 'alice' }, attribution: 'ancestor' },
    ],
    [
      'the span before an ancestor',
      [entry(alice), statement(bob)],
      [],
      'd',
      { identity: { id: 'bob' }, attribution: 'span' },
    ],
    [
      'an ancestor before a log record',
      [entry(alice), statement()],
      [log(bob, { spanId: 'd' })],
      'd',
      { identity: { id: 'alice' } },
    ],
    [
      'a log record',
      [entry(), hop],
      [log(alice, { spanId: 'h' })],
      'e',
      { identity: { id: 'alice' }, attribution: 'log' },
    ],
    [
      'the log record of the span first',
      [entry(), statement()],
      [log(bob, { spanId: 'x' }), log(alice, { spanId: 'd' })],
      'd',
      { identity: { id: 'alice' } },
    ],
    [
      'any span, root first',
      [entry(), span(alice, { id: 'h', parent: 'e' }), span(bob, { id: 'i', parent: 'e' })],
      [],
      'e',
      { identity: { id: 'alice' }, attribution: 'trace' },
    ],
    [
      'the service that called',
      [span({}, { id: 'c', kind: 'client', service: 'shop' }), entry({}, { parent: 'c' })],
      [],
      'e',
      { identity: { id: 'shop' }, attribution: 'service', type: 'service' },
    ],
    [
      'the service itself',
      [entry(), statement()],
      [],
      'd',
      { identity: { id: 'orders' }, attribution: 'service', type: 'service' },
    ],
    ['nobody', [entry()], [], 'e', { identity: {}, attribution: 'none', type: 'anonymous', verified: false }],
    [
      'an agent on behalf of the person above it',
      [
        entry(alice),
        span({ 'gen_ai.agent.name': 'triage' }, { id: 'h', parent: 'e' }),
        span({ 'gen_ai.tool.name': 't' }, { id: 'd', parent: 'h' }),
      ],
      [],
      'd',
      { identity: { id: 'triage', effective: { id: 'alice' } }, type: 'agent', attribution: 'ancestor' },
    ],
    [
      'an agent by itself',
      [
        span({ 'gen_ai.agent.id': 'a1', 'gen_ai.agent.name': 'triage' }, { id: 'h' }),
        span({ 'gen_ai.tool.name': 't' }, { id: 'd', parent: 'h' }),
      ],
      [],
      'd',
      { identity: { id: 'a1', name: 'triage' }, type: 'agent', attribution: 'ancestor' },
    ],
  ])('%s', (_, spans, logs, id, expected) => {
    expect(actorsOf(spans, logs).get(id)).toMatchObject(expected);
  });

  it('an event says it outright, and the trace adds what it knows of the same one', () => {
    const spans = [entry({ 'user.id': 'alice', 'user.roles': ['nurse'] })];
    const said = (id: string) => log({ 'user.id': id, 'audit.target.id': 'x' }, { spanId: 'e' });
    expect(actorsOf(spans, [said('alice')]).get('event')).toMatchObject({
      identity: { id: 'alice', roles: ['nurse'] },
      attribution: 'explicit',
    });
    expect(actorsOf(spans, [said('bob')]).get('event')?.identity).toEqual({ id: 'bob' });
  });

  it("an event speaks for its span to what is below, before the span's own word and any log record of the trace", () => {
    const said = (id: string, spanId: string, more: Values = {}) =>
      log({ 'user.id': id, 'audit.target.id': `of ${id}`, ...more }, { spanId });
    const branch = (id: string, values: Values = {}) => [
      span(values, { id, parent: 'e' }),
      statement({}, { id: `${id}-d`, parent: id }),
    ];
    const spans = [entry({ 'user.id': 'carol' }), ...branch('a'), ...branch('b', bob), ...branch('c'), ...branch('f')];
    const logs = [log({ 'user.id': 'dave' }), said('alice', 'a'), said('alice', 'b'), said('x', 'f'), said('y', 'f')];
    const actors = actorsOf(spans, logs);
    const below = ['a-d', 'b-d', 'c-d', 'f-d'].map((id) => actors.get(id)?.identity.id);
    expect(below).toEqual(['alice', 'alice', 'carol', 'carol']);
    expect(actors.get('a-d')).toMatchObject({ attribution: 'ancestor', named: [{ by: logs[1], as: 'explicit' }] });
    expect(actors.get('c-d')?.named).toEqual([{ by: spans[0], as: 'span' }]);
  });

  it('an event speaks for a parent that never came', () => {
    const logs = ['alice', 'bob'].map((id) => log({ 'user.id': id, 'audit.target.id': 'x' }, { spanId: `of ${id}` }));
    const spans = ['alice', 'bob'].map((id) => statement({}, { id, parent: `of ${id}` }));
    const actors = actorsOf(spans, logs);
    for (const id of ['alice', 'bob'])
      expect(actors.get(id)).toMatchObject({ identity: { id }, attribution: 'ancestor' });
  });

  it('of several log records, the one of the nearest ancestor counts', () => {
    const spans = [
      ...[entry(), span({}, { id: 'a', parent: 'e' }), span({}, { id: 'b', parent: 'e' })],
      ...[statement({}, { id: 'x', parent: 'a' }), statement({}, { id: 'y', parent: 'b' })],
    ];
    const logs = [log(alice, { spanId: 'a' }), log(bob, { spanId: 'b' })];
    const actors = actorsOf(spans, logs);
    expect(actors.get('x')).toMatchObject({ identity: { id: 'alice' }, attribution: 'log' });
    expect(actors.get('y')).toMatchObject({ identity: { id: 'bob' }, attribution: 'log' });
  });

  it('is proof only when the sender of the identity vouches', () => {
    expect(actorsOf([entry(alice, { note: VOUCHED }), statement()]).get('d')).toMatchObject({ verified: true });
    expect(actorsOf([entry(alice), statement({}, { note: VOUCHED })]).get('d')).toMatchObject({ verified: false });
  });

  it('leaves out senders without trust', () => {
    const spans = [entry(alice, { note: UNTRUSTED }), statement()];
    const logs = [log({ ...bob, 'audit.target.id': 'x' }, { spanId: 'e', note: UNTRUSTED })];
    const actors = actorsOf(spans, logs);
    expect(actors.get('e')).toMatchObject({ attribution: 'none' });
    expect(actors.get('d')).toMatchObject({ identity: { id: 'orders' }, attribution: 'service' });
    expect(actors.get('event')).toMatchObject({ attribution: 'none' });
  });

  it('takes linear time on a long chain', () => {
    const chain = Array.from({ length: 5_000 }, (_, index) =>
      statement({}, { id: `${index}`, parent: `${index - 1}` }),
    );
    const actors = actorsOf([entry(alice, { id: '-1' }), ...chain]);
    expect(actors.get('4999')).toMatchObject({ identity: { id: 'alice' }, attribution: 'ancestor' });
  });
});

describe('claimed is not proven', () => {
  const claim = { ...header('authorization', token({ sub: 'alice' })), 'http.response.status_code': 401 };

  it('a refused caller is nobody, there and in the rest of the trace', () => {
    const actors = actorsOf([entry(claim), statement()]);
    expect(actors.get('e')).toMatchObject({ identity: {}, type: 'anonymous', claimed: 'alice', verified: false });
    expect(actors.get('d')).toMatchObject({ identity: { id: 'orders' }, attribution: 'service' });
  });

  it('a failed login event names nobody either', () => {
    const failed = log({ 'user.name': 'alice', 'event.outcome': 'failure' }, { eventName: 'user.login', spanId: 'e' });
    const actors = actorsOf([entry({ 'user.name': 'alice' }), statement()], [failed]);
    for (const id of ['e', 'd', 'event']) expect(actors.get(id)?.identity.id).not.toBe('alice');
    expect(actors.get('event')).toMatchObject({ type: 'anonymous', claimed: 'alice' });
  });

  it('an event that vouches for its own word does not vouch for the span it is merged with', () => {
    const spans = [entry(claim), statement()];
    const event = log({ 'event.reason': 'expired', 'audit.target.id': 'x' }, { spanId: 'e', note: VOUCHED });
    const [onSpan, inEvent, inner] = [...spans.slice(0, 1), event, ...spans.slice(1)].map((each) => accessOf(each));
    if (!onSpan || !inEvent || !inner) throw new Error('three accesses');
    const merged = { ...inEvent, claimedAccount: onSpan.claimedAccount ?? '' };
    const attributor = attributeTrace(viewOf(spans, [event]), [merged, inner], RULES);
    expect(attributor.actorOf(merged)).toMatchObject({ type: 'anonymous', claimed: 'alice' });
    expect(attributor.actorOf(inner)).toMatchObject({ attribution: 'service' });
  });

  it.each<[string, Values, object]>([
    ['a header of its gateway', header('x-forwarded-user', 'alice'), { identity: { id: 'alice' }, verified: true }],
    ['an attribute', { 'user.id': 'alice' }, { identity: { id: 'alice' }, verified: true }],
    ['a token', {}, { identity: {}, type: 'anonymous', claimed: 'alice', verified: false }],
    ['Basic', header('authorization', basic('alice')), { identity: {}, claimed: 'alice', verified: false }],
  ])('a sender that vouches is believed, save for refused credentials: %s', (_, values, expected) => {
    const desk = { kind: 'client', service: 'desk', note: VOUCHED } as const;
    const spans = [span({}, { id: 'c', ...desk }), entry({ ...claim, ...values }, { parent: 'c', note: VOUCHED })];
    const lookup = span({ 'user.id': 'alice' }, { id: 'l', parent: 'e', note: VOUCHED });
    for (const trace of [spans, [...spans, lookup]]) expect(actorsOf(trace).get('e')).toMatchObject(expected);
    const below = actorsOf([...spans, statement({}, { note: VOUCHED })]).get('d')?.identity.id;
    expect(below).toBe('claimed' in expected ? 'orders' : 'alice');
  });

  it('accepted credentials are vouched for', () => {
    const values = header('authorization', basic('alice'));
    expect(actorsOf([entry(values, { note: VOUCHED })]).get('e')).toMatchObject({
      identity: { id: 'alice' },
      verified: true,
    });
  });

  it('a successful login names its account', () => {
    const login = entry({ 'http.request.method': 'POST', 'url.path': '/login', 'user.id': 'alice' });
    expect(actorsOf([login]).get('e')).toMatchObject({ identity: { id: 'alice' }, attribution: 'span' });
  });
});

describe('where from', () => {
  it('is what the outermost server saw, for everything inside', () => {
    const inner = entry({ 'net.sock.peer.addr': '10.0.0.9' }, { id: 'i', parent: 'e' });
    const actors = actorsOf([
      entry({ 'client.address': '203.0.113.5', 'user_agent.original': 'curl' }),
      inner,
      statement(),
    ]);
    for (const id of ['e', 'i', 'd']) {
      expect(actors.get(id)?.from).toEqual({ source: { ip: '203.0.113.5' }, user_agent: { original: 'curl' } });
    }
  });

  it('is what an event says, if it says', () => {
    const event = log({ 'source.ip': '198.51.100.1', 'audit.target.id': 'x' }, { spanId: 'e' });
    const actors = actorsOf([entry({ 'client.address': '203.0.113.5' })], [event]);
    expect(actors.get('event')?.from).toEqual({ source: { ip: '198.51.100.1' } });
  });

  it('is not taken from senders without trust', () => {
    const forged = entry({ 'client.address': '198.51.100.1' }, { note: UNTRUSTED });
    const actors = actorsOf([forged, entry({ 'client.address': 'fe80::1%eth0' }, { id: 'i', parent: 'e' })]);
    expect(actors.get('i')?.from).toEqual({ source: { ip: 'fe80::1' } });
  });
});
