import { formatTimestamp } from '../core/clock.ts';
import type { FrameNote } from '../core/evidence.ts';
import type { FormedAbout } from '../core/forms.ts';
import { hexOfWords } from '../core/hex.ts';
import { COLUMN_SPANS_MAX, type SpanColumns } from '../core/span-columns.ts';
import { selfTime } from './critical-path.ts';
import { PAIRS, putFraction, putHex, putHexOf, putNumber, putText, putTook, putWords, WORD } from './form-bytes.ts';
import type { FormTree } from './form-tree.ts';
import { SpanIdentity } from './identity.ts';
import { correctSkew, type Timeline } from './skew.ts';
import { FIELD_AT, FIELD_WORDS, type Need, SPAN_WORDS, type TraceForm } from './trace-form.ts';
import { NONE } from './trace-tree.ts';

const RECORD_ID_BYTES = 16;
const RECORD_ID_WORDS = RECORD_ID_BYTES / WORD;

const TRACE_ID_WORDS = 4;

const SECOND_MS = 1000;
const SECOND_NS = 1e9;
/** `2026-11-22T10:19:13.`; nine digits, `Z` and the closing quotation mark follow. */
const SECOND_WORDS = 5;
/** Seconds whose text is kept. */
const SECONDS_MAX = 64;

/** The fields of the trace at hand, as texts in words, to be copied into its records. Filled again for each trace. */
export class TraceFields {
  readonly words = new Uint32Array(COLUMN_SPANS_MAX * SPAN_WORDS);
  /** The same memory. */
  readonly bytes = new Uint8Array(this.words.buffer);
  readonly #pairs = new Uint16Array(this.words.buffer);
  columns!: SpanColumns;
  tree!: FormTree;
  form!: TraceForm;
  timeline!: Timeline;
  #reason = '';
  readonly #identity = new SpanIdentity();
  /** The second in which the trace begins, epoch; nanoseconds from there to the trace's base. */
  #second = 0;
  #baseInSecond = 0;
  /** Texts by epoch second. */
  readonly #seconds = new Map<number, Uint32Array>();
  /** Ids of records by place in the tree, where one is needed: the bytes of each, as words. */
  readonly recordIds = new Uint32Array(COLUMN_SPANS_MAX * RECORD_ID_WORDS);
  readonly #recordIdBytes = new Uint8Array(this.recordIds.buffer);
  /** The bytes of the trace's id, as words. */
  readonly traceIdWords = new Uint32Array(TRACE_ID_WORDS);
  readonly #traceIdBytes = new Uint8Array(this.traceIdWords.buffer);
  #note: FrameNote | undefined;
  readonly #ingested = new Uint32Array(FIELD_WORDS.ingested);
  /** When the trace's evidence came, epoch milliseconds. */
  #ingestedMs = 0;
  readonly #workOf = new Float64Array(COLUMN_SPANS_MAX);
  readonly #slowestOf = new Int32Array(COLUMN_SPANS_MAX);

