import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Access } from '../../../src/access/access.ts';
import { PRESET_NAMES } from '../../../src/access/mappings/names.ts';
import { PRESETS } from '../../../src/access/mappings/presets/presets.ts';
import { recogniseLog } from '../../../src/access/recognise.ts';
import { compileRules } from '../../../src/access/rules.ts';
import { DEFAULT_ACCESS_SETTINGS } from '../../../src/access/settings.ts';
import type { LogRecord } from '../../../src/core/evidence.ts';
import { accessOf, log, NOTE, RULES, type Values } from '../evidence.ts';

const FOLDER = join(import.meta.dirname, '../../fixtures/presets');
/** After the samples were written. */
const OBSERVED_NS = BigInt(Date.UTC(2026, 10, 20, 12)) * 1_000_000n;

function linesOf(file: string): string[] {
  return readFileSync(join(FOLDER, file), 'utf8').trimEnd().split('\n');
}

/** A line as a Collector sends it: text, and no trace unless it has one. */
function untraced(body: LogRecord['body'], values: Values = {}, parts: Partial<LogRecord> = {}): LogRecord {
  const resource = { attributes: new Map() };
  return log(values, { body, traceId: '', spanId: '', observedNs: OBSERVED_NS, resource, ...parts });
}

/** The parts of an access that these tests are about, flat enough to be read in a row. */
function told(access: Access) {
  const { action, target, outcome, decision, reason, actor, ownId, startNs, sections } = access;
  return {
    did: `${action} ${target.type}:${target.id}`,
    outcome,
    decision,
    ...(reason !== undefined && { reason }),
    who: actor?.id,
    from: sections.source?.ip,
    id: ownId,
    at: new Date(Number(startNs / 1_000_000n)).toISOString(),
  };
}

type Row = readonly [file: string, line: number, expected: object];

