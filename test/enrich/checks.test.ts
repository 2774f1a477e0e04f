import { describe, expect, it } from 'vitest';
import { compileRules } from '../../src/access/rules.ts';
import { DEFAULT_ACCESS_SETTINGS } from '../../src/access/settings.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import type { LogRecord, Span } from '../../src/core/evidence.ts';
import type { AuditRecord, Check } from '../../src/core/record.ts';
import { createSettle } from '../../src/enrich/settle.ts';
import { log, type SpanFields, span, spanId, TRACE_ID } from './evidence.ts';
import { alice, event, REFUSED, REFUSED_CODE, request, statement, text } from './settling.ts';

const settle = createSettle(
  compileRules({
    ...DEFAULT_ACCESS_SETTINGS,
    checks: { rules: [], roleTables: [{ table: 'user_roles' }], hosts: [] },
    purpose: settingsSchema.parse({}).purpose,
  }),
  { traceUrlTemplate: '' },
);

function settled(spans: readonly Span[], logs: readonly LogRecord[] = []) {
  const all = settle({ namespace: 'default', traceId: TRACE_ID, spans, logs });
  // The set decides, not the order.
  const reversed = { namespace: 'default', traceId: TRACE_ID, spans: spans.toReversed(), logs: logs.toReversed() };
  expect(text(settle(reversed))).toBe(text(all));
  return all;
}

function entryOf(spans: readonly Span[], logs: readonly LogRecord[] = []): AuditRecord {
  const entries = settled(spans, logs).records.filter(({ record }) => record.audit.entry);
  expect(entries).toHaveLength(1);
  return entries[0]?.record ?? expect.unreachable();
}

const asked = (fields: Partial<SpanFields> = {}) =>
  span({
    ...{ id: '2', parent: '1', kind: 'client', name: 'POST', ms: [5, 12] },
    attributes: { 'http.request.method': 'POST', 'url.full': 'http://opa:8181/v1/data/orders/allow' },
    ...fields,
  });
const answered = (fields: Partial<SpanFields> = {}) =>
  span({
    ...{ id: '3', parent: '2', kind: 'server', name: 'v1/data', service: 'opa', ms: [6, 11] },
    attributes: {
      'http.request.method': 'POST',
      'url.path': '/v1/data/orders/allow',
      'http.response.status_code': 200,
    },
    ...fields,
  });
const decision = (granted: boolean, fields: Partial<Parameters<typeof log>[0]> = {}) =>
  log({
    ...{ span: '3', ms: 10, service: 'opa' },
    attributes: {
      'audit.check.engine': 'opa',
      'audit.check.permission': 'orders:read',
      'audit.check.target': 'orders/7',
      'audit.check.rule': 'orders/allow',
      'audit.check.granted': String(granted),
      'audit.check.duration': 900_000,
    },
    ...fields,
  });
const refused = request({ id: '1', attributes: {} }, 403, alice);
const allowed = request({ id: '1' }, 200, alice);
const OPA: Check = {
  ...{ permission: 'orders:read', target: 'orders/7', rule: 'orders/allow', engine: 'opa' },
  ...{ granted: false, span_id: spanId('3'), duration: 7_000_000 },
};

