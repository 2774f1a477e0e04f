import type { PipelineAnswer, Sum } from '../../src/api/contract.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { sleep } from '../bench/probe.ts';
import { canonicalText, contentDigest, type Oracle, withoutExempt } from './oracle.ts';
import type { ApiClient } from './process.ts';

/** A process that has stored nothing for this long, though there is something to be stored, is stuck. */
const STUCK_MS = 240_000;
const POLL_MS = 25;
/** Faults of each kind that are told one by one. */
const TOLD_MAX = 5;
const ID_PAGE = 10_000;

export interface CheckOptions {
  readonly api: ApiClient;
  readonly oracle: Oracle;
  readonly namespace: string;
  /** Where its indices can be asked directly. */
  readonly elasticsearchUrl?: string | undefined;
  /** Times whose records are compared one by one, epoch milliseconds; all records without them. */
  readonly ranges?: readonly (readonly [number, number])[];
}

/** Resolves when everything that was acknowledged is stored. */
export async function untilSettled(api: ApiClient): Promise<PipelineAnswer> {
  let least = Number.POSITIVE_INFINITY;
  let progressMs = performance.now();
  for (;;) {
    const answer = await api.pipeline();
    const { evidence } = answer.pending;
    if (!answer.replaying && evidence === 0) return answer;
    if (evidence < least || answer.replaying) {
      least = evidence;
      progressMs = performance.now();
    }
    if (performance.now() - progressMs > STUCK_MS) {
      throw new Error(`nothing was stored for ${STUCK_MS} ms: ${JSON.stringify(answer)}`);
    }
    await sleep(POLL_MS);
  }
}

/** Throws an error that names what is missing, double, wrong or from nowhere. Returns how many records were compared. */
export async function checkRecords(options: CheckOptions): Promise<number> {
  const { api, oracle, namespace, elasticsearchUrl, ranges } = options;
  if (elasticsearchUrl !== undefined) await refresh(elasticsearchUrl, namespace);
  const expected = oracle.records;
  const count = await api.count(namespace);
  const faults = new Map<string, string[]>();
  const blame = (fault: string, what: string) => faults.set(fault, [...(faults.get(fault) ?? []), what]);
  const seen = new Set<string>();
  for (const range of ranges ?? [undefined]) {
    for await (const record of api.records(namespace, range)) {
      const { id } = record.event;
      if (seen.has(id)) blame('double', id);
      seen.add(id);
      const wanted = expected.get(id);
      if (wanted === undefined) blame('from nowhere', `${id} of trace ${record.trace?.id}: ${record.message}`);
      else if (wanted !== contentDigest(record)) blame('wrong', difference(record, oracle, id));
    }
  }
  if (ranges === undefined) for (const id of expected.keys()) if (!seen.has(id)) blame('missing', id);
  if (count !== expected.size) blame('count', `${count} can be found, ${expected.size} were acknowledged`);
  if (elasticsearchUrl !== undefined && ranges === undefined) {
    for (const id of await doubledIds(elasticsearchUrl, namespace)) blame('in two indices', id);
  }
  if (faults.size > 0) throw new Error(describe(faults));
  return seen.size;
}

/**
 * Throws when a sum of the pipeline does not come out even, or knows of less evidence than was acknowledged. More is right: a
 * kill may come between the fsync and the acknowledgement, and what was sent again is counted again.
 */
export function checkSums({ sums }: PipelineAnswer, acknowledged: Oracle['evidence']): readonly Sum[] {
  const uneven = sums.filter((sum) => sum.difference !== 0 || sum.pending !== 0);
  const short = sums.filter(
    (sum) => sum.of !== 'records' && sum.of !== 'metrics' && sum.accepted < acknowledged[sum.of],
  );
  if (uneven.length === 0 && short.length === 0 && sums.length > 0) return sums;
  throw new Error(`acknowledged ${JSON.stringify(acknowledged)}, but the sums are ${JSON.stringify(sums)}`);
}

