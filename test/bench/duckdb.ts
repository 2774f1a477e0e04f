/**
 * What the embedded store costs: writes beside queries, one actor's newest records out of many, and growth with what is stored.
 *
 *   node test/bench/duckdb.ts fill FILE [millions: 20]      a file of so many records; about 16 CPU seconds a million
 *   node test/bench/duckdb.ts pages FILE [pages: 40]        newest 100 entries and 100 records of common, middle and rare actors
 *   node test/bench/duckdb.ts growth FILE [rounds: 3]       the same writes into an empty file and into this one, by turns
 *   node test/bench/duckdb.ts write FILE [seconds: 600]     batch after batch, while each second somebody asks
 *
 * Records are what the real settle makes of the bench's spans, with ids, times and users of their own; those of one form come with
 * it and as bytes, as they do from the pump. Those of `write` are made on a thread of its own, on another core than the store's. Pin it: `taskset -c 1`. A file made by `fill` says other ids and times in its documents than in
 * its columns, but the same users.
 */
import { rm, stat } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import { DuckDBInstance } from '@duckdb/node-api';
import { parseQuery } from '../../src/query/parse.ts';
import { DOCUMENT_LANES } from '../../src/store/duckdb/schema.ts';
import { DuckDbStore } from '../../src/store/duckdb/store.ts';
import type { Selection } from '../../src/store/port.ts';
import { Maker } from './duckdb-maker.ts';
import { BATCH_RECORDS, NEWEST_NS, Producer, USERS } from './duckdb-records.ts';

/** Of `fill`, by a cubic law: the first has one of fifty-eight traces, the last one of six hundred thousand. */
const FILL_USERS = 200_000;
const FILL_PART_ROWS = 122_880;
/** Batches that the store writes itself: after the first four nearly all documents are by their form. */
const FILL_BATCHES = 16;

const STEP_NS = 4_320_000n;

function openStore(file: string): Promise<DuckDbStore> {
  return DuckDbStore.open({ file, memoryBytes: 2 ** 30, threads: 1 }).then(async (store) => {
    await store.setUp();
    return store;
  });
}

/** CPU of this process, milliseconds. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

const shown = (values: readonly number[]) =>
  `p50 ${quantile(values, 0.5).toFixed(0)}, p95 ${quantile(values, 0.95).toFixed(0)}, max ${quantile(values, 1).toFixed(0)}`;

function selected(text: string, more: Partial<Selection> = {}): Selection {
  const parsed = parseQuery(text, { nowMs: 0 });
  if (!parsed.ok) throw new Error(parsed.message);
  return { query: parsed.query, inner: false, ...more };
}

async function fill(file: string, millions: number): Promise<void> {
  for (const path of [file, `${file}.wal`]) await rm(path, { force: true });
  const store = await openStore(file);
  const producer = new Producer(NEWEST_NS, 1000n, true);
  for (let batch = 0; batch < FILL_BATCHES; batch++) await store.write(producer.batch());
  await store.close();
  const instance = await DuckDBInstance.create(file, {
    threads: '1',
    memory_limit: '2GB',
    checkpoint_threshold: '1MB',
    max_vacuum_tasks: '0',
  });
  const connection = await instance.connect();
  const rows = (FILL_BATCHES - 4) * BATCH_RECORDS;
  for (const sql of [
    `CREATE TEMP TABLE template AS SELECT * EXCLUDE (place), place - ${4 * BATCH_RECORDS} AS n
      FROM (SELECT *, row_number() OVER (ORDER BY rowid) - 1 AS place FROM records) WHERE place >= ${4 * BATCH_RECORDS}`,
    'DELETE FROM records',
    'DELETE FROM recent_writes',
  ]) {
    await connection.run(sql);
  }
  const columns = await connection.runAndReadAll(
    "SELECT column_name FROM duckdb_columns() WHERE table_name = 'records' ORDER BY column_index",
  );
  const names = columns.getRows().map(([name]) => String(name));
  for (let from = 0; from < millions * 1e6; from += FILL_PART_ROWS) {
    await connection.run(partSql(names, rows, from, NEWEST_NS - (BigInt(millions * 1e6) - BigInt(from)) * STEP_NS));
  }
  await connection.run('CHECKPOINT');
  connection.closeSync();
  instance.closeSync();
  console.log(
    `${file}: ${((await stat(file)).size / 2 ** 30).toFixed(2)} GiB, ${(cpuMs() / 1000).toFixed(0)} CPU seconds`,
  );
}

/**
 * Rows as the store wrote them, again and again, with ids, times and users of their own: it packs no more than 2048 of them together.
 */
