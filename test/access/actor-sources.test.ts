import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { attributeTrace } from '../../src/access/actor.ts';
import { recogniseLog, recogniseSpan } from '../../src/access/recognise.ts';
import { compileRules } from '../../src/access/rules.ts';
import { DEFAULT_ACCESS_SETTINGS } from '../../src/access/settings.ts';
import type { LogRecord, Span, TokenVerdict } from '../../src/core/evidence.ts';
import { log, NOTE, RULES, type SpanParts, span, type Values, viewOf } from './evidence.ts';

const header = (name: string, value: string | string[]): Values => ({ [`http.request.header.${name}`]: value });
const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');

function token(claims: object): string {
  return `${part({ alg: 'RS256', typ: 'JWT' })}.${part(claims)}.*****`;
}

/** The note of a request in which this became of the token. */
function checked(jwt: string, verdict: TokenVerdict) {
  const signed = jwt.slice(0, jwt.lastIndexOf('.'));
  const key = createHash('sha256').update(signed).digest('base64url').slice(0, 22);
  return { ...NOTE, tokens: { [key]: verdict } };
}

function entry(values: Values = {}, parts: SpanParts = {}): Span {
  const http = { 'http.request.method': 'GET', 'url.path': '/x', 'http.response.status_code': 200 };
  return span({ ...http, ...values }, { id: 'e', kind: 'server', ...parts });
}

function statement(values: Values = {}, parts: SpanParts = {}): Span {
  const query = { 'db.system': 'postgresql', 'db.statement': 'SELECT a FROM t' };
  return span({ ...query, ...values }, { id: 'd', parent: 'e', kind: 'client', ...parts });
}

function actorsOf(spans: readonly Span[], logs: readonly LogRecord[] = [], rules = RULES) {
  const verdicts = [
    ...spans.map((each) => recogniseSpan(each, rules)),
    ...logs.map((each) => recogniseLog(each, rules)),
  ];
  const accesses = verdicts.flatMap((verdict) => (verdict.kind === 'access' ? [verdict.access] : []));
  const attributor = attributeTrace(viewOf(spans, logs), accesses, rules);
  return new Map(
    accesses.map((access) => [
      access.source === 'span' ? access.spanId : 'event',
      { ...attributor.actorOf(access), around: attributor.sourceOf(access) },
    ]),
  );
}

const ENVOY =
  'By=spiffe://cluster.local/ns/shop/sa/orders;Hash=468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688;';

