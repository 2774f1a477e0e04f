import type { Pattern } from './ast.ts';

/** A mistake in a query text. `column` counts UTF-16 units from 1. */
export class QueryError extends Error {
  readonly column: number;

  constructor(column: number, message: string) {
    super(message);
    this.column = column;
  }
}

/** A word or quoted phrase with its escapes undone. `pieces` are the literal texts between its `*`; quotes have no `*`. */
export interface Word {
  readonly column: number;
  readonly text: string;
  readonly quoted: boolean;
  /** Absent when the word has no wildcard. */
  readonly pattern?: Pattern;
  /** No escape and no wildcard: may be a keyword or a field name. */
  readonly plain: boolean;
}

export type Mark = '(' | ')' | ':' | '>' | '>=' | '<' | '<=';

const BLANK = /\s/;
/** What ends a bare word. A value may hold `:`, `<` and `>`: times, IPv6 addresses and URLs need no quotes. */
const NAME_END = /[\s():<>"]/;
const VALUE_END = /[\s()"]/;
const CONTROL: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };

/** Reads words and marks off a query text from left to right. */
export class QueryReader {
  readonly text: string;
  #at = 0;

  constructor(text: string) {
    this.text = text;
  }

  /** Column of the next thing that is not blank. */
  get column(): number {
    this.#skipBlanks();
    return this.#at + 1;
  }

  get ended(): boolean {
    this.#skipBlanks();
    return this.#at >= this.text.length;
  }

  /** The mark that comes next, without taking it. */
  peekMark(): Mark | undefined {
    this.#skipBlanks();
    const one = this.text[this.#at];
    if (one === '>' || one === '<') return this.text[this.#at + 1] === '=' ? `${one}=` : one;
    return one === '(' || one === ')' || one === ':' ? one : undefined;
  }

  takeMark(mark: Mark): boolean {
    if (this.peekMark() !== mark) return false;
    this.#at += mark.length;
    return true;
  }

  /** Takes `and`, `or` or `not` when it comes next as a word of its own. */
  takeKeyword(keyword: 'and' | 'or' | 'not'): boolean {
    this.#skipBlanks();
    const end = this.#at + keyword.length;
    if (this.text.slice(this.#at, end).toLowerCase() !== keyword) return false;
    const after = this.text[end];
    if (after !== undefined && !NAME_END.test(after)) return false;
    this.#at = end;
    return true;
  }

  /** The next word; undefined when a mark or the end comes next. Values end later than names do. */
  takeWord(place: 'name' | 'value'): Word | undefined {
    this.#skipBlanks();
    if (this.text[this.#at] === '"') return this.#takeQuoted();
    const column = this.#at + 1;
    const ends = place === 'name' ? NAME_END : VALUE_END;
    const pieces = [''];
    let plain = true;
    while (this.#at < this.text.length) {
      const character = this.text[this.#at] ?? '';
      if (ends.test(character)) break;
      this.#at++;
      if (character === '*') {
        plain = false;
        pieces.push('');
        continue;
      }
      if (character === '\\') plain = false;
      pieces.push(`${pieces.pop() ?? ''}${character === '\\' ? this.#takeEscaped() : character}`);
    }
    if (this.#at + 1 === column) return undefined;
    const text = pieces.join('*');
    if (pieces.length === 1) return { column, text, quoted: false, plain };
    // `a**b` is `a*b`.
    const pattern = pieces.filter((piece, index) => piece !== '' || index === 0 || index === pieces.length - 1);
    return { column, text, quoted: false, plain, pattern };
  }

  #takeQuoted(): Word {
    const column = this.#at + 1;
    this.#at++;
    let text = '';
    for (;;) {
      const character = this.text[this.#at];
      if (character === undefined) throw new QueryError(column, 'the quote that opens here is never closed; add a "');
      this.#at++;
      if (character === '"') return { column, text, quoted: true, plain: false };
      text += character === '\\' ? this.#takeEscaped() : character;
    }
  }

  /** The character after a backslash: `\n`, `\r` and `\t` are control characters, any other stands for itself. */
  #takeEscaped(): string {
    const character = this.text[this.#at];
    if (character === undefined) {
      throw new QueryError(this.#at, 'a backslash at the end escapes nothing; write \\\\ for a backslash');
    }
    this.#at++;
    return CONTROL[character] ?? character;
  }

  #skipBlanks(): void {
    while (this.#at < this.text.length && BLANK.test(this.text[this.#at] ?? '')) this.#at++;
  }
}
