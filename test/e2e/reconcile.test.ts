import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { Client } from '@elastic/elasticsearch';
import { afterEach, beforeEach, describe, expect, inject, it, vi } from 'vitest';
import type { QuarantineItem } from '../../src/api/contract.ts';
import type { ReconcileEvent, ReconcileSummary } from '../../src/api/reconcile-contract.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { DOCUMENT_LANES } from '../../src/store/duckdb/schema.ts';
import { explicitEvent, makeTrace, type Trace } from './clinic-evidence.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

// Several processes one after the other, and a command line for each question.
vi.setConfig({ testTimeout: 400_000 });

let folder: string;
let running: RunningProcess | undefined;
/** Other tests write to the same Elasticsearch meanwhile, and what they write is unknown here. */
let scope: readonly string[] = [];

beforeEach(() => {
  scope = [];
  folder = mkdtempSync(join(tmpdir(), 'spantrail-reconcile-'));
});
afterEach(async () => {
  await running?.stop('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

const start = async (words: readonly string[] = [], environment: Record<string, string> = {}) => {
  running = await startProcess(['--data-dir', join(folder, 'data'), ...words], environment);
  return running;
};

/** The command line, as a user runs it. */
async function run(server: RunningProcess, ...words: string[]) {
  const child = spawn(process.execPath, ['src/cli/spantrail.mjs', ...words], {
    env: { PATH: process.env['PATH'], SPANTRAIL_URL: `http://127.0.0.1:${server.api}` },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [out, err] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    err += text;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, out, err };
}

function parsed<T>(out: string): T[] {
  return out
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);
}

async function reconcile(server: RunningProcess, ...words: string[]) {
  const { code, out, err } = await run(server, 'reconcile', '--json', ...scope, ...words);
  const events = parsed<ReconcileEvent>(out);
  const summary = events.find((event): event is ReconcileSummary => event.type === 'summary');
  if (!summary) throw new Error(`no summary: ${out} ${err}`);
  const found = events.flatMap((event) => (event.type === 'difference' ? [event] : []));
  return { code, summary, found: found.map(({ kind, id }) => `${kind} ${id}`).sort() };
}

/** Sends traces, and an event that comes late to the first, so that it has a second revision. */
async function fill(server: RunningProcess, count: number): Promise<readonly Trace[]> {
  const traces: Trace[] = [];
  for (let number = 0; number < count; number++) {
    const trace = makeTrace(number, Date.now());
    traces.push(trace);
    expect(await server.send('traces', trace.payload)).toBe(200);
  }
  await server.settled();
  const [first] = traces;
  if (first) await server.send('logs', explicitEvent(first));
  await server.settled();
  return traces;
}

async function idsOf(server: RunningProcess): Promise<string[]> {
  return (await server.search('')).map((record) => record.event.id).sort();
}

/** When it was written may differ, of everything else nothing. */
function withoutIngestion({ event: { ingested: _, ...event }, ...record }: AuditRecord) {
  return { ...record, event };
}

/** What happens to a store behind the server's back. */
interface Tampering {
  remove(ids: readonly string[]): Promise<void>;
  /** Puts the record back to its earlier state. */
  setBack(id: string): Promise<void>;
  /** Puts a copy of the record there under another id. */
  forge(id: string, forged: string): Promise<void>;
}

const FORGED = 'f'.repeat(32);

/** A document stands in one of its columns: what to set the first to, and the others. */
function lanes(first: string, others: string): string {
  return DOCUMENT_LANES.map((lane, at) => `${lane} = ${at === 0 ? first : others}`).join();
}

async function expectReconciled(
  server: RunningProcess,
  traces: readonly Trace[],
  tamper: (work: (tampering: Tampering) => Promise<void>) => Promise<RunningProcess>,
) {
  const before = await idsOf(server);
  expect(before).toHaveLength(2 * traces.length);
  const clean = await reconcile(server);
  expect(clean).toMatchObject({ code: 0, found: [], summary: { compared: before.length, left: 0 } });
  // Newest first, and so within the time that the journal is sure to know.
  const records = await server.search('');
  const newest = records[0]?.event.id ?? '';
  const revised = records.filter((record) => record.audit.revision > 1).map(({ event }) => event.id);
  expect(revised).toHaveLength(2);
  const others = before.filter((id) => !revised.includes(id) && id !== newest);
  const removed = [...others.slice(3, 9), ...others.slice(-1)];
  const [old = ''] = revised;
  let again = await tamper(async (tampering) => {
    await tampering.remove(removed);
    await tampering.setBack(old);
    await tampering.forge(newest, FORGED);
  });
  // Until the log is replayed nothing is compared.
  await again.settled();
  const lost = [...removed.map((id) => `missing ${id}`), `older ${old}`, `unknown ${FORGED}`].sort();
  const seen = await reconcile(again);
  expect(seen).toMatchObject({
    code: 1,
    found: lost,
    summary: { missing: 7, older: 1, unknown: 1, restored: 0, left: 9 },
  });
  expect(await idsOf(again)).toHaveLength(before.length - 7 + 1);

  const text = await run(again, 'reconcile', ...scope);
  expect(text).toMatchObject({
    code: 1,
    err: expect.stringMatching(/7 missing, 1 older, 1 unknown since 2.*\n.*--restore/),
  });
  const restored = await reconcile(again, '--restore');
  expect(restored).toMatchObject({ code: 1, found: lost, summary: { restored: 8, left: 1 } });
  again = await tamper((tampering) => tampering.remove([FORGED]));
  await again.settled();
  const second = await reconcile(again);
  expect(second).toMatchObject({ code: 0, found: [], summary: { compared: before.length, left: 0 } });
  expect(await idsOf(again)).toEqual(before);
  const ofOld = (list: readonly AuditRecord[]) => list.filter(({ event }) => event.id === old).map(withoutIngestion);
  expect(ofOld(await again.search(''))).toEqual(ofOld(records));
  return again;
}

describe('reconcile', () => {
  it.each(['1', '2'])('names exactly what DuckDB lost, and restores it (%s workers)', async (workers) => {
    const environment = { SPANTRAIL_WORKERS: workers };
    const server = await start([], environment);
    const traces = await fill(server, 30);
    await expectReconciled(server, traces, async (work) => {
      await running?.stop();
      const instance = await DuckDBInstance.create(join(folder, 'data', 'records.duckdb'));
      const connection = await instance.connect();
      await work({
        remove: async (ids) => {
          await connection.run(`DELETE FROM records WHERE id IN ('${ids.join("', '")}')`);
        },
        setBack: async (id) => {
          await connection.run(
            `UPDATE records SET rank = v.rank, lane = 0, ${lanes('v.doc', 'NULL')} FROM revisions v WHERE records.id = v.id AND v.id = '${id}'`,
          );
        },
        forge: async (id, forged) => {
          const documents = DOCUMENT_LANES.map((lane) => `replace(${lane}, '${id}', '${forged}') AS ${lane}`);
          await connection.run(
            `INSERT INTO records SELECT * REPLACE ('${forged}' AS id, ${documents.join()}) FROM records WHERE id = '${id}'`,
          );
        },
      });
      connection.closeSync();
      instance.closeSync();
      return start([], environment);
    });
  });

  const elasticsearch = inject('elasticsearch')['9.5.0'];
  const namespace = `reconcile${Date.now()}`;

  /** What another Spantrail over the same cluster writes, in its own namespace. */
  async function writeAsAnother(client: Client, record: AuditRecord | undefined): Promise<void> {
    const id = 'e'.repeat(32);
    const data_stream = { namespace: `${namespace}other` };
    const document = { ...record, event: { ...record?.event, id }, data_stream };
    const day = record?.['@timestamp'].slice(0, 10).replaceAll('-', '.');
    await client.index({ index: `spantrail-audit-${namespace}other-${day}`, id, document, refresh: true });
  }

  it.skipIf('skipped' in elasticsearch)('names exactly what Elasticsearch lost, and restores it', async () => {
    const url = 'url' in elasticsearch ? elasticsearch.url : '';
    const environment = { SPANTRAIL_NAMESPACE: namespace };
    scope = ['--namespace', namespace];
    const server = await start(['--elasticsearch-url', url], environment);
    const traces = await fill(server, 12);
    const client = new Client({ nodes: [url] });
    const index = `spantrail-audit-${namespace}`;
    await client.indices.refresh({ index: `${index}-*` });
    const placeOf = async (id: string) => {
      const found = await client.search<object>({ index: `${index}-*`, query: { ids: { values: [id] } } });
      const hit = found.hits.hits[0];
      if (!hit?._source) throw new Error(`${id} is not there`);
      return { index: hit._index, source: hit._source };
    };
    await expectReconciled(server, traces, async (work) => {
      await work({
        remove: async (ids) => {
          for (const id of ids) await client.delete({ index: (await placeOf(id)).index, id });
        },
        setBack: async (id) => {
          const { index, source } = await placeOf(id);
          // Else the deleted version would stand against an earlier one.
          await client.indices.putSettings({ index, settings: { gc_deletes: '0s' } });
          await client.delete({ index, id, refresh: true });
          const isBack = () =>
            client.index({ index, id, document: source, version: 1, version_type: 'external_gte' }).then(
              () => true,
              () => false,
            );
          while (!(await isBack())) await client.indices.refresh({ index });
          await client.indices.putSettings({ index, settings: { gc_deletes: '1h' } });
        },
        forge: async (id, forged) => {
          const { index, source } = await placeOf(id);
          const document = JSON.parse(JSON.stringify(source).replaceAll(id, forged));
          await client.index({ index, id: forged, document, version: 1, version_type: 'external_gte' });
        },
      });
      await writeAsAnother(client, (await server.search(''))[0]);
      await client.indices.refresh({ index: `${index}-*` });
      return server;
    });
    await client.close();
  });

  it.skipIf('skipped' in elasticsearch)('and the quarantine mend what a foreign index template spoilt', async () => {
    const url = 'url' in elasticsearch ? elasticsearch.url : '';
    const index = `spantrail-audit-${namespace}spoilt`;
    const client = new Client({ nodes: [url] });
    scope = ['--namespace', `${namespace}spoilt`];
    const server = await start(['--elasticsearch-url', url], { SPANTRAIL_NAMESPACE: `${namespace}spoilt` });
    await client.indices.putIndexTemplate({
      name: `${index}-foreign`,
      index_patterns: [`${index}-*`],
      priority: 5000,
      composed_of: ['spantrail'],
      template: {
        settings: { index: { 'mapping.ignore_malformed': false } },
        mappings: {
          properties: { http: { properties: { response: { properties: { status_code: { type: 'ip' } } } } } },
        },
      },
    });
    expect(await run(server, 'quarantine', 'list')).toMatchObject({
      code: 0,
      out: '',
      err: expect.stringMatching(/nothing waits in quarantine/),
    });
    for (let number = 0; number < 5; number++) {
      expect(await server.send('traces', makeTrace(number, Date.now()).payload)).toBe(200);
    }
    await server.settled();
    // The requests are refused, the statements below them stored.
    const items = parsed<QuarantineItem>((await run(server, 'quarantine', 'list', '--json')).out);
    expect(items).toHaveLength(5);
    for (const { stage, reason, state } of items) {
      expect({ stage, state }).toEqual({ stage: 'store', state: 'open' });
      expect(reason).toMatch(/document_parsing_exception.*status_code/);
    }
    const list = await run(server, 'quarantine', 'list');
    expect(list.out.split('\n')[1]).toMatch(
      new RegExp(`^${items[0]?.id}  store  20.* ${items[0]?.subject}  document_pars`),
    );
    expect(list.err).toMatch(/5 open, 0\.0 of 256\.0 MiB/);
    const [first, second] = items;
    const shown = await run(server, 'quarantine', 'show', first?.id ?? '');
    expect(shown.out).toMatch(/reason {3}document_parsing_exception[\s\S]*"status_code": 200/);
    expect(await run(server, 'quarantine', 'retry', first?.id ?? '')).toMatchObject({
      code: 1,
      out: expect.stringMatching(/ open .*document_parsing_exception/),
    });
    expect(await run(server, 'quarantine', 'drop', second?.id ?? '', '--reason', 'tried')).toMatchObject({ code: 0 });
    expect(await reconcile(server)).toMatchObject({ code: 0, summary: { compared: 10, quarantined: 5, left: 0 } });

    await client.indices.deleteIndexTemplate({ name: `${index}-foreign` });
    await client.indices.delete({ index: Object.keys(await client.indices.get({ index: `${index}-*` })) });
    const retried = await run(server, 'quarantine', 'retry', '--all');
    expect(retried).toMatchObject({ code: 0, err: 'spantrail: 4 retried\n' });
    expect(await run(server, 'quarantine', 'retry', '--all', '--json')).toEqual({ code: 0, out: '', err: '' });
    // What was dropped is expected no longer; restoring its trace brings it back nevertheless.
    expect(await reconcile(server, '--restore')).toMatchObject({ code: 0, summary: { restored: 5, quarantined: 1 } });
    await client.indices.refresh({ index: `${index}-*` });
    expect(await idsOf(server)).toHaveLength(10);
    expect(await reconcile(server)).toMatchObject({ code: 0, summary: { compared: 10, left: 0 } });
    const resolved = parsed<QuarantineItem>(
      (await run(server, 'quarantine', 'list', '--state', 'resolved', '--json')).out,
    );
    expect(resolved.map(({ state }) => state).sort()).toEqual(['dropped', 'retried', 'retried', 'retried', 'retried']);
    const { sums } = await server.pipeline();
    for (const sum of sums) expect(sum, sum.of).toMatchObject({ difference: 0 });
    const unknown = 'f'.repeat(16);
    expect(await run(server, 'quarantine', 'show', unknown)).toMatchObject({ code: 3 });
    expect(await run(server, 'quarantine', 'drop', unknown, '--reason', 'x')).toMatchObject({ code: 3 });
    expect(await run(server, 'quarantine', 'retry')).toMatchObject({ code: 2, err: expect.stringMatching(/--all/) });
    await client.close();
  });
});
