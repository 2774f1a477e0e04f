import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { recogniseLog, recogniseSpan } from '../../src/access/recognise.ts';
import { compileRules } from '../../src/access/rules.ts';
import { type AccessSettings, DEFAULT_ACCESS_SETTINGS } from '../../src/access/settings.ts';
import { AppError } from '../../src/core/errors.ts';
import type { AttributeValue, Span } from '../../src/core/evidence.ts';
import { accessOf, log, RULES, type SpanParts, span, type Values } from './evidence.ts';

function rulesWith(parts: Partial<AccessSettings>) {
  return compileRules({ ...DEFAULT_ACCESS_SETTINGS, ...parts });
}

function get(path: string, more: Values = {}) {
  const values = { 'http.request.method': 'GET', 'url.path': path, 'http.response.status_code': 200, ...more };
  return span(values, { kind: 'server' });
}

function query(statement: string, parts: SpanParts = {}) {
  return span({ 'db.system': 'postgresql', 'db.statement': statement }, { kind: 'client', ...parts });
}

function redis(statement: string) {
  return span({ 'db.system': 'redis', 'db.statement': statement }, { kind: 'client' });
}

describe('default rules', () => {
  it.each<[string, Span, string]>([
    ['a health check', get('/healthz'), 'health check by path'],
    [
      'the same in old names',
      span({ 'http.method': 'GET', 'http.target': '/livez?x' }, { kind: 'server' }),
      'health check by path',
    ],
    ['a probe', get('/', { 'user_agent.original': 'kube-probe/1.30' }), 'health check by client'],
    [
      'a gRPC health check',
      span({ 'rpc.system': 'grpc', 'rpc.service': 'grpc.health.v1.Health', 'rpc.method': 'Check' }, { kind: 'server' }),
      'health check by call',
    ],
    ['a style sheet', get('/css/app.css'), 'static asset'],
    ['a static route', get('/static/app.js', { 'http.route': '/static/<path:filename>' }), 'static folder'],
    ['a picture for nobody', get('/img/logo.png'), 'static picture'],
    ['a style sheet for someone', get('/css/app.css', { 'user.id': 'alice' }), 'static asset'],
    [
      'a static route for someone',
      get('/static/logo.png', { 'http.route': '/static/<path:filename>', 'user.id': 'alice' }),
      'static route',
    ],
    ['what a build tool wrote', get('/_next/static/0123456789abcdef0123/_ssg.js'), 'build folder'],
    ['BEGIN', query('begin'), 'database chatter'],
    ['a parameter', query('SET search_path = x'), 'database chatter'],
    ['an empty transaction', query('BEGIN; COMMIT;'), 'database chatter'],
    ...['MULTI', 'exec', 'CLIENT SETINFO lib-name x'].map((text): [string, Span, string] => [
      text,
      redis(text),
      'database commands',
    ]),
    ['a ping', query('SELECT 1'), 'database ping'],
    [
      'a connection',
      span({ 'db.system': 'postgresql' }, { kind: 'client', name: 'pg.connect' }),
      'database connection',
    ],
  ])('leave out %s', (_, evidence, rule) => {
    expect(recogniseSpan(evidence, RULES)).toEqual({ kind: 'excluded', rule });
  });

  it.each<[string, Span]>([
    ['a refused style sheet', get('/app.css', { 'http.response.status_code': 403 })],
    ['a row that is named like a file', get('/patients/7.css', { 'http.route': '/patients/{id}' })],
    [
      'a row below a folder that is named like a static one',
      get('/assets/7/owner', { 'http.route': '/assets/{id}/owner' }),
    ],
    ...['/patients/7/photo.jpg', '/assets/patients/7/xray.png', '/photos/7.jpg', '/dist/a@b.org/app.css'].map(
      (path): [string, Span] => [path, get(path)],
    ),
    ['a picture for someone', get('/patients/anna/photo.jpg', { 'user.name': 'alice' })],
    ['one that a gateway names', get('/assets/anna.png', { 'http.request.header.x-forwarded-user': ['alice'] })],
    ['a change of role', query('SET ROLE admin')],
    ['a refused parameter', query('SET row_security = off', { error: 'permission denied to set parameter' })],
    ['a transaction that could not begin', query('BEGIN', { error: 'terminating connection' })],
    ['what no other system calls chatter', span({ 'db.system': 'couchbase' }, { kind: 'client', name: 'SET' })],
    ['a login that fails at a ping', query('SELECT 1', { error: 'password authentication failed for user "app"' })],
    ...['SET patient:7 x', 'CLIENT KILL 1:1', 'CONFIG SET a b'].map((text): [string, Span] => [text, redis(text)]),
    [
      'a connection that failed',
      span({ 'db.system': 'postgresql' }, { kind: 'client', name: 'pg.connect', error: 'refused' }),
    ],
  ])('keep %s', (_, evidence) => {
    expect(recogniseSpan(evidence, RULES).kind).toBe('access');
  });
});

