import type { LogRecord, Span, TraceEvidence } from './evidence.ts';
import type { AuditRecord, SettleReason } from './record.ts';

/** One record as `settle` makes it. The exempt fields (revision, reason, …) hold first-settle values until stamped. */
export interface SettledRecord {
  readonly id: string;
  readonly timestampNs: bigint;
  readonly record: AuditRecord;
}

/** How the pieces of a trace's evidence were used: the terms of invariant I2. */
export interface EvidenceCounts {
  readonly used: number;
  readonly context: number;
  readonly excluded: number;
  readonly duplicate: number;
}

export const NO_COUNTS: EvidenceCounts = { used: 0, context: 0, excluded: 0, duplicate: 0 };

/** Evidence settled for the first time, by what became of it. */
export interface FreshCounts extends EvidenceCounts {
  /** Could not be read or settled. */
  readonly quarantined: number;
}

export interface BySignal<Counts> {
  readonly traces: Counts;
  readonly logs: Counts;
}

/** The records of one trace, from all evidence now known for it. A pure function of the set of evidence and the rules. */
export interface Settlement {
  /** (number of distinct evidence pieces, digest of their ids) as a positive 63-bit integer. */
  readonly rank: bigint;
  readonly records: readonly SettledRecord[];
  /** Ids that a smaller set of this evidence could have published, and the id that stands for each now. */
  readonly superseded: ReadonlyMap<string, string>;
  readonly counts: EvidenceCounts;
  /** How many of `counts` are log records. */
  readonly logCounts: EvidenceCounts;
  /** Pieces given that say nothing that another one does not: the same content, sender and trust. No later settle needs them. */
  readonly repeats: readonly (Span | LogRecord)[];
}

export type Settle = (evidence: TraceEvidence) => Settlement;

/** The same in steps: others may go on between two of them. */
export type SettleSteps = (evidence: TraceEvidence) => Generator<void, Settlement>;

/** What records that differ in nothing but `LATE_FIELDS` share: an object that is theirs alone. */
export interface WriteForm {
  /** Where their texts differ, if anybody knows: another object once that is elsewhere. */
  readonly gaps?: FormGaps;
  /** What rules found out about them, for these alone to read and write: it is asked for with each record. */
  rules?: object;
}

/** Texts of so many bytes are alike but for these places. */
export interface FormGaps {
  readonly size: number;
  /** The byte that what is added to `audit` goes before, its closing brace; absent where nobody knows. */
  readonly auditEnd?: number;
  /** The first byte of each gap and the one behind it, in their order, each apart from the next. */
  readonly ranges: Int32Array;
}

/** One row for the store: a record with what makes its write idempotent and ordered. */
export interface RecordWrite {
  readonly id: string;
  readonly namespace: string;
  /** `@timestamp` in epoch nanoseconds: where the record lives (index of the day, row group). */
  readonly timestampNs: bigint;
  /** A higher rank replaces a lower one, an equal one is the same, a lower one is ignored. */
  readonly rank: bigint;
  /** Of a write with a form it is made of its text when it is asked for first: 10 µs. */
  readonly record: AuditRecord;
  /**
   * The same object for records that differ in nothing but `LATE_FIELDS`: what rests on nothing else may be remembered by it.
   * Absent where nobody looked, and once the record was changed.
   */
  readonly form?: WriteForm | undefined;
  /** What rules found out about this record alone, before it was text. */
  readonly seen?: WriteForm | undefined;
  /** `event.duration`, nanoseconds; absent where only the record tells. */
  readonly durationNs?: number | undefined;
  /** `trace.id`, and `event.ingested` in epoch milliseconds; absent where only the record tells. */
  readonly traceId?: string | undefined;
  readonly ingestedMs?: number | undefined;
  /**
   * The UTF-8 bytes of the record's JSON where they are there already. They, and the record where nobody asked for it, are gone once
   * the batch is in the journal.
   */
  readonly json?: () => Buffer;
  /** The record to be changed in place: from then on it counts, and not what it was made of. Absent: `record` is that. */
  readonly edit?: () => AuditRecord;
  /** Where the revision before this one lives; absent when this is the first. */
  readonly previousTimestampNs?: bigint;
  /**
   * It may lie at a time that nobody remembers, and is to be looked for there, so that it is not there twice. True: a run that
   * ended before its journal knew may have been the last to write it, or it is an event that came with another time before.
   * `moved`: this run may have moved it since.
   */
  readonly mayBeElsewhere?: true | 'moved';
}

/** The record of a write to be changed in place. */
export function editable(write: RecordWrite): AuditRecord {
  return write.edit?.() ?? write.record;
}

/** The same write, for longer than its batch is under way: bytes of a form are used again. */
export function lastingWrite(write: RecordWrite): RecordWrite {
  if (write.json === undefined) return write;
  const { id, namespace, timestampNs, rank, record, mayBeElsewhere } = write;
  return { id, namespace, timestampNs, rank, record, ...(mayBeElsewhere && { mayBeElsewhere }) };
}

/** One settled trace on its way to the store and then to the settle journal. */
export interface SettledTrace {
  readonly namespace: string;
  readonly traceId: string;
  readonly reason: SettleReason;
  readonly rank: bigint;
  readonly revision: number;
  readonly writes: readonly RecordWrite[];
}

/** Fields (or all below them) in which records of one form differ; `message` only in how long it took. */
export const LATE_FIELDS: readonly string[] = [
  '@timestamp',
  'message',
  'event.id',
  'event.start',
  'event.end',
  'event.created',
  'event.ingested',
  'event.duration',
  'trace.id',
  'span.id',
  'parent.id',
  'transaction.id',
  'audit.entry_id',
  'audit.trace.duration',
  'audit.trace.self_time',
  'audit.trace.critical_path',
  'audit.trace.url',
  'audit.path',
  'audit.db.duration',
  'audit.db.slowest',
  'audit.error_origin.span_id',
  'audit.evidence',
  'audit.join.reason',
];
