import type { DuckDBConnection, DuckDBValue } from '@duckdb/node-api';
import { type Field, fieldValues } from '../../core/fields.ts';
import type { AuditRecord } from '../../core/record.ts';
import { comparable } from '../../query/evaluate.ts';
import { checkPageLimit, decodeCursor, encodeCursor, histogramWidthNs, type Position, sortField } from '../paging.ts';
import type { HistogramBucket, Page, Selection, Sort } from '../port.ts';
import { type FormTexts, filled } from './form-texts.ts';
import { DOCUMENT_LANES, LANE_TEXT, recordsSql } from './schema.ts';
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

/** What documents are made of, as SQL: columns of `records`. */
export const STORED = `${LANE_TEXT}, form`;

/** The documents of a statement whose columns are those of `STORED`. */
export async function documents(
  connection: DuckDBConnection,
  texts: FormTexts,
  sql: string,
  bindings: Bindings,
): Promise<AuditRecord[]> {
  const rows = await query(connection, sql, bindings);
  const forms = await texts.load(
    connection,
    rows.flatMap(([, form]) => (typeof form === 'bigint' ? [form] : [])),
  );
  return rows.map(([stored, form]) => {
    const text = typeof form === 'bigint' ? filled(forms.get(form), String(stored)) : String(stored);
    return JSON.parse(text) as AuditRecord;
  });
}

export async function search(
  connection: DuckDBConnection,
  texts: FormTexts,
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
  const condition = where.join(' AND ');
  const found = await inSnapshot(connection, async () => {
    const sql = `SELECT rowid, lane, "@timestamp", form FROM ${recordsSql(condition, key)} WHERE ${condition}
      ORDER BY ${key} ${sort.direction} NULLS LAST, id ASC LIMIT ${limit + 1}`;
    const rows = await query(connection, sql, bindings);
    return documentsAt(
      connection,
      texts,
      rows.map(([row, lane, timeNs, form]) => ({
        row: BigInt(String(row)),
        lane: Number(lane ?? 0),
        timeNs: BigInt(String(timeNs)),
        form: typeof form === 'bigint' ? form : undefined,
      })),
    );
  });
  const records = found.slice(0, limit);
  const last = records.at(-1);
  if (found.length <= limit || !last) return { records };
  const value = fieldValues(last, field.name)[0];
  const id = last.event.id;
  return { records, next: encodeCursor(sort, value === undefined ? { id } : { id, value }) };
}

/** Where a document is: the row, its place in `DOCUMENT_LANES`, and the form whose gaps' texts are there. */
interface Place {
  readonly row: bigint;
  readonly lane: number;
  readonly timeNs: bigint;
  readonly form: bigint | undefined;
}

/**
 * The documents at these places, in this order. In statements of their own: sorting with the documents, or joining them back,
 * reads and unpacks those of all rows, and a statement over two lanes unpacks both for each of its rows. By numbers of rows alone
 * DuckDB looks into every group of them; by times it leaves out most.
 */
async function documentsAt(
  connection: DuckDBConnection,
  formTexts: FormTexts,
  places: readonly Place[],
): Promise<AuditRecord[]> {
  const texts = new Map<bigint, string>();
  for (const [at, lane] of DOCUMENT_LANES.entries()) {
    const own = places.filter((place) => place.lane === at);
    if (own.length === 0) continue;
    const times = own.map(({ timeNs }) => timeNs).sort((a, b) => (a < b ? -1 : Number(a > b)));
    const sql = `SELECT rowid, ${lane} FROM records WHERE ${rowsSql(own.map(({ row }) => row))}
      AND "@timestamp" BETWEEN ${times[0]} AND ${times.at(-1)}`;
    for (const [row, text] of await query(connection, sql)) texts.set(BigInt(String(row)), String(text));
  }
  const forms = await formTexts.load(
    connection,
    places.flatMap(({ form }) => form ?? []),
  );
  return places.map(({ row, form }) => {
    const text = texts.get(row) ?? 'null';
    return JSON.parse(form === undefined ? text : filled(forms.get(form), text)) as AuditRecord;
  });
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

export async function histogram(
  connection: DuckDBConnection,
  selection: Selection,
  bucketMs: number,
): Promise<HistogramBucket[]> {
  const range = new Bindings();
  const inRange = selectionSql(selection, range);
  const extent = `SELECT min("@timestamp"), max("@timestamp") FROM ${recordsSql(inRange)} WHERE ${inRange}`;
  const [ends] = await query(connection, extent, range);
  if (ends?.[0] === null || ends === undefined) return [];
  const [firstNs, lastNs] = [BigInt(String(ends[0])), BigInt(String(ends[1]))];
  const widthNs = histogramWidthNs(bucketMs, firstNs, lastNs);
  const bindings = new Bindings();
  // Records written since the extent was read are left for the next call. There is no bound after the last BIGINT.
  const within = { ...selection, fromNs: firstNs, ...(lastNs < BIGINT_MAX && { toNs: lastNs + 1n }) };
  const width = bindings.add(widthNs);
  const condition = selectionSql(within, bindings);
  const rows = await query(
    connection,
    `SELECT "@timestamp" // ${width} * ${width} AS start, count(*), count(*) FILTER ("event.outcome" = 'failure'),
      count(*) FILTER ("audit.decision" = 'deny') FROM ${recordsSql(condition)} WHERE ${condition} GROUP BY start`,
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
