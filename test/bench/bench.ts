import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { runAll } from './all.ts';
import { runCount } from './count.ts';
import { type LoadResult, percentile, runLoad } from './load.ts';
import { runOpen } from './open.ts';
import { runOpenCost } from './open-cost.ts';
import { runPairs } from './pairs.ts';
import { PIPELINES, type PipelineName } from './peers.ts';
import { runReplay, runWorkers } from './prefilled.ts';
import { type ProbeResult, startProbes } from './probe.ts';
import { pinThisProcess, type Receiver, startReceiver } from './receiver.ts';
import { runRules } from './rules.ts';
import { runSearchable, SEARCHABLE_SECONDS } from './searchable.ts';
import { SHAPE_NAMES, type ShapeName } from './shapes.ts';
import { runSink } from './sink.ts';
import { otherCores, startSpantrail } from './spantrail.ts';
import { runStart } from './start.ts';
import { buildTraffic } from './workload.ts';

const HELP = `npm run bench -- [options] [-- further arguments of serve]

What is measured; one load into one Spantrail without any of these:
  --all             everything that docs/benchmarks.md shows, kept; needs two quiet cores for about an hour
  --peer collector  pairs of loads, into Spantrail (null store) and into a real Collector; the first pair is warm-up
  --workers LIST    how fast a full write-ahead log becomes records with 1,2 workers, without anybody who sends
  --replay          how fast a start reads a full write-ahead log
  --start           how long a start takes on an empty folder
  --open-cost LIST  what a span costs while 10000,100000,1000000 traces are open
  --count           how much code a span runs through: nearly the same on every machine
  --open N          keep N traces of eight spans open and tell what memory that takes; must stay under 1 GiB
  --searchable STORE  how soon a complete trace is found: duckdb or elasticsearch, 60 seconds a load if not told otherwise
  --rules           what the shipped rules cost a record, together and each alone
  --sink            the load generator itself, against a server that only acknowledges

How:
  --shape NAME      ${SHAPE_NAMES.join(', ')}; default orders
  --gzip            send compressed requests, made before the load
  --spans N         spans of a load; unlimited for a single one, otherwise 500000, and 20480 with --count
  --pairs N         how often each is measured in turn, default 5
  --pipelines LIST  of the Collector: ${Object.keys(PIPELINES).join(', ')}; default nop
  --keep            keep what was measured in test/bench/results, for docs/benchmarks.md (npm run generate)
  --store null|memory|duckdb|elasticsearch   default null
  --seconds N       length of a load, default 10
  --rate N          spans a second; as fast as they are acknowledged without it
  --connections N   default 4
  --slots N         requests in flight on each connection, default 4
  --warm-up N       seconds before the load, default 3
  --cores LIST      CPU cores of the receiver, default 0; the load generator takes the others
`;

const LOAD_SECONDS = 10;
const PROBES = { everyMs: 500, pollMs: 50 };
/** Of each load where both sides, or both turns, must do the same. */
const LOAD_SPANS = 500_000;
/** Counting makes code slow. */
const COUNT_SPANS = 20_480;

interface Report {
  readonly store: string;
  readonly acknowledgedSpans: number;
  readonly refused: Readonly<Record<string, number>>;
  readonly spansPerSecond: number;
  /** From the first byte until the receiver is idle again, everything searchable. */
  readonly cpuSecondsPerMillionSpans: number;
  readonly generatorCpuSecondsPerMillionSpans: number;
  readonly peakMemoryMiB: number;
  readonly ackMs: { readonly p50: number; readonly p99: number };
  /** From the last acknowledgement until nothing is pending. */
  readonly catchUpSeconds: number;
  readonly searchableMs?: {
    readonly p50: number;
    readonly p99: number;
    readonly probes: number;
    readonly lost: number;
  };
}

function readOptions() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      store: { type: 'string', default: 'null' },
      shape: { type: 'string', default: 'orders' },
      gzip: { type: 'boolean', default: false },
      seconds: { type: 'string' },
      spans: { type: 'string' },
      rate: { type: 'string' },
      connections: { type: 'string', default: '4' },
      slots: { type: 'string', default: '4' },
      'warm-up': { type: 'string', default: '3' },
      cores: { type: 'string', default: cpus().length > 1 ? '0' : '' },
      all: { type: 'boolean', default: false },
      peer: { type: 'string' },
      pairs: { type: 'string', default: '5' },
      pipelines: { type: 'string', default: 'nop' },
      keep: { type: 'boolean', default: false },
      workers: { type: 'string' },
      replay: { type: 'boolean', default: false },
      start: { type: 'boolean', default: false },
      'open-cost': { type: 'string' },
      count: { type: 'boolean', default: false },
      open: { type: 'string' },
      rules: { type: 'boolean', default: false },
      searchable: { type: 'string' },
      sink: { type: 'boolean', default: false },
      'run-sink': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const { shape, pipelines, connections, slots, spans, peer } = values;
  if (peer !== undefined && peer !== 'collector') throw new Error(`--peer is collector, not ${peer}`);
  return {
    ...values,
    shape: oneOf<ShapeName>('--shape', shape, SHAPE_NAMES),
    pipelines: pipelines.split(',').map((name) => oneOf('--pipelines', name, Object.keys(PIPELINES) as PipelineName[])),
    ...{ connections: Number(connections), slots: Number(slots), pairs: Number(values.pairs) },
    spans: spans === undefined ? undefined : Number(spans),
    serveArguments: positionals,
  };
}

