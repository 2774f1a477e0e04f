import { text } from 'node:stream/consumers';
import { AppError } from '../../core/errors.ts';
import type { AuditRecord } from '../../core/record.ts';
import type { Connection } from './connection.ts';

/** A stored document with its exact rank. */
export interface ExactHit {
  readonly id: string;
  readonly index: string;
  readonly rank: bigint;
  readonly record: AuditRecord;
}

interface RawHit {
  readonly _id: string;
  readonly _index: string;
  readonly _version?: string;
  readonly _source?: AuditRecord;
  readonly error?: { readonly type?: string; readonly reason?: string };
}

interface RawAnswer {
  readonly docs?: readonly RawHit[];
  readonly hits?: { readonly hits: readonly RawHit[] };
}

/** What `readExact` asks for a search: half of an answer is no answer. */
export const WHOLE_SEARCH = '_search?allow_partial_search_results=false&ignore_unavailable=true';

/** An index that is deleted, or closed, holds nothing any more. */
const NO_INDEX = new Set(['index_not_found_exception', 'index_closed_exception']);

/**
 * The documents that a `_mget` or `_search` request finds. Ranks use 63 bits and JSON.parse keeps 53, so versions are turned into text
 * before parsing. (A text value cannot be mistaken for one: quotes inside it are escaped.) Throws `store_unavailable` when
 * one of them cannot be read now.
 */
export async function readExact(connection: Connection, path: string, body: object): Promise<ExactHit[]> {
  const raw = await connection.request(async (client) => {
    const answer = await client.transport.request({ method: 'POST', path, body }, { asStream: true });
    return text(answer as unknown as NodeJS.ReadableStream);
  });
  const answer = JSON.parse(raw.replace(/"_version":(\d+)/g, '"_version":"$1"')) as RawAnswer;
  const hits: ExactHit[] = [];
  for (const hit of answer.docs ?? answer.hits?.hits ?? []) {
    if (hit.error && !NO_INDEX.has(hit.error.type ?? '')) {
      const reason = `${hit.error.type}: ${hit.error.reason}`;
      throw new AppError('store_unavailable', `Elasticsearch cannot read from ${hit._index}: ${reason}`);
    }
    if (hit._version === undefined || !hit._source) continue;
    hits.push({ id: hit._id, index: hit._index, rank: BigInt(hit._version), record: hit._source });
  }
  return hits;
}
