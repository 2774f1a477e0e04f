import { type DuckDBConnection, DuckDBListValue, type DuckDBValue } from '@duckdb/node-api';
import { type Field, type FieldValue, fieldValues } from '../../core/fields.ts';
import type { AuditRecord } from '../../core/record.ts';
import { comparable } from '../../query/evaluate.ts';
import { ipText } from '../../query/text.ts';
import {
  checkAggregation,
  checkGroupLimit,
  checkPageLimit,
  decodeCursor,
  encodeCursor,
  groupField,
  histogramWidthNs,
  measureField,
  type Position,
  sortField,
} from '../paging.ts';
import type { Aggregation, AggregationRow, Facet, HistogramBucket, Page, Selection, Sort } from '../port.ts';
import { BIGINT_MAX, Bindings, rowsSql, selectionSql, storedValue, valueSql } from './sql.ts';

/** Rows of a statement, BIGINT as bigint and lists as arrays. */
export async function query(
  connection: DuckDBConnection,
  sql: string,
  bindings = new Bindings(),
): Promise<DuckDBValue[][]> {
  const reader = await connection.runAndReadAll(sql, bindings.values, bindings.types);
  return reader.getRows();
}

/** The documents of a statement whose first column is `doc`. */
export async function documents(connection: DuckDBConnection, sql: string, bindings: Bindings): Promise<AuditRecord[]> {
  const rows = await query(connection, sql, bindings);
  return rows.map(([doc]) => JSON.parse(String(doc)) as AuditRecord);
}

export async function search(
  connection: DuckDBConnection,
  selection: Selection,
  sort: Sort,
  limit: number,
  cursor?: string,
): Promise<Page> {
  checkPageLimit(limit);
  const field = sortField(sort);
  const bindings = new Bindings();
  const key = valueSql(field);
  const where = [selectionSql(selection, bindings)];
  if (cursor !== undefined) where.push(afterSql(field, key, sort, decodeCursor(cursor, sort), bindings));
  const sql = `SELECT rowid FROM records WHERE ${where.join(' AND ')}
    ORDER BY ${key} ${sort.direction} NULLS LAST, id ASC LIMIT ${bindings.add(limit + 1)}`;
  const found = await inSnapshot(connection, async () => {
    const rows = await query(connection, sql, bindings);
    return documentsAt(
      connection,
      rows.map(([row]) => BigInt(String(row))),
    );
  });
  const records = found.slice(0, limit);
  const last = records.at(-1);
  if (found.length <= limit || !last) return { records };
  const value = fieldValues(last, field.name)[0];
  const id = last.event.id;
  return { records, next: encodeCursor(sort, value === undefined ? { id } : { id, value }) };
}

/**
 * The documents of these rows, in this order. In a statement of its own: sorting with the documents, or joining them back,
 * reads and unpacks those of all rows.
 */
async function documentsAt(connection: DuckDBConnection, rows: readonly bigint[]): Promise<AuditRecord[]> {
  if (rows.length === 0) return [];
  const sql = `SELECT rowid, doc FROM records WHERE ${rowsSql(rows)}`;
  const texts = new Map((await query(connection, sql)).map(([row, doc]) => [BigInt(String(row)), String(doc)]));
  return rows.map((row) => JSON.parse(texts.get(row) ?? 'null') as AuditRecord);
}

/** Row numbers hold within one transaction only. */
async function inSnapshot<T>(connection: DuckDBConnection, work: () => Promise<T>): Promise<T> {
  await connection.run('BEGIN TRANSACTION READ ONLY');
  try {
    return await work();
  } finally {
    await connection.run('ROLLBACK');
  }
}

/** The rows that come after a position: by key, then by id, rows without a key last. */
function afterSql(field: Field, key: string, sort: Sort, position: Position, bindings: Bindings): string {
  const id = bindings.add(position.id);
  const value = position.value === undefined ? undefined : comparable(field, position.value);
  if (value === undefined) return `(${key} IS NULL AND id > ${id})`;
  const bound = bindings.add(storedValue(field, field.type === 'ip' ? (position.value ?? '') : value));
  const [beyond, reached] = sort.direction === 'asc' ? ['>', '>='] : ['<', '<='];
  const after = `${key} ${reached} ${bound} AND (${key} ${beyond} ${bound} OR id > ${id})`;
  // Every record has a time: without the OR, row groups before the position are skipped.
  return field.name === '@timestamp' ? after : `((${after}) OR ${key} IS NULL)`;
}

export async function facets(
  connection: DuckDBConnection,
  selection: Selection,
  names: readonly string[],
  limit: number,
): Promise<Facet[]> {
  checkGroupLimit(limit);
  const list: Facet[] = [];
  for (const name of names) {
    const rows = await aggregate(connection, selection, { groupBy: [name], limit });
    list.push({ field: name, buckets: rows.map(({ group, count }) => ({ value: group[0] ?? '', count })) });
  }
  return list;
}

