import { parseArgs } from 'node:util';
import { runSeeds } from './run-seeds.ts';

/**
 * npm run simulate -- --seed 7          replays one seed and prints every step
 * npm run simulate -- --seeds 100000    runs as many, from a seed of its own or from --from
 */
const { values } = parseArgs({
  options: { seed: { type: 'string' }, seeds: { type: 'string', default: '2000' }, from: { type: 'string' } },
});

const print = (line: string) => void process.stdout.write(`${line}\n`);
const isOne = values.seed !== undefined;
const from = Number(values.seed ?? values.from ?? Date.now() % 1_000_000_000);
const count = isOne ? 1 : Number(values.seeds);
if (!Number.isSafeInteger(from) || !Number.isSafeInteger(count) || from < 0 || count < 1) {
  print('--seed, --seeds and --from take whole numbers');
  process.exit(2);
}
const total = await runSeeds({ from, count, print, ...(isOne ? { trace: print } : { everySeeds: 500 }) });
print(JSON.stringify(total));
process.exit(total.failed > 0 ? 1 : 0);
