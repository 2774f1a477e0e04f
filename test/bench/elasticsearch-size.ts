/**
 * What records cost on a real Elasticsearch: bytes a record and records a second, in the index mode that the templates ask for
 * (logsdb) and in the standard one, which is set the way an administrator would: in the component template `spantrail@custom`.
 *
 *   node test/bench/elasticsearch-size.ts [records: 1000000] [version: 9.5.0]
 *
 * The same records both times: made from spans by the real settle, of a made-up day of 2,000 people, 12 services and 50,000
 * things, random from a fixed seed. Nothing else should run on the machine.
 */
import { execFileSync } from 'node:child_process';
import { Client } from '@elastic/elasticsearch';
import { compileRules } from '../../src/access/rules.ts';
import { DEFAULT_ACCESS_SETTINGS } from '../../src/access/settings.ts';
import { documentText } from '../../src/core/document.ts';
import type { Span } from '../../src/core/evidence.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { createSettle } from '../../src/enrich/settle.ts';
import { openElasticsearchStore } from '../../src/store/elasticsearch/store.ts';
import { type Plain, span } from '../enrich/evidence.ts';
import { type ElasticsearchVersion, startElasticsearch } from '../setup/elasticsearch.ts';
import { SETTINGS } from '../store/elasticsearch-records.ts';
import { Random } from '../torture/random.ts';

/** As many as the pump writes at once. */
const BATCH_RECORDS = 5_000;

const DAY_START_NS = 1_795_305_600_000_000_000n;
const DAY_MS = 86_400_000;
const MS_NS = 1_000_000n;

const [recordsText = '1000000', version = '9.5.0'] = process.argv.slice(2);
const RECORDS = Number(recordsText);

const settle = createSettle(compileRules(DEFAULT_ACCESS_SETTINGS), {
  traceUrlTemplate: 'https://traces.example/trace/${trace_id}',
});

const AGENTS = [
  'X11; Linux x86_64',
  'Macintosh; Intel Mac OS X 14_4',
  'Windows NT 10.0; Win64',
  'iPhone; CPU iPhone OS 18_1',
].map((system) => `Mozilla/5.0 (${system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari/537.36`);
const SERVICES = ['orders', 'billing', 'stock', 'customers', 'search', 'reports'];
const TABLES = ['orders', 'lines', 'invoices', 'customers', 'stock', 'prices'];

class Day {
  readonly #random = new Random(7);

