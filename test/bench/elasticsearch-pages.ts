/**
 * One actor's newest 100 records out of many in a real Elasticsearch, asked through the store.
 *
 *   node test/bench/elasticsearch-pages.ts fill FOLDER [millions: 20] [days: 4]   goes on where it was stopped
 *   node test/bench/elasticsearch-pages.ts pages FOLDER [pages: 40]               common, middle and rare actors
 *
 * The server and what it holds stay in FOLDER. `fill` writes below the store's own templates, one index a day, with plain bulk requests
 * (about 80 CPU seconds a million) and lets others have the machine. Records are what the real settle makes of the bench's spans, with
 * ids, times, things and people of their own.
 */
import { createCipheriv } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { Client } from '@elastic/elasticsearch';
import { formatTimestamp, parseTimestamp } from '../../src/core/clock.ts';
import { documentText } from '../../src/core/document.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { parseQuery } from '../../src/query/parse.ts';
import { indexName } from '../../src/store/elasticsearch/indices.ts';
import { openElasticsearchStore } from '../../src/store/elasticsearch/store.ts';
import type { Selection, Store } from '../../src/store/port.ts';
import { startElasticsearch } from '../setup/elasticsearch.ts';
import { SETTINGS } from '../store/elasticsearch-records.ts';
import { NEWEST_NS, settledRecords } from './duckdb-records.ts';

const NAMESPACE = 'default';
/** By a cubic law, as in `duckdb.ts`: the first has one of fifty-eight traces, the last one of six hundred thousand. */
const PEOPLE = 200_000;
const THINGS = 50_000;
const FIRST_DAY_NS = parseTimestamp('2026-11-19T00:00:00Z') ?? 0n;
const DAY_NS = 86_400_000_000_000n;
const RANK = 8n << 48n;

/** What is written between two notes of how far it is; a part that was broken off is written again, over itself. */
const PART_TRACES = 20_000;
const TRACES_A_REQUEST = 200;
const REQUESTS_AT_ONCE = 3;
/** Random bytes of a trace: its id, the common part of its spans' ids, whose it is, what it is about, and its records' ids. */
const BYTES_A_TRACE = 256;

const NICE = 15;
/** Asked for before those that count, of each kind: until then Java has compiled what answers. */
const WARM_PAGES = 100;

const HOLES =
  /(?<="(?:entry_)?id":")[0-9a-f]{32}|0011223344556677[0-9a-f]{16}|b6c5938f[0-9a-f]{8}|2026-11-22T10:00:0\d\.\d{9}Z|user-\d+|(?<=(?:orders|prices)\/)\d+|10\.0\.0\.\d+/g;

type Fill = (trace: Trace) => string;

interface Shape {
  readonly texts: readonly string[];
  readonly holes: readonly Fill[];
  readonly id: Fill;
}

/** What is a trace's own. */
interface Trace {
  readonly startNs: bigint;
  readonly id: string;
  readonly spanPrefix: string;
  readonly person: number;
  readonly thing: number;
  readonly recordIds: string;
}

function shapesOf(records: readonly AuditRecord[]): Shape[] {
  const ids = [...new Set(records.flatMap(({ event, audit }) => [event.id, audit.entry_id ?? event.id]))];
  const recordId = (id: string): Fill => {
    const from = ids.indexOf(id) * 32;
    return ({ recordIds }) => recordIds.slice(from, from + 32);
  };
  return records.map((record) => {
    const text = documentText(record);
    const found = [...text.matchAll(HOLES)];
    const ends = [0, ...found.map(({ 0: hole, index }) => index + hole.length)];
    return {
      texts: ends.map((end, at) => text.slice(end, found[at]?.index)),
      holes: found.map(([hole]) => fillOf(hole, ids.includes(hole) ? recordId(hole) : undefined)),
      id: recordId(record.event.id),
    };
  });
}

function fillOf(hole: string, recordId: Fill | undefined): Fill {
  if (recordId !== undefined) return recordId;
  if (hole.startsWith('2026')) {
    const afterNs = (parseTimestamp(hole) ?? 0n) - NEWEST_NS;
    return ({ startNs }) => formatTimestamp(startNs + afterNs);
  }
  if (hole.startsWith('user')) return ({ person }) => `person-${person}`;
  if (hole.startsWith('10.')) return ({ person }) => `10.${person % 4}.${person % 250}.${person % 200}`;
  if (hole.length === 32) return ({ id }) => id;
  if (hole.length === 16) return ({ spanPrefix }) => spanPrefix + hole.slice(8);
  return ({ thing }) => String(thing);
}

function traceOf(bytes: Buffer, startNs: bigint): Trace {
  return {
    startNs,
    id: bytes.toString('hex', 0, 16),
    spanPrefix: bytes.toString('hex', 16, 20),
    person: Math.floor((bytes.readUInt32LE(20) / 2 ** 32) ** 3 * PEOPLE),
    thing: bytes.readUInt32LE(24) % THINGS,
    recordIds: bytes.toString('hex', 32, BYTES_A_TRACE),
  };
}

/** The same for the same part each time. */
function randomBytes(part: number): Buffer {
  const key = Buffer.alloc(16);
  key.writeUInt32LE(part);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(PART_TRACES * BYTES_A_TRACE));
}

