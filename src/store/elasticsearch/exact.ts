import { Serializer } from '@elastic/elasticsearch';
import { AppError } from '../../core/errors.ts';
import type { AuditRecord } from '../../core/record.ts';
import type { Connection } from './connection.ts';

/** How the answer to a bulk request begins of which `bulk.ts` asks nothing but what went wrong, on every server supported. */
const ALL_WENT_WELL = '{"errors":false,"items":';

/**
 * Reads versions as text: ranks use 63 bits and JSON.parse keeps 53. (A text value cannot be mistaken for one: quotes
 * inside it are escaped.)
 */
export class ExactSerializer extends Serializer {
  override deserialize<T>(json: string): T {
    // Of a bulk answer this is all that anybody asks then, and the list after it is as long as the request's.
    if (json.startsWith(ALL_WENT_WELL)) return { errors: false } as T;
    return super.deserialize(
      json.includes('"_version":') ? json.replace(/"_version":(\d+)/g, '"_version":"$1"') : json,
    );
  }
}

/** Where a stored document is, with its exact rank. */
export interface RankHit {
  readonly id: string;
  readonly index: string;
  readonly rank: bigint;
}

export interface ExactHit extends RankHit {
  readonly record: AuditRecord;
}

interface RawHit {
  readonly _id: string;
  readonly _index: string;
  readonly _version?: string;
  readonly _source?: AuditRecord;
  readonly error?: { readonly type?: string; readonly reason?: string };
}

interface FoundHit extends RawHit {
  readonly _version: string;
}

interface RawAnswer {
  readonly docs?: readonly RawHit[];
  readonly hits?: { readonly hits: readonly RawHit[] };
}

/** What `readExact` asks for a search: half of an answer is no answer. */
export const WHOLE_SEARCH = '_search?allow_partial_search_results=false&ignore_unavailable=true';

/** Its shards are not at work yet. */
export const NO_SHARD = 'no_shard_available_action_exception';

/** An index that is deleted, or closed, holds nothing any more. */
const NO_INDEX = new Set(['index_not_found_exception', 'index_closed_exception']);

/** The documents, as `readRanks` finds them, of a request that asks for their source. */
export async function readExact(connection: Connection, path: string, body: object): Promise<ExactHit[]> {
  const hits = await readHits(connection, path, body);
  return hits.flatMap(({ _source: record, ...hit }) => (record ? [{ ...toRank(hit), record }] : []));
}

/**
 * The documents that a `_mget` or `_search` request finds, without their source. Throws `store_unavailable` when one of them
 * cannot be read now.
 */
export async function readRanks(connection: Connection, path: string, body: object): Promise<RankHit[]> {
  return (await readHits(connection, path, body)).map(toRank);
}

/** Where a document may be. */
export interface Place {
  readonly _index: string;
  readonly _id: string;
}

/**
 * Is there a document in any of these places, as of this very moment, or can it not be told? No, for nearly all that is written for
 * the first time: then the answer is empty, however many were asked for.
 */
export async function isAnyHeld(connection: Connection, places: readonly Place[]): Promise<boolean> {
  const index = places[0]?._index;
  const isOne = places.every(({ _index }) => _index === index);
  const path = `${isOne ? `/${index}` : ''}/_mget?_source=false&filter_path=docs._version,docs.error`;
  const body = isOne ? { ids: places.map(({ _id }) => _id) } : { docs: places };
  const answer = await connection.request((client) =>
    client.transport.request<RawAnswer>({ method: 'POST', path, body }),
  );
  return (answer.docs ?? []).length > 0;
}

async function readHits(connection: Connection, path: string, body: object): Promise<FoundHit[]> {
  const answer = await connection.read(
    (client) => client.transport.request<RawAnswer>({ method: 'POST', path, body }),
    ({ docs }) => docs?.some(({ error }) => error?.type === NO_SHARD) ?? false,
  );
  const hits: FoundHit[] = [];
  for (const hit of answer.docs ?? answer.hits?.hits ?? []) {
    if (hit.error && !NO_INDEX.has(hit.error.type ?? '')) {
      const reason = `${hit.error.type}: ${hit.error.reason}`;
      throw new AppError('store_unavailable', `Elasticsearch cannot read from ${hit._index}: ${reason}`);
    }
    // What is not found has no version.
    if (hit._version !== undefined) hits.push({ ...hit, _version: hit._version });
  }
  return hits;
}

function toRank({ _id: id, _index: index, _version }: FoundHit): RankHit {
  return { id, index, rank: BigInt(_version) };
}
