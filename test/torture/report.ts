import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import type { Sum } from '../../src/api/contract.ts';
import type { TortureResult } from './rounds.ts';

const PAGE = join(import.meta.dirname, '../../docs/torture.md');

function rows(result: TortureResult): [name: string, value: string][] {
  const { kills, requests, acknowledgedByKind } = result;
  const kinds = Object.entries(acknowledgedByKind).map(([kind, count]) => `${count} ${kind}`);
  return [
    ['rounds', `${result.rounds} in ${result.seconds} s, ${result.roundsWithTwoWorkers} of them with 2 workers`],
    ['seed', String(result.seed)],
    [
      'ended',
      `${kills.underLoad} by SIGKILL under load, ${kills.whileStarting} by SIGKILL while starting or replaying, ${kills.terminated} by SIGTERM`,
    ],
    [
      'requests',
      `${requests.acknowledged} acknowledged, ${requests.broken} broken off and ${requests.refused} refused, both sent again`,
    ],
    ['of them', kinds.join(', ')],
    [
      'evidence acknowledged',
      `${result.evidence.traces} spans and ${result.evidence.logs} log records, repeated ones included`,
    ],
    ['accesses acknowledged', String(result.accesses)],
    ['found exactly once', String(result.accesses)],
    ['missing, double, wrong, from nowhere', '0, 0, 0, 0'],
    ['checks', `${result.checks}, with ${result.recordsCompared} records compared field by field`],
    ...result.sums.map((sum): [string, string] => [`sum of ${sum.of}`, sumText(sum)]),
  ];
}

/** `5 accepted = 0 pending + 4 used + 1 duplicate, difference 0`; what is nothing is left out. */
function sumText(sum: Sum): string {
  const { of: _of, difference, ...parts } = sum;
  const [whole, ...rest] = Object.entries(parts);
  const shares = rest.filter(([, amount]) => amount !== 0).map(([name, amount]) => `${amount} ${name}`);
  return `${whole?.[1]} ${whole?.[0]} = ${shares.join(' + ') || '0'}, difference ${difference}`;
}

/** A table for a terminal. */
export function printResult(result: TortureResult): string {
  const lines = rows(result).map(([name, value]) => `${name.padEnd(38)}${value}`);
  return `\n${result.store}\n${lines.join('\n')}\n`;
}

const git = (...parameters: string[]) => execFileSync('git', parameters, { encoding: 'utf8' }).trim();

/** What runs: the commit, and whether the sources differ from it. */
export function describeSources(): string {
  const commit = git('rev-parse', '--short', 'HEAD');
  return git('status', '--porcelain', '--', 'src') === ''
    ? commit
    : `${commit} and changes in src that are not committed`;
}

/** Keeps the results in docs/torture.md, with what they are of: the sources when the run began. */
export async function record(results: readonly TortureResult[], sources: string): Promise<void> {
  const now = describeSources();
  const commit = now === sources ? sources : `${sources}, and ${now} at the end`;
  const head = [
    '# Torture',
    '',
    'Written by `npm run torture -- --rounds N --record`: a Spantrail is killed under load again and again on one data folder, and',
    'after every few rounds each access that was acknowledged must be there exactly once, with the content that a batch join of the',
    'acknowledged evidence has, and nothing else. The load is the bench’s, mixed with events before, with and after their spans,',
    'repeated and corrected evidence, and traces on both sides of midnight. A failing run keeps its folder and prints its seed.',
    '',
    `Commit ${commit}, ${new Date().toISOString().slice(0, 10)}, ${cpus().length} cores, Node ${process.version}.`,
    '',
  ];
  const tables = results.flatMap((result) => [
    `## ${result.store === 'duckdb' ? 'DuckDB' : 'Elasticsearch 9.5'}`,
    '',
    '| | |',
    '|---|---|',
    ...rows(result).map(([name, value]) => `| ${name} | ${value} |`),
    '',
  ]);
  await writeFile(PAGE, [...head, ...tables].join('\n'));
}