/** One row for each sample line: what the record says in the end. */
const ROWS: readonly Row[] = [
  [
    'pgaudit.log',
    1,
    {
      did: 'SELECT table:postgresql/orders',
      outcome: 'success',
      decision: 'allow',
      who: undefined,
      at: '2026-11-20T10:00:00.123Z',
    },
  ],
  ['pgaudit.log', 2, { did: 'CREATE TABLE table:postgresql/shop.account', who: 'app', at: '2026-11-20T10:00:01.500Z' }],
  [
    'pgaudit.log',
    3,
    {
      did: 'UPDATE table:postgresql/shop.hr.salaries',
      who: 'mallory',
      from: '10.0.0.5',
      at: '2026-11-20T10:00:02.000Z',
    },
  ],
  [
    'pgaudit.log',
    4,
    { did: 'DELETE table:postgresql/shop.orders', who: 'mallory', from: '10.0.0.9', id: '6741a2f0.63/4' },
  ],
  [
    'pgaudit.log',
    5,
    {
      did: 'access table:postgresql/shop.salaries',
      outcome: 'failure',
      decision: 'deny',
      reason: 'permission denied for relation salaries',
      who: 'app',
      from: '10.1.1.1',
    },
  ],
  ['pgaudit.log', 6, { did: 'login account:mallory', outcome: 'failure', decision: 'deny' }],
  ['pgaudit.log', 7, { did: 'GRANT table:postgresql/orders', at: '2026-11-20T10:00:06.000Z' }],
  ['pgaudit.log', 8, { did: 'SELECT table:postgresql/shop.patients', who: 'bob', at: '2026-11-20T10:00:07.000Z' }],
  ['pgaudit.log', 9, { did: 'SET ROLE event:SET ROLE', who: undefined }],
  [
    'pgaudit.csv',
    1,
    {
      did: 'SELECT table:postgresql/shop.patients',
      outcome: 'success',
      who: 'mallory',
      from: '10.0.0.9',
      id: '6741a2f0.1267/3',
      at: '2026-11-20T10:01:00.123Z',
    },
  ],
  [
    'pgaudit.csv',
    2,
    {
      did: 'INSERT table:postgresql/shop.salaries',
      outcome: 'failure',
      decision: 'deny',
      who: 'app',
      from: undefined,
      id: '6741a2f1.1268/5',
    },
  ],
  [
    'pgaudit.csv',
    3,
    { did: 'login account:ghost', outcome: 'failure', decision: 'deny', from: '10.0.0.9', id: '6741a2f2.1269/1' },
  ],
  [
    'pgaudit.jsonl',
    1,
    { did: 'SELECT table:postgresql/shop.billing.invoices', who: 'app', from: '10.0.0.7', id: '6741a2f1.1268/6' },
  ],
  [
    'pgaudit.jsonl',
    2,
    { did: 'SELECT table:postgresql/shop.salaries', outcome: 'failure', decision: 'deny', id: '6741a2f1.1268/7' },
  ],
  [
    'pgaudit.jsonl',
    3,
    { did: 'SELECT table:postgresql/app.orders', who: 'app', from: '10.1.0.4', id: '6741a2f5.cb/2' },
  ],
  [
    'kubernetes.jsonl',
    1,
    {
      did: 'get secrets:secrets/shop/db-credentials',
      outcome: 'success',
      decision: 'allow',
      who: 'alice@example.com',
      from: '10.0.0.7',
      id: '5d5ce1b6-8d5e-4e2c-8d7c-4f6f5b1e6a01',
      at: '2026-11-20T09:15:02.123Z',
    },
  ],
  [
    'kubernetes.jsonl',
    2,
    {
      did: 'list secrets:secrets/kube-system',
      outcome: 'failure',
      decision: 'deny',
      who: 'system:serviceaccount:shop:orders',
      reason: expect.stringContaining('cannot list resource'),
    },
  ],
  [
    'kubernetes.jsonl',
    3,
    {
      did: 'create pods:pods/shop/orders-7d9f5c-x2x7k/exec',
      outcome: 'success',
      who: 'bob@example.com',
      from: '10.0.0.1',
    },
  ],
  [
    'kubernetes.jsonl',
    4,
    { did: 'list deployments:deployments/shop', outcome: 'failure', decision: 'deny', who: undefined },
  ],
  [
    'kubernetes.jsonl',
    5,
    { did: 'get endpoint:/logs/kube-apiserver.log', outcome: 'failure', decision: 'deny', who: 'system:anonymous' },
  ],
  [
    'opa.jsonl',
    1,
    {
      did: 'GET endpoint:finance/salary/alice',
      outcome: 'failure',
      decision: 'deny',
      who: 'bob',
      from: '10.0.0.20',
      id: '4ca636c1-55e4-417a-b1d8-4aceb67960d1',
      at: '2026-11-20T09:20:00.123Z',
    },
  ],
  [
    'opa.jsonl',
    2,
    {
      did: 'read patient:patient/7',
      outcome: 'success',
      decision: 'allow',
      who: 'alice',
      reason: 'nurse on the same ward',
    },
  ],
  [
    'opa.jsonl',
    3,
    {
      did: 'DELETE endpoint:/patients/7',
      decision: 'deny',
      who: 'carol',
      from: '10.1.1.5',
      reason: 'only administrators delete patients',
    },
  ],
  [
    'opa.jsonl',
    4,
    {
      did: 'CREATE pods:pods/shop/debug',
      decision: 'deny',
      who: 'bob@example.com',
      reason: expect.stringContaining('untrusted registry'),
    },
  ],
  [
    'opa.jsonl',
    5,
    {
      did: 'cancel resource:orders/17',
      decision: 'deny',
      who: 'mallory',
      reason: 'the policy has no decision for this input',
    },
  ],
  [
    'opa.jsonl',
    6,
    { did: 'read resource:orders/17', outcome: 'failure', decision: 'none', reason: 'rego_type_error: eval conflict' },
  ],
  [
    'cloudtrail.jsonl',
    1,
    {
      did: 'GetObject object:payroll/2026/11.csv',
      outcome: 'failure',
      decision: 'deny',
      who: 'arn:aws:sts::123456789012:assumed-role/DataAnalyst/alice@example.com',
      from: '203.0.113.7',
      id: 'e1a2b3c4-0001-4000-8000-000000000001',
      at: '2026-11-20T09:30:00.000Z',
    },
  ],
  [
    'cloudtrail.jsonl',
    2,
    { did: 'CreateUser account:backdoor', outcome: 'success', who: 'arn:aws:iam::123456789012:user/bob' },
  ],
  [
    'cloudtrail.jsonl',
    3,
    { did: 'ConsoleLogin account:carol', outcome: 'failure', decision: 'deny', reason: 'Failed authentication' },
  ],
  [
    'cloudtrail.jsonl',
    4,
    {
      did: 'AssumeRole AWS::IAM::Role:arn:aws:iam::123456789012:role/orders',
      outcome: 'success',
      who: 'ec2.amazonaws.com',
      from: undefined,
    },
  ],
  [
    'cloudtrail.jsonl',
    5,
    { did: 'TerminateInstances resource:i-0123456789', decision: 'deny', who: 'arn:aws:iam::123456789012:root' },
  ],
  [
    'envoy.jsonl',
    1,
    {
      did: 'GET endpoint:patients.shop.example /patients/{id}',
      outcome: 'success',
      from: '10.244.2.5',
      at: '2026-11-20T09:40:00.123Z',
      id: expect.stringContaining('8d0f9a3e-5c7b-9d11-8a55-6f1c2e3d4a5b/'),
    },
  ],
  [
    'envoy.jsonl',
    2,
    {
      did: 'POST endpoint:shop.example /orders',
      outcome: 'failure',
      decision: 'deny',
      reason: '403: denied by policy ns[shop]-policy[deny-all]-rule[0]',
    },
  ],
  [
    'envoy.jsonl',
    3,
    { did: 'GET endpoint:orders /orders/{id}', outcome: 'failure', decision: 'none', reason: '503: UF' },
  ],
  [
    'nginx.jsonl',
    1,
    {
      did: 'GET endpoint:patients.example /patients/{id}',
      outcome: 'success',
      who: 'alice',
      from: '203.0.113.7',
      at: '2026-11-20T08:50:00.200Z',
      id: '0f1e2d3c4b5a69788796a5b4c3d2e1f0/1795164600.250',
    },
  ],
  [
    'nginx.jsonl',
    2,
    {
      did: 'GET endpoint:patients.example /admin',
      outcome: 'failure',
      decision: 'deny',
      reason: '401 from patients.example',
    },
  ],
  [
    'nginx.jsonl',
    3,
    { did: 'DELETE endpoint:shop.example /orders/{id}', outcome: 'failure', decision: 'deny', who: undefined },
  ],
  [
    'hoop.jsonl',
    1,
    {
      did: 'session.open exec connection:pg-prod',
      outcome: 'success',
      decision: 'allow',
      who: 'google-oauth2|2243633',
      id: '8bfc995b-4f15-483b-8423-33f634865f14/open',
    },
  ],
  [
    'hoop.jsonl',
    2,
    {
      did: 'session.close session:8bfc995b-4f15-483b-8423-33f634865f14',
      outcome: 'failure',
      id: '8bfc995b-4f15-483b-8423-33f634865f14/close',
    },
  ],
  [
    'hoop.jsonl',
    3,
    {
      did: 'session.open connect connection:pg-readonly',
      who: 'user@example.com',
      id: '8c59a347-62bd-4db2-a456-2b25963dfebf/open',
    },
  ],
  [
    'hoop.jsonl',
    4,
    {
      did: 'create connections:connections/pg-prod',
      outcome: 'success',
      who: 'auth0|abc123',
      from: '192.168.1.100',
      at: '2026-11-20T10:00:00.000Z',
    },
  ],
  [
    'hoop.jsonl',
    5,
    { did: 'session.guardrail_violation connection:pg-prod', decision: 'deny', who: 'user@example.com' },
  ],
  [
    'hoop.jsonl',
    6,
    { did: 'exec connection:pgdemo', outcome: 'success', who: 'nJ1xV3', at: '2026-11-20T10:02:00.300Z' },
  ],
  [
    'hoop.jsonl',
    7,
    {
      did: 'delete table:pg-prod/customers',
      decision: 'deny',
      who: 'alice@example.com',
      reason: 'deletes need a review',
    },
  ],
  [
    'ecs.jsonl',
    1,
    {
      did: 'file-opened file:/data/patients/7.pdf',
      outcome: 'success',
      who: '1001',
      from: '10.0.0.7',
      id: 'ev-1',
      at: '2026-11-20T10:10:00.000Z',
    },
  ],
  ['ecs.jsonl', 2, { did: 'added-user-to-group account:mallory', outcome: 'success', who: 'root' }],
  [
    'ecs.jsonl',
    3,
    { did: 'ssh_login account:bob', outcome: 'failure', decision: 'deny', reason: 'Failed password for bob' },
  ],
  [
    'cloudtrail.jsonl',
    6,
    {
      did: 'StartInstances resource:i-ebeaf9e2',
      outcome: 'success',
      id: '',
      who: 'arn:aws:iam::123456789012:user/Alice',
      at: '2014-03-06T21:22:54.000Z',
    },
  ],
  [
    'cloudtrail.jsonl',
    7,
    { did: 'Decrypt AWS::KMS::Key:arn:aws:kms:us-east-1:123456789012:key/abc', decision: 'deny' },
  ],
  ['cloudtrail.jsonl', 8, { did: 'ConsoleLogin account:bob', outcome: 'success', decision: 'none' }],
  ['opa.jsonl', 7, { did: 'GET endpoint:/salary/bob', decision: 'allow', from: '::1' }],
  ['opa.jsonl', 8, { did: 'write resource:reports', decision: 'deny', who: 'eve', reason: 'no write at night' }],
  [
    'opa.jsonl',
    9,
    { did: 'DELETE deployments:deployments/shop/orders', decision: 'deny', who: 'dev', reason: 'not in freeze' },
  ],
  ['opa.jsonl', 10, { did: 'view resource:doc:1', decision: 'deny', reason: 'refused by rbac/check' }],
  ['nginx.jsonl', 4, { did: 'GET endpoint:shop.example /orders/{id}', outcome: 'success' }],
  [
    'envoy.jsonl',
    4,
    { did: 'connect service:outbound|3306||mysql.shop.svc.cluster.local', outcome: 'unknown', from: '10.0.0.7' },
  ],
  ['envoy.jsonl', 5, { did: 'GET endpoint:shop /admin', decision: 'deny', reason: '403: ext_authz_denied' }],
  [
    'kubernetes.jsonl',
    6,
    { did: 'create clusterrolebindings:clusterrolebindings/evil', decision: 'allow', who: 'kubernetes-admin' },
  ],
  ['kubernetes.jsonl', 7, { did: 'delete namespaces:namespaces/shop', outcome: 'success', decision: 'none' }],
  ['pgaudit.jsonl', 4, { did: 'SELECT table:postgresql/finances.revenue', who: 'alice', id: 'i1' }],
];