  fill(form: TraceForm, tree: FormTree, columns: SpanColumns, { namespace, reason }: FormedAbout): void {
    this.form = form;
    this.tree = tree;
    this.columns = columns;
    this.#reason = reason;
    this.timeline = form.hasOneClock ? { start: tree.start, end: tree.end, shift: tree.start } : correctSkew(form.tree);
    this.#putTraceId();
    this.#identity.begin(namespace, this.bytes, FIELD_AT.traceId * WORD);
    this.#second = Math.floor(tree.baseMs / SECOND_MS);
    this.#baseInSecond = (tree.baseMs - this.#second * SECOND_MS) * 1e6 + tree.baseRestNs;
    if (form.hasWork) this.#addUpWork();
    const { needs } = form;
    for (let need = 0; need < needs.length; need++) this.#put(needs[need] as Need);
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

  /** Does the record of one span stand before that of another: by time, then by id? */
  isBefore(left: number, right: number): boolean {
    const difference = (this.tree.start[left] as number) - (this.tree.start[right] as number);
    if (difference !== 0) return difference < 0;
    const ids = this.#recordIdBytes;
    let byte = 0;
    while (byte < RECORD_ID_BYTES - 1 && ids[left * RECORD_ID_BYTES + byte] === ids[right * RECORD_ID_BYTES + byte])
      byte++;
    return (ids[left * RECORD_ID_BYTES + byte] as number) < (ids[right * RECORD_ID_BYTES + byte] as number);
  }

  /** In hex. */
  traceId(): string {
    return hexOfWords(this.columns.traceId, 0, TRACE_ID_WORDS);
  }

  spanId(at: number): string {
    const column = this.tree.columnOf[at] as number;
    return hexOfWords([this.columns.idHigh[column] as number, this.columns.idLow[column] as number], 0, 2);
  }

  /** The place of the slowest work below a span. */
  slowestBelow(at: number): number {
    return this.#slowestOf[at] as number;
  }

  /** The span's id into memory, in hex, from this word on. */
  putSpanId(pairs: Uint16Array, word: number, at: number): void {
    const column = this.tree.columnOf[at] as number;
    putHex(pairs, word * PAIRS, this.columns.idHigh[column] as number);
    putHex(pairs, (word + 2) * PAIRS, this.columns.idLow[column] as number);
  }

  #put({ field, arg: at, at: to }: Need): void {
    const { start, end } = this.tree;
    switch (field) {
      case 'start':
        this.#putTime(to, start[at] as number);
        break;
      case 'end':
        this.#putTime(to, end[at] as number);
        break;
      case 'ingested':
        this.ingestedMs(at);
        putWords(this.words, to, this.#ingested);
        break;
      case 'duration':
        this.#putNumber(to, (end[at] as number) - (start[at] as number));
        break;
      case 'took':
        putTook(this.bytes, to * WORD, (to + FIELD_WORDS.took) * WORD, (end[at] as number) - (start[at] as number));
        break;
      case 'recordId':
        this.#putRecordId(to, at);
        break;
      case 'traceId':
        // It is there already.
        break;
      case 'spanId':
        this.putSpanId(this.#pairs, to, at);
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
        putText(this.bytes, to * WORD, (to + FIELD_WORDS.reason) * WORD, this.#reason);
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
    putWords(this.words, to, this.#secondText(this.#second + second));
    putFraction(this.#pairs, (to + SECOND_WORDS) * PAIRS, from - second * SECOND_NS);
  }

  #secondText(second: number): Uint32Array {
    let text = this.#seconds.get(second);
    if (text === undefined) {
      if (this.#seconds.size >= SECONDS_MAX) this.#seconds.clear();
      const whole = Buffer.from(formatTimestamp(BigInt(second) * 1_000_000_000n));
      text = new Uint32Array(Uint8Array.from(whole.subarray(0, SECOND_WORDS * WORD)).buffer);
      this.#seconds.set(second, text);
    }
    return text;
  }

  #putNumber(to: number, number: number): void {
    putNumber(this.#pairs, to * PAIRS, FIELD_WORDS.duration * PAIRS, number);
  }

  #putTraceId(): void {
    const { traceId } = this.columns;
    for (let word = 0; word < traceId.length; word++) {
      const value = traceId[word] as number;
      putHex(this.#pairs, (FIELD_AT.traceId + 2 * word) * PAIRS, value);
      for (let byte = 0; byte < WORD; byte++) this.#traceIdBytes[word * WORD + byte] = value >>> (24 - 8 * byte);
    }
  }

  #putRecordId(to: number, at: number): void {
    // The identity is made of the span's id as text, which is put where the record's id will be.
    this.putSpanId(this.#pairs, to, at);
    const id = this.#identity.recordId(this.bytes, to * WORD);
    const bytes = this.#recordIdBytes;
    const start = at * RECORD_ID_BYTES;
    for (let index = 0; index < RECORD_ID_BYTES; index++) bytes[start + index] = id.charCodeAt(index);
    putHexOf(this.#pairs, to * PAIRS, bytes, start, RECORD_ID_BYTES);
  }

  #putParentId(to: number, at: number): void {
    const { parent, columnOf } = this.tree;
    const above = parent[at] as number;
    if (above !== NONE) {
      this.putSpanId(this.#pairs, to, above);
      return;
    }
    const column = columnOf[at] as number;
    putHex(this.#pairs, to * PAIRS, this.columns.parentHigh[column] as number);
    putHex(this.#pairs, (to + 2) * PAIRS, this.columns.parentLow[column] as number);
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
