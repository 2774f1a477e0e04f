/**
 * A small OTLP encoder for tests: plain objects in, protobuf requests out. Field numbers are those of opentelemetry-proto 1.x.
 * Ids are hex and are encoded as given, so that tests can also send odd ones; `undefined` leaves the field out.
 */

export interface TestScope {
  name?: string;
  version?: string;
  attributes?: Record<string, unknown>;
}

export interface TestEvent {
  name?: string;
  timeNs?: bigint;
  attributes?: Record<string, unknown>;
}

export interface TestLink {
  traceId?: string;
  spanId?: string;
  attributes?: Record<string, unknown>;
}

export interface TestSpan {
  traceId?: string;
  spanId?: string;
  parentSpanId?: string;
  traceState?: string;
  flags?: number;
  name?: string;
  kind?: number;
  startNs?: bigint;
  endNs?: bigint;
  attributes?: Record<string, unknown>;
  events?: TestEvent[];
  links?: TestLink[];
  statusCode?: number;
  statusMessage?: string;
}

export interface TestLog {
  traceId?: string;
  spanId?: string;
  timeNs?: bigint;
  observedNs?: bigint;
  severityNumber?: number;
  severityText?: string;
  eventName?: string;
  body?: unknown;
  attributes?: Record<string, unknown>;
}

/** One gauge with one data point a value. */
export interface TestMetric {
  name?: string;
  unit?: string;
  points: { timeNs?: bigint; value: number; attributes?: Record<string, unknown> }[];
}

interface TestResource {
  /** Resource attributes. */
  attributes?: Record<string, unknown>;
  scope?: TestScope;
}

const VARINT = 0;
const FIXED64 = 1;
const DELIMITED = 2;
const FIXED32 = 5;

