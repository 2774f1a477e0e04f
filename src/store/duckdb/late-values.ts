import type { FieldValue } from '../../core/fields.ts';
import type { AuditRecord } from '../../core/record.ts';
import { LATE_FIELDS } from '../../core/settlement.ts';

/**
 * The late fields that columns are made of, in the order in which they stand in a record's text, each with the texts to look for
 * one behind the other: the value follows the last one. A text never holds them by chance: its own quotes are escaped. Spaces may stand before a value.
 */
const FIELDS: readonly { readonly name: string; readonly marks: readonly string[] }[] = [
  { name: 'message', marks: ['"message":', '"'] },
  { name: 'event.duration', marks: ['"event":{', ',"duration":'] },
  { name: 'trace.id', marks: ['"trace":{"id":', '"'] },
  { name: 'span.id', marks: ['"span":{"id":', '"'] },
  { name: 'audit.entry_id', marks: ['"entry_id":', '"'] },
  { name: 'audit.trace.duration', marks: ['"trace":{"root":{', ',"duration":'] },
];

/** Names of late fields that are read out of a text; no column may rest on another one. */
export const LATE_NAMES: readonly string[] = FIELDS.map(({ name }) => name);

const LATE_KEYS = LATE_NAMES.map((name) => name.split('.'));
const LATE_COUNT = LATE_NAMES.length;
const MARKS: readonly (readonly Mark[])[] = FIELDS.map(({ marks }) =>
  marks.map((text) => ({ text, bytes: Buffer.from(text) })),
);

interface Mark {
  readonly text: string;
  readonly bytes: Buffer;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SPACE = 0x20;
const COMMA = 0x2c;
const BRACE = 0x7d;
const [ZERO, NINE] = [0x30, 0x39];

export function isLate(name: string): boolean {
  return LATE_FIELDS.some((late) => name === late || name.startsWith(`${late}.`));
}

/** By the place in `LATE_NAMES`; undefined where the record has no such value. */
export type LateValues = readonly (FieldValue | undefined)[];

export function lateValuesOf(record: AuditRecord): LateValues {
  return LATE_KEYS.map((keys) => valueAt(record, keys) as FieldValue | undefined);
}

/** What the first record of a form says of where late values stand in the bytes of the others. */
export interface LateLayout {
  readonly bytesLength: number;
  readonly marks: readonly { readonly at: number; readonly bytes: Buffer }[];
  /** By the place in `LATE_NAMES`: where the value begins; -1 where there is none. */
  readonly starts: Int32Array;
  readonly isNumber: readonly boolean[];
}

/** Undefined when the values do not stand where they should. */
export function layoutOf(bytes: Buffer, values: LateValues): LateLayout | undefined {
  const marks: { readonly at: number; readonly bytes: Buffer }[] = [];
  const isNumber = values.map((value) => typeof value === 'number');
  const starts = findStarts(bytes, (index) => values[index] !== undefined, marks);
  if (starts === undefined) return undefined;
  const layout = { bytesLength: bytes.length, marks, starts, isNumber };
  const found = new LateRows(1);
  const isRead = found.read(0, bytes, layout);
  const isSame = (value: FieldValue | undefined, index: number) =>
    typeof value === 'number'
      ? found.numbers[index] === value
      : value === undefined || value === found.text(0, bytes, index);
  return isRead && values.every(isSame) ? layout : undefined;
}

/** Late values of rows: numbers, and where texts stand in the bytes of each. By row, then by the place in `LATE_NAMES`. */
export class LateRows {
  /** NaN where there is none. */
  readonly numbers: Float64Array;
  /** -1 where there is none, or where it is not in the bytes. */
  readonly #from: Int32Array;
  readonly #to: Int32Array;

  constructor(rows: number) {
    this.numbers = new Float64Array(rows * LATE_COUNT).fill(Number.NaN);
    this.#from = new Int32Array(rows * LATE_COUNT).fill(-1);
    this.#to = new Int32Array(rows * LATE_COUNT);
  }

  from(row: number, index: number): number {
    return this.#from[row * LATE_COUNT + index] as number;
  }

  to(row: number, index: number): number {
    return this.#to[row * LATE_COUNT + index] as number;
  }

  number(row: number, index: number): number {
    return this.numbers[row * LATE_COUNT + index] as number;
  }

  /** The bytes that `from` and `to` bound are JSON. */
  text(row: number, bytes: Buffer, index: number): string {
    return decoded(bytes.toString('latin1', this.from(row, index), this.to(row, index)));
  }

  /** From what the record says. */
  set(row: number, values: LateValues): void {
    for (let index = 0; index < LATE_COUNT; index++) {
      const value = values[index];
      this.numbers[row * LATE_COUNT + index] = typeof value === 'number' ? value : Number.NaN;
      this.#from[row * LATE_COUNT + index] = -1;
    }
  }

