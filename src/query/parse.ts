import { FIELDS, type Field, findField } from '../core/fields.ts';
import type { Query } from './ast.ts';
import { QueryError, QueryReader, type Word } from './reader.ts';
import { compareCondition, equalsCondition, wordsCondition } from './values.ts';

/** Parentheses and `not` inside each other. Far above what a person writes, far below any stack. */
const DEPTH_MAX = 64;

/** Longest query text, UTF-16 units: it must still fit a URL. */
const TEXT_CHARS_MAX = 8192;

/** Conditions of one query. Elasticsearch refuses more than about a thousand clauses; a bare word makes some twenty. */
const CONDITIONS_MAX = 256;
const WORDS_MAX = 32;

export type ParseResult =
  | { readonly ok: true; readonly query: Query }
  | { readonly ok: false; readonly message: string; readonly column: number };

/**
 * Parses query text, the part of KQL that Kibana users know: `field: value`, `field >= value`, `field: (a or b)`, quotes, `*`,
 * `and or not` in any case, parentheses, bare words; what stands side by side is joined by `and`. `nowMs` (epoch
 * milliseconds) is what `now-15m` counts from. Blank text selects everything. Never throws: a mistake comes back with its
 * column (from 1) and what would be right.
 */
export function parseQuery(text: string, options: { readonly nowMs: number }): ParseResult {
  try {
    if (text.length > TEXT_CHARS_MAX) {
      throw new QueryError(TEXT_CHARS_MAX + 1, `the query is longer than ${TEXT_CHARS_MAX} characters`);
    }
    // Lone surrogates exist in no store: they have no UTF-8 form.
    const parser = new Parser(new QueryReader(text.replace(/\p{Surrogate}/gu, '\ufffd')), options.nowMs);
    return { ok: true, query: parser.parse() };
  } catch (error) {
    if (error instanceof QueryError) return { ok: false, message: error.message, column: error.column };
    throw error;
  }
}

type Operand = (depth: number) => Query;

/** Recursive descent: or over and over not over a condition; the same grammar inside `field: ( … )` with values. */
class Parser {
  readonly #reader: QueryReader;
  readonly #nowMs: number;
  #conditions = 0;
  #words = 0;

  constructor(reader: QueryReader, nowMs: number) {
    this.#reader = reader;
    this.#nowMs = nowMs;
  }

