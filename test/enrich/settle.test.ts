import { describe, expect, it } from 'vitest';
import type { Settlement } from '../../src/core/settlement.ts';
import { log, span, spanId, TRACE_ID } from './evidence.ts';
import { alice, event, REFUSED, REFUSED_CODE, recordOf, request, settled, statement, text } from './settling.ts';

describe('an allowed request with a statement', () => {
  const settlement = settled([
    request({ id: '1' }, 200, alice),
    span({ id: '2', parent: '1', ms: [5, 40] }),
    statement({ id: '3', parent: '2' }),
  ]);

  it('is an entry that knows who, what, from where and where the time went', () => {
    const record = recordOf(settlement, 'GET');
    expect(record).toMatchObject({
      '@timestamp': '2026-11-22T10:00:00.000000000Z',
      message: 'alice (nurse) read orders/7 (GET /orders/{id}) from 10.0.0.7, 50 ms',
      event: {
        outcome: 'success',
        start: '2026-11-22T10:00:00.000000000Z',
        end: '2026-11-22T10:00:00.050000000Z',
        created: '2026-11-22T10:00:00.050000000Z',
        ingested: '2026-11-22T10:00:05.000000000Z',
        duration: 50e6,
      },
      user: { id: 'alice', roles: ['nurse'] },
      service: { name: 'orders' },
      trace: { id: TRACE_ID },
      span: { id: spanId('1') },
      transaction: { id: spanId('1') },
      related: { user: ['alice'], ip: ['10.0.0.7'] },
      audit: {
        entry: true,
        actor: { type: 'user', attribution: 'span', verified: false },
        target: { type: 'endpoint', id: 'orders/7', service: 'orders' },
        trace: {
          root: { service: 'orders', name: 'GET /orders/{id}' },
          duration: 50e6,
          span_count: 3,
          error_count: 0,
          services: ['orders'],
          self_time: 15e6,
          url: `https://jaeger.test/trace/${TRACE_ID}?uiFind=${spanId('1')}`,
        },
        db: { count: 1, duration: 20e6 },
        join: { state: 'complete', spans: 3, missing_parents: 0, orphans: 0, reason: 'complete', late: false },
        evidence: [{ signal: 'traces', source: 'http.server', sender: 'grpc', id: spanId('1') }],
      },
    });
    expect(record.audit.path).toHaveLength(1);
    expect(record.audit.trace?.critical_path?.map((step) => step.self_time)).toEqual([15e6, 15e6, 20e6]);
    expect(record.error).toBeUndefined();
    expect(record.audit.error_origin).toBeUndefined();
  });

  it('has the statement as an inner access of the same person, without its literals', () => {
    const record = recordOf(settlement, 'SELECT');
    const entry = recordOf(settlement, 'GET');
    expect(record).toMatchObject({
      user: { id: 'alice' },
      parent: { id: spanId('2') },
      audit: {
        entry: false,
        entry_id: entry.event.id,
        entry_action: 'GET',
        entry_target: 'orders/7',
        actor: { attribution: 'ancestor' },
        path: [
          { span_id: spanId('1') },
          { span_id: spanId('2') },
          { span_id: spanId('3'), start_offset: 10e6, duration: 20e6, status: 'ok' },
        ],
      },
    });
    expect(text(settlement)).not.toContain('secret');
  });

  it('accounts for every piece', () => {
    expect(settlement.counts).toEqual({ used: 2, context: 1, excluded: 0, duplicate: 0 });
  });
});

describe('evidence that names the actor', () => {
  const gateway = span({ id: '1', service: 'web', attributes: { 'http.request.header.x-user-id': ['alice'] } });
  const event1 = event({ span: '2', attributes: { 'user.id': 'bob', 'audit.target.id': 'x', 'event.id': 'own' } });

  it('is used and stands in the record, once', () => {
    const settlement = settled([gateway, statement({ id: '3', parent: '1' })]);
    expect(recordOf(settlement, 'SELECT').audit).toMatchObject({
      actor: { attribution: 'ancestor' },
      evidence: [{ id: spanId('3') }, { signal: 'traces', source: 'actor.header', sender: 'grpc', id: spanId('1') }],
    });
    expect(settlement.counts).toMatchObject({ used: 2, context: 0 });
    expect(recordOf(settled([request({ id: '1' }, 200, alice)]), 'GET').audit.evidence).toHaveLength(1);
  });

  it('may be the event of an ancestor, by its own id', () => {
    const spans = [gateway, span({ id: '2', parent: '1' }), statement({ id: '3', parent: '2' })];
    const { user, audit } = recordOf(settled(spans, [event1]), 'SELECT');
    expect(user?.id).toBe('bob');
    expect(audit.evidence).toMatchObject([
      { id: spanId('3') },
      { signal: 'logs', source: 'actor.explicit', id: 'own' },
    ]);
  });
});

