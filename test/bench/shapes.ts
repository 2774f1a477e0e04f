import type { TestLog, TestSpan } from '../otlp/encode.ts';

/**
 * What the bench's traces look like: eight spans each, about 15 attributes a span, 25 resource attributes, three scopes, 677 bytes
 * a span. Values in the writing of HOLES are drawn anew for each trace that is sent, all others are the same in each request.
 */
export const SHAPE_NAMES = ['orders', 'entries', 'events', 'logs', 'varied', 'services', 'huge'] as const;

export type ShapeName = (typeof SHAPE_NAMES)[number];

export const SCOPES = ['@opentelemetry/instrumentation-http', '@opentelemetry/instrumentation-pg', 'shop.handlers'];

/** Stand-ins of as many characters as the digits that take their place; those with the same letter have the same digits in a trace. */
export const HOLES = ['~user~~', '~row~~~~', '~a', '~b', '~c'] as const;

/** Stand-ins for the time of an event and the ids of a link. */
export const EVENT_MARK = 0x4d_93_7e_a5_c1_b8_26_03n;
export const LINK_MARK = 'b7e4d2c9a8f61503';

export interface SpanShape {
  readonly scope: number;
  readonly parent: number;
  readonly kind: number;
  readonly name: string;
  /** Nanoseconds from the trace's start. */
  readonly from: number;
  readonly to: number;
  readonly isAccess: boolean;
  readonly attributes: (user: number, row: number) => Record<string, unknown>;
  readonly more?: Pick<TestSpan, 'events' | 'links' | 'traceState'>;
}

const MS = 1_000_000;
const [SERVER, CLIENT, INTERNAL] = [2, 3, 1];
const [HTTP, POSTGRES, HANDLERS] = [0, 1, 2];

/** How a shape writes the values that tell one trace from another. */
interface Writing {
  readonly user: (user: number) => string;
  readonly row: (row: number) => string;
  readonly address: (user: number, row: number) => string;
  readonly peer: string;
  readonly where: string;
}

/** Few values, as services that speak of the same fifty people and sixty-four rows all day. */
const FEW: Writing = {
  user: (user) => `user-${user}`,
  row: String,
  address: (user, row) => `10.0.${user % 200}.${row % 200}`,
  peer: '10.20.30.40',
  where: 'id = $1 AND tenant = $2',
};

/** Values that (nearly) never come again, and statements with their literals in them. */
const NEVER_AGAIN: Writing = {
  user: () => 'user-~user~~',
  row: () => '~row~~~~',
  address: () => '10.1~a.1~b.1~c',
  peer: '10.1~a.1~b.1~c',
  where: "id = ~row~~~~ AND tenant = 't-~user~~'",
};

function http(role: 'server' | 'client', path: string, writing: Writing) {
  return (user: number, row: number): Record<string, unknown> => ({
    'http.request.method': 'GET',
    'http.response.status_code': 200,
    'url.scheme': 'https',
    'url.path': path.replace('{id}', writing.row(row)),
    'server.address': 'orders.shop.example',
    'server.port': 8443,
    'network.protocol.version': '1.1',
    'network.peer.address': writing.peer,
    'network.peer.port': 49152 + user,
    'http.response.body.size': 18_231,
    'user_agent.original': 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36',
    'tls.protocol.version': '1.3',
    'http.request.header.x-request-id': ['0d2f7f0e-58c3-4e8e-9a35-7c1fd2f0b9a4'],
    ...(role === 'server'
      ? { 'http.route': path, 'client.address': writing.address(user, row), 'user.id': writing.user(user) }
      : {
          'url.full': `https://orders.shop.example${path.replace('{id}', writing.row(row))}`,
          'http.resend_count': 0,
        }),
  });
}

function database(operation: string, table: string, writing: Writing) {
  return (_user: number, row: number): Record<string, unknown> => ({
    'db.system.name': 'postgresql',
    'db.namespace': 'shop',
    'db.collection.name': table,
    'db.operation.name': operation,
    'db.query.text': `${operation} id, total, currency, state, updated_at FROM ${table} WHERE ${writing.where} LIMIT 50`,
    'db.query.summary': `${operation} ${table}`,
    'db.response.returned_rows': row % 40,
    'server.address': 'db-7.shop.internal.example',
    'server.port': 5432,
    'network.peer.address': '10.20.40.7',
    'network.transport': 'tcp',
    'cloud.availability_zone': 'eu-central-1b',
    'db.client.connection.pool.name': 'primary',
    'db.client.connection.state': 'used',
    'code.function.name': 'OrderRepository.findWithLinesAndDiscounts',
  });
}

function work(step: string) {
  return (user: number, row: number): Record<string, unknown> => ({
    'code.function.name': step,
    'code.file.path': '/srv/shop/src/orders/handlers.ts',
    'code.line.number': 118,
    'thread.id': 17,
    'thread.name': 'worker-17',
    'cloud.availability_zone': 'eu-central-1b',
    'shop.tenant': `tenant-${user % 32}`,
    'shop.order.id': row,
    'shop.order.state': 'paid',
    'shop.cart.items': row % 9,
    'shop.currency': 'EUR',
    'shop.total': 129.95 + row,
    'shop.priority': false,
    'shop.channel': 'web-checkout-experiment-b',
    'shop.warehouse': 'eu-central-1/frankfurt/hall-3/aisle-17',
    'feature_flag.key': 'new-pricing',
    'feature_flag.result.variant': 'on-for-half-of-the-tenants-in-this-region',
  });
}

