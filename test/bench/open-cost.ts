import { checkCounts, countsOf } from './check.ts';
import { runLoad } from './load.ts';
import { type OpenOptions, STAY_OPEN } from './open.ts';
import { pinThisProcess, pipelineOf, type Receiver } from './receiver.ts';
import { keepRow, round, type Spread, spreadOf } from './results.ts';
import { otherCores, startSpantrail } from './spantrail.ts';
import { buildRootless, buildTraffic } from './workload.ts';

export interface OpenCostRow {
  /** Traces that stay open meanwhile, since their root never comes. */
  readonly openTraces: number;
  /** Of the traces that come whole and are settled beside them. */
  readonly cpuMicrosASpan: Spread;
  readonly peakMemoryMiB: number;
}

interface OpenCostOptions extends Omit<OpenOptions, 'traces'> {
  readonly numbers: readonly number[];
  /** Of each load. */
  readonly spans: number;
  readonly pairs: number;
}

const MEBIBYTE = 1024 ** 2;

/** What a span costs while few and while very many traces are open. */
export async function runOpenCost(options: OpenCostOptions): Promise<void> {
  const { SPANTRAIL_JOIN_GRACE_MS: _, ...environment } = STAY_OPEN;
  const receiver = await startSpantrail({ ...options, store: 'null', environment });
  pinThisProcess(otherCores(options.cores));
  try {
    const whole = buildTraffic('orders');
    const rootless = buildRootless();
    await load(receiver, whole, options, options.spans);
    await receiver.untilIdle();
    let openTraces = 0;
    for (const number of options.numbers) {
      const missing = Math.ceil((number - openTraces) / rootless.tracesABundle) * rootless.spansABundle;
      openTraces += (await load(receiver, rootless, options, missing)).acknowledgedTraces;
      // Warm-up: the kernel takes memory for files that a virtual machine has never had before, which costs more than to use it again.
      await costOf(receiver, openTraces, options);
      const costs: number[] = [];
      for (let turn = 0; turn < options.pairs; turn++) costs.push(await costOf(receiver, openTraces, options));
      const peakMemoryMiB = Math.round(receiver.peakMemoryBytes() / MEBIBYTE);
      const row: OpenCostRow = { openTraces: number, cpuMicrosASpan: spreadOf(costs), peakMemoryMiB };
      process.stdout.write(`${JSON.stringify(row)}\n`);
      const { median, least, most } = row.cpuMicrosASpan;
      process.stderr.write(`${openTraces} open: ${median} µs a span (${least} to ${most}), ${peakMemoryMiB} MiB\n`);
      if (options.keep) keepRow<OpenCostRow>('open-cost', row, (one) => String(one.openTraces));
    }
  } finally {
    await receiver.kill();
  }
}

async function costOf(receiver: Receiver, openTraces: number, options: OpenCostOptions): Promise<number> {
  await receiver.untilIdle(openTraces);
  const before = countsOf(await pipelineOf(receiver.apiUrl ?? ''));
  const cpuBefore = receiver.cpuSeconds();
  const result = await load(receiver, buildTraffic('orders'), options, options.spans);
  await receiver.untilIdle(openTraces);
  const pipeline = await pipelineOf(receiver.apiUrl ?? '');
  if (pipeline.pending.traces !== openTraces) throw new Error(`${pipeline.pending.traces} of ${openTraces} are open`);
  checkCounts(buildTraffic('orders'), before, countsOf(pipeline), result);
  return round(((receiver.cpuSeconds() - cpuBefore) / result.acknowledgedSpans) * 1e6);
}

function load(
  { grpcPort: port }: Receiver,
  traffic: ReturnType<typeof buildTraffic>,
  { connections, slots }: OpenCostOptions,
  spansMax: number,
) {
  return runLoad({ port, connections, slots, seconds: Number.POSITIVE_INFINITY, spansMax, traffic });
}
