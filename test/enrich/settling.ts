import { expect } from 'vitest';
import { compileRules } from '../../src/access/rules.ts';
import { DEFAULT_ACCESS_SETTINGS } from '../../src/access/settings.ts';
import type { LogRecord, Span } from '../../src/core/evidence.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { Settlement } from '../../src/core/settlement.ts';
import { createSettle } from '../../src/enrich/settle.ts';
import { type LogFields, log, type SpanFields, span, TRACE_ID } from './evidence.ts';

export const settlingRules = compileRules(DEFAULT_ACCESS_SETTINGS);
const settle = createSettle(settlingRules, {
  traceUrlTemplate: 'https://jaeger.test/trace/${trace_id}?uiFind=${span_id}',
});

export function settled(spans: readonly Span[], logs: readonly LogRecord[] = [], traceId = TRACE_ID): Settlement {
  return settle({ namespace: 'default', traceId, spans, logs });
}

export function text(settlement: Settlement): string {
  return JSON.stringify({ ...settlement, superseded: [...settlement.superseded] }, (_, value: unknown) =>
    typeof value === 'bigint' ? `${value}` : value,
  );
}

/** The only record with this action. */
export function recordOf(settlement: Settlement, action: string): AuditRecord {
  const found = settlement.records.filter(({ record }) => record.event.action === action);
  expect(found.map(({ record }) => record.event.action)).toEqual([action]);
  return found[0]?.record ?? expect.unreachable();
}

/** A server span of `service` for GET /orders/{id}; attributes are added to those. */
export function request(
  fields: Partial<SpanFields> & { id: string },
  status = 200,
  attributes: SpanFields['attributes'] = {},
): Span {
  return span({
    name: 'GET /orders/{id}',
    kind: 'server',
    ms: [0, 50],
    ...fields,
    attributes: {
      'http.request.method': 'GET',
      'http.route': '/orders/{id}',
      'url.path': '/orders/7',
      'http.response.status_code': status,
      'client.address': '10.0.0.7',
      ...attributes,
    },
  });
}

export function statement(
  fields: Partial<SpanFields> & { id: string; parent: string },
  attributes: SpanFields['attributes'] = {},
): Span {
  return span({
    name: 'SELECT shop.orders',
    kind: 'client',
    ms: [10, 30],
    ...fields,
    attributes: {
      'db.system.name': 'postgresql',
      'db.namespace': 'shop',
      'db.collection.name': 'orders',
      'db.operation.name': 'SELECT',
      'db.query.text': "SELECT * FROM orders WHERE id = 'secret'",
      ...attributes,
    },
  });
}

export const REFUSED = {
  status: [2, 'permission denied for table orders'] as const,
  exception: { 'exception.type': 'error', 'exception.message': 'permission denied for table orders' },
};
export const REFUSED_CODE = { 'db.response.status_code': '42501', 'error.type': '42501' };
export const alice = { 'user.id': 'alice', 'user.roles': ['nurse'] };

export function event(fields: LogFields): LogRecord {
  return log({ eventName: 'access', ...fields });
}
