import { clip } from '../access/attributes.ts';
import type { CoverageNote } from '../core/coverage.ts';
import { STATUS_CODE } from '../core/evidence.ts';
import type { Pattern } from '../core/forms.ts';
import { PATH_STEPS_MAX } from '../core/limits.ts';
import type { AuditRecord, CriticalStep, PathStep } from '../core/record.ts';
import { missingBytes, WORD } from './form-bytes.ts';
import { gapsOf } from './form-gaps.ts';
import { closing, spanForm } from './form-span.ts';
import { type FormTree, KEY_WORDS } from './form-tree.ts';
import { tookText } from './sentence.ts';
import {
  FIELD_AT,
  FIELD_WORDS,
  type Field,
  type Need,
  type NoteForm,
  type OddGap,
  type OddKind,
  type PathGap,
  type RecordForm,
  SPAN_WORDS,
  STEP_WORDS,
  TRACE_FIELDS,
  type TraceForm,
} from './trace-form.ts';
import { buildTree, NONE, type TraceTree } from './trace-tree.ts';
import { placeOf } from './where.ts';

const NO_BYTES = new Uint8Array(0);

/** Of ids inside of a text, and of what says that a step's time was corrected. */
const WIDTH = { spanId: 16, traceId: 32, skew: 22 } as const;

/** A text that is longer may have been cut. */
const MESSAGE_CHARS_MAX = 4000;

/** The pattern has what no form can tell of. */
class Unformable extends Error {}

/**
 * The form of a settled trace: the texts of its records with gaps where ids and times stand. The fields that hold them are known
 * by name; anything in them that is not what it should be, and anything in the trace whose telling depends on times in other
 * ways, makes the trace one without a form: undefined. `isClean` says of a record whether redaction leaves it as it is.
 */
export function makeForm(
  pattern: Pattern,
  order: FormTree,
  isClean: (record: AuditRecord) => boolean,
): TraceForm | undefined {
  try {
    return formOf(pattern, order, isClean);
  } catch (thrown) {
    if (thrown instanceof Unformable) return undefined;
    throw thrown;
  }
}

function check(condition: boolean): void {
  if (!condition) throw new Unformable();
}

function need<T>(value: T | undefined): T {
  if (value === undefined) throw new Unformable();
  return value;
}

function formOf(
  { spans, writes, counts, fresh, coverage }: Pattern,
  order: FormTree,
  isClean: (record: AuditRecord) => boolean,
): TraceForm {
  const tree = buildTree(spans);
  const records = writes.map(({ record }) => record);
  for (const [at, span] of tree.spans.entries()) {
    check(spans[order.columnOf[at] ?? NONE] === span && (tree.depth[at] ?? 0) < PATH_STEPS_MAX);
    check(isClean({ message: span.name } as AuditRecord));
  }
  checkFailures(tree, records);
  const clocks = new Set(tree.spans.map((span) => placeOf(span.resource).clock));
  const hasOneClock = clocks.size === 1 && !clocks.has('');
  const work = workOf(records);
  const indexOfRecord = new Map(records.map(({ event, span }) => [event.id, need(tree.indexOf.get(span?.id ?? ''))]));
  const needs = new Map<number, Need>();
  const notes = coverage.map((note) => noteOf(note, tree));
  return {
    key: order.key.slice(0, order.count * KEY_WORDS),
    records: records.map((record) => {
      check(isClean(record) && isUsual(record));
      return new RecordMaker({ record, tree, indexOfRecord, hasOneClock, work, needs }).make();
    }),
    needs: [...needs.values()],
    spans: tree.spans.map((span) => spanForm(span, work)),
    // With spans that keep no payload alive, and the times of the trace at hand.
    tree: {
      ...tree,
      spans: tree.spans.map((span) => ({ ...span, raw: NO_BYTES, content: undefined })),
      start: order.start,
      end: order.end,
    },
    hasOneClock,
    isComplete: records.every(({ audit }) => audit.join.state === 'complete'),
    hasWork: work.size > 0,
    ...{ counts, fresh },
    notes,
    coverage: notes.map(({ note }) => note),
    uses: 0,
    isWrong: false,
  };
}

/** What tells of ids or times elsewhere than in the fields that have gaps. */
function isUsual({ audit, session }: AuditRecord): boolean {
  return audit.checks === undefined && audit.join.conflicts === undefined && session === undefined;
}

/** What failed must be above or below what else failed: which of several branches explains a failure is a question of time. */
function checkFailures(tree: TraceTree, records: readonly AuditRecord[]): void {
  const failed = new Set<string | undefined>();
  for (const { span, event, audit } of records) {
    if (event.outcome === 'failure' || audit.decision === 'deny') failed.add(span?.id);
  }
  let last = NONE;
  for (const [at, { spanId, statusCode }] of tree.spans.entries()) {
    if (statusCode !== STATUS_CODE.error && !failed.has(spanId)) continue;
    let above = at;
    while (above !== NONE && above !== last) above = tree.parent[above] ?? NONE;
    check(last === NONE || above === last);
    last = at;
  }
}