export async function histogram(
  connection: DuckDBConnection,
  selection: Selection,
  bucketMs: number,
): Promise<HistogramBucket[]> {
  const range = new Bindings();
  const extent = `SELECT min("@timestamp"), max("@timestamp") FROM records WHERE ${selectionSql(selection, range)}`;
  const [ends] = await query(connection, extent, range);
  if (ends?.[0] === null || ends === undefined) return [];
  const [firstNs, lastNs] = [BigInt(String(ends[0])), BigInt(String(ends[1]))];
  const widthNs = histogramWidthNs(bucketMs, firstNs, lastNs);
  const bindings = new Bindings();
  // Records written since the extent was read are left for the next call. There is no bound after the last BIGINT.
  const within = { ...selection, fromNs: firstNs, ...(lastNs < BIGINT_MAX && { toNs: lastNs + 1n }) };
  const width = bindings.add(widthNs);
  const rows = await query(
    connection,
    `SELECT "@timestamp" // ${width} * ${width} AS start, count(*), count(*) FILTER ("event.outcome" = 'failure'),
      count(*) FILTER ("audit.decision" = 'deny') FROM records WHERE ${selectionSql(within, bindings)} GROUP BY start`,
    bindings,
  );
  const filled = new Map(rows.map(([start, ...counts]) => [BigInt(String(start)), counts.map(Number)]));
  const buckets: HistogramBucket[] = [];
  for (let startNs = firstNs - (firstNs % widthNs); startNs <= lastNs; startNs += widthNs) {
    const [count = 0, failures = 0, denied = 0] = filled.get(startNs) ?? [];
    buckets.push({ startNs, count, failures, denied });
  }
  return buckets;
}

export async function aggregate(
  connection: DuckDBConnection,
  selection: Selection,
  aggregation: Aggregation,
): Promise<AggregationRow[]> {
  checkAggregation(aggregation);
  const { percentiles, distinct } = aggregation;
  const groups = aggregation.groupBy.map(groupField);
  const measured = percentiles && measureField(percentiles.field);
  const counted = distinct === undefined ? undefined : groupField(distinct);
  const bindings = new Bindings();
  const columns = groups.map((field, index) => `${groupValues(field)} AS g${index}`);
  if (measured) columns.push(`CAST(${valueSql(measured)} AS DOUBLE) AS measure`);
  if (counted) columns.push(`${counted.many ? valueSql(counted) : `[${valueSql(counted)}]`} AS counted`);
  let from = `SELECT ${['1 AS one', ...columns].join(', ')} FROM records WHERE ${selectionSql(selection, bindings)}`;
  // One level each: several unnest() side by side would be zipped, not combined.
  for (const index of groups.keys()) from = `SELECT * REPLACE (unnest(g${index}) AS g${index}) FROM (${from})`;
  const keys = groups.map((_, index) => `g${index}`);
  const outputs = [...keys, 'count(*) AS total'];
  if (measured)
    outputs.push(
      `quantile_cont(measure, [${(percentiles?.percents ?? []).map((p) => bindings.add(p / 100)).join(', ')}])`,
    );
  if (counted) outputs.push('len(list_filter(list_distinct(flatten(list(counted))), lambda x: x IS NOT NULL))');
  const grouping = keys.length === 0 ? '' : `GROUP BY ${keys.join(', ')} ORDER BY total DESC, ${keys.join(', ')}`;
  const sql = `SELECT ${outputs.join(', ')} FROM (${from}) ${grouping} LIMIT ${bindings.add(aggregation.limit)}`;
  const rows = await query(connection, sql, bindings);
  return rows.map((row) => toRow(row, groups, measured && percentiles?.percents, counted !== undefined));
}

/** The values of a field as a list without repetition; empty when the record has none. */
function groupValues(field: Field): string {
  const value = valueSql(field);
  return field.many ? `list_distinct(${value})` : `CASE WHEN ${value} IS NULL THEN [] ELSE [${value}] END`;
}

function toRow(
  row: readonly DuckDBValue[],
  groups: readonly Field[],
  percents: readonly number[] | undefined,
  counts: boolean,
): AggregationRow {
  const group = groups.map((field, index) => toFieldValue(field, row[index] ?? null));
  const rest = row.slice(groups.length + 1);
  const quantiles = percents ? rest.shift() : undefined;
  const list = quantiles instanceof DuckDBListValue ? quantiles.items.map(Number) : [];
  return {
    group,
    count: Number(row[groups.length]),
    ...(percents && { percentiles: Object.fromEntries(list.map((value, index) => [String(percents[index]), value])) }),
    ...(counts && { distinct: Number(rest[0] ?? 0) }),
  };
}

function toFieldValue(field: Field, value: DuckDBValue): FieldValue {
  if (field.type === 'ip') return ipText(String(value));
  return typeof value === 'bigint' ? Number(value) : typeof value === 'boolean' ? value : String(value);
}
