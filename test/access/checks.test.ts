import { describe, expect, it } from 'vitest';
import type { CheckSettings } from '../../src/access/check-settings.ts';
import { type CheckDraft, recogniseCheck } from '../../src/access/checks.ts';
import { purposeOf } from '../../src/access/purpose.ts';
import { recogniseSpan } from '../../src/access/recognise.ts';
import { compileRules } from '../../src/access/rules.ts';
import { DEFAULT_ACCESS_SETTINGS } from '../../src/access/settings.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import { log, type SpanParts, span, type Values } from './evidence.ts';

const checks: CheckSettings = {
  rules: [
    {
      name: 'flags',
      when: { 'feature.check': '*' },
      permission: '${feature.check}',
      target: '${feature.of}',
      granted: '${feature.on}',
    },
    {
      name: 'authorise',
      when: { 'span.name': 'authorise', 'span.kind': 'internal' },
      engine: 'in-house',
      granted: '${no.such}',
    },
  ],
  roleTables: [{ table: ['user_roles', 'shop.grants'], permission: 'role of ${db.namespace}' }, { table: 'acl.*' }],
  hosts: [{ engine: 'opa', host: ['policy.internal', '127.0.0.1:39*'] }],
};
const purpose = settingsSchema.parse({}).purpose;
const rules = compileRules({ ...DEFAULT_ACCESS_SETTINGS, checks, purpose });

const http = (path: string, more: Values = {}): Values => ({
  'http.request.method': 'POST',
  'url.path': path,
  ...more,
});
const url = (full: string): Values => ({ 'http.request.method': 'POST', 'url.full': full });
const sql = (text: string, more: Values = {}): Values => ({
  'db.system.name': 'postgresql',
  'db.namespace': 'shop',
  'db.query.text': text,
  ...more,
});
const CLIENT: SpanParts = { kind: 'client', parent: 'c'.repeat(16) };
const SERVER: SpanParts = { kind: 'server', parent: 'c'.repeat(16) };
const INTERNAL: SpanParts = { kind: 'internal', parent: 'c'.repeat(16) };