  parse(): Query {
    if (this.#reader.ended) return { kind: 'all' };
    const query = this.#or((depth) => this.#term(depth), 0);
    if (!this.#reader.ended) throw new QueryError(this.#reader.column, 'this ) closes nothing; leave it out');
    return query;
  }

  #or(operand: Operand, depth: number): Query {
    const parts = [this.#and(operand, depth)];
    while (this.#reader.takeKeyword('or')) parts.push(this.#and(operand, depth));
    return joined('or', parts);
  }

  #and(operand: Operand, depth: number): Query {
    const parts = [this.#not(operand, depth)];
    while (this.#reader.takeKeyword('and') || this.#startsOperand()) parts.push(this.#not(operand, depth));
    return joined('and', parts);
  }

  #not(operand: Operand, depth: number): Query {
    if (depth > DEPTH_MAX) {
      throw new QueryError(this.#reader.column, `more than ${DEPTH_MAX} levels of parentheses and not`);
    }
    if (!this.#reader.takeKeyword('not')) return operand(depth);
    return { kind: 'not', part: this.#not(operand, depth + 1) };
  }

  /** Does something other than `or`, `)` or the end come next? Then an `and` is understood. */
  #startsOperand(): boolean {
    if (this.#reader.ended || this.#reader.peekMark() === ')') return false;
    return !this.#nextIsOr();
  }

  #nextIsOr(): boolean {
    const rest = this.#reader.text.slice(this.#reader.column - 1);
    return /^or(?=[\s():<>"]|$)/i.test(rest);
  }

  #term(depth: number): Query {
    const group = this.#group((inner) => this.#term(inner), depth);
    if (group) return group;
    const column = this.#reader.column;
    this.#refuseKeyword('a condition such as user.id: alice');
    const word = this.#reader.takeWord('name');
    if (!word) throw new QueryError(column, `a condition such as user.id: alice is missing here`);
    const mark = this.#reader.peekMark();
    if (mark === ':') return this.#values(this.#field(word), depth);
    if (mark !== undefined && mark !== '(' && mark !== ')') {
      this.#reader.takeMark(mark);
      const field = this.#field(word);
      return this.#counted(compareCondition(field, mark, this.#value(field), this.#nowMs));
    }
    this.#refuseEquals(word);
    this.#words++;
    if (this.#words > WORDS_MAX) throw new QueryError(column, `more than ${WORDS_MAX} words without a field`);
    return this.#counted(wordsCondition(word));
  }

  #values(field: Field, depth: number): Query {
    this.#reader.takeMark(':');
    const list = this.#group((inner) => this.#listed(field, inner), depth);
    if (list) return list;
    const mark = this.#reader.peekMark();
    if (mark && mark !== ')' && mark !== ':')
      throw new QueryError(this.#reader.column, `write ${field.name} ${mark} value, without the colon`);
    return this.#counted(equalsCondition(field, this.#value(field), this.#nowMs));
  }

  #listed(field: Field, depth: number): Query {
    const list = this.#group((inner) => this.#listed(field, inner), depth);
    if (list) return list;
    const word = this.#value(field);
    const [name = '', ...rest] = word.text.split(':');
    if (word.plain && rest.length > 0 && findField(name)) {
      throw new QueryError(word.column, `this list holds values of ${field.name}; close it with ) before ${name}:`);
    }
    return this.#counted(equalsCondition(field, word, this.#nowMs));
  }

  #value(field: Field): Word {
    this.#refuseKeyword(`a value for ${field.name}`);
    const word = this.#reader.takeWord('value');
    if (!word) throw new QueryError(this.#reader.column, `a value for ${field.name} is missing here`);
    return word;
  }

  #refuseKeyword(wanted: string): void {
    const column = this.#reader.column;
    for (const keyword of ['and', 'or', 'not'] as const) {
      if (!this.#reader.takeKeyword(keyword)) continue;
      throw new QueryError(column, `${wanted} is missing before this ${keyword}; quote "${keyword}" to mean the word`);
    }
  }

  #group(operand: Operand, depth: number): Query | undefined {
    const column = this.#reader.column;
    if (!this.#reader.takeMark('(')) return undefined;
    const query = this.#or(operand, depth + 1);
    if (!this.#reader.takeMark(')')) throw new QueryError(column, 'the ( that opens here is never closed; add a )');
    return query;
  }

  #field(word: Word): Field {
    const field = findField(word.text);
    if (field) return field;
    if (word.pattern)
      throw new QueryError(word.column, 'a field name takes no *; name the fields and join them with or');
    throw new QueryError(
      word.column,
      `there is no field "${word.text.slice(0, 80)}"; did you mean ${nearestField(word.text)}? Quote a value that holds a colon`,
    );
  }

  /** `user.id = alice` and `user.id!=alice` would be looked for as words, which nobody means. */
  #refuseEquals(word: Word): void {
    const match = word.plain ? /^([^=!]*)!?=/.exec(word.text) : null;
    if (!match || (match[1] && !findField(match[1]))) return;
    throw new QueryError(word.column, 'there is no =; write field: value, or not field: value');
  }

  #counted(query: Query): Query {
    this.#conditions++;
    if (this.#conditions > CONDITIONS_MAX) {
      throw new QueryError(this.#reader.column, `the query has more than ${CONDITIONS_MAX} conditions`);
    }
    return query;
  }
}

function joined(kind: 'and' | 'or', parts: readonly Query[]): Query {
  const flat = parts.flatMap((part) => (part.kind === kind ? part.parts : [part]));
  return flat.length === 1 && flat[0] ? flat[0] : { kind, parts: flat };
}

/** The field whose name, or whose end of the name, takes the fewest edits to reach. */
function nearestField(name: string): string {
  const wanted = name.toLowerCase().slice(0, 80);
  let best = { name: '', edits: Number.POSITIVE_INFINITY };
  for (const field of FIELDS) {
    const last = field.name.slice(field.name.lastIndexOf('.') + 1);
    // A full name is the better guess when both are equally far.
    const edits = Math.min(editDistance(wanted, field.name), editDistance(wanted, last) + 0.5);
    if (edits < best.edits) best = { name: field.name, edits };
  }
  return best.name;
}

function editDistance(left: string, right: string): number {
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let i = 1; i <= left.length; i++) {
    const next = [i];
    for (let j = 1; j <= right.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (left[i - 1] === right[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[right.length] ?? 0;
}
