import { runCount } from './count.ts';
import { runOpen } from './open.ts';
import { runOpenCost } from './open-cost.ts';
import { runPairs } from './pairs.ts';
import type { PipelineName } from './peers.ts';
import { runReplay, runWorkers } from './prefilled.ts';
import { runSearchable, SEARCHABLE_SECONDS, STORES } from './searchable.ts';
import type { ShapeName } from './shapes.ts';
import { runStart } from './start.ts';

export interface AllOptions {
  readonly pairs: number;
  readonly connections: number;
  readonly slots: number;
  readonly cores: string;
  readonly serveArguments: readonly string[];
  /** Of a load of orders; of the traffic that costs either side more, a part of it. */
  readonly spans: number;
  /** Of a count of code, which makes it slow. */
  readonly countSpans: number;
}

interface PeerRun {
  readonly shape: ShapeName;
  readonly gzip: boolean;
  readonly pipelines: readonly PipelineName[];
  /** Which part of the spans its loads have. */
  readonly part: number;
}

const PEER_RUNS: readonly PeerRun[] = [
  { shape: 'orders', gzip: false, pipelines: ['nop', 'tail_sampling', 'groupbytrace'], part: 1 },
  { shape: 'orders', gzip: true, pipelines: ['nop'], part: 1 },
  { shape: 'entries', gzip: false, pipelines: ['nop'], part: 1 },
  { shape: 'events', gzip: false, pipelines: ['nop'], part: 1 },
  { shape: 'logs', gzip: false, pipelines: ['nop'], part: 1 },
  { shape: 'varied', gzip: false, pipelines: ['nop'], part: 0.4 },
  { shape: 'services', gzip: false, pipelines: ['nop'], part: 0.2 },
  { shape: 'huge', gzip: false, pipelines: ['nop'], part: 0.4 },
];

/** Everything that docs/benchmarks.md shows, one after the other, kept. */
export async function runAll(options: AllOptions): Promise<void> {
  const common = { ...options, keep: true };
  for (const { part, ...run } of PEER_RUNS) await runPairs({ ...common, ...run, spans: options.spans * part });
  const orders = { ...common, shape: 'orders', gzip: false } as const;
  await runReplay({ ...orders, spans: 2 * options.spans });
  await runWorkers({ ...orders, spans: 2 * options.spans }, [1, 2]);
  await runStart(common);
  await runOpenCost({ ...common, spans: options.spans / 2, numbers: [10_000, 100_000, 1_000_000] });
  await runOpen({ ...common, traces: 1_000_000 });
  for (const shape of ['orders', 'entries', 'events', 'logs', 'varied'] as const)
    await runCount({ ...common, shape, spans: options.countSpans });
  for (const store of STORES) await runSearchable(store, { ...common, seconds: SEARCHABLE_SECONDS });
}
