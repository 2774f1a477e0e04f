import { formatTimestamp } from '../../src/core/clock.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { makeRecord, type Overrides, toWrite } from '../fixtures/records.ts';

const MS = 1_000_000;

/** What the clinic of the demo has none of: checks, rules, metrics near in time, late and contradicting evidence. */
const KINDS: readonly Overrides<AuditRecord>[] = [
  {
    event: { outcome: 'failure', reason: 'role clerk lacks orders.write', action: 'PUT' },
    user: { id: 'carl', roles: ['clerk'] },
    rule: { id: 'orders-write', name: 'orders/write' },
    source: { ip: '10.20.0.31' },
    audit: {
      decision: 'deny',
      why: { source: 'check' },
      denied_by: 'orders/check',
      target: { type: 'endpoint', id: 'orders/7', name: 'shop PUT /orders/{id}' },
      checks: [
        { permission: 'orders.read', granted: true, duration: 2 * MS, engine: 'opa' },
        { permission: 'orders.write', granted: false, duration: 3 * MS, engine: 'opa', rule: 'orders/write' },
      ],
      db: { count: 2, duration: 9 * MS, slowest: 'SELECT role FROM members WHERE id = $1' },
    },
  },
  {
    event: { outcome: 'failure', duration: 900 * MS },
    user: { id: 'alice' },
    error: { type: 'TimeoutError', message: 'no connection within 800 ms' },
    audit: {
      decision: 'none',
      error_origin: {
        service: 'stock',
        name: 'SELECT shop.stock',
        span_id: 'b7ad6b7169203331',
        type: 'TimeoutError',
        message: 'no connection within 800 ms',
      },
      pressure: {
        state: 'exhausted',
        metric: 'db.client.connection.count',
        value: 10,
        limit: 10,
        ratio: 1,
        metrics: [
          {
            name: 'db.client.connection.count',
            value: 10,
            limit: 10,
            ratio: 1,
            at: '2026-11-22T10:00:00Z',
            of: 'shop',
          },
        ],
      },
      trace: { duration: 950 * MS, span_count: 9, error_count: 3, services: ['shop', 'stock'] },
    },
  },
  {
    event: { outcome: 'failure', reason: '403 from shop; no rule in evidence' },
    user: { id: 'dora' },
    audit: { decision: 'deny', why: { source: 'status' } },
  },
  {
    event: { outcome: 'unknown' },
    user: { id: 'bob' },
    source: { ip: '203.0.113.66' },
    audit: {
      decision: 'none',
      join: {
        state: 'partial',
        spans: 3,
        missing_parents: 1,
        orphans: 1,
        reason: 'idle',
        late: true,
        conflicts: ['event.outcome: success (span), failure (log)'],
      },
    },
  },
  {
    event: { action: 'SELECT', category: ['database'] },
    user: { id: 'root' },
    trace: undefined,
    audit: {
      entry: true,
      target: { type: 'table', id: 'postgresql/shop.orders' },
      join: { state: 'out_of_band', spans: 0, missing_parents: 0, orphans: 0, reason: 'untraced', late: false },
      evidence: [{ signal: 'logs', source: 'pgaudit', sender: 'grpc', id: 'line-1' }],
    },
  },
  {
    event: { action: 'SELECT', category: ['database'] },
    user: { id: 'carl' },
    audit: {
      entry: false,
      entry_id: 'kibana0',
      entry_action: 'PUT',
      entry_target: 'orders/7',
      target: { type: 'table', id: 'postgresql/shop.orders' },
    },
  },
];

/** Three of each, an hour apart, the last one at `endNs` (epoch nanoseconds). */
export function fixtureRecords(namespace: string, endNs: bigint): RecordWrite[] {
  return KINDS.flatMap((kind, number) =>
    [0, 1, 2].map((hours) => {
      const record = makeRecord({
        ...kind,
        '@timestamp': formatTimestamp(endNs - BigInt(hours) * 3_600_000_000_000n),
        data_stream: { namespace },
        event: { ...kind.event, id: `${namespace}${number}x${hours}` },
      });
      return toWrite(record);
    }),
  );
}
