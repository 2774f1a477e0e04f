import { setTimeout as sleep } from 'node:timers/promises';
import type { AuditRecord } from '../../src/core/record.ts';
import { type House, LOG_TOLD_MAX } from './house.ts';
import type { Expected } from './load.ts';

/** Nothing more comes when nothing has come for this long: over the Collector's longest wait between two tries, 30 s. */
const QUIET_MS = 60_000;
const POLL_MS = 500;
const PAGE = 5_000;
const TOLD_MAX = 5;

export interface Found {
  readonly indexed: number;
  /** Records that say that something of their trace is not where they were made: it came to another instance. */
  readonly incomplete: number;
  /** Events whose access is told by the record that another instance made of its span alone. */
  readonly outranked: number;
}

interface Stored {
  readonly id: string;
  readonly index: string;
  readonly record: AuditRecord;
}

/** Waits until every expected record is there, or no more come; then throws an error that names what is missing, double or from nowhere. */
export async function checkIndexed(house: House, expected: Expected): Promise<Found> {
  const wanted = expected.ids.size + expected.targets.size;
  let most = -1;
  for (let quietMs = 0; quietMs < QUIET_MS; quietMs += POLL_MS) {
    const count = await visibleCount(house);
    if (count >= wanted && (await isSettled(house))) break;
    if (count > most) [most, quietMs] = [count, 0];
    await sleep(POLL_MS);
  }
  const stored = await everything(house);
  const faults = new Map<string, string[]>();
  const blame = (fault: string, what: string) => faults.set(fault, [...(faults.get(fault) ?? []), what]);
  const places = new Map<string, string[]>();
  for (const { id, index } of stored) places.set(id, [...(places.get(id) ?? []), index]);
  for (const [id, indices] of places) if (indices.length > 1) blame('in two indices', `${id}: ${indices}`);
  const visible = stored.filter(({ record }) => record.audit.superseded_by === undefined);
  const seen = new Set<string>();
  let outranked = 0;
  for (const { id, record } of visible) {
    const target = record.audit.target?.id ?? '';
    const key = expected.ids.has(id) ? id : expected.targets.has(target) ? target : undefined;
    if (key === undefined) blame('from nowhere', `${id} of trace ${record.trace?.id}: ${record.message}`);
    else if (seen.has(key)) blame('double', `${key}: ${record.message}`);
    else seen.add(key);
    if (expected.tied.has(id) && record.event.action !== 'open-chart') {
      // The event came to where the trace was routed later: it is the same access, and the record with more evidence stands.
      if (mayBeSplit(house, expected.parts.get(record.trace?.id ?? ''))) outranked++;
      else blame('event not joined', `${id} of trace ${record.trace?.id}: ${record.message}`);
    }
  }
  for (const key of [...expected.ids, ...expected.targets]) if (!seen.has(key)) blame('missing', key);
  if (faults.size > 0) throw new Error(`${describe(faults)}\n${await holdings(house)}`);
  const incomplete = visible.filter(({ record }) => record.audit.join.state !== 'complete').length;
  return { indexed: visible.length, incomplete, outranked };
}

/** From acknowledgement to a Spantrail: queues, and up to the longest wait between two tries. */
const ON_THE_WAY_MS = 40_000;

/** Was the routing changed while parts of the trace were on their way? */
function mayBeSplit({ changesMs }: House, parts: readonly number[] = []): boolean {
  const [first, last] = [Math.min(...parts), Math.max(...parts) + ON_THE_WAY_MS];
  return changesMs.some((change) => change > first && change < last);
}

async function isSettled({ instances }: House): Promise<boolean> {
  for (const instance of instances.values()) {
    const { pending, replaying, counters } = await instance.pipeline();
    const waiting = counters.find(({ name }) => name === 'forward_waiting')?.value ?? 0;
    if (replaying || pending.evidence + waiting > 0) return false;
  }
  return true;
}

/** What each instance still has, and what its store says: a failure must tell where the rest is. */
async function holdings(house: House): Promise<string> {
  const told = [...house.instances].map(async ([name, instance]) => {
    const answer = await instance.pipeline().catch((thrown: unknown) => ({ silent: String(thrown) }));
    if ('silent' in answer) return `${name}: ${answer.silent}`;
    const { store, pending, replaying, refusing, sums } = answer;
    const held = JSON.stringify({ store, pending, replaying, refusing, sums, counters: answer.counters });
    return `${name}: ${held}\n${instance.log().slice(-LOG_TOLD_MAX)}`;
  });
  return [...(await Promise.all(told)), `Collector:\n${await house.collectorLog()}`].join('\n');
}

async function visibleCount({ cluster, namespace }: House): Promise<number> {
  const query = { bool: { must_not: { exists: { field: 'audit.superseded_by' } } } };
  const { count } = (await ask(`${cluster.urls[0]}/spantrail-audit-${namespace}-*/_count`, { query })) as {
    count: number;
  };
  return count;
}

async function everything({ cluster, namespace }: House): Promise<Stored[]> {
  const index = `${cluster.urls[0]}/spantrail-audit-${namespace}-*`;
  await ask(`${index}/_refresh`, {});
  const { id } = (await ask(`${index}/_pit?keep_alive=5m`, {})) as { id: string };
  const found: Stored[] = [];
  let after: readonly unknown[] | undefined;
  for (;;) {
    const page = await ask(`${cluster.urls[0]}/_search`, {
      ...{ size: PAGE, pit: { id, keep_alive: '5m' }, sort: [{ _shard_doc: 'asc' }], track_total_hits: false },
      ...(after && { search_after: after }),
    });
    const { hits } = (page as { hits: { hits: Hit[] } }).hits;
    if (hits.length === 0) return found;
    for (const hit of hits) found.push({ id: hit._id, index: hit._index, record: hit._source });
    after = hits.at(-1)?.sort;
  }
}

interface Hit {
  readonly _id: string;
  readonly _index: string;
  readonly _source: AuditRecord;
  readonly sort: readonly unknown[];
}

async function ask(url: string, body: object): Promise<unknown> {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(url, {
    method: 'POST',
    headers,
    ...(Object.keys(body).length > 0 && { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return response.json();
}

function describe(faults: ReadonlyMap<string, readonly string[]>): string {
  return [...faults]
    .flatMap(([fault, list]) => [`${fault}: ${list.length}`, ...list.slice(0, TOLD_MAX).map((what) => `  ${what}`)])
    .join('\n');
}
