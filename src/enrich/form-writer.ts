import { FormedRecord } from '../core/formed-record.ts';
import type { FormedAbout } from '../core/forms.ts';
import type { SpanColumns } from '../core/span-columns.ts';
import { criticalSteps } from './critical-path.ts';
import { digitsOf, put, putAfter, putNumber } from './form-bytes.ts';
import type { FormTree } from './form-tree.ts';
import { RecordMemory } from './record-memory.ts';
import { SPAN_ID_CHARS, TraceFields } from './trace-fields.ts';
import type { OddGap, RecordForm, SpanForm, TraceForm } from './trace-form.ts';

const WORD = 4;
const SPACE = 0x20;

const SKEW_CORRECTED = Buffer.from(',"skew_corrected":true');
const SELF_TIME = Buffer.from('","self_time":');
const STEP_END = Buffer.from('}');
const COMMA = Buffer.from(',');

/** What the records of a trace are told besides its spans. */
export interface FormedTrace extends FormedAbout {
  readonly rank: bigint;
}

/** A gap is too short for what belongs there. */
class TooShort extends Error {
  readonly gap: OddGap;
  readonly width: number;

  constructor(gap: OddGap, width: number) {
    super();
    this.gap = gap;
    this.width = width;
  }
}

/** Writes the records of traces whose form is known: copies the form's text, then each field into its gaps. One trace at a time. */
export class FormWriter {
  readonly memory = new RecordMemory();
  readonly #fields = new TraceFields();

  /** In the order in which a whole settle gives them. */
  write(form: TraceForm, tree: FormTree, columns: SpanColumns, trace: FormedTrace): FormedRecord[] {
    this.#fields.fill(form, tree, columns, trace);
    const written: FormedRecord[] = [];
    for (const record of form.records) written.push(this.#record(record, trace));
    if (written.length > 1) sortByTime(written);
    return written;
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
    const { text, index, odd } = record;
    const { memory } = this;
    const { tree, recordIds } = this.#fields;
    memory.reserve(text.length);
    const start = memory.end;
    memory.chunk.set(text, start);
    this.#move(record.moves, start / WORD);
    for (let at = 0; at < odd.length; at++) this.#fill(odd[at] as OddGap, start);
    memory.end = start + text.length;
    const offsetNs = tree.start[index] as number;
    return new FormedRecord({
      id: recordIds[index] as string,
      namespace,
      rank,
      baseNs: tree.baseNs,
      offsetNs,
      durationNs: (tree.end[index] as number) - offsetNs,
      traceId,
      ingestedMs: this.#fields.ingestedMs(index),
      mayBeElsewhere: isReplayed,
      form: record,
      bytes: memory.chunk,
      start,
      end: memory.end,
    });
  }

  /** Each field into its gap of the record that begins at this word. */
  #move(moves: Int32Array, start: number): void {
    const from = this.#fields.words;
    const to = this.memory.words;
    for (let move = 0; move < moves.length; move += 3) {
      const field = moves[move] as number;
      const gap = start + (moves[move + 1] as number);
      const count = moves[move + 2] as number;
      for (let word = 0; word < count; word++) to[gap + word] = from[field + word] as number;
    }
  }

  #fill(gap: OddGap, start: number): void {
    const { chunk } = this.memory;
    const fields = this.#fields;
    const to = start + gap.at;
    switch (gap.kind) {
      case 'criticalPath':
        this.#putCriticalPath(gap, to);
        break;
      case 'slowestWork':
        put(chunk, to, fields.form.spans[fields.slowestBelow(gap.arg)]?.work as Buffer);
        break;
      case 'stepSkew':
        if (fields.timeline.shift[gap.arg] !== 0) put(chunk, to, SKEW_CORRECTED);
        break;
      case 'traceId':
        chunk.write(fields.traceId, to, 'latin1');
        break;
      case 'spanId':
        fields.putSpanId(chunk, to, gap.arg);
        break;
    }
  }

  #putCriticalPath(gap: OddGap, to: number): void {
    const { chunk } = this.memory;
    const { form, timeline } = this.#fields;
    const { count, steps, spent } = criticalSteps(form.tree, timeline, gap.arg);
    let size = 0;
    for (let step = 0; step < count; step++) {
      const { critical } = form.spans[steps[step] as number] as SpanForm;
      size += critical.length + SPAN_ID_CHARS + SELF_TIME.length + digitsOf(spent[step] as number) + 2;
    }
    if (size > gap.width) throw new TooShort(gap, size);
    let end = to;
    for (let step = 0; step < count; step++) {
      const at = steps[step] as number;
      if (end > to) end = putAfter(chunk, end, COMMA);
      end = putAfter(chunk, end, (form.spans[at] as SpanForm).critical);
      this.#fields.putSpanId(chunk, end, at);
      end = putAfter(chunk, end + SPAN_ID_CHARS, SELF_TIME);
      const digits = digitsOf(spent[step] as number);
      putNumber(chunk, end, digits, spent[step] as number);
      end = putAfter(chunk, end + digits, STEP_END);
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
function widen(record: RecordForm, gap: OddGap, width: number): void {
  const { text, moves, odd } = record;
  const words = Math.ceil((width - gap.width) / WORD);
  const more = words * WORD;
  record.text = Buffer.concat([text.subarray(0, gap.at), Buffer.alloc(more, SPACE), text.subarray(gap.at)]);
  gap.width += more;
  for (const other of odd) if (other.at > gap.at) other.at += more;
  for (let move = 1; move < moves.length; move += 3) {
    if ((moves[move] as number) * WORD > gap.at) moves[move] = (moves[move] as number) + words;
  }
}
