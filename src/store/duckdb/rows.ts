import { documentText } from '../../core/document.ts';
import type { Field, FieldValue } from '../../core/fields.ts';
import type { AuditRecord } from '../../core/record.ts';
import type { RecordWrite } from '../../core/settlement.ts';
import { ipKey, letterLine } from '../../query/text.ts';
import {
  isLate,
  isSameButDigits,
  LATE_NAMES,
  type LateLayout,
  LateRows,
  type LateValues,
  lateValuesOf,
  layoutOf,
  valueAt,
} from './late-values.ts';
import { BARE_FIELDS, COLUMN_FIELDS, KEYED_FIELD, keyOf, sqlType } from './schema.ts';
import { BIGINT_MAX } from './sql.ts';
import { type KeptTexts, Texts } from './texts.ts';

type Cell = string | bigint | boolean | null | readonly string[];

/** What all records of one form have in their columns, or one record without a form. */
export interface Kind {
  /** By place in `COLUMN_FIELDS`; null where the value is late. */
  readonly columns: readonly Cell[];
  readonly bare: readonly string[];
  readonly userKey: bigint | null;
  readonly isEntry: boolean;
  /** Absent where late values cannot be read out of the bytes. */
  readonly layout: LateLayout | undefined;
  /** Of the first record: the message in JSON, and its letters. */
  readonly message: Buffer;
  readonly letters: string | null;
  /** The letters, what is bare, and the texts of the columns, each behind those before it. Absent where no other record has them. */
  readonly kept: KeptTexts | undefined;
  /** By place in `COLUMN_FIELDS`: where its texts begin there. */
  readonly keptAt: Uint32Array;
}

/** Place in `Kind.kept` of the letters, and where what is bare begins. */
export const KEPT_LETTERS = 0;
export const KEPT_BARE = 1;

/** Rows of `records`, but for what the writes themselves say. */
export interface Rows {
  readonly kinds: readonly Kind[];
  /** By row the place in `kinds`. */
  readonly kindOf: Uint16Array;
  readonly documents: readonly (Buffer | string)[];
  readonly late: LateRows;
  /** Of the rows whose late values are not in their bytes. */
  readonly lateValues: readonly (LateValues | undefined)[];
  readonly letters: readonly (string | null)[];
}

/** Where in `LATE_NAMES` the value of a column is; -1 for one that all records of a form share. */
export const LATE_COLUMNS: readonly number[] = COLUMN_FIELDS.map((field) => LATE_NAMES.indexOf(field.name));

/** Bare texts that are late, by the place in `LATE_NAMES`. */
export const LATE_BARE: readonly number[] = BARE_FIELDS.flatMap(({ name }) =>
  isLate(name) ? [LATE_NAMES.indexOf(name)] : [],
);

const MESSAGE = LATE_NAMES.indexOf('message');
const STATIC_BARE_KEYS = BARE_FIELDS.flatMap(({ name }) => (isLate(name) ? [] : [name.split('.')]));
const COLUMN_KEYS = COLUMN_FIELDS.map(({ name }) => name.split('.'));

const KEYED_COLUMN = COLUMN_FIELDS.findIndex(({ name }) => name === KEYED_FIELD);

const FORMS = new WeakMap<object, Kind>();

/** Sentences differ in numbers more than in words. */
const SENTENCES_KEPT = 10_000;
const LETTERS = new Map<string, string>();

const NO_BYTES = Buffer.alloc(0);

/** At most 65,536 of them. */
export function rowsOf(writes: readonly RecordWrite[]): Rows {
  const kinds: Kind[] = [];
  const kindOf = new Uint16Array(writes.length);
  const documents: (Buffer | string)[] = [];
  const late = new LateRows(writes.length);
  const lateValues: (LateValues | undefined)[] = [];
  const letters: (string | null)[] = [];
  const places = new Map<Kind, number>();
  for (let row = 0; row < writes.length; row++) {
    const write = writes[row] as RecordWrite;
    const bytes = write.form === undefined ? undefined : write.json?.();
    const kind = bytes === undefined ? kindOfRecord(write.record) : kindOfForm(write, bytes);
    let place = places.get(kind);
    if (place === undefined) {
      place = kinds.push(kind) - 1;
      places.set(kind, place);
    }
    kindOf[row] = place;
    documents.push(bytes ?? documentText(write.record));
    if (bytes !== undefined && kind.layout !== undefined && late.read(row, bytes, kind.layout)) {
      lateValues.push(undefined);
      letters.push(lettersAt(late, row, bytes, kind));
    } else {
      const values = lateValuesOf(write.record);
      late.set(row, values);
      lateValues.push(values);
      letters.push(values[MESSAGE] === undefined ? null : lettersOf(String(values[MESSAGE])));
    }
  }
  return { kinds, kindOf, documents, late, lateValues, letters };
}

