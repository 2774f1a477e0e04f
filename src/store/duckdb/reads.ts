import type { DuckDBConnection, DuckDBValue } from '@duckdb/node-api';
import { type Field, fieldValues } from '../../core/fields.ts';
import type { AuditRecord } from '../../core/record.ts';
import { comparable, evaluate } from '../../query/evaluate.ts';
import { checkPageLimit, decodeCursor, encodeCursor, histogramWidthNs, type Position, sortField } from '../paging.ts';
import type { HistogramBucket, Page, Selection, Sort } from '../port.ts';
import { type FormTexts, filled } from './form-texts.ts';
import { DOCUMENT_LANES, LANE_TEXT, recordsSql } from './schema.ts';
import { BIGINT_MAX, Bindings, keyedPart, rowsSql, selectionSql, storedValue, valueSql } from './sql.ts';

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
  const position = cursor === undefined ? undefined : decodeCursor(cursor, sort);
  const afterNs = position && timeOf(field, position);
  const isByTime = field.name === '@timestamp' && (position === undefined || afterNs !== undefined);
  const keyed = keyedPart(selection.query);
  const first = (isNearly: boolean) =>
    inSnapshot(connection, async () => {
      const conditionOf = (bindings: Bindings) => selectionSql(selection, bindings, isNearly);
      const places = isByTime
        ? await placesByTime(connection, conditionOf, sort, limit + 1, afterNs, position?.id)
        : await placesBy(connection, conditionOf, sort, limit + 1, position);
      const records = await documentsAt(connection, texts, places);
      return isByTime ? inOrder(places, records) : records;
    });
  let found = await first(keyed !== undefined);
  // The first of more records are the first of those that fit, as long as they all fit: hardly ever has another value the same key.
  if (keyed !== undefined && !found.every((record) => evaluate(keyed, record))) found = await first(false);
  const records = found.slice(0, limit);
  const last = records.at(-1);
  if (found.length <= limit || !last) return { records };
  const value = fieldValues(last, field.name)[0];
  const id = last.event.id;
  return { records, next: encodeCursor(sort, value === undefined ? { id } : { id, value }) };
}

/** The condition that records have to fit. */
type ConditionOf = (bindings: Bindings) => string;

function timeOf(field: Field, { value }: Position): bigint | undefined {
  const time = value === undefined ? undefined : comparable(field, value);
  return typeof time === 'bigint' ? time : undefined;
}

/** The first places by any field, then by id. */
function placesBy(
  connection: DuckDBConnection,
  conditionOf: ConditionOf,
  sort: Sort,
  limit: number,
  position: Position | undefined,
): Promise<Place[]> {
  const field = sortField(sort);
  const key = valueSql(field);
  const bindings = new Bindings();
  const where = [conditionOf(bindings)];
  if (position !== undefined) where.push(afterSql(field, key, sort, position, bindings));
  const order = `${key} ${sort.direction} NULLS LAST, id ASC`;
  return placesOf(connection, where.join(' AND '), bindings, order, limit);
}

/**
 * The first places by time; those of one time in any order, but where the last have to be chosen among others of their time. DuckDB
 * unpacks the ids of all that fit where it is to sort by them, which takes longer than all else; few records have the same time.
 */
async function placesByTime(
  connection: DuckDBConnection,
  conditionOf: ConditionOf,
  { direction }: Sort,
  limit: number,
  afterNs: bigint | undefined,
  afterId: string | undefined,
): Promise<Place[]> {
  const places: Place[] = [];
  const addOfTime = async (timeNs: bigint, after: string | undefined): Promise<void> => {
    const bindings = new Bindings();
    const where = [conditionOf(bindings), `"@timestamp" = ${bindings.add(timeNs)}`];
    if (after !== undefined) where.push(`id > ${bindings.add(after)}`);
    const left = limit - places.length;
    places.push(...(await placesOf(connection, where.join(' AND '), bindings, 'id ASC', left)));
  };
  if (afterNs !== undefined) await addOfTime(afterNs, afterId);
  const left = limit - places.length;
  if (left === 0) return places;
  const bindings = new Bindings();
  const where = [conditionOf(bindings)];
  const beyond = direction === 'asc' ? '>' : '<';
  if (afterNs !== undefined) where.push(`"@timestamp" ${beyond} ${bindings.add(afterNs)}`);
  // One more than is wanted tells whether the last that is wanted is the last of its time.
  const next = await placesOf(connection, where.join(' AND '), bindings, `"@timestamp" ${direction}`, left + 1);
  const lastNs = next[left - 1]?.timeNs;
  if (lastNs === undefined || next[left]?.timeNs !== lastNs) return [...places, ...next.slice(0, left)];
  for (const place of next) if (place.timeNs !== lastNs) places.push(place);
  await addOfTime(lastNs, undefined);
  return places;
}

async function placesOf(
  connection: DuckDBConnection,
  condition: string,
  bindings: Bindings,
  order: string,
  limit: number,
): Promise<Place[]> {
  const sql = `SELECT rowid, lane, "@timestamp", form FROM ${recordsSql(condition, order)} WHERE ${condition}
    ORDER BY ${order} LIMIT ${limit}`;
  const rows = await query(connection, sql, bindings);
  return rows.map(([row, lane, timeNs, form]) => ({
    row: BigInt(String(row)),
    lane: Number(lane ?? 0),
    timeNs: BigInt(String(timeNs)),
    form: typeof form === 'bigint' ? form : undefined,
  }));
}

/** Those of one time, which stand together, by their ids. */
function inOrder(places: readonly Place[], records: readonly AuditRecord[]): AuditRecord[] {
  const ordered: AuditRecord[] = [];
  for (let from = 0, to = 0; from < places.length; from = to) {
    const { timeNs } = places[from] as Place;
    while (places[to]?.timeNs === timeNs) to++;
    const ofTime = records.slice(from, to);
    if (ofTime.length > 1) ofTime.sort((a, b) => (a.event.id < b.event.id ? -1 : 1));
    ordered.push(...ofTime);
  }
  return ordered;
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
 * DuckDB looks into every group of them; by their times it leaves out most.
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
    const sql = `SELECT rowid, ${lane} FROM records WHERE ${rowsSql(own.map(({ row }) => row))}
      AND "@timestamp" IN (${own.map(({ timeNs }) => timeNs).join(', ')})`;
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
  return `((${after}) OR ${key} IS NULL)`;
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
