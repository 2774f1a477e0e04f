import { readOptions } from '../setup/command-options.ts';
import { runSeeds } from './run-seeds.ts';

const HELP = `npm run simulate -- [options]

Runs the whole pipeline under faults of disk, store, process and clock, each run from a seed.

  --seed N     replays one seed and prints every step
  --seeds N    runs as many, default 2000
  --from N     the first of them, default a random one
`;

const values = readOptions(HELP, {
  seed: { type: 'string' },
  seeds: { type: 'string', default: '2000' },
  from: { type: 'string' },
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
