import type { AuditRecord } from '../../src/core/record.ts';
import { checkCounts, checkRecords, countsOf, sentSpans } from './check.ts';
import { type LoadResult, percentile, runLoad } from './load.ts';
import { type PipelineName, startCollector } from './peers.ts';
import { pinThisProcess, pipelineOf, type Receiver } from './receiver.ts';
import { keepRow, round, type Spread, spreadOf } from './results.ts';
import type { ShapeName } from './shapes.ts';
import { otherCores, startSpantrail } from './spantrail.ts';
import { buildTraffic, type Traffic } from './workload.ts';

interface LoadMeasure {
  readonly gzip: boolean;
  /** Of each load; the same for both sides, so that they do the same work. */
  readonly spans: number;
  readonly connections: number;
  readonly slots: number;
}

export interface PairsOptions extends LoadMeasure {
  readonly pipelines: readonly PipelineName[];
  readonly shape: ShapeName;
  readonly pairs: number;
  readonly cores: string;
  readonly serveArguments: readonly string[];
  /** Results go into the files that the page is drawn from. */
  readonly keep: boolean;
}

/** One load on one side. */
interface Round {
  /** Until idle: everything stored, compacted, written. */
  readonly cpuMicrosASpan: number;
  readonly spansPerSecond: number;
  readonly peakMemoryMiB: number;
  readonly refused: Readonly<Record<string, number>>;
}

export interface PeerRow {
  readonly shape: ShapeName;
  readonly gzip: boolean;
  readonly pipeline: PipelineName;
  readonly spans: number;
  /** CPU a span of Spantrail's, in that of the Collector just after it. */
  readonly ratio: Spread;
  readonly spantrail: {
    readonly cpuMicrosASpan: Spread;
    readonly spansPerSecond: Spread;
    readonly peakMemoryMiB: number;
  };
  readonly collector: {
    readonly cpuMicrosASpan: Spread;
    readonly spansPerSecond: Spread;
    readonly peakMemoryMiB: number;
  };
  /** At half of what it settles. */
  readonly halfLoad: PacedLoad;
  /** At STEADY_SPANS_A_SECOND, or at what it took of them. */
  readonly steadyLoad: PacedLoad;
  /** Of how many records each word was compared with the spans that were sent. */
  readonly comparedRecords: number;
  readonly pairs: readonly { readonly spantrail: Round; readonly collector: Round }[];
}

interface PacedLoad {
  readonly spansPerSecond: number;
  readonly ackMs: { readonly p50: number; readonly p99: number };
  readonly peakMemoryMiB: number;
  /** Requests by the time until they were acknowledged: up to this many milliseconds. */
  readonly histogram: readonly (readonly [upToMs: number, requests: number])[];
}

const PACED_SECONDS = 10;
const STEADY_SPANS_A_SECOND = 150_000;
const MEBIBYTE = 1024 ** 2;
/** Enough for what is remembered of earlier traces to be at work. */
const COMPARED_SPANS = 6 * 512;

/** Loads Spantrail and a Collector in turn and tells what each costs a span. Both run all the time; the idle one costs nothing. */
export async function runPairs(options: PairsOptions): Promise<void> {
  const traffic = buildTraffic(options.shape);
  pinThisProcess(otherCores(options.cores));
  const comparedRecords = await compareRecordsOf(traffic, options);
  for (const pipeline of options.pipelines) {
    const row = { ...(await comparePeer(pipeline, traffic, options)), comparedRecords };
    process.stdout.write(`${JSON.stringify(row)}\n`);
    process.stderr.write(lineOf(row));
    if (options.keep) keepRow<PeerRow>('peers', row, peerKey);
  }
}

export const peerKey = ({ shape, gzip, pipeline }: PeerRow) => `${shape} ${gzip} ${pipeline}`;

