import { documentText } from '../../core/document.ts';
import type { Field, FieldValue } from '../../core/fields.ts';
import type { AuditRecord } from '../../core/record.ts';
import type { RecordWrite } from '../../core/settlement.ts';
import { ipKey, letterLine } from '../../query/text.ts';
import { isLate, LATE_NAMES, type LateValues, lateValuesOf, readLateValues, valueAt } from './late-values.ts';
import { BARE_FIELDS, COLUMN_FIELDS, KEYED_FIELD, keyOf, sqlType } from './schema.ts';
import { BIGINT_MAX } from './sql.ts';

export type Cell = string | bigint | boolean | null | readonly string[];

/** What all records of one form have in their columns. */
interface StaticCells {
  /** By place in `COLUMN_FIELDS`; null where the value is late. */
  readonly columns: readonly Cell[];
  readonly bare: readonly string[];
  readonly userKey: bigint | null;
  readonly isEntry: boolean;
  /** The late values of the first record: which there are. */
  readonly like: LateValues;
  /** Late values can be read out of the bytes. */
  readonly isReadable: boolean;
}

/** One row of `records`, but for what the write itself says. */
export interface Row {
  readonly shared: StaticCells;
  readonly late: LateValues;
  readonly bare: readonly string[];
  readonly letters: string | null;
  readonly document: Buffer | string;
}

/** Where in `LATE_NAMES` the value of a column is; -1 for one that all records of a form share. */
export const LATE_COLUMNS: readonly number[] = COLUMN_FIELDS.map((field) => LATE_NAMES.indexOf(field.name));

const MESSAGE = LATE_NAMES.indexOf('message');
const LATE_BARE = BARE_FIELDS.flatMap(({ name }) => (isLate(name) ? [LATE_NAMES.indexOf(name)] : []));
const STATIC_BARE_KEYS = BARE_FIELDS.flatMap(({ name }) => (isLate(name) ? [] : [name.split('.')]));
const COLUMN_KEYS = COLUMN_FIELDS.map(({ name }) => name.split('.'));

const KEYED_COLUMN = COLUMN_FIELDS.findIndex(({ name }) => name === KEYED_FIELD);

const FORMS = new WeakMap<object, StaticCells>();

/** Sentences differ in numbers more than in words. */
const SENTENCES_KEPT = 10_000;
const LETTERS = new Map<string, string>();

export function rowOf(write: RecordWrite): Row {
  const { form, json } = write;
  if (form === undefined || json === undefined) {
    const { record } = write;
    return asRow(staticCells(record), lateValuesOf(record), documentText(record));
  }
  const bytes = write.json?.() ?? Buffer.alloc(0);
  let cells = FORMS.get(form);
  if (cells === undefined) {
    cells = staticCells(write.record, bytes);
    FORMS.set(form, cells);
  }
  const late = (cells.isReadable ? readLateValues(bytes, cells.like) : undefined) ?? lateValuesOf(write.record);
  return asRow(cells, late, bytes);
}

function asRow(shared: StaticCells, late: LateValues, document: Buffer | string): Row {
  const bare = [...shared.bare];
  for (const index of LATE_BARE) if (late[index] !== undefined) bare.push(textOf(late[index]));
  const message = late[MESSAGE];
  return { shared, late, bare, letters: message === undefined ? null : lettersOf(String(message)), document };
}

function staticCells(record: AuditRecord, bytes?: Buffer): StaticCells {
  const like = lateValuesOf(record);
  const read = bytes && readLateValues(bytes, like);
  const columns = COLUMN_FIELDS.map((field, at) =>
    LATE_COLUMNS[at] === -1 ? cellOf(record, field, COLUMN_KEYS[at] ?? []) : null,
  );
  const user = columns[KEYED_COLUMN];
  return {
    columns,
    isEntry: record.audit.entry,
    userKey: typeof user === 'string' ? keyOf(user) : null,
    bare: STATIC_BARE_KEYS.flatMap((keys) => (valueAt(record, keys) as FieldValue | undefined) ?? []).map(textOf),
    like,
    isReadable: read?.every((value, index) => value === like[index]) ?? false,
  };
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

export function columnValue(field: Field, value: FieldValue): Cell {
  const type = sqlType(field);
  if (type === 'VARCHAR') return textOf(value);
  if (type === 'BOOLEAN') return typeof value === 'boolean' ? value : null;
  return typeof value === 'number' && Math.abs(value) < Number(BIGINT_MAX) ? BigInt(Math.round(value)) : null;
}

/** Half a surrogate pair has no UTF-8 form: U+FFFD as in the document. */
function textOf(value: FieldValue): string {
  const text = typeof value === 'string' ? value : String(value);
  return text.isWellFormed() ? text : text.toWellFormed();
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
