import type { Field } from '../core/fields.ts';

/** Pieces of a wildcard pattern: literal text between the `*`; `['a', '']` is `a*`. A pattern has at least two pieces. */
export type Pattern = readonly string[];

/**
 * A query after parsing: field names are checked and values have the type of their field. Values of `date` and `duration`
 * fields are nanoseconds as bigint, of `ip` fields text, or an inclusive range for `10.0.0.0/8`.
 *
 * - `all`: every record
 * - `exists`: the field has any value (`user.id: *`)
 * - `equals`: any value equals; exact for keyword, letter runs in a row for text
 * - `matches`: any value fits the pattern (keyword only; case-sensitive)
 * - `compare`: any value is above or below; never on keyword, text, ip or boolean fields
 * - `words`: a bare word or quoted phrase: any bare field equals it (or fits the pattern), or the sentence contains
 *   the letter runs of `text` in a row, pattern or not (in `text` a wildcard stands as `*`)
 */
export type Query =
  | { readonly kind: 'all' }
  | { readonly kind: 'and'; readonly parts: readonly Query[] }
  | { readonly kind: 'or'; readonly parts: readonly Query[] }
  | { readonly kind: 'not'; readonly part: Query }
  | { readonly kind: 'exists'; readonly field: Field }
  | { readonly kind: 'equals'; readonly field: Field; readonly value: QueryValue }
  | { readonly kind: 'matches'; readonly field: Field; readonly pattern: Pattern }
  | { readonly kind: 'compare'; readonly field: Field; readonly operator: CompareOperator; readonly value: QueryValue }
  | { readonly kind: 'network'; readonly field: Field; readonly first: string; readonly last: string }
  | { readonly kind: 'words'; readonly text: string; readonly pattern?: Pattern };

export type CompareOperator = '>' | '>=' | '<' | '<=';

export type QueryValue = string | number | bigint | boolean;

export const EVERYTHING: Query = { kind: 'all' };