describe('a refusal deep below', () => {
  const spans = [
    request({ id: '1', service: 'web' }, 403, alice),
    span({ id: '2', parent: '1', kind: 'client', name: 'GET', service: 'web', ms: [5, 45] }),
    request({ id: '3', parent: '2', service: 'orders', ms: [6, 44] }, 403),
    statement({ id: '4', parent: '3', service: 'orders', ...REFUSED }, REFUSED_CODE),
  ];

  it('tells at the entry which statement was refused, and the way there', () => {
    expect(settled(spans).records[0]?.record).toMatchObject({
      message:
        'alice (nurse) was refused GET on orders/7 (/orders/{id}) from 10.0.0.7: permission denied for table orders (42501), 50 ms',
      event: { outcome: 'failure', reason: 'permission denied for table orders (42501)' },
      audit: {
        entry: true,
        decision: 'deny',
        why: { source: 'status' },
        denied_by: 'orders/SELECT shop.orders',
        error_origin: {
          service: 'orders',
          name: 'SELECT shop.orders',
          span_id: spanId('4'),
          message: 'permission denied for table orders',
        },
        path: [
          { span_id: spanId('1'), status: 'denied', kind: 'server' },
          { span_id: spanId('2'), status: 'ok', kind: 'client' },
          { span_id: spanId('3'), status: 'denied' },
          { span_id: spanId('4'), status: 'denied' },
        ],
        trace: { error_count: 3, services: ['orders', 'web'] },
      },
    });
  });

  it('says so when nothing tells why', () => {
    expect(settled(spans.slice(0, 1)).records[0]?.record).toMatchObject({
      event: { reason: '403 from web; no rule in evidence' },
      audit: { denied_by: 'web/GET /orders/{id}', error_origin: { span_id: spanId('1') } },
    });
  });

  const decide = {
    'audit.decision': 'deny',
    'event.outcome': 'failure',
    'event.action': 'decide',
    'audit.target.id': 'orders/7',
  };
  const refusedCheck = [
    { permission: 'orders.read', target: 'orders/7', granted: false, rule: 'nurses-read-own-ward' },
  ];
  it.each([
    {
      name: 'a rule on the access itself',
      logs: [event({ span: '1', attributes: { ...decide, 'rule.name': 'own-ward', 'event.reason': 'not her ward' } })],
      want: {
        event: { reason: 'not her ward' },
        rule: { name: 'own-ward' },
        audit: { why: { source: 'rule' }, denied_by: 'own-ward' },
      },
    },
    {
      name: 'a policy engine’s event in a span below',
      logs: [event({ span: '2', attributes: { ...decide, 'rule.name': 'own-ward', 'event.reason': 'not her ward' } })],
      want: {
        event: { reason: 'not her ward' },
        rule: { name: 'own-ward' },
        audit: { why: { source: 'rule' }, denied_by: 'own-ward' },
      },
    },
    {
      name: 'a refused check among several events of one span',
      logs: [
        event({ span: '2', ms: 1, attributes: { ...decide, 'audit.decision': 'allow', 'event.outcome': 'success' } }),
        event({ span: '2', ms: 2, attributes: { ...decide, 'audit.checks': refusedCheck } }),
      ],
      want: {
        event: { reason: 'orders.read on orders/7 was not granted' },
        audit: { why: { source: 'check' }, denied_by: 'nurses-read-own-ward', checks: refusedCheck },
      },
    },
    {
      name: 'a refusal among several events of one span',
      logs: [
        event({ span: '1', ms: 1, attributes: { ...decide, 'audit.decision': 'allow', 'event.outcome': 'success' } }),
        event({ span: '1', ms: 2, attributes: { ...decide, 'event.reason': 'not her ward' } }),
      ],
      want: { event: { reason: 'not her ward' }, audit: { why: { source: 'status' } } },
    },
  ])('is explained by $name', ({ logs, want }) => {
    const entry = request({ id: '1' }, 403);
    const { records } = settled([entry, span({ id: '2', parent: '1' })], logs);
    expect(records.map(({ record }) => record).find((record) => record.audit.entry)).toMatchObject(want);
  });

  it('does not blame what was dealt with, nor what an untrusted sender reports', () => {
    const handled = [
      request({ id: '1' }, 500),
      request({ id: '2', parent: '1' }, 200),
      statement({ id: '3', parent: '2', ...REFUSED }),
    ];
    expect(settled(handled).records[0]?.record.audit.error_origin?.span_id).toBe(spanId('1'));
    const forged = [
      request({ id: '1' }, 500),
      span({ id: '2', parent: '1', status: [2, 'forged'], note: { trusted: false } }),
    ];
    expect(settled(forged).records[0]?.record.audit.error_origin?.span_id).toBe(spanId('1'));
  });
});

