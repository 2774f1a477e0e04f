import { assert } from '../core/assert.ts';
import { AttributeTable } from '../core/attribute-table.ts';
import { AppError } from '../core/errors.ts';
import { type FrameNote, isPlain, type LogRecord, type Signal, type Span, type SpanEvent } from '../core/evidence.ts';
import { rawBytes } from '../core/raw-bytes.ts';
import { BlockHeads } from './block-heads.ts';
import { eventOf, keyEvent } from './event-parts.ts';
import type { KeySet } from './key-set.ts';
import { Layout } from './layout.ts';
import { areSameBytes, numberContent, type SpanContents, sayTheSame, seedOf } from './span-contents.ts';
import { EVENT, LOG, SPAN, STATUS } from './tags.ts';
import { EMPTY_VALUE, ValueReader } from './value.ts';
import { SPAN_ID_BYTES, TRACE_ID_BYTES, WireError } from './wire.ts';

export { compileKeys, type KeySet } from './key-set.ts';
export { SpanContents } from './span-contents.ts';

/** Evidence while it is being read. */
type Draft<T> = { -readonly [Key in keyof T]: T[Key] } & { attributes: AttributeTable };
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
  #heads: BlockHeads | undefined;
  /** Parts of what is being read that could not be decoded. */
  #unreadable = 0;
  /** What the body of the log record being read holds so far: it may be given in parts. */
  #bodyKind = 0;
  readonly #contents: SpanContents | undefined;
  #lastTraceId = '';
  #lastTraceIdAt = -1;

  /** `contents` is shared by readers with the same keys. */
  constructor(
    payload: Uint8Array,
    signal: 'traces' | 'logs',
    note: FrameNote,
    keys: KeySet,
    contents?: SpanContents | undefined,
  ) {
    this.#contents = isPlain(note) ? contents : undefined;
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
    const heads = this.#headsOf();
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
      attributes: NOTHING,
      attributeCount: 0,
      events: NONE,
      statusCode: 0,
      statusMessage: '',
      resource: heads.resourceOf(scope),
      scope: heads.scopeOf(scope),
      note: this.#note,
      raw: rawBytes(this.#payload, itemStart, end),
      content: undefined,
    };
    this.#unreadable = heads.unreadableOf(scope);
    const isKeyed = heads.areShared(scope) && this.#key(span, itemStart, end);
    const contents = isKeyed ? this.#contents : undefined;
    const known = contents?.find(span.resource, span.scope, seedOf(span));
    if (known !== undefined) return sayTheSame(span, known);
    span.attributes = new AttributeTable();
    span.events = [];
    if (contents !== undefined) this.#keyedParts(span, contents);
    else {
      span.attributeCount = 0;
      this.#values.cursor.position = itemStart;
      while (this.#values.cursor.position < end) this.#spanField(span, end);
    }
    if (this.#unreadable > 0) span.unreadable = this.#unreadable;
    else if (contents?.isSeen()) {
      const { name, kind, attributes, events, statusCode, statusMessage, resource, scope: of } = span;
      const number = numberContent();
      const content = { name, kind, attributes, events, statusCode, statusMessage, resource, scope: of, number };
      span.content = content;
      contents.keep(content);
    }
    return span;
  }

  /** Reads what the key was put together from; the rest of the span is read already. */
  #keyedParts(span: SpanDraft, contents: SpanContents): void {
    const values = this.#values;
    for (let part = 0; part < contents.count; part++) {
      const field = contents.fieldOf(part);
      const end = contents.endOf(part);
      values.cursor.position = contents.startOf(part);
      const event = eventOf(field);
      if (event >= 0) this.#eventPart(span, event, contents.keyOf(part), end);
      else if (field !== SPAN.attributes) this.#fieldAfterTag(field, span, end);
      else if (!values.peekedValue(end, contents.keyOf(part), span.attributes)) this.#unreadable++;
    }
  }

  /** Reads an attribute of an event: the one that is being read, or the next. */
  #eventPart(span: SpanDraft, number: number, key: string, end: number): void {
    if (span.events.length <= number) span.events.push({ attributes: new AttributeTable() });
    const event = span.events[number] as { attributes: AttributeTable };
    if (!this.#values.peekedValue(end, key, event.attributes)) this.#unreadable++;
  }

  /**
   * Reads ids and times, and puts the key of the rest together. False where the span is too large, or not written in the usual way.
   */
  #key(span: SpanDraft, itemStart: number, end: number): boolean {
    const contents = this.#contents;
    if (contents === undefined) return false;
    const values = this.#values;
    const { cursor } = values;
    contents.begin(values.view);
    cursor.position = itemStart;
    let events = 0;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      const start = cursor.position;
      switch (tag) {
        case SPAN.attributes: {
          span.attributeCount++;
          const key = values.peekAttribute(end, this.#keys);
          if (key === undefined) return false;
          if (key !== null && !contents.add(tag, values.attributeStart, cursor.position, key)) return false;
          break;
        }
        case SPAN.name:
        case SPAN.kind:
        case SPAN.status:
          cursor.skip(tag, end);
          if (!contents.add(tag, start, cursor.position)) return false;
          break;
        case SPAN.events: {
          const eventEnd = cursor.delimitedEnd(end);
          const added = keyEvent(values, eventEnd, this.#keys, contents, events);
          if (added < 0) return false;
          if (added > 0) events++;
          cursor.position = eventEnd;
          break;
        }
        default:
          cursor.position = start;
          this.#fieldAfterTag(tag, span, end);
      }
    }
    return true;
  }

  #spanField(span: SpanDraft, end: number): void {
    this.#fieldAfterTag(this.#values.cursor.tag(end), span, end);
  }

  #fieldAfterTag(tag: number, span: SpanDraft, end: number): void {
    const values = this.#values;
    switch (tag) {
      case SPAN.traceId:
        span.traceId = this.#traceId(end);
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
        this.#part(end, (partEnd) => this.#event(span, partEnd));
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

  /** Spans of one trace often follow each other: the same bytes as before need not be written in hex again. */
  #traceId(end: number): string {
    const { cursor, view } = this.#values;
    const at = cursor.validId(TRACE_ID_BYTES, end);
    if (at < 0) return '';
    const last = this.#lastTraceIdAt;
    if (last >= 0 && areSameBytes(view, at, view, last, TRACE_ID_BYTES)) return this.#lastTraceId;
    this.#lastTraceIdAt = at;
    this.#lastTraceId = this.#values.hex(at, TRACE_ID_BYTES);
    return this.#lastTraceId;
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

  #event(span: SpanDraft, end: number): void {
    const values = this.#values;
    const attributes = new AttributeTable();
    while (values.cursor.position < end) {
      const tag = values.cursor.tag(end);
      if (tag !== EVENT.attributes) values.cursor.skip(tag, end);
      else if (!values.attribute(end, this.#keys, attributes)) this.#unreadable++;
    }
    if (attributes.size > 0) span.events.push({ attributes });
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
    const heads = this.#headsOf();
    const log: Draft<LogRecord> = {
      traceId: '',
      spanId: '',
      timeNs: 0n,
      observedNs: 0n,
      severityNumber: 0,
      severityText: '',
      eventName: '',
      body: undefined,
      attributes: new AttributeTable(),
      resource: heads.resourceOf(scope),
      scope: heads.scopeOf(scope),
      note: this.#note,
      raw: this.#payload.subarray(itemStart, end),
    };
    this.#bodyKind = 0;
    this.#values.cursor.position = itemStart;
    this.#unreadable = heads.unreadableOf(scope);
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

  #headsOf(): BlockHeads {
    this.#heads ??= new BlockHeads(this.#values, this.#layoutOf(), this.#keys, this.#contents);
    return this.#heads;
  }

  #layoutOf(): Layout {
    this.#layout ??= new Layout(this.#payload);
    return this.#layout;
  }
}

const NOTHING = new AttributeTable();
const NONE: SpanEvent[] = [];

function undecodable(noun: string, itemStart: number, thrown: unknown): unknown {
  if (!(thrown instanceof WireError)) return thrown;
  const message = `the ${noun} at byte ${itemStart} cannot be decoded: ${thrown.message} (at byte ${thrown.offset})`;
  return new AppError('bad_request', message, { cause: thrown });
}