describe('every preset reads its samples', () => {
  it.each(ROWS)('%s line %i', (file, line, expected) => {
    const access = accessOf(untraced(linesOf(file)[line - 1] ?? ''));
    const preset = file.replace(/\..*$/, '');
    expect(access.preset).toBe(preset);
    expect(access.evidence).toMatchObject({ signal: 'logs', source: preset });
    const claimed = access.claimedAccount === undefined ? {} : { who: undefined };
    expect({ ...told(access), ...claimed }).toMatchObject(expected);
  });

  it('and has a row for each line of each file, and a file for each preset', () => {
    const files = new Set(ROWS.map(([file]) => file));
    for (const file of files) {
      expect(ROWS.filter(([name]) => name === file).map(([, line]) => line)).toEqual(
        linesOf(file).map((_, at) => at + 1),
      );
    }
    expect(new Set([...files].map((file) => file.replace(/\..*$/, '')))).toEqual(new Set(PRESET_NAMES));
    expect(Object.keys(PRESETS)).toEqual([...PRESET_NAMES]);
  });

  it('is the same whether a Collector sends text, a parsed body or parsed attributes', () => {
    for (const [file, line] of ROWS.filter(([name]) => name.endsWith('.jsonl'))) {
      const text = linesOf(file)[line - 1] ?? '';
      const parsed = JSON.parse(text) as Values;
      const withoutNull = JSON.parse(text, (_, value: unknown) => value ?? undefined) as Values;
      const asText = told(accessOf(untraced(text)));
      expect(told(accessOf(untraced(parsed as LogRecord['body'])))).toEqual(asText);
      expect(told(accessOf(untraced(text, withoutNull)))).toEqual(asText);
      expect(told(accessOf(untraced(undefined, withoutNull)))).toEqual(asText);
    }
  });

  it('takes it for what its sender says, too', () => {
    for (const [file, line] of ROWS) {
      const preset = file.replace(/\..*$/, '');
      const text = linesOf(file)[line - 1] ?? '';
      expect(accessOf(untraced(text, { 'spantrail.preset': preset })).preset).toBe(preset);
      const other = preset === 'hoop' ? 'cloudtrail' : 'hoop';
      const unfit = recogniseLog(untraced(text, { 'spantrail.preset': other }), RULES);
      expect(unfit).toEqual({ kind: 'context', unfit: other });
    }
  });
});

