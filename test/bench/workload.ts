import { randomBytes } from 'node:crypto';
import { delimited, keyValues, logMessage, spanMessage, type TestSpan } from '../otlp/encode.ts';
import {
  EVENT_MARK,
  HOLES,
  isOfSecondService,
  LINK_MARK,
  LOGGED,
  resourceAttributes,
  SCOPES,
  SHAPES,
  type ShapeName,
  type SpanShape,
} from './shapes.ts';

/**
 * The bench's traffic as encoded requests: made once, and made new before each sending by writing over what tells one trace from
 * another: ids, times, and values that are drawn for each trace.
 */
export const TRACES_A_REQUEST = 64;
const SPANS_A_TRACE = 8;
export const SPANS_A_REQUEST = TRACES_A_REQUEST * SPANS_A_TRACE;

/** gRPC's length-prefixed message: one flag byte and four bytes of length. */
export const GRPC_PREFIX_BYTES = 5;

/** Stand-ins in the encoded template, found again by their bytes within their span. */
const TRACE_ID_MARK = 'c3a1f7e95b2d4866';
const START_MARK = 0x5e_a1_7c_3b_92_d4_68_f0n;
const END_MARK = 0x6f_b2_8d_4c_a3_e5_79_01n;
/** What all spans of a huge trace lie under; its root is sent last, as it ends last. */
const HUGE_ROOT_ID = 'feedfeedfeedfeed';

/** Starts and ends are moved inwards by less than what lies between any two of them. */
const JITTER_NS_MAX = 20_000;
/** How many orders and lengths of siblings `varied` has. */
const LAYOUTS = 256;
const SERVICES = 200;
const SERVICE_BUNDLES = 64;
const TRACES_A_SERVICE_BUNDLE = 4;
const SMALL_REQUEST_SPANS_MAX = 10;

/** An encoded request with its gRPC prefix, and where in it is what differs from sending to sending. Spans are in the bytes' order. */
export interface Template {
  readonly signal: 'traces' | 'logs';
  readonly bytes: Buffer;
  readonly spans: number;
  /** Of the 8 bytes that make each span's trace id unique: these, then the trace's number. */
  readonly traceIdsAt: readonly number[];
  /** All starts, then all ends, then events, which are at their span's end; the slot is twice the span's index, and one more for an end. */
  readonly times: readonly { readonly at: number; readonly trace: number; readonly slot: number }[];
  /** Ids of spans and of their parents. */
  readonly spanIds: readonly { readonly at: number; readonly trace: number; readonly index: number }[];
  /** Of the 8 bytes that make the ids of links new. */
  readonly linksAt: readonly number[];
  readonly holes: readonly {
    readonly at: number;
    readonly digits: number;
    readonly trace: number;
    readonly value: number;
  }[];
  /** Nanoseconds from the trace's start, by slot; each trace takes one of them. */
  readonly layouts: readonly Float64Array[];
}

export interface Traffic {
  readonly shape: ShapeName;
  /** Requests that have whole traces together, and are sent one after the other. */
  readonly bundles: readonly (readonly Template[])[];
  readonly tracesABundle: number;
  readonly spansABundle: number;
  /** Undefined for the one huge trace, of which not every access has a record. */
  readonly recordsATrace: number | undefined;
}

interface Place {
  readonly trace: number;
  readonly index: number;
}

/** Requests of `traces` traces; of `services` it has its own measure. */
export function buildTraffic(shape: ShapeName, traces = TRACES_A_REQUEST): Traffic {
  const bundles = shape === 'services' ? serviceBundles() : [[buildTemplate(traces, shape)]];
  if (shape === 'logs') bundles[0]?.push(logTemplate(traces));
  const tracesABundle = shape === 'services' ? TRACES_A_SERVICE_BUNDLE : traces;
  const recordsATrace = shape === 'huge' ? undefined : SHAPES[shape].filter(({ isAccess }) => isAccess).length;
  return { shape, bundles, tracesABundle, spansABundle: tracesABundle * SPANS_A_TRACE, recordsATrace };
}