function kindOfForm(write: RecordWrite, bytes: Buffer): Kind {
  const form = write.form as object;
  let kind = FORMS.get(form);
  if (kind === undefined) {
    kind = kindOfRecord(write.record, bytes);
    FORMS.set(form, kind);
  }
  return kind;
}

function kindOfRecord(record: AuditRecord, bytes?: Buffer): Kind {
  const values = bytes && lateValuesOf(record);
  const columns = COLUMN_FIELDS.map((field, at) =>
    LATE_COLUMNS[at] === -1 ? cellOf(record, field, COLUMN_KEYS[at] ?? []) : null,
  );
  const user = columns[KEYED_COLUMN];
  const message = values?.[MESSAGE];
  const letters = message === undefined ? null : lettersOf(String(message));
  const bare = STATIC_BARE_KEYS.flatMap((keys) => (valueAt(record, keys) as FieldValue | undefined) ?? []).map(textOf);
  return {
    columns,
    isEntry: record.audit.entry,
    userKey: typeof user === 'string' ? keyOf(user) : null,
    bare,
    layout: bytes && values && layoutOf(bytes, values),
    message: message === undefined ? NO_BYTES : Buffer.from(JSON.stringify(message).slice(1, -1)),
    letters,
    ...keptOf([letters ?? '', ...bare], columns, bytes !== undefined),
  };
}

const texts = new Texts();

function keptOf(
  first: readonly string[],
  columns: readonly Cell[],
  isShared: boolean,
): { kept: KeptTexts | undefined; keptAt: Uint32Array } {
  const keptAt = new Uint32Array(columns.length);
  if (!isShared) return { kept: undefined, keptAt };
  const all = [...first];
  for (const [at, cell] of columns.entries()) {
    keptAt[at] = all.length;
    if (typeof cell === 'string') all.push(cell);
    else if (Array.isArray(cell)) all.push(...(cell as string[]));
  }
  texts.begin(all.length);
  for (const [at, text] of all.entries()) texts.set(at, text);
  return { kept: texts.keep(), keptAt };
}

function cellOf(record: AuditRecord, field: Field, keys: readonly string[]): Cell {
  const value = valueAt(record, keys);
  if (value === undefined) return null;
  if (field.type !== 'ip' && !field.many) return columnValue(field, value as FieldValue);
  const values = (Array.isArray(value) ? value : [value]) as FieldValue[];
  if (field.type !== 'ip') return values.map(textOf);
  const keysOf = values.flatMap((address) => ipKey(String(address)) ?? []);
  if (keysOf.length === 0) return null;
  return field.many ? keysOf : keysOf.join(' ');
}

function columnValue(field: Field, value: FieldValue): Cell {
  const type = sqlType(field);
  if (type === 'VARCHAR') return textOf(value);
  if (type === 'BOOLEAN') return typeof value === 'boolean' ? value : null;
  return isWhole(value) ? BigInt(Math.round(value)) : null;
}

/** Of a number that may come near to a 64-bit one. */
export function isWhole(value: FieldValue): value is number {
  return typeof value === 'number' && Math.abs(value) < Number(BIGINT_MAX);
}

/** Half a surrogate pair has no UTF-8 form: U+FFFD as in the document. */
export function textOf(value: FieldValue): string {
  const text = typeof value === 'string' ? value : String(value);
  return text.isWellFormed() ? text : text.toWellFormed();
}

/** Messages of one form differ in how long it took: mostly in digits, which are no letters. */
function lettersAt(late: LateRows, row: number, bytes: Buffer, { message, letters }: Kind): string | null {
  const from = late.from(row, MESSAGE);
  if (from < 0) return null;
  if (isSameButDigits(bytes, from, late.to(row, MESSAGE), message)) return letters;
  return lettersOf(late.text(row, bytes, MESSAGE));
}

function lettersOf(message: string): string {
  const sentence = message.replace(/\d+/g, '0');
  const known = LETTERS.get(sentence);
  if (known !== undefined) return known;
  const line = letterLine(sentence);
  if (LETTERS.size >= SENTENCES_KEPT) LETTERS.clear();
  LETTERS.set(sentence, line);
  return line;
}
