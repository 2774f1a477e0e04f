import { runLoad } from './load.ts';
import { sleep } from './probe.ts';
import { pipelineOf, type Receiver } from './receiver.ts';
import { keepRow } from './results.ts';
import { startSpantrail } from './spantrail.ts';
import { SPANS_A_REQUEST, TRACES_A_REQUEST } from './workload.ts';

/** What a million open traces of eight spans may take. */
const MEMORY_MIB_MAX = 1024;
const MEBIBYTE = 1024 ** 2;
/** After the load, so that what is only waiting to be collected can be told from what is held. */
const REST_MS = 5_000;

/** Waits that no run is as long as: every trace stays open. */
export const STAY_OPEN = {
  SPANTRAIL_JOIN_GRACE_MS: '6h',
  SPANTRAIL_JOIN_ROOT_WAIT_MS: '6h',
  SPANTRAIL_JOIN_IDLE_MS: '6h',
  SPANTRAIL_JOIN_MAX_AGE_MS: '6h',
  SPANTRAIL_WAL_UNSETTLED_BYTES_MAX: '64GiB',
};

export interface OpenOptions {
  readonly traces: number;
  readonly connections: number;
  readonly slots: number;
  readonly cores: string;
  readonly serveArguments: readonly string[];
  readonly keep: boolean;
}

export type OpenRow = Awaited<ReturnType<typeof measure>>;

/** Sends that many whole traces to a receiver that settles none, and tells what memory it takes. Sets the exit code. */
export async function runOpen(options: OpenOptions): Promise<void> {
  const started = { store: 'null', environment: STAY_OPEN, preload: 'memory-preload.ts' };
  const receiver = await startSpantrail({ ...options, ...started });
  try {
    const report = await measure(receiver, options);
    process.stdout.write(`${JSON.stringify(report)}\n`);
    process.stderr.write(table(report));
    if (options.keep) keepRow<OpenRow>('open', report, ({ sentTraces }) => String(sentTraces));
    const isWithin = report.openTraces === report.sentTraces && report.peakMemoryMiB < MEMORY_MIB_MAX;
    if (!isWithin) process.exitCode = 1;
  } finally {
    await receiver.stop();
  }
}

async function measure(receiver: Receiver, options: OpenOptions) {
  const empty = await receiver.ask<NodeJS.MemoryUsage>();
  const requests = Math.ceil(options.traces / TRACES_A_REQUEST);
  const result = await runLoad({
    port: receiver.grpcPort,
    connections: options.connections,
    slots: options.slots,
    seconds: Number.POSITIVE_INFINITY,
    spansMax: requests * SPANS_A_REQUEST,
  });
  const loaded = await receiver.ask<NodeJS.MemoryUsage>();
  await sleep(REST_MS);
  const rested = await receiver.ask<NodeJS.MemoryUsage>();
  const { pending, wal, counters } = await pipelineOf(receiver.apiUrl ?? '');
  const early = counters.find(({ name, labels }) => name === 'settled' && labels['reason'] === 'memory_pressure');
  return {
    sentTraces: requests * TRACES_A_REQUEST,
    openTraces: pending.traces,
    settledEarly: early?.value ?? 0,
    openSpans: pending.evidence,
    refused: result.refused,
    spansPerSecond: Math.round((result.acknowledgedSpans / result.elapsedMs) * 1000),
    walMiB: mebibytes(wal.bytes),
    peakMemoryMiB: mebibytes(receiver.peakMemoryBytes()),
    residentMiB: { empty: mebibytes(empty.rss), loaded: mebibytes(loaded.rss), rested: mebibytes(rested.rss) },
    heapUsedMiB: mebibytes(rested.heapUsed),
    heapTotalMiB: mebibytes(rested.heapTotal),
    arrayBuffersMiB: mebibytes(rested.arrayBuffers),
    bytesASpan: Math.round((rested.arrayBuffers - empty.arrayBuffers) / Math.max(1, pending.evidence)),
  };
}

function table(report: OpenRow): string {
  const { residentMiB } = report;
  const rows: [string, string | number][] = [
    ['open traces', `${report.openTraces} of ${report.sentTraces}, ${report.settledEarly} settled early for memory`],
    ['their spans', report.openSpans],
    ['peak memory', `${report.peakMemoryMiB} MiB (must be under ${MEMORY_MIB_MAX})`],
    ['resident', `${residentMiB.empty} MiB empty, ${residentMiB.loaded} loaded, ${residentMiB.rested} a little later`],
    ['of that heap', `${report.heapUsedMiB} MiB used of ${report.heapTotalMiB}`],
    ['of that buffers', `${report.arrayBuffersMiB} MiB: ${report.bytesASpan} bytes an open span, caches included`],
    ['write-ahead log', `${report.walMiB} MiB`],
    ['acknowledged', `${report.spansPerSecond} spans a second`],
    ['refused', JSON.stringify(report.refused)],
  ];
  return `${rows.map(([name, value]) => `${name.padEnd(20)}${value}`).join('\n')}\n`;
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / MEBIBYTE);
}