describe('headers of proxies and clouds', () => {
  it.each<[string, Values, object | undefined]>([
    [
      'Authelia',
      { ...header('remote-user', 'alice'), ...header('remote-groups', 'nurses,leads') },
      { id: 'alice', roles: ['nurses', 'leads'] },
    ],
    [
      'authentik',
      { ...header('x-authentik-uid', 'u1'), ...header('x-authentik-username', 'alice') },
      { id: 'u1', name: 'alice' },
    ],
    ['Kong', header('x-consumer-username', ['shop']), { id: 'shop' }],
    ['Google, by id', header('x-goog-authenticated-user-id', 'accounts.google.com:117'), { id: '117' }],
    [
      'Tailscale',
      { ...header('tailscale-user-login', 'alice@x.org'), ...header('tailscale-user-name', 'Alice') },
      { id: 'alice@x.org', name: 'Alice' },
    ],
    [
      "claims that Google's gateway took out of a token",
      header('x-apigateway-api-userinfo', part({ sub: 'u1', email: 'a@x.org' })),
      { id: 'u1', email: 'a@x.org' },
    ],
    [
      'claims as Azure lists them',
      header(
        'x-ms-client-principal',
        Buffer.from(
          JSON.stringify({
            auth_typ: 'aad',
            claims: [
              { typ: 'http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier', val: 'u1' },
              { typ: 'http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress', val: 'a@x.org' },
              { typ: 'preferred_username', val: 'alice' },
              { typ: 'roles', val: 'nurse' },
              { typ: 'roles', val: 'lead' },
            ],
          }),
        ).toString('base64'),
      ),
      { id: 'u1', name: 'alice', email: 'a@x.org', roles: ['nurse', 'lead'] },
    ],
    [
      'a service account of Kubernetes',
      header('x-remote-user', 'system:serviceaccount:shop:orders'),
      { id: 'system:serviceaccount:shop:orders', type: 'service' },
    ],
    [
      'a caller who impersonates',
      { ...header('x-remote-user', 'admin'), ...header('impersonate-user', 'alice') },
      { id: 'admin', effective: { id: 'alice' } },
    ],
    [
      'a workload',
      header('x-forwarded-client-cert', `${ENVOY}Subject="";URI=spiffe://cluster.local/ns/shop/sa/web`),
      { id: 'spiffe://cluster.local/ns/shop/sa/web', name: 'web', type: 'service' },
    ],
    [
      'a person with a certificate',
      header('x-forwarded-client-cert', [
        `${ENVOY}Subject="CN=alice,emailAddress=a@x.org,O=Clinic\\\\, Ltd";DNS=x.org`,
      ]),
      { id: 'alice', name: 'alice', email: 'a@x.org' },
    ],
    [
      'the original client before the proxies on the way',
      header('x-forwarded-client-cert', `Hash=1;Subject="CN=alice",${ENVOY}Subject="CN=gateway"`),
      { id: 'alice', name: 'alice' },
    ],
    ['a name of nginx', header('ssl-client-subject-dn', 'CN=alice,OU=nurses,O=Clinic'), { id: 'alice', name: 'alice' }],
    [
      'a name as OpenSSL wrote it',
      header('x_ssl_client_s_dn', '/C=AT/O=Clinic/CN=alice'),
      { id: 'alice', name: 'alice' },
    ],
    [
      'Traefik',
      header('x-forwarded-tls-client-cert-info', encodeURIComponent('Subject="CN=alice,O=Clinic"')),
      { id: 'alice', name: 'alice' },
    ],
    ['a header that came twice', header('x-forwarded-user', ['mallory', 'alice']), undefined],
    ['a header that came twice, joined by the server', header('x-forwarded-user', 'alice, mallory'), undefined],
    ['one of a directory', header('x-forwarded-user', 'CN=alice,OU=ward'), { id: 'CN=alice,OU=ward' }],
    ['a header that came twice, alike', header('x-forwarded-user', ['alice', 'alice']), { id: 'alice' }],
    ['no certificate', header('x-forwarded-client-cert', 'Hash=1'), undefined],
    ['no claims', header('x-userinfo', 'e30x'), undefined],
  ])('%s', (_, values, identity) => {
    const actor = actorsOf([entry(values)]).get('e');
    expect(actor?.identity).toEqual(identity ?? {});
    expect(actor?.attribution).toBe(identity === undefined ? 'none' : 'header');
  });

  it('a person before a workload, a person with a certificate before a token', () => {
    const mesh = header('x-forwarded-client-cert', `${ENVOY}URI=spiffe://cluster.local/ns/shop/sa/web`);
    const bearer = header('authorization', `Bearer ${token({ sub: 'alice' })}`);
    const card = header('ssl-client-subject-dn', 'CN=bob');
    expect(actorsOf([entry({ ...mesh, ...bearer })]).get('e')?.identity.id).toBe('alice');
    expect(actorsOf([entry({ ...bearer, ...card })]).get('e')?.identity.id).toBe('bob');
  });

  it('impersonation also counts for a caller known otherwise, and below', () => {
    const spans = [entry({ 'user.id': 'admin', ...header('impersonate-user', 'alice') }), statement()];
    for (const id of ['e', 'd']) {
      expect(actorsOf(spans).get(id)?.identity).toEqual({ id: 'admin', effective: { id: 'alice' } });
    }
  });
});

