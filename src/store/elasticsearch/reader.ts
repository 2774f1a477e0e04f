import type { estypes } from '@elastic/elasticsearch';
import { type Field, fieldValues } from '../../core/fields.ts';
import type { AuditRecord } from '../../core/record.ts';
import { checkPageLimit, decodeCursor, encodeCursor, type Position, SUPERSEDED_FIELD, sortField } from '../paging.ts';
import type { GetHint, Page, RankRequest, Selection, Sort } from '../port.ts';
import type { Connection } from './connection.ts';
import { readExact, readRanks, WHOLE_SEARCH } from './exact.ts';
import { type IndexPeriod, indexName, indexPattern } from './indices.ts';
import { not, selectionToDsl } from './query-dsl.ts';

/** Documents that one search request may return, by the server's default. */
const RESULT_WINDOW = 10_000;

const ITERATE_PAGE = 1_000;
const RANKS_PAGE = 1_000;
const POINT_IN_TIME_KEPT = '5m';

/** Half of an answer is no answer, for an audit: a shard that fails makes the search fail. */
export const WHOLE = { allow_partial_search_results: false, ignore_unavailable: true } as const;

type Dsl = estypes.QueryDslQueryContainer;

const BY_TIME: Sort = { field: '@timestamp', direction: 'asc' };

export async function search(
  connection: Connection,
  selection: Selection,
  sort: Sort,
  limit: number,
  cursor?: string,
): Promise<Page> {
  checkPageLimit(limit);
  const field = sortField(sort);
  const position = cursor === undefined ? undefined : decodeCursor(cursor, sort);
  const size = Math.min(limit + 1, RESULT_WINDOW);
  const source = { index: indexPattern('audit', selection.namespace), ...WHOLE };
  const found = await readPage(connection, source, selectionToDsl(selection), field, sort, size, position);
  const records = found.slice(0, limit);
  const last = records.at(-1);
  const isLastPage = found.length <= limit && (limit < RESULT_WINDOW || found.length < RESULT_WINDOW);
  return isLastPage || !last ? { records } : { records, next: encodeCursor(sort, positionOf(last, field)) };
}

/**
 * One page after a position. Records with the field come first and records without it after them, as two searches: a key
 * made by the server for a missing value would not survive JSON (it is the largest 64-bit number).
 */
async function readPage(
  connection: Connection,
  source: estypes.SearchRequest,
  filter: Dsl,
  field: Field,
  sort: Sort,
  size: number,
  position: Position | undefined,
): Promise<AuditRecord[]> {
  const has: Dsl = { exists: { field: field.name } };
  const read = (
    condition: Dsl,
    order: estypes.SortCombinations[],
    after: estypes.SortResults | undefined,
    count: number,
  ) =>
    readRecords(connection, {
      ...source,
      query: { bool: { filter: [filter, condition] } },
      sort: order,
      size: count,
      track_total_hits: false,
      ...(after && { search_after: after }),
    });
  const records: AuditRecord[] = [];
  if (!position || position.value !== undefined) {
    const after = position && [String(position.value), position.id];
    records.push(...(await read(has, [{ [field.name]: sortOrder(field, sort) }, { 'event.id': 'asc' }], after, size)));
  }
  if (records.length < size && field.name !== '@timestamp') {
    const after = position && position.value === undefined ? [position.id] : undefined;
    records.push(...(await read(not(has), [{ 'event.id': 'asc' }], after, size - records.length)));
  }
  return records;
}

/** Dates as text with nanoseconds: as numbers they would be rounded on the way. */
function sortOrder(field: Field, sort: Sort): estypes.FieldSort {
  const order = { order: sort.direction };
  if (field.type !== 'date') return { ...order, unmapped_type: field.type === 'duration' ? 'long' : sortType(field) };
  return { ...order, unmapped_type: 'date_nanos', format: 'strict_date_optional_time_nanos' };
}

function sortType(field: Field): estypes.MappingFieldType {
  return field.type === 'keyword' || field.type === 'ip' || field.type === 'boolean' || field.type === 'double'
    ? field.type
    : 'long';
}

function positionOf(record: AuditRecord, field: Field): Position {
  const id = record.event.id;
  const value = fieldValues(record, field.name)[0];
  return value === undefined ? { id } : { id, value };
}

async function readRecords(connection: Connection, request: estypes.SearchRequest): Promise<AuditRecord[]> {
  const answer = await connection.read((client) => client.search<AuditRecord>(request));
  return answer.hits.hits.flatMap((hit) => (hit._source ? [hit._source] : []));
}

/** Where the hint says, as of this very moment; else wherever a search finds it. */
export async function get(
  connection: Connection,
  id: string,
  period: IndexPeriod,
  hint?: GetHint,
): Promise<AuditRecord | undefined> {
  if (hint !== undefined) {
    const docs = [{ _index: indexName(hint.namespace, hint.timestampNs, period), _id: id }];
    const [found] = await readExact(connection, '/_mget', { docs });
    if (found) return found.record;
  }
  return (await current(connection, id))?.record;
}