/** What is told of each access to a database when it is the slowest, by span id. */
function workOf(records: readonly AuditRecord[]): Map<string, string> {
  const work = new Map<string, string>();
  for (const { db, span, audit } of records) {
    if (db !== undefined && span) work.set(span.id, clip(db.statement ?? audit.target.name ?? audit.target.id));
  }
  return work;
}

function noteOf(note: CoverageNote, tree: TraceTree): NoteForm {
  const spans: number[] = [];
  for (const [at, { resource }] of tree.spans.entries()) {
    const name = resource.attributes.get('service.name');
    if ((typeof name === 'string' ? name : '') === note.service) spans.push(at);
  }
  check(spans.length === note.spans && note.probabilityMin + note.probabilityMax === 0);
  return { spans, note: { ...note } };
}

interface RecordSource {
  readonly record: AuditRecord;
  readonly tree: TraceTree;
  readonly indexOfRecord: ReadonlyMap<string, number>;
  readonly hasOneClock: boolean;
  readonly work: ReadonlyMap<string, string>;
  /** Fields that were asked for, by where they lie. */
  readonly needs: Map<number, Need>;
}

/** Writes one record with its gaps. */
class RecordMaker {
  readonly #source: RecordSource;
  readonly #index: number;
  readonly #parts: Buffer[] = [];
  #size = 0;
  readonly #moves: (readonly [from: number, to: number, words: number])[] = [];
  readonly #odd: OddGap[] = [];
  #path: PathGap | undefined;
  #auditEnd = 0;

  constructor(source: RecordSource) {
    this.#source = source;
    this.#index = need(source.tree.indexOf.get(source.record.span?.id ?? ''));
  }