describe('tokens', () => {
  const jwt = token({ sub: 'u1', preferred_username: 'alice', roles: ['nurse'] });
  const bearer = header('authorization', [`Bearer ${jwt}`]);
  const refusals: TokenVerdict[] = [
    'expired',
    'not_yet_valid',
    'wrong_issuer',
    'wrong_audience',
    'unknown_key',
    'bad_signature',
  ];

  it('a checked one proves who called, whatever was answered, to all below', () => {
    for (const status of [200, 401]) {
      const values = { ...bearer, 'http.response.status_code': status };
      const actors = actorsOf([entry(values, { note: checked(jwt, 'verified') }), statement()]);
      expect(actors.get('e')).toMatchObject({
        identity: { id: 'u1', name: 'alice' },
        attribution: 'header',
        verified: true,
      });
      expect(actors.get('d')).toMatchObject({ identity: { id: 'u1' }, attribution: 'ancestor', verified: true });
    }
  });

  it('one that nobody checked is read and proves nothing', () => {
    const actors = actorsOf([entry(bearer, { note: checked(jwt, 'unchecked') })]);
    expect(actors.get('e')).toMatchObject({ identity: { id: 'u1' }, verified: false });
  });

  it.each(refusals)('%s names nobody: it is a claim', (verdict) => {
    const note = checked(jwt, verdict);
    const actors = actorsOf([entry(bearer, { note }), statement()]);
    expect(actors.get('e')).toMatchObject({ identity: {}, type: 'anonymous', claimed: 'u1', verified: false });
    expect(actors.get('d')).toMatchObject({ identity: { id: 'orders' }, attribution: 'service', claimed: 'u1' });
    // What else tells is believed, and a vouching sender cannot vouch for it.
    const known = actorsOf([entry({ ...bearer, 'user.id': 'bob' }, { note })]).get('e');
    expect(known).toMatchObject({ identity: { id: 'bob' }, attribution: 'span' });
    expect(known).not.toHaveProperty('claimed');
    expect(actorsOf([entry(bearer, { note: { ...note, vouches: true } })]).get('e')).toMatchObject({ identity: {} });
  });

  it('of several the checked one counts', () => {
    const other = token({ sub: 'mallory' });
    const values = { ...header('authorization', `Bearer ${other}`), ...header('x-goog-iap-jwt-assertion', jwt) };
    expect(actorsOf([entry(values, { note: checked(jwt, 'verified') })]).get('e')?.identity.id).toBe('u1');
  });

  it('a checked one also proves what the span or an event says of the same one', () => {
    const note = checked(jwt, 'verified');
    const said = log({ 'user.id': 'u1', 'audit.target.id': 'x' }, { spanId: 'e' });
    const actors = actorsOf([entry({ ...bearer, 'user.id': 'u1' }, { note })], [said]);
    expect(actors.get('e')).toMatchObject({
      identity: { id: 'u1', roles: ['nurse'] },
      attribution: 'span',
      verified: true,
    });
    expect(actors.get('event')).toMatchObject({ attribution: 'explicit', verified: true });
  });

  it('claims have the names of the settings; a whole name goes before a path', () => {
    const claims = {
      ...DEFAULT_ACCESS_SETTINGS.claims,
      id: ['urn:x.employee', 'ids.employee'],
      roles: ['https://x.org/roles'],
    };
    const rules = compileRules({ ...DEFAULT_ACCESS_SETTINGS, claims });
    const values = (content: object) => header('authorization', `Bearer ${token(content)}`);
    const identityIn = (content: object) => actorsOf([entry(values(content))], [], rules).get('e')?.identity;
    expect(identityIn({ sub: 's', name: 'Al', ids: { employee: 7 }, 'https://x.org/roles': ['nurse'] })).toEqual({
      ...{ id: '7', name: 'Al', roles: ['nurse'] },
    });
    expect(identityIn({ sub: 's', 'urn:x.employee': 'e1', ids: { employee: 7 } })).toMatchObject({ id: 'e1' });
  });
});

