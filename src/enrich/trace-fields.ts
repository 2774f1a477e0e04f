import { formatTimestamp } from '../core/clock.ts';
import type { FrameNote } from '../core/evidence.ts';
import type { FormedAbout } from '../core/forms.ts';
import { COLUMN_SPANS_MAX, type SpanColumns } from '../core/span-columns.ts';
import { selfTime } from './critical-path.ts';
import { FRACTION_DIGITS, putDigits, putHex, putNumber } from './form-bytes.ts';
import type { FormTree } from './form-tree.ts';
import { SpanIdentity } from './identity.ts';
import { tookText } from './sentence.ts';
import { correctSkew, type Timeline } from './skew.ts';
import { FIELD_AT, FIELD_WORDS, type Field, SPAN_WORDS, type TraceForm } from './trace-form.ts';
import { NONE } from './trace-tree.ts';

const WORD = 4;
const SPAN_BYTES = SPAN_WORDS * WORD;
const SPACE = 0x20;
const QUOTE = 0x22;
const SPACES = 0x2020_2020;

export const SPAN_ID_CHARS = 16;
const RECORD_ID_CHARS = 32;
const TRACE_ID_CHARS = 32;

const SECOND_NS = 1e9;
/** `2026-11-22T10:19:13.`; nine digits, `Z` and the closing quotation mark follow. */
const FRACTION_AT = 20;
const ZULU = Buffer.from('Z" ');

/** The fields of the trace at hand, as texts in words, to be copied into its records. Filled again for each trace. */
export class TraceFields {
  readonly words = new Uint32Array(COLUMN_SPANS_MAX * SPAN_WORDS);
  /** The same memory. */
  readonly bytes = Buffer.from(this.words.buffer);
  columns!: SpanColumns;
  tree!: FormTree;
  form!: TraceForm;
  timeline!: Timeline;
  traceId = '';
  #reason = '';
  readonly #identity = new SpanIdentity();
  /** The second in which the trace begins, epoch nanoseconds; nanoseconds from there to the trace's base. */
  #secondNs = 0n;
  #baseInSecond = 0;
  /** Of seconds since the trace's own. */
  readonly #seconds = new Map<number, Uint32Array>();
  /** Ids of records by place in the tree, where one is needed. */
  readonly recordIds: string[] = [];
  #note: FrameNote | undefined;
  readonly #ingested = new Uint32Array(FIELD_WORDS.ingested);
  /** When the trace's evidence came, epoch milliseconds. */
  #ingestedMs = 0;
  readonly #workOf = new Float64Array(COLUMN_SPANS_MAX);
  readonly #slowestOf = new Int32Array(COLUMN_SPANS_MAX);

  fill(form: TraceForm, tree: FormTree, columns: SpanColumns, { namespace, traceId, reason }: FormedAbout): void {
    this.form = form;
    this.tree = tree;
    this.columns = columns;
    this.traceId = traceId;
    this.#reason = reason;
    this.timeline = form.hasOneClock ? { start: tree.start, end: tree.end, shift: tree.start } : correctSkew(form.tree);
    this.#identity.begin(namespace, traceId);
    const secondNs = tree.baseNs - (tree.baseNs % 1_000_000_000n);
    this.#baseInSecond = Number(tree.baseNs - secondNs);
    if (secondNs !== this.#secondNs) {
      this.#secondNs = secondNs;
      this.#seconds.clear();
    }
    if (form.hasWork) this.#addUpWork();
    for (const { field, arg } of form.needs) this.#put(field, arg);
  }

  /** Epoch milliseconds at which the span's evidence came. */
  ingestedMs(at: number): number {
    const note = this.columns.notes[this.tree.columnOf[at] as number] as FrameNote;
    if (note !== this.#note) {
      this.#note = note;
      this.#ingestedMs = Number(note.receivedNs) / 1e6;
      new Uint8Array(this.#ingested.buffer).set(Buffer.from(`${formatTimestamp(note.receivedNs)}" `));
    }
    return this.#ingestedMs;
  }

  /** The place of the slowest work below a span. */
  slowestBelow(at: number): number {
    return this.#slowestOf[at] as number;
  }

  /** The span's id into these bytes, in hex. */
  putSpanId(bytes: Uint8Array, to: number, at: number): void {
    const column = this.tree.columnOf[at] as number;
    putHex(bytes, to, this.columns.idHigh[column] as number);
    putHex(bytes, to + 8, this.columns.idLow[column] as number);
  }

  #put(field: Field, at: number): void {
    const { start, end } = this.tree;
    const to = at * SPAN_BYTES + FIELD_AT[field] * WORD;
    switch (field) {
      case 'start':
        this.#putTime(to, start[at] as number);
        break;
      case 'end':
        this.#putTime(to, end[at] as number);
        break;
      case 'ingested':
        this.ingestedMs(at);
        this.#copy(this.#ingested, to);
        break;
      case 'duration':
        this.#putNumber(to, (end[at] as number) - (start[at] as number));
        break;
      case 'took':
        this.#putText(to, FIELD_WORDS.took, tookText((end[at] as number) - (start[at] as number)));
        break;
      case 'recordId':
        this.#putRecordId(to, at);
        break;
      case 'traceId':
        for (let index = 0; index < TRACE_ID_CHARS; index++) this.bytes[to + index] = this.traceId.charCodeAt(index);
        break;
      case 'spanId':
        this.putSpanId(this.bytes, to, at);
        break;
      case 'parentId':
        this.#putParentId(to, at);
        break;
      case 'traceDuration':
        this.#putNumber(to, this.#traceDuration());
        break;
      case 'selfTime':
        this.#putNumber(to, selfTime(this.form.tree, this.timeline, at));
        break;
      case 'stepOffset':
        this.#putNumber(to, (this.timeline.start[at] as number) - this.#zero());
        break;
      case 'stepDuration':
        this.#putNumber(to, (this.timeline.end[at] as number) - (this.timeline.start[at] as number));
        break;
      case 'workDuration':
        this.#putNumber(to, Math.min(this.#workOf[at] as number, Number.MAX_SAFE_INTEGER));
        break;
      case 'reason':
        this.#putText(to, FIELD_WORDS.reason, this.#reason);
        break;
    }
  }

