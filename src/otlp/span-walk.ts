import { type HeadPart, type KnownPart, ROW, ROW_WORDS, type SpanRows } from '../core/span-rows.ts';
import { type KnownParts, NO_PART, type NumberedPart } from './known-parts.ts';
import { type ScannedItem, type ScanResult, type TraceVisitor, visitTraces } from './scan.ts';
import { eventTimeAt, LINK_IDS_BYTES, linkIdsAt, partEnd, partStart, silentEnd, smallEnd } from './usual-fields.ts';
import { SPAN_ID_BYTES, TRACE_ID_BYTES } from './wire.ts';

/** Tags of opentelemetry-proto 1.x as they are written, one byte each; the flags' has two. */
const TRACE_ID = 0x0a;
const SPAN_ID = 0x12;
const TRACE_STATE = 0x1a;
const PARENT_SPAN_ID = 0x22;
const NAME = 0x2a;
const KIND = 0x30;
const START = 0x39;
const END = 0x41;
const ATTRIBUTES = 0x4a;
const DROPPED_ATTRIBUTES = 0x50;
const EVENTS = 0x5a;
const DROPPED_EVENTS = 0x60;
const LINKS = 0x6a;
const DROPPED_LINKS = 0x70;
const STATUS = 0x7a;
const FLAGS = [0x85, 0x01] as const;

/** By tag: fields of what a span says with a length before them, those that are a small number, and parts with a time or ids in them. */
const PART = 1;
const SMALL = 2;
const EVENT = 3;
const LINK = 4;
const KINDS = new Uint8Array(256);
KINDS[EVENTS] = EVENT;
KINDS[LINKS] = LINK;
for (const tag of [NAME, ATTRIBUTES, STATUS]) KINDS[tag] = PART;
for (const tag of [KIND, DROPPED_ATTRIBUTES, DROPPED_EVENTS, DROPPED_LINKS]) KINDS[tag] = SMALL;

/** Rows that memory is taken for at once: those of several requests lie one after the other in it. */
const ROWS_AT_ONCE = 4096;

const NO_BYTES = new Uint8Array(0);

interface NewsRow {
  readonly row: number;
  readonly scope: number;
}

/** What a walk found. `rows` has what came before the fault where the result is not ok. */
export interface WalkedTraces {
  readonly result: ScanResult;
  readonly rows: SpanRows;
  /** A resource or scope is not known. */
  readonly hasNewHeads: boolean;
  /** Rows of spans that came a second time, and the numbers of their scopes. */
  readonly news: readonly NewsRow[];
}

/**
 * The one walk over the bytes of an ExportTraceServiceRequest: where its spans, their ids and times are, and which of its parts are known.
 * It finds what `scanTraces` finds, in any legal order and encoding; what is not written in the usual way, or tells of sampling, is
 * not known by its bytes.
 */
export class SpanWalk implements TraceVisitor {
  readonly #known: KnownParts | undefined;
  #isKeeping = false;
  #hasNewHeads = false;
  #news: NewsRow[] = [];
  /** Rows to be kept; undefined for those that come a second time. */
  #toKeep: readonly NewsRow[] | undefined;
  /** How many of them are. */
  #kept = 0;
  #isClean = true;
  #payload: Uint8Array = NO_BYTES;
  #view: DataView = new DataView(NO_BYTES.buffer);
  /** Rows of this payload begin at word `#from`. */
  #words = new Int32Array(ROWS_AT_ONCE * ROW_WORDS);
  #from = 0;
  #count = 0;
  #parts: (KnownPart | undefined)[] = [];
  #heads: HeadPart[] = [];
  readonly #resource = new OpenHead('resource');
  readonly #scope = new OpenHead('scope');

  /** Without `known` nothing is looked for but spans, and what was found is there until the next walk only. */
  constructor(known?: KnownParts) {
    this.#known = known;
  }

  /** Finds, and keeps nothing: the payload may hold secrets yet. */
  walk(payload: Uint8Array): WalkedTraces {
    return this.#run(payload, false, undefined);
  }

  /** The same for a payload without secrets: what comes a second time is kept. */
  walkMasked(payload: Uint8Array): WalkedTraces {
    return this.#run(payload, true, undefined);
  }

  /**
   * Where the spans are and what they say once secrets are taken out of a payload that was walked through: what came a second time
   * then is kept. `isChanged`: there were some, and their bytes are others now.
   */
  keep(payload: Uint8Array, walked: WalkedTraces, isChanged: boolean): SpanRows {
    const { rows, news } = walked;
    if (isChanged || walked.hasNewHeads) return this.#run(payload, true, news).rows;
    if (news.length === 0) return rows;
    this.#open(payload);
    const parts = [...rows.parts];
    for (const { row, scope } of news) {
      const at = row * ROW_WORDS;
      const isRoot = (rows.words[at + ROW.parentIdAt] as number) < 0;
      this.#look(this.#nextRow(), rows.words[at + ROW.itemStart] as number, rows.words[at + ROW.itemEnd] as number);
      const kind = isRoot ? 'root' : 'child';
      parts[row] = this.#known?.find(kind, scope) ?? this.#known?.keep(kind, scope);
    }
    this.#payload = NO_BYTES;
    return { ...rows, parts };
  }

