import { parseTimestamp } from '../core/clock.ts';
import { documentText } from '../core/document.ts';
import type { AuditRecord } from '../core/record.ts';
import type { RecordWrite, SettledTrace, WriteForm } from '../core/settlement.ts';
import { RecordMemory } from '../enrich/record-memory.ts';
import type { PumpOptions } from './pump.ts';

const NS_A_MS = 1e6;

/**
 * Makes a text of each record as soon as it is settled, and lets go of the object. As text it lies outside of V8's heap, where it costs
 * nothing to wait for the store; as an object, of some kilobytes in a hundred parts, it would be copied by one collection after
 * the other. For a store that asks for no more than texts: to make an object of one again costs 10 µs.
 */
export class RecordTexts {
  readonly #memory = new RecordMemory();
  readonly #lookAt: ((write: RecordWrite) => WriteForm) | undefined;
  /** `event.ingested` of the record before, which most share, and the same in epoch milliseconds. */
  #ingested = { text: '', ms: 0 };

  /** @param lookAt finds out what rules have of a record, while it is an object */
  constructor(lookAt: ((write: RecordWrite) => WriteForm) | undefined) {
    this.#lookAt = lookAt;
  }

  /** In place. */
  make(traces: readonly SettledTrace[]): void {
    for (const { writes } of traces) {
      for (let at = 0; at < writes.length; at++) {
        const write = writes[at] as RecordWrite;
        if (isTextEnough(write)) (writes as RecordWrite[])[at] = this.#textOf(write);
      }
    }
  }

  /** The memory that texts since the last call lie in: theirs until it is recycled. */
  takeChunks(): readonly Buffer[] {
    return this.#memory.takeChunks();
  }

  recycle(chunks: readonly Buffer[]): void {
    this.#memory.recycle(chunks);
  }

  #textOf(write: RecordWrite): TextWrite {
    const seen = this.#lookAt?.(write);
    const text = documentText(write.record);
    const memory = this.#memory;
    memory.reserve(Buffer.byteLength(text));
    const start = memory.end;
    const { bytes } = memory.chunk;
    const size = bytes.write(text, start);
    memory.take(size);
    return new TextWrite(write, { seen, ingestedMs: this.#ingestedMs(write.record), bytes, start, size });
  }

  #ingestedMs({ event: { ingested } }: AuditRecord): number {
    if (ingested !== this.#ingested.text)
      this.#ingested = { text: ingested, ms: Number(parseTimestamp(ingested) ?? 0n) / NS_A_MS };
    return this.#ingested.ms;
  }
}

/** Undefined for a store that wants objects. */
export function openTexts({ takesTexts, detect }: Pick<PumpOptions, 'takesTexts' | 'detect'>): RecordTexts | undefined {
  return takesTexts ? new RecordTexts(detect && ((write) => detect.lookAt(write))) : undefined;
}

/** Nobody needs the record as an object: it is the first of its id, and names no session, whose owner is learnt when it is stored. */
function isTextEnough(write: RecordWrite): boolean {
  const { previousTimestampNs, mayBeElsewhere } = write;
  if (write.json !== undefined || previousTimestampNs !== undefined || mayBeElsewhere === 'moved') return false;
  // Not before: of what a form gave an object would be made.
  const { audit, session } = write.record;
  return audit.revision === 1 && session === undefined;
}

interface Text {
  readonly seen: WriteForm | undefined;
  readonly ingestedMs: number;
  readonly bytes: Buffer;
  readonly start: number;
  readonly size: number;
}

/** A record as its text; it is read into an object only where somebody asks. Nobody changes it: what is added to records was added. */
class TextWrite implements RecordWrite {
  readonly id: string;
  readonly namespace: string;
  readonly timestampNs: bigint;
  readonly rank: bigint;
  readonly durationNs: number;
  readonly traceId: string;
  readonly ingestedMs: number;
  readonly seen: WriteForm | undefined;
  readonly mayBeElsewhere?: true;
  readonly #bytes: Buffer;
  readonly #start: number;
  readonly #size: number;
  #record: AuditRecord | undefined;

  constructor({ id, namespace, timestampNs, rank, mayBeElsewhere, record }: RecordWrite, text: Text) {
    this.id = id;
    this.namespace = namespace;
    this.timestampNs = timestampNs;
    this.rank = rank;
    this.durationNs = record.event.duration;
    this.traceId = record.trace?.id ?? '';
    this.ingestedMs = text.ingestedMs;
    this.seen = text.seen;
    if (mayBeElsewhere) this.mayBeElsewhere = true;
    this.#bytes = text.bytes;
    this.#start = text.start;
    this.#size = text.size;
  }

  get record(): AuditRecord {
    this.#record ??= JSON.parse(this.json().toString()) as AuditRecord;
    return this.#record;
  }

  json(): Buffer {
    return this.#bytes.subarray(this.#start, this.#start + this.#size);
  }
}