  #below(limit: number): number {
    return this.#random.below(limit);
  }

  #hex(bytes: number): string {
    return Array.from({ length: bytes }, () => this.#below(256).toString(16).padStart(2, '0')).join('');
  }

  /** Some do much, most little. */
  #skewed(limit: number): number {
    return Math.floor(this.#random.next() ** 3 * limit);
  }

  /** A request through a gateway, another service and a statement in each; two in a hundred are refused by the database. */
  trace(number: number, traces: number): RecordWrite[] {
    const traceId = this.#hex(16);
    const startNs = DAY_START_NS + BigInt(Math.floor((number / traces) * DAY_MS)) * MS_NS;
    const person = this.#skewed(2_000);
    const thing = this.#below(50_000);
    const [first = '', second = ''] = [SERVICES[this.#below(6)], SERVICES[this.#below(6)]];
    const table = TABLES[this.#below(6)] ?? '';
    const isRefused = this.#below(50) === 0;
    const lengthMs = 2 + this.#random.next() ** 4 * 400;
    const ids = Array.from({ length: 4 }, () => this.#hex(8));
    const make = (at: number, kind: 'server' | 'client', name: string, service: string, attributes: Plain): Span => {
      const from = startNs + BigInt(Math.floor((at * lengthMs * 1e6) / 10));
      const made = span({
        id: ids[at] ?? '',
        ...(at > 0 && { parent: ids[at === 3 ? 2 : 0] ?? '' }),
        ...{ kind, name, service, attributes },
        times: [from, startNs + BigInt(Math.floor(lengthMs * 1e6)) - BigInt(at) * 100_000n],
        resource: { 'service.version': '2026.11.3', 'deployment.environment.name': 'production' },
        ...(isRefused && at !== 2 && at !== 1 && { status: [2, `permission denied for table ${table}`] as const }),
      });
      return { ...made, traceId };
    };
    const http = (route: string): Plain => ({
      'http.request.method': this.#below(5) === 0 ? 'POST' : 'GET',
      'http.route': route,
      'url.path': route.replace('{id}', String(thing)),
      'http.response.status_code': isRefused ? 403 : 200,
      'client.address': `10.${this.#below(4)}.${person % 250}.${person % 200}`,
      'user_agent.original': AGENTS[person % AGENTS.length] ?? '',
    });
    const statement = (name: string): Plain => ({
      'db.system.name': 'postgresql',
      'db.namespace': 'shop',
      'db.collection.name': name,
      'db.operation.name': 'SELECT',
      'db.query.text': `SELECT id, total, state FROM ${name} WHERE id = $1`,
      'server.address': 'db-7.shop.example',
      'db.response.returned_rows': this.#below(40),
    });
    const user = { 'user.id': `person-${person}`, 'user.roles': [person % 7 === 0 ? 'manager' : 'clerk'] };
    const spans = [
      make(0, 'server', `GET /${first}/{id}`, first, { ...http(`/${first}/{id}`), ...user }),
      make(1, 'client', `SELECT shop.${table}`, first, statement(table)),
      make(2, 'server', `GET /internal/${second}/{id}`, second, http(`/internal/${second}/{id}`)),
      make(3, 'client', `SELECT shop.${table}`, second, {
        ...statement(table),
        ...(isRefused && { 'db.response.status_code': '42501', 'error.type': '42501' }),
      }),
    ];
    const { rank, records } = settle({ namespace: 'size', traceId, spans, logs: [] });
    return records.map(({ id, timestampNs, record }) => ({ id, timestampNs, record, rank, namespace: 'size' }));
  }
}

interface Measured {
  readonly mode: string;
  readonly records: number;
  readonly jsonBytes: number;
  readonly seconds: number;
  /** As it is when the last write is over, and when its segments are merged into one, as they are in old indices at best. */
  readonly writtenBytes: number;
  readonly mergedBytes: number;
}

async function measure(url: string, mode: 'logsdb' | 'standard'): Promise<Measured> {
  const client = new Client({ node: url, requestTimeout: 1_800_000 });
  const store = await openElasticsearchStore({ ...SETTINGS, urls: [url] });
  await store.setUp();
  const template = { settings: { index: { mode } } };
  await client.cluster.putComponentTemplate({ name: 'spantrail@custom', template });
  const index = 'spantrail-audit-size-*';
  const bytesOf = async () => {
    await client.indices.flush({ index, force: true, wait_if_ongoing: true });
    const stats = await client.indices.stats({ index, metric: ['store', 'docs'] });
    return {
      bytes: stats._all.primaries?.store?.size_in_bytes ?? 0,
      documents: stats._all.primaries?.docs?.count ?? 0,
    };
  };
  const day = new Day();
  let records = 0;
  let jsonBytes = 0;
  let writingMs = 0;
  let batch: RecordWrite[] = [];
  const flush = async () => {
    for (const { record } of batch) jsonBytes += Buffer.byteLength(documentText(record));
    const started = performance.now();
    const { written } = await store.write(batch);
    writingMs += performance.now() - started;
    if (written !== batch.length) throw new Error(`${written} of ${batch.length} written`);
    records += written;
    batch = [];
    if (records % 100_000 < BATCH_RECORDS) process.stderr.write(`${mode}: ${records}\n`);
  };
  for (let number = 0; records + batch.length < RECORDS; number++) {
    batch.push(...day.trace(number, RECORDS / 4));
    if (batch.length >= BATCH_RECORDS) await flush();
  }
  if (batch.length > 0) await flush();
  const written = await bytesOf();
  await client.indices.forcemerge({ index, max_num_segments: 1 });
  const merged = await bytesOf();
  if (merged.documents !== records) throw new Error(`${merged.documents} documents of ${records} records`);
  const [settings] = Object.values(await client.indices.getSettings({ index, flat_settings: true }));
  const isMode = (settings?.settings as Record<string, string> | undefined)?.['index.mode'];
  if (isMode !== mode) throw new Error(`the index is ${isMode}`);
  for (const name of Object.keys(await client.indices.get({ index }))) await client.indices.delete({ index: name });
  await Promise.all([store.close(), client.close()]);
  return {
    ...{ mode, records, jsonBytes, seconds: writingMs / 1000 },
    ...{ writtenBytes: written.bytes, mergedBytes: merged.bytes },
  };
}

const server = await startElasticsearch(version as ElasticsearchVersion);
if ('skipped' in server) throw new Error(server.skipped);
try {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  console.log(`Elasticsearch ${version}, commit ${commit}, ${RECORDS} records\n`);
  console.log('| mode | records | JSON a record | disk a record, as written | merged | records/s |');
  console.log('|---|---|---|---|---|---|');
  for (const mode of ['logsdb', 'standard'] as const) {
    const { records, jsonBytes, seconds, writtenBytes, mergedBytes } = await measure(server.url, mode);
    const each = (bytes: number) => `${Math.round(bytes / records)} B`;
    const cells = [
      mode,
      records,
      each(jsonBytes),
      each(writtenBytes),
      each(mergedBytes),
      Math.round(records / seconds),
    ];
    console.log(`| ${cells.join(' | ')} |`);
  }
} finally {
  await server.stop();
}
