import { FIELDS, type Field, type FieldValue } from '../core/fields.ts';
import type { Query } from '../query/ast.ts';
import { comparable, evaluate, namesField } from '../query/evaluate.ts';
import { printQuery } from '../query/print.ts';
import { fitsPattern, ipKey } from '../query/text.ts';

const NOTHING: readonly FieldValue[] = [];

interface Place {
  readonly slot: number;
  readonly path: readonly string[];
}

const PLACES: ReadonlyMap<string, Place> = new Map(
  FIELDS.map((field, slot) => [field.name, { slot, path: field.name.split('.') }]),
);

function placeOf(field: Field): Place {
  return PLACES.get(field.name) ?? { slot: -1, path: field.name.split('.') };
}

/** One document while rules look at it: each field is looked up once, and each alternative answered once, however many rules ask. */
export class Reading {
  #document: object = {};
  /** Counts the documents: what was found in an earlier one is of no use. */
  #turn = 1;
  readonly #values: (readonly FieldValue[])[] = FIELDS.map(() => NOTHING);
  readonly #valuesTurn: number[] = FIELDS.map(() => 0);
  /** Turn of the answer, negative for no. */
  readonly #answers: number[] = [];

  /** The document that is read from now on, in the shape of a record. */
  start(document: object): void {
    this.#document = document;
    this.#turn++;
  }

  get document(): object {
    return this.#document;
  }

  values({ slot, path }: Place): readonly FieldValue[] {
    if (this.#valuesTurn[slot] === this.#turn) return this.#values[slot] ?? NOTHING;
    const found = valuesAt(this.#document, path, 0);
    this.#values[slot] = found;
    this.#valuesTurn[slot] = this.#turn;
    return found;
  }

  /** The answer of the predicate with this number, asked once for each document. */
  answer(number: number, predicate: Predicate): boolean {
    const known = this.#answers[number];
    if (known === this.#turn) return true;
    if (known === -this.#turn) return false;
    const answer = predicate(this);
    this.#answers[number] = answer ? this.#turn : -this.#turn;
    return answer;
  }
}

/** Alternatives of at least so many parts are worth remembering: definitions, which several rules use. */
const REMEMBERED_PARTS_MIN = 4;

/** Numbers of the alternatives that rules have asked for; as many as people write. */
const numbers = new Map<string, number>();

function remembered(query: Query, predicate: Predicate): Predicate {
  if (query.kind !== 'or' || query.parts.length < REMEMBERED_PARTS_MIN) return predicate;
  const text = printQuery(query);
  const number = numbers.get(text) ?? numbers.size;
  numbers.set(text, number);
  return (reading) => reading.answer(number, predicate);
}

function valuesAt(start: unknown, path: readonly string[], from: number): readonly FieldValue[] {
  let node = start;
  for (let depth = from; depth < path.length; depth++) {
    if (Array.isArray(node)) return node.flatMap((one) => valuesAt(one, path, depth));
    if (typeof node !== 'object' || node === null) return NOTHING;
    node = (node as Record<string, unknown>)[path[depth] ?? ''];
  }
  if (node === undefined || node === null) return NOTHING;
  if (!Array.isArray(node)) return typeof node === 'object' ? NOTHING : [node as FieldValue];
  return node.filter(
    (value): value is FieldValue => value !== null && value !== undefined && typeof value !== 'object',
  );
}

export type Predicate = (reading: Reading) => boolean;

/** What one condition costs, about: cheap ones are asked first. */
const COST: Readonly<Record<Query['kind'], number>> = {
  all: 0,
  ...{ exists: 1, equals: 1, matches: 2, compare: 3, network: 10, words: 100 },
  ...{ and: 0, or: 0, not: 0 },
};

function costOf(query: Query): number {
  switch (query.kind) {
    case 'and':
    case 'or':
      return query.parts.reduce((sum, part) => sum + costOf(part), 0);
    case 'not':
      return costOf(query.part);
    case 'equals':
      return query.field.type === 'text' ? 50 : query.field.type === 'ip' || query.field.type === 'date' ? 5 : 1;
    default:
      return COST[query.kind];
  }
}

/** The query as a function that answers as `evaluate` does, without walking its tree and the field names each time. */
export function compileQuery(query: Query): Predicate {
  switch (query.kind) {
    case 'all':
      return () => true;
    case 'and':
    case 'or': {
      const isAnd = query.kind === 'and';
      const parts = [...query.parts].sort((a, b) => costOf(a) - costOf(b)).map(compileQuery);
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

type Condition = Extract<Query, { readonly field: Field }>;

function compileCondition(query: Condition): Predicate {
  const { field } = query;
  const place = placeOf(field);
  const some = (fits: (value: FieldValue) => boolean): Predicate => {
    return (reading) => {
      for (const value of reading.values(place)) if (fits(value)) return true;
      return false;
    };
  };
  switch (query.kind) {
    case 'exists':
      return (reading) => reading.values(place).length > 0;
    case 'matches':
      return some((value) => fitsPattern(String(value), query.pattern));
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

/** What a rule asks of a record: its query, and what a search hides unless it is asked for. */
export function compileMatch(query: Query, inner: boolean): Predicate {
  const fits = compileQuery(query);
  const entry = PLACES.get('audit.entry');
  const superseded = PLACES.get('audit.superseded_by');
  const showsSuperseded = namesField(query, 'audit.superseded_by');
  return (reading) => {
    if (!inner && entry !== undefined && reading.values(entry)[0] !== true) return false;
    if (!showsSuperseded && superseded !== undefined && reading.values(superseded).length > 0) return false;
    return fits(reading);
  };
}

/** Reads a field's values off documents, as text. */
export function compileField(field: Field): (reading: Reading) => readonly string[] {
  const place = placeOf(field);
  return (reading) => reading.values(place).map(String);
}
