import { isDeepStrictEqual } from 'node:util';
import { type CoverageNote, HOUR_MS } from '../core/coverage.ts';
import { documentText } from '../core/document.ts';
import type { FrameNote, LogRecord } from '../core/evidence.ts';
import type { FormAdvice, FormedAbout, FormedRecords, FormedSettlement, Forms, Pattern } from '../core/forms.ts';
import { saidBits } from '../core/piece-bits.ts';
import type { AuditRecord } from '../core/record.ts';
import { SeenHashes } from '../core/seen-hashes.ts';
import { NO_COUNTS, type RecordWrite } from '../core/settlement.ts';
import { COLUMN_SPANS_MAX, type SpanColumns } from '../core/span-columns.ts';
import { FormLogs } from './form-logs.ts';
import { makeForm } from './form-maker.ts';
import { FormTree } from './form-tree.ts';
import { FormWriter } from './form-writer.ts';
import { noteBits, rankOf } from './identity.ts';
import { redactName } from './redact.ts';
import type { NoteForm, TraceForm } from './trace-form.ts';

/** Of the texts of all forms; what else they have takes about as much. A trace of eight spans with five records has 15 KB. */
const FORM_BYTES_MAX = 32 * 1024 * 1024;

/** Hashes of traces that were seen once: a form is made for what comes again. */
const SEEN_FORMS = 65_536;

/** What no form could be made of so often, by the lowest bits of its hash, is not tried again: to try costs more than a settle. */
const TRIES_MAX = 3;
const REFUSED_SLOTS = 65_536;

/** Names of senders that are told apart; beyond it nobody's traces get forms until all are forgotten. */
const SENDERS_MAX = 4096;

/** The first uses of a form, and later one in so many, are settled as a whole, too, and compared. */
const CHECKED_FIRST = 1;
const CHECKED_ONE_IN = 1024;

export interface TraceFormsOptions {
  readonly isSecret: (name: string) => boolean;
  /** Does redaction leave the record as it is? */
  readonly isClean: (record: AuditRecord) => boolean;
  /** Does the log record say nothing that a record could tell? */
  readonly isSilent: (log: LogRecord) => boolean;
}

/**
 * Traces that say, but for ids and times, what traces before them said: their records are written from the form of those. Exact, not
 * alike: contents are the same bytes, and trees, senders and flags are the same. A form that a whole settle contradicts is not
 * used again, and the whole settle counts.
 */
export class TraceForms implements Forms {
  readonly #options: TraceFormsOptions;
  readonly #forms = new Map<number, TraceForm[]>();
  #bytes = 0;
  readonly #seen = new SeenHashes(SEEN_FORMS);
  readonly #refused = new Uint8Array(REFUSED_SLOTS);
  readonly #tree = new FormTree();
  readonly #logs = new FormLogs();
  readonly #writer = new FormWriter();
  readonly #senders = new Map<string, number>();
  readonly #senderOf = new Int32Array(COLUMN_SPANS_MAX);
  #lastNote: FrameNote | undefined;
  #lastSender = 0;
  #lastBits = 0;
  #form: TraceForm | undefined;
  /** Traces settled by a form; forms that were made, and those that a whole settle contradicted. */
  readonly counts = { settled: 0, made: 0, wrong: 0 };

  constructor(options: TraceFormsOptions) {
    this.#options = options;
  }

