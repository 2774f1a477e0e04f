import { assert } from '../core/assert.ts';
import { AppError } from '../core/errors.ts';
import type {
  AttributeValue,
  FrameNote,
  LogRecord,
  Resource,
  Scope,
  Signal,
  Span,
  SpanEvent,
} from '../core/evidence.ts';
import type { KeySet } from './key-set.ts';
import { Layout } from './layout.ts';
import { EMPTY_VALUE, ValueReader } from './value.ts';
import { SPAN_ID_BYTES, TRACE_ID_BYTES, WIRE, WireError } from './wire.ts';

export { compileKeys, type KeySet } from './key-set.ts';

const { varint, fixed64, fixed32, delimited } = WIRE;

/** Tags of opentelemetry-proto 1.x: the first field of a block is its resource or scope, see Layout. */
const BLOCK_HEAD = (1 << 3) | delimited;
const RESOURCE = { attributes: (1 << 3) | delimited } as const;
const SCOPE = { name: (1 << 3) | delimited, version: (2 << 3) | delimited } as const;
const SPAN = {
  traceId: (1 << 3) | delimited,
  spanId: (2 << 3) | delimited,
  traceState: (3 << 3) | delimited,
  parentSpanId: (4 << 3) | delimited,
  name: (5 << 3) | delimited,
  kind: (6 << 3) | varint,
  start: (7 << 3) | fixed64,
  end: (8 << 3) | fixed64,
  attributes: (9 << 3) | delimited,
  events: (11 << 3) | delimited,
  status: (15 << 3) | delimited,
  flags: (16 << 3) | fixed32,
} as const;
const EVENT = { time: (1 << 3) | fixed64, name: (2 << 3) | delimited, attributes: (3 << 3) | delimited } as const;
const STATUS = { message: (2 << 3) | delimited, code: (3 << 3) | varint } as const;
const LOG = {
  time: (1 << 3) | fixed64,
  severityNumber: (2 << 3) | varint,
  severityText: (3 << 3) | delimited,
  body: (5 << 3) | delimited,
  attributes: (6 << 3) | delimited,
  traceId: (9 << 3) | delimited,
  spanId: (10 << 3) | delimited,
  observed: (11 << 3) | fixed64,
  eventName: (12 << 3) | delimited,
} as const;

/** Evidence while it is being read. */
type Draft<T> = { -readonly [Key in keyof T]: T[Key] } & { attributes: Map<string, AttributeValue> };
type SpanDraft = Draft<Span> & { events: SpanEvent[] };

/**
 * Decodes items of one payload by the offsets that the scan gave, with only the attributes in `keys`. Resources and scopes
 * are found wherever they stand and decoded once. A known field with a wire type that is not its own counts as unknown, as in
 * protobuf's own parsers. A part that cannot be decoded (an attribute, an event, a status, a body) is left out and counted in
 * `unreadable`; the rest of its item counts. Where the item's own fields do not add up AppError('bad_request') is thrown: that
 * item belongs into quarantine, its neighbours may be fine.
 */
export class PayloadReader {
  readonly #payload: Uint8Array;
  readonly #signal: Signal;
  readonly #note: FrameNote;
  readonly #keys: KeySet;
  readonly #values: ValueReader;
  #layout: Layout | undefined;
  readonly #resources: (Resource | undefined)[] = [];
  /** Attributes that could not be decoded: of each resource, and of what is being read. */
  readonly #resourceUnreadable: number[] = [];
  #unreadable = 0;
  readonly #scopes: (Scope | undefined)[] = [];
  /** What the body of the log record being read holds so far: it may be given in parts. */
  #bodyKind = 0;

  constructor(payload: Uint8Array, signal: 'traces' | 'logs', note: FrameNote, keys: KeySet) {
    this.#payload = payload;
    this.#signal = signal;
    this.#note = note;
    this.#keys = signal === 'logs' ? keys.ofLogs : keys;
    this.#values = new ValueReader(payload);
  }

