import type { CountRow } from './count.ts';
import type { OpenRow } from './open.ts';
import type { OpenCostRow } from './open-cost.ts';
import { type PeerRow, peerKey } from './pairs.ts';
import type { ReplayRow, WorkersRow } from './prefilled.ts';
import { type Origin, readRows, type Spread } from './results.ts';
import type { SearchableRow } from './searchable.ts';
import type { StartRow } from './start.ts';

/** What a ratio is aimed at: at most this, and better this. By shape, compression and pipeline, as peerKey writes them. */
const GOALS: Readonly<Record<string, string>> = {
  'orders false nop': '1.2 (0.8)',
  'orders false tail_sampling': '0.4 (0.25)',
  'orders false groupbytrace': '0.15 (0.09)',
  'entries false nop': '1.0 (0.6)',
  'orders true nop': '1.2 (0.9)',
};

const PIPELINE_WORDS: Readonly<Record<string, string>> = {
  nop: 'otlp → nop',
  tail_sampling: 'tail_sampling (keep all) → nop',
  groupbytrace: 'groupbytrace → file',
};

const INTRODUCTION = `# Benchmarks

What Spantrail costs beside an OpenTelemetry Collector that gets the same. Everything here is measured by \`npm run bench\`; \`--keep\` keeps what
was measured in \`test/bench/results\`, and this page is drawn from those files (\`npm run generate\`).

**How.** Receiver and load generator have a core each. Both receivers run all the time, the Collector without its own metrics; they are loaded in
turn with the same number of spans, and the first turn is warm-up. CPU is that of the whole process, all threads, from the first byte until
everything is stored and it is quiet again, log and journal included. Spans a second are those acknowledged. Spantrail has the image's environment (docs/tuning.md) and does all that it does by default: check, mask, fsync
before the answer, join, settle, the shipped rules; the null store makes the bytes of an Elasticsearch bulk request of every record and sums them
up. After every load the sums must say that each span was accepted and each access made its record; before the first, records of the same
traffic are read back and compared with what the spans said, as protobufjs reads them.

**What is sent.** 64 traces of eight spans a request, 677 bytes a span: about 15 attributes, 25 of the resource, three scopes. Ids, times and
lengths differ in every trace.

| shape | what it is |
|---|---|
| orders | five accesses in eight spans: two requests served, three statements; people and rows from some dozens |
| entries | one access in eight spans |
| events | as orders, and every span has a trace state, one two events, one a link, with times and ids of their own |
| logs | as orders, and a request of two log records a trace that say nothing a record would tell; CPU is told for each span |
| varied | as orders, and every trace has a person, rows, addresses and statement literals that hardly come again, and its spans in one of 256 orders |
| services | as orders, from 200 services, in requests of one to ten spans |
| huge | one trace of as many spans as the load has; its root comes last |
`;

/** The page docs/benchmarks.md. */
export function benchmarksMarkdown(): string {
  const parts = [
    INTRODUCTION,
    peers(),
    pacedLoads(),
    workersAndReplay(),
    openCost(),
    openMemory(),
    start(),
    searchable(),
    code(),
  ];
  return `${parts.filter((part) => part !== '').join('\n')}\n${origins()}`;
}

function peers(): string {
  const rows = readRows<PeerRow>('peers').map((row) => [
    `${row.shape}${row.gzip ? ', gzip' : ''}`,
    PIPELINE_WORDS[row.pipeline] ?? row.pipeline,
    `**${two(row.ratio.median)}** (${two(row.ratio.least)} to ${two(row.ratio.most)})`,
    GOALS[peerKey(row)] ?? '',
    spread(row.spantrail.cpuMicrosASpan),
    spread(row.collector.cpuMicrosASpan),
    `${thousands(row.spantrail.spansPerSecond)} / ${thousands(row.collector.spansPerSecond)}`,
    `${row.spantrail.peakMemoryMiB} / ${row.collector.peakMemoryMiB}`,
  ]);
  return section(
    'Beside the Collector',
    'CPU of Spantrail in CPU of the Collector for the same load, pair by pair: median, least and most. What is aimed at: at most, and better.',
    'traffic | against | **ratio** | aimed at | Spantrail, µs a span | Collector, µs a span | spans/s | peak MiB',
    rows,
  );
}

function pacedLoads(): string {
  const rows = readRows<PeerRow>('peers').flatMap(({ shape, gzip, pipeline, halfLoad, steadyLoad }) =>
    [halfLoad, steadyLoad].map((load, at) => [
      `${shape}${gzip ? ', gzip' : ''} (beside ${pipeline})${at === 0 ? ', half' : ', 150k'}`,
      load.spansPerSecond.toLocaleString('en'),
      `${load.ackMs.p50.toFixed(1)} / ${load.ackMs.p99.toFixed(1)}`,
      String(load.peakMemoryMiB),
      load.histogram.map(([upToMs, requests]) => `${upToMs}: ${requests}`).join(', '),
    ]),
  );
  return section(
    'At a steady load',
    'From when a request was due until it was acknowledged: at half of what a core settles by the CPU of a span above, and at 150,000 or what it takes of them; how many took up to so many milliseconds.',
    'traffic | spans/s | p50 / p99, ms | peak MiB | requests by ms',
    rows,
  );
}

