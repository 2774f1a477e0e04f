import { describe, expect, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import { describeAccess, describeDuration } from '../../src/enrich/sentence.ts';

type Said = Pick<AuditRecord, 'user' | 'source' | 'http' | 'url' | 'db'> & {
  action: string;
  target: AuditRecord['audit']['target'];
  outcome?: AuditRecord['event']['outcome'];
  decision?: AuditRecord['audit']['decision'];
  reason?: string;
  actor?: Partial<AuditRecord['audit']['actor']>;
  category?: string[];
  entry?: boolean;
  ms?: number;
};

function sentence({
  action,
  target,
  outcome = 'success',
  decision = 'none',
  reason,
  actor,
  category = [],
  entry = true,
  ms = 0,
  ...sections
}: Said): string {
  const time = '2026-11-22T10:00:00.000000000Z';
  return describeAccess({
    '@timestamp': time,
    data_stream: { namespace: 'default' },
    event: {
      id: 'x',
      action,
      category,
      type: [],
      kind: 'event',
      outcome,
      ...(reason !== undefined && { reason }),
      start: time,
      end: time,
      created: time,
      ingested: time,
      duration: ms * 1e6,
    },
    ...sections,
    audit: {
      schema_version: 1,
      entry,
      actor: { type: 'user', attribution: 'span', verified: false, ...actor },
      target,
      decision,
      why: { source: 'none' },
      join: { state: 'complete', spans: 1, missing_parents: 0, orphans: 0, reason: 'complete', late: false },
      revision: 1,
      evidence: [],
    },
  });
}

const patients = { type: 'endpoint', id: 'patients/7', name: 'ward GET /patients/{id}', service: 'ward' };
const table = { type: 'table', id: 'postgresql/shop.orders', name: 'shop.orders' };
const account = { type: 'account', id: 'alice', name: 'alice' };
const get = { request: { method: 'GET' }, route: '/patients/{id}' };

const cases: [want: string, said: Said][] = [
  [
    'alice (nurse) was refused SELECT on shop.orders from 10.0.0.7: permission denied (42501), 41 ms',
    {
      user: { id: 'alice', roles: ['nurse'] },
      action: 'SELECT',
      target: table,
      outcome: 'failure',
      decision: 'deny',
      reason: 'permission denied (42501)',
      source: { ip: '10.0.0.7' },
      ms: 41,
    },
  ],
  [
    'bob read patients/7 (GET /patients/{id}) from 10.0.0.9, 12 ms',
    {
      user: { id: 'u-1', name: 'bob' },
      action: 'GET',
      target: patients,
      http: get,
      source: { ip: '10.0.0.9' },
      ms: 12,
    },
  ],
  [
    'bob was refused GET on patients/7 (/patients/{id}): 403 from ward; no rule in evidence, 2 ms',
    {
      user: { id: 'bob' },
      action: 'GET',
      target: patients,
      http: get,
      outcome: 'failure',
      decision: 'deny',
      reason: '403 from ward; no rule in evidence',
      ms: 2,
    },
  ],
  [
    'someone posted to /orders, 1.5 s',
    {
      action: 'POST',
      target: { type: 'endpoint', id: 'shop /orders', service: 'shop' },
      http: { request: { method: 'POST' }, route: '/orders' },
      ms: 1500,
    },
  ],
  [
    'someone claiming to be alice failed to log in from 10.0.0.7: invalid password',
    {
      action: 'login',
      target: account,
      outcome: 'failure',
      decision: 'deny',
      actor: { claimed: 'alice', type: 'anonymous' },
      reason: 'invalid password',
      source: { ip: '10.0.0.7' },
    },
  ],
  ['alice logged in', { user: { id: 'alice' }, action: 'login', target: account }],
  [
    'service billing published to invoices, 3 ms',
    {
      user: { id: 'billing' },
      actor: { type: 'service' },
      action: 'publish',
      target: { type: 'topic', id: 'kafka/invoices', name: 'invoices' },
      ms: 3,
    },
  ],
  [
    'agent planner failed to run the tool search: timeout',
    {
      user: { id: 'planner' },
      actor: { type: 'agent' },
      action: 'execute_tool',
      target: { type: 'tool', id: 'search' },
      outcome: 'failure',
      reason: 'timeout',
    },
  ],
  [
    'alice did approve_invoice on invoices/9, outcome unknown',
    {
      user: { id: 'alice' },
      action: 'approve_invoice',
      target: { type: 'object', id: 'invoices/9' },
      outcome: 'unknown',
    },
  ],
  [
    'bob failed to update shop.orders: value ? is too long, 1 ms',
    {
      user: { id: 'bob' },
      action: 'UPDATE',
      target: table,
      outcome: 'failure',
      reason: "value 'secret'\n is too long",
      ms: 1,
    },
  ],
  [
    'eve x was granted root read shop.orders',
    {
      user: { id: 'eve\u0000x\nwas granted\u202eroot' },
      action: 'SELECT',
      target: table,
      reason: 'not said of a success',
    },
  ],
];

const redis = { type: 'database', id: 'redis', service: 'redis' };
const claimed = { claimed: 'svc', type: 'anonymous' } as const;
const service = { user: { id: 'billing' }, actor: { type: 'service', attribution: 'service' } } as const;
const authentication = ['authentication'];

const domains: typeof cases = [
  [
    'someone claiming to be svc failed to log in to postgresql/clinic: password authentication failed for user "svc" (28P01)',
    {
      action: 'connect',
      target: { type: 'account', id: 'svc', name: 'svc', service: 'postgresql/clinic' },
      db: { system: 'postgresql', namespace: 'clinic' },
      category: ['database', 'authentication'],
      outcome: 'failure',
      decision: 'deny',
      actor: claimed,
      reason: 'password authentication failed for user "svc" (28P01)',
    },
  ],
  ['alice obtained a token', { user: { id: 'alice' }, action: 'issued', target: account, category: authentication }],
  [
    'service billing obtained a token for alice from 10.0.0.7',
    { ...service, action: 'issued', target: account, category: authentication, source: { ip: '10.0.0.7' } },
  ],
  [
    'someone claiming to be svc failed to obtain a token: expired',
    {
      action: 'token',
      target: { type: 'account', id: 'svc' },
      category: authentication,
      outcome: 'failure',
      decision: 'deny',
      actor: claimed,
      reason: 'expired',
    },
  ],
  [
    'alice did issued on invoices/9',
    { user: { id: 'alice' }, action: 'issued', target: { type: 'x', id: 'invoices/9' } },
  ],
  ['service billing read redis', { ...service, action: 'HGETALL', target: redis }],
  ['service billing wrote redis/0', { ...service, action: 'SETEX', target: { ...redis, id: 'redis/0', name: '0' } }],
  ...(
    [
      ['exported', 'COPY c.patients TO STDOUT'],
      ['imported into', 'COPY c.patients (a, b) FROM STDIN'],
      ['exported', 'COPY (SELECT a FROM c.patients) TO STDOUT'],
      ['copied', undefined],
    ] as const
  ).map(([deed, statement]): (typeof cases)[number] => [
    `bob ${deed} c.patients`,
    {
      user: { id: 'bob' },
      action: 'COPY',
      target: { type: 'table', id: 'postgresql/c.patients', name: 'c.patients' },
      db: { system: 'postgresql', ...(statement && { statement }) },
    },
  ]),
  [
    'service billing read scans/7/mri.dcm',
    {
      ...service,
      action: 'GetObject',
      target: { type: 'object', id: 'scans/7/mri.dcm', name: '7/mri.dcm', service: 'S3' },
    },
  ],
  [
    'service billing read shop.orders',
    { ...service, action: 'SELECT', target: table, entry: false, source: { ip: '127.0.0.1' } },
  ],
  [
    'someone read /slow',
    { action: 'GET', target: { type: 'endpoint', id: '/slow' }, http: { request: { method: 'GET' } } },
  ],
];

describe('the sentence of a record', () => {
  it.each([...cases, ...domains])('%s', (want, said) => expect(sentence(said)).toBe(want));

  it('stays short whatever the evidence says', () => {
    const long = 'x'.repeat(4000);
    const said = sentence({
      user: { id: long },
      action: long,
      target: { type: 'object', id: long },
      outcome: 'failure',
      reason: long,
    });
    expect(said.length).toBeLessThan(700);
  });

  it('holds no control or bidirectional characters, whatever the evidence says', () => {
    const strange = 'a\u001b[31m\u0000\u009b\n\u202eb\u2066c\u2028d';
    const target = { type: 'endpoint', id: strange, name: strange, service: strange };
    const outcomes = [{ outcome: 'success' }, { outcome: 'failure', decision: 'deny' }] as const;
    for (const ended of outcomes) {
      for (const type of ['endpoint', 'object', 'rpc', 'account']) {
        for (const category of [[], authentication]) {
          const said = sentence({
            ...{ ...ended, category, user: { name: strange, roles: [strange] }, reason: strange, action: strange },
            ...{ target: { ...target, type }, actor: { claimed: strange }, db: { system: strange } },
            ...{ http: { request: { method: strange }, route: `/${strange}` }, url: { path: strange } },
          });
          expect(said).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
        }
      }
    }
  });

  it.each([
    [0, '0 ns'],
    [1_500, '2 µs'],
    [999_600, '1 ms'],
    [41_400_000, '41 ms'],
    [999_600_000, '1 s'],
    [59_940_000_000, '59.9 s'],
    [59_960_000_000, '1 min'],
    [125_000_000_000, '2 min 5 s'],
    [3_600_000_000_000, '1 h'],
    [3_780_000_000_000, '1 h 3 min'],
  ])('says %i ns as %s', (nanoseconds, text) => expect(describeDuration(nanoseconds)).toBe(text));
});