describe('a request that a policy engine refused', () => {
  it('names actor, permission, rule, the span that decided and how long the check took', () => {
    const entry = entryOf([refused, asked(), answered()], [decision(false)]);
    expect(entry).toMatchObject({
      user: { id: 'alice' },
      event: { outcome: 'failure', reason: 'orders:read on orders/7 was not granted by opa orders/allow' },
      rule: { name: 'orders/allow' },
      audit: { decision: 'deny', denied_by: 'orders/allow', why: { source: 'check' }, checks: [OPA] },
    });
    expect(entry.audit.path?.map(({ span_id, status }) => [span_id, status])).toEqual([
      [spanId('1'), 'denied'],
      [spanId('2'), 'ok'],
      [spanId('3'), 'denied'],
    ]);
    expect(entry.audit.evidence.map(({ source, id }) => [source, id])).toEqual([
      ['http.server', spanId('1')],
      ['check.opa', expect.stringMatching(/^[0-9a-f]{32,}$/)],
      ['check.opa', spanId('3')],
      ['check.opa', spanId('2')],
    ]);
    expect(entry.message).toMatch(
      /^alice \(nurse\) was refused GET on .*: orders:read on orders\/7 was not granted by/,
    );
  });

  it('has one record, all of whose evidence is used', () => {
    const { records, counts } = settled([refused, asked(), answered()], [decision(false)]);
    expect(records).toHaveLength(1);
    expect(counts).toEqual({ used: 4, context: 0, excluded: 0, duplicate: 0 });
  });

  it('is told without the engine’s own evidence, from what followed', () => {
    const { engine, rule } = OPA;
    expect(entryOf([refused, asked()]).audit.checks).toEqual([
      { engine, rule, granted: false, inferred: true, span_id: spanId('2'), duration: 7_000_000 },
    ]);
    expect(entryOf([allowed, asked()]).audit.checks).toMatchObject([{ granted: true, inferred: true }]);
    expect(entryOf([allowed, asked()]).event.reason).toBeUndefined();
  });

  it('is told by a decision whose span never came', () => {
    const [check, ...rest] = entryOf([refused, asked()], [decision(false, { span: '9' })]).audit.checks ?? [];
    expect(rest).toEqual([]);
    expect(check).toMatchObject({
      permission: 'orders:read',
      granted: false,
      span_id: spanId('2'),
      duration: 7_000_000,
    });
    const alone = entryOf([refused], [decision(false, { span: '9' })]).audit.checks;
    expect(alone).toEqual([{ ...OPA, span_id: spanId('9'), duration: 900_000 }]);
  });

  it('blames the last thing asked, and only what was asked before the answer', () => {
    const first = asked({ id: '4', ms: [1, 3] });
    const { checks } = entryOf([refused, first, asked()]).audit;
    expect(checks?.map(({ span_id, granted }) => [span_id, granted])).toEqual([
      [spanId('4'), true],
      [spanId('2'), false],
    ]);
    // A check that says that it was not granted leaves no blame for the others.
    const stated = entryOf([refused, first, asked(), answered({ parent: '4', ms: [1, 3] })], [decision(false)]);
    expect(stated.audit.checks?.map(({ granted }) => granted)).toEqual([false, true]);
  });

  it('is refused by the database when that is what failed', () => {
    const denied = statement({ id: '5', parent: '1', ms: [20, 30], ...REFUSED }, REFUSED_CODE);
    const entry = entryOf([refused, asked(), denied]);
    expect(entry.event.reason).toBe('permission denied for table orders (42501)');
    expect(entry.audit.checks).toMatchObject([
      { engine: 'opa', granted: true, inferred: true },
      {
        engine: 'database',
        permission: 'SELECT',
        target: 'shop.orders',
        granted: false,
        rule: '42501',
        duration: 10e6,
      },
    ]);
    expect(entry.audit.path?.at(-1)).toMatchObject({ span_id: spanId('5'), status: 'denied' });
  });

  it('stays the request when the engine runs inside of the service and names its span', () => {
    const fields = { 'audit.target.id': 'orders/7', 'audit.decision': 'deny', 'event.action': 'read' };
    const own = decision(false, { span: '1' });
    const told = { ...own, attributes: new Map([...own.attributes, ...Object.entries(fields)]) };
    const entry = entryOf([refused], [told]);
    expect(entry).toMatchObject({
      event: { action: 'GET', reason: 'orders:read on orders/7 was not granted by opa orders/allow' },
      audit: { checks: [{ engine: 'opa', granted: false }], denied_by: 'orders/allow' },
    });
    expect(entry.audit.join.conflicts).toBeUndefined();
    // The application's own event is still the only one on the span.
    const said = event({ span: '1', attributes: { 'event.action': 'open-order', 'event.id': 'e1' } });
    expect(entryOf([refused], [told, said]).event.action).toBe('open-order');
  });

  it('is refused by the database when its own log says so', () => {
    const denied = statement({ id: '5', parent: '1', ms: [20, 30], ...REFUSED }, REFUSED_CODE);
    const line = log({
      ...{ span: '5', ms: 25, service: 'shop-db' },
      attributes: {
        ...{ 'audit.out_of_band': 'true', 'event.id': 's1/1', 'db.system.name': 'postgresql', 'db.namespace': 'shop' },
        ...{ 'db.collection.name': 'orders', 'db.operation.name': 'SELECT', 'db.response.status_code': '42501' },
        ...{
          'event.outcome': 'failure',
          'audit.decision': 'deny',
          'event.reason': 'permission denied for table orders',
        },
        ...{ 'event.action': 'SELECT', 'spantrail.tie': 'statement' },
      },
    });
    const { records } = settled([refused, denied], [line]);
    const checks = [{ engine: 'database', permission: 'SELECT', target: 'shop.orders', granted: false, rule: '42501' }];
    expect(records).toHaveLength(2);
    for (const { record } of records) expect(record.audit.checks).toMatchObject(checks);
  });

  it('is not explained by something else that failed', () => {
    const failed = span({ id: '5', parent: '1', kind: 'client', ms: [20, 30], status: [2, 'socket hang up'] });
    expect(entryOf([refused, asked(), failed]).audit.checks).toMatchObject([{ engine: 'opa', granted: false }]);
    const answer = { 'http.request.method': 'GET', 'http.response.status_code': 403, 'server.address': 'stock' };
    const told = entryOf([refused, asked(), { ...failed, attributes: new Map(Object.entries(answer)) }]);
    expect(told.audit.checks).toMatchObject([
      { engine: 'opa', granted: true },
      { engine: 'http', target: 'stock', granted: false },
    ]);
    expect(told.event.reason).toBe('socket hang up');
  });

  it('was not refused when the check failed and nobody minded', () => {
    const broken = asked({ status: [2, 'connect ECONNREFUSED'] });
    expect(entryOf([allowed, broken]).audit.checks).toMatchObject([{ granted: true, inferred: true }]);
    const failed = request({ id: '1', status: [2] }, 500, alice);
    expect(entryOf([failed, broken]).audit.checks).toMatchObject([{ granted: false, inferred: true }]);
  });

  it('is the same access however late the decision comes, and the decision alone has a record of its own', () => {
    const fields = { 'audit.target.id': 'orders/7', 'audit.decision': 'deny', 'event.action': 'read' };
    const own = decision(false);
    const told = { ...own, attributes: new Map([...own.attributes, ...Object.entries(fields)]) };
    const alone = settled([], [told]);
    expect(alone.records).toHaveLength(1);
    const whole = settled([refused, asked(), answered()], [told]);
    expect(whole.records.map(({ record }) => record.event.action)).toEqual(['GET']);
    expect(whole.superseded.get(alone.records[0]?.id ?? '')).toBe(whole.records[0]?.id);
    expect(whole.records[0]?.record.audit.checks).toEqual([OPA]);
  });
});

