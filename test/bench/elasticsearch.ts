/**
 * How much of what an Elasticsearch takes the store gets into it: records that are ready as bytes, written through the store, against
 * the same documents as ready bulk requests, posted by plain http at the best fixed size and number of those tried.
 *
 *   node test/bench/elasticsearch.ts [records a run: 150000] [pairs: 5] [version: 9.5.0]
 *
 * The two take turns, each into a fresh index of the same template, on a server of its own. Told are records a second, and microseconds
 * of CPU a record of the server and of this process: where others use the machine, only the latter tell much.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { documentText } from '../../src/core/document.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { openElasticsearchStore } from '../../src/store/elasticsearch/store.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';
import { type ElasticsearchVersion, startElasticsearch } from '../setup/elasticsearch.ts';
import { SETTINGS } from '../store/elasticsearch-records.ts';
import { Random } from '../torture/random.ts';

const NAMESPACE = 'bench';
const DAY = '2026-11-22';
const INDEX = `spantrail-audit-${NAMESPACE}-${DAY.replaceAll('-', '.')}`;
/** As many as the pump writes at once. */
const BATCH_RECORDS = 5_000;
/** Documents a request and requests under way that the plain side tries first. */
const PLAIN_WAYS = [
  [400, 4],
  [1_000, 2],
  [1_000, 4],
  [2_000, 3],
] as const;
/** Linux counts CPU time in hundredths of a second everywhere that Node runs. */
const MICROS_A_TICK = 10_000;

const [recordsText = '150000', pairsText = '5', version = '9.5.0'] = process.argv.slice(2);
const RECORDS = Number(recordsText);
const random = new Random(7);

interface Run {
  readonly rate: number;
  readonly serverMicros: number;
  readonly ownMicros: number;
}

function hex(bytes: number): string {
  return Array.from({ length: bytes }, () => random.below(256).toString(16).padStart(2, '0')).join('');
}

/** Of 2,000 people who do much or little, 50 a second. */
function makeWrite(number: number): RecordWrite {
  const user = `user-${Math.floor(random.next() ** 3 * 2_000)}`;
  const at = new Date(Date.parse(DAY) + number * 20).toISOString().replace('Z', '000000Z');
  const record = makeRecord({
    '@timestamp': at,
    message: `${user} read shop.orders from 10.0.0.${number % 250}, 11 ms`,
    data_stream: { namespace: NAMESPACE },
    event: { id: hex(16), start: at, end: at, duration: 1_000 * random.below(100_000) },
    trace: { id: hex(16) },
    user: { id: user },
    related: { user: [user] },
  });
  const bytes = Buffer.from(documentText(record));
  const { id, namespace, timestampNs } = toWrite(record);
  const rank = (8n << 40n) + BigInt(random.below(2 ** 31));
  return { id, namespace, timestampNs, rank, json: () => bytes, record };
}

/** The same records under ids that no run had: what is written for the first time is what the store is there for. */
function renewed(writes: readonly RecordWrite[]): RecordWrite[] {
  return writes.map((write) => {
    const bytes = write.json?.() ?? Buffer.alloc(0);
    const id = hex(16);
    for (let at = bytes.indexOf(write.id); at >= 0; at = bytes.indexOf(write.id, at)) bytes.write(id, at);
    return { ...write, id };
  });
}

function requestsOf(writes: readonly RecordWrite[], documents: number): Buffer[] {
  const bodies: Buffer[] = [];
  for (let at = 0; at < writes.length; at += documents) {
    const lines = writes.slice(at, at + documents).map(({ id, rank, json }) => {
      const head = `{"index":{"_index":"${INDEX}","_id":"${id}","version":${rank},"version_type":"external_gte"}}`;
      return `${head}\n${json?.()}\n`;
    });
    bodies.push(Buffer.from(lines.join('')));
  }
  return bodies;
}

const agent = new Agent({ keepAlive: true });

function call(url: string, method: string, path: string, body: Buffer = Buffer.alloc(0)): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = {
      'content-type': path.startsWith('/_bulk') ? 'application/x-ndjson' : 'application/json',
      'content-length': body.length,
    };
    const outgoing = request(new URL(path, url), { method, agent, headers }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      const isFailure = (answer.statusCode ?? 500) >= 400 && !(method === 'DELETE' && answer.statusCode === 404);
      answer.on('end', () =>
        isFailure ? reject(new Error(`${method} ${path}: ${text.slice(0, 500)}`)) : resolve(text),
      );
    });
    outgoing.on('error', reject).end(body);
  });
}