/** Names and attributes as the engines' own sources and the instrumentations have them. */
const told: [name: string, Values, SpanParts, CheckDraft | undefined][] = [
  [
    'OPA by its port',
    url('http://localhost:8181/v1/data/app/rbac/allow'),
    CLIENT,
    { engine: 'opa', rule: 'app/rbac/allow' },
  ],
  ['OPA by its host', url('http://opa.authz.svc/v1/data/app/allow'), CLIENT, { engine: 'opa', rule: 'app/allow' }],
  [
    'OPA by older names',
    { 'http.method': 'POST', 'http.url': 'http://opa:80/v0/data/app/allow' },
    CLIENT,
    { engine: 'opa', rule: 'app/allow' },
  ],
  ['OPA by the settings', url('http://policy.internal:80/v1/data/a'), CLIENT, { engine: 'opa', rule: 'a' }],
  ['OPA by host and port', url('http://127.0.0.1:39211/v1/data/a'), CLIENT, { engine: 'opa', rule: 'a' }],
  ['OPA’s own span', http('/v1/data/app/allow'), { ...SERVER, name: 'v1/data' }, { engine: 'opa', rule: 'app/allow' }],
  [
    'OPA’s logged decision',
    http('/v1/data/app/allow', { 'opa.decision_id': 'd1' }),
    SERVER,
    { engine: 'opa', rule: 'app/allow' },
  ],
  ['anybody’s path', url('http://shop.internal/v1/data/app/allow'), CLIENT, undefined],
  [
    'a policy that is changed',
    { ...url('http://opa:8181/v1/data/a'), 'http.request.method': 'PUT' },
    CLIENT,
    undefined,
  ],
  [
    'OpenFGA over gRPC',
    { 'rpc.system': 'grpc', 'rpc.service': 'openfga.v1.OpenFGAService', 'rpc.method': 'Check' },
    CLIENT,
    { engine: 'openfga' },
  ],
  [
    'OpenFGA over gRPC, stable names',
    { 'rpc.system.name': 'grpc', 'rpc.method': 'openfga.v1.OpenFGAService/BatchCheck' },
    CLIENT,
    { engine: 'openfga' },
  ],
  ['OpenFGA over HTTP', url('http://fga:8080/stores/01HVMMBCMGZNT3SED4Z17ECXCA/check'), CLIENT, { engine: 'openfga' }],
  [
    'OpenFGA’s own span',
    { store_id: 's', object: 'document:7', relation: 'viewer', user: 'user:alice', allowed: false },
    { ...INTERNAL, name: 'Check' },
    { engine: 'openfga', permission: 'viewer', target: 'document:7', granted: false },
  ],
  ['a relation of something else', { relation: 'brother' }, INTERNAL, undefined],
  [
    'SpiceDB over gRPC',
    { 'rpc.system': 'grpc', 'rpc.service': 'authzed.api.v1.PermissionsService', 'rpc.method': 'CheckPermission' },
    CLIENT,
    { engine: 'spicedb' },
  ],
  [
    'SpiceDB that is read',
    { 'rpc.system': 'grpc', 'rpc.service': 'authzed.api.v1.PermissionsService', 'rpc.method': 'ReadRelationships' },
    CLIENT,
    undefined,
  ],
  [
    'SpiceDB’s own span',
    {
      'spicedb.internal.dispatch.resource_type': 'document#view',
      'spicedb.internal.dispatch.resource_ids': ['7'],
      'spicedb.internal.dispatch.subject': 'user:alice#...',
    },
    { ...INTERNAL, name: 'DispatchCheck → document#view@user#...' },
    { engine: 'spicedb', permission: 'view', target: 'document:7' },
  ],
  [
    'Verified Permissions by the AWS SDK',
    { 'rpc.system': 'aws-api', 'rpc.service': 'VerifiedPermissions', 'rpc.method': 'IsAuthorized' },
    CLIENT,
    { engine: 'cedar' },
  ],
  ['Cedar’s agent', url('http://cedar:8180/v1/is_authorized'), CLIENT, { engine: 'cedar' }],
  [
    'Cedar in the service',
    {
      'cedar.action': 'Document::Action::"View"',
      'cedar.resource.type': 'Document',
      'cedar.resource.id': '7',
      'cedar.decision': 'deny',
      'cedar.decision.deny_reason': 'no policy permits it',
    },
    INTERNAL,
    {
      ...{ engine: 'cedar', permission: 'Document::Action::"View"', target: 'Document::"7"', granted: false },
      reason: 'no policy permits it',
    },
  ],
  [
    'Envoy’s external authorisation',
    { 'rpc.system': 'grpc', 'rpc.service': 'envoy.service.auth.v3.Authorization', 'rpc.method': 'Check' },
    CLIENT,
    { engine: 'ext_authz', ofRequest: true },
  ],
  ['a store of something else', url('http://till:8080/stores/12/check'), CLIENT, undefined],
  ['AuthZEN', url('https://pdp.example.com/access/v1/evaluation'), CLIENT, { engine: 'authzen' }],
  [
    'Kubernetes',
    url('https://kube/apis/authorization.k8s.io/v1/subjectaccessreviews'),
    CLIENT,
    { engine: 'kubernetes' },
  ],
  [
    'the span itself',
    { 'audit.check.permission': 'orders:read', 'audit.check.granted': true, 'audit.check.duration': 5 },
    INTERNAL,
    { engine: 'application', permission: 'orders:read', granted: true, duration: 5 },
  ],
  [
    'a rule',
    { 'feature.check': 'export', 'feature.of': 'orders', 'feature.on': 'no' },
    INTERNAL,
    { engine: 'rule', permission: 'export', target: 'orders', rule: 'flags', granted: false },
  ],
  [
    'a rule that finds no answer',
    { any: 1 },
    { ...INTERNAL, name: 'authorise' },
    { engine: 'in-house', rule: 'authorise' },
  ],
  [
    'a table of roles',
    sql('SELECT role FROM user_roles WHERE id = $1'),
    CLIENT,
    { engine: 'role_table', permission: 'role of shop', rule: 'user_roles', ofRequest: true },
  ],
  [
    'a table of roles, joined',
    sql('SELECT o.* FROM orders o JOIN "public"."User_Roles" r ON r.id = o.owner'),
    CLIENT,
    { engine: 'role_table', permission: 'role of shop', rule: 'user_roles', ofRequest: true },
  ],
  [
    'a table with its schema',
    sql('SELECT 1 FROM acl.entries'),
    CLIENT,
    { engine: 'role_table', rule: 'acl.entries', ofRequest: true },
  ],
  ['a change of roles', sql("INSERT INTO user_roles VALUES ('alice')"), CLIENT, undefined],
  ['a statement on another table', sql('SELECT * FROM orders'), CLIENT, undefined],
];

