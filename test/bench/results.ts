import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';

const FOLDER = join(import.meta.dirname, 'results');

/** Where and on what something was measured. */
export interface Origin {
  /** Of the newest commit; with a plus when sources were changed after it. */
  readonly commit: string;
  readonly machine: string;
  readonly command: string;
}

export interface Spread {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

export type ResultName = 'peers' | 'searchable' | 'workers' | 'replay' | 'start' | 'open' | 'open-cost' | 'count';

/** The rows of one command's file; none when it was never run. */
export function readRows<Row>(name: ResultName): (Row & Origin)[] {
  const file = join(FOLDER, `${name}.json`);
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : [];
}

/** Puts a row in the place of the one with the same key, or behind the others. */
export function keepRow<Row extends object>(name: ResultName, row: Row, keyOf: (row: Row) => string): void {
  const rows = readRows<Row>(name);
  const kept = { ...row, ...origin() };
  const at = rows.findIndex((other) => keyOf(other) === keyOf(row));
  if (at < 0) rows.push(kept);
  else rows[at] = kept;
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(join(FOLDER, `${name}.json`), `${JSON.stringify(rows, undefined, 2)}\n`);
}

function origin(): Origin {
  const git = (...words: string[]) =>
    execFileSync('git', words, { cwd: import.meta.dirname, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  let commit = 'unknown';
  try {
    const isChanged = git('status', '--porcelain', '--', '../../src').trim() !== '';
    commit = git('rev-parse', '--short', 'HEAD').trim() + (isChanged ? '+' : '');
  } catch {
    // Not a checkout.
  }
  const [core] = cpus();
  const gibibytes = Math.round(totalmem() / 1024 ** 3);
  return {
    commit,
    machine: `${cpus().length} × ${core?.model.trim()}, ${gibibytes} GiB, Linux ${release().replace(/-.*/, '')}, Node ${process.versions.node}`,
    command: ['npm run bench --', ...process.argv.slice(2)].join(' ').trim(),
  };
}

export function spreadOf(values: readonly number[]): Spread {
  const ascending = [...values].sort((a, b) => a - b);
  const middle = ascending.length / 2;
  const median = ((ascending[Math.ceil(middle) - 1] ?? Number.NaN) + (ascending[Math.floor(middle)] ?? Number.NaN)) / 2;
  return { median: round(median), least: round(ascending[0]), most: round(ascending.at(-1)) };
}

/** To three digits after the point. */
export function round(value = Number.NaN): number {
  return Math.round(value * 1000) / 1000;
}
