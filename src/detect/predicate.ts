import type { Field, FieldValue } from '../core/fields.ts';
import type { Pattern, Query } from '../query/ast.ts';
import { comparable, evaluate, namesField } from '../query/evaluate.ts';
import { printQuery } from '../query/print.ts';
import { fitsPattern, ipKey } from '../query/text.ts';
import { numberOf, placeNamed, placeOf, type Reading } from './reading.ts';

export type Predicate = (reading: Reading) => boolean;

/** Alternatives of at least so many parts are worth remembering: definitions, which several rules use. */
const REMEMBERED_PARTS_MIN = 4;

function remembered(query: Query, predicate: Predicate): Predicate {
  if (query.kind !== 'or' || query.parts.length < REMEMBERED_PARTS_MIN) return predicate;
  const number = numberOf(`query ${printQuery(query)}`);
  const isLate = asksLate(query);
  return (reading) => reading.answer(number, isLate, predicate);
}

function asksLate(query: Query): boolean {
  switch (query.kind) {
    case 'and':
    case 'or':
      return query.parts.some(asksLate);
    case 'not':
      return asksLate(query.part);
    case 'all':
      return false;
    case 'words':
      return true;
    default:
      return placeOf(query.field).isLate;
  }
}

/** What one condition costs, about: cheap ones are asked first, and of those the ones that many records fail. */
const COST: Readonly<Record<Query['kind'], number>> = {
  all: 0,
  ...{ exists: 2, equals: 1, matches: 4, compare: 3, network: 10, words: 100 },
  ...{ and: 0, or: 0, not: 0 },
};

/** What depends on a late field is asked last: so that most of it need not be, and less depends on it. */
const LATE_COST = 1_000;

function costOf(query: Query): number {
  switch (query.kind) {
    case 'and':
    case 'or':
      return query.parts.reduce((sum, part) => sum + costOf(part), 0);
    case 'not':
      return costOf(query.part);
    case 'all':
      return COST.all;
    case 'words':
      return LATE_COST + COST.words;
    case 'equals':
      return (placeOf(query.field).isLate ? LATE_COST : 0) + costOfEquals(query.field);
    default:
      return (placeOf(query.field).isLate ? LATE_COST : 0) + COST[query.kind];
  }
}

function costOfEquals({ type }: Field): number {
  return type === 'text' ? 50 : type === 'ip' || type === 'date' ? 5 : COST.equals;
}

/** The query as a function that answers as `evaluate` does, without walking its tree and the field names each time. */
export function compileQuery(query: Query): Predicate {
  switch (query.kind) {
    case 'all':
      return () => true;
    case 'and':
    case 'or': {
      const isAnd = query.kind === 'and';
      const parts = isAnd ? byCost(query.parts).map(compileQuery) : compileAlternatives(query.parts);
      return remembered(query, (reading) => {
        for (const part of parts) if (part(reading) !== isAnd) return !isAnd;
        return isAnd;
      });
    }
    case 'not': {
      const part = compileQuery(query.part);
      return (reading) => !part(reading);
    }
    case 'words':
      return (reading) => evaluate(query, reading.document);
    default:
      return compileCondition(query);
  }
}

function byCost(parts: readonly Query[]): Query[] {
  return [...parts].sort((a, b) => costOf(a) - costOf(b));
}

/** Alternatives with what asks for values of one field put together: the field is read once, and one set has all exact ones. */
function compileAlternatives(parts: readonly Query[]): Predicate[] {
  const exact = new Map<Field, Set<FieldValue>>();
  const patterns = new Map<Field, Pattern[]>();
  const others: Query[] = [];
  for (const part of parts.flatMap(alternativesOf)) {
    if (part.kind === 'equals' && part.field.type === 'keyword' && typeof part.value === 'string') {
      exact.set(part.field, (exact.get(part.field) ?? new Set()).add(part.value));
    } else if (part.kind === 'matches') {
      patterns.set(part.field, [...(patterns.get(part.field) ?? []), part.pattern]);
    } else others.push(part);
  }
  return [
    ...[...exact].map(([field, values]) => someValue(field, (value) => values.has(value))),
    ...[...patterns].map(([field, all]) => someValue(field, fitsAny(all))),
    ...byCost(others).map(compileQuery),
  ];
}

function alternativesOf(query: Query): readonly Query[] {
  return query.kind === 'or' ? query.parts.flatMap(alternativesOf) : [query];
}

/** `*word*`, as most patterns are, is a search for the word. */
function fitsAny(patterns: readonly Pattern[]): (value: FieldValue) => boolean {
  const words = patterns.flatMap((pattern) => (isWord(pattern) ? [pattern[1] ?? ''] : []));
  const others = patterns.filter((pattern) => !isWord(pattern));
  return (value) => {
    const text = String(value);
    for (const word of words) if (text.includes(word)) return true;
    for (const pattern of others) if (fitsPattern(text, pattern)) return true;
    return false;
  };
}

function isWord({ length, 0: first, 2: last }: Pattern): boolean {
  return length === 3 && first === '' && last === '';
}

function someValue(field: Field, fits: (value: FieldValue) => boolean): Predicate {
  const place = placeOf(field);
  return (reading) => {
    for (const value of reading.values(place)) if (fits(value)) return true;
    return false;
  };
}

type Condition = Extract<Query, { readonly field: Field }>;

function compileCondition(query: Condition): Predicate {
  const { field } = query;
  const some = (fits: (value: FieldValue) => boolean) => someValue(field, fits);
  switch (query.kind) {
    case 'exists': {
      const place = placeOf(field);
      return (reading) => reading.values(place).length > 0;
    }
    case 'matches':
      return some(fitsAny([query.pattern]));
    case 'equals': {
      const { value: wanted } = query;
      if (field.type === 'keyword' || field.type === 'boolean') return some((value) => value === wanted);
      if (field.type === 'long' || field.type === 'double') return some((value) => Number(value) === Number(wanted));
      if (field.type === 'ip') {
        const key = ipKey(String(wanted));
        return some((value) => value === wanted || (key !== undefined && ipKey(String(value)) === key));
      }
      return (reading) => evaluate(query, reading.document);
    }
    case 'compare': {
      const { operator, value: wanted } = query;
      return some((value) => {
        const stored = comparable(field, value);
        if (stored === undefined) return false;
        if (operator === '>') return stored > wanted;
        if (operator === '>=') return stored >= wanted;
        return operator === '<' ? stored < wanted : stored <= wanted;
      });
    }
    case 'network': {
      const first = ipKey(query.first);
      const last = ipKey(query.last);
      return some((value) => {
        const key = ipKey(String(value));
        return key !== undefined && first !== undefined && last !== undefined && key >= first && key <= last;
      });
    }
  }
}

const ENTRY = placeNamed('audit.entry');
const SUPERSEDED = placeNamed('audit.superseded_by');

/** What a rule asks of a record: its query, and what a search hides unless it is asked for. */
export function compileMatch(query: Query, inner: boolean): Predicate {
  const fits = compileQuery(query);
  const showsSuperseded = namesField(query, 'audit.superseded_by');
  return (reading) => {
    if (!inner && reading.values(ENTRY)[0] !== true) return false;
    if (!showsSuperseded && reading.values(SUPERSEDED).length > 0) return false;
    return fits(reading);
  };
}

/** Reads a field's values off documents, as text. */
export function compileField(field: Field): (reading: Reading) => readonly string[] {
  const place = placeOf(field);
  return (reading) => {
    const values = reading.values(place);
    return values.every(isText) ? values : values.map(String);
  };
}

function isText(value: FieldValue): value is string {
  return typeof value === 'string';
}