/** CPU of the one Java process whose folder is the server's: proc_pid_stat(5), fields 14 and 15. */
function serverTicks(): number {
  const ticks = readdirSync('/proc').map((pid) => {
    if (!/^\d+$/.test(pid)) return 0;
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('spantrail-elasticsearch-')) return 0;
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .split(' ');
      return Number(fields[11]) + Number(fields[12]);
    } catch {
      return 0;
    }
  });
  return ticks.reduce((sum, one) => sum + one, 0);
}

async function measure(url: string, work: () => Promise<void>): Promise<Run> {
  await call(url, 'DELETE', `/${INDEX}`);
  await call(url, 'PUT', `/${INDEX}`);
  const [ticks, cpu, startedMs] = [serverTicks(), process.cpuUsage(), performance.now()];
  await work();
  const elapsedMs = performance.now() - startedMs;
  const { user, system } = process.cpuUsage(cpu);
  const serverMicros = ((serverTicks() - ticks) * MICROS_A_TICK) / RECORDS;
  await call(url, 'POST', `/${INDEX}/_refresh`);
  const { count } = JSON.parse(await call(url, 'GET', `/${INDEX}/_count`)) as { count: number };
  if (count !== RECORDS) throw new Error(`${count} of ${RECORDS} documents`);
  return { rate: (RECORDS / elapsedMs) * 1000, serverMicros, ownMicros: (user + system) / RECORDS };
}

function plain(url: string, writes: readonly RecordWrite[], [documents, parallel]: readonly [number, number]) {
  const bodies = requestsOf(writes, documents);
  return measure(url, async () => {
    const work = async () => {
      for (let body = bodies.pop(); body; body = bodies.pop()) {
        const answer = await call(url, 'POST', '/_bulk?filter_path=errors', body);
        if (answer !== '{"errors":false}') throw new Error(answer.slice(0, 500));
      }
    };
    await Promise.all(Array.from({ length: parallel }, work));
  });
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function describe(name: string, runs: readonly Run[]): string {
  const of = (pick: (run: Run) => number) => median(runs.map(pick));
  const cells = [of((run) => run.rate).toFixed(0), of((run) => run.serverMicros).toFixed(1)];
  return `| ${[name, ...cells, of((run) => run.ownMicros).toFixed(1)].join(' | ')} |`;
}

async function compare(url: string): Promise<void> {
  const store = await openElasticsearchStore({ ...SETTINGS, urls: [url] });
  await store.setUp();
  let writes = Array.from({ length: RECORDS }, (_, number) => makeWrite(number));
  const fresh = () => {
    writes = renewed(writes);
    return writes;
  };
  const ours = () => {
    const all = fresh();
    return measure(url, async () => {
      for (let at = 0; at < all.length; at += BATCH_RECORDS) await store.write(all.slice(at, at + BATCH_RECORDS));
    });
  };
  // Also what makes the server compile what it runs.
  const tried = [];
  for (const way of [...PLAIN_WAYS, ...PLAIN_WAYS]) tried.push({ way, run: await plain(url, fresh(), way) });
  const { way } = tried.slice(PLAIN_WAYS.length).reduce((best, one) => (one.run.rate > best.run.rate ? one : best));
  // As often: what only one side has run the server compiles while that side is measured.
  for (const _ of tried) await ours();
  const pairs: { plain: Run; ours: Run }[] = [];
  for (let pair = 0; pair < Number(pairsText); pair++) {
    if (pair % 2 === 0) pairs.push({ plain: await plain(url, fresh(), way), ours: await ours() });
    else pairs.push({ ours: await ours(), plain: await plain(url, fresh(), way) });
  }
  await store.close();
  const ratios = pairs.map((pair) => pair.ours.rate / pair.plain.rate);
  console.log('| | records/s | server, µs of CPU a record | this process |\n|---|---|---|---|');
  console.log(
    describe(
      `plain, ${way[0]} documents a request, ${way[1]} under way`,
      pairs.map((pair) => pair.plain),
    ),
  );
  console.log(
    describe(
      'through the store',
      pairs.map((pair) => pair.ours),
    ),
  );
  console.log(`\nshare: ${ratios.map((ratio) => ratio.toFixed(2)).join(', ')}; median ${median(ratios).toFixed(2)}`);
}

const server = await startElasticsearch(version as ElasticsearchVersion);
if ('skipped' in server) throw new Error(server.skipped);
try {
  await compare(server.url);
} finally {
  agent.destroy();
  await server.stop();
}