describe('baggage', () => {
  it.each<[string, Values, object | undefined]>([
    ['a captured header', header('baggage', 'tenant=x, userId=al%C3%AFce;p=1'), { id: 'alïce' }],
    [
      'several headers',
      header('baggage', ['tenant=x', 'user.id=alice,user.roles=nurse']),
      { id: 'alice', roles: ['nurse'] },
    ],
    ['attributes of a span processor', { 'baggage.user.id': 'alice' }, { id: 'alice' }],
    ['gRPC metadata', { 'rpc.grpc.request.metadata.baggage': ['enduser.id=alice'] }, { id: 'alice' }],
    ['nobody in it', header('baggage', 'tenant=x,=y,user.id='), undefined],
    ['broken percent signs', header('baggage', 'user.id=100%'), { id: '100%' }],
  ])('%s', (_, values, identity) => {
    const actor = actorsOf([entry(values, { note: { ...NOTE, vouches: true } })]).get('e');
    expect(actor?.identity).toEqual(identity ?? {});
    // Whoever called put it there: no sender's word makes it a proof.
    expect(actor).toMatchObject({ attribution: identity ? 'baggage' : 'none', verified: false });
  });

  it('comes after everything else in the trace and before the session', () => {
    const carried = header('baggage', 'user.id=carol');
    const sessions = { 'H-of-a-session': { id: 'dave' } };
    const inSession = { 'session.id': 'H-of-a-session' };
    const e = entry({ ...carried, ...inSession }, { note: { ...NOTE, sessions } });
    expect(actorsOf([e, statement()]).get('d')).toMatchObject({ identity: { id: 'carol' }, attribution: 'baggage' });
    expect(actorsOf([e, statement({ 'enduser.id': 'bob' })]).get('e')).toMatchObject({ attribution: 'trace' });
  });

  it('is not taken from senders without trust', () => {
    const browser = entry(header('baggage', 'user.id=carol'), { note: { ...NOTE, trusted: false } });
    expect(actorsOf([browser]).get('e')).toMatchObject({ attribution: 'none' });
  });
});

describe('sessions', () => {
  const id = 'Zm9vYmFyLWJhei1xdXV4';
  const note = { ...NOTE, sessions: { [id]: { id: 'alice', roles: ['nurse'] } } };

  it.each<[string, Values]>([
    ['an attribute, padded', { 'session.id': `${id}====` }],
    ['a cookie among masked ones', header('cookie', [`****************; connect.sid=${id}=; ***`])],
    ['the cookie that a login sets', { 'http.response.header.set-cookie': [`sid=${id}; ****; ********`] }],
  ])('%s names its owner, there and below', (_, values) => {
    const actors = actorsOf([entry(values, { note }), statement()]);
    for (const access of ['e', 'd']) {
      expect(actors.get(access)).toMatchObject({
        identity: { id: 'alice', roles: ['nurse'] },
        ...{ attribution: 'session', verified: false, around: { session: { id } } },
      });
    }
  });

  it('a session of nobody known is told all the same', () => {
    const actor = actorsOf([entry({ 'session.id': id })]).get('e');
    expect(actor).toMatchObject({ attribution: 'none', around: { session: { id } } });
  });

  it('a log record or an event may name it', () => {
    const spans = [entry()];
    expect(actorsOf(spans, [log({ 'session.id': id }, { note, spanId: 'e' })]).get('e')?.identity.id).toBe('alice');
    const event = log({ 'session.id': id, 'audit.target.id': 'x' }, { note, spanId: '' });
    expect(actorsOf([], [event]).get('event')).toMatchObject({ attribution: 'session', around: { session: { id } } });
  });

  it('what a span says itself goes before; senders without trust name no session of others', () => {
    const stated = entry({ 'session.id': id, 'user.id': 'bob' }, { note });
    expect(actorsOf([stated]).get('e')).toMatchObject({ identity: { id: 'bob' }, attribution: 'span' });
    const page = span({ 'session.id': id }, { id: 'p', note: { ...note, trusted: false } });
    const actor = actorsOf([page, entry({}, { parent: 'p' })]).get('e');
    expect(actor?.attribution).toBe('none');
    expect(actor?.around.session).toBeUndefined();
  });

  it('a refused caller is nobody, whosever session it is', () => {
    const refused = entry({ 'session.id': id, 'http.response.status_code': 401 }, { note });
    const login = entry({
      'http.request.method': 'POST',
      'url.path': '/login',
      'user.name': 'alice',
      'http.response.status_code': 401,
    });
    expect(actorsOf([refused]).get('e')?.attribution).toBe('session');
    expect(actorsOf([login]).get('e')).toMatchObject({ claimed: 'alice', type: 'anonymous' });
  });
});

