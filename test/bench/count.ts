import type { CodeRun } from './code-run.ts';
import { runLoad } from './load.ts';
import { keepRow } from './results.ts';
import type { ShapeName } from './shapes.ts';
import { startSpantrail } from './spantrail.ts';
import { buildTraffic } from './workload.ts';

export interface CountRow {
  readonly shape: ShapeName;
  readonly spans: number;
  /** Characters of source run a span, in all and by place: JavaScript of the main thread, not what native code does. */
  readonly codeASpan: number;
  readonly places: CodeRun;
}

/** Those with the most. */
const PLACES_KEPT = 12;

interface CountOptions {
  readonly shape: ShapeName;
  readonly spans: number;
  readonly serveArguments: readonly string[];
}

/** How much code a span runs through: nearly the same on every machine and at every load, so that tests can look at it. */
export async function countCode(options: CountOptions): Promise<CountRow> {
  const receiver = await startSpantrail({ ...options, store: 'null', cores: '', preload: 'count-preload.ts' });
  try {
    const traffic = buildTraffic(options.shape);
    const load = { port: receiver.grpcPort, connections: 1, slots: 4, seconds: Number.POSITIVE_INFINITY, traffic };
    await receiver.ask();
    // What is looked up, compiled and remembered at first is not what a span costs.
    await runLoad({ ...load, spansMax: options.spans });
    await receiver.untilIdle();
    await receiver.ask();
    const { acknowledgedSpans: spans } = await runLoad({ ...load, spansMax: options.spans });
    await receiver.untilIdle();
    const counted = Object.entries(await receiver.ask<CodeRun>());
    const places = counted.map(([place, run]) => [place, Math.round(run / spans)] as const);
    places.sort(([, a], [, b]) => b - a);
    const codeASpan = places.reduce((sum, [, run]) => sum + run, 0);
    return { shape: options.shape, spans, codeASpan, places: Object.fromEntries(places.slice(0, PLACES_KEPT)) };
  } finally {
    await receiver.stop();
  }
}

export async function runCount(options: CountOptions & { readonly keep: boolean }): Promise<void> {
  const row = await countCode(options);
  process.stdout.write(`${JSON.stringify(row)}\n`);
  const places = Object.entries(row.places).map(([place, run]) => `  ${place.padEnd(30)}${run}`);
  process.stderr.write(`${row.codeASpan} characters of source run a span\n${places.join('\n')}\n`);
  if (options.keep) keepRow<CountRow>('count', row, (one) => one.shape);
}
