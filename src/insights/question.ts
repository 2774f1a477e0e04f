import { nsToMs } from '../core/clock.ts';
import { type Field, type FieldValue, findField } from '../core/fields.ts';
import type { Cell, Column, ColumnType, InsightName, Table } from '../core/insight.ts';
import type { Query, QueryValue } from '../query/ast.ts';
import { compareText } from '../query/text.ts';
import { rankOf } from '../store/paging.ts';
import type { Aggregation, AggregationRow, Measured, Selection, Store } from '../store/port.ts';

/** What policies grant a role, as the settings say. */
export interface Granted {
  readonly role: string;
  readonly permissions: readonly string[];
  readonly targets: readonly string[];
}

/** What an insight is asked about. */
export interface Question {
  readonly selection: Selection & { readonly fromNs: bigint; readonly toNs: bigint };
  /** From here on, what a role used before the range is known. Epoch nanoseconds. */
  readonly knownFromNs: bigint;
  /** Which accesses are sensitive; undefined when nothing says so. */
  readonly sensitive: Query | undefined;
  readonly granted: readonly Granted[];
  /** Rows of the first table at most. */
  readonly limit: number;
  /** What makes slow: the mean, the sum, or the one slowest. */
  readonly by: 'mean' | 'sum' | 'max';
  /** Targets and statements of fewer accesses are not among the slowest. */
  readonly countMin: number;
}

export interface Answer {
  readonly findings: readonly string[];
  readonly tables: readonly Table[];
}

export type Ask = (store: Store, question: Question) => Promise<Answer>;

export type Asks = Readonly<Record<InsightName, Ask>>;

/** Groups that are looked at where all of them matter: the most that a store gives. */
export const GROUPS_MAX = 10_000;

/** Who or what stands for a value that no record tells. */
export const NOBODY = '(nobody known)';
export const NO_ROLE = '(no role)';

function fieldOf(name: string): Field {
  const field = findField(name);
  if (!field) throw new Error(`no field ${name}`);
  return field;
}

export function equals(name: string, value: QueryValue): Query {
  return { kind: 'equals', field: fieldOf(name), value };
}

export function exists(name: string): Query {
  return { kind: 'exists', field: fieldOf(name) };
}

export function not(part: Query): Query {
  return { kind: 'not', part };
}

export function and(...parts: readonly Query[]): Query {
  return { kind: 'and', parts };
}

export const REFUSED = equals('audit.decision', 'deny');
/** What went wrong otherwise. */
export const FAILED = and(equals('event.outcome', 'failure'), not(REFUSED));

/** The selection, narrowed. */
export function only<T extends Selection>(selection: T, ...conditions: readonly Query[]): T {
  return { ...selection, query: and(selection.query, ...conditions) };
}

const NAME = 'audit.target.name';
const ACCOUNT = equals('audit.target.type', 'account');
const ACCOUNTS = 'accounts: ';

/**
 * Groups by these fields and the target: by its name, which leaves out whose row it was (`records GET /patients/:id`), or by its
 * id where it has none; all accounts together by what was done (`accounts: login`), since each person has one. The target's
 * text is the last value of each group.
 */
export async function aggregateTargets(
  store: Store,
  selection: Selection,
  aggregation: Aggregation,
): Promise<AggregationRow[]> {
  const ask = async (field: string, condition: Query, prefix = '') => {
    const groupBy = [...aggregation.groupBy, field];
    const rows = await store.aggregate(only(selection, condition), { ...aggregation, groupBy });
    return rows.map((row) => ({ ...row, group: row.group.with(-1, `${prefix}${row.group.at(-1)}`) }));
  };
  const found = await Promise.all([
    ask(NAME, and(not(ACCOUNT), exists(NAME))),
    ask('audit.target.id', and(not(ACCOUNT), not(exists(NAME)))),
    ask('event.action', ACCOUNT, ACCOUNTS),
  ]);
  const { orderBy, limit } = aggregation;
  const rank = (row: AggregationRow) => (orderBy ? rankOf(row, orderBy) : row.count);
  return found
    .flat()
    .sort((a, b) => rank(b) - rank(a) || compareText(JSON.stringify(a.group), JSON.stringify(b.group)))
    .slice(0, limit);
}

/** The accesses to a target that `aggregateTargets` gave this text. */
export function isTarget(text: string): Query {
  const named = and(not(ACCOUNT), equals(NAME, text));
  const unnamed = and(not(ACCOUNT), not(exists(NAME)), equals('audit.target.id', text));
  const account = text.startsWith(ACCOUNTS) ? [and(ACCOUNT, equals('event.action', text.slice(ACCOUNTS.length)))] : [];
  return { kind: 'or', parts: [named, unnamed, ...account] };
}

/** Questions that one insight asks of the store at the same time. */
const AT_ONCE = 4;

/** The answers for all of them, in their order. */
export async function forEach<T, R>(items: readonly T[], ask: (item: T, at: number) => Promise<R>): Promise<R[]> {
  const answers: R[] = [];
  for (let at = 0; at < items.length; at += AT_ONCE) {
    const part = items.slice(at, at + AT_ONCE);
    answers.push(...(await Promise.all(part.map((item, index) => ask(item, at + index)))));
  }
  return answers;
}

export function column(name: string, title: string, type: ColumnType = 'text'): Column {
  return { name, title, type };
}

/** A table of at most `limit` of these rows. */
export function table(
  title: string,
  columns: readonly Column[],
  rows: readonly Readonly<Record<string, Cell>>[],
  { empty, limit = rows.length }: { readonly empty: string; readonly limit?: number },
): Table {
  return { title, columns, rows: rows.slice(0, limit), empty, more: rows.length > limit };
}

export function textOf(value: FieldValue | null | undefined, missing: string): string {
  return value === null || value === undefined ? missing : String(value);
}

export function countOf(row: AggregationRow, name: string): number {
  return row.counts?.[name] ?? 0;
}

/** Whole nanoseconds; null without a value. */
export function meanOf(measured: Measured | undefined): number | null {
  return measured && measured.count > 0 ? Math.round(measured.sum / measured.count) : null;
}

export function share(part: number, whole: number): number | null {
  return whole === 0 ? null : part / whole;
}

/** RFC 3339 with milliseconds, as exact as all stores tell it. */
export function timeText(milliseconds: number | undefined): string | null {
  return milliseconds === undefined ? null : new Date(milliseconds).toISOString();
}

export function rangeMs({ fromNs, toNs }: Question['selection']): { readonly fromMs: number; readonly toMs: number } {
  return { fromMs: nsToMs(fromNs), toMs: nsToMs(toNs) };
}

/** `1 access`, `3 accesses`. */
export function numbered(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString('en-US')} ${count === 1 ? one : many}`;
}

/** `12.3 %`, `0.04 %`: two digits that say something. */
export function percentText(value: number): string {
  const percent = value * 100;
  const digits = percent === 0 || percent >= 10 ? 0 : percent >= 1 ? 1 : 2;
  return `${percent.toFixed(digits)} %`;
}