describe('what the samples tell besides', () => {
  const sample = (file: string, line: number): Access => accessOf(untraced(linesOf(file)[line - 1] ?? ''));

  it('pgaudit: the statement without values, and that the database itself tells of it', () => {
    const access = sample('pgaudit.log', 4);
    expect(access).toMatchObject({ outOfBand: true, type: ['deletion', 'allowed'], category: ['database'] });
    expect(access.sections.db?.statement).toBe('delete from orders where note = ?');
    expect(sample('pgaudit.log', 7).category).toEqual(['database', 'iam']);
    expect(sample('pgaudit.jsonl', 2).sections.db).toMatchObject({
      status_code: '42501',
      statement: 'SELECT * FROM salaries WHERE name = ?',
    });
    expect(sample('pgaudit.log', 6)).toMatchObject({ claimedAccount: 'mallory', error: { type: '28P01' } });
  });

  it('pgaudit: on a trace the login is not the person', () => {
    const line = linesOf('pgaudit.csv')[0] ?? '';
    const access = accessOf(log({}, { body: line, observedNs: OBSERVED_NS }));
    expect(access.actor).toBeUndefined();
    expect(access).toMatchObject({ effective: { name: 'mallory' }, outOfBand: true });
    expect(access.unstated).toEqual(['action', 'target', 'type']);
  });

  it('Kubernetes: the binding that allowed it, on whose behalf, who does it', () => {
    expect(sample('kubernetes.jsonl', 1)).toMatchObject({
      rule: { name: 'RoleBinding "shop/developers" of ClusterRole "edit"' },
      checks: [{ permission: 'get secrets', granted: true, engine: 'kubernetes' }],
      sections: { orchestrator: { namespace: 'shop', resource: { name: 'db-credentials' } } },
    });
    expect(sample('kubernetes.jsonl', 2)).toMatchObject({ actor: { type: 'service' }, checks: [{ granted: false }] });
    expect(sample('kubernetes.jsonl', 3).actor).toMatchObject({
      effective: { id: 'system:serviceaccount:shop:breakglass' },
      roles: ['support', 'system:authenticated'],
    });
  });

  it('OPA: the decision is a check with its duration', () => {
    expect(sample('opa.jsonl', 1).checks).toEqual([
      {
        permission: 'GET',
        target: 'finance/salary/alice',
        granted: false,
        rule: 'httpapi/authz/allow',
        duration: 213456,
        engine: 'opa',
      },
    ]);
  });

  it('CloudTrail: the person behind a role, and what IAM refused', () => {
    expect(sample('cloudtrail.jsonl', 1)).toMatchObject({
      actor: {
        name: 'alice@example.com',
        roles: ['DataAnalyst'],
        domain: '123456789012',
        effective: { name: 'DataAnalyst' },
      },
      checks: [
        {
          permission: 's3:GetObject',
          target: 'arn:aws:s3:::payroll/2026/11.csv',
          granted: false,
          rule: 'no identity-based policy allows the s3:GetObject action',
        },
      ],
    });
    expect(sample('cloudtrail.jsonl', 3).claimedAccount).toBe('carol');
    expect(sample('cloudtrail.jsonl', 4).actor?.type).toBe('service');
  });

  it('access logs: secrets in queries go, and whom a 401 names is claimed', () => {
    expect(sample('nginx.jsonl', 1).sections.url).toMatchObject({ path: '/patients/7', query: 'token=***' });
    expect(sample('nginx.jsonl', 2)).toMatchObject({ claimedAccount: 'mallory', category: ['web', 'authentication'] });
    const probe = JSON.stringify({
      remote_addr: '10.0.0.1',
      request: 'GET /healthz HTTP/1.1',
      status: 200,
      time_iso8601: '2026-11-20T09:50:00Z',
    });
    expect(recogniseLog(untraced(probe), RULES)).toMatchObject({ kind: 'excluded' });
  });

  it('hoop.dev: the statement of the session, without values', () => {
    expect(sample('hoop.jsonl', 1).sections.db?.statement).toBe('SELECT * FROM customers WHERE name = ?');
  });

  it('Kubernetes: who connected comes last in sourceIPs, what stands before anybody can write', () => {
    const event = {
      ...JSON.parse(linesOf('kubernetes.jsonl')[0] ?? ''),
      sourceIPs: ['6.6.6.6', '192.0.2.7', '10.0.0.1'],
    };
    const from = (rules = RULES) => {
      const verdict = recogniseLog(untraced(JSON.stringify(event)), rules);
      return verdict.kind === 'access' ? verdict.access.sections.source?.ip : verdict;
    };
    expect(from()).toBe('10.0.0.1');
    const origin = { trustedProxies: ['10.0.0.0/8'], headers: ['x-forwarded-for'] };
    expect(from(compileRules({ ...DEFAULT_ACCESS_SETTINGS, origin }))).toBe('192.0.2.7');
  });

  it('Envoy: the caller of x-forwarded-client-cert, not who was called; what gRPC says of the outcome', () => {
    const line = {
      ...{ start_time: '2026-11-20T09:50:00Z', method: 'POST', path: '/pay.Payments/Charge', authority: 'pay' },
      ...{ response_code: 200, response_flags: '-', request_id: 'r1' },
    };
    const cert =
      'By=spiffe://cluster.local/ns/shop/sa/pay;Hash=ab;Subject="";URI=spiffe://cluster.local/ns/shop/sa/orders';
    const mesh = accessOf(untraced(JSON.stringify({ ...line, x_forwarded_client_cert: cert })));
    expect(mesh.actor?.id).toBe('spiffe://cluster.local/ns/shop/sa/orders');
    const unnamed = accessOf(untraced(JSON.stringify({ ...line, x_forwarded_client_cert: cert.split(';URI')[0] })));
    expect(unnamed.actor?.id).toBeUndefined();
    for (const told of [{ grpc_status: 'PermissionDenied' }, { grpc_status_number: 7 }]) {
      expect(accessOf(untraced(JSON.stringify({ ...line, ...told })))).toMatchObject({
        outcome: 'failure',
        decision: 'deny',
      });
    }
    const failed = accessOf(untraced(JSON.stringify({ ...line, grpc_status: 'Unavailable' })));
    expect(failed).toMatchObject({ outcome: 'failure', decision: 'none', reason: 'gRPC status Unavailable' });
    expect(accessOf(untraced(JSON.stringify({ ...line, grpc_status: 'OK' }))).outcome).toBe('success');
  });

  it('nginx: a certificate that failed the check names nobody', () => {
    const line = { ...JSON.parse(linesOf('nginx.jsonl')[0] ?? ''), remote_user: '-', ssl_client_s_dn: 'CN=carl' };
    const actor = (verify: string) =>
      accessOf(untraced(JSON.stringify({ ...line, ssl_client_verify: verify }))).actor?.id;
    expect(actor('SUCCESS')).toBe('CN=carl');
    expect(actor('FAILED:self-signed certificate')).toBeUndefined();
  });

  it('ECS: a 403 is a refusal, users at the ends of a connection act, and objects of Kibana are targets', () => {
    const line = { '@timestamp': '2026-11-20T09:50:00Z', ecs: { version: '8.11' }, user: { name: 'eve' } };
    const event = { category: ['web'], type: ['access'], outcome: 'failure' };
    const http = { request: { method: 'GET' }, response: { status_code: 403 } };
    const refused = accessOf(untraced(JSON.stringify({ ...line, event, http, url: { path: '/x/9' } })));
    expect(refused).toMatchObject({ outcome: 'failure', decision: 'deny', actor: { name: 'eve' } });
    const login = {
      ...line,
      event: { ...event, action: 'logged-in', outcome: 'success' },
      user: { target: { name: 'x' } },
    };
    expect(accessOf(untraced(JSON.stringify({ ...login, client: { user: { name: 'cl' } } }))).actor?.name).toBe('cl');
    const kibana = { ...login, user: { name: 'kib' }, kibana: { saved_object: { type: 'dashboard', id: 'd-1' } } };
    expect(accessOf(untraced(JSON.stringify(kibana))).target).toMatchObject({ type: 'dashboard', id: 'dashboard/d-1' });
  });

  it('CloudTrail: a request without credentials is of nobody', () => {
    const userIdentity = { type: 'AWSAccount', principalId: '', accountId: 'ANONYMOUS_PRINCIPAL' };
    const event = { ...JSON.parse(linesOf('cloudtrail.jsonl')[0] ?? ''), userIdentity };
    expect(accessOf(untraced(JSON.stringify(event))).actor?.type).toBe('anonymous');
  });

  it.each([
    ['LOG:  00000: AUDIT: SESSION,1,1,READ,SELECT,TABLE,public.pay,select * from pay,<none>', 'SELECT pay'],
    ['ERROR:  42501: permission denied for table pay at character 5', 'access pay'],
    ['ERROR:  new row violates row-level security policy for table "pay"', 'access pay'],
    ['ERROR:  query would be affected by row-level security policy for table "pay"', 'access pay'],
    ['FATAL:  permission denied for database "shop"', 'access postgresql/shop'],
    ['FATAL:  role "app" does not exist', 'login app'],
    ['FATAL:  role "app" is not permitted to log in', 'login app'],
  ])('PostgreSQL: %s', (message, did) => {
    const { action, target } = accessOf(untraced(`2026-11-20 10:00:02.000 UTC [99] app@shop ${message}`));
    expect(`${action} ${target.id.split('.').at(-1)}`).toBe(did);
  });

  it('untrusted senders tell neither actor nor outcome', () => {
    for (const [file, line] of ROWS) {
      const body = linesOf(file)[line - 1] ?? '';
      const access = accessOf(untraced(body, {}, { note: { ...NOTE, trusted: false } }));
      expect(access).toMatchObject({ outcome: 'unknown', decision: 'none', whySource: 'none' });
      for (const claim of ['actor', 'rule', 'checks', 'reason', 'outOfBand', 'effective'] as const) {
        expect(access[claim]).toBeUndefined();
      }
    }
  });
});

