import { SPAN_ID_BYTES, TRACE_ID_BYTES, WireCursor, WireError } from './wire.ts';

/**
 * Where the parts of one span or log record are, as byte offsets into the payload; -1 for what is absent. Ids that are given
 * have the right length and are not zero. The same object is passed for every item: copy what is kept.
 */
export interface ScannedItem {
  /** Start and exclusive end of the Span or LogRecord message. */
  itemStart: number;
  itemEnd: number;
  /** 16 bytes. */
  traceIdAt: number;
  /** 8 bytes. */
  spanIdAt: number;
  /** 8 bytes. */
  parentSpanIdAt: number;
}

/**
 * `items` counts everything seen, the rejected ones included. `reason` says in a sentence why items were rejected, empty
 * when none was. `ok: false` means that the payload is not the message it should be: nothing of it can be used.
 */
export type ScanResult =
  | { ok: true; items: number; rejected: number; reason: string }
  | { ok: false; offset: number; message: string };

type Sink = (item: ScannedItem) => void;

/** Told of everything in an ExportTraceServiceRequest, in its order. */
export interface TraceVisitor {
  /** A Resource* or Scope* message begins. */
  beginResource(): void;
  beginScope(): void;
  /** Its Resource or InstrumentationScope message; there may be none, or several that count as one. */
  resource(start: number, end: number): void;
  scope(start: number, end: number): void;
  /** Takes the span, or leaves it to the scan, which then tells of it as of an item. */
  takes(start: number, end: number): boolean;
  item: Sink;
}

/** Tags (field number × 8 + wire type) of opentelemetry-proto 1.x that the scan looks at. */
const TAG = {
  /** Export*ServiceRequest.resource_*, also the data points of every kind of metric data. */
  first: (1 << 3) | 2,
  /** Resource*.scope_*, and Scope*.{spans,log_records,metrics}. */
  second: (2 << 3) | 2,
  spanTraceId: (1 << 3) | 2,
  spanSpanId: (2 << 3) | 2,
  spanParentSpanId: (4 << 3) | 2,
  logTraceId: (9 << 3) | 2,
  logSpanId: (10 << 3) | 2,
  gauge: (5 << 3) | 2,
  sum: (7 << 3) | 2,
  histogram: (9 << 3) | 2,
  exponentialHistogram: (10 << 3) | 2,
  summary: (11 << 3) | 2,
} as const;

/**
 * Finds every span of an ExportTraceServiceRequest. Spans without a valid trace id and span id are counted as rejected and
 * not given to the sink; a parent id that is not valid counts as absent. Fields may come in any legal order and encoding.
 */
export function scanTraces(payload: Uint8Array, sink?: Sink): ScanResult {
  return new Scan(payload, sink).run(scanSpan, 'span');
}

/** The same; what the visitor takes counts as not rejected. */
export function visitTraces(payload: Uint8Array, visitor: TraceVisitor): ScanResult {
  return new Scan(payload, visitor.item, visitor).run(scanSpan, 'span');
}

/**
 * Finds every record of an ExportLogsServiceRequest. None is rejected: as opentelemetry-proto's logs.proto asks, a record
 * whose trace id is missing or not valid belongs to no trace, and its span id then means nothing.
 */
export function scanLogs(payload: Uint8Array, sink?: Sink): ScanResult {
  return new Scan(payload, sink).run(scanLogRecord, 'log record');
}

/** Checks an ExportMetricsServiceRequest; `items` are its data points. */
export function scanMetrics(payload: Uint8Array): ScanResult {
  return new Scan(payload, undefined).run(scanMetric, 'data point');
}

/** One pass over one payload. The position and the counters live here so that the item functions allocate nothing. */
class Scan {
  readonly cursor: WireCursor;
  readonly sink: Sink | undefined;
  readonly visitor: TraceVisitor | undefined;
  readonly item: ScannedItem = { itemStart: -1, itemEnd: -1, traceIdAt: -1, spanIdAt: -1, parentSpanIdAt: -1 };
  items = 0;
  badTraceIds = 0;
  badSpanIds = 0;

  constructor(payload: Uint8Array, sink: Sink | undefined, visitor?: TraceVisitor) {
    this.cursor = new WireCursor(payload);
    this.sink = sink;
    this.visitor = visitor;
  }

  run(scanItem: (scan: Scan, end: number) => void, noun: string): ScanResult {
    try {
      this.#walk(scanItem);
    } catch (thrown) {
      if (!(thrown instanceof WireError)) throw thrown;
      return { ok: false, offset: thrown.offset, message: `${thrown.message} (at byte ${thrown.offset})` };
    }
    const rejected = this.badTraceIds + this.badSpanIds;
    return { ok: true, items: this.items, rejected, reason: rejected === 0 ? '' : this.#reason(noun) };
  }

  #walk(scanItem: (scan: Scan, end: number) => void): void {
    const cursor = this.cursor;
    const payloadEnd = cursor.bytes.length;
    while (cursor.position < payloadEnd) {
      const envelopeTag = cursor.tag(payloadEnd);
      if (envelopeTag !== TAG.first) {
        cursor.skip(envelopeTag, payloadEnd);
        continue;
      }
      const resourceEnd = cursor.delimitedEnd(payloadEnd);
      this.visitor?.beginResource();
      while (cursor.position < resourceEnd) {
        const resourceTag = cursor.tag(resourceEnd);
        if (resourceTag === TAG.second) this.#walkScope(cursor.delimitedEnd(resourceEnd), scanItem);
        else if (resourceTag === TAG.first) this.#resource(resourceEnd);
        else cursor.skip(resourceTag, resourceEnd);
      }
    }
  }

