import { formatTimestamp } from '../core/clock.ts';
import type { FrameNote } from '../core/evidence.ts';
import { FormedRecord } from '../core/formed-record.ts';
import type { SettleReason } from '../core/record.ts';
import { COLUMN_SPANS_MAX, type SpanColumns } from '../core/span-columns.ts';
import { criticalSteps, selfTime } from './critical-path.ts';
import { digitsOf, FRACTION_DIGITS, put, putAfter, putDigits, putHex, putNumber, putPart } from './form-bytes.ts';
import type { FormTree } from './form-tree.ts';
import { SpanIdentity } from './identity.ts';
import { RecordMemory } from './record-memory.ts';
import { tookText } from './sentence.ts';
import { correctSkew, type Timeline } from './skew.ts';
import { GAP, type RecordForm, type SpanForm, type TraceForm } from './trace-form.ts';
import { NONE } from './trace-tree.ts';

const SPAN_ID_CHARS = 16;
const RECORD_ID_CHARS = 32;
const TRACE_ID_CHARS = 32;

const SECOND_NS = 1e9;
/** `2026-11-22T10:19:13.`; nine digits and `Z` follow. */
const SECOND_CHARS = 20;

const SPACE = 0x20;
const Z = 0x5a;

const SKEW_CORRECTED = Buffer.from(',"skew_corrected":true');
const SELF_TIME = Buffer.from('","self_time":');
const STEP_END = Buffer.from('}');
const COMMA = Buffer.from(',');

/** What the records of a trace are told besides its spans. */
export interface FormedTrace {
  readonly namespace: string;
  readonly traceId: string;
  readonly rank: bigint;
  readonly reason: SettleReason;
  readonly isReplayed: boolean;
}

/** A gap is too short for what belongs there. */
class TooShort extends Error {
  readonly gap: number;
  readonly width: number;

  constructor(gap: number, width: number) {
    super();
    this.gap = gap;
    this.width = width;
  }
}

/** Writes the records of traces whose form is known. One trace at a time; what belongs to it is kept in lists that are used again. */
export class FormWriter {
  readonly memory = new RecordMemory();
  /** The piece of it that the record at hand is written into. */
  #chunk!: Buffer;
  #columns!: SpanColumns;
  #tree!: FormTree;
  #form!: TraceForm;
  #timeline!: Timeline;
  readonly #reasons = new Map<string, Buffer>();
  #reason!: Buffer;
  /** The second in which the trace begins, epoch nanoseconds; nanoseconds from there to the trace's base. */
  #secondNs = 0n;
  #baseInSecond = 0;
  /** Of seconds since the trace's own. */
  readonly #seconds = new Map<number, Buffer>();
  #duration = -1;
  /** Hex digits of ids: of spans and of their records by place in the tree, and of the trace. */
  readonly #ids = new Uint8Array(COLUMN_SPANS_MAX * SPAN_ID_CHARS);
  readonly #recordIdDigits = Buffer.alloc(COLUMN_SPANS_MAX * RECORD_ID_CHARS);
  readonly #traceIdDigits = Buffer.alloc(TRACE_ID_CHARS);
  /** The same as text; empty until asked for. */
  readonly #recordIds: string[] = [];
  readonly #identity = new SpanIdentity();
  #note: FrameNote | undefined;
  #ingested = Buffer.alloc(0);
  #ingestedMs = 0;
  readonly #workOf = new Float64Array(COLUMN_SPANS_MAX);
  readonly #slowestOf = new Int32Array(COLUMN_SPANS_MAX);

  /** In the order in which a whole settle gives them. */
  write(form: TraceForm, tree: FormTree, columns: SpanColumns, trace: FormedTrace): FormedRecord[] {
    this.#begin(form, tree, columns, trace);
    const written: FormedRecord[] = [];
    for (const record of form.records) written.push(this.#record(record, trace));
    if (written.length > 1) sortByTime(written);
    return written;
  }

  #begin(form: TraceForm, tree: FormTree, columns: SpanColumns, { namespace, traceId, reason }: FormedTrace): void {
    this.#form = form;
    this.#tree = tree;
    this.#columns = columns;
    this.#timeline = form.hasOneClock
      ? { start: tree.start, end: tree.end, shift: tree.start }
      : correctSkew(form.tree);
    this.#traceIdDigits.write(traceId, 'latin1');
    this.#reason = this.#reasonText(reason);
    this.#identity.begin(namespace, traceId);
    const secondNs = tree.baseNs - (tree.baseNs % 1_000_000_000n);
    this.#baseInSecond = Number(tree.baseNs - secondNs);
    if (secondNs !== this.#secondNs) {
      this.#secondNs = secondNs;
      this.#seconds.clear();
    }
    const { idHigh, idLow } = columns;
    for (let at = 0; at < tree.count; at++) {
      const column = tree.columnOf[at] as number;
      putHex(this.#ids, at * SPAN_ID_CHARS, idHigh[column] as number);
      putHex(this.#ids, at * SPAN_ID_CHARS + 8, idLow[column] as number);
      this.#recordIds[at] = '';
    }
    this.#duration = -1;
    if (form.hasWork) this.#addUpWork();
  }

  #reasonText(reason: string): Buffer {
    let text = this.#reasons.get(reason);
    if (text === undefined) {
      text = Buffer.from(`${reason}"`);
      this.#reasons.set(reason, text);
    }
    return text;
  }

  #record(record: RecordForm, trace: FormedTrace): FormedRecord {
    for (;;) {
      try {
        return this.#tryRecord(record, trace);
      } catch (thrown) {
        if (!(thrown instanceof TooShort)) throw thrown;
        widen(record, thrown.gap, thrown.width);
      }
    }
  }

