import { keepRow, round, type Spread, spreadOf } from './results.ts';
import { startSpantrail } from './spantrail.ts';

export interface StartRow {
  readonly seconds: Spread;
  readonly cpuSeconds: Spread;
}

interface StartOptions {
  readonly cores: string;
  readonly pairs: number;
  readonly serveArguments: readonly string[];
  readonly keep: boolean;
}

/** How long `serve` takes on an empty folder until it says where it listens; the store is the one of the settings, DuckDB. */
export async function runStart(options: StartOptions): Promise<void> {
  const turns: { seconds: number; cpuSeconds: number }[] = [];
  for (let turn = 0; turn < options.pairs; turn++) {
    const startedMs = performance.now();
    const receiver = await startSpantrail({ ...options, store: 'duckdb' });
    turns.push({ seconds: round((performance.now() - startedMs) / 1000), cpuSeconds: receiver.cpuSeconds() });
    await receiver.stop();
  }
  const row: StartRow = {
    seconds: spreadOf(turns.map(({ seconds }) => seconds)),
    cpuSeconds: spreadOf(turns.map(({ cpuSeconds }) => cpuSeconds)),
  };
  process.stdout.write(`${JSON.stringify(row)}\n`);
  process.stderr.write(
    `start on an empty folder: ${row.seconds.median} s (${row.seconds.least} to ${row.seconds.most}), ${row.cpuSeconds.median} s of CPU\n`,
  );
  if (options.keep) keepRow<StartRow>('start', row, () => '');
}