describe('checks of a service below', () => {
  const gateway = request({ id: '1', service: 'gateway', ms: [0, 60] }, 403, alice);
  const call = span({ id: '8', parent: '1', kind: 'client', name: 'GET', service: 'gateway', ms: [1, 59] });
  const orders = request({ id: '6', parent: '8', ms: [2, 58] }, 403);

  it('stand in its record and in those above', () => {
    const { records } = settled([gateway, call, orders, asked({ parent: '6' }), answered()], [decision(false)]);
    expect(records.map(({ record }) => [record.service?.name, record.audit.checks, record.audit.denied_by])).toEqual([
      ['gateway', [OPA], 'orders/allow'],
      ['orders', [OPA], 'orders/allow'],
    ]);
    expect(records[0]?.record.audit.path?.map(({ span_id }) => span_id)).toEqual(['1', '8', '6', '2', '3'].map(spanId));
  });

  it('of one that is only a status are told once, where the status arose', () => {
    const { records } = settled([gateway, call, orders]);
    const http = { permission: 'GET', target: 'orders/7', granted: false, rule: '403', engine: 'http' };
    expect(records.map(({ record }) => record.audit.checks)).toEqual(
      Array(2).fill([{ ...http, span_id: spanId('6'), duration: 56e6 }]),
    );
    expect(records[0]?.record.event.reason).toBe('403 from orders; no rule in evidence');
  });

  it('that sends no evidence are what it answered', () => {
    const rpc = { 'rpc.system': 'grpc', 'rpc.service': 'Rx', 'rpc.method': 'Prescribe', 'rpc.grpc.status_code': 7 };
    const asks = span({
      ...{
        id: '2',
        parent: '1',
        kind: 'client',
        service: 'gateway',
        status: [2, '7 PERMISSION_DENIED: no'],
        ms: [5, 9],
      },
      attributes: { ...rpc, 'server.address': 'rx' },
    });
    const entry = entryOf([gateway, asks]);
    expect(entry.audit.checks).toMatchObject([
      {
        engine: 'rpc',
        permission: 'Prescribe',
        target: 'rx',
        granted: false,
        rule: 'PERMISSION_DENIED',
        duration: 4e6,
      },
    ]);
    // The caller's span that explains the server's refusal is evidence of it.
    const answers = span({ id: '3', parent: '2', kind: 'server', service: 'rx', attributes: rpc, ms: [6, 8] });
    for (const { record } of settled([gateway, asks, answers]).records) {
      expect(record.audit.evidence).toContainEqual(expect.objectContaining({ source: 'rpc.client', id: spanId('2') }));
    }
  });

  it('are so many that the refused ones stay', () => {
    const many = Array.from({ length: 100 }, (_, index) =>
      asked({ id: (256 + index).toString(16), parent: '6', ms: [3 + index / 10, 3.05 + index / 10] }),
    );
    const [, record] = settled([gateway, call, orders, ...many]).records;
    const { checks = [] } = record?.record.audit ?? {};
    expect(checks).toHaveLength(64);
    expect(checks.filter(({ granted }) => !granted)).toMatchObject([{ span_id: many.at(-1)?.spanId }]);
  });
});