function oneOf<Name extends string>(option: string, given: string, names: readonly Name[]): Name {
  const found = names.find((name) => name === given);
  if (found === undefined) throw new Error(`${option} is one of ${names.join(', ')}, not ${given}`);
  return found;
}

const numbersOf = (list: string): number[] => list.split(',').map(Number);

async function main(): Promise<void> {
  const options = readOptions();
  if (options.help) return void process.stdout.write(HELP);
  if (options['run-sink']) return runSink();
  if (options.rules) return runRules();
  if (options.open !== undefined) return runOpen({ ...options, traces: Number(options.open) });
  if (options.start) return runStart(options);
  if (options.searchable !== undefined)
    return runSearchable(options.searchable, { ...options, seconds: Number(options.seconds ?? SEARCHABLE_SECONDS) });
  if (options.count) return runCount({ ...options, spans: options.spans ?? COUNT_SPANS });
  const fixed = { ...options, spans: options.spans ?? LOAD_SPANS };
  if (options.all) return runAll({ ...fixed, countSpans: COUNT_SPANS });
  if (options.peer !== undefined) return runPairs(fixed);
  if (options.replay) return runReplay(fixed);
  if (options.workers !== undefined) return runWorkers(fixed, numbersOf(options.workers));
  const openCost = options['open-cost'];
  if (openCost !== undefined) return runOpenCost({ ...fixed, numbers: numbersOf(openCost) });
  const receiver = await startUnderTest(options);
  try {
    pinThisProcess(otherCores(options.cores));
    const report = await measure(receiver, options);
    process.stdout.write(`${JSON.stringify(report)}\n`);
    process.stderr.write(table(report));
  } finally {
    await receiver.stop();
  }
}

type Options = ReturnType<typeof readOptions>;

function startUnderTest(options: Options): Promise<Receiver> {
  if (options.sink) return startReceiver(import.meta.filename, ['--run-sink'], options.cores);
  return startSpantrail(options);
}

async function measure(receiver: Receiver, options: Options): Promise<Report> {
  const { connections, slots, gzip } = options;
  const rate = options.rate === undefined ? undefined : Number(options.rate);
  const load = { port: receiver.grpcPort, connections, slots, rate, gzip, traffic: buildTraffic(options.shape) };
  const spansMax = options.spans ?? Number.POSITIVE_INFINITY;
  if (Number(options['warm-up']) > 0) {
    await runLoad({ ...load, seconds: Number(options['warm-up']), spansMax });
    await receiver.untilIdle();
  }
  const cpuBefore = receiver.cpuSeconds();
  const searchable =
    options.store === 'null' || !receiver.apiUrl ? undefined : startProbes(load.port, receiver.apiUrl, PROBES);
  const result = await runLoad({ ...load, seconds: Number(options.seconds ?? LOAD_SECONDS), spansMax });
  const loadedMs = performance.now();
  const probes = await searchable?.stop();
  await receiver.untilIdle();
  return describe(options, receiver, result, {
    cpuSeconds: receiver.cpuSeconds() - cpuBefore,
    catchUpMs: performance.now() - loadedMs,
    probes,
  });
}

function describe(
  options: Options,
  receiver: Receiver,
  result: LoadResult,
  run: { readonly cpuSeconds: number; readonly catchUpMs: number; readonly probes: ProbeResult | undefined },
): Report {
  const { sinceAcknowledgedMs: searchableMs = [], lost = 0 } = run.probes ?? {};
  return {
    store: options.sink ? 'sink' : options.store,
    acknowledgedSpans: result.acknowledgedSpans,
    refused: result.refused,
    spansPerSecond: Math.round((result.acknowledgedSpans / result.elapsedMs) * 1000),
    cpuSecondsPerMillionSpans: round((run.cpuSeconds / result.acknowledgedSpans) * 1e6),
    generatorCpuSecondsPerMillionSpans: round((result.generatorCpuSeconds / result.acknowledgedSpans) * 1e6),
    peakMemoryMiB: Math.round(receiver.peakMemoryBytes() / 1024 ** 2),
    ackMs: { p50: round(percentile(result.latenciesMs, 50)), p99: round(percentile(result.latenciesMs, 99)) },
    catchUpSeconds: round(run.catchUpMs / 1000),
    ...(run.probes && {
      searchableMs: {
        p50: round(percentile(searchableMs, 50)),
        p99: round(percentile(searchableMs, 99)),
        probes: searchableMs.length,
        lost,
      },
    }),
  };
}

function table(report: Report): string {
  const { searchableMs } = report;
  const rows: [string, string][] = [
    ['store', report.store],
    ['acknowledged', `${report.acknowledgedSpans} spans, ${report.spansPerSecond} a second`],
    ['refused', JSON.stringify(report.refused)],
    ['CPU', `${report.cpuSecondsPerMillionSpans} s a million spans, until idle`],
    ['load generator', `${report.generatorCpuSecondsPerMillionSpans} s of CPU a million spans`],
    ['peak memory', `${report.peakMemoryMiB} MiB`],
    ['acknowledged after', `${report.ackMs.p50} ms p50, ${report.ackMs.p99} ms p99`],
    ['caught up after', `${report.catchUpSeconds} s`],
  ];
  if (searchableMs) {
    const { p50, p99, probes, lost } = searchableMs;
    rows.push(['searchable after', `${p50} ms p50, ${p99} ms p99 (${probes} probes, ${lost} lost)`]);
  }
  return `${rows.map(([name, value]) => `${name.padEnd(20)}${value}`).join('\n')}\n`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

await main();
