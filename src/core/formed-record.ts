import { documentText } from './document.ts';
import type { AuditRecord } from './record.ts';
import type { RecordWrite } from './settlement.ts';

/** What a formed record is made of, apart from its text. */
export interface FormedParts {
  readonly id: string;
  readonly namespace: string;
  readonly rank: bigint;
  /** The two add up to the time, epoch nanoseconds. */
  readonly baseNs: bigint;
  readonly offsetNs: number;
  readonly durationNs: number;
  readonly traceId: string;
  readonly ingestedMs: number;
  readonly mayBeElsewhere: boolean;
  readonly form: object;
  /** The record's JSON text lies there. */
  readonly bytes: Buffer;
  readonly start: number;
  readonly end: number;
}

/** A record as the text that a form gave; it is read into an object only where somebody asks. */
export class FormedRecord implements RecordWrite {
  readonly #parts: FormedParts;
  readonly id: string;
  readonly mayBeElsewhere?: true;
  #record: AuditRecord | undefined;
  #isEdited = false;
  #timestampNs: bigint | undefined;

  constructor(parts: FormedParts) {
    this.#parts = parts;
    this.id = parts.id;
    if (parts.mayBeElsewhere) this.mayBeElsewhere = true;
  }

  /** Undefined once it was changed. */
  get parts(): FormedParts | undefined {
    return this.#isEdited ? undefined : this.#parts;
  }

  get namespace(): string {
    return this.#parts.namespace;
  }

  get rank(): bigint {
    return this.#parts.rank;
  }

  get timestampNs(): bigint {
    this.#timestampNs ??= this.#parts.baseNs + BigInt(this.#parts.offsetNs);
    return this.#timestampNs;
  }

  /** Of the record's time, nanoseconds from the start of its trace. */
  get offsetNs(): number {
    return this.#parts.offsetNs;
  }

  get durationNs(): number | undefined {
    return this.#isEdited ? undefined : this.#parts.durationNs;
  }

  get traceId(): string | undefined {
    return this.#isEdited ? undefined : this.#parts.traceId;
  }

  get ingestedMs(): number | undefined {
    return this.#isEdited ? undefined : this.#parts.ingestedMs;
  }

  get form(): object | undefined {
    return this.#isEdited ? undefined : this.#parts.form;
  }

  get record(): AuditRecord {
    this.#record ??= JSON.parse(this.#text().toString()) as AuditRecord;
    return this.#record;
  }

  json(): Buffer {
    return this.#isEdited ? Buffer.from(documentText(this.record)) : this.#text();
  }

  edit(): AuditRecord {
    const { record } = this;
    this.#isEdited = true;
    return record;
  }

  /** As a plain write: for what is set aside. */
  toJSON(): object {
    const { id, namespace, record } = this;
    return { id, namespace, timestampNs: this.timestampNs.toString(), rank: this.rank.toString(), record };
  }

  #text(): Buffer {
    const { bytes, start, end } = this.#parts;
    return bytes.subarray(start, end);
  }
}