  #tryRecord(record: RecordForm, { namespace, traceId, rank, isReplayed }: FormedTrace): FormedRecord {
    const { text, gaps, index } = record;
    const { memory } = this;
    memory.reserve(text.length);
    const start = memory.end;
    this.#chunk = memory.chunk;
    this.#chunk.set(text, start);
    for (let gap = 0; gap < gaps.length; gap++) this.#fill(record, gap, start);
    memory.end = start + text.length;
    const offsetNs = this.#tree.start[index] as number;
    return new FormedRecord({
      id: this.#recordId(index),
      namespace,
      rank,
      baseNs: this.#tree.baseNs,
      offsetNs,
      durationNs: (this.#tree.end[index] as number) - offsetNs,
      traceId,
      ingestedMs: this.#ingestedMs,
      mayBeElsewhere: isReplayed,
      form: record,
      bytes: this.#chunk,
      start,
      end: memory.end,
    });
  }

  #fill(record: RecordForm, gap: number, from: number): void {
    const to = from + (record.at[gap] as number);
    const width = record.width[gap] as number;
    const arg = record.args[gap] as number;
    const { start, end } = this.#tree;
    const chunk = this.#chunk;
    switch (record.gaps[gap]) {
      case GAP.start:
        this.#putTime(to, start[arg] as number);
        break;
      case GAP.end:
        this.#putTime(to, end[arg] as number);
        break;
      case GAP.ingested:
        this.#putIngested(to, arg);
        break;
      case GAP.duration:
        putNumber(chunk, to, width, (end[arg] as number) - (start[arg] as number));
        break;
      case GAP.took:
        this.#putTook(to, (end[arg] as number) - (start[arg] as number));
        break;
      case GAP.recordId:
        this.#recordId(arg);
        putPart(chunk, to, this.#recordIdDigits, arg * RECORD_ID_CHARS, RECORD_ID_CHARS);
        break;
      case GAP.traceId:
        put(chunk, to, this.#traceIdDigits);
        break;
      case GAP.spanId:
        this.#putId(to, arg);
        break;
      case GAP.parentId:
        this.#putParentId(to, arg);
        break;
      case GAP.traceDuration:
        putNumber(chunk, to, width, this.#traceDuration());
        break;
      case GAP.selfTime:
        putNumber(chunk, to, width, selfTime(this.#form.tree, this.#timeline, arg));
        break;
      case GAP.criticalPath:
        this.#putCriticalPath(to, width, gap, arg);
        break;
      case GAP.stepOffset:
        putNumber(chunk, to, width, (this.#timeline.start[arg] as number) - this.#zero());
        break;
      case GAP.stepDuration:
        putNumber(chunk, to, width, (this.#timeline.end[arg] as number) - (this.#timeline.start[arg] as number));
        break;
      case GAP.stepSkew:
        if (this.#timeline.shift[arg] !== 0) put(chunk, to, SKEW_CORRECTED);
        break;
      case GAP.workDuration:
        putNumber(chunk, to, width, Math.min(this.#workOf[arg] as number, Number.MAX_SAFE_INTEGER));
        break;
      case GAP.slowestWork:
        put(chunk, to, this.#form.spans[this.#slowestOf[arg] as number]?.work as Buffer);
        break;
      default:
        put(chunk, to, this.#reason);
        break;
    }
  }

  /** Offsets of steps count from the root's start. */
  #zero(): number {
    const { root } = this.#form.tree;
    return root === NONE ? 0 : (this.#timeline.start[root] as number);
  }

  /** RFC 3339 of a time so many nanoseconds after the trace's base. */
  #putTime(to: number, offset: number): void {
    const from = this.#baseInSecond + offset;
    const second = Math.floor(from / SECOND_NS);
    put(this.#chunk, to, this.#second(second));
    putDigits(this.#chunk, to + SECOND_CHARS, from - second * SECOND_NS);
    this.#chunk[to + SECOND_CHARS + FRACTION_DIGITS] = Z;
  }

  #second(second: number): Buffer {
    let text = this.#seconds.get(second);
    if (text === undefined) {
      const whole = formatTimestamp(this.#secondNs + BigInt(second) * 1_000_000_000n);
      text = Buffer.from(whole.slice(0, SECOND_CHARS));
      this.#seconds.set(second, text);
    }
    return text;
  }

  #putIngested(to: number, at: number): void {
    const note = this.#columns.notes[this.#tree.columnOf[at] as number] as FrameNote;
    if (note !== this.#note) {
      this.#note = note;
      this.#ingested = Buffer.from(formatTimestamp(note.receivedNs));
      this.#ingestedMs = Number(note.receivedNs) / 1e6;
    }
    put(this.#chunk, to, this.#ingested);
  }

  #putTook(to: number, duration: number): void {
    const text = `${tookText(duration)}"`;
    // Of what is no ASCII there is only the micro sign.
    let at = to;
    for (let index = 0; index < text.length; index++) {
      const code = text.charCodeAt(index);
      if (code < 0x80) this.#chunk[at++] = code;
      else at += this.#chunk.write(text[index] as string, at);
    }
  }

  #putId(to: number, at: number): void {
    putPart(this.#chunk, to, this.#ids, at * SPAN_ID_CHARS, SPAN_ID_CHARS);
  }

  #putParentId(to: number, at: number): void {
    const { parent, columnOf } = this.#tree;
    const above = parent[at] as number;
    if (above !== NONE) {
      this.#putId(to, above);
      return;
    }
    const column = columnOf[at] as number;
    putHex(this.#chunk, to, this.#columns.parentHigh[column] as number);
    putHex(this.#chunk, to + 8, this.#columns.parentLow[column] as number);
  }

  #recordId(at: number): string {
    let id = this.#recordIds[at] as string;
    if (id === '') {
      id = this.#identity.recordId(this.#ids, at * SPAN_ID_CHARS);
      this.#recordIds[at] = id;
      this.#recordIdDigits.write(id, at * RECORD_ID_CHARS, 'latin1');
    }
    return id;
  }

  #traceDuration(): number {
    if (this.#duration < 0) {
      const { start, end } = this.#timeline;
      let [first, last] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
      for (let at = 0; at < this.#tree.count; at++) {
        if ((start[at] as number) < first) first = start[at] as number;
        if ((end[at] as number) > last) last = end[at] as number;
      }
      this.#duration = last - first;
    }
    return this.#duration;
  }

  #putCriticalPath(to: number, width: number, gap: number, from: number): void {
    const { count, steps, spent } = criticalSteps(this.#form.tree, this.#timeline, from);
    const { spans } = this.#form;
    let size = 0;
    for (let step = 0; step < count; step++) {
      const fixed = (spans[steps[step] as number] as SpanForm).critical.length + SPAN_ID_CHARS + SELF_TIME.length + 2;
      size += fixed + digitsOf(spent[step] as number);
    }
    if (size > width) throw new TooShort(gap, size);
    let end = to;
    for (let step = 0; step < count; step++) {
      const at = steps[step] as number;
      if (end > to) end = putAfter(this.#chunk, end, COMMA);
      end = putAfter(this.#chunk, end, (spans[at] as SpanForm).critical);
      this.#putId(end, at);
      end = putAfter(this.#chunk, end + SPAN_ID_CHARS, SELF_TIME);
      const digits = digitsOf(spent[step] as number);
      putNumber(this.#chunk, end, digits, spent[step] as number);
      end = putAfter(this.#chunk, end + digits, STEP_END);
    }
  }

  /** As `databaseWorkOf` of the whole settle does: below each span the sum of the work, and the slowest. */
  #addUpWork(): void {
    const { spans } = this.#form;
    const { count, parent, start, end } = this.#tree;
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

/** By time, then by id. There are few, and they mostly stand as they should. */
function sortByTime(written: FormedRecord[]): void {
  for (let at = 1; at < written.length; at++) {
    const record = written[at] as FormedRecord;
    let to = at - 1;
    for (; to >= 0; to--) {
      const other = written[to] as FormedRecord;
      if (other.offsetNs < record.offsetNs || (other.offsetNs === record.offsetNs && other.id < record.id)) break;
      written[to + 1] = other;
    }
    written[to + 1] = record;
  }
}

/** Makes room in one gap, and moves those behind it. */
function widen(record: RecordForm, gap: number, width: number): void {
  const { at, text } = record;
  const from = at[gap] as number;
  const more = width - (record.width[gap] as number);
  record.text = Buffer.concat([text.subarray(0, from), Buffer.alloc(more, SPACE), text.subarray(from)]);
  record.width[gap] = width;
  for (let later = gap + 1; later < at.length; later++) at[later] = (at[later] as number) + more;
}