describe('a failing dependency', () => {
  it('is named as the origin, with the exception that a log record tells', () => {
    const spans = [
      request({ id: '1', service: 'web', status: [2] }, 500),
      span({ id: '2', parent: '1', name: 'middleware', service: 'web', ms: [1, 49] }),
      span({ id: '3', parent: '2', name: 'charge', kind: 'client', service: 'web', ms: [2, 48], status: [2] }),
    ];
    const reported = log({
      span: '3',
      attributes: { 'exception.type': 'TimeoutError', 'exception.message': 'no answer from billing' },
    });
    const { records, counts } = settled(spans, [reported]);
    expect(records[0]?.record).toMatchObject({
      event: { reason: 'no answer from billing', outcome: 'failure' },
      audit: {
        decision: 'none',
        error_origin: { name: 'charge', span_id: spanId('3'), type: 'TimeoutError', message: 'no answer from billing' },
      },
    });
    expect(counts).toEqual({ used: 3, context: 1, excluded: 0, duplicate: 0 });
  });

  it('names the slowest statement below an access', () => {
    const spans = [
      request({ id: '1' }),
      statement({ id: '2', parent: '1', ms: [1, 3] }),
      statement({ id: '3', parent: '1', ms: [3, 45] }, { 'db.query.text': 'SELECT slow FROM orders WHERE a = 5' }),
    ];
    expect(recordOf(settled(spans), 'GET').audit.db).toEqual({
      count: 2,
      duration: 44e6,
      slowest: 'SELECT slow FROM orders WHERE a = ?',
    });
  });
});

describe('explicit events', () => {
  const own = {
    'event.action': 'view_patient',
    'audit.target.type': 'patient',
    'audit.target.id': 'patients/7',
    'user.id': 'alice',
    'event.outcome': 'success',
  };
  const explicit = event({ span: '1', attributes: { ...own, 'event.id': 'e1' } });
  const second = event({ span: '1', ms: 6, attributes: { ...own, 'event.id': 'e2' } });
  const server = request({ id: '1' });
  const idOfSpan = settled([server]).records[0]?.id ?? '';

  it('take the id of their span and win field by field, with contradictions told', () => {
    const { records } = settled([server], [explicit]);
    expect(records).toHaveLength(1);
    expect(records[0]?.record).toMatchObject({
      event: { id: idOfSpan, action: 'view_patient', duration: 50e6 },
      http: { route: '/orders/{id}' },
      user: { id: 'alice' },
      source: { ip: '10.0.0.7' },
      audit: {
        target: { type: 'patient', id: 'patients/7' },
        actor: { attribution: 'explicit' },
        join: {
          state: 'complete',
          conflicts: [
            'action: the event says view_patient, the span GET',
            'target: the event says patients/7, the span orders/7',
          ],
        },
        evidence: [
          { signal: 'logs', id: 'e1' },
          { signal: 'traces', id: spanId('1') },
        ],
      },
    });
  });

  it('that say success over a refusal are not half a refusal: what the span said is told', () => {
    const refused = request({ id: '1' }, 403);
    const { event: said, audit } = settled([refused], [explicit]).records[0]?.record ?? {};
    expect(said?.outcome).toBe('success');
    expect(audit?.decision).toBe('none');
    expect(audit?.join.conflicts).toContain('outcome: the event says success, the span failure');
  });

  it('have the same id before their span comes, and a state that says so', () => {
    expect(settled([], [explicit]).records[0]).toMatchObject({
      id: idOfSpan,
      record: { audit: { join: { state: 'unsampled' } } },
    });
  });

  it('leave the id to the span’s own access when there are several', () => {
    const { records, superseded } = settled([server], [explicit, second]);
    expect(records.map(({ record }) => record.event.action).sort()).toEqual(['GET', 'view_patient', 'view_patient']);
    expect(recordOf({ ...settled([server], [explicit, second]) }, 'GET').event.id).toBe(idOfSpan);
    expect(records.filter(({ record }) => record.audit.entry_id === idOfSpan)).toHaveLength(2);
    expect(superseded.size).toBe(0);
  });

  it('supersede the id that one of them had on a span that is no access', () => {
    const plain = span({ id: '1' });
    const [first] = settled([plain], [explicit, second]).records;
    expect(settled([plain], [explicit]).records[0]?.id).toBe(idOfSpan);
    expect([...settled([plain], [explicit, second]).superseded]).toEqual([[idOfSpan, first?.id]]);
  });

  it('stand for themselves without a trace', () => {
    const { records } = settled([], [event({ traceId: '', attributes: own })], '');
    expect(records[0]?.record).toMatchObject({
      audit: { entry: true, join: { state: 'complete', reason: 'untraced' } },
    });
    expect(records[0]?.record.trace).toBeUndefined();
  });

  it('of an untrusted sender neither speak for a span nor name an actor', () => {
    const forged = event({
      span: '1',
      attributes: { ...own, 'user.id': 'mallory' },
      note: { trusted: false, sender: 'browser' },
    });
    const { records } = settled([request({ id: '1' }, 200, alice)], [forged]);
    expect(recordOf({ records } as Settlement, 'GET')).toMatchObject({
      event: { id: idOfSpan },
      user: { id: 'alice' },
    });
    const other = recordOf({ records } as Settlement, 'view_patient');
    expect(other.event).toMatchObject({ outcome: 'unknown' });
    expect(other.user?.id).not.toBe('mallory');
  });
});