  /**
   * Out of the bytes of a record. False when they are not where they should be. Records of one form are filled up to one
   * length, so values begin where those of the first one did; what stands before them is looked at all the same.
   */
  read(row: number, bytes: Buffer, layout: LateLayout): boolean {
    const starts = isLaidOutAs(bytes, layout)
      ? layout.starts
      : findStarts(bytes, (index) => (layout.starts[index] as number) >= 0);
    if (starts === undefined) return false;
    for (let index = 0; index < LATE_COUNT; index++) {
      const start = starts[index] as number;
      if (start < 0) continue;
      const place = row * LATE_COUNT + index;
      if (layout.isNumber[index]) {
        const value = numberAt(bytes, start);
        if (Number.isNaN(value)) return false;
        this.numbers[place] = value;
      } else {
        const end = textEnd(bytes, start);
        if (end < 0) return false;
        this.#from[place] = start;
        this.#to[place] = end;
      }
    }
    return true;
  }
}

function isLaidOutAs(bytes: Buffer, { bytesLength, marks }: LateLayout): boolean {
  if (bytes.length !== bytesLength) return false;
  for (let index = 0; index < marks.length; index++) {
    const { at, bytes: mark } = marks[index] as { at: number; bytes: Buffer };
    for (let offset = 0; offset < mark.length; offset++) if (bytes[at + offset] !== mark[offset]) return false;
  }
  return true;
}

/** Where the values begin that there are; adds where their marks stand. */
function findStarts(
  bytes: Buffer,
  isThere: (index: number) => boolean,
  found: { readonly at: number; readonly bytes: Buffer }[] = [],
): Int32Array | undefined {
  // Marks are ASCII: where a byte is one character they are found as fast as memory can be read.
  const text = bytes.toString('latin1', 0, bytes.length);
  const starts = new Int32Array(LATE_COUNT).fill(-1);
  let at = 0;
  for (let index = 0; index < LATE_COUNT; index++) {
    if (!isThere(index)) continue;
    for (const { text: mark, bytes: own } of MARKS[index] ?? []) {
      const place = text.indexOf(mark, at);
      if (place < 0) return undefined;
      found.push({ at: place, bytes: own });
      at = place + mark.length;
    }
    starts[index] = at;
  }
  return starts;
}

/** NaN where none stands. */
function numberAt(bytes: Buffer, start: number): number {
  let from = start;
  while (bytes[from] === SPACE) from++;
  let [value, at] = [0, from];
  for (; isDigit(bytes[at]); at++) value = value * 10 + ((bytes[at] as number) - ZERO);
  const end = bytes[at];
  const isWhole = at > from && value <= Number.MAX_SAFE_INTEGER && (end === COMMA || end === BRACE || end === SPACE);
  if (isWhole) return value;
  while (at < bytes.length && bytes[at] !== COMMA && bytes[at] !== BRACE) at++;
  return at === from ? Number.NaN : Number(bytes.toString('latin1', from, at));
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= NINE;
}

/** Where the closing quote is; -1 where none is. */
function textEnd(bytes: Buffer, from: number): number {
  for (let at = from; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) return at;
    // What it stands before is no end, whatever it is.
    if (byte === BACKSLASH) at++;
  }
  return -1;
}

/** Is this part of JSON, a text, the text itself? */
export function isPlain(bytes: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (bytes[at] === BACKSLASH) return false;
  return true;
}

/** Do these texts in JSON differ in nothing but digits where both have some? Not told of those with escapes, which may hold digits. */
export function isSameButDigits(bytes: Buffer, from: number, to: number, other: Buffer): boolean {
  let [at, place] = [from, 0];
  while (at < to && place < other.length) {
    const [byte, like] = [bytes[at], other[place]];
    if (byte === BACKSLASH) return false;
    if (isDigit(byte) && isDigit(like)) {
      while (at < to && isDigit(bytes[at])) at++;
      while (place < other.length && isDigit(other[place])) place++;
    } else if (byte === like) {
      at++;
      place++;
    } else return false;
  }
  return at === to && place === other.length;
}

/** The text that stands in JSON in these bytes, given as one character each. */
function decoded(value: string): string {
  return /^[ !#-[\]-~]*$/.test(value) ? value : (JSON.parse(`"${Buffer.from(value, 'latin1')}"`) as string);
}

/** What a record has at this path, which leads through no list. */
export function valueAt(record: object, keys: readonly string[]): unknown {
  let node: unknown = record;
  for (let at = 0; at < keys.length && node !== undefined && node !== null; at++) {
    node = (node as Record<string, unknown>)[keys[at] as string];
  }
  return node ?? undefined;
}