/** Throws when something is unaccounted for right now, whatever is going on: the sums are of one moment. */
export function checkSumsNow({ sums }: PipelineAnswer): void {
  if (sums.every((sum) => sum.difference === 0)) return;
  throw new Error(`something is unaccounted for: ${JSON.stringify(sums)}`);
}

/** Fields that differ told of one record. */
const FIELDS_TOLD_MAX = 6;

function difference(found: AuditRecord, oracle: Oracle, id: string): string {
  const expected = oracle.expected(id);
  if (expected === undefined)
    return `${id}: its evidence is no longer kept, found ${canonicalText(found).slice(0, 400)}`;
  const wanted = leaves(withoutExempt(expected));
  const given = leaves(withoutExempt(found));
  const paths = [...new Set([...wanted.keys(), ...given.keys()])].filter(
    (path) => wanted.get(path) !== given.get(path),
  );
  const told = paths.slice(0, FIELDS_TOLD_MAX).map((path) => `${path} is ${given.get(path)}, not ${wanted.get(path)}`);
  return `${id} of trace ${found.trace?.id}: ${paths.length} fields: ${told.join('; ')}`;
}

/** Every scalar of a document by its path. */
function leaves(value: unknown, path = '', into = new Map<string, string>()): Map<string, string> {
  if (typeof value !== 'object' || value === null) into.set(path, JSON.stringify(value) ?? 'absent');
  else for (const [key, held] of Object.entries(value)) leaves(held, path === '' ? key : `${path}.${key}`, into);
  return into;
}

function describe(faults: ReadonlyMap<string, readonly string[]>): string {
  const lines = [...faults].flatMap(([fault, list]) => [
    `${fault}: ${list.length}`,
    ...list.slice(0, TOLD_MAX).map((what) => `  ${what}`),
  ]);
  return lines.join('\n');
}

async function refresh(url: string, namespace: string): Promise<void> {
  await ask(`${url}/spantrail-audit-${namespace}-*/_refresh`, 'POST');
}

async function doubledIds(url: string, namespace: string): Promise<string[]> {
  const seen = new Set<string>();
  const doubled: string[] = [];
  for await (const { id } of storedDocuments(url, namespace)) {
    if (seen.has(id)) doubled.push(id);
    seen.add(id);
  }
  return doubled;
}

interface StoredDocument {
  readonly id: string;
  readonly traceId: string;
}

/** Every document of current records, superseded ones included, in whatever indices they are. */
export async function* storedDocuments(url: string, namespace: string): AsyncIterable<StoredDocument> {
  await refresh(url, namespace);
  const opened = await ask(`${url}/spantrail-audit-${namespace}-*/_pit?keep_alive=5m`, 'POST');
  const { id: pit } = opened as { id: string };
  let after: readonly unknown[] | undefined;
  for (;;) {
    const answer = await ask(`${url}/_search`, 'POST', {
      size: ID_PAGE,
      pit: { id: pit, keep_alive: '5m' },
      sort: [{ _shard_doc: 'asc' }],
      _source: false,
      fields: ['trace.id'],
      track_total_hits: false,
      ...(after && { search_after: after }),
    });
    const { hits } = (answer as { hits: { hits: Hit[] } }).hits;
    if (hits.length === 0) break;
    for (const { _id: id, fields } of hits) yield { id, traceId: String(fields?.['trace.id']?.[0] ?? '') };
    after = hits.at(-1)?.sort;
  }
  await ask(`${url}/_pit`, 'DELETE', { id: pit });
}

interface Hit {
  readonly _id: string;
  readonly sort: readonly unknown[];
  readonly fields?: Readonly<Record<string, readonly unknown[]>>;
}

async function ask(url: string, method: string, body?: object): Promise<unknown> {
  const response = await fetch(url, {
    method,
    ...(body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${await response.text()}`);
  return response.json();
}