describe('settings', () => {
  it('include wins over exclude', () => {
    const exclude = [{ name: 'all', when: { 'span.kind': '*' } }];
    const include = [
      { name: 'patients', when: { 'http.route': '/patients/*', 'service.name': ['orders', 'billing'] } },
    ];
    const rules = rulesWith({ exclude, include });
    expect(recogniseSpan(get('/patients/7', { 'http.route': '/patients/:id' }), rules).kind).toBe('access');
    expect(recogniseSpan(get('/doctors/7'), rules)).toEqual({ kind: 'excluded', rule: 'all' });
  });

  it('rename fills templates, one rule after the other', () => {
    const rename = [
      { name: 'a', when: { 'event.action': 'GET' }, action: 'read', target: { type: 'patient', id: '${url.path}' } },
      { name: 'b', when: { 'event.action': 'read' }, target: { id: 'chart ${audit.target.id} of ${service.name}' } },
      { name: 'c', when: { 'event.action': 'read' }, target: { id: '${no.such.attribute}' } },
    ];
    const access = accessOf(get('/patients/7'), rulesWith({ rename }));
    expect(access).toMatchObject({
      preset: 'http.server',
      action: 'read',
      target: { type: 'patient', id: 'chart /patients/7 of orders' },
    });
  });

  it('add makes accesses of spans and events that are none', () => {
    const add = [
      {
        name: 'report',
        when: { 'span.name': 'report.*' },
        action: 'run',
        target: { type: 'report', id: '${report.id}' },
        category: ['file'],
        type: ['creation'],
      },
      {
        name: 'deploy',
        when: { 'log.event_name': 'deploy.done' },
        action: 'deploy',
        target: { type: 'service', id: '${service.name}' },
      },
    ];
    const rules = rulesWith({ add });
    expect(rules.keys).toContain('report.id');
    expect(accessOf(span({ 'report.id': 9 }, { name: 'report.run', error: 'permission denied' }), rules)).toMatchObject(
      {
        preset: 'rule.report',
        action: 'run',
        target: { type: 'report', id: '9', service: 'orders' },
        category: ['file'],
        type: ['creation', 'denied'],
        outcome: 'failure',
      },
    );
    expect(accessOf(log({ 'user.id': 'alice' }, { eventName: 'deploy.done' }), rules)).toMatchObject({
      preset: 'rule.deploy',
      target: { id: 'orders' },
      actor: { id: 'alice' },
      category: ['api'],
    });
  });

  it.each<[string, Partial<AccessSettings>, RegExp]>([
    ['an empty condition', { exclude: [{ name: 'x', when: {} }] }, /exclude\/x.*fit everything/],
    ['no pattern', { exclude: [{ name: 'x', when: { 'a.b': [] } }] }, /exclude\/x.*no pattern for "a.b"/],
    ['no name', { include: [{ name: ' ', when: { a: 'b' } }] }, /include\/.*needs a name/],
    [
      'a name twice',
      {
        include: [
          { name: 'x', when: { a: 'b' } },
          { name: 'x', when: { a: 'c' } },
        ],
      },
      /two rules/,
    ],
    ['an unknown key', { exclude: [{ name: 'x', when: { 'span.nmae': 'y' } }] }, /no key "span.nmae"/],
    ['no change', { rename: [{ name: 'x', when: { a: 'b' } }] }, /rename\/x.*changes nothing/],
    ['an empty template', { rename: [{ name: 'x', when: { a: 'b' }, action: 'a ${}' }] }, /names no attribute/],
    [
      'no ECS value',
      { add: [{ name: 'x', when: { a: 'b' }, action: 'a', target: { type: 't', id: 'i' }, type: ['acess'] }] },
      /"acess"/,
    ],
  ])('%s is refused with its name', (_, parts, message) => {
    expect(() => rulesWith(parts)).toThrow(AppError);
    expect(() => rulesWith(parts)).toThrow(message);
  });

  it('asks the decoder for both conventions, the headers and what rules mention', () => {
    const { keys } = rulesWith({
      exclude: [{ name: 'x', when: { 'db.statement': 'a', 'my.key': 'b', 'span.name': 'c' } }],
    });
    for (const key of [
      'db.query.text',
      'http.target',
      'url.path',
      'my.key',
      'audit.*',
      'http.request.header.x_user_id',
      'rpc.grpc.request.metadata.x-user-id',
      'rpc.request.metadata.authorization',
    ]) {
      expect(keys).toContain(key);
    }
    expect(keys).not.toContain('span.name');
    expect(new Set(keys).size).toBe(keys.length);
  });
});