  make(): RecordForm {
    this.#object(this.#source.record, RECORD_GAPS);
    this.align(0);
    const form = {
      index: this.#index,
      text: Buffer.concat(this.#parts),
      // Those of one length together: a processor guesses when each ends.
      moves: Int32Array.from(this.#moves.sort(([, , a], [, , b]) => a - b).flat()),
      odd: this.#odd,
      path: this.#path,
      auditEnd: this.#auditEnd,
    };
    return { ...form, gaps: gapsOf(form) };
  }

  text(text: string): void {
    const bytes = Buffer.from(text);
    this.#parts.push(bytes);
    this.#size += bytes.length;
  }

  /** Spaces, so that what stands so many bytes later begins at a word. */
  align(bytesBefore: number): void {
    this.text(' '.repeat(missingBytes(this.#size + bytesBefore)));
  }

  /** A gap for a field of a span, at a word. */
  field(field: Field, arg = this.#index): void {
    check(this.#size % WORD === 0);
    const of = TRACE_FIELDS.has(field) ? 0 : arg;
    const from = of * SPAN_WORDS + FIELD_AT[field];
    this.#source.needs.set(from, { field, arg: of, at: from });
    this.#moves.push([from, this.#size / WORD, FIELD_WORDS[field]]);
    this.text(' '.repeat(FIELD_WORDS[field] * WORD));
  }

  odd(kind: OddKind, width: number, arg = this.#index): void {
    this.#odd.push({ kind, arg, at: this.#size, width });
    this.text(' '.repeat(width));
  }

  #object(object: object, special: Gaps): void {
    let isFirst = true;
    this.text('{');
    for (const [key, value] of Object.entries(object)) {
      if (value === undefined) continue;
      this.text(`${isFirst ? '' : ','}${JSON.stringify(key)}:`);
      isFirst = false;
      const put = special[key];
      if (put === undefined) this.text(JSON.stringify(value));
      else if (typeof put === 'function') put(this, value);
      else this.#object(value as object, put);
    }
    if (special === AUDIT_GAPS) this.#auditEnd = this.#size;
    this.text('}');
  }

  number(field: Field, arg = this.#index): void {
    this.align(0);
    this.field(field, arg);
  }

  /** The closing quotation mark is the field's own. */
  closed(field: Field): void {
    this.align(1);
    this.text('"');
    this.field(field);
  }

  traceId(): void {
    this.#quoted('traceId', this.#index);
  }

  parentId(): void {
    this.#quoted('parentId', this.#index);
  }

  spanId(id: unknown): void {
    this.#quoted('spanId', this.#indexOf(id));
  }

  recordId(id: unknown): void {
    this.#quoted('recordId', need(this.#source.indexOfRecord.get(String(id))));
  }

  message(message: unknown): void {
    const took = tookText(this.#source.record.event.duration);
    const text = String(message);
    check(text.endsWith(took) && text.length < MESSAGE_CHARS_MAX);
    const head = JSON.stringify(text.slice(0, text.length - took.length)).slice(0, -1);
    this.align(Buffer.byteLength(head));
    this.text(head);
    this.field('took');
  }

  /** Made of a template of the settings, which has the ids of trace and span in it. */
  url(value: unknown): void {
    const { trace, span } = this.#source.record;
    const url = String(value);
    check(url.length < MESSAGE_CHARS_MAX);
    this.text('"');
    for (const [at, part] of url.split(need(trace?.id)).entries()) {
      if (at > 0) this.odd('traceId', WIDTH.traceId);
      for (const [place, text] of part.split(need(span?.id)).entries()) {
        if (place > 0) this.odd('spanId', WIDTH.spanId);
        this.text(JSON.stringify(text).slice(1, -1));
      }
    }
    this.text('"');
  }

  slowest(): void {
    let width = 0;
    for (const work of this.#source.work.values()) width = Math.max(width, closing(work).byteLength);
    this.align(1);
    this.text('"');
    this.odd('slowestWork', width);
  }

  criticalPath(steps: unknown): void {
    const { tree, work } = this.#source;
    let width = 0;
    for (const { span_id } of steps as CriticalStep[]) {
      const { critical } = spanForm(need(tree.spans[this.#indexOf(span_id)]), work);
      width += critical.length + STEP_WORDS * WORD;
    }
    this.align(1);
    this.text('[');
    // No steps are there yet: no trace has these.
    this.#path = { arg: this.#index, at: this.#size, width, steps: Int32Array.of(NONE), ids: new Int32Array(1) };
    this.text(' '.repeat(width));
    this.text(']');
  }

  /** A path that leads from its top to one span. */
  path(given: unknown): void {
    const { tree, hasOneClock } = this.#source;
    const steps = given as PathStep[];
    let at = NONE;
    this.text('[');
    for (const { service, name, kind, span_id, status } of steps) {
      const index = this.#indexOf(span_id);
      check((tree.parent[index] ?? NONE) === at);
      const told = JSON.stringify({ ...(service !== undefined && { service }), name, kind, span_id: '' });
      const head = `${at === NONE ? '' : ','}${told.slice(0, -2)}`;
      this.align(Buffer.byteLength(head));
      this.text(head);
      at = index;
      this.field('spanId', index);
      this.text('","start_offset":');
      this.number('stepOffset', index);
      this.text(',"duration":');
      this.number('stepDuration', index);
      this.text(`,"status":"${status}"`);
      if (!hasOneClock) this.odd('stepSkew', WIDTH.skew, index);
      this.text('}');
    }
    this.text(']');
  }

  evidence(pieces: unknown): void {
    this.text('[');
    for (const [at, piece] of (pieces as object[]).entries()) {
      if (at > 0) this.text(',');
      this.#object(piece, { id: (maker, id) => maker.spanId(id) });
    }
    this.text(']');
  }

  #indexOf(spanId: unknown): number {
    return need(this.#source.tree.indexOf.get(String(spanId)));
  }

  #quoted(field: Field, arg: number): void {
    this.align(1);
    this.text('"');
    this.field(field, arg);
    this.text('"');
  }
}

type Put = (maker: RecordMaker, value: unknown) => void;
interface Gaps {
  readonly [key: string]: Put | Gaps;
}

const AUDIT_GAPS: Gaps = {
  entry_id: (maker, value) => maker.recordId(value),
  trace: {
    duration: (maker) => maker.number('traceDuration'),
    self_time: (maker) => maker.number('selfTime'),
    critical_path: (maker, value) => maker.criticalPath(value),
    url: (maker, value) => maker.url(value),
  },
  path: (maker, value) => maker.path(value),
  db: {
    duration: (maker) => maker.number('workDuration'),
    slowest: (maker) => maker.slowest(),
  },
  error_origin: { span_id: (maker, value) => maker.spanId(value) },
  join: { reason: (maker) => maker.closed('reason') },
  evidence: (maker, value) => maker.evidence(value),
};

/** Where ids and times stand in a record (`LATE_FIELDS`). Whatever else a record has is the same in all of its form. */
const RECORD_GAPS: Gaps = {
  '@timestamp': (maker) => maker.closed('start'),
  message: (maker, value) => maker.message(value),
  event: {
    id: (maker, value) => maker.recordId(value),
    start: (maker) => maker.closed('start'),
    end: (maker) => maker.closed('end'),
    created: (maker) => maker.closed('end'),
    ingested: (maker) => maker.closed('ingested'),
    duration: (maker) => maker.number('duration'),
  },
  trace: { id: (maker) => maker.traceId() },
  span: { id: (maker, value) => maker.spanId(value) },
  parent: { id: (maker) => maker.parentId() },
  transaction: { id: (maker, value) => maker.spanId(value) },
  audit: AUDIT_GAPS,
};