  /** The span whose message starts at this offset. Times that are absent are 0. */
  span(itemStart: number): Span {
    assert(this.#signal === 'traces', 'spans are read from trace payloads');
    try {
      return this.#span(itemStart);
    } catch (thrown) {
      throw undecodable('span', itemStart, thrown);
    }
  }

  /** The log record whose message starts at this offset. Times that are absent are 0. */
  logRecord(itemStart: number): LogRecord {
    assert(this.#signal === 'logs', 'log records are read from log payloads');
    try {
      return this.#logRecord(itemStart);
    } catch (thrown) {
      throw undecodable('log record', itemStart, thrown);
    }
  }

  #span(itemStart: number): Span {
    const end = this.#itemEnd(itemStart);
    const scope = this.#layoutOf().scopeAt(itemStart);
    const span: SpanDraft = {
      traceId: '',
      spanId: '',
      parentSpanId: '',
      traceState: '',
      flags: 0,
      name: '',
      kind: 0,
      startNs: 0n,
      endNs: 0n,
      attributes: new Map(),
      attributeCount: 0,
      events: [],
      statusCode: 0,
      statusMessage: '',
      resource: this.#resourceOf(scope),
      scope: this.#scopeOf(scope),
      note: this.#note,
      raw: this.#payload.subarray(itemStart, end),
    };
    this.#values.cursor.position = itemStart;
    this.#unreadable = this.#unreadableOf(scope);
    while (this.#values.cursor.position < end) this.#spanField(span, end);
    if (this.#unreadable > 0) span.unreadable = this.#unreadable;
    return span;
  }

  #spanField(span: SpanDraft, end: number): void {
    const values = this.#values;
    const tag = values.cursor.tag(end);
    switch (tag) {
      case SPAN.traceId:
        span.traceId = values.id(TRACE_ID_BYTES, end);
        break;
      case SPAN.spanId:
        span.spanId = values.id(SPAN_ID_BYTES, end);
        break;
      case SPAN.traceState:
        span.traceState = values.text(end);
        break;
      case SPAN.parentSpanId:
        span.parentSpanId = values.id(SPAN_ID_BYTES, end);
        break;
      case SPAN.name:
        span.name = values.text(end);
        break;
      case SPAN.kind:
        span.kind = values.cursor.int32(end);
        break;
      case SPAN.start:
        span.startNs = values.fixed64(end);
        break;
      case SPAN.end:
        span.endNs = values.fixed64(end);
        break;
      case SPAN.attributes:
        span.attributeCount++;
        if (!values.attribute(end, this.#keys, span.attributes)) this.#unreadable++;
        break;
      case SPAN.events:
        this.#part(end, (partEnd) => span.events.push(this.#event(partEnd)));
        break;
      case SPAN.status:
        this.#part(end, (partEnd) => this.#status(span, partEnd));
        break;
      case SPAN.flags:
        span.flags = values.fixed32(end);
        break;
      default:
        values.cursor.skip(tag, end);
    }
  }

  /** Reads the delimited part at the cursor; one that cannot be decoded costs only itself. Its length must be right. */
  #part(end: number, read: (partEnd: number) => void): void {
    const { cursor } = this.#values;
    const partEnd = cursor.delimitedEnd(end);
    try {
      read(partEnd);
    } catch (thrown) {
      if (!(thrown instanceof WireError)) throw thrown;
      this.#unreadable++;
      cursor.position = partEnd;
    }
  }

  #event(end: number): SpanEvent {
    const values = this.#values;
    const event: Draft<SpanEvent> = { name: '', timeNs: 0n, attributes: new Map() };
    while (values.cursor.position < end) {
      const tag = values.cursor.tag(end);
      if (tag === EVENT.time) event.timeNs = values.fixed64(end);
      else if (tag === EVENT.name) event.name = values.text(end);
      else if (tag === EVENT.attributes) {
        if (!values.attribute(end, this.#keys, event.attributes)) this.#unreadable++;
      } else values.cursor.skip(tag, end);
    }
    return event;
  }

  #status(span: SpanDraft, end: number): void {
    const values = this.#values;
    while (values.cursor.position < end) {
      const tag = values.cursor.tag(end);
      if (tag === STATUS.message) span.statusMessage = values.text(end);
      else if (tag === STATUS.code) span.statusCode = values.cursor.int32(end);
      else values.cursor.skip(tag, end);
    }
  }

  #logRecord(itemStart: number): LogRecord {
    const end = this.#itemEnd(itemStart);
    const scope = this.#layoutOf().scopeAt(itemStart);
    const log: Draft<LogRecord> = {
      traceId: '',
      spanId: '',
      timeNs: 0n,
      observedNs: 0n,
      severityNumber: 0,
      severityText: '',
      eventName: '',
      body: undefined,
      attributes: new Map(),
      resource: this.#resourceOf(scope),
      scope: this.#scopeOf(scope),
      note: this.#note,
      raw: this.#payload.subarray(itemStart, end),
    };
    this.#bodyKind = 0;
    this.#values.cursor.position = itemStart;
    this.#unreadable = this.#unreadableOf(scope);
    while (this.#values.cursor.position < end) this.#logField(log, end);
    if (this.#unreadable > 0) log.unreadable = this.#unreadable;
    if (log.traceId === '') log.spanId = '';
    return log;
  }

  #logField(log: Draft<LogRecord>, end: number): void {
    const values = this.#values;
    const tag = values.cursor.tag(end);
    switch (tag) {
      case LOG.time:
        log.timeNs = values.fixed64(end);
        break;
      case LOG.observed:
        log.observedNs = values.fixed64(end);
        break;
      case LOG.severityNumber:
        log.severityNumber = values.cursor.int32(end);
        break;
      case LOG.severityText:
        log.severityText = values.text(end);
        break;
      case LOG.eventName:
        log.eventName = values.text(end);
        break;
      case LOG.body:
        this.#part(end, (partEnd) => {
          log.body = values.continueValue(partEnd, 0, this.#bodyKind, log.body ?? EMPTY_VALUE);
          this.#bodyKind = values.kind;
        });
        break;
      case LOG.attributes:
        if (!values.attribute(end, this.#keys, log.attributes)) this.#unreadable++;
        break;
      case LOG.traceId:
        log.traceId = values.id(TRACE_ID_BYTES, end);
        break;
      case LOG.spanId:
        log.spanId = values.id(SPAN_ID_BYTES, end);
        break;
      default:
        values.cursor.skip(tag, end);
    }
  }

  /**
   * The end of the item, from the length in front of it. A tag and a length both end in a byte below 0x80, so going back
   * over continuation bytes finds where the length starts, however it was padded.
   */
  #itemEnd(itemStart: number): number {
    const cursor = this.#values.cursor;
    const layout = this.#layoutOf();
    const scope = layout.scopeAt(itemStart);
    const start = layout.scopeStart(scope);
    if (itemStart - start < 2) throw new WireError(itemStart, 'no item starts here');
    let lengthStart = itemStart - 1;
    while (lengthStart > start && (this.#payload[lengthStart - 1] as number) >= 0x80) lengthStart--;
    cursor.position = lengthStart;
    const end = cursor.delimitedEnd(layout.scopeEnd(scope));
    if (cursor.position !== itemStart) throw new WireError(itemStart, 'no item starts here');
    return end;
  }

  #layoutOf(): Layout {
    this.#layout ??= new Layout(this.#payload);
    return this.#layout;
  }

  #resourceOf(scope: number): Resource {
    const layout = this.#layoutOf();
    const index = layout.resourceOf(scope);
    const known = this.#resources[index];
    if (known !== undefined) return known;
    const attributes = new Map<string, AttributeValue>();
    let unreadable = 0;
    this.#heads(layout.resourceStart(index), layout.resourceEnd(index), (tag, end) => {
      if (tag !== RESOURCE.attributes) this.#values.cursor.skip(tag, end);
      else if (!this.#values.attribute(end, this.#keys, attributes)) unreadable++;
    });
    const resource = { attributes };
    this.#resources[index] = resource;
    this.#resourceUnreadable[index] = unreadable;
    return resource;
  }

  /** Attributes left out of the resource of this scope, which was read before. */
  #unreadableOf(scope: number): number {
    return this.#resourceUnreadable[this.#layoutOf().resourceOf(scope)] ?? 0;
  }

  #scopeOf(index: number): Scope {
    const known = this.#scopes[index];
    if (known !== undefined) return known;
    const scope = { name: '', version: '' };
    const layout = this.#layoutOf();
    this.#heads(layout.scopeStart(index), layout.scopeEnd(index), (tag, end) => {
      if (tag === SCOPE.name) scope.name = this.#values.text(end);
      else if (tag === SCOPE.version) scope.version = this.#values.text(end);
      else this.#values.cursor.skip(tag, end);
    });
    this.#scopes[index] = scope;
    return scope;
  }

  /** Visits the fields of a block's resource or scope. It may be given in several parts, which count as one message. */
  #heads(start: number, end: number, visit: (tag: number, end: number) => void): void {
    const cursor = this.#values.cursor;
    cursor.position = start;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag !== BLOCK_HEAD) {
        cursor.skip(tag, end);
        continue;
      }
      const headEnd = cursor.delimitedEnd(end);
      while (cursor.position < headEnd) visit(cursor.tag(headEnd), headEnd);
    }
  }
}

function undecodable(noun: string, itemStart: number, thrown: unknown): unknown {
  if (!(thrown instanceof WireError)) return thrown;
  const message = `the ${noun} at byte ${itemStart} cannot be decoded: ${thrown.message} (at byte ${thrown.offset})`;
  return new AppError('bad_request', message, { cause: thrown });
}
