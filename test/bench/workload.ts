import { randomBytes } from 'node:crypto';
import { delimited, keyValues, spanMessage, type TestSpan } from '../otlp/encode.ts';

/**
 * The bench's traffic: requests of 64 traces with 8 spans each, 25 resource attributes, three scopes, about 15 attributes and
 * 677 bytes a span. Of a trace's eight spans five are accesses: two SERVER spans and three database CLIENT spans.
 */
export const TRACES_A_REQUEST = 64;
const SPANS_A_TRACE = 8;
export const SPANS_A_REQUEST = TRACES_A_REQUEST * SPANS_A_TRACE;

/** gRPC's length-prefixed message: one flag byte and four bytes of length. */
export const GRPC_PREFIX_BYTES = 5;

/** Stand-ins in the encoded template, found again by their bytes and overwritten in each request. */
const TRACE_ID_MARK = Buffer.from('c3a1f7e95b2d4866', 'hex');
const START_MARK = 0x5e_a1_7c_3b_92_d4_68_f0n;
const END_MARK = 0x6f_b2_8d_4c_a3_e5_79_01n;

const SCOPES = ['@opentelemetry/instrumentation-http', '@opentelemetry/instrumentation-pg', 'shop.handlers'];

interface Shape {
  readonly scope: number;
  readonly parent: number;
  readonly kind: number;
  readonly name: string;
  /** Nanoseconds from the trace's start. */
  readonly from: number;
  readonly to: number;
  readonly attributes: (user: number, row: number) => Record<string, unknown>;
}

function http(role: 'server' | 'client', path: string, route: string) {
  return (user: number, row: number): Record<string, unknown> => ({
    'http.request.method': 'GET',
    'http.response.status_code': 200,
    'url.scheme': 'https',
    'url.path': path.replace('{id}', String(row)),
    'server.address': 'orders.shop.example',
    'server.port': 8443,
    'network.protocol.version': '1.1',
    'network.peer.address': '10.20.30.40',
    'network.peer.port': 49152 + user,
    'http.response.body.size': 18_231,
    'user_agent.original': 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36',
    'tls.protocol.version': '1.3',
    'http.request.header.x-request-id': ['0d2f7f0e-58c3-4e8e-9a35-7c1fd2f0b9a4'],
    ...(role === 'server'
      ? { 'http.route': route, 'client.address': `10.0.${user % 200}.${row % 200}`, 'user.id': `user-${user}` }
      : { 'url.full': `https://orders.shop.example${path.replace('{id}', String(row))}`, 'http.resend_count': 0 }),
  });
}

