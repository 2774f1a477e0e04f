import { constants, cp, rm } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { checkCounts, countsOf } from './check.ts';
import { type LoadResult, runLoad } from './load.ts';
import { STAY_OPEN } from './open.ts';
import { sleep } from './probe.ts';
import { pinThisProcess, pipelineOf, type Receiver } from './receiver.ts';
import { keepRow, round, type Spread, spreadOf } from './results.ts';
import type { ShapeName } from './shapes.ts';
import { dataFolder, otherCores, startSpantrailIn } from './spantrail.ts';
import { buildTraffic, type Traffic } from './workload.ts';

export interface PrefilledOptions {
  readonly shape: ShapeName;
  readonly spans: number;
  readonly connections: number;
  readonly slots: number;
  readonly cores: string;
  /** How often each is measured, in turn. */
  readonly pairs: number;
  readonly serveArguments: readonly string[];
  readonly keep: boolean;
}

/** What a replay comes to that settles as soon as it can. */
const AT_ONCE = { SPANTRAIL_JOIN_GRACE_MS: '1ms', SPANTRAIL_WAL_UNSETTLED_BYTES_MAX: '64GiB' };
/** As people start it. */
const COMMAND = join(import.meta.dirname, '../../src/cli/spantrail.mjs');
/** By their numbers: this process, of which others inherit it, keeps to those that loads come from. */
const ALL_CORES = cpus()
  .map((_, core) => core)
  .join(',');
const POLL_MS = 20;
const MEBIBYTE = 1024 ** 2;
const REPLAYED = 'settle journal and write-ahead log replayed';

export interface ReplayRow {
  readonly shape: ShapeName;
  readonly spans: number;
  readonly spansPerSecond: Spread;
  readonly peakMemoryMiB: number;
}

/** How fast a start reads a write-ahead log of open traces, on all cores. The files are in the machine's cache, since they were just written. */
export async function runReplay(options: PrefilledOptions): Promise<void> {
  const { shape } = options;
  await withPrefilled(options, async (folder, _traffic, { acknowledgedSpans: spans }) => {
    const perSecond: number[] = [];
    let peakMemoryMiB = 0;
    for (let turn = 0; turn < options.pairs; turn++) {
      const receiver = await startSpantrailIn(folder, {
        ...options,
        cores: ALL_CORES,
        store: 'null',
        environment: STAY_OPEN,
      });
      try {
        const [ready, replayed] = await Promise.all([receiver.logged('ready'), receiver.logged(REPLAYED)]);
        perSecond.push(Math.round((spans / (Date.parse(replayed.time) - Date.parse(ready.time))) * 1000));
        const { acceptedSpans, difference } = countsOf(await pipelineOf(receiver.apiUrl ?? ''));
        if (acceptedSpans !== spans || difference !== 0) throw new Error(`${spans} spans, ${acceptedSpans} replayed`);
        peakMemoryMiB = Math.max(peakMemoryMiB, Math.round(receiver.peakMemoryBytes() / MEBIBYTE));
      } finally {
        await receiver.kill();
      }
    }
    const row: ReplayRow = { shape, spans, spansPerSecond: spreadOf(perSecond), peakMemoryMiB };
    process.stdout.write(`${JSON.stringify(row)}\n`);
    const { median, least, most } = row.spansPerSecond;
    process.stderr.write(`replay of ${spans} spans: ${median} spans/s (${least} to ${most}), ${peakMemoryMiB} MiB\n`);
    if (options.keep) keepRow<ReplayRow>('replay', row, (one) => one.shape);
  });
}

export interface WorkersRow {
  readonly shape: ShapeName;
  readonly spans: number;
  readonly workers: readonly {
    readonly workers: number;
    readonly spansPerSecond: Spread;
    readonly cpuMicrosASpan: Spread;
  }[];
  /** How many times as fast as with the first number of workers the last is, turn by turn. */
  readonly gain: Spread;
}