async function comparePeer(pipeline: PipelineName, traffic: Traffic, options: PairsOptions) {
  const spantrail = await startSpantrail({ ...options, store: 'null' });
  try {
    const collector = await startCollector(pipeline, options.cores);
    try {
      const pairs: { spantrail: Round; collector: Round }[] = [];
      // The first pair is warm-up.
      for (let pair = 0; pair <= options.pairs; pair++) {
        const round = {
          spantrail: await load(spantrail, traffic, options),
          collector: await load(collector, traffic, options),
        };
        if (pair > 0) pairs.push(round);
      }
      const halfLoad = await loadPaced(
        spantrail,
        traffic,
        settledPerSecond(pairs.map((pair) => pair.spantrail)) / 2,
        options,
      );
      const steadyLoad = await loadPaced(spantrail, traffic, STEADY_SPANS_A_SECOND, options);
      const { shape, gzip, spans } = options;
      const ratio = spreadOf(pairs.map((pair) => pair.spantrail.cpuMicrosASpan / pair.collector.cpuMicrosASpan));
      const sideOf = (side: 'spantrail' | 'collector') => summaryOf(pairs.map((pair) => pair[side]));
      return {
        ...{ shape, gzip, pipeline, spans, ratio, halfLoad, steadyLoad, pairs },
        ...{ spantrail: sideOf('spantrail'), collector: sideOf('collector') },
      };
    } finally {
      await collector.stop();
    }
  } finally {
    await spantrail.stop();
  }
}

/** More is acknowledged in a second than a core settles in it: the rest waits in the log, and was it more and more, for ever longer. */
function settledPerSecond(rounds: readonly Round[]): number {
  const { cpuMicrosASpan, spansPerSecond } = summaryOf(rounds);
  return Math.min(spansPerSecond.median, 1e6 / cpuMicrosASpan.median);
}

function summaryOf(rounds: readonly Round[]) {
  return {
    cpuMicrosASpan: spreadOf(rounds.map((one) => one.cpuMicrosASpan)),
    spansPerSecond: spreadOf(rounds.map((one) => one.spansPerSecond)),
    peakMemoryMiB: Math.max(...rounds.map((one) => one.peakMemoryMiB)),
  };
}

async function load(receiver: Receiver, traffic: Traffic, options: PairsOptions): Promise<Round> {
  receiver.forgetPeak();
  const before = receiver.apiUrl ? countsOf(await pipelineOf(receiver.apiUrl)) : undefined;
  const cpuBefore = receiver.cpuSeconds();
  const result = await loadWith(receiver, traffic, options);
  await receiver.untilIdle();
  const cpuSeconds = receiver.cpuSeconds() - cpuBefore;
  // Else the ratio would be 0, or no number at all.
  if (cpuSeconds <= 0) {
    throw new Error(`${options.spans} spans cost less than Linux counts, a hundredth of a second: load more --spans`);
  }
  if (receiver.apiUrl && before) checkCounts(traffic, before, countsOf(await pipelineOf(receiver.apiUrl)), result);
  return {
    cpuMicrosASpan: round((cpuSeconds / result.acknowledgedSpans) * 1e6),
    spansPerSecond: Math.round((result.acknowledgedSpans / result.elapsedMs) * 1000),
    peakMemoryMiB: Math.round(receiver.peakMemoryBytes() / MEBIBYTE),
    refused: result.refused,
  };
}

function loadWith(
  { grpcPort }: Receiver,
  traffic: Traffic,
  { connections, slots, gzip, spans }: LoadMeasure,
  more: { readonly rate?: number; readonly sending?: (bytes: Buffer) => void; readonly spans?: number } = {},
): Promise<LoadResult> {
  const spansMax = more.spans ?? spans;
  return runLoad({
    port: grpcPort,
    connections,
    slots,
    traffic,
    gzip,
    seconds: Number.POSITIVE_INFINITY,
    ...more,
    spansMax,
  });
}