function* requestsOf(part: number, stepNs: bigint, traces: readonly Shape[][]): Generator<string> {
  const bytes = randomBytes(part);
  let body = '';
  for (let at = 0; at < PART_TRACES; at++) {
    const number = part * PART_TRACES + at;
    const own = bytes.subarray(at * BYTES_A_TRACE, (at + 1) * BYTES_A_TRACE);
    const trace = traceOf(own, FIRST_DAY_NS + BigInt(number) * stepNs);
    const index = indexName(NAMESPACE, trace.startNs, 'day');
    for (const { texts, holes, id } of traces[number % traces.length] ?? []) {
      body += `{"index":{"_index":"${index}","_id":"${id(trace)}","version":${RANK},"version_type":"external_gte"}}\n`;
      for (const [hole, fill] of holes.entries()) body += texts[hole] + fill(trace);
      body += `${texts.at(-1)}\n`;
    }
    if ((at + 1) % TRACES_A_REQUEST !== 0) continue;
    yield body;
    body = '';
  }
}

async function withServer(folder: string, work: (url: string) => Promise<void>): Promise<void> {
  await mkdir(folder, { recursive: true });
  // Room for large first segments: fewer merges.
  const settings = ['indices.memory.index_buffer_size: 400mb'];
  const server = await startElasticsearch('9.5.0', { folder, settings, heapMib: 2_048 });
  if ('skipped' in server) throw new Error(server.skipped);
  await work(server.url).finally(() => server.stop());
}

async function fill(folder: string, millions: number, days: number): Promise<void> {
  setPriority(NICE);
  const stopping = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stopping.abort());
  const traces = settledRecords().map(shapesOf);
  const recordsAPart = (PART_TRACES * traces.flat().length) / traces.length;
  const parts = Math.round((millions * 1e6) / recordsAPart);
  const stepNs = (DAY_NS * BigInt(days)) / BigInt(parts * PART_TRACES);
  const doneFile = join(folder, 'parts-done');
  await withServer(folder, async (url) => {
    const store = await openElasticsearchStore({ ...SETTINGS, urls: [url] });
    await store.setUp({ namespace: NAMESPACE });
    const client = new Client({ node: url, requestTimeout: 3_600_000, maxRetries: 0 });
    const index = Array.from({ length: days }, (_, day) =>
      indexName(NAMESPACE, FIRST_DAY_NS + DAY_NS * BigInt(day), 'day'),
    );
    for (const name of index) await client.indices.create({ index: name }, { ignore: [400] });
    await client.indices.putSettings({ index, settings: { refresh_interval: '-1', 'translog.durability': 'async' } });
    const done = async () => Number(await readFile(doneFile, 'utf8').catch(() => '0'));
    const startedMs = performance.now();
    for (let part = await done(), written = 1; part < parts && !stopping.signal.aborted; part++, written++) {
      const requests = requestsOf(part, stepNs, traces);
      const send = async () => {
        for (const bulkBody of requests) {
          const parameters = { method: 'POST', path: '/_bulk', querystring: { filter_path: 'errors' }, bulkBody };
          const { errors } = await client.transport.request<{ errors: boolean }>(parameters);
          if (errors) throw new Error('not all documents were taken');
        }
      };
      await Promise.all(Array.from({ length: REQUESTS_AT_ONCE }, send));
      // Before the note of it: what is noted is there after a crash.
      await client.indices.flush({ index, wait_if_ongoing: true });
      await writeFile(doneFile, String(part + 1));
      const rate = (written * recordsAPart) / ((performance.now() - startedMs) / 1000);
      console.log(`${(((part + 1) * recordsAPart) / 1e6).toFixed(1)} million, ${rate.toFixed(0)} a second`);
    }
    const asTemplate = { refresh_interval: `${SETTINGS.refreshIntervalMs}ms`, 'translog.durability': 'request' };
    await client.indices.putSettings({ index, settings: asTemplate });
    await store.refresh();
    await client.close();
    await store.close();
  });
}

async function pages(folder: string, count: number): Promise<void> {
  await withServer(folder, async (url) => {
    const store = await openElasticsearchStore({ ...SETTINGS, urls: [url] });
    const records = await store.count(selected('*', true));
    console.log(`${(records / 1e6).toFixed(2)} million records`);
    for (const [name, first] of [
      ['common', 0],
      ['middle', 5_000],
      ['rare', 150_000],
    ] as const) {
      for (const inner of [false, true]) {
        for (let at = 0; at < WARM_PAGES; at++) await newest(store, first + count + at, inner);
        const walls: number[] = [];
        let found = 0;
        for (let at = 0; at < count; at++) {
          const startedMs = performance.now();
          found += await newest(store, first + at, inner);
          walls.push(performance.now() - startedMs);
        }
        const [middle, high, max] = [0.5, 0.95, 1].map((share) => quantile(walls, share).toFixed(1));
        const what = `${name}, ${inner ? 'all records' : 'entries'}: ${(found / count).toFixed(0)} a page`;
        console.log(`${what}; ms p50 ${middle}, p95 ${high}, max ${max}`);
      }
    }
    await store.close();
  });
}

async function newest(store: Store, person: number, inner: boolean): Promise<number> {
  const sort = { field: '@timestamp', direction: 'desc' } as const;
  const page = await store.search(selected(`user.id: person-${person}`, inner), sort, 100);
  return page.records.length;
}

function selected(text: string, inner: boolean): Selection {
  const parsed = parseQuery(text, { nowMs: 0 });
  if (!parsed.ok) throw new Error(parsed.message);
  return { query: parsed.query, inner };
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

const [mode, folder, number, days] = process.argv.slice(2);
if (folder !== undefined && mode === 'fill') await fill(folder, Number(number ?? 20), Number(days ?? 4));
else if (folder !== undefined && mode === 'pages') await pages(folder, Number(number ?? 40));
else throw new Error('node test/bench/elasticsearch-pages.ts fill|pages FOLDER [NUMBER] [DAYS]');
