import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runProgram } from '../setup/cache.ts';
import { keepRow, round, type Spread, spreadOf } from './results.ts';
import { startSpantrail } from './spantrail.ts';

/** Out of a checkout types are taken out of the source at the start; a package has JavaScript. */
const PROGRAMS = ['package', 'checkout'] as const;
type Program = (typeof PROGRAMS)[number];

/**
 * The first one of a user has nothing that V8 compiled for an earlier one, but in a checkout, where `npm ci` compiled. Files are in
 * the memory of the machine for both.
 */
const TURNS = ['first', 'later'] as const;
type Turn = (typeof TURNS)[number];

export interface StartRow {
  readonly program: Program;
  readonly turn: Turn;
  readonly seconds: Spread;
  readonly cpuSeconds: Spread;
}

interface StartOptions {
  readonly cores: string;
  readonly pairs: number;
  readonly serveArguments: readonly string[];
  readonly keep: boolean;
}

interface Timing {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

const CHECKOUT = join(import.meta.dirname, '../..');
/** What the program reads beside its own code. */
const BESIDE = ['package.json', 'node_modules', 'proto', 'deploy', 'docs'];

/**
 * How long `serve` takes on an empty folder until it says where it listens; the store is the one of the settings, DuckDB. Programs
 * take turns, so that what else the machine does is the same for both.
 */
export async function runStart(options: StartOptions): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'spantrail-start-'));
  try {
    await buildPackage(folder);
    const mains: Record<Program, string> = {
      package: join(folder, 'dist/cli/spantrail.mjs'),
      checkout: join(CHECKOUT, 'src/cli/spantrail.mjs'),
    };
    const timings = new Map<string, Timing[]>();
    for (let pair = 0; pair < options.pairs; pair++) {
      for (const program of PROGRAMS) {
        const cache = join(folder, `${program}-${pair}`);
        if (program === 'checkout') await compileInto(cache);
        for (const turn of TURNS) {
          const timing = await timeStart(mains[program], cache, options);
          const key = `${program} ${turn}`;
          timings.set(key, [...(timings.get(key) ?? []), timing]);
        }
      }
    }
    for (const program of PROGRAMS) {
      for (const turn of TURNS) tell(rowOf(program, turn, timings.get(`${program} ${turn}`) ?? []), options.keep);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** As `npm pack` ships it. */
async function buildPackage(folder: string): Promise<void> {
  await mkdir(join(folder, 'dist'));
  await runProgram(
    join(CHECKOUT, 'node_modules/.bin/tsc'),
    ['-p', 'tsconfig.build.json', '--outDir', join(folder, 'dist')],
    { folder: CHECKOUT },
  );
  for (const name of BESIDE) await symlink(join(CHECKOUT, name), join(folder, name));
}

/** As the end of `npm ci` does. */
async function compileInto(cache: string): Promise<void> {
  const environment = { XDG_CACHE_HOME: cache, NODE_COMPILE_CACHE: '' };
  await runProgram(process.execPath, [join(CHECKOUT, 'src/cli/compile.mjs')], { folder: CHECKOUT, environment });
}

async function timeStart(main: string, cache: string, options: StartOptions): Promise<Timing> {
  const startedMs = performance.now();
  const receiver = await startSpantrail({
    ...options,
    store: 'duckdb',
    main,
    environment: { XDG_CACHE_HOME: cache, NODE_COMPILE_CACHE: '' },
  });
  const timing = { seconds: round((performance.now() - startedMs) / 1000), cpuSeconds: receiver.cpuSeconds() };
  await receiver.stop();
  return timing;
}

function rowOf(program: Program, turn: Turn, timings: readonly Timing[]): StartRow {
  return {
    program,
    turn,
    seconds: spreadOf(timings.map(({ seconds }) => seconds)),
    cpuSeconds: spreadOf(timings.map(({ cpuSeconds }) => cpuSeconds)),
  };
}

function tell(row: StartRow, isKept: boolean): void {
  const { program, turn, seconds, cpuSeconds } = row;
  process.stdout.write(`${JSON.stringify(row)}\n`);
  process.stderr.write(
    `${turn} start of the ${program} on an empty folder: ${seconds.median} s (${seconds.least} to ${seconds.most}), ${cpuSeconds.median} s of CPU\n`,
  );
  if (isKept) keepRow<StartRow>('start', row, (one) => `${one.program} ${one.turn}`);
}