/** Traces of which everything comes but the root, so that they stay open for as long as the settings wait for one. */
export function buildRootless(): Traffic {
  const template = encode(
    'orders',
    'shop',
    placesOf(TRACES_A_REQUEST).filter(({ index }) => index > 0),
  );
  const measure = { tracesABundle: TRACES_A_REQUEST, spansABundle: template.spans };
  return { shape: 'orders', bundles: [[template]], ...measure, recordsATrace: undefined };
}

export function buildTemplate(traces = TRACES_A_REQUEST, shape: ShapeName = 'orders'): Template {
  return encode(shape, 'shop', placesOf(traces));
}

function placesOf(traces: number): Place[] {
  return Array.from({ length: traces * SPANS_A_TRACE }, (_, at) => ({
    trace: Math.floor(at / SPANS_A_TRACE),
    index: at % SPANS_A_TRACE,
  }));
}

/** Traces that two of many services tell of, in requests of one to ten spans. */
function serviceBundles(): Template[][] {
  const places = placesOf(TRACES_A_SERVICE_BUNDLE);
  return Array.from({ length: SERVICE_BUNDLES }, (_, bundle) => {
    const requests: Template[] = [];
    for (const isSecond of [true, false]) {
      const service = `service-${mix(bundle * 2 + Number(isSecond)) % SERVICES}`;
      const own = places.filter(({ index }) => isOfSecondService(index) === isSecond);
      for (let at = 0, part = 0; at < own.length; part++) {
        const spans = 1 + (mix(bundle * 100 + part + (isSecond ? 50 : 0)) % SMALL_REQUEST_SPANS_MAX);
        requests.push(encode('services', service, own.slice(at, at + spans)));
        at += spans;
      }
    }
    return requests;
  });
}

function encode(shape: ShapeName, service: string, places: readonly Place[]): Template {
  const shapes = SHAPES[shape];
  const spans = SCOPES.flatMap((name, scope) => {
    const own = places.filter(({ index }) => shapes[index]?.scope === scope);
    return own.map((place) => ({ ...place, name, bytes: spanMessage(spanOf(shape, place)) }));
  });
  const blocks = SCOPES.map((name) => {
    const own = spans.filter((span) => span.name === name);
    if (own.length === 0) return Buffer.alloc(0);
    const scope = Buffer.concat([delimited(1, name), delimited(2, '0.204.0')]);
    return delimited(2, Buffer.concat([delimited(1, scope), ...own.map(({ bytes }) => delimited(2, bytes))]));
  });
  const resource = delimited(1, keyValues(1, resourceAttributes(service)));
  const bytes = framed(delimited(1, Buffer.concat([resource, ...blocks])));
  let at = 0;
  const placed = spans.map((span) => {
    at = bytes.indexOf(span.bytes, at);
    return { ...span, at };
  });
  const variable = findVariable(placed, shapes);
  const { traceIdsAt, times } = variable;
  if (traceIdsAt.length !== spans.length || times.length < 2 * spans.length)
    throw new Error('the marks in the template are not unique');
  return { signal: 'traces', bytes, spans: spans.length, layouts: layoutsOf(shape), ...variable };
}

/** What services log about the traces of `logs`, at the end of the span that it is of. */
function logTemplate(traces: number): Template {
  const logs = placesOf(traces).flatMap((place) => {
    const said = LOGGED.get(place.index);
    const { traceId = '', spanId = '' } = spanOf('logs', place);
    const times = { timeNs: EVENT_MARK, observedNs: EVENT_MARK, severityNumber: 9, severityText: 'INFO' };
    return said ? [{ ...place, bytes: logMessage({ traceId, spanId, ...times, ...said }) }] : [];
  });
  const scope = delimited(1, delimited(1, 'shop.logging'));
  const block = delimited(2, Buffer.concat([scope, ...logs.map(({ bytes }) => delimited(2, bytes))]));
  const resource = delimited(1, keyValues(1, resourceAttributes('shop')));
  const bytes = framed(delimited(1, Buffer.concat([resource, block])));
  let at = 0;
  const placed = logs.map((log) => {
    at = bytes.indexOf(log.bytes, at);
    return { ...log, at };
  });
  return { signal: 'logs', bytes, spans: 0, layouts: layoutsOf('logs'), ...findVariable(placed, SHAPES.logs) };
}

