import { documentText } from '../../core/document.ts';
import type { Field, FieldValue } from '../../core/fields.ts';
import type { AuditRecord } from '../../core/record.ts';
import type { RecordWrite } from '../../core/settlement.ts';
import { ipKey, letterLine } from '../../query/text.ts';
import { isLate, LATE_NAMES, type LateValues, lateValuesOf, readLateValues, valueAt } from './late-values.ts';
import { BARE_FIELDS, COLUMN_FIELDS, KEYED_FIELD, keyOf, sqlType } from './schema.ts';
import { BIGINT_MAX } from './sql.ts';
import { NO_TEXT, TextEntries } from './vectors.ts';

export type Cell = string | bigint | boolean | null | readonly string[];

/** What all records of one form have in their columns. */
export interface StaticCells {
  /** By place in `COLUMN_FIELDS`; null where the value is late. */
  readonly columns: readonly Cell[];
  readonly bare: readonly string[];
  readonly userKey: bigint | null;
  readonly isEntry: boolean;
  /** The late values of the first record: which there are. */
  readonly like: LateValues;
  /** Late values can be read out of the bytes. */
  readonly isReadable: boolean;
  /** Columns of texts as entries, by their place in `COLUMN_FIELDS`; long ones begin where they say in `texts`. */
  readonly entries: Uint32Array;
  /** Of columns of lists, by the same place, and of `bare` behind them: the first of `items`, and how many or NO_TEXT. */
  readonly lists: Uint32Array;
  readonly items: Uint32Array;
  readonly texts: Buffer;
}

/** One row of `records`, but for what the write itself says. */
export interface Row {
  readonly shared: StaticCells;
  readonly late: LateValues;
  readonly document: Buffer | string;
}

/** Where in `LATE_NAMES` the value of a column is; -1 for one that all records of a form share. */
export const LATE_COLUMNS: readonly number[] = COLUMN_FIELDS.map((field) => LATE_NAMES.indexOf(field.name));

/** Places in `LATE_NAMES` of the sentence, and of values that `bare` ends with. */
export const MESSAGE = LATE_NAMES.indexOf('message');
export const LATE_BARE: readonly number[] = BARE_FIELDS.flatMap(({ name }) =>
  isLate(name) ? [LATE_NAMES.indexOf(name)] : [],
);

const STATIC_BARE_KEYS = BARE_FIELDS.flatMap(({ name }) => (isLate(name) ? [] : [name.split('.')]));
const COLUMN_KEYS = COLUMN_FIELDS.map(({ name }) => name.split('.'));

const KEYED_COLUMN = COLUMN_FIELDS.findIndex(({ name }) => name === KEYED_FIELD);

const FORMS = new WeakMap<object, StaticCells>();

/** Sentences differ in numbers more than in words. */
const SENTENCES_KEPT = 10_000;
const LETTERS = new Map<string, string>();

export function rowOf(write: RecordWrite): Row {
  const shared = sharedOf(write);
  if (shared === undefined) {
    const { record } = write;
    return { shared: staticCells(record), late: lateValuesOf(record), document: documentText(record) };
  }
  const bytes = write.json?.() ?? Buffer.alloc(0);
  const read = shared.isReadable ? readLateValues(bytes, shared.like) : undefined;
  return { shared, late: read?.values ?? lateValuesOf(write.record), document: bytes };
}

/** What the write has in common with those of its form; undefined where it has none. */
export function sharedOf(write: RecordWrite): StaticCells | undefined {
  const { form } = write;
  if (form === undefined) return undefined;
  let cells = FORMS.get(form);
  if (cells === undefined && write.json !== undefined) {
    cells = staticCells(write.record, write.json());
    FORMS.set(form, cells);
  }
  return cells;
}

function staticCells(record: AuditRecord, bytes?: Buffer): StaticCells {
  const like = lateValuesOf(record);
  const read = bytes && readLateValues(bytes, like);
  const columns = COLUMN_FIELDS.map((field, at) =>
    LATE_COLUMNS[at] === -1 ? cellOf(record, field, COLUMN_KEYS[at] ?? []) : null,
  );
  const bare = STATIC_BARE_KEYS.flatMap((keys) => (valueAt(record, keys) as FieldValue | undefined) ?? []).map(textOf);
  const user = columns[KEYED_COLUMN];
  return {
    columns,
    bare,
    isEntry: record.audit.entry,
    userKey: typeof user === 'string' ? keyOf(user) : null,
    like,
    isReadable: read?.values.every((value, index) => value === like[index]) ?? false,
    ...entriesOf(columns, bare),
  };
}

function entriesOf(
  columns: readonly Cell[],
  bare: readonly string[],
): Pick<StaticCells, 'entries' | 'lists' | 'items' | 'texts'> {
  const all = [...columns, bare];
  const texts = Buffer.from(all.flatMap((cell) => (isList(cell) || typeof cell === 'string' ? cell : [])).join(''));
  const entries = new TextEntries(all.length);
  const items = new TextEntries(all.length);
  const lists = new Uint32Array(2 * all.length);
  let [at, count] = [0, 0];
  const put = (to: TextEntries, entry: number, text: string): void => {
    const start = at;
    at += Buffer.byteLength(text);
    to.put(entry, texts, start, at);
  };
  for (const [place, cell] of all.entries()) {
    entries.putNone(place);
    lists[2 * place] = count;
    lists[2 * place + 1] = isList(cell) ? cell.length : NO_TEXT;
    if (typeof cell === 'string') put(entries, place, cell);
    if (!isList(cell)) continue;
    items.reserve(count + cell.length);
    for (const text of cell) put(items, count++, text);
  }
  return { entries: entries.words, lists, items: items.first(count), texts };
}

function isList(cell: Cell): cell is readonly string[] {
  return Array.isArray(cell);
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
export function textOf(value: FieldValue): string {
  const text = typeof value === 'string' ? value : String(value);
  return text.isWellFormed() ? text : text.toWellFormed();
}

/** The letter runs of a sentence: those of many are alike but for numbers, which have none. */
export function lettersOf(message: string): string {
  const sentence = message.replace(/\d+/g, '0');
  const known = LETTERS.get(sentence);
  if (known !== undefined) return known;
  const line = letterLine(sentence);
  if (LETTERS.size >= SENTENCES_KEPT) LETTERS.clear();
  LETTERS.set(sentence, line);
  return line;
}