  #open(payload: Uint8Array): void {
    this.#payload = payload;
    this.#view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    this.#known?.open(this.#view);
    this.#count = 0;
  }

  #run(payload: Uint8Array, isKeeping: boolean, toKeep: readonly NewsRow[] | undefined): WalkedTraces {
    this.#isKeeping = isKeeping;
    this.#toKeep = toKeep;
    this.#kept = 0;
    this.#open(payload);
    this.#hasNewHeads = false;
    this.#isClean = this.#known !== undefined;
    const result = visitTraces(payload, this);
    const count = this.#count;
    const words = this.#words.subarray(this.#from, this.#from + count * ROW_WORDS);
    if (this.#known !== undefined) this.#from += words.length;
    const isClean = this.#isClean && result.ok && result.rejected === 0;
    const rows = { count, words, parts: this.#parts, heads: this.#heads, isClean };
    this.#parts = [];
    this.#heads = [];
    this.#payload = NO_BYTES;
    const walked = { result, rows, hasNewHeads: this.#hasNewHeads, news: this.#news };
    if (this.#news.length > 0) this.#news = [];
    return walked;
  }

  beginResource(): void {
    this.#resource.begin(this.#count, NO_PART);
    this.#scope.begin(this.#count, undefined);
  }

  beginScope(): void {
    this.#scope.begin(this.#count, this.#resource.part?.number);
  }

  resource(start: number, end: number): void {
    this.#head(this.#resource, start, end);
  }

  scope(start: number, end: number): void {
    this.#head(this.#scope, start, end);
  }

  /** Of several that count as one nothing is known: neither of it nor of what stands below. */
  #head(head: OpenHead, start: number, end: number): void {
    const known = this.#known;
    if (known === undefined) return;
    if (head.isSeen) this.#parts.fill(undefined, head.row);
    const isSole = !head.isSeen;
    head.isSeen = true;
    head.part = undefined;
    if (isSole && head.above !== undefined) {
      known.begin();
      if (known.add(start, end)) head.part = known.find(head.kind, head.above) ?? this.#newHead(head.kind, head.above);
    }
    if (head.part?.isClean !== true) this.#isClean = false;
    this.#heads.push({ start, part: head.part });
  }

  #newHead(kind: 'resource' | 'scope', above: number): NumberedPart | undefined {
    if (this.#isKeeping) return this.#known?.keep(kind, above);
    this.#hasNewHeads = true;
    return undefined;
  }

  takes(start: number, end: number): boolean {
    const row = this.#nextRow();
    if (!this.#look(row, start, end)) return false;
    const part = this.#partOf(row);
    if (part?.isClean !== true) this.#isClean = false;
    this.#parts.push(part);
    this.#count++;
    return true;
  }

  #partOf(row: number): NumberedPart | undefined {
    const known = this.#known;
    const above = this.#scope.part?.number;
    if (known === undefined || above === undefined || !this.#hasPart) return undefined;
    const kind = (this.#words[row + ROW.parentIdAt] as number) < 0 ? 'root' : 'child';
    const found = known.find(kind, above);
    if (this.#toKeep !== undefined) return this.#isToKeep(this.#toKeep) ? (found ?? known.keep(kind, above)) : found;
    if (found !== undefined || !known.wasSeen()) return found;
    if (this.#isKeeping) return known.keep(kind, above);
    this.#news.push({ row: this.#count, scope: above });
    return undefined;
  }

  #isToKeep(rows: readonly NewsRow[]): boolean {
    while ((rows[this.#kept]?.row ?? this.#count) < this.#count) this.#kept++;
    return rows[this.#kept]?.row === this.#count;
  }

  readonly item = ({ itemStart, itemEnd, traceIdAt, spanIdAt, parentSpanIdAt }: ScannedItem): void => {
    const row = this.#nextRow();
    const words = this.#words;
    words[row + ROW.itemStart] = itemStart;
    words[row + ROW.itemEnd] = itemEnd;
    words[row + ROW.traceIdAt] = traceIdAt;
    words[row + ROW.spanIdAt] = spanIdAt;
    words[row + ROW.parentIdAt] = parentSpanIdAt;
    words[row + ROW.startAt] = -1;
    this.#parts.push(undefined);
    this.#isClean = false;
    this.#count++;
  };

  /** First word of it. */
  #nextRow(): number {
    const row = this.#from + this.#count * ROW_WORDS;
    if (row < this.#words.length) return row;
    const own = this.#words.subarray(this.#from);
    this.#words = new Int32Array(Math.max(ROWS_AT_ONCE * ROW_WORDS, 2 * own.length));
    this.#words.set(own);
    this.#from = 0;
    return own.length;
  }

  /** Its bytes can be known, as far as they were looked at. */
  #hasPart = false;

  /** Fills the row and puts the part together. False when this is no span that is written in the usual way. */
  #look(row: number, start: number, end: number): boolean {
    const bytes = this.#payload;
    const words = this.#words;
    const known = this.#known;
    words[row + ROW.itemStart] = start;
    words[row + ROW.itemEnd] = end;
    for (let word = row + ROW.traceIdAt; word < row + ROW.flags; word++) words[word] = -1;
    words[row + ROW.flags] = 0;
    known?.begin();
    this.#hasPart = true;
    let at = start;
    let runStart = -1;
    while (at < end) {
      const fieldStart = at;
      const tag = bytes[at++] as number;
      const kind = KINDS[tag] as number;
      if (kind !== 0) {
        if (runStart < 0) runStart = fieldStart;
        const lengthAt = at;
        at = kind === SMALL ? smallEnd(bytes, at) : partEnd(bytes, at);
        if (at < 0) return false;
        if (kind > SMALL) runStart = this.#leaveOut(kind, runStart, lengthAt, at);
        continue;
      }
      at = this.#own(row, tag, at);
      if (at < 0) return false;
      if (runStart >= 0 && known !== undefined) this.#hasPart = known.add(runStart, fieldStart) && this.#hasPart;
      runStart = -1;
    }
    if (at !== end || !this.#isWhole(row)) return false;
    if (runStart >= 0 && known !== undefined) this.#hasPart = known.add(runStart, end) && this.#hasPart;
    return true;
  }

  /** Adds the run that ends at an event's time or a link's ids. Where the next run starts; the same where they are not as usual. */
  #leaveOut(kind: number, runStart: number, lengthAt: number, end: number): number {
    const start = partStart(this.#payload, lengthAt);
    const gap = kind === EVENT ? eventTimeAt(this.#payload, start, end) : linkIdsAt(this.#payload, start, end);
    if (gap < 0) return runStart;
    this.#hasPart = this.#known?.add(runStart, gap) === true && this.#hasPart;
    const next = gap + (kind === EVENT ? 8 : LINK_IDS_BYTES);
    return next === end ? -1 : next;
  }

  /** Notes where an id or time of the span lies. The end of its field; -1 when that is none, not as usual, or there twice. */
  #own(row: number, tag: number, at: number): number {
    const bytes = this.#payload;
    switch (tag) {
      case TRACE_ID:
        return bytes[at] === TRACE_ID_BYTES ? this.#note(row + ROW.traceIdAt, at + 1, TRACE_ID_BYTES) : -1;
      case SPAN_ID:
        return bytes[at] === SPAN_ID_BYTES ? this.#note(row + ROW.spanIdAt, at + 1, SPAN_ID_BYTES) : -1;
      case PARENT_SPAN_ID:
        if (bytes[at] === 0) return (this.#words[row + ROW.parentIdAt] as number) < 0 ? at + 1 : -1;
        return bytes[at] === SPAN_ID_BYTES ? this.#note(row + ROW.parentIdAt, at + 1, SPAN_ID_BYTES) : -1;
      case TRACE_STATE:
        return silentEnd(bytes, at);
      case START:
        return this.#note(row + ROW.startAt, at, 8);
      case END:
        return this.#note(row + ROW.endAt, at, 8);
      case FLAGS[0]:
        if (bytes[at] !== FLAGS[1] || at + 5 > this.#view.byteLength) return -1;
        this.#words[row + ROW.flags] = this.#view.getInt32(at + 1, true);
        return at + 5;
      default:
        return -1;
    }
  }

  #note(word: number, at: number, size: number): number {
    if ((this.#words[word] as number) >= 0) return -1;
    this.#words[word] = at;
    return at + size;
  }

  /** Has it ids, none of them zero, and times? All of them lie within the payload, as the span's end does. */
  #isWhole(row: number): boolean {
    const words = this.#words;
    const view = this.#view;
    const traceIdAt = words[row + ROW.traceIdAt] as number;
    const spanIdAt = words[row + ROW.spanIdAt] as number;
    const parentIdAt = words[row + ROW.parentIdAt] as number;
    if (traceIdAt < 0 || spanIdAt < 0) return false;
    if ((words[row + ROW.startAt] as number) < 0 || (words[row + ROW.endAt] as number) < 0) return false;
    if (isZeroAt(view, traceIdAt) && isZeroAt(view, traceIdAt + 8)) return false;
    return !isZeroAt(view, spanIdAt) && (parentIdAt < 0 || !isZeroAt(view, parentIdAt));
  }
}

/** The resource or scope of the block that is walked through. */
class OpenHead {
  readonly kind: 'resource' | 'scope';
  /** Number of what is above it; undefined where that is not known. */
  above: number | undefined;
  part: NumberedPart | undefined;
  isSeen = false;
  /** The block's first. */
  row = 0;

  constructor(kind: 'resource' | 'scope') {
    this.kind = kind;
  }

  begin(row: number, above: number | undefined): void {
    this.row = row;
    this.above = above;
    this.part = undefined;
    this.isSeen = false;
  }
}

function isZeroAt(view: DataView, at: number): boolean {
  return view.getInt32(at, true) === 0 && view.getInt32(at + 4, true) === 0;
}
