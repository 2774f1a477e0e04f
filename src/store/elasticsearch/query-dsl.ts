import { isIP } from 'node:net';
import type { estypes } from '@elastic/elasticsearch';
import { formatTimestamp, TIMESTAMP_NS_MAX } from '../../core/clock.ts';
import { FIELDS, type Field } from '../../core/fields.ts';
import type { CompareOperator, Pattern, Query, QueryValue } from '../../query/ast.ts';
import { namesField } from '../../query/evaluate.ts';
import { ipKey, letterRuns } from '../../query/text.ts';
import type { Selection } from '../port.ts';

type Dsl = estypes.QueryDslQueryContainer;

/** No record is older: the server counts its nanoseconds from here. */
const FIRST_INSTANT = formatTimestamp(0n);

const NOTHING: Dsl = { match_none: {} };

const RANGE: Readonly<Record<CompareOperator, 'gt' | 'gte' | 'lt' | 'lte'>> = {
  '>': 'gt',
  '>=': 'gte',
  '<': 'lt',
  '<=': 'lte',
};

const BARE_KEYWORDS = FIELDS.filter((field) => field.bare && field.type === 'keyword');
const BARE_ADDRESSES = FIELDS.filter((field) => field.bare && field.type === 'ip');

/** The records that a selection asks for, all conditions as filters: nothing is scored. */
export function selectionToDsl(selection: Selection): Dsl {
  const { query, fromNs, toNs, namespace, inner } = selection;
  const filter = [queryToDsl(query)];
  if (fromNs !== undefined) filter.push(range('@timestamp', 'gte', formatTimestamp(fromNs)));
  // An end after the last instant is none: as text it would be that instant.
  if (toNs !== undefined && toNs <= TIMESTAMP_NS_MAX) filter.push(range('@timestamp', 'lt', formatTimestamp(toNs)));
  if (namespace !== undefined) filter.push({ term: { 'data_stream.namespace': namespace } });
  if (!inner) filter.push({ term: { 'audit.entry': true } });
  if (!namesField(query, 'audit.superseded_by')) filter.push(not({ exists: { field: 'audit.superseded_by' } }));
  return { bool: { filter } };
}

export function queryToDsl(query: Query): Dsl {
  switch (query.kind) {
    case 'all':
      return { match_all: {} };
    case 'and':
      return { bool: { filter: query.parts.map(queryToDsl) } };
    case 'or':
      return anyOf(query.parts.map(queryToDsl));
    case 'not':
      return not(queryToDsl(query.part));
    case 'exists':
      return { exists: { field: query.field.name } };
    case 'equals':
      return equals(query.field, query.value);
    case 'matches':
      return pattern(query.field.name, query.pattern);
    case 'compare':
      return range(query.field.name, RANGE[query.operator], plain(query.field, query.value));
    case 'network':
      return { range: { [query.field.name]: { gte: query.first, lte: query.last } } };
    case 'words':
      return words(query.text, query.pattern);
  }
}

/** A condition in the shape of a `must_not`: records without the field fit it too. */
export function not(condition: Dsl): Dsl {
  return { bool: { must_not: [condition] } };
}

function anyOf(conditions: Dsl[]): Dsl {
  return conditions.length === 0 ? NOTHING : { bool: { should: conditions, minimum_should_match: 1 } };
}

/** Times get both ends: Elasticsearch 8 refuses to count by time (400) what a query leaves open towards the past. */
function range(field: string, operator: 'gt' | 'gte' | 'lt' | 'lte', value: string | number): Dsl {
  const start = field === '@timestamp' && operator.startsWith('l') ? { gte: FIRST_INSTANT } : {};
  return { range: { [field]: { ...start, [operator]: value } } };
}

function equals(field: Field, value: QueryValue): Dsl {
  if (field.type === 'text') return phrase(field, String(value));
  if (field.type === 'date') {
    const instant = plain(field, value);
    return { range: { [field.name]: { gte: instant, lte: instant } } };
  }
  return { term: { [field.name]: { value: plain(field, value) } } };
}

/** 64-bit numbers go as text, which the server reads exactly; JSON numbers would be rounded on the way. */
function plain(field: Field, value: QueryValue): string | number {
  if (typeof value === 'bigint') return field.type === 'date' ? formatTimestamp(value) : String(value);
  return typeof value === 'boolean' ? String(value) : value;
}

function phrase(field: Field, text: string): Dsl {
  const runs = letterRuns(text);
  if (runs.length === 0) return NOTHING;
  return { match_phrase: { [`${field.name}.letters`]: runs.join(' ') } };
}

function pattern(field: string, pieces: Pattern): Dsl {
  const value = pieces.map((piece) => piece.replace(/[\\*?]/g, '\\$&')).join('*');
  return { wildcard: { [field]: { value } } };
}

function words(text: string, pieces: Pattern | undefined): Dsl {
  const conditions = FIELDS.filter((field) => field.type === 'text').map((field) => phrase(field, text));
  for (const field of BARE_KEYWORDS) {
    conditions.push(pieces ? pattern(field.name, pieces) : { term: { [field.name]: { value: text } } });
  }
  if (!pieces && isIP(text) !== 0 && ipKey(text) !== undefined) {
    for (const field of BARE_ADDRESSES) conditions.push({ term: { [field.name]: { value: text } } });
  }
  return anyOf(conditions.filter((condition) => condition !== NOTHING));
}