describe('one call of an engine', () => {
  const rpc = { 'rpc.system': 'grpc', 'rpc.service': 'openfga.v1.OpenFGAService' };
  const tuple = (object: string, allowed: boolean) => ({
    ...{ store_id: 's', object, relation: 'viewer', user: 'user:alice', allowed },
  });
  const client = asked({ attributes: { ...rpc, 'rpc.method': 'Check' } });
  const server = answered({ attributes: { ...rpc, 'rpc.method': 'Check' }, service: 'openfga', name: 'Check' });

  it('is one check over three spans, as the deepest one has it', () => {
    const own = span({
      id: '4',
      parent: '3',
      service: 'openfga',
      name: 'Check',
      ms: [7, 10],
      attributes: tuple('doc:7', false),
    });
    expect(entryOf([refused, client, server, own]).audit.checks).toEqual([
      {
        ...{ engine: 'openfga', permission: 'viewer', target: 'doc:7', granted: false },
        ...{ span_id: spanId('4'), duration: 7_000_000 },
      },
    ]);
  });

  it('may ask for several things', () => {
    const own = ['doc:7', 'doc:8'].map((object, index) =>
      span({ id: `${index + 4}`, parent: '3', service: 'openfga', attributes: tuple(object, index === 0), ms: [7, 8] }),
    );
    const checks = entryOf([refused, client, server, ...own]).audit.checks ?? [];
    expect(checks.map(({ target, granted }) => [target, granted])).toEqual([
      ['doc:7', true],
      ['doc:8', false],
    ]);
  });
});

describe('a table of roles', () => {
  const roles = statement(
    { id: '2', parent: '1', ms: [3, 4] },
    { 'db.collection.name': 'user_roles', 'db.query.text': 'SELECT role FROM user_roles WHERE id = $1' },
  );
  const read = statement({ id: '3', parent: '1', ms: [10, 20] });

  it('is asked about the request, which went on when it was granted', () => {
    const check = {
      ...{ permission: 'GET', target: 'orders/7', granted: true, inferred: true },
      ...{ rule: 'user_roles', engine: 'role_table', span_id: spanId('2'), duration: 1e6 },
    };
    const { records } = settled([allowed, roles, read]);
    expect(records.map(({ record }) => [record.event.action, record.audit.checks])).toEqual([
      ['GET', [check]],
      ['SELECT', undefined],
      ['SELECT', undefined],
    ]);
    const entry = entryOf([refused, roles]);
    expect(entry.audit.checks).toEqual([{ ...check, granted: false }]);
    expect(entry.event.reason).toBe('GET on orders/7 was not granted by role table user_roles');
  });
});

describe('a check that an event states', () => {
  const fields = {
    'audit.checks': [{ permission: 'orders:read', granted: false, rule: 'ward' }],
    'audit.decision': 'deny',
  };

  it('is one with the engine’s own evidence', () => {
    const own = event({ span: '1', attributes: { ...fields, 'event.action': 'read' } });
    const entry = entryOf([refused, asked(), answered()], [own, decision(false)]);
    expect(entry.audit.checks).toEqual([{ ...OPA, rule: 'ward' }]);
    expect(entry.audit.denied_by).toBe('ward');
  });

  it('in the application’s own words belongs to the request whose span it names', () => {
    const own = log({
      span: '1',
      attributes: { 'audit.check.permission': 'orders:read', 'audit.check.granted': 'no' },
    });
    expect(entryOf([refused], [own]).audit).toMatchObject({
      checks: [{ permission: 'orders:read', granted: false, engine: 'application', span_id: spanId('1') }],
      denied_by: 'orders:read',
    });
  });

  it('or its own span states, is its own and not its caller’s', () => {
    const gateway = request({ id: '1', service: 'gateway' }, 403, alice);
    const call = span({ id: '2', parent: '1', kind: 'client', service: 'gateway', name: 'GET' });
    const own = request({ id: '3', parent: '2' }, 403, { 'cedar.decision': 'deny', 'cedar.policy_id': 'p7' });
    const { records } = settled([gateway, call, own]);
    const check = { engine: 'cedar', rule: 'p7', granted: false, span_id: spanId('3') };
    expect(records.map(({ record }) => [record.service?.name, record.audit.denied_by, record.audit.checks])).toEqual([
      ['gateway', 'p7', [check]],
      ['orders', 'p7', [check]],
    ]);
  });

  it('of a sender without trust counts for nothing', () => {
    const untrusted = { trusted: false };
    const spans = [refused, asked({ note: untrusted }), answered({ note: untrusted })];
    expect(entryOf(spans, [decision(false, { note: untrusted })]).audit.checks).toMatchObject([{ engine: 'http' }]);
  });
});