  advise(columns: SpanColumns, { horizonMs }: Pick<FormedAbout, 'horizonMs'>): FormAdvice {
    this.#form = undefined;
    for (let at = 0; at < columns.count; at++) this.#senderOf[at] = this.#senderNumber(columns.notes[at] as FrameNote);
    if (!this.#tree.build(columns, this.#senderOf)) return undefined;
    const form = this.#find();
    if (form === undefined && !this.#isToBeLearnt()) return undefined;
    if (!this.#logs.look(columns.logs, this.#options.isSilent)) return undefined;
    if (form === undefined) return 'learn';
    if (form.isWrong || (horizonMs !== 0 && !form.isComplete)) return undefined;
    this.#tree.setBase();
    if (!this.#isWithinOneHour() || !this.#logs.areWithin(form.notes, this.#hour)) return undefined;
    this.#form = form;
    form.uses++;
    return form.uses <= CHECKED_FIRST || form.uses % CHECKED_ONE_IN === 0 ? 'check' : 'settle';
  }

  settle(columns: SpanColumns, about: FormedAbout): FormedRecords {
    const form = this.#form as TraceForm;
    this.counts.settled++;
    const rank = this.#rank(columns);
    const writes = this.#writer.write(form, this.#tree, columns, about, rank);
    const coverage = this.#coverage(form, about.namespace);
    const { counts, fresh } = form;
    if (this.#logs.count === 0) return { rank, writes, counts, fresh, coverage };
    this.#logs.addTo(form.notes);
    const context = this.#logs.count;
    const logs = { ...NO_COUNTS, context };
    const freshLogs = { ...logs, quarantined: 0 };
    return { rank, writes, counts: { ...counts, logs }, fresh: { ...fresh, logs: freshLogs }, coverage };
  }

  takeChunks(): readonly Buffer[] {
    return this.#writer.memory.takeChunks();
  }

  recycle(chunks: readonly Buffer[]): void {
    this.#writer.memory.recycle(chunks);
  }

  learn(pattern: Pattern): void {
    const spans = pattern.spans.map((span) => redactName(span, this.#options.isSecret));
    const form = makeForm({ ...withoutLogs(pattern), spans }, this.#tree, this.#options.isClean);
    if (form === undefined) {
      const slot = this.#tree.hash & (REFUSED_SLOTS - 1);
      this.#refused[slot] = (this.#refused[slot] as number) + 1;
      return;
    }
    for (const { text } of form.records) this.#bytes += text.length;
    if (this.#bytes > FORM_BYTES_MAX) this.#forget();
    this.counts.made++;
    const others = this.#forms.get(this.#tree.hash);
    if (others) others.push(form);
    else this.#forms.set(this.#tree.hash, [form]);
  }

  check(formed: FormedSettlement, whole: FormedSettlement): boolean {
    const isRight = isSame(formed, whole);
    if (!isRight && this.#form !== undefined) {
      this.#form.isWrong = true;
      this.counts.wrong++;
    }
    return isRight;
  }

  #forget(): void {
    this.#forms.clear();
    this.#refused.fill(0);
    this.#bytes = 0;
  }

  #senderNumber(note: FrameNote): number {
    if (note === this.#lastNote) return this.#lastSender;
    const name = `${note.namespace} ${note.sender}`;
    let number = this.#senders.get(name);
    if (number === undefined) {
      if (this.#senders.size >= SENDERS_MAX) {
        this.#senders.clear();
        this.#forget();
        this.#form = undefined;
      }
      number = this.#senders.size;
      this.#senders.set(name, number);
    }
    this.#lastNote = note;
    this.#lastSender = number;
    this.#lastBits = noteBits(note);
    return number;
  }

  #find(): TraceForm | undefined {
    const { key, hash, count } = this.#tree;
    const candidates = this.#forms.get(hash);
    if (candidates === undefined) return undefined;
    for (const form of candidates) {
      if (form.spans.length !== count) continue;
      let at = form.key.length - 1;
      while (at >= 0 && form.key[at] === key[at]) at--;
      if (at < 0) return form;
    }
    return undefined;
  }

  #isToBeLearnt(): boolean {
    const { hash } = this.#tree;
    return (this.#refused[hash & (REFUSED_SLOTS - 1)] as number) < TRIES_MAX && this.#seen.see(hash);
  }

  #rank(columns: SpanColumns): bigint {
    let sum = 0;
    for (let at = 0; at < columns.count; at++) {
      const note = columns.notes[at] as FrameNote;
      if (note !== this.#lastNote) this.#senderNumber(note);
      sum = (sum + saidBits(columns.bits[at] as number, this.#lastBits)) | 0;
    }
    return rankOf(columns.count + this.#logs.count, (sum + this.#logs.bitsSum()) | 0);
  }

  get #hour(): number {
    return Math.floor(this.#tree.baseMs / HOUR_MS);
  }

  /** Coverage counts by the hour in which a span begins. */
  #isWithinOneHour(): boolean {
    const hour = this.#hour;
    for (let at = 0; at < this.#tree.count; at++) {
      if (Math.floor(this.#tree.startMs(at) / HOUR_MS) !== hour) return false;
    }
    return true;
  }

  #coverage({ notes, coverage }: TraceForm, namespace: string): readonly CoverageNote[] {
    const hour = this.#hour;
    for (let at = 0; at < notes.length; at++) {
      const { spans, note } = notes[at] as NoteForm;
      note.namespace = namespace;
      note.hour = hour;
      note.logs = 0;
      note.firstMs = Number.POSITIVE_INFINITY;
      note.lastMs = Number.NEGATIVE_INFINITY;
      for (let span = 0; span < spans.length; span++) {
        const startMs = this.#tree.startMs(spans[span] as number);
        if (startMs < note.firstMs) note.firstMs = startMs;
        if (startMs > note.lastMs) note.lastMs = startMs;
      }
    }
    return coverage;
  }
}

/** As if none of its log records had come, of which records tell nothing. */
function withoutLogs({ counts, fresh, coverage, ...pattern }: Pattern): Pattern {
  const logs = { ...NO_COUNTS, quarantined: 0 };
  const notes = coverage.filter(({ spans }) => spans > 0).map((note) => ({ ...note, logs: 0 }));
  return { ...pattern, counts: { ...counts, logs: NO_COUNTS }, fresh: { ...fresh, logs }, coverage: notes };
}

function isSame(formed: FormedSettlement, whole: FormedSettlement): boolean {
  return (
    formed.rank === whole.rank &&
    formed.writes.length === whole.writes.length &&
    formed.writes.every((write, at) => isSameWrite(write, whole.writes[at])) &&
    isDeepStrictEqual([formed.counts, formed.fresh, formed.coverage], [whole.counts, whole.fresh, whole.coverage])
  );
}

function isSameWrite(formed: RecordWrite, whole: RecordWrite | undefined): boolean {
  return (
    whole !== undefined &&
    formed.id === whole.id &&
    formed.timestampNs === whole.timestampNs &&
    formed.mayBeElsewhere === whole.mayBeElsewhere &&
    JSON.stringify(formed.record) === documentText(whole.record)
  );
}