type Times = readonly [from: number, to: number];

function serverSpan(parent: number, path: string, [from, to]: Times, writing: Writing): SpanShape {
  const attributes = http('server', path, writing);
  const name = `GET ${path}`;
  return { scope: HTTP, parent, kind: SERVER, name, from: from * MS, to: to * MS, isAccess: true, attributes };
}

function clientSpan(parent: number, path: string, [from, to]: Times, writing: Writing): SpanShape {
  const attributes = http('client', path, writing);
  return { scope: HTTP, parent, kind: CLIENT, name: 'GET', from: from * MS, to: to * MS, isAccess: false, attributes };
}

function statement(parent: number, table: string, [from, to]: Times, writing: Writing): SpanShape {
  const attributes = database('SELECT', table, writing);
  const name = `SELECT ${table}`;
  return { scope: POSTGRES, parent, kind: CLIENT, name, from: from * MS, to: to * MS, isAccess: true, attributes };
}

function step(parent: number, name: string, [from, to]: Times): SpanShape {
  const attributes = work(name);
  return { scope: HANDLERS, parent, kind: INTERNAL, name, from: from * MS, to: to * MS, isAccess: false, attributes };
}

/** Five accesses: two SERVER spans and three of a database. */
const order = (writing: Writing): readonly SpanShape[] => [
  serverSpan(-1, '/orders/{id}', [0, 42], writing),
  step(0, 'authorise', [1, 4]),
  step(0, 'loadOrder', [5, 40]),
  statement(2, 'orders', [6, 11], writing),
  statement(2, 'order_lines', [12, 17], writing),
  clientSpan(2, '/prices/{id}', [18, 38], writing),
  serverSpan(5, '/prices/{id}', [20, 37], writing),
  statement(6, 'prices', [22, 33], writing),
];

/** Only the entry is an access. */
const ENTRY: readonly SpanShape[] = [
  serverSpan(-1, '/orders/{id}', [0, 42], FEW),
  step(0, 'authorise', [1, 4]),
  step(0, 'loadOrder', [5, 40]),
  step(2, 'readCache', [6, 11]),
  step(2, 'applyDiscounts', [12, 17]),
  clientSpan(2, '/prices/{id}', [18, 38], FEW),
  step(5, 'signRequest', [20, 21]),
  step(5, 'retryPolicy', [22, 33]),
];

const ORDER = order(FEW);

/** What spans of `events` have besides: all a trace state, one an event and an exception that was dealt with, one a link. */
function eventful(index: number): NonNullable<SpanShape['more']> {
  const traceState = 'vendor=t61rcWkgMzE';
  if (index === 5) return { traceState, links: [{ traceId: LINK_MARK.repeat(2), spanId: LINK_MARK }] };
  if (index !== 2) return { traceState };
  const exception = { 'exception.type': 'CacheMiss', 'exception.message': 'the order is not there yet' };
  const [looked, missed] = [{ 'cache.name': 'orders', 'cache.hit': false }, exception];
  const events = [
    { name: 'cache.lookup', timeNs: EVENT_MARK, attributes: looked },
    { name: 'exception', timeNs: EVENT_MARK, attributes: missed },
  ];
  return { traceState, events };
}

/** The spans of one trace; of `huge`, spans of which very many make one trace. The parent comes before its children. */
export const SHAPES: Readonly<Record<ShapeName, readonly SpanShape[]>> = {
  orders: ORDER,
  entries: ENTRY,
  events: ORDER.map((span, index) => ({ ...span, more: eventful(index) })),
  logs: ORDER,
  varied: order(NEVER_AGAIN),
  services: ORDER,
  huge: ORDER,
};

/** Spans of a trace of `logs` that a log record is of, and what it says: nothing that an audit record would tell. */
export const LOGGED = new Map<number, TestLog>([
  [0, { body: 'request completed in time, 50 lines rendered', attributes: { 'log.logger': 'shop.http', status: 200 } }],
  [2, { body: 'order loaded', attributes: { 'log.logger': 'shop.orders', 'thread.name': 'worker-17', cached: false } }],
]);

/** The part of a trace of `services` that the second service tells: what the first one called. */
export const isOfSecondService = (index: number): boolean => index >= 6;

export function resourceAttributes(service: string): Record<string, unknown> {
  const named = {
    'service.name': service,
    'service.namespace': 'retail',
    'service.version': '2026.11.3',
    'service.instance.id': '6f1c0a52-8f7e-4f5d-9d7a-0c6f3b1a2e44',
    'host.name': 'node-17.eu-central.example',
    'k8s.cluster.name': 'production',
    'k8s.namespace.name': 'shop',
    'k8s.pod.name': `${service}-6c9d8b7f5-x2x7q`,
    'container.id': 'd1f5b6a7c8e90f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192',
    'telemetry.sdk.language': 'nodejs',
  };
  const filler = Array.from({ length: 15 }, (_, index) => [`deployment.label.${index}`, `value-of-label-${index}`]);
  return { ...named, ...Object.fromEntries(filler) };
}
