import { readFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { readOptions } from '../setup/command-options.ts';
import { faultOf } from './fuzz-target.ts';
import { runFuzz } from './run-fuzz.ts';
import { TARGETS } from './targets.ts';

const HELP = `npm run fuzz -- [options]

Gives every decoder what nobody would send, and looks whether it says so.

  --messages N       tries as many inputs, default 1000000
  --seed N           of what is tried, default a random one
  --target NAME      only targets whose names begin so: ${TARGETS.map(({ name }) => name).join(', ')}
  --case FILE        tries one input of test/fuzz/corpus again
`;

const values = readOptions(HELP, {
  messages: { type: 'string', default: '1000000' },
  seed: { type: 'string' },
  target: { type: 'string', default: '' },
  case: { type: 'string' },
});

const print = (line: string) => void process.stdout.write(`${line}\n`);

async function replay(file: string): Promise<number> {
  const target = TARGETS.find(({ name }) => name === basename(dirname(file)));
  if (target === undefined) {
    print(`--case takes a file of test/fuzz/corpus/<target>/; there is no target "${basename(dirname(file))}"`);
    return 2;
  }
  const fault = await faultOf(target, readFileSync(file));
  print(fault ?? 'nothing is wrong with it');
  return fault === undefined ? 0 : 1;
}

async function run(): Promise<number> {
  const targets = TARGETS.filter(({ name }) => name.startsWith(values.target));
  const seed = Number(values.seed ?? Date.now() % 1_000_000_000);
  const messages = Number(values.messages);
  if (targets.length === 0 || !Number.isSafeInteger(seed) || !(messages > 0)) {
    print(`--target takes one of ${TARGETS.map(({ name }) => name).join(', ')}; --seed and --messages take numbers`);
    return 2;
  }
  const { found, tried } = await runFuzz({ targets, seed, messages, print });
  print(JSON.stringify({ seed, tried, found: found.length }));
  return found.length > 0 ? 1 : 0;
}

process.exit(values.case === undefined ? await run() : await replay(values.case));
