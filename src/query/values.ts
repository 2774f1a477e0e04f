import { msToNs, parseTimestamp, TIMESTAMP_NS_MAX } from '../core/clock.ts';
import { FIELDS, type Field } from '../core/fields.ts';
import type { CompareOperator, Query } from './ast.ts';
import { QueryError, type Word } from './reader.ts';
import { ipKey, ipText, parseDuration, parseNetwork } from './text.ts';

/** The condition that `field: word` states, with the word read as the field's type. */
export function equalsCondition(field: Field, word: Word, nowMs: number): Query {
  if (word.pattern) return patternCondition(field, word, word.pattern);
  if (field.type === 'keyword' || field.type === 'text') return { kind: 'equals', field, value: word.text };
  if (field.type === 'boolean') return { kind: 'equals', field, value: readBoolean(field, word) };
  if (field.type === 'ip') return ipCondition(field, word);
  if (field.type === 'date') return dateCondition(field, readDate(field, word, nowMs));
  return { kind: 'equals', field, value: readQuantity(field, word) };
}

/** The condition that `field >= word` states. A date stands for all of the day, minute or second that it names. */
export function compareCondition(field: Field, operator: CompareOperator, word: Word, nowMs: number): Query {
  if (word.pattern) throw new QueryError(word.column, `${operator} takes one value, without *`);
  if (field.type === 'date') {
    const { fromNs, toNs } = readDate(field, word, nowMs);
    if (toNs - fromNs === 1n || operator === '>=' || operator === '<') {
      return { kind: 'compare', field, operator, value: fromNs };
    }
    return { kind: 'compare', field, operator: operator === '>' ? '>=' : '<', value: toNs };
  }
  if (field.type === 'duration' || field.type === 'long' || field.type === 'double') {
    return { kind: 'compare', field, operator, value: readQuantity(field, word) };
  }
  const instead = field.type === 'ip' ? `a network such as ${field.name}: 10.0.0.0/8` : `${field.name}: value`;
  throw new QueryError(word.column, `${field.name} is of type ${field.type} and has no order; use ${instead}`);
}

/** A bare word: an address range looks at source.ip too, everything else at the bare fields and the sentence. */
export function wordsCondition(word: Word): Query {
  if (word.pattern) {
    if (word.pattern.every((piece) => piece === '')) return { kind: 'all' };
    return { kind: 'words', text: word.text, pattern: word.pattern };
  }
  const words: Query = { kind: 'words', text: word.text };
  const network = word.quoted ? undefined : parseNetwork(word.text);
  if (!network) return words;
  const networks = FIELDS.filter((field) => field.bare && field.type === 'ip').map(
    (field): Query => ({ kind: 'network', field, ...network }),
  );
  return { kind: 'or', parts: [...networks, words] };
}

function patternCondition(field: Field, word: Word, pattern: readonly string[]): Query {
  if (pattern.every((piece) => piece === '')) return { kind: 'exists', field };
  if (field.type === 'keyword') return { kind: 'matches', field, pattern };
  if (field.type === 'text') {
    throw new QueryError(word.column, `${field.name} is searched by whole words; leave out the *`);
  }
  const instead = field.type === 'ip' ? `a network such as 10.0.0.0/8` : `>= and <=`;
  throw new QueryError(word.column, `${field.name} is of type ${field.type} and takes no *; use ${instead}`);
}

function readBoolean(field: Field, word: Word): boolean {
  if (word.text === 'true') return true;
  if (word.text === 'false') return false;
  throw new QueryError(word.column, `${field.name} is true or false, not ${shown(word)}`);
}

function ipCondition(field: Field, word: Word): Query {
  const key = ipKey(word.text);
  if (key !== undefined) return { kind: 'equals', field, value: ipText(key) };
  const network = parseNetwork(word.text);
  if (network) return { kind: 'network', field, ...network };
  throw new QueryError(
    word.column,
    `${field.name} takes an IP address or a network such as 10.0.0.0/8, not ${shown(word)}`,
  );
}

function readQuantity(field: Field, word: Word): number | bigint {
  if (field.type === 'duration') {
    const durationNs = parseDuration(word.text);
    if (durationNs !== undefined) return durationNs;
    throw new QueryError(word.column, `${field.name} takes a duration such as 41ms, 1.5s or 3m, not ${shown(word)}`);
  }
  const value = /^-?\d{1,30}(\.\d{1,30})?$/.test(word.text) ? Number(word.text) : Number.NaN;
  if (field.type === 'double' && Number.isFinite(value)) return value;
  if (Number.isSafeInteger(value)) return value;
  throw new QueryError(word.column, `${field.name} takes a whole number, not ${shown(word)}`);
}

interface Span {
  readonly fromNs: bigint;
  /** Exclusive. */
  readonly toNs: bigint;
}

function dateCondition(field: Field, { fromNs, toNs }: Span): Query {
  if (toNs - fromNs === 1n) return { kind: 'equals', field, value: fromNs };
  return {
    kind: 'and',
    parts: [
      { kind: 'compare', field, operator: '>=', value: fromNs },
      { kind: 'compare', field, operator: '<', value: toNs },
    ],
  };
}

/** `2026-11-22` is that whole day, `…T10:19` that minute, `….5Z` that tenth of a second; `now-15m` is one instant. */
function readDate(field: Field, word: Word, nowMs: number): Span {
  const relative = /^now(?:([+-])(\d.*))?$/.exec(word.text);
  if (relative) {
    const durationNs = parseDuration(relative[2] ?? '0');
    if (durationNs !== undefined) {
      return instants(msToNs(nowMs) + (relative[1] === '-' ? -durationNs : durationNs), 1n);
    }
  }
  const start = parseTimestamp(word.text);
  if (start !== undefined) return instants(start, precisionNs(word.text));
  throw new QueryError(
    word.column,
    `${field.name} takes a time such as 2026-11-22, 2026-11-22T10:19:13Z or now-15m, not ${shown(word)}`,
  );
}

function precisionNs(text: string): bigint {
  const time = /[T ]\d\d:\d\d(:\d\d(?:[.,](\d+))?)?/.exec(text);
  if (!time) return 86_400_000_000_000n;
  if (time[1] === undefined) return 60_000_000_000n;
  return 10n ** BigInt(9 - (time[2] ?? '').length);
}

/** Stores hold instants from 1970 to 2262; what lies outside is moved to that edge. */
function instants(fromNs: bigint, widthNs: bigint): Span {
  const clamp = (value: bigint) => (value < 0n ? 0n : value > TIMESTAMP_NS_MAX ? TIMESTAMP_NS_MAX : value);
  const start = clamp(fromNs);
  const end = clamp(fromNs + widthNs - 1n) + 1n;
  return { fromNs: start, toNs: end > start ? end : start + 1n };
}

function shown(word: Word): string {
  return `"${word.text.length > 40 ? `${word.text.slice(0, 40)}…` : word.text}"`;
}