function partSql(columns: readonly string[], rows: number, from: number, startNs: bigint): string {
  const values: Record<string, string> = {
    id: "md5('i' || i)",
    '@timestamp': `${startNs} + (i - ${from}) * ${STEP_NS}`,
    'trace.id': "md5('t' || (i // 5))",
    'audit.entry_id': `CASE WHEN "audit.entry_id" IS NULL THEN NULL ELSE md5('i' || (i // 5 * 5)) END`,
    'user.id': 'person',
    user_key: "('0x' || left(sha256(person), 8))::BIGINT",
    ...Object.fromEntries(DOCUMENT_LANES.map((lane) => [lane, `replace(${lane}, "user.id", person)`])),
  };
  return `INSERT INTO records SELECT ${columns.map((name) => values[name] ?? `"${name}"`).join(', ')} FROM (
    SELECT *, 'person-' || floor(pow((hash(i // 5) % 1000003) / 1000003.0, 3) * ${FILL_USERS})::BIGINT AS person
    FROM range(${from}, ${from + FILL_PART_ROWS}) r(i) JOIN template ON n = i % ${rows}) ORDER BY i`;
}

async function pages(file: string, count: number): Promise<void> {
  const store = await openStore(file);
  for (const [name, first] of [
    ['common', 0],
    ['middle', 5_000],
    ['rare', 150_000],
  ] as const) {
    for (const inner of [false, true]) {
      const [walls, cpus]: [number[], number[]] = [[], []];
      let found = 0;
      for (let at = 0; at < count; at++) {
        const [wall, cpu] = [performance.now(), cpuMs()];
        const selection = selected(`user.id: person-${first + at}`, { inner });
        const page = await store.search(selection, { field: '@timestamp', direction: 'desc' }, 100);
        walls.push(performance.now() - wall);
        cpus.push(cpuMs() - cpu);
        found += page.records.length;
      }
      const what = `${name}, ${inner ? 'all records' : 'entries'}`;
      console.log(`${what}: ${(found / count).toFixed(0)} a page; wall ms ${shown(walls)}; CPU ms ${shown(cpus)}`);
    }
  }
  await store.close();
}

async function growth(file: string, rounds: number): Promise<void> {
  const empty = `${file}.empty`;
  const costs: Record<string, number[]> = { empty: [], filled: [] };
  for (let round = 0; round < rounds; round++) {
    for (const path of [empty, `${empty}.wal`]) await rm(path, { force: true });
    for (const [name, path] of [
      ['empty', empty],
      ['filled', file],
    ] as const) {
      const cost = await costOfWrites(path);
      costs[name]?.push(cost);
      console.log(`round ${round + 1}, ${name}: ${cost.toFixed(1)} CPU µs a record, checkpoints included`);
    }
  }
  await rm(empty, { force: true });
  const ratio = quantile(costs['filled'] ?? [], 0.5) / quantile(costs['empty'] ?? [], 0.5);
  console.log(`filled against empty, medians: ${ratio.toFixed(2)}`);
}

/**
 * 320,000 records: about four checkpoints, and one at the end. The first batches, which teach the compiler, do not count. Minutes
 * after all that is stored: what another run wrote at the same time would be looked up.
 */