describe('a check', () => {
  it.each(told)('%s', (_, values, parts, draft) => {
    expect(recogniseCheck(span(values, parts), rules)).toEqual(draft);
  });

  it('is nobody’s word without trust', () => {
    for (const [, values, parts] of told) {
      expect(recogniseCheck(span(values, { ...parts, note: { trusted: false } }), rules)).toBeUndefined();
    }
  });

  it('is told by log records, too', () => {
    expect(recogniseCheck(log({ 'audit.check.rule': 'r', 'audit.check.granted': 'allow' }), rules)).toMatchObject({
      engine: 'application',
      granted: true,
    });
    expect(recogniseCheck(log({ 'feature.check': 'export', 'feature.on': 200 }), rules)).toMatchObject({
      granted: true,
    });
  });

  it('that an engine answers is no access, unless nobody asked', () => {
    const own = http('/v1/data/app/allow', { 'service.name': 'opa' });
    expect(recogniseSpan(span(own, { ...SERVER, name: 'v1/data' }), rules).kind).toBe('context');
    expect(recogniseSpan(span(own, { kind: 'server', name: 'v1/data' }), rules).kind).toBe('access');
    // What only looks like an engine's keeps its record.
    for (const path of ['/v1/data/prices', '/stores/01HVMMBCMGZNT3SED4Z17ECXCA/check', '/v1/is_authorized']) {
      const other = http(path, { 'server.port': 8181, 'server.address': 'opa.example.com', 'cedar.decision': 'deny' });
      expect(recogniseSpan(span(other, SERVER), rules).kind).toBe('access');
    }
    const changed = { ...own, 'http.request.method': 'PUT' };
    expect(recogniseSpan(span(changed, { ...SERVER, name: 'v1/data' }), rules).kind).toBe('access');
  });

  it.each([
    ['a key that is unknown', { rules: [{ name: 'r', when: { 'span.nmae': 'x' } }] }, /checks\/r.*"span.nmae"/],
    ['a template that names nothing', { rules: [{ name: 'r', when: { a: 'b' }, granted: '${}' }] }, /checks\/r/],
    ['two rules of a name', { rules: [1, 2].map(() => ({ name: 'r', when: { a: 'b' } })) }, /two rules/],
  ])('rule is refused for %s', (_, given, message) => {
    const compile = () => compileRules({ ...DEFAULT_ACCESS_SETTINGS, checks: { ...checks, ...given } });
    expect(compile).toThrow(message);
  });
});

describe('what an access is for', () => {
  it.each<[string, Values, string | undefined]>([
    ['an attribute', { 'audit.purpose': 'treatment' }, 'treatment'],
    ['a header', { 'http.request.header.x-purpose-of-use': ['TREAT'] }, 'TREAT'],
    ['a header with underscores', { 'http.request.header.purpose_of_use': ['TREAT'] }, 'TREAT'],
    [
      'baggage',
      { 'http.request.header.baggage': ['purpose-of-use=ETREAT;p=1,ticket=OPS%2D7'] },
      'ETREAT; ticket OPS-7',
    ],
    ['attributes of baggage', { 'baggage.break_glass': 'true' }, 'break-glass'],
    [
      'a header before baggage',
      { 'baggage.purpose-of-use': 'RESEARCH', 'rpc.grpc.request.metadata.access-purpose': ['TREAT'] },
      'TREAT',
    ],
    [
      'broken glass with a reason',
      { 'http.request.header.x-break-glass': ['reanimation'] },
      'break-glass: reanimation',
    ],
    ['glass that is whole', { 'http.request.header.x-break-glass': ['false'] }, undefined],
    ['nothing', { purpose: 'prefetch', 'http.request.header.purpose': ['prefetch'] }, undefined],
  ])('is told by %s', (_, values, want) => {
    expect(purposeOf(new Map(Object.entries(values)), rules.purposes)).toBe(want);
  });
});
