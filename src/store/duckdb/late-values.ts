import type { FieldValue } from '../../core/fields.ts';
import type { AuditRecord } from '../../core/record.ts';
import { LATE_FIELDS } from '../../core/settlement.ts';

/**
 * The late fields that columns are made of, in the order in which they stand in a record's text, each with the texts to look for
 * one behind the other: the value follows the last one. A text never holds them by chance: its own quotes are escaped. Spaces may stand before a value.
 */
const MARKS: readonly { readonly name: string; readonly marks: readonly string[] }[] = [
  { name: 'message', marks: ['"message":', '"'] },
  { name: 'event.duration', marks: ['"event":{', ',"duration":'] },
  { name: 'trace.id', marks: ['"trace":{"id":', '"'] },
  { name: 'span.id', marks: ['"span":{"id":', '"'] },
  { name: 'audit.entry_id', marks: ['"entry_id":', '"'] },
  { name: 'audit.trace.duration', marks: ['"trace":{"root":{', ',"duration":'] },
];

/** Names of late fields that are read out of a text; no column may rest on another one. */
export const LATE_NAMES: readonly string[] = MARKS.map(({ name }) => name);

const LATE_KEYS = LATE_NAMES.map((name) => name.split('.'));

export function isLate(name: string): boolean {
  return LATE_FIELDS.some((late) => name === late || name.startsWith(`${late}.`));
}

/** By the place in `LATE_NAMES`; undefined where the record has no such value. */
export type LateValues = readonly (FieldValue | undefined)[];

export function lateValuesOf(record: AuditRecord): LateValues {
  return LATE_KEYS.map((keys) => valueAt(record, keys) as FieldValue | undefined);
}

/** Late values out of a text, and the byte at which each begins; -1 where there is none. */
export interface ReadLate {
  readonly values: LateValues;
  readonly starts: Int32Array;
}

/**
 * The same out of the bytes of a record, given those that another record of its form has, so that it is known which there are.
 * Undefined when they are not where they should be.
 */
export function readLateValues(json: Buffer, like: LateValues): ReadLate | undefined {
  // Marks are ASCII: where a byte is one character they are found as fast as memory can be read.
  const text = json.toString('latin1');
  const values: (FieldValue | undefined)[] = [];
  const starts = new Int32Array(MARKS.length).fill(-1);
  let at = 0;
  for (let index = 0; index < MARKS.length; index++) {
    const known = like[index];
    if (known === undefined) {
      values.push(undefined);
      continue;
    }
    for (const mark of MARKS[index]?.marks ?? []) {
      const found = text.indexOf(mark, at);
      if (found < 0) return undefined;
      at = found + mark.length;
    }
    const end = typeof known === 'number' ? numberEnd(text, at) : textEnd(text, at);
    if (end < 0) return undefined;
    const value = text.slice(at, end);
    values.push(typeof known === 'number' ? Number(value) : decoded(value));
    starts[index] = at;
    at = end;
  }
  return { values, starts };
}

function numberEnd(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at);
    // A comma or a closing brace.
    if (code === 0x2c || code === 0x7d) return at;
  }
  return -1;
}

/** Where the closing quote is: the next one with an even number of backslashes before it. */
function textEnd(text: string, from: number): number {
  for (let at = text.indexOf('"', from); at >= 0; at = text.indexOf('"', at + 1)) {
    let before = at;
    while (text.charCodeAt(before - 1) === 0x5c) before--;
    if ((at - before) % 2 === 0) return at;
  }
  return -1;
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