  #walkScope(scopeEnd: number, scanItem: (scan: Scan, end: number) => void): void {
    const { cursor, visitor } = this;
    visitor?.beginScope();
    while (cursor.position < scopeEnd) {
      const tag = cursor.tag(scopeEnd);
      if (tag === TAG.second) {
        const end = cursor.delimitedEnd(scopeEnd);
        if (visitor?.takes(cursor.position, end)) {
          this.items++;
          cursor.position = end;
        } else scanItem(this, end);
      } else if (tag === TAG.first) this.#scope(scopeEnd);
      else cursor.skip(tag, scopeEnd);
    }
  }

  #resource(blockEnd: number): void {
    const end = this.cursor.delimitedEnd(blockEnd);
    this.visitor?.resource(this.cursor.position, end);
    this.cursor.position = end;
  }

  #scope(blockEnd: number): void {
    const end = this.cursor.delimitedEnd(blockEnd);
    this.visitor?.scope(this.cursor.position, end);
    this.cursor.position = end;
  }

  #reason(noun: string): string {
    const reasons: string[] = [];
    if (this.badTraceIds > 0) reasons.push(`${this.badTraceIds} without a valid trace id (16 bytes, not all zero)`);
    if (this.badSpanIds > 0) reasons.push(`${this.badSpanIds} without a valid span id (8 bytes, not all zero)`);
    return `${noun}s rejected: ${reasons.join('; ')}`;
  }
}

function scanSpan(scan: Scan, end: number): void {
  const cursor = scan.cursor;
  const start = cursor.position;
  let traceIdAt = -1;
  let spanIdAt = -1;
  let parentSpanIdAt = -1;
  while (cursor.position < end) {
    const tag = cursor.tag(end);
    switch (tag) {
      case TAG.spanTraceId:
        traceIdAt = cursor.validId(TRACE_ID_BYTES, end);
        break;
      case TAG.spanSpanId:
        spanIdAt = cursor.validId(SPAN_ID_BYTES, end);
        break;
      case TAG.spanParentSpanId:
        parentSpanIdAt = cursor.validId(SPAN_ID_BYTES, end);
        break;
      default:
        cursor.skip(tag, end);
    }
  }
  scan.items++;
  if (traceIdAt < 0) scan.badTraceIds++;
  else if (spanIdAt < 0) scan.badSpanIds++;
  else emit(scan, start, end, traceIdAt, spanIdAt, parentSpanIdAt);
}

function scanLogRecord(scan: Scan, end: number): void {
  const cursor = scan.cursor;
  const start = cursor.position;
  let traceIdAt = -1;
  let spanIdAt = -1;
  while (cursor.position < end) {
    const tag = cursor.tag(end);
    if (tag === TAG.logTraceId) traceIdAt = cursor.validId(TRACE_ID_BYTES, end);
    else if (tag === TAG.logSpanId) spanIdAt = cursor.validId(SPAN_ID_BYTES, end);
    else cursor.skip(tag, end);
  }
  scan.items++;
  emit(scan, start, end, traceIdAt, traceIdAt < 0 ? -1 : spanIdAt, -1);
}

function emit(scan: Scan, start: number, end: number, traceIdAt: number, spanIdAt: number, parentAt: number): void {
  const sink = scan.sink;
  if (sink === undefined) return;
  const item = scan.item;
  item.itemStart = start;
  item.itemEnd = end;
  item.traceIdAt = traceIdAt;
  item.spanIdAt = spanIdAt;
  item.parentSpanIdAt = parentAt;
  sink(item);
}

/** The data of a metric is a oneof: the last kind that is given counts, and the same kind given again adds its points. */
function scanMetric(scan: Scan, end: number): void {
  const cursor = scan.cursor;
  let kind = 0;
  let points = 0;
  while (cursor.position < end) {
    const tag = cursor.tag(end);
    switch (tag) {
      case TAG.gauge:
      case TAG.sum:
      case TAG.histogram:
      case TAG.exponentialHistogram:
      case TAG.summary: {
        const found = countPoints(cursor, cursor.delimitedEnd(end));
        points = tag === kind ? points + found : found;
        kind = tag;
        break;
      }
      default:
        cursor.skip(tag, end);
    }
  }
  scan.items += points;
}

function countPoints(cursor: WireCursor, end: number): number {
  let points = 0;
  while (cursor.position < end) {
    const tag = cursor.tag(end);
    if (tag === TAG.first) points++;
    cursor.skip(tag, end);
  }
  return points;
}