describe('AI agents', () => {
  const triage = { 'gen_ai.agent.id': 'a1', 'gen_ai.agent.name': 'triage' };
  const agent = (parts: SpanParts = {}) => span(triage, { id: 'a', parent: 'e', ...parts });
  const tool = (values: Values = {}) => span({ 'gen_ai.tool.name': 'search', ...values }, { id: 't', parent: 'a' });

  it('act on behalf of the person above, in all that is below them, in other services too', () => {
    const called = entry({ 'url.path': '/orders' }, { id: 'o', parent: 't', service: 'orders' });
    const actors = actorsOf([
      entry({ 'user.id': 'u1', 'user.name': 'alice' }),
      agent(),
      tool(),
      called,
      statement({}, { parent: 'o' }),
    ]);
    expect(actors.get('e')).toMatchObject({ identity: { id: 'u1' }, type: 'user' });
    expect(actors.get('e')?.around.gen_ai).toBeUndefined();
    for (const id of ['t', 'o', 'd']) {
      expect(actors.get(id)).toMatchObject({
        identity: { id: 'a1', name: 'triage', effective: { id: 'u1', name: 'alice' } },
        ...{ type: 'agent', attribution: 'ancestor', around: { gen_ai: { agent: { id: 'a1', name: 'triage' } } } },
      });
    }
    expect(actors.get('t')?.around.gen_ai).toEqual({ tool: { name: 'search' }, agent: { id: 'a1', name: 'triage' } });
    expect(actors.get('t')?.named.map(({ as }) => as)).toEqual(['agent', 'span']);
  });

  it("a service's own token hides nobody", () => {
    const own = header('authorization', `Bearer ${token({ sub: 'agents', client_id: 'agents' })}`);
    const called = entry(own, { id: 'o', parent: 'a', service: 'orders' });
    const actor = actorsOf([entry({ 'user.id': 'alice' }), agent(), called]).get('o');
    expect(actor?.identity).toMatchObject({ id: 'a1', effective: { id: 'alice' } });
  });

  it('an agent of an agent acts, still on behalf of the person', () => {
    const inner = span({ 'gen_ai.agent.name': 'search' }, { id: 'b', parent: 'a' });
    const call = span({ 'gen_ai.tool.name': 't' }, { id: 't', parent: 'b' });
    const actor = actorsOf([entry({ 'user.id': 'alice' }), agent(), inner, call]).get('t');
    expect(actor).toMatchObject({ identity: { id: 'search', effective: { id: 'alice' } }, type: 'agent' });
    expect(actor?.around.gen_ai?.agent).toEqual({ name: 'search' });
  });

  it('an event that states its actor is believed, and still names the agent', () => {
    const event = log({ 'user.id': 'bob', 'audit.target.id': 'x' }, { spanId: 'a' });
    const actor = actorsOf([entry({ 'user.id': 'alice' }), agent()], [event]).get('event');
    expect(actor).toMatchObject({
      identity: { id: 'bob' },
      attribution: 'explicit',
      around: { gen_ai: { agent: { id: 'a1' } } },
    });
  });

  it('by themselves they act for nobody; without trust they are none', () => {
    const alone = actorsOf([agent(), tool()]).get('t');
    expect(alone?.identity).toEqual({ id: 'a1', name: 'triage', type: 'agent' });
    const forged = actorsOf([agent({ note: { ...NOTE, trusted: false } }), tool()]).get('t');
    expect(forged).toMatchObject({ type: 'service', around: {} });
  });
});
