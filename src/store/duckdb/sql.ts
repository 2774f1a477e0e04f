import { BIGINT, BOOLEAN, DOUBLE, type DuckDBType, type DuckDBValue, VARCHAR } from '@duckdb/node-api';
import { formatTimestamp } from '../../core/clock.ts';
import { FIELDS, type Field } from '../../core/fields.ts';
import { EVERYTHING, type Pattern, type Query, type QueryValue } from '../../query/ast.ts';
import { ipKey, letterLine } from '../../query/text.ts';
import { hidesSuperseded } from '../paging.ts';
import type { Selection } from '../port.ts';
import { columnOf, DOCUMENT, extractSql, KEYED_FIELD, keyOf, sqlType } from './schema.ts';

export const BIGINT_MAX = 2n ** 63n - 1n;

/** The values of one statement. Values from outside reach SQL through here and nowhere else. */
export class Bindings {
  readonly values: DuckDBValue[] = [];
  readonly types: DuckDBType[] = [];

  /** The placeholder that stands for the value. Whole numbers beyond BIGINT, which no row has, become its ends. */
  add(value: QueryValue): string {
    const whole = typeof value === 'number' && Number.isSafeInteger(value);
    this.values.push(typeof value === 'bigint' ? clampToBigint(value) : whole ? BigInt(value) : value);
    this.types.push(typeOf(whole ? 0n : value));
    return `$${this.values.length}`;
  }
}

function clampToBigint(value: bigint): bigint {
  return value > BIGINT_MAX ? BIGINT_MAX : value < -BIGINT_MAX ? -BIGINT_MAX : value;
}

function typeOf(value: QueryValue): DuckDBType {
  if (typeof value === 'bigint') return BIGINT;
  if (typeof value === 'number') return DOUBLE;
  return typeof value === 'boolean' ? BOOLEAN : VARCHAR;
}

/**
 * A condition for these rows (one or more) of a table, by DuckDB's own row numbers, which hold within one transaction. They
 * are no values from outside: as literals, and between their lowest and highest, other rows are not even unpacked.
 */
export function rowsSql(rows: readonly bigint[]): string {
  const ordered = rows.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  return `rowid BETWEEN ${ordered[0]} AND ${ordered.at(-1)} AND rowid IN (${ordered.join(', ')})`;
}

/**
 * The condition of a selection over the table `records`. Where `isNearly`, of a query with a `keyedPart` by that part's key alone: some
 * records may have another value with the same key.
 */
export function selectionSql(selection: Selection, bindings: Bindings, isNearly = false): string {
  const { query, fromNs, toNs, namespace, inner } = selection;
  const keyed = isNearly ? keyedPart(query) : undefined;
  const conditions = keyed
    ? [keySql(keyed.value, bindings), querySql(without(query, keyed), bindings)]
    : [querySql(query, bindings)];
  if (fromNs !== undefined) conditions.push(`"@timestamp" >= ${bindings.add(fromNs)}`);
  if (toNs !== undefined) conditions.push(`"@timestamp" < ${bindings.add(toNs)}`);
  if (namespace !== undefined) conditions.push(`"data_stream.namespace" = ${bindings.add(namespace)}`);
  if (!inner) conditions.push('"audit.entry"');
  if (hidesSuperseded(selection)) conditions.push('"audit.superseded_by" IS NULL');
  return conditions.join(' AND ');
}

/** That part of a query, or of its parts of which all must hold, which asks for a value of `KEYED_FIELD`. */
export function keyedPart(query: Query): KeyedPart | undefined {
  return (query.kind === 'and' ? query.parts : [query]).find(isKeyed);
}

type KeyedPart = Extract<Query, { kind: 'equals' }>;

function isKeyed(query: Query): query is KeyedPart {
  return query.kind === 'equals' && query.field.name === KEYED_FIELD;
}

function without(query: Query, part: Query): Query {
  const parts = query.kind === 'and' ? query.parts.filter((other) => other !== part) : [];
  return parts.length === 0 ? EVERYTHING : { kind: 'and', parts };
}

function keySql(value: QueryValue, bindings: Bindings): string {
  return `user_key = ${bindings.add(keyOf(String(value)))}`;
}

/** A query as SQL that is true or false and never NULL, so that NOT means what it says. */
export function querySql(query: Query, bindings: Bindings): string {
  switch (query.kind) {
    case 'all':
      return 'true';
    case 'and':
    case 'or':
      return `(${query.parts.map((part) => querySql(part, bindings)).join(query.kind === 'and' ? ' AND ' : ' OR ')})`;
    case 'not':
      return `(NOT ${querySql(query.part, bindings)})`;
    case 'exists':
      return existsSql(query.field);
    case 'equals':
      return equalsSql(query.field, query.value, bindings);
    case 'matches': {
      const like = bindings.add(likePattern(query.pattern));
      return anySql(
        query.field,
        (value) => `${value} LIKE ${like} ESCAPE '\\'`,
        documentHolds(query.field, query.pattern, bindings),
      );
    }
    case 'compare': {
      const bound = bindings.add(storedValue(query.field, query.value));
      return anySql(query.field, (value) => `${value} ${query.operator} ${bound}`);
    }
    case 'network': {
      const first = bindings.add(ipKey(query.first) ?? '');
      const last = bindings.add(ipKey(query.last) ?? '');
      return anySql(query.field, (value) => `${value} BETWEEN ${first} AND ${last}`);
    }
    case 'words':
      return wordsSql(query.text, query.pattern, bindings);
  }
}

