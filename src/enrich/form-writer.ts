import { FormedRecord, HEAD, HEAD_WORDS } from '../core/formed-record.ts';
import type { FormedAbout } from '../core/forms.ts';
import { COLUMN_SPANS_MAX, type SpanColumns } from '../core/span-columns.ts';
import { criticalSteps } from './critical-path.ts';
import { PAIRS, put, putNumber, putWords, WORD, wordsOf } from './form-bytes.ts';
import type { FormTree } from './form-tree.ts';
import { RecordMemory } from './record-memory.ts';
import { TraceFields } from './trace-fields.ts';
import {
  FIELD_WORDS,
  type OddGap,
  type RecordForm,
  type SpanForm,
  STEP_AT,
  STEP_WORDS,
  type TraceForm,
} from './trace-form.ts';

const SPACE = 0x20;
/** Words of an id of a record or a trace. */
const ID_WORDS = 4;

const SKEW_CORRECTED = Buffer.from(',"skew_corrected":true');
const SELF_TIME = wordsOf('","self_time":  ');
const STEP_END = wordsOf('},  ')[0] as number;
const LAST_STEP_END = wordsOf('}   ')[0] as number;

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
  /** Places among the form's records, by time. */
  readonly #order = new Int32Array(COLUMN_SPANS_MAX);
  #rankHigh = 0;
  #rankLow = 0;

  /** In the order in which a whole settle gives them. */
  write(form: TraceForm, tree: FormTree, columns: SpanColumns, trace: FormedAbout, rank: bigint): FormedRecord[] {
    this.#fields.fill(form, tree, columns, trace);
    this.#rankHigh = Number(rank >> 32n);
    this.#rankLow = Number(rank & 0xffff_ffffn);
    const { records } = form;
    this.#sort(records);
    return records.map((_, at) => this.#record(records[this.#order[at] as number] as RecordForm, trace));
  }

  /** By time, then by id. There are few, and they mostly stand as they should. */
  #sort(records: readonly RecordForm[]): void {
    const order = this.#order;
    for (let at = 0; at < records.length; at++) {
      const { index } = records[at] as RecordForm;
      let to = at - 1;
      for (; to >= 0; to--) {
        const other = records[order[to] as number] as RecordForm;
        if (this.#fields.isBefore(other.index, index)) break;
        order[to + 1] = order[to] as number;
      }
      order[to + 1] = at;
    }
  }

  #record(record: RecordForm, trace: FormedAbout): FormedRecord {
    for (;;) {
      try {
        return this.#tryRecord(record, trace);
      } catch (thrown) {
        if (!(thrown instanceof TooShort)) throw thrown;
        widen(record, thrown.gap, thrown.width);
      }
    }
  }

  #tryRecord(record: RecordForm, { namespace, isReplayed }: FormedAbout): FormedRecord {
    const { text, moves, odd } = record;
    const { memory } = this;
    memory.reserve(HEAD_WORDS * WORD + text.length);
    const { chunk, end } = memory;
    const head = end / WORD;
    const start = head + HEAD_WORDS;
    chunk.bytes.set(text, start * WORD);
    this.#move(moves, start);
    for (let at = 0; at < odd.length; at++) this.#fill(odd[at] as OddGap, start * WORD);
    this.#putHead(head, record, isReplayed);
    memory.take(HEAD_WORDS * WORD + text.length);
    return new FormedRecord(chunk, head, record, namespace);
  }

  #putHead(head: number, { index, text }: RecordForm, isReplayed: boolean): void {
    const { words, doubles } = this.memory.chunk;
    const { tree, columns, recordIds, traceIdWords } = this.#fields;
    const column = tree.columnOf[index] as number;
    for (let word = 0; word < ID_WORDS; word++) {
      words[head + HEAD.id + word] = recordIds[index * ID_WORDS + word] as number;
      words[head + HEAD.traceId + word] = traceIdWords[word] as number;
    }
    doubles[(head + HEAD.duration) / 2] = (tree.end[index] as number) - (tree.start[index] as number);
    doubles[(head + HEAD.ingestedMs) / 2] = this.#fields.ingestedMs(index);
    words[head + HEAD.timeHigh] = columns.startHigh[column] as number;
    words[head + HEAD.timeLow] = columns.startLow[column] as number;
    words[head + HEAD.rankHigh] = this.#rankHigh;
    words[head + HEAD.rankLow] = this.#rankLow;
    words[head + HEAD.size] = text.length;
    words[head + HEAD.flags] = isReplayed ? 1 : 0;
  }

  /** Each field into its gap of the record that begins at this word. */
  #move(moves: Int32Array, start: number): void {
    const from = this.#fields.words;
    const to = this.memory.chunk.words;
    for (let move = 0; move < moves.length; move += 3) {
      const field = moves[move] as number;
      const gap = start + (moves[move + 1] as number);
      const count = moves[move + 2] as number;
      for (let word = 0; word < count; word++) to[gap + word] = from[field + word] as number;
    }
  }

  #fill(gap: OddGap, start: number): void {
    const { bytes, words } = this.memory.chunk;
    const fields = this.#fields;
    const to = start + gap.at;
    switch (gap.kind) {
      case 'criticalPath':
        this.#putCriticalPath(gap, to / WORD);
        break;
      case 'slowestWork':
        putWords(words, to / WORD, fields.form.spans[fields.slowestBelow(gap.arg)]?.work as Uint32Array);
        break;
      case 'stepSkew':
        if (fields.timeline.shift[gap.arg] !== 0) put(bytes, to, SKEW_CORRECTED);
        break;
      case 'traceId':
        bytes.write(fields.traceId(), to, 'latin1');
        break;
      case 'spanId':
        bytes.write(fields.spanId(gap.arg), to, 'latin1');
        break;
    }
  }

  #putCriticalPath(gap: OddGap, to: number): void {
    const { words, pairs } = this.memory.chunk;
    const { form, timeline } = this.#fields;
    const { count, steps, spent } = criticalSteps(form.tree, timeline, gap.arg);
    let size = 0;
    for (let step = 0; step < count; step++) {
      size += (form.spans[steps[step] as number] as SpanForm).critical.length + STEP_WORDS;
    }
    if (size * WORD > gap.width) throw new TooShort(gap, size * WORD);
    let at = to;
    for (let step = 0; step < count; step++) {
      const span = steps[step] as number;
      const { critical } = form.spans[span] as SpanForm;
      putWords(words, at, critical);
      at += critical.length;
      this.#fields.putSpanId(pairs, at + STEP_AT.spanId, span);
      putWords(words, at + STEP_AT.text, SELF_TIME);
      putNumber(pairs, (at + STEP_AT.selfTime) * PAIRS, FIELD_WORDS.selfTime * PAIRS, spent[step] as number);
      words[at + STEP_AT.end] = step + 1 < count ? STEP_END : LAST_STEP_END;
      at += STEP_WORDS;
    }
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
