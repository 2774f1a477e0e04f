import { FormedRecord, HEAD, HEAD_WORDS } from '../core/formed-record.ts';
import type { FormedAbout } from '../core/forms.ts';
import { COLUMN_SPANS_MAX, type SpanColumns } from '../core/span-columns.ts';
import { criticalSteps } from './critical-path.ts';
import { PAIRS, put, putNumber, putWords, WORD } from './form-bytes.ts';
import { gapsOf } from './form-gaps.ts';
import type { FormTree } from './form-tree.ts';
import { RecordMemory } from './record-memory.ts';
import { TraceFields } from './trace-fields.ts';
import {
  FIELD_WORDS,
  type OddGap,
  type PathGap,
  type RecordForm,
  type SpanForm,
  STEP_AT,
  STEP_WORDS,
  type TraceForm,
} from './trace-form.ts';
import { NONE } from './trace-tree.ts';

const SPACE = 0x20;
/** Words of an id of a record or a trace. */
const ID_WORDS = 4;

const SKEW_CORRECTED = Buffer.from(',"skew_corrected":true');
const SELF_TIME = Buffer.from('","self_time":  ');
const STEP_END = Buffer.from('},  ');
const LAST_STEP_END = Buffer.from('}   ');

/** Writes the records of traces whose form is known: copies the form's text, then each field into its gaps. One trace at a time. */
export class FormWriter {
  readonly memory = new RecordMemory();
  readonly #fields = new TraceFields();
  /** Places among the form's records, by time. */
  readonly #order = new Int32Array(COLUMN_SPANS_MAX);
  #rankHigh = 0;
  #rankLow = 0;
  /** Nanoseconds spent in each step of the path at hand. */
  #spent = new Float64Array(0);

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

  #record(record: RecordForm, { namespace, isReplayed }: FormedAbout): FormedRecord {
    const { path } = record;
    if (path !== undefined) this.#walkPath(record, path);
    const { text, moves, odd } = record;
    const { memory } = this;
    memory.reserve(HEAD_WORDS * WORD + text.length);
    const { chunk, end } = memory;
    const head = end / WORD;
    const start = head + HEAD_WORDS;
    chunk.bytes.set(text, start * WORD);
    this.#move(moves, start);
    for (let at = 0; at < odd.length; at++) this.#fill(odd[at] as OddGap, start * WORD);
    if (path !== undefined) this.#putSteps(path, start);
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
      // No field is shorter.
      to[gap] = from[field] as number;
      to[gap + 1] = from[field + 1] as number;
      to[gap + 2] = from[field + 2] as number;
      to[gap + 3] = from[field + 3] as number;
      for (let word = 4; word < count; word++) to[gap + word] = from[field + word] as number;
    }
  }

  #fill(gap: OddGap, start: number): void {
    const { bytes, words } = this.memory.chunk;
    const fields = this.#fields;
    const to = start + gap.at;
    switch (gap.kind) {
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

  /** Sees to it that the text has the steps of this trace, which mostly are those of the one before. */
  #walkPath(record: RecordForm, path: PathGap): void {
    const { form, timeline } = this.#fields;
    const { count, steps, spent } = criticalSteps(form.tree, timeline, path.arg);
    this.#spent = spent;
    let same = path.steps.length === count ? 0 : NONE;
    while (same >= 0 && same < count) same = path.steps[same] === steps[same] ? same + 1 : NONE;
    if (same === NONE) layOut(record, path, form.spans, steps.subarray(0, count));
  }

  /** What steps have of their own, into the record that begins at this word. */
  #putSteps({ steps, ids }: PathGap, start: number): void {
    const { pairs } = this.memory.chunk;
    for (let step = 0; step < steps.length; step++) {
      const at = start + (ids[step] as number);
      this.#fields.putSpanId(pairs, at + STEP_AT.spanId, steps[step] as number);
      const to = (at + STEP_AT.selfTime) * PAIRS;
      putNumber(pairs, to, FIELD_WORDS.selfTime * PAIRS, this.#spent[step] as number);
    }
  }
}

/** Writes into the record's text what these steps of its critical path say in all traces. */
function layOut(record: RecordForm, path: PathGap, spans: readonly SpanForm[], steps: Int32Array): void {
  const heads = Array.from(steps, (step) => (spans[step] as SpanForm).critical);
  const size = heads.reduce((sum, head) => sum + head.length + STEP_WORDS * WORD, 0);
  if (size > path.width) widen(record, path, size);
  const { text } = record;
  text.fill(SPACE, path.at, path.at + path.width);
  path.steps = steps.slice();
  path.ids = new Int32Array(steps.length);
  let at = path.at;
  for (const [step, head] of heads.entries()) {
    text.set(head, at);
    at += head.length;
    path.ids[step] = at / WORD;
    text.set(SELF_TIME, at + STEP_AT.text * WORD);
    text.set(step + 1 < heads.length ? STEP_END : LAST_STEP_END, at + STEP_AT.end * WORD);
    at += STEP_WORDS * WORD;
  }
}

/** Makes room in the path's gap, and moves those behind it. */
function widen(record: RecordForm, path: PathGap, width: number): void {
  const { text, moves, odd } = record;
  const more = width - path.width;
  record.text = Buffer.concat([text.subarray(0, path.at), Buffer.alloc(more, SPACE), text.subarray(path.at)]);
  path.width = width;
  for (const gap of odd) if (gap.at > path.at) gap.at += more;
  for (let move = 1; move < moves.length; move += 3) {
    if ((moves[move] as number) * WORD > path.at) moves[move] = (moves[move] as number) + more / WORD;
  }
  if (record.auditEnd > path.at) record.auditEnd += more;
  record.gaps = gapsOf(record);
}