/** SQL for the values of a field in the form that they are compared, sorted and counted in. */
export function valueSql(field: Field): string {
  const column = columnOf(field);
  if (column !== undefined) return column;
  const type = sqlType(field);
  if (type === 'VARCHAR') return extractSql(field);
  return field.many
    ? `list_transform(${extractSql(field)}, lambda x: TRY_CAST(x AS ${type}))`
    : `TRY_CAST(${extractSql(field)} AS ${type})`;
}

function existsSql(field: Field): string {
  const value = valueSql(field);
  const exists = field.many ? `coalesce(len(${value}) > 0, false)` : `(${value} IS NOT NULL)`;
  // A document without the field's last name needs no parsing.
  return columnOf(field) === undefined
    ? `(contains(${DOCUMENT}, '"${field.name.split('.').at(-1)}":') AND ${exists})`
    : exists;
}

/** Does any value of the field fit? `guard` is a cheaper condition that holds whenever one does. */
function anySql(field: Field, fits: (value: string) => string, guard = ''): string {
  const values = valueSql(field);
  if (field.many) return `(${guard}coalesce(len(list_filter(${values}, lambda x: ${fits('x')})) > 0, false))`;
  if (guard) return `(${guard}coalesce(${fits(values)}, false))`;
  // In this form DuckDB can skip row groups by their smallest and largest value.
  return `(${values} IS NOT NULL AND ${fits(values)})`;
}

function equalsSql(field: Field, value: QueryValue, bindings: Bindings): string {
  if (field.type === 'text') {
    const line = letterLine(String(value));
    return line === '' ? 'false' : `coalesce(contains(letters, ${bindings.add(line)}), false)`;
  }
  const bound = bindings.add(storedValue(field, value));
  const guard = field.type === 'keyword' ? documentHolds(field, String(value), bindings) : '';
  if (field.many) return `(${guard}coalesce(list_contains(${valueSql(field)}, ${bound}), false))`;
  if (field.name === KEYED_FIELD) {
    // Of conditions of one column each DuckDB tries now and then which is best to come first, and unpacks all of its column for that. One
    // of two columns comes behind them, so that texts are unpacked only where keys are equal.
    const isSame = `CASE WHEN user_key IS NULL THEN false ELSE ${valueSql(field)} = ${bound} END`;
    return `(user_key IS NOT NULL AND ${keySql(value, bindings)} AND ${isSame})`;
  }
  return anySql(field, (stored) => `${stored} = ${bound}`, guard);
}

/** A value in the form that the field is stored in. */
export function storedValue(field: Field, value: QueryValue): QueryValue {
  if (field.type === 'ip') return ipKey(String(value)) ?? '';
  if (field.type === 'date' && columnOf(field) === undefined) return formatTimestamp(BigInt(value));
  return value;
}

/**
 * For fields without a column: the document must hold the text at all. A search for bytes costs a small part of what
 * parsing every document does.
 */
function documentHolds(field: Field, wanted: string | Pattern, bindings: Bindings): string {
  if (columnOf(field) !== undefined) return '';
  const literal = typeof wanted === 'string' ? wanted : wanted.reduce((a, b) => (b.length > a.length ? b : a), '');
  const json = JSON.stringify(literal);
  return `contains(${DOCUMENT}, ${bindings.add(typeof wanted === 'string' ? json : json.slice(1, -1))}) AND `;
}

const BARE_COLUMNS = FIELDS.filter((field) => field.bare && field.type === 'keyword').flatMap(
  (field) => columnOf(field) ?? [],
);
const BARE_ADDRESSES = FIELDS.filter((field) => field.bare && field.type === 'ip').flatMap(
  (field) => columnOf(field) ?? [],
);

function wordsSql(text: string, pattern: Pattern | undefined, bindings: Bindings): string {
  const any: string[] = [];
  const line = letterLine(text);
  if (line !== '') any.push(`contains(letters, ${bindings.add(line)})`);
  if (pattern) {
    const like = bindings.add(likePattern(pattern));
    any.push(...BARE_COLUMNS.map((column) => `${column} LIKE ${like} ESCAPE '\\'`));
    any.push(`len(list_filter(bare, lambda x: x LIKE ${like} ESCAPE '\\')) > 0`);
  } else {
    const bound = bindings.add(text);
    any.push(...BARE_COLUMNS.map((column) => `${column} = ${bound}`), `list_contains(bare, ${bound})`);
    const key = ipKey(text);
    if (key !== undefined) any.push(...BARE_ADDRESSES.map((column) => `${column} = ${bindings.add(key)}`));
  }
  return `coalesce(${any.join(' OR ')}, false)`;
}

function likePattern(pattern: Pattern): string {
  return pattern.map((piece) => piece.replace(/[\\%_]/g, '\\$&')).join('%');
}