/** The state with the highest rank: while a record moves to another day, two are there for a moment. */
async function current(connection: Connection, id: string) {
  const body = { query: { ids: { values: [id] } }, size: 10, version: true };
  const found = await readExact(connection, `/${indexPattern('audit')}/${WHOLE_SEARCH}`, body);
  return found.reduce((best, hit) => (best && best.rank > hit.rank ? best : hit), found[0]);
}

/** As of this very moment where the requests say; what is not there is looked for in all indices (the period may have changed). */
export async function ranks(
  connection: Connection,
  requests: readonly RankRequest[],
  period: IndexPeriod,
): Promise<(bigint | undefined)[]> {
  const found = new Map<string, bigint>();
  // Where a document is not at this moment a search may still find it, until the next refresh.
  const absent = new Map<string, string>();
  const take = async (path: string, body: object) => {
    for (const { id, index, rank } of await readRanks(connection, path, body)) {
      if (absent.get(id) === index) continue;
      if (rank > (found.get(id) ?? -1n)) found.set(id, rank);
    }
  };
  for (let at = 0; at < requests.length; at += RANKS_PAGE) {
    const part = requests.slice(at, at + RANKS_PAGE);
    const docs = part.map(({ id, namespace, timestampNs }) => ({
      _index: indexName(namespace, timestampNs, period),
      _id: id,
      _source: false,
    }));
    await take('/_mget', { docs });
    for (const { _id, _index } of docs) if (!found.has(_id)) absent.set(_id, _index);
    const values = part.flatMap(({ id }) => (found.has(id) ? [] : [id]));
    const query = { ids: { values } };
    const body = { query, size: 2 * values.length, version: true, _source: false, track_total_hits: false };
    if (values.length > 0) await take(`/${indexPattern('audit')}/${WHOLE_SEARCH}`, body);
  }
  return requests.map(({ id }) => found.get(id));
}

/** Kept states by the rank in their id, then the current one (which a crash may have kept already). */
export async function revisions(connection: Connection, id: string): Promise<readonly AuditRecord[]> {
  const now = await current(connection, id);
  const answer = await connection.read((client) =>
    client.search<AuditRecord>({
      index: indexPattern('revisions'),
      ...WHOLE,
      query: { term: { 'event.id': id } },
      size: RESULT_WINDOW,
    }),
  );
  const kept = new Map<bigint, AuditRecord>();
  for (const hit of answer.hits.hits) {
    if (hit._source && hit._id) kept.set(BigInt(hit._id.slice(hit._id.lastIndexOf('-') + 1)), hit._source);
  }
  if (now) kept.set(now.rank, now.record);
  return [...kept].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, record]) => record);
}

export async function trace(connection: Connection, traceId: string): Promise<readonly AuditRecord[]> {
  const records: AuditRecord[] = [];
  const filter: Dsl = {
    bool: { filter: [{ term: { 'trace.id': traceId } }, not({ exists: { field: SUPERSEDED_FIELD } })] },
  };
  for await (const page of pages(connection, { index: indexPattern('audit'), ...WHOLE }, filter)) records.push(...page);
  return records;
}

export async function count(connection: Connection, selection: Selection): Promise<number> {
  const answer = await connection.read((client) =>
    client.search({
      index: indexPattern('audit', selection.namespace),
      ...WHOLE,
      query: selectionToDsl(selection),
      size: 0,
      track_total_hits: true,
    }),
  );
  const total = answer.hits.total;
  return typeof total === 'object' ? total.value : (total ?? 0);
}

/** Reads one frozen state of the indices, so that what is written meanwhile neither repeats nor hides a record. */
export async function* iterate(connection: Connection, selection: Selection): AsyncIterable<AuditRecord> {
  const opened = await connection.read((client) =>
    client.openPointInTime({
      index: indexPattern('audit', selection.namespace),
      ignore_unavailable: true,
      keep_alive: POINT_IN_TIME_KEPT,
    }),
  );
  const source = { pit: { id: opened.id, keep_alive: POINT_IN_TIME_KEPT }, allow_partial_search_results: false };
  try {
    for await (const page of pages(connection, source, selectionToDsl(selection))) yield* page;
  } finally {
    // It would end by itself; a failure to end it sooner is no failure of the reading.
    await connection.client.closePointInTime({ id: opened.id }).catch(() => undefined);
  }
}

/** All that fits, oldest first, one page in memory at a time. */
async function* pages(
  connection: Connection,
  source: estypes.SearchRequest,
  filter: Dsl,
): AsyncIterable<readonly AuditRecord[]> {
  const field = sortField(BY_TIME);
  let position: Position | undefined;
  for (;;) {
    const page = await readPage(connection, source, filter, field, BY_TIME, ITERATE_PAGE, position);
    yield page;
    const last = page.at(-1);
    if (page.length < ITERATE_PAGE || !last) return;
    position = positionOf(last, field);
  }
}
