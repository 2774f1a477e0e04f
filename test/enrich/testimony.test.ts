import { describe, expect, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import type { Settlement } from '../../src/core/settlement.ts';
import { type LogFields, log, type Plain, span, spanId } from './evidence.ts';
import { alice, event, REFUSED, REFUSED_CODE, recordOf, request, settled, statement } from './settling.ts';

const AUDIT = { 'db.operation.name': 'SELECT', 'event.category': 'database', 'event.outcome': 'success' };
const DENIED = {
  ...{
    'db.operation.name': 'SELECT',
    'event.category': 'database',
    'event.outcome': 'failure',
    'audit.decision': 'deny',
  },
  ...{
    'event.reason': 'permission denied for table orders',
    'error.type': '42501',
    'db.response.status_code': '42501',
  },
};

interface Line extends LogFields {
  readonly tie?: string;
  readonly table?: string;
  readonly own?: string;
  readonly said?: Plain;
}

/** A line of a database's own log, as a preset gives it. */
function line({ tie = 'statement', table = 'orders', own = 's1/1', said = AUDIT, ...fields }: Line) {
  return log({
    ms: 15,
    service: 'shop-db',
    ...fields,
    attributes: {
      ...{ 'audit.out_of_band': 'true', 'event.id': own, 'db.system.name': 'postgresql', 'db.namespace': 'shop' },
      ...{ 'db.collection.name': table, 'db.user': 'shop_app', 'source.ip': '10.0.0.99' },
      ...said,
      ...(tie !== '' && fields.traceId !== '' && { 'spantrail.tie': tie }),
    },
  });
}

const entry = request({ id: '1' }, 200, alice);
const call = statement({ id: '2', parent: '1' });

function statements(settlement: Settlement): AuditRecord[] {
  return settlement.records.map(({ record }) => record).filter(({ event: { action } }) => action === 'SELECT');
}
const outcomesOf = (settlement: Settlement) =>
  statements(settlement).map(({ audit }) => [audit.join.state, audit.join.tie]);
const sourcesOf = (record: AuditRecord) => record.audit.evidence.map(({ signal, id }) => `${signal} ${id}`);

describe('what a database tells of a call', () => {
  it('is the call itself: one record of two pieces', () => {
    const settlement = settled([entry, call], [line({ span: '2' })]);
    const record = recordOf(settlement, 'SELECT');
    expect(record).toMatchObject({
      user: { id: 'alice', effective: { name: 'shop_app' } },
      service: { name: 'orders' },
      source: { ip: '10.0.0.7' },
      event: { outcome: 'success', duration: 20e6 },
      db: { statement: 'SELECT * FROM orders WHERE id = ?' },
      audit: { entry: false, join: { state: 'complete', tie: 'statement' } },
    });
    expect(sourcesOf(record)).toEqual(['logs s1/1', `traces ${spanId('2')}`, `traces ${spanId('1')}`]);
    expect(record.audit.join.conflicts).toBeUndefined();
    expect(record.event.id).toBe(recordOf(settled([entry, call]), 'SELECT').event.id);
    expect(recordOf(settlement, 'GET').audit.join.tie).toBeUndefined();
  });

  it('is one with the call below the span that it names', () => {
    const inner = [entry, span({ id: '5', parent: '1' }), statement({ id: '2', parent: '5' })];
    for (const tie of ['statement', 'application_name', 'text']) {
      expect(outcomesOf(settled(inner, [line({ span: '1', tie })]))).toEqual([['complete', tie]]);
    }
    // Not with a call that is elsewhere.
    const elsewhere = [...inner, span({ id: '6', parent: '1' })];
    const settlement = settled(elsewhere, [line({ span: '6' })]);
    expect(statements(settlement)).toHaveLength(2);
    expect(statements(settlement).every(({ audit }) => !audit.entry)).toBe(true);
  });

  it('never speaks for a request', () => {
    const settlement = settled([entry], [line({ span: '1', tie: 'application_name' })]);
    expect(recordOf(settlement, 'GET').audit.join.tie).toBeUndefined();
    expect(recordOf(settlement, 'SELECT')).toMatchObject({
      user: { id: 'alice' },
      audit: { entry: false, join: { state: 'complete', tie: 'application_name' } },
    });
  });

  it('of a service that acts by itself leaves the service the actor', () => {
    const own = statement({ id: '2', parent: '' });
    const before = recordOf(settled([own]), 'SELECT').user;
    expect(before?.id).toBe('orders');
    expect(recordOf(settled([own], [line({ span: '2' })]), 'SELECT').user).toMatchObject(before ?? {});
  });

  it('of several tables is the call for its own, and an access on its span for each other', () => {
    const lines = [
      line({ span: '2' }),
      line({ span: '2', own: 's1/2' }),
      line({ span: '2', own: 's1/3', table: 'people' }),
    ];
    const [first, second] = statements(settled([entry, call], lines)).sort((left, right) =>
      left.audit.target.id.localeCompare(right.audit.target.id),
    );
    expect(first && sourcesOf(first)).toEqual(
      expect.arrayContaining(['logs s1/1', 'logs s1/2', `traces ${spanId('2')}`]),
    );
    expect(second).toMatchObject({ audit: { target: { id: 'postgresql/shop.people' } }, span: { id: spanId('2') } });
    expect(second?.audit.join.conflicts).toBeUndefined();
  });

  it('cannot be copied into another session', () => {
    const copied = line({ span: '2', own: 's2/1', ms: 200, said: { ...AUDIT, 'db.user': 'mallory' } });
    const found = statements(settled([entry, call], [line({ span: '2' }), copied]));
    expect(found).toHaveLength(2);
    const other = found.find(({ user }) => user?.effective?.name === 'mallory');
    expect(other?.audit.join.conflicts?.[0]).toContain('another line of the database');
    expect(found.find((record) => record !== other)?.user?.effective?.name).toBe('shop_app');
  });

  it('comes twice when its file is read again, and says nothing else then', () => {
    const conflictsOf = (...bodies: string[]) => {
      const lines = bodies.map((body, index) =>
        line({ span: '2', body, said: { ...AUDIT, 'log.file.record_number': index } }),
      );
      return recordOf(settled([entry, call], lines), 'SELECT').audit.join.conflicts;
    };
    expect(conflictsOf('AUDIT: one', 'AUDIT: one', 'AUDIT: one')).toBeUndefined();
    expect(conflictsOf('AUDIT: one', 'AUDIT: another')).toEqual(['event s1/1 came in 2 versions']);
  });

  it('of equal statements goes to the one that is nearest', () => {
    const calls = [10, 40, 70].map((ms, index) => statement({ id: String(index + 2), parent: '1', ms: [ms, ms + 10] }));
    const lines = [12, 43, 75].map((ms, index) => line({ ms, own: `s1/${index}`, tie: 'transaction' }));
    const found = statements(settled([entry, ...calls], lines)).map(({ audit }) => audit.evidence.map(({ id }) => id));
    expect(found.map((ids) => ids.slice(0, 2))).toEqual(
      [0, 1, 2].map((index) => [`s1/${index}`, spanId(String(index + 2))]),
    );
  });
});

describe('who goes around the application', () => {
  const around = (settlement: Settlement) =>
    statements(settlement).filter(({ audit }) => audit.join.state === 'out_of_band');

  it('is the login, where the line names no trace', () => {
    const [record] = around(settled([], [line({ traceId: '' })], ''));
    expect(record).toMatchObject({
      message: 'shop_app read shop.orders from 10.0.0.99 around the application',
      user: { id: 'shop_app', name: 'shop_app' },
      source: { ip: '10.0.0.99' },
      service: { name: 'shop-db' },
      audit: { entry: true, actor: { type: 'user', attribution: 'explicit' }, join: { reason: 'untraced' } },
    });
    expect(record?.audit.join.tie).toBeUndefined();
  });

  it('is the login, where only the session is known and no call fits', () => {
    for (const [calls, given] of [
      [[], {}],
      [[call], { table: 'payroll' }],
      [[call], { ms: 2000 }],
      [[request({ id: '2', parent: '1' })], {}],
    ] as const) {
      const [record] = around(settled([entry, ...calls], [line({ tie: 'session', ...given })]));
      expect(record?.user).toEqual({ id: 'shop_app', name: 'shop_app' });
      expect(record?.audit).toMatchObject({ actor: { attribution: 'explicit' }, join: { tie: 'session' } });
    }
  });

  it('is nobody, where the session is known and a call fits', () => {
    const settlement = settled([entry, call], [line({ tie: 'session', ms: 900 })]);
    expect(outcomesOf(settlement)).toEqual([['complete', 'session']]);
    expect(recordOf(settlement, 'SELECT').user?.id).toBe('alice');
  });

  it('is nobody, where one call is known to be of another line', () => {
    const settlement = settled([entry, call], [line({ tie: 'session', own: 's1/2' }), line({ span: '2' })]);
    expect(around(settlement)).toHaveLength(1);
    expect(
      sourcesOf(statements(settlement).find(({ audit }) => audit.join.tie === 'statement') ?? expect.unreachable()),
    ).toContain('logs s1/1');
  });

  it('does not stand behind a name that somebody made up', () => {
    expect(statements(settled([], [line({ span: '7' })]))[0]).toMatchObject({
      user: { id: 'shop_app' },
      audit: { actor: { attribution: 'explicit' }, join: { state: 'unsampled', tie: 'statement' } },
    });
    expect(statements(settled([entry], [line({ span: '7' })]))[0]).toMatchObject({
      user: { id: 'shop_app' },
      audit: { actor: { attribution: 'explicit' }, join: { state: 'orphan' } },
    });
  });

  it('is not told by senders without trust, nor by other events', () => {
    const untrusted = settled([], [line({ traceId: '', note: { trusted: false } })], '');
    expect(untrusted.records[0]?.record).toMatchObject({
      audit: { actor: { attribution: 'none' }, join: { state: 'complete' } },
    });
    const other = event({ traceId: '', attributes: { 'event.action': 'SELECT', 'user.id': 'eve' } });
    expect(around(settled([], [other], ''))).toEqual([]);
  });

  it('was nobody, once the trace is known: the record is superseded by that of the call', () => {
    const alone = settled([], [line({ traceId: '' })], '');
    const id = alone.records[0]?.id ?? '';
    const settlement = settled([entry, call], [line({ span: '2' })]);
    expect(settlement.superseded.get(id)).toBe(recordOf(settlement, 'SELECT').event.id);
    expect(settlement.rank > alone.rank).toBe(true);
  });
});

describe('contradictions', () => {
  const why = (record: AuditRecord) => [record.event.outcome, record.audit.decision, record.audit.join.conflicts];

  it('are none where a statement was allowed, began and failed', () => {
    const failed = statement({ id: '2', parent: '1', status: [2, 'duplicate key'] }, { 'error.type': '23505' });
    const said = { ...AUDIT, 'audit.decision': 'allow' };
    expect(why(recordOf(settled([entry, failed], [line({ span: '2', said })]), 'SELECT'))).toEqual([
      ...['failure', 'allow', undefined],
    ]);
  });

  it('are none where both say that it was refused', () => {
    const refused = statement({ id: '2', parent: '1', ...REFUSED }, REFUSED_CODE);
    const record = recordOf(settled([entry, refused], [line({ span: '2', said: DENIED })]), 'SELECT');
    expect(why(record)).toEqual(['failure', 'deny', undefined]);
  });

  it('are told where the call says that all went well and the database refused', () => {
    const record = recordOf(settled([entry, call], [line({ span: '2', said: DENIED })]), 'SELECT');
    expect(why(record)).toEqual(['failure', 'deny', ['outcome: the database says failure, the span success']]);
    expect(record.event.reason).toBe('permission denied for table orders');
  });

  const success = { 'event.action': 'SELECT', 'audit.target.id': 'postgresql/shop.orders', 'event.outcome': 'success' };

  it('are told where the application says so of the call itself, and the database is believed', () => {
    const stated = event({ span: '2', attributes: success });
    const record = recordOf(settled([entry, call], [line({ span: '2', said: DENIED }), stated]), 'SELECT');
    expect(why(record)).toEqual([
      ...['failure', 'deny'],
      expect.arrayContaining([
        'outcome: the database says failure, the span success',
        'outcome: the event says success, the database failure',
      ]),
    ]);
    expect(sourcesOf(record)).toHaveLength(4);
  });

  it('are told where the application says so of the request above', () => {
    const stated = event({ span: '1', attributes: { ...success, 'event.action': 'view' } });
    const record = recordOf(settled([entry, call], [line({ span: '2', said: DENIED }), stated]), 'view');
    expect(record.event.outcome).toBe('success');
    expect(record.audit.join.conflicts).toContain(
      'outcome: the event says success, the database refused SELECT on postgresql/shop.orders',
    );
  });
});

it('looks for the calls of thousands of lines without holding up others', () => {
  const calls = Array.from({ length: 4000 }, (_, index) =>
    statement({ id: String(index + 2), parent: '1', ms: [10, 20] }),
  );
  const lines = Array.from({ length: 4000 }, (_, index) => line({ tie: 'session', own: `s1/${index}`, ms: 15 }));
  const { records } = settled([entry, ...calls], lines);
  expect(records.filter(({ record }) => record.audit.evidence.some(({ id }) => id.startsWith('s1/')))).toHaveLength(
    4000,
  );
});