/** How fast the same write-ahead log becomes records with so many workers, on all cores and without anybody who sends. */
export async function runWorkers(options: PrefilledOptions, numbers: readonly number[]): Promise<void> {
  const { shape } = options;
  await withPrefilled(options, async (folder, traffic, load) => {
    const spans = load.acknowledgedSpans;
    const turns = numbers.map(() => [] as { perSecond: number; cpuMicrosASpan: number }[]);
    for (let turn = 0; turn < options.pairs; turn++) {
      for (const [at, workers] of numbers.entries()) {
        const copy = `${folder}-copy`;
        await cp(folder, copy, { recursive: true, mode: constants.COPYFILE_FICLONE });
        try {
          const result = await settleAll(copy, workers, traffic, load, options);
          turns[at]?.push(result);
          const { perSecond, cpuMicrosASpan } = result;
          process.stderr.write(
            `turn ${turn + 1}, workers ${workers}: ${perSecond} spans/s, ${cpuMicrosASpan} µs a span\n`,
          );
        } finally {
          await rm(copy, { recursive: true, force: true });
        }
      }
    }
    const workers = numbers.map((number, at) => ({
      workers: number,
      spansPerSecond: spreadOf(turns[at]?.map(({ perSecond }) => perSecond) ?? []),
      cpuMicrosASpan: spreadOf(turns[at]?.map(({ cpuMicrosASpan }) => cpuMicrosASpan) ?? []),
    }));
    const gain = spreadOf(
      turns[0]?.map(({ perSecond }, turn) => (turns.at(-1)?.[turn]?.perSecond ?? 0) / perSecond) ?? [],
    );
    const row: WorkersRow = { shape, spans, workers, gain };
    process.stdout.write(`${JSON.stringify(row)}\n`);
    const told = workers.map(
      (one) => `${one.workers}: ${one.spansPerSecond.median} spans/s, ${one.cpuMicrosASpan.median} µs a span`,
    );
    process.stderr.write(`workers ${told.join('; ')}; ${gain.median} times (${gain.least} to ${gain.most})\n`);
    if (options.keep) keepRow<WorkersRow>('workers', row, (one) => one.shape);
  });
}

/** From ready, which is before the replay, until every record is stored. */
async function settleAll(
  folder: string,
  workers: number,
  traffic: Traffic,
  load: LoadResult,
  options: PrefilledOptions,
): Promise<{ perSecond: number; cpuMicrosASpan: number }> {
  const environment = { ...AT_ONCE, SPANTRAIL_WORKERS: String(workers) };
  const receiver = await startSpantrailIn(folder, {
    ...options,
    main: COMMAND,
    cores: ALL_CORES,
    store: 'null',
    environment,
  });
  try {
    const { time } = await receiver.logged('ready');
    const cpuBefore = receiver.cpuSeconds();
    await untilAllStored(receiver, load.acknowledgedTraces * (traffic.recordsATrace ?? 0));
    const elapsedMs = Date.now() - Date.parse(time);
    const cpuMicros = (receiver.cpuSeconds() - cpuBefore) * 1e6;
    const none = { acceptedSpans: 0, storedRecords: 0, difference: 0 };
    checkCounts(traffic, none, countsOf(await pipelineOf(receiver.apiUrl ?? '')), load);
    return {
      perSecond: Math.round((load.acknowledgedSpans / elapsedMs) * 1000),
      cpuMicrosASpan: round(cpuMicros / load.acknowledgedSpans),
    };
  } finally {
    // It keeps its compiled code, which each of its threads starts with the next time.
    await receiver.stop();
  }
}

async function untilAllStored(receiver: Receiver, records: number): Promise<void> {
  for (;;) {
    const pipeline = await pipelineOf(receiver.apiUrl ?? '');
    if (!pipeline.replaying && pipeline.pending.traces === 0 && countsOf(pipeline).storedRecords >= records) return;
    await sleep(POLL_MS);
  }
}

/** A data folder whose traces are all open still, as a crash left it. */
async function withPrefilled(
  options: PrefilledOptions,
  measure: (folder: string, traffic: Traffic, load: LoadResult) => Promise<void>,
): Promise<void> {
  const folder = await dataFolder();
  try {
    const traffic = buildTraffic(options.shape);
    const { connections, slots, spans: spansMax } = options;
    const receiver = await startSpantrailIn(folder, { ...options, store: 'null', environment: STAY_OPEN });
    pinThisProcess(otherCores(options.cores));
    const seconds = Number.POSITIVE_INFINITY;
    const load = await runLoad({ port: receiver.grpcPort, connections, slots, seconds, spansMax, traffic });
    await receiver.kill();
    if (Object.keys(load.refused).length > 0) throw new Error(`refused: ${JSON.stringify(load.refused)}`);
    await measure(folder, traffic, load);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