  /** Offsets of steps count from the root's start. */
  #zero(): number {
    const { root } = this.form.tree;
    return root === NONE ? 0 : (this.timeline.start[root] as number);
  }

  /** RFC 3339 of a time so many nanoseconds after the trace's base. */
  #putTime(to: number, offset: number): void {
    const from = this.#baseInSecond + offset;
    const second = Math.floor(from / SECOND_NS);
    const text = this.#second(second);
    const { bytes } = this;
    this.#copy(text, to);
    putDigits(bytes, to + FRACTION_AT, from - second * SECOND_NS);
    const zulu = to + FRACTION_AT + FRACTION_DIGITS;
    for (let at = 0; at < ZULU.length; at++) bytes[zulu + at] = ZULU[at] as number;
  }

  #copy(from: Uint32Array, to: number): void {
    const { words } = this;
    const first = to / WORD;
    for (let word = 0; word < from.length; word++) words[first + word] = from[word] as number;
  }

  #second(second: number): Uint32Array {
    let text = this.#seconds.get(second);
    if (text === undefined) {
      const whole = formatTimestamp(this.#secondNs + BigInt(second) * 1_000_000_000n);
      text = new Uint32Array(Uint8Array.from(Buffer.from(whole).subarray(0, FRACTION_AT)).buffer);
      this.#seconds.set(second, text);
    }
    return text;
  }

  #putNumber(to: number, number: number): void {
    const word = to / WORD;
    for (let at = 0; at < FIELD_WORDS.duration; at++) this.words[word + at] = SPACES;
    putNumber(this.bytes, to, FIELD_WORDS.duration * WORD, number);
  }

  /** With its closing quotation mark. Of what is no ASCII there is only the micro sign. */
  #putText(to: number, words: number, text: string): void {
    const { bytes } = this;
    let at = to;
    for (let index = 0; index < text.length; index++) {
      const code = text.charCodeAt(index);
      if (code < 0x80) bytes[at++] = code;
      else {
        bytes[at++] = 0xc0 | (code >> 6);
        bytes[at++] = 0x80 | (code & 0x3f);
      }
    }
    bytes[at++] = QUOTE;
    for (const end = to + words * WORD; at < end; at++) bytes[at] = SPACE;
  }

  #putRecordId(to: number, at: number): void {
    const { bytes } = this;
    // The identity is made of the span's id as text, which is put where the record's id will be.
    this.putSpanId(bytes, to, at);
    const id = this.#identity.recordId(bytes, to);
    this.recordIds[at] = id;
    for (let index = 0; index < RECORD_ID_CHARS; index++) bytes[to + index] = id.charCodeAt(index);
  }

  #putParentId(to: number, at: number): void {
    const { parent, columnOf } = this.tree;
    const above = parent[at] as number;
    if (above !== NONE) {
      this.putSpanId(this.bytes, to, above);
      return;
    }
    const column = columnOf[at] as number;
    putHex(this.bytes, to, this.columns.parentHigh[column] as number);
    putHex(this.bytes, to + 8, this.columns.parentLow[column] as number);
  }

  #traceDuration(): number {
    const { start, end } = this.timeline;
    let [first, last] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (let at = 0; at < this.tree.count; at++) {
      if ((start[at] as number) < first) first = start[at] as number;
      if ((end[at] as number) > last) last = end[at] as number;
    }
    return last - first;
  }

  /** As `databaseWorkOf` of the whole settle does: below each span the sum of the work, and the slowest. */
  #addUpWork(): void {
    const { spans } = this.form;
    const { count, parent, start, end } = this.tree;
    const [work, slowest] = [this.#workOf, this.#slowestOf];
    work.fill(0, 0, count);
    slowest.fill(NONE, 0, count);
    const offer = (above: number, at: number): void => {
      const known = slowest[above] as number;
      if (at === NONE) return;
      const took = (end[at] as number) - (start[at] as number);
      if (known === NONE || took >= (end[known] as number) - (start[known] as number)) slowest[above] = at;
    };
    for (let at = count - 1; at >= 0; at--) {
      const above = parent[at] as number;
      if (above === NONE) continue;
      const isWork = spans[at]?.work !== undefined;
      const own = isWork ? (end[at] as number) - (start[at] as number) : 0;
      work[above] = (work[above] as number) + (work[at] as number) + own;
      offer(above, slowest[at] as number);
      if (isWork) offer(above, at);
    }
  }
}