describe('the state of the join', () => {
  it.each([
    { name: 'complete', spans: [request({ id: '1' })], state: 'complete' },
    {
      name: 'a span below whose parent never came',
      spans: [request({ id: '1' }), span({ id: '3', parent: '2' })],
      state: 'partial',
    },
    { name: 'two roots', spans: [request({ id: '1' }), span({ id: '2' })], state: 'partial' },
    { name: 'its own parent never came', spans: [request({ id: '1', parent: '9' })], state: 'orphan' },
    { name: 'its own parent', spans: [request({ id: '1', parent: '1' })], state: 'partial' },
  ])('$name', ({ spans, state }) => {
    expect(recordOf(settled(spans), 'GET').audit.join.state).toBe(state);
  });

  it('tells what was wrong with the times sent', () => {
    const backwards = request({ id: '1', ms: [10, 5] });
    expect(recordOf(settled([backwards]), 'GET')).toMatchObject({
      event: { duration: 0, start: '2026-11-22T10:00:00.010000000Z', end: '2026-11-22T10:00:00.010000000Z' },
      audit: { join: { conflicts: ['the end was before the start'] } },
    });
    const timeless = request({ id: '1', times: [0n, 0n] });
    expect(settled([timeless]).records[0]?.timestampNs).toBe(0n);
    expect(settled([timeless, span({ id: '2', parent: '1' })]).records[0]?.record['@timestamp']).toBe(
      '2026-11-22T10:00:00.000000000Z',
    );
  });

  it('keeps an entry an entry when an untrusted sender claims to be above it', () => {
    const forged = request({ id: '1', note: { trusted: false, sender: 'browser' } });
    const { records } = settled([forged, statement({ id: '2', parent: '1' })]);
    expect(recordOf({ records } as Settlement, 'SELECT').audit.entry).toBe(true);
  });

  it('excludes what the rules leave out, and counts it', () => {
    const health = request({ id: '1' }, 200, { 'url.path': '/healthz', 'http.route': '/healthz' });
    expect(settled([health, health])).toMatchObject({
      records: [],
      counts: { used: 0, context: 0, excluded: 1, duplicate: 1 },
    });
  });
});

it('a record says what of its evidence could not be decoded', () => {
  const broken = { ...request({ id: '1' }), unreadable: 2 };
  expect(recordOf(settled([broken]), 'GET').audit.join.conflicts).toEqual([
    `2 attributes or other parts of span ${spanId('1')} cannot be decoded and are left out`,
  ]);
});
