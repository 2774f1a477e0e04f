import { nsToMs, parseTimestamp } from '../core/clock.ts';
import { FormedRecord, HEAD } from '../core/formed-record.ts';
import type { AuditRecord } from '../core/record.ts';
import type { RecordWrite, WriteForm } from '../core/settlement.ts';

/** A record, or what the pipeline tells of itself, on its way past the rules. */
export interface Subject {
  readonly id: string;
  readonly trace: string;
  readonly namespace: string;
  /** `@timestamp`, epoch milliseconds with a fraction. */
  readonly timeMs: number;
  /** When it was made here: a time far after it is a wrong clock's. */
  readonly ingestedMs: number;
  readonly isRevision: boolean;
  readonly source: 'records' | 'pipeline';
  readonly document: object;
  /** As of `RecordWrite`. */
  readonly form?: WriteForm | undefined;
  readonly durationNs?: number | undefined;
}

export function subjectOf(record: AuditRecord): Subject {
  return {
    id: record.event.id,
    trace: record.trace?.id ?? '',
    namespace: record.data_stream.namespace,
    timeMs: toMs(record['@timestamp']),
    ingestedMs: toMs(record.event.ingested),
    isRevision: record.audit.revision > 1,
    source: 'records',
    document: record,
  };
}

const NS_A_MS = 1_000_000n;

/** What was written, read as late as can be: of most records no rule wants more than the form, or a few fields. */
export class WrittenSubject implements Subject {
  readonly source = 'records';
  readonly #write: RecordWrite;

  constructor(write: RecordWrite) {
    this.#write = write;
  }

  get id(): string {
    return this.#write.id;
  }

  get namespace(): string {
    return this.#write.namespace;
  }

  get form(): WriteForm | undefined {
    return this.#write.form ?? this.#write.seen;
  }

  get durationNs(): number | undefined {
    return this.#write.durationNs;
  }

  get document(): object {
    return this.#write.record;
  }

  get trace(): string {
    return this.#write.traceId ?? this.#write.record.trace?.id ?? '';
  }

  get timeMs(): number {
    if (this.#write instanceof FormedRecord) return msOf(this.#write);
    const { timestampNs } = this.#write;
    return Number(timestampNs / NS_A_MS) + Number(timestampNs % NS_A_MS) / 1e6;
  }

  get ingestedMs(): number {
    return this.#write.ingestedMs ?? toMs(this.#write.record.event.ingested);
  }

  /** The same for all of a form. */
  get isRevision(): boolean {
    return this.#write.record.audit.revision > 1;
  }
}

/** 2^32 nanoseconds, in whole milliseconds and what is over, nanoseconds. */
const HIGH_MS = 4_294;
const HIGH_NS = 967_296;

/** `@timestamp` as `timeMs` has it: the two words of its nanoseconds are divided apart, in whole numbers that a double holds. */
function msOf({ chunk: { words }, at }: FormedRecord): number {
  const high = words[at + HEAD.timeHigh] as number;
  const restNs = high * HIGH_NS + (words[at + HEAD.timeLow] as number);
  const restMs = Math.floor(restNs / 1e6);
  return high * HIGH_MS + restMs + (restNs - restMs * 1e6) / 1e6;
}

/** Of `2026-11-22T10:19:13.000000001Z`, and of that up to the milliseconds. */
const OWN_CHARS = 30;
const DAY_CHARS = 10;
const MS_CHARS = 23;
const ZERO = 48;

/** The day that was read last: most times of a moment share it. */
let day = { text: '', startMs: 0 };

/** With what is below a millisecond as a fraction. Records write their times all alike, which is read the short way. */
function toMs(timestamp: string): number {
  if (timestamp.length !== OWN_CHARS) return nsToMs(parseTimestamp(timestamp) ?? 0n);
  const text = timestamp.slice(0, DAY_CHARS);
  if (text !== day.text) day = { text, startMs: Date.parse(`${text}T00:00:00Z`) };
  const minutes = digits(timestamp, 11, 13) * 60 + digits(timestamp, 14, 16);
  const ms = (minutes * 60 + digits(timestamp, 17, 19)) * 1000 + digits(timestamp, 20, MS_CHARS);
  return day.startMs + ms + digits(timestamp, MS_CHARS, OWN_CHARS - 1) / 1e6;
}

function digits(text: string, from: number, to: number): number {
  let number = 0;
  for (let at = from; at < to; at++) number = number * 10 + text.charCodeAt(at) - ZERO;
  return number;
}
