import { describe, expect, it } from 'vitest';
import type { Span } from '../../src/core/evidence.ts';
import { type SpanFields, span, spanId } from './evidence.ts';
import { alice, request, settled, statement, text } from './settling.ts';

function both(spans: readonly Span[]) {
  const all = settled(spans);
  expect(text(settled(spans.toReversed()))).toBe(text(all));
  return all;
}

const TOOL = { 'gen_ai.operation.name': 'execute_tool', 'gen_ai.tool.name': 'get-weather' };
const MCP = { ...TOOL, 'mcp.method.name': 'tools/call' };
const host = (fields: Partial<SpanFields> = {}) =>
  span({
    ...{ id: '1', name: 'execute_tool get-weather', service: 'assistant', ms: [0, 50] },
    attributes: { ...TOOL, ...alice, 'gen_ai.agent.name': 'helper' },
    ...fields,
  });
const client = (fields: Partial<SpanFields> = {}) =>
  span({
    ...{ id: '2', parent: '1', kind: 'client', name: 'tools/call get-weather', service: 'assistant', ms: [5, 45] },
    attributes: MCP,
    ...fields,
  });
const server = (fields: Partial<SpanFields> = {}) =>
  span({
    ...{ id: '3', parent: '2', kind: 'server', name: 'tools/call get-weather', service: 'weather', ms: [10, 40] },
    attributes: { ...MCP, 'client.address': '10.0.0.9' },
    ...fields,
  });

describe('a tool that is called over the Model Context Protocol', () => {
  it('is one access of the outermost caller, with the service that has the tool', () => {
    const { records, counts } = both([host(), client(), server(), statement({ id: '4', parent: '3', ms: [11, 12] })]);
    expect(records.map(({ record }) => [record.event.action, record.service?.name])).toEqual([
      ['execute_tool', 'assistant'],
      ['SELECT', 'orders'],
    ]);
    expect(records[0]?.record).toMatchObject({
      event: { duration: 50e6, outcome: 'success' },
      audit: { entry: true, target: { type: 'tool', id: 'get-weather', service: 'weather' }, db: { count: 1 } },
    });
    expect(records[0]?.record.audit.evidence.map(({ id }) => id)).toEqual(['1', '2', '3'].map(spanId));
    expect(counts).toEqual({ used: 4, context: 0, excluded: 0, duplicate: 0 });
    expect(records[1]?.record.audit.entry_id).toBe(records[0]?.id);
  });

  it('supersedes what either end had published alone', () => {
    const alone = settled([server()]).records[0]?.id ?? '';
    const { records, superseded } = both([client({ parent: '' }), server()]);
    expect(records).toHaveLength(1);
    expect([...superseded]).toEqual([[alone, records[0]?.id]]);
  });

  it('failed when the tool did, though the call came back', () => {
    const failed = server({
      status: [2, 'EACCES: permission denied'],
      attributes: { ...MCP, 'error.type': 'tool_error' },
    });
    const [record] = both([host(), client(), failed]).records;
    expect(record?.record).toMatchObject({
      event: { outcome: 'failure', reason: 'EACCES: permission denied' },
      audit: { decision: 'deny' },
    });
  });

  it('may call another one, and nobody without trust speaks for it', () => {
    const other = { ...MCP, 'gen_ai.tool.name': 'get-place' };
    const below = span({ id: '5', parent: '3', kind: 'client', name: 'tools/call get-place', attributes: other });
    expect(both([host(), client(), server(), below]).records).toHaveLength(2);
    expect(both([host(), client({ note: { trusted: false } }), server()]).records).toHaveLength(2);
  });
});

describe('an operation of GraphQL', () => {
  const post = (attributes: SpanFields['attributes'] = {}) =>
    request({ id: '1', service: 'shop', name: 'POST /graphql' }, 200, {
      'http.request.method': 'POST',
      'http.route': '/graphql',
      'url.path': '/graphql',
      ...alice,
      ...attributes,
    });
  /** As Node's instrumentation has it. */
  const execute = (id: string, fields: Partial<SpanFields> = {}, attributes: SpanFields['attributes'] = {}) =>
    span({
      ...{ id, parent: '1', service: 'shop', name: 'mutation CancelOrder', ms: [5, 30] },
      attributes: {
        'graphql.operation.type': 'mutation',
        'graphql.operation.name': 'CancelOrder',
        'graphql.source': 'mutation CancelOrder { cancel(id: *) { id } }',
        ...attributes,
      },
      ...fields,
    });
  const field = span({
    ...{ id: '9', parent: '2', service: 'shop', name: 'graphql.resolve' },
    attributes: { 'graphql.field.name': 'cancel', 'graphql.operation.name': 'CancelOrder' },
  });

  it('is what its request did', () => {
    const { records } = both([post(), execute('2'), field, statement({ id: '4', parent: '2', ms: [8, 9] })]);
    expect(records.map(({ record }) => record.event.action)).toEqual(['mutation', 'SELECT']);
    expect(records[0]?.record).toMatchObject({
      event: { type: ['change'] },
      audit: { target: { type: 'graphql operation', id: 'shop CancelOrder', name: 'CancelOrder' } },
      http: { request: { method: 'POST' }, route: '/graphql' },
    });
    expect(records[0]?.record.message).toBe('alice (nurse) ran the mutation CancelOrder from 10.0.0.7, 50 ms');
  });

  it.each([
    [
      'on the request’s own span',
      [post({ 'graphql.operation.type': 'query', 'graphql.operation.name': 'Orders' })],
      'shop Orders',
    ],
    [
      'without a name',
      [post(), execute('2', {}, { 'graphql.operation.name': '', 'graphql.source': '{ mine: orders { id } }' })],
      'shop orders',
    ],
  ])('%s', (_, spans, target) => {
    expect(both(spans).records.map(({ record }) => record.audit.target.id)).toEqual([target]);
  });

  it('of which one request carries several are accesses of their own', () => {
    const { records } = both([post(), execute('2'), execute('3', { name: 'mutation B' })]);
    expect(records.map(({ record }) => record.event.action)).toEqual(['POST', 'mutation', 'mutation']);
  });
});