describe('what presets leave alone', () => {
  it.each([
    [
      'earlier stages of a request',
      JSON.stringify({ ...JSON.parse(linesOf('kubernetes.jsonl')[0] ?? ''), stage: 'RequestReceived' }),
    ],
    [
      'a connection of PostgreSQL',
      '2026-11-20 10:00:02.000 UTC [99] app@shop LOG:  connection authorized: user=app database=shop',
    ],
    ['a checkpoint', '2026-11-20 10:00:02.000 UTC [99] LOG:  checkpoint starting: time'],
    ['a statement below an error', '2026-11-20 10:00:02.000 UTC [99] app@shop STATEMENT:  select * from salaries'],
    [
      'an error of a statement',
      '2026-11-20 10:00:02.000 UTC [99] app@shop ERROR:  duplicate key value violates unique constraint "x"',
    ],
    [
      'a log line in ECS',
      '{"@timestamp":"2026-11-20T10:10:00Z","ecs":{"version":"1.6.0"},"log.level":"info","message":"started"}',
    ],
    ['JSON of an application', '{"level":"info","status":200,"msg":"GET /","user":"alice"}'],
    ['a line of text', 'user alice logged in'],
  ])('%s', (_, body) => expect(recogniseLog(untraced(body), RULES)).toEqual({ kind: 'context' }));
});