function workersAndReplay(): string {
  const workers = readRows<WorkersRow>('workers').flatMap(({ shape, spans, workers: each, gain }) => [
    ...each.map((one) => [
      `${shape}, ${spans} spans, ${one.workers} worker${one.workers > 1 ? 's' : ''}`,
      perSecond(one.spansPerSecond),
      `${spread(one.cpuMicrosASpan)} µs a span`,
    ]),
    [`${shape}: how many times as fast`, `**${two(gain.median)}** (${two(gain.least)} to ${two(gain.most)})`, ''],
  ]);
  const replay = readRows<ReplayRow>('replay').map(({ shape, spans, spansPerSecond, peakMemoryMiB }) => [
    `${shape}, ${spans} spans, only read at a start`,
    perSecond(spansPerSecond),
    `${peakMemoryMiB} MiB`,
  ]);
  return section(
    'From a full write-ahead log',
    'Nobody sends: open traces, as a crash left them, become records in the null store on all cores, compiling included; or are only read.',
    'what | spans/s | cost',
    [...workers, ...replay],
  );
}

function openCost(): string {
  const rows = readRows<OpenCostRow>('open-cost').map(({ openTraces, cpuMicrosASpan, peakMemoryMiB }) => [
    openTraces.toLocaleString('en'),
    spread(cpuMicrosASpan),
    String(peakMemoryMiB),
  ]);
  return section(
    'With many open traces',
    'What a span of whole traces costs while others stay open because their root does not come.',
    'open traces | µs a span | peak MiB so far',
    rows,
  );
}

function openMemory(): string {
  const rows = readRows<OpenRow>('open').map((row) => [
    row.openTraces.toLocaleString('en'),
    row.openSpans.toLocaleString('en'),
    String(row.peakMemoryMiB),
    String(row.residentMiB.rested),
    String(row.bytesASpan),
  ]);
  return section(
    'Memory of open traces',
    'Of a process in which no trace is settled; bytes of buffers a span include caches.',
    'open traces | their spans | peak MiB | MiB a little later | bytes of buffers a span',
    rows,
  );
}

function start(): string {
  const rows = readRows<StartRow>('start').map(({ program, turn, seconds, cpuSeconds }) => [
    `${program}, ${turn}`,
    spread(seconds),
    spread(cpuSeconds),
  ]);
  return section(
    'Start',
    'On an empty folder, with DuckDB, on one core. A package has JavaScript; out of a checkout types are taken out of the source. Later starts find what V8 compiled for the first.',
    'start | seconds until it listens | seconds of CPU',
    rows,
  );
}

function searchable(): string {
  const rows = readRows<SearchableRow>('searchable').map(({ store, spansPerSecond, sinceSentMs, ...row }) => [
    store,
    spansPerSecond.toLocaleString('en'),
    ...[row.sinceAcknowledgedMs, sinceSentMs].map(({ p50, p99, max }) => `${p50} / ${p99} / ${max}`),
    `${row.traces}${row.lost > 0 ? ` and ${row.lost} not found` : ''}`,
  ]);
  return section(
    'Until a trace is found',
    'From the one request of a complete trace until the API finds all its records, beside a light load and beside half of what the store takes; the service, its load and the store share all cores, and all settings are those that stand without a file.',
    'store | spans/s | after the acknowledgement, p50 / p99 / max, ms | after it was sent, ms | traces',
    rows,
  );
}

function code(): string {
  const rows = readRows<CountRow>('count').map(({ shape, codeASpan, places }) => [
    shape,
    codeASpan.toLocaleString('en'),
    Object.entries(places)
      .slice(0, 5)
      .map(([place, run]) => `${place} ${run.toLocaleString('en')}`)
      .join(', '),
  ]);
  return section(
    'Code run',
    'Characters of source that the main thread runs a span, after warm-up, as V8 counts blocks: alike on every machine and under any load, so a test can hold it. What native code does is not in it.',
    'traffic | characters a span | most of them in',
    rows,
  );
}

function section(title: string, words: string, header: string, rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return '';
  const columns = header.split(' | ').length;
  const lines = [`| ${header} |`, `|${'---|'.repeat(columns)}`, ...rows.map((row) => `| ${row.join(' | ')} |`)];
  return `## ${title}\n\n${words}\n\n${lines.join('\n')}\n`;
}

/** Each command once, with what it was run on. */
function origins(): string {
  const names = ['peers', 'workers', 'replay', 'open-cost', 'open', 'start', 'searchable', 'count'] as const;
  const rows = names.flatMap((name) => readRows<object>(name));
  const lines = new Set(
    rows.map(({ commit, machine, command }: Origin) => `| \`${command}\` | ${commit} | ${machine} |`),
  );
  if (lines.size === 0) return '';
  return `## Commands\n\n| command | commit (+ with changes) | machine |\n|---|---|---|\n${[...lines].join('\n')}\n`;
}

const two = (value: number) => value.toFixed(2);
const spread = ({ median, least, most }: Spread) => `${two(median)} (${two(least)} to ${two(most)})`;
const thousands = ({ median }: Spread) => `${Math.round(median / 1000)}k`;
const perSecond = ({ median, least, most }: Spread) =>
  `${thousands({ median, least, most })} (${Math.round(least / 1000)}k to ${Math.round(most / 1000)}k)`;

if (import.meta.main) process.stdout.write(benchmarksMarkdown());
