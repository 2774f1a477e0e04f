import { documentText } from './document.ts';
import type { AuditRecord } from './record.ts';
import type { RecordWrite, WriteForm } from './settlement.ts';

/** Memory that records lie in, one behind the other: of each a head, and its text. */
export class RecordChunk {
  readonly bytes: Buffer;
  /** The same memory. */
  readonly pairs: Uint16Array;
  readonly words: Uint32Array;
  readonly doubles: Float64Array;

  constructor(memory: ArrayBuffer) {
    this.bytes = Buffer.from(memory);
    this.pairs = new Uint16Array(memory);
    this.words = new Uint32Array(memory);
    this.doubles = new Float64Array(memory);
  }
}

/** Where in the head of a record is what is asked of it without its text, in words of four bytes. Heads begin at eight bytes. */
export const HEAD = {
  /** 16 bytes each. */
  id: 0,
  traceId: 4,
  /** Nanoseconds, and epoch milliseconds with a fraction; doubles. */
  duration: 8,
  ingestedMs: 10,
  /** Epoch nanoseconds. */
  timeHigh: 12,
  timeLow: 13,
  rankHigh: 14,
  rankLow: 15,
  /** Bytes of the text. */
  size: 16,
  /** 1 for a record that may be elsewhere. */
  flags: 17,
} as const;
export const HEAD_WORDS = 18;

const WORD = 4;
const ID_BYTES = 16;

/** 64 bits as two words: a shift of bigints makes several of them. */
const LONG = new BigUint64Array(1);
const LONG_WORDS = new Uint32Array(LONG.buffer);
const HIGH = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1 ? 1 : 0;

/** What records of one form say besides, all of them in the same words. */
export interface Addition {
  /** JSON that goes before the byte `at` of texts of `toSize` bytes. */
  readonly text: Buffer;
  readonly at: number;
  readonly toSize: number;
  /** Theirs from then on. */
  readonly form: WriteForm;
}

/** A record as the text that a form gave; it is read into an object only where somebody asks. */
export class FormedRecord implements RecordWrite {
  /** Where it lies, and the word at which its head begins there. */
  readonly chunk: RecordChunk;
  readonly at: number;
  readonly #form: WriteForm;
  readonly namespace: string;
  readonly mayBeElsewhere?: true;
  #id: string | undefined;
  #record: AuditRecord | undefined;
  #isEdited = false;
  #added: Addition | undefined;

  constructor(chunk: RecordChunk, at: number, form: WriteForm, namespace: string) {
    this.chunk = chunk;
    this.at = at;
    this.#form = form;
    this.namespace = namespace;
    if (chunk.words[at + HEAD.flags] !== 0) this.mayBeElsewhere = true;
  }

  get id(): string {
    this.#id ??= this.#hex(HEAD.id);
    return this.#id;
  }

  get rank(): bigint {
    return this.#long(HEAD.rankHigh);
  }

  get timestampNs(): bigint {
    return this.#long(HEAD.timeHigh);
  }

  get durationNs(): number | undefined {
    return this.#isEdited ? undefined : this.#double(HEAD.duration);
  }

  get traceId(): string | undefined {
    return this.#isEdited ? undefined : this.#hex(HEAD.traceId);
  }

  get ingestedMs(): number | undefined {
    return this.#isEdited ? undefined : this.#double(HEAD.ingestedMs);
  }

  get form(): WriteForm | undefined {
    return this.#isEdited ? undefined : (this.#added?.form ?? this.#form);
  }

  get record(): AuditRecord {
    this.#record ??= JSON.parse(this.#whole().toString()) as AuditRecord;
    return this.#record;
  }

  json(): Buffer {
    return this.#isEdited ? Buffer.from(documentText(this.record)) : this.#whole();
  }

  /** Does it lie in the chunk as it is? */
  get isAsWritten(): boolean {
    return this.#added === undefined && !this.#isEdited;
  }

  /** Puts something into the text, once. False, and nothing is put, where the form tells another text's places by now. */
  add(addition: Addition): boolean {
    if (!this.isAsWritten || addition.toSize !== this.chunk.words[this.at + HEAD.size]) return false;
    this.#added = addition;
    this.#record = undefined;
    return true;
  }

  edit(): AuditRecord {
    const { record } = this;
    this.#isEdited = true;
    return record;
  }

  #whole(): Buffer {
    const text = this.#text();
    const added = this.#added;
    if (added === undefined) return text;
    return Buffer.concat([text.subarray(0, added.at), added.text, text.subarray(added.at)]);
  }

  #text(): Buffer {
    const start = (this.at + HEAD_WORDS) * WORD;
    return this.chunk.bytes.subarray(start, start + (this.chunk.words[this.at + HEAD.size] as number));
  }

  #hex(at: number): string {
    const start = (this.at + at) * WORD;
    return this.chunk.bytes.toString('hex', start, start + ID_BYTES);
  }

  #double(at: number): number {
    return this.chunk.doubles[(this.at + at) / 2] as number;
  }

  #long(high: number): bigint {
    const { words } = this.chunk;
    const at = this.at + high;
    LONG_WORDS[HIGH] = words[at] as number;
    LONG_WORDS[1 - HIGH] = words[at + 1] as number;
    return LONG[0] as bigint;
  }
}
