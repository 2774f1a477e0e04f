import { Serializer } from '@elastic/elasticsearch';
import { AppError } from '../../core/errors.ts';
import type { AuditRecord } from '../../core/record.ts';
import type { Connection } from './connection.ts';

/**
 * Reads versions as text: ranks use 63 bits and JSON.parse keeps 53. (A text value cannot be mistaken for one: quotes
 * inside it are escaped.)
 */
export class ExactSerializer extends Serializer {
  override deserialize<T>(json: string): T {
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

async function readHits(connection: Connection, path: string, body: object): Promise<FoundHit[]> {
  const answer = await connection.request((client) =>
    client.transport.request<RawAnswer>({ method: 'POST', path, body }),
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
