import { formatTimestamp } from '../core/clock.ts';
import type { Field } from '../core/fields.ts';
import type { Pattern, Query, QueryValue } from './ast.ts';
import { ipKey } from './text.ts';

/** Query text that parses back to the same query: what links, exports and rules show. */
export function printQuery(query: Query): string {
  switch (query.kind) {
    case 'all':
      return '*';
    case 'and':
    case 'or':
      return query.parts.map((part) => printPart(part)).join(` ${query.kind} `);
    case 'not':
      return `not ${printPart(query.part)}`;
    case 'exists':
      return `${query.field.name}: *`;
    case 'equals':
      return `${query.field.name}: ${printValue(query.field, query.value)}`;
    case 'matches':
      return `${query.field.name}: ${printPattern(query.pattern)}`;
    case 'compare':
      return `${query.field.name} ${query.operator} ${printValue(query.field, query.value)}`;
    case 'network':
      return `${query.field.name}: ${query.first}/${prefixBits(query.first, query.last)}`;
    case 'words':
      return query.pattern ? printPattern(query.pattern) : quote(query.text);
  }
}

/** Text in quotes, so that the parser takes it literally. */
function quote(text: string): string {
  return `"${text.replace(/["\\]/g, '\\$&')}"`;
}

function printPart(part: Query): string {
  return part.kind === 'and' || part.kind === 'or' ? `(${printQuery(part)})` : printQuery(part);
}

function printValue(field: Field, value: QueryValue): string {
  if (field.type === 'date') return formatTimestamp(BigInt(value));
  return typeof value === 'string' ? quote(value) : String(value);
}

/** `n`, `r` and `t` after a backslash are control characters, so only what needs an escape gets one. */
function printPattern(pattern: Pattern): string {
  return pattern.map((piece) => piece.replace(/[\s():<>"\\*=!]/g, '\\$&')).join('*');
}

function prefixBits(first: string, last: string): number {
  const difference = BigInt(`0x${ipKey(first) ?? 0}`) ^ BigInt(`0x${ipKey(last) ?? 0}`);
  const hostBits = difference === 0n ? 0 : difference.toString(2).length;
  return (first.includes(':') ? 128 : 32) - hostBits;
}
