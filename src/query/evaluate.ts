import { parseTimestamp } from '../core/clock.ts';
import { FIELDS, type Field, type FieldValue, fieldValues } from '../core/fields.ts';
import type { CompareOperator, Query, QueryValue } from './ast.ts';
import { fitsPattern, ipKey, letterLine } from './text.ts';

/** The fields that a bare word is looked for in, apart from the sentence. */
const BARE_FIELDS: readonly Field[] = FIELDS.filter((field) => field.bare && field.type !== 'text');

/**
 * Does the record fit the query? This is the meaning of the query language: the stores' native queries are tested against
 * it. `record` is a JSON document in the shape of AuditRecord.
 */
export function evaluate(query: Query, record: object): boolean {
  switch (query.kind) {
    case 'all':
      return true;
    case 'and':
      return query.parts.every((part) => evaluate(part, record));
    case 'or':
      return query.parts.some((part) => evaluate(part, record));
    case 'not':
      return !evaluate(query.part, record);
    case 'exists':
      return fieldValues(record, query.field.name).length > 0;
    case 'equals':
      return fieldValues(record, query.field.name).some((value) => equals(query.field, value, query.value));
    case 'matches':
      return fieldValues(record, query.field.name).some((value) => fitsPattern(String(value), query.pattern));
    case 'compare':
      return fieldValues(record, query.field.name).some((value) =>
        compares(comparable(query.field, value), query.operator, query.value),
      );
    case 'network':
      return fieldValues(record, query.field.name).some((value) => inNetwork(String(value), query));
    case 'words':
      return hasWords(query, record);
  }
}

/** Does the query name this field? Records that were superseded are hidden from queries that do not ask for them. */
export function namesField(query: Query, name: string): boolean {
  switch (query.kind) {
    case 'and':
    case 'or':
      return query.parts.some((part) => namesField(part, name));
    case 'not':
      return namesField(query.part, name);
    case 'all':
    case 'words':
      return false;
    default:
      return query.field.name === name;
  }
}

/**
 * A stored value in the form that comparisons and sorting use: nanoseconds as bigint for dates, a 128-bit key for
 * addresses; undefined for a text that is no date or address.
 */
export function comparable(field: Field, value: FieldValue): QueryValue | undefined {
  if (field.type === 'date') return parseTimestamp(String(value));
  if (field.type === 'ip') return ipKey(String(value));
  return value;
}

function equals(field: Field, stored: FieldValue, wanted: QueryValue): boolean {
  if (field.type === 'text') {
    const line = letterLine(String(wanted));
    return line !== '' && letterLine(String(stored)).includes(line);
  }
  if (field.type === 'ip') {
    const key = ipKey(String(stored));
    return key !== undefined && key === ipKey(String(wanted));
  }
  if (field.type === 'keyword' || field.type === 'boolean') return stored === wanted;
  const value = comparable(field, stored);
  return compares(value, '>=', wanted) && compares(value, '<=', wanted);
}

function compares(stored: QueryValue | undefined, operator: CompareOperator, wanted: QueryValue): boolean {
  if (stored === undefined) return false;
  if (operator === '>') return stored > wanted;
  if (operator === '>=') return stored >= wanted;
  if (operator === '<') return stored < wanted;
  return stored <= wanted;
}

function inNetwork(stored: string, network: { readonly first: string; readonly last: string }): boolean {
  const key = ipKey(stored);
  const first = ipKey(network.first);
  const last = ipKey(network.last);
  return key !== undefined && first !== undefined && last !== undefined && key >= first && key <= last;
}

function hasWords(query: Query & { kind: 'words' }, record: object): boolean {
  const { text, pattern } = query;
  const line = letterLine(text);
  if (line !== '' && fieldValues(record, 'message').some((value) => letterLine(String(value)).includes(line)))
    return true;
  return BARE_FIELDS.some((field) =>
    fieldValues(record, field.name).some((value) => {
      if (!pattern) return equals(field, value, text);
      return field.type === 'keyword' && fitsPattern(String(value), pattern);
    }),
  );
}
