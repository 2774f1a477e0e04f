import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { PipelineAnswer } from '../../src/api/contract.ts';
import { type LoadResult, percentile, runLoad } from './load.ts';
import { runOpen } from './open.ts';
import { type ProbeResult, sleep, startProbes } from './probe.ts';
import { pinThisProcess, type Receiver, startReceiver } from './receiver.ts';
import { runRules } from './rules.ts';
import { runSink } from './sink.ts';

const HELP = `npm run bench -- [options] [-- further arguments of serve]

  --store null|memory|duckdb|elasticsearch   default null
  --seconds N       length of the run, default 10
  --spans N         stop after this many spans
  --rate N          spans a second; as fast as they are acknowledged without it
  --connections N   default 4
  --slots N         requests in flight on each connection, default 4
  --warm-up N       seconds before the run, default 3
  --cores LIST      CPU cores of the receiver, default 0; the load generator takes the others
  --open N          keep N traces of eight spans open and tell what memory that takes; must stay under 1 GiB
  --rules           what the shipped rules cost a record, together and each alone
  --sink            measure the load generator itself, against a server that only acknowledges
`;

const IDLE_POLL_MS = 100;
/** A store that does not catch up in this time is stuck. */
const IDLE_MS_MAX = 600_000;

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
      seconds: { type: 'string', default: '10' },
      spans: { type: 'string', default: 'Infinity' },
      rate: { type: 'string' },
      connections: { type: 'string', default: '4' },
      slots: { type: 'string', default: '4' },
      'warm-up': { type: 'string', default: '3' },
      cores: { type: 'string', default: cpus().length > 1 ? '0' : '' },
      open: { type: 'string' },
      rules: { type: 'boolean', default: false },
      sink: { type: 'boolean', default: false },
      'run-sink': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  return { ...values, serveArguments: positionals };
}

async function main(): Promise<void> {
  const options = readOptions();
  if (options.help) return void process.stdout.write(HELP);
  if (options['run-sink']) return runSink();
  if (options.rules) return runRules();
  if (options.open !== undefined) return runOpen({ ...options, traces: Number(options.open) });
  const folder = await mkdtemp(join(tmpdir(), 'spantrail-bench-'));
  const receiver = await startUnderTest(options, folder);
  try {
    pinThisProcess(otherCores(options.cores));
    const report = await measure(receiver, options);
    process.stdout.write(`${JSON.stringify(report)}\n`);
    process.stderr.write(table(report));
  } finally {
    await receiver.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

type Options = ReturnType<typeof readOptions>;

function startUnderTest(options: Options, folder: string): Promise<Receiver> {
  if (options.sink) return startReceiver(import.meta.filename, ['--run-sink'], options.cores);
  const anyPorts = ['--grpc-port', '0', '--http-port', '0', '--api-port', '0'];
  const main = join(import.meta.dirname, '../../src/cli/main.ts');
  const args = ['serve', '--store', options.store, '--data-dir', folder, ...anyPorts, ...options.serveArguments];
  return startReceiver(main, args, options.cores);
}

async function measure(receiver: Receiver, options: Options): Promise<Report> {
  const load = {
    port: receiver.grpcPort,
    connections: Number(options.connections),
    slots: Number(options.slots),
    rate: options.rate === undefined ? undefined : Number(options.rate),
  };
  if (Number(options['warm-up']) > 0) {
    await runLoad({ ...load, seconds: Number(options['warm-up']), spansMax: Number.POSITIVE_INFINITY });
    await untilIdle(receiver);
  }
  const cpuBefore = receiver.cpuSeconds();
  const searchable = options.store === 'null' || !receiver.apiUrl ? undefined : startProbes(load.port, receiver.apiUrl);
  const result = await runLoad({ ...load, seconds: Number(options.seconds), spansMax: Number(options.spans) });
  const loadedMs = performance.now();
  const probes = await searchable?.stop();
  await untilIdle(receiver);
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
  const { searchableMs = [], lost = 0 } = run.probes ?? {};
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

/** Resolves when nothing that was acknowledged is still to be settled or stored. */
async function untilIdle(receiver: Receiver): Promise<void> {
  if (!receiver.apiUrl) return;
  const startedMs = performance.now();
  while (performance.now() - startedMs < IDLE_MS_MAX) {
    const response = await fetch(`${receiver.apiUrl}/api/v1/pipeline`);
    const { pending } = (await response.json()) as PipelineAnswer;
    if (pending.evidence === 0 && pending.traces === 0) return;
    await sleep(IDLE_POLL_MS);
  }
  throw new Error('the receiver did not become idle');
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

function otherCores(cores: string): string {
  const taken = new Set(cores.split(','));
  const others = cpus().map((_, core) => String(core));
  return others.filter((core) => !taken.has(core)).join(',');
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

await main();