describe('what a request is for', () => {
  it('goes down to what it did, and up to the gateway that passed it on', () => {
    const gateway = request({ id: '1', service: 'gateway' }, 200, alice);
    const orders = request({ id: '2', parent: '1' }, 200, { 'http.request.header.x-purpose-of-use': ['TREAT'] });
    const { records } = settled([gateway, orders, statement({ id: '3', parent: '2' })]);
    expect(records.map(({ record }) => record.audit.purpose)).toEqual(['TREAT', 'TREAT', 'TREAT']);
  });

  it('is what its event says first, and nothing that an untrusted sender says', () => {
    const header = { 'http.request.header.x-purpose-of-use': ['TREAT'], 'user.id': 'alice' };
    const own = event({ span: '1', attributes: { 'audit.purpose': 'research', 'event.action': 'read' } });
    expect(entryOf([request({ id: '1' }, 200, header)], [own]).audit.purpose).toBe('research');
    const { records } = settled([request({ id: '1', note: { trusted: false } }, 200, header)]);
    expect(records[0]?.record.audit.purpose).toBeUndefined();
  });
});

describe('the texts of a check', () => {
  it('lose the secrets in addresses and what a database quoted', () => {
    const target = 'https://shop.test/orders?access_token=s3cr3t&page=2';
    const told = { 'audit.check.target': target, 'audit.check.granted': 'no', 'audit.check.engine': 'opa' };
    const reason = { 'audit.check.reason': 'Key (email)=(bob@shop.test) is taken' };
    const entry = entryOf([refused, asked(), answered()], [log({ span: '3', attributes: { ...told, ...reason } })]);
    expect(JSON.stringify(entry)).not.toMatch(/s3cr3t|bob@/);
    expect(entry.event.reason).toBe(
      'on https://shop.test/orders?access_token=***&page=2 was not granted by opa orders/allow: Key (email)=(?) is taken',
    );
    const own = event({
      span: '1',
      attributes: { 'event.action': 'read', 'audit.checks': [{ granted: false, target }] },
    });
    expect(JSON.stringify(entryOf([refused], [own]))).not.toContain('s3cr3t');
  });
});

describe('a trace that is made of checks', () => {
  const opa = { 'http.request.method': 'POST', 'url.full': 'http://opa:8181/v1/data/allow' };
  const hex = (number: number) => number.toString(16);

  it('is settled in time: a chain of 8,000, a fan of 8,000, and as many decisions whose spans never came', () => {
    const chain = Array.from({ length: 8000 }, (_, index) => {
      const place = { id: hex(index + 1), parent: index === 0 ? '' : hex(index), ms: [1, 2] as const };
      return index === 0 ? request(place, 403) : span({ ...place, kind: 'client', attributes: opa });
    });
    const fan = chain.map((each, index) => (index === 0 ? each : { ...each, parentSpanId: spanId('1') }));
    const tuples = Array.from({ length: 8000 }, (_, index) =>
      span({
        ...{ id: hex(index + 2), parent: '1', ms: [1, 2] },
        attributes: { store_id: 's', object: `doc:${index}`, relation: 'viewer', allowed: index % 2 === 0 },
      }),
    );
    const lost = Array.from({ length: 8000 }, (_, index) => decision(false, { span: hex(index + 100_000), ms: 1 }));
    for (const [spans, logs] of [[chain], [fan], [[refused, ...tuples]], [fan, lost]] as const) {
      const evidence = { namespace: 'default', traceId: TRACE_ID, spans: [...spans], logs: [...(logs ?? [])] };
      const [entry] = settle(evidence).records;
      expect(entry?.record.audit.checks?.length).toBeGreaterThan(0);
      expect(entry?.record.audit.checks?.length).toBeLessThanOrEqual(64);
    }
  });
});
