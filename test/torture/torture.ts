import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readOptions } from '../setup/command-options.ts';
import { startElasticsearch } from '../setup/elasticsearch.ts';
import { describeSources, printResult, record } from './report.ts';
import { type TortureResult, type TortureStore, torture } from './rounds.ts';

const HELP = `npm run torture -- [options]

Kills a Spantrail under load, again and again, on one data folder, and looks each time whether every acknowledged access is there
exactly once.

  --rounds N        on each store, default 20
  --store NAME      duckdb, elasticsearch or both; default both
  --seed S          of what is sent and when it is killed, default a random one
  --record          keep the result in docs/torture.md
`;

async function main(): Promise<number> {
  const values = readOptions(HELP, {
    rounds: { type: 'string', default: '20' },
    store: { type: 'string', default: 'both' },
    seed: { type: 'string' },
    record: { type: 'boolean', default: false },
  });
  const rounds = Number(values.rounds);
  const seed = Number(values.seed ?? randomBytes(4).readUInt32LE());
  const stores = (['duckdb', 'elasticsearch'] as const).filter((store) => ['both', store].includes(values.store));
  if (stores.length === 0 || !(rounds >= 1) || !Number.isInteger(seed)) {
    process.stderr.write(HELP);
    return 2;
  }
  const sources = values.record ? describeSources() : '';
  const results: TortureResult[] = [];
  for (const store of stores) {
    const result = await tortureOn(store, rounds, seed);
    if (result === undefined) return 1;
    results.push(result);
    process.stdout.write(printResult(result));
  }
  if (values.record) await record(results, sources);
  return 0;
}

async function tortureOn(store: TortureStore, rounds: number, seed: number): Promise<TortureResult | undefined> {
  const server = store === 'elasticsearch' ? await startElasticsearch('9.5.0') : undefined;
  if (server && 'skipped' in server) {
    process.stderr.write(
      `torture needs Elasticsearch, but ${server.skipped}; SPANTRAIL_REQUIRE=elasticsearch fetches it\n`,
    );
    return undefined;
  }
  const folder = await mkdtemp(join(tmpdir(), `spantrail-torture-${store}-`));
  const namespace = `torture-${randomBytes(4).toString('hex')}`;
  const say = (line: string) => void process.stderr.write(`${line}\n`);
  say(`${store}: ${rounds} rounds, seed ${seed}, ${folder}`);
  try {
    const result = await torture({ store, rounds, seed, folder, namespace, elasticsearchUrl: server?.url, say });
    await rm(folder, { recursive: true });
    return result;
  } catch (error) {
    say(`\n${error instanceof Error ? error.stack : error}\n`);
    say(`failed with seed ${seed}; the data folder is kept: ${folder}`);
    say(`the same again: npm run torture -- --store ${store} --rounds ${rounds} --seed ${seed}`);
    return undefined;
  } finally {
    await server?.stop();
  }
}

process.exitCode = await main();