function database(operation: string, table: string) {
  return (_user: number, row: number): Record<string, unknown> => ({
    'db.system.name': 'postgresql',
    'db.namespace': 'shop',
    'db.collection.name': table,
    'db.operation.name': operation,
    'db.query.text': `${operation} id, total, currency, state, updated_at FROM ${table} WHERE id = $1 AND tenant = $2 LIMIT 50`,
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

const MS = 1_000_000;
const SHAPES: readonly Shape[] = [
  {
    scope: 0,
    parent: -1,
    kind: 2,
    name: 'GET /orders/{id}',
    from: 0,
    to: 42 * MS,
    attributes: http('server', '/orders/{id}', '/orders/{id}'),
  },
  { scope: 2, parent: 0, kind: 1, name: 'authorise', from: MS, to: 4 * MS, attributes: work('authorise') },
  { scope: 2, parent: 0, kind: 1, name: 'load order', from: 5 * MS, to: 40 * MS, attributes: work('loadOrder') },
  {
    scope: 1,
    parent: 2,
    kind: 3,
    name: 'SELECT orders',
    from: 6 * MS,
    to: 11 * MS,
    attributes: database('SELECT', 'orders'),
  },
  {
    scope: 1,
    parent: 2,
    kind: 3,
    name: 'SELECT lines',
    from: 12 * MS,
    to: 17 * MS,
    attributes: database('SELECT', 'order_lines'),
  },
  {
    scope: 0,
    parent: 2,
    kind: 3,
    name: 'GET',
    from: 18 * MS,
    to: 38 * MS,
    attributes: http('client', '/prices/{id}', ''),
  },
  {
    scope: 0,
    parent: 5,
    kind: 2,
    name: 'GET /prices/{id}',
    from: 20 * MS,
    to: 37 * MS,
    attributes: http('server', '/prices/{id}', '/prices/{id}'),
  },
  {
    scope: 1,
    parent: 6,
    kind: 3,
    name: 'SELECT prices',
    from: 22 * MS,
    to: 33 * MS,
    attributes: database('SELECT', 'prices'),
  },
];

/** An encoded request with its gRPC prefix, and where in it trace ids and times are. */
export interface Template {
  readonly bytes: Buffer;
  /** Of the 8 bytes that make each span's trace id unique: the trace's number, then these. */
  readonly traceIdsAt: readonly number[];
  readonly times: readonly { readonly at: number; readonly delta: number }[];
}

export function buildTemplate(traces = TRACES_A_REQUEST): Template {
  const scopes = SCOPES.map((name) => ({ name, spans: [] as Buffer[] }));
  const deltas: { scope: number; from: number; to: number }[] = [];
  for (let trace = 0; trace < traces; trace++) {
    SHAPES.forEach((shape, index) => {
      scopes[shape.scope]?.spans.push(spanMessage(spanOf(shape, index, trace)));
      deltas.push({ scope: shape.scope, from: shape.from, to: shape.to });
    });
  }
  const blocks = scopes.map(({ name, spans }) => {
    const scope = Buffer.concat([delimited(1, name), delimited(2, '0.204.0')]);
    return delimited(2, Buffer.concat([delimited(1, scope), ...spans.map((span) => delimited(2, span))]));
  });
  const resource = delimited(1, keyValues(1, resourceAttributes()));
  const message = delimited(1, Buffer.concat([resource, ...blocks]));
  const prefix = Buffer.alloc(GRPC_PREFIX_BYTES);
  prefix.writeUInt32BE(message.length, 1);
  const bytes = Buffer.concat([prefix, message]);
  // Spans are in the bytes scope by scope, in the order they were made within each.
  const inOrder = SCOPES.flatMap((_, scope) => deltas.filter((delta) => delta.scope === scope));
  const starts = findAll(bytes, littleEndian(START_MARK)).map((at, index) => ({
    at,
    delta: inOrder[index]?.from ?? 0,
  }));
  const ends = findAll(bytes, littleEndian(END_MARK)).map((at, index) => ({ at, delta: inOrder[index]?.to ?? 0 }));
  const traceIdsAt = findAll(bytes, TRACE_ID_MARK).map((at) => at);
  if (traceIdsAt.length !== deltas.length || starts.length !== deltas.length || ends.length !== deltas.length) {
    throw new Error('the marks in the template are not unique');
  }
  return { bytes, traceIdsAt, times: [...starts, ...ends] };
}

function spanOf(shape: Shape, index: number, trace: number): TestSpan {
  const number = trace.toString(16).padStart(16, '0');
  const spanId = (at: number): string => (0xa0b0_c0d0_0000_0000n + BigInt(trace * SPANS_A_TRACE + at)).toString(16);
  return {
    traceId: TRACE_ID_MARK.toString('hex') + number,
    spanId: spanId(index),
    ...(shape.parent < 0 ? {} : { parentSpanId: spanId(shape.parent) }),
    name: shape.name,
    kind: shape.kind,
    startNs: START_MARK,
    endNs: END_MARK,
    attributes: shape.attributes(trace % 50, trace + 1),
  };
}

function resourceAttributes(): Record<string, unknown> {
  const named = {
    'service.name': 'shop',
    'service.namespace': 'retail',
    'service.version': '2026.11.3',
    'service.instance.id': '6f1c0a52-8f7e-4f5d-9d7a-0c6f3b1a2e44',
    'host.name': 'node-17.eu-central.example',
    'k8s.cluster.name': 'production',
    'k8s.namespace.name': 'shop',
    'k8s.pod.name': 'shop-6c9d8b7f5-x2x7q',
    'container.id': 'd1f5b6a7c8e90f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192',
    'telemetry.sdk.language': 'nodejs',
  };
  const filler = Array.from({ length: 15 }, (_, index) => [`deployment.label.${index}`, `value-of-label-${index}`]);
  return { ...named, ...Object.fromEntries(filler) };
}

/** Fills a buffer of the template's size with a new request: traces that no request before had, starting at `startMs`. */
export function freshen(buffer: Buffer, template: Template, unique: Buffer, startMs: number): void {
  for (const at of template.traceIdsAt) {
    for (let index = 0; index < 8; index++) buffer[at + index] = unique[index] ?? 0;
  }
  const startNs = BigInt(Math.trunc(startMs)) * 1_000_000n;
  const high = Number(startNs >> 32n);
  const low = Number(startNs & 0xffff_ffffn);
  for (const { at, delta } of template.times) {
    const sum = low + delta;
    buffer.writeUInt32LE(sum >>> 0, at);
    buffer.writeUInt32LE(sum > 0xffff_ffff ? high + 1 : high, at + 4);
  }
}

/** Distinct 8-byte values, never the same in two runs: a random start and a counter. */
export function uniqueValues(): () => Buffer {
  const value = randomBytes(8);
  return () => {
    value.writeUInt32LE((value.readUInt32LE(0) + 1) >>> 0, 0);
    return value;
  };
}

function littleEndian(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

function findAll(bytes: Buffer, mark: Buffer): number[] {
  const found: number[] = [];
  for (let at = bytes.indexOf(mark); at >= 0; at = bytes.indexOf(mark, at + mark.length)) found.push(at);
  return found;
}
