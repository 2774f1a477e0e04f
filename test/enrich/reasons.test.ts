import { describe, expect, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import { log, type SpanFields, span, spanId } from './evidence.ts';
import { event, recordOf, request, settled, statement, text } from './settling.ts';

/** A call of `web` to something that sends no evidence, below the request with span id 1. */
function call(attributes: SpanFields['attributes'], more: Partial<SpanFields> = {}) {
  return span({
    id: '2',
    parent: '1',
    kind: 'client',
    name: 'GET',
    service: 'web',
    status: [2],
    ms: [5, 45],
    attributes: attributes ?? {},
    ...more,
  });
}
const server = (status: number) => request({ id: '1', service: 'web', status: [status >= 500 ? 2 : 0] }, status);
const http = { 'http.request.method': 'GET', 'http.response.status_code': 403, 'error.type': '403' };

const reasons: [name: string, AuditRecord | undefined, reason: string, deniedBy: string | undefined][] = [
  [
    '500 over 403',
    settled([server(500), call({ ...http, 'server.address': 'ext' })]).records[0]?.record,
    '403 from ext',
    undefined,
  ],
  [
    '403 over 403',
    settled([server(403), call({ ...http, 'server.address': 'ext' })]).records[0]?.record,
    '403 from ext',
    'ext',
  ],
  [
    'peer.service',
    settled([server(403), call({ ...http, 'peer.service': 'ext' })]).records[0]?.record,
    '403 from ext',
    'ext',
  ],
  [
    'the host of the address',
    settled([server(500), call({ ...http, 'url.full': 'https://u:p@ext:8443/a' })]).records[0]?.record,
    '403 from ext',
    undefined,
  ],
  ['nobody named', settled([server(403), call(http)]).records[0]?.record, '403 from an unnamed service', 'web/GET'],
  [
    '403 over 500',
    settled([server(403), call({ ...http, 'http.response.status_code': 500 })]).records[0]?.record,
    '403 from web; no rule in evidence',
    'web/GET /orders/{id}',
  ],
  [
    'what the client says of it',
    settled([server(500), call({ ...http, 'server.address': 'ext' }, { status: [2, 'no licence'] })]).records[0]
      ?.record,
    'no licence',
    undefined,
  ],
  [
    'gRPC without a server span',
    settled([
      server(403),
      call(
        { 'rpc.system': 'grpc', 'rpc.grpc.status_code': 7, 'server.address': 'rx' },
        { status: [2, '7 PERMISSION_DENIED: role nurse may not prescribe'] },
      ),
    ]).records[0]?.record,
    'PERMISSION_DENIED from rx: role nurse may not prescribe',
    'rx',
  ],
];

describe('the reason of a request that another service failed', () => {
  it.each(reasons)('%s', (_, record, reason, deniedBy) => {
    expect(record?.event.reason).toBe(reason);
    expect(record?.audit.denied_by).toBe(deniedBy);
  });

  it.each([
    ['role nurse may not prescribe', 7],
    ['7 PERMISSION_DENIED: role nurse may not prescribe', 7],
    ['rpc error: code = PermissionDenied desc = role nurse may not prescribe', 7],
    ['StatusCode.PERMISSION_DENIED: role nurse may not prescribe', 7],
  ])('is what a gRPC client was told: %s', (message, code) => {
    const rpc = { 'rpc.system': 'grpc', 'rpc.service': 'Rx', 'rpc.method': 'Prescribe', 'rpc.grpc.status_code': code };
    const spans = [
      server(403),
      call(rpc, { status: [2, message] }),
      span({ id: '3', parent: '2', kind: 'server', service: 'rx', name: 'Rx/Prescribe', attributes: rpc, ms: [6, 44] }),
    ];
    const want = 'PERMISSION_DENIED from rx: role nurse may not prescribe';
    expect(settled(spans).records.map(({ record }) => record.event.reason)).toEqual([want, want]);
    expect(settled(spans.toReversed()).records.map(({ record }) => record.event.reason)).toEqual([want, want]);
    expect(recordOf(settled(spans), 'Prescribe').audit.denied_by).toBe('rx/Rx/Prescribe');
  });

  it('of PostgreSQL is what the status says when the exception says nothing', () => {
    const refused = statement(
      {
        id: '2',
        parent: '1',
        status: [2, 'permission denied for table notes'],
        exception: {
          'exception.type': 'error',
          'exception.message': "PostgreSQL error of type 'error' occurred (code: 42501)",
        },
      },
      {},
    );
    expect(settled([server(403), refused]).records.map(({ record }) => record.event.reason)).toEqual(
      Array(2).fill('permission denied for table notes (42501)'),
    );
  });
});

describe('an exception that no span was named for', () => {
  const stray = log({ attributes: { 'exception.type': 'ValueError', 'exception.message': 'no such ward' } });

  it('explains the only request that failed', () => {
    const { records, counts } = settled([server(500), request({ id: '4', parent: '1' })], [stray]);
    expect(records[0]?.record).toMatchObject({
      event: { reason: '500 from web: no such ward' },
      error: { type: 'ValueError', message: 'no such ward' },
      audit: {
        error_origin: { span_id: spanId('1'), message: 'no such ward' },
        evidence: [{}, { source: 'log.exception' }],
      },
    });
    expect(records[1]?.record.error).toBeUndefined();
    expect(counts).toMatchObject({ used: 3, context: 0 });
  });

  it.each([
    ['two failed', [server(500), request({ id: '4', parent: '1' }, 500)], [stray]],
    ['it comes from whom nobody trusts', [server(500)], [{ ...stray, note: { ...stray.note, trusted: false } }]],
    ['none failed', [server(200)], [stray]],
  ])('explains nothing when %s', (_, spans, logs) => {
    expect(text(settled(spans, logs))).not.toContain('no such ward');
  });
});

describe('secrets and values in texts', () => {
  const address = 'http://be/patients/7?api_key=Zq9&page=2&token=Zq9';
  const sql = `column "nope" does not exist\nLINE 1: SELECT nope FROM p WHERE n = 'Zq9'\n      ^`;
  const thrown = (message: string) => ({
    'exception.type': 'E',
    'exception.message': message,
    'exception.stacktrace': `E: ${message}\n    at run (app.js:7)`,
  });
  const message = `401 Client Error for url: ${address}`;
  const failing = { id: '1', service: 'web', status: [2, message] as const };

  it.each([
    ['a server span’s exception', settled([request({ ...failing, exception: thrown(message) }, 500)])],
    [
      'the exception of a span below',
      settled([server(500), span({ id: '2', parent: '1', status: [2], exception: thrown(message) })]),
    ],
    ['an exception record', settled([server(500)], [log({ span: '1', attributes: thrown(message) })])],
    ['an exception record of no span', settled([server(500)], [log({ attributes: thrown(message) })])],
    [
      'an event',
      settled(
        [],
        [
          event({
            span: '1',
            attributes: {
              'event.reason': message,
              'audit.target.id': address,
              'event.outcome': 'failure',
              ...thrown(message),
            },
          }),
        ],
      ),
    ],
    [
      'a resource',
      settled([
        span({ id: '1', attributes: { 'mcp.method.name': 'resources/read', 'mcp.resource.uri': address } }),
        statement({ id: '2', parent: '1' }),
      ]),
    ],
    ['a statement passed on', settled([request({ ...failing, exception: thrown(sql) }, 500)])],
    [
      'a statement',
      settled([server(500), statement({ id: '2', parent: '1', status: [2, sql], exception: thrown(sql) })]),
    ],
    [
      'a statement in an event',
      settled(
        [],
        [event({ span: '1', attributes: { 'event.reason': sql, 'event.outcome': 'failure', ...thrown(sql) } })],
      ),
    ],
    [
      'names of spans',
      settled([
        server(500),
        span({ id: '2', parent: '1', kind: 'client', name: `GET ${address}`, status: [2] }),
        span({ id: '3', parent: '2', name: "SELECT a FROM p WHERE n = 'Zq9'", status: [2] }),
      ]),
    ],
  ])('are left out of %s', (_, settlement) => {
    const said = text(settlement);
    expect(said).not.toContain('Zq9');
    expect(said).toMatch(/api_key=\*\*\*&page=2|column \\"nope\\" does not exist/);
  });
});