/** A varint of any non-negative or (as int64) negative number. */
export function varint(value: number | bigint): Buffer {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  do {
    const more = rest > 0x7fn;
    bytes.push(Number(rest & 0x7fn) | (more ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Buffer.from(bytes);
}

export function tag(field: number, wireType: number): Buffer {
  return varint(field * 8 + wireType);
}

/** A length-delimited field: text, bytes or an embedded message. Nothing when the content is undefined. */
export function delimited(field: number, content: string | Uint8Array | undefined): Buffer {
  if (content === undefined) return Buffer.alloc(0);
  const bytes = typeof content === 'string' ? Buffer.from(content, 'utf8') : content;
  return Buffer.concat([tag(field, DELIMITED), varint(bytes.length), bytes]);
}

export function integer(field: number, value: number | bigint | undefined): Buffer {
  return value === undefined ? Buffer.alloc(0) : Buffer.concat([tag(field, VARINT), varint(value)]);
}

export function fixed64(field: number, value: bigint | undefined): Buffer {
  if (value === undefined) return Buffer.alloc(0);
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, value));
  return Buffer.concat([tag(field, FIXED64), bytes]);
}

export function fixed32(field: number, value: number | undefined): Buffer {
  if (value === undefined) return Buffer.alloc(0);
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return Buffer.concat([tag(field, FIXED32), bytes]);
}

export function double(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([tag(field, FIXED64), bytes]);
}

function id(field: number, hex: string | undefined): Buffer {
  return delimited(field, hex === undefined ? undefined : Buffer.from(hex, 'hex'));
}

/**
 * An AnyValue: text, boolean, whole number or bigint (int64), other number (double), Uint8Array (bytes), array, object
 * (key-value list); null and undefined are the empty value.
 */
export function anyValue(value: unknown): Buffer {
  if (value === null || value === undefined) return Buffer.alloc(0);
  if (typeof value === 'string') return delimited(1, value);
  if (typeof value === 'boolean') return integer(2, value ? 1 : 0);
  if (typeof value === 'bigint' || Number.isSafeInteger(value)) return integer(3, value as number | bigint);
  if (typeof value === 'number') return double(4, value);
  if (value instanceof Uint8Array) return delimited(7, value);
  if (Array.isArray(value)) return delimited(5, Buffer.concat(value.map((item) => delimited(1, anyValue(item)))));
  return delimited(6, keyValues(1, value as Record<string, unknown>));
}

export function keyValues(field: number, attributes: Record<string, unknown> = {}): Buffer {
  return Buffer.concat(
    Object.entries(attributes).map(([key, value]) =>
      delimited(field, Buffer.concat([delimited(1, key), delimited(2, anyValue(value))])),
    ),
  );
}

/** The body of one Span message. */
export function spanMessage(span: TestSpan): Buffer {
  const events = (span.events ?? []).map((event) =>
    delimited(11, Buffer.concat([fixed64(1, event.timeNs), delimited(2, event.name), keyValues(3, event.attributes)])),
  );
  const links = (span.links ?? []).map((link) =>
    delimited(13, Buffer.concat([id(1, link.traceId), id(2, link.spanId), keyValues(4, link.attributes)])),
  );
  const hasStatus = span.statusCode !== undefined || span.statusMessage !== undefined;
  return Buffer.concat([
    id(1, span.traceId),
    id(2, span.spanId),
    delimited(3, span.traceState),
    id(4, span.parentSpanId),
    delimited(5, span.name),
    integer(6, span.kind),
    fixed64(7, span.startNs),
    fixed64(8, span.endNs),
    keyValues(9, span.attributes),
    ...events,
    ...links,
    hasStatus
      ? delimited(15, Buffer.concat([delimited(2, span.statusMessage), integer(3, span.statusCode)]))
      : Buffer.alloc(0),
    fixed32(16, span.flags),
  ]);
}

/** The body of one LogRecord message. */
export function logMessage(log: TestLog): Buffer {
  return Buffer.concat([
    fixed64(1, log.timeNs),
    integer(2, log.severityNumber),
    delimited(3, log.severityText),
    log.body === undefined ? Buffer.alloc(0) : delimited(5, anyValue(log.body)),
    keyValues(6, log.attributes),
    id(9, log.traceId),
    id(10, log.spanId),
    fixed64(11, log.observedNs),
    delimited(12, log.eventName),
  ]);
}

function metricMessage(metric: TestMetric): Buffer {
  const points = metric.points.map((point) =>
    delimited(1, Buffer.concat([fixed64(3, point.timeNs), double(4, point.value), keyValues(7, point.attributes)])),
  );
  return Buffer.concat([delimited(1, metric.name), delimited(3, metric.unit), delimited(5, Buffer.concat(points))]);
}

function block(resource: TestResource, items: readonly Buffer[]): Buffer {
  const { name, version, attributes } = resource.scope ?? {};
  const scope = Buffer.concat([delimited(1, name), delimited(2, version), keyValues(3, attributes)]);
  const scopeBlock = Buffer.concat([delimited(1, scope), ...items.map((item) => delimited(2, item))]);
  return delimited(1, Buffer.concat([delimited(1, keyValues(1, resource.attributes)), delimited(2, scopeBlock)]));
}

/** An ExportTraceServiceRequest: one resource block with one scope block for each entry. */
export function encodeTraces(resources: readonly (TestResource & { spans: readonly TestSpan[] })[]): Buffer {
  return Buffer.concat(resources.map((resource) => block(resource, resource.spans.map(spanMessage))));
}

/** An ExportLogsServiceRequest: one resource block with one scope block for each entry. */
export function encodeLogs(resources: readonly (TestResource & { logs: readonly TestLog[] })[]): Buffer {
  return Buffer.concat(resources.map((resource) => block(resource, resource.logs.map(logMessage))));
}

/** An ExportMetricsServiceRequest of gauges: one resource block with one scope block for each entry. */
export function encodeMetrics(resources: readonly (TestResource & { metrics: readonly TestMetric[] })[]): Buffer {
  return Buffer.concat(resources.map((resource) => block(resource, resource.metrics.map(metricMessage))));
}

/** Fields of each message that are messages themselves, as far as .NET's exporter leaves room for their lengths. */
const INNER: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  request: { 1: 'block' },
  block: { 1: 'resource', 2: 'items' },
  resource: { 1: 'keyValue' },
  items: { 1: 'scope', 2: 'span' },
  scope: { 3: 'keyValue' },
  span: { 9: 'keyValue', 11: 'event', 13: 'link', 15: 'status' },
  keyValue: { 2: 'value' },
  event: { 3: 'keyValue' },
  link: { 4: 'keyValue' },
};

/** The same request of spans with lengths of messages in four bytes each, as exporters write them that fill them in later. */
export function withRoomForLengths(message: Buffer, name = 'request'): Buffer {
  const inner = INNER[name];
  if (inner === undefined) return message;
  const parts: Buffer[] = [];
  let at = 0;
  const number = (): number => {
    let [value, shift] = [0, 0];
    for (;;) {
      const byte = message[at++] ?? 0;
      value += (byte & 0x7f) * 2 ** shift;
      shift += 7;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.length) {
    const start = at;
    const tag = number();
    const kind = inner[tag >>> 3];
    if ((tag & 7) === VARINT) number();
    else if ((tag & 7) === FIXED64) at += 8;
    else if ((tag & 7) === FIXED32) at += 4;
    else {
      const length = number();
      at += length;
    }
    if ((tag & 7) !== DELIMITED || kind === undefined) {
      parts.push(message.subarray(start, at));
      continue;
    }
    const end = at;
    at = start;
    number();
    const length = number();
    const body = withRoomForLengths(message.subarray(end - length, end), kind);
    const room = [0, 7, 14, 21].map((bits) => ((body.length >>> bits) & 0x7f) | (bits < 21 ? 0x80 : 0));
    parts.push(varint(tag), Buffer.from(room), body);
    at = end;
  }
  return Buffer.concat(parts);
}