/** How long an acknowledgement takes at so many spans a second. */
async function loadPaced(
  receiver: Receiver,
  traffic: Traffic,
  rate: number,
  options: PairsOptions,
): Promise<PacedLoad> {
  receiver.forgetPeak();
  const spans = Math.min(options.spans, rate * PACED_SECONDS);
  const { latenciesMs, acknowledgedSpans, elapsedMs } = await loadWith(receiver, traffic, options, { rate, spans });
  await receiver.untilIdle();
  return {
    spansPerSecond: Math.round((acknowledgedSpans / elapsedMs) * 1000),
    ackMs: { p50: round(percentile(latenciesMs, 50)), p99: round(percentile(latenciesMs, 99)) },
    peakMemoryMiB: Math.round(receiver.peakMemoryBytes() / MEBIBYTE),
    histogram: histogramOf(latenciesMs),
  };
}

/** In steps of a doubling, from half a millisecond. */
function histogramOf(ascending: readonly number[]): (readonly [number, number])[] {
  const counts = new Map<number, number>();
  for (const ms of ascending) {
    const upToMs = 2 ** Math.max(-1, Math.ceil(Math.log2(ms)));
    counts.set(upToMs, (counts.get(upToMs) ?? 0) + 1);
  }
  return [...counts];
}

async function compareRecordsOf(traffic: Traffic, options: PairsOptions): Promise<number> {
  const spantrail = await startSpantrail({ ...options, store: 'memory' });
  try {
    return await compareRecords(spantrail, traffic, { ...options, spans: Math.min(COMPARED_SPANS, options.spans) });
  } finally {
    await spantrail.stop();
  }
}

/** A load into a store that can be read, whose records must say what was sent; how many there are. */
export async function compareRecords(spantrail: Receiver, traffic: Traffic, options: LoadMeasure): Promise<number> {
  const api = spantrail.apiUrl ?? '';
  const sent: Buffer[] = [];
  const before = countsOf(await pipelineOf(api));
  const result = await loadWith(spantrail, traffic, options, { sending: (bytes) => sent.push(Buffer.from(bytes)) });
  await spantrail.untilIdle();
  checkCounts(traffic, before, countsOf(await pipelineOf(api)), result);
  const spans = sentSpans(sent);
  const traces = new Set(spans.map(({ traceId }) => traceId));
  const answer = await fetch(`${api}/api/v1/export?inner=true`);
  const lines = (await answer.text()).split('\n').filter((line) => line.startsWith('{"@timestamp"'));
  const all = lines.map((line) => JSON.parse(line) as AuditRecord);
  const records = all.filter(({ trace }) => trace && traces.has(trace.id));
  checkRecords(spans, records, traffic.recordsATrace !== undefined);
  return records.length;
}

function lineOf(row: PeerRow): string {
  const { shape, gzip, pipeline, ratio, spantrail, collector, halfLoad, steadyLoad, comparedRecords } = row;
  const side = ({ cpuMicrosASpan: { median, least, most }, spansPerSecond, peakMemoryMiB }: PeerRow['spantrail']) =>
    `${median} µs a span (${least} to ${most}), ${spansPerSecond.median} spans/s, ${peakMemoryMiB} MiB`;
  const paced = ({ spansPerSecond, ackMs, peakMemoryMiB }: PacedLoad) =>
    `${spansPerSecond} spans/s acknowledged after ${ackMs.p50} ms p50, ${ackMs.p99} ms p99, ${peakMemoryMiB} MiB`;
  return [
    `${shape}${gzip ? ', gzip' : ''} against otlp → ${pipeline}: ${ratio.median} (${ratio.least} to ${ratio.most})`,
    `  Spantrail  ${side(spantrail)}`,
    `  Collector  ${side(collector)}`,
    `  half load  ${paced(halfLoad)}`,
    `  steady     ${paced(steadyLoad)}`,
    `  compared   ${comparedRecords} records\n`,
  ].join('\n');
}