/** With gRPC's prefix. */
export function framed(message: Buffer, isCompressed = false): Buffer {
  const prefix = Buffer.alloc(GRPC_PREFIX_BYTES);
  prefix.writeUInt8(Number(isCompressed));
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

function findVariable(spans: readonly (Place & { bytes: Buffer; at: number })[], shapes: readonly SpanShape[]) {
  const find = (mark: Buffer) =>
    spans.flatMap(({ trace, index, bytes, at }) => {
      const found = allOf(bytes, mark);
      return found.map((offset) => ({ at: at + offset, trace, index }));
    });
  const starts = find(littleEndian(START_MARK)).map(({ index, ...place }) => ({ ...place, slot: 2 * index }));
  const ends = find(littleEndian(END_MARK)).map(({ index, ...place }) => ({ ...place, slot: 2 * index + 1 }));
  const events = find(littleEndian(EVENT_MARK)).map(({ index, ...place }) => ({ ...place, slot: 2 * index + 1 }));
  const linksAt = find(Buffer.from(LINK_MARK, 'hex')).map(({ at }) => at);
  const holes = HOLES.flatMap((hole, value) =>
    find(Buffer.from(hole)).map(({ at, trace }) => ({ at, trace, value, digits: hole.length })),
  );
  const spanIds = spans.flatMap(({ trace, index, bytes, at }) => {
    const parent = shapes[index]?.parent ?? -1;
    return [index, ...(parent < 0 ? [] : [parent])].flatMap((of) =>
      allOf(bytes, Buffer.from(spanIdMark(trace, of), 'hex')).map((offset) => ({ at: at + offset, trace, index: of })),
    );
  });
  const traceIdsAt = find(Buffer.from(TRACE_ID_MARK, 'hex')).map(({ at }) => at);
  return { traceIdsAt, times: [...starts, ...ends, ...events], holes, spanIds, linksAt };
}

function spanIdMark(trace: number, index: number): string {
  return (0xa0b0_c0d0_0000_0000n + BigInt(trace * SPANS_A_TRACE + index)).toString(16);
}

function spanOf(shape: ShapeName, { trace, index }: Place): TestSpan {
  const span = SHAPES[shape][index];
  if (span === undefined) throw new Error(`no span ${index} in ${shape}`);
  const number = shape === 'huge' ? 0 : trace;
  const parent = span.parent >= 0 ? spanIdMark(trace, span.parent) : shape === 'huge' ? HUGE_ROOT_ID : undefined;
  return {
    traceId: TRACE_ID_MARK + number.toString(16).padStart(16, '0'),
    spanId: spanIdMark(trace, index),
    ...(parent !== undefined && { parentSpanId: parent }),
    name: span.name,
    kind: span.kind,
    startNs: START_MARK,
    endNs: END_MARK,
    attributes: span.attributes(trace % 50, trace + 1),
    ...span.more,
  };
}

/** The request that ends the one huge trace: its root, from the first millisecond to the last. */
export function hugeRoot(unique: Buffer, startMs: number, endMs: number): Buffer {
  const [shape] = SHAPES.huge;
  const span = spanMessage({
    traceId: unique.toString('hex').padEnd(32, '0'),
    spanId: HUGE_ROOT_ID,
    name: 'POST /imports',
    kind: 2,
    startNs: BigInt(Math.trunc(startMs)) * 1_000_000n,
    endNs: BigInt(Math.trunc(endMs)) * 1_000_000n,
    attributes: shape?.attributes(1, 1) ?? {},
  });
  const block = delimited(2, Buffer.concat([delimited(1, delimited(1, SCOPES[0])), delimited(2, span)]));
  return framed(delimited(1, Buffer.concat([delimited(1, keyValues(1, resourceAttributes('shop'))), block])));
}

/** As the shape says; for `varied` in many orders and lengths of what lies side by side, each within its parent. */
function layoutsOf(shape: ShapeName): readonly Float64Array[] {
  const spans = SHAPES[shape];
  const usual = Float64Array.from(spans.flatMap(({ from, to }) => [from, to]));
  return shape === 'varied' ? Array.from({ length: LAYOUTS }, (_, seed) => shuffledLayout(spans, seed)) : [usual];
}

function shuffledLayout(spans: readonly SpanShape[], seed: number): Float64Array {
  const layout = new Float64Array(2 * spans.length);
  layout[1] = spans[0]?.to ?? 0;
  // A span's children share its time in an order and in parts that the seed gives.
  for (let parent = 0; parent < spans.length; parent++) {
    const children = spans.flatMap((span, index) => (span.parent === parent ? [index] : []));
    children.sort((a, b) => mix(seed * 64 + a) - mix(seed * 64 + b));
    const [from, to] = [layout[2 * parent] ?? 0, layout[2 * parent + 1] ?? 0];
    const part = (to - from) / Math.max(1, children.length);
    children.forEach((child, at) => {
      const length = 0.5 + mix(seed * 64 + child + 32) / 2 ** 33;
      layout[2 * child] = from + part * (at + 0.1);
      layout[2 * child + 1] = from + part * (at + 0.1 + 0.8 * length);
    });
  }
  return layout;
}

/**
 * Fills a buffer of the template's size with a new request: traces that no request before had, the first starting at `startMs`.
 * The same `unique` gives the same bytes. Spans of the trace of `ofTrace` when all requests are to be one trace.
 */
export function freshen(buffer: Buffer, template: Template, unique: Buffer, startMs: number, ofTrace = unique): void {
  for (const at of template.traceIdsAt) {
    for (let index = 0; index < 8; index++) buffer[at + index] = ofTrace[index] ?? 0;
  }
  const seed = mix(unique.readUInt32LE(0) ^ mix(unique.readUInt32LE(4)));
  writeTimes(buffer, template, seed, startMs);
  for (const { at, trace, index } of template.spanIds) {
    // Distinct within a request, and as random as ids are.
    buffer.writeUInt32LE(mix(seed ^ mix(trace + 1)), at);
    buffer.writeUInt32LE(mix(seed + trace * SPANS_A_TRACE + index), at + 4);
  }
  for (const at of template.linksAt) buffer.writeUInt32LE(mix(seed ^ at), at);
  for (const { at, digits, trace, value } of template.holes) {
    let number = mix(seed + trace * HOLES.length + value + 0x5bd1_e995);
    for (let last = at + digits - 1; last >= at; last--) {
      buffer[last] = 48 + (number % 10);
      number = Math.floor(number / 10);
    }
  }
}

/** Each trace takes between half as long and as long as its layout says, and each span begins and ends a little otherwise. */
function writeTimes(buffer: Buffer, { times, layouts }: Template, seed: number, startMs: number): void {
  const startNs = BigInt(Math.trunc(startMs)) * 1_000_000n;
  const high = Number(startNs >> 32n);
  const low = Number(startNs & 0xffff_ffffn);
  for (const { at, trace, slot } of times) {
    const ofTrace = mix(seed + trace);
    const usual = layouts[ofTrace % layouts.length]?.[slot] ?? 0;
    const jitter = slot === 0 ? 0 : mix(ofTrace + slot) % JITTER_NS_MAX;
    const inwards = slot % 2 === 0 ? jitter : -jitter;
    const sum = low + Math.floor((usual + inwards) * (0.5 + ofTrace / 2 ** 33));
    buffer.writeUInt32LE(sum >>> 0, at);
    buffer.writeUInt32LE(sum > 0xffff_ffff ? high + 1 : high, at + 4);
  }
}

/** Another number for each number (the end of MurmurHash3): 32 bits to 32 bits, none twice. */
function mix(value: number): number {
  let mixed = value >>> 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85eb_ca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2_ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
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

function allOf(bytes: Buffer, mark: Buffer): number[] {
  const found: number[] = [];
  for (let at = bytes.indexOf(mark); at >= 0; at = bytes.indexOf(mark, at + mark.length)) found.push(at);
  return found;
}