/** Attribute values of every type, where text or numbers are expected. */
const anyValue: fc.Arbitrary<AttributeValue> = fc.letrec<{ value: AttributeValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 2 },
    fc.string(),
    fc.constantFrom('', ' ', '/a/{', '403', '-1', 'Bearer a.b.c', 'Basic ', '{"audit.x":1}', '/x?y=%'),
    fc.integer(),
    fc.bigInt(),
    fc.double(),
    fc.boolean(),
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(fc.string(), tie('value'), { maxKeys: 3, noNullPrototype: true }),
  ),
})).value;

describe('many rules', () => {
  const naive = (patterns: readonly string[], values: readonly string[]) => {
    const fits = (pattern: string) =>
      values.some((value) => new RegExp(`^${pattern.replaceAll('.', '[.]').replaceAll('*', '.*')}$`).test(value));
    const wanted = patterns.filter((pattern) => !pattern.startsWith('!'));
    const unwanted = patterns.filter((pattern) => pattern.startsWith('!')).map((pattern) => pattern.slice(1));
    return (wanted.length === 0 || wanted.some(fits)) && !unwanted.some(fits);
  };

  it('decide as if each were looked at alone, on the evidence or its resource', () => {
    const key = fc.integer({ min: 0, max: 80 }).map((number) => `x.${number}`);
    const text = fc.constantFrom('a', 'b', 'a.css', 'ab.css', '.css', 'a.b');
    const pattern = fc.constantFrom('a', 'b', '*', '*.css', 'a*', '*b*', '!a', '!*.css', '!*');
    const when = fc.dictionary(key, fc.array(pattern, { minLength: 1, maxLength: 2 }), { minKeys: 1, maxKeys: 2 });
    const values = fc.dictionary(key, text, { maxKeys: 30 });
    const given = fc.tuple(fc.array(when, { minLength: 40, maxLength: 60 }), values, values);
    fc.assert(
      fc.property(given, ([list, own, ofResource]) => {
        const exclude = list.map((each, index) => ({ name: `rule ${index}`, when: each }));
        const rules = rulesWith({ exclude, include: [] });
        const evidence = get('/x', own);
        const resource = { attributes: new Map(Object.entries(ofResource)) };
        const expected = exclude.find((rule) =>
          Object.entries(rule.when).every(([name, patterns]) => {
            const value = own[name] ?? ofResource[name];
            return naive(patterns, value === undefined ? [] : [value]);
          }),
        );
        const verdict = recogniseSpan({ ...evidence, resource }, rules);
        expect(verdict.kind === 'excluded' ? verdict.rule : undefined).toBe(expected?.name);
      }),
      { numRuns: 200 },
    );
  });
});

describe('hostile attributes', () => {
  const kinds = ['internal', 'server', 'client', 'producer', 'consumer'] as const;
  const keys = [
    ...RULES.keys.filter((key) => !key.endsWith('*')),
    'audit.checks',
    'audit.target.id',
    'audit.change.before',
  ];

  it('of any type never break recognition, and texts of accesses are never empty', () => {
    const values = fc.dictionary(fc.constantFrom(...keys), anyValue, { maxKeys: 12, noNullPrototype: true });
    fc.assert(
      fc.property(values, fc.constantFrom(...kinds), anyValue, (attributes, kind, body) => {
        const verdicts = [
          recogniseSpan(span(attributes, { kind, exception: attributes }), RULES),
          recogniseLog(log(attributes, { body, eventName: 'access' }), RULES),
        ];
        for (const verdict of verdicts) {
          if (verdict.kind !== 'access') continue;
          const { action, target, category, type } = verdict.access;
          for (const text of [action, target.id, target.type, ...category, ...type]) expect(text).toMatch(/\S/);
          expect(JSON.stringify(verdict.access.sections)).not.toContain('null');
        }
      }),
      { numRuns: 500 },
    );
  });
});
