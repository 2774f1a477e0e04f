import type { z } from 'zod';
import { msToNs, parseTimestamp, TIMESTAMP_NS_MAX } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { type Field, findField } from '../core/fields.ts';
import type { Query } from '../query/ast.ts';
import { parseQuery } from '../query/parse.ts';
import { parseDuration } from '../query/text.ts';
import type { Selection, Sort } from '../store/port.ts';

/** A query text that does not parse; `column` counts from 1. */
export class QueryTextError extends AppError {
  readonly column: number;

  constructor(message: string, column: number) {
    super('bad_request', message);
    this.column = column;
  }
}

/** Query parameters checked by the contract; throws AppError('bad_request') that names the parameter. */
export function checkParameters<T extends z.ZodType>(schema: T, parameters: unknown): z.output<T> {
  const parsed = schema.safeParse(parameters);
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map((issue) =>
    issue.code === 'unrecognized_keys'
      ? `unknown parameter ${issue.keys.join(', ')}`
      : `${issue.path.join('.')}: ${issue.message}`,
  );
  throw new AppError('bad_request', lines.join('; '));
}

export function parseQueryText(text: string, nowMs: number): Query {
  const parsed = parseQuery(text, { nowMs });
  if (!parsed.ok) throw new QueryTextError(`q: ${parsed.message} (column ${parsed.column})`, parsed.column);
  return parsed.query;
}

/** RFC 3339, or back from now: `-15m`, `-2h`, `-7d`, `now-2h`, `now`. Epoch nanoseconds. */
export function parseInstant(name: string, text: string, nowMs: number): bigint {
  if (text === 'now') return msToNs(nowMs);
  const relative = /^(?:now)?-(.+)$/.exec(text);
  const durationNs = relative?.[1] === undefined ? undefined : parseDuration(relative[1]);
  const instant = durationNs === undefined ? parseTimestamp(text) : msToNs(nowMs) - durationNs;
  if (instant === undefined) {
    throw new AppError(
      'bad_request',
      `${name}: "${text}" must be a time like 2026-11-22T10:00:00Z, or back from now like -15m`,
    );
  }
  return instant < 0n ? 0n : instant > TIMESTAMP_NS_MAX ? TIMESTAMP_NS_MAX + 1n : instant;
}

interface SelectionParameters {
  readonly q: string;
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly namespace?: string | undefined;
  readonly inner: boolean;
}

export function toSelection(parameters: SelectionParameters, nowMs: number): Selection {
  return {
    query: parseQueryText(parameters.q, nowMs),
    inner: parameters.inner,
    ...toRange(parameters, nowMs),
    ...(parameters.namespace === undefined ? {} : { namespace: parameters.namespace }),
  };
}

/** Epoch nanoseconds, `toNs` exclusive. Throws AppError('bad_request') when the range ends before it begins. */
export function toRange(
  { from, to }: { readonly from?: string | undefined; readonly to?: string | undefined },
  nowMs: number,
): Pick<Selection, 'fromNs' | 'toNs'> {
  const fromNs = from === undefined ? undefined : parseInstant('from', from, nowMs);
  const toNs = to === undefined ? undefined : parseInstant('to', to, nowMs);
  if (fromNs !== undefined && toNs !== undefined && fromNs > toNs) {
    throw new AppError('bad_request', `from: ${from} is after to: ${to}`);
  }
  return { ...(fromNs === undefined ? {} : { fromNs }), ...(toNs === undefined ? {} : { toNs }) };
}

export function requireField(parameter: string, name: string): Field {
  const field = findField(name);
  if (!field) throw new AppError('bad_request', `${parameter}: unknown field ${name}`);
  return field;
}

export function toSort(text: string): Sort {
  const [name = '', direction] = text.split(':');
  const field = requireField('sort', name);
  if (field.many || field.type === 'text') {
    throw new AppError(
      'bad_request',
      `sort: ${name} cannot be sorted by; take a field with one value, e.g. @timestamp`,
    );
  }
  return { field: name, direction: direction === 'asc' ? 'asc' : 'desc' };
}