async function costOfWrites(file: string): Promise<number> {
  const store = await openStore(file);
  const everything = { groupBy: [], limit: 1, extent: true } as const;
  const [stored] = await store.aggregate(selected('*', { inner: true }), everything);
  const startMs = (stored?.lastMs ?? Date.now()) + 300_000;
  const producer = new Producer(BigInt(startMs) * 1_000_000n, 100_000n);
  for (let batch = 0; batch < 8; batch++) await store.write(producer.batch());
  let cpu = 0;
  for (let batch = 0; batch < 64; batch++) {
    const writes = producer.batch();
    const before = cpuMs();
    await store.write(writes);
    cpu += cpuMs() - before;
  }
  const before = cpuMs();
  await store.close();
  return ((cpu + cpuMs() - before) * 1000) / (64 * BATCH_RECORDS);
}

async function write(file: string, seconds: number): Promise<void> {
  const store = await openStore(file);
  const maker = new Maker(BigInt(Date.now()) * 1_000_000n, 200_000n);
  const [batches, answers, rates]: [number[], Record<string, number[]>, number[]] = [[], {}, []];
  await store.write(await maker.batch());
  const [start, cpuStart, makingStart] = [performance.now(), cpuMs(), maker.cpuMs];
  let [records, waited, isOver] = [0, 0, false];
  const asking = ask(store, answers, () => isOver);
  for (let minute = 1, before = 0; performance.now() - start < seconds * 1000; ) {
    const asked = performance.now();
    const writes = await maker.batch();
    const wall = performance.now();
    waited += wall - asked;
    await store.write(writes);
    batches.push(performance.now() - wall);
    records += writes.length;
    if (performance.now() - start < minute * 60_000) continue;
    rates.push((records - before) / 60);
    console.log(`minute ${minute++}: ${rates.at(-1)?.toFixed(0)} records/s`);
    before = records;
  }
  isOver = true;
  const wallSeconds = (performance.now() - start) / 1000;
  const making = maker.cpuMs - makingStart;
  const cpu = cpuMs() - cpuStart - making;
  await Promise.all([asking, maker.stop()]);
  await store.close();
  console.log(`${records} records in ${wallSeconds.toFixed(0)} s: ${(records / wallSeconds).toFixed(0)} a second`);
  console.log(
    `CPU µs a record: ${((cpu * 1000) / records).toFixed(1)} (queries included); on another core ${((making * 1000) / records).toFixed(1)} to make them, waited for ${(waited / 1000).toFixed(1)} s`,
  );
  console.log(
    `batch of ${BATCH_RECORDS}, wall ms: ${shown(batches)}; memory ${(process.memoryUsage().rss / 2 ** 20).toFixed(0)} MiB`,
  );
  for (const [name, times] of Object.entries(answers))
    console.log(`${name}, wall ms: ${shown(times)} (${times.length} times)`);
}

/** One question a second, of three kinds by turns. */
async function ask(store: DuckDbStore, answers: Record<string, number[]>, isOver: () => boolean): Promise<void> {
  const newest = { field: '@timestamp', direction: 'desc' } as const;
  const fromNs = BigInt(Date.now()) * 1_000_000n;
  const questions: Record<string, (turn: number) => Promise<unknown>> = {
    "one actor's newest 100": (turn) =>
      store.search(selected(`user.id: person-${String(turn % USERS).padStart(6, '0')}`), newest, 100),
    'newest 100': () => store.search(selected('*'), newest, 100),
    'histogram since the start': () => store.histogram(selected('*', { fromNs }), 10_000),
  };
  const names = Object.keys(questions);
  for (let turn = 0; !isOver(); turn++) {
    const name = names[turn % names.length] ?? '';
    const start = performance.now();
    await questions[name]?.(turn);
    answers[name] ??= [];
    answers[name].push(performance.now() - start);
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, 1000 - (performance.now() - start))));
  }
}

const [mode = '', file, number] = process.argv.slice(2);
const modes: Record<string, ((file: string) => Promise<void>) | undefined> = {
  fill: (path) => fill(path, Number(number ?? 20)),
  pages: (path) => pages(path, Number(number ?? 40)),
  growth: (path) => growth(path, Number(number ?? 3)),
  write: (path) => write(path, Number(number ?? 600)),
};
const run = modes[mode];
if (run === undefined || file === undefined)
  throw new Error('node test/bench/duckdb.ts fill|pages|growth|write FILE [NUMBER]');
await run(file);
