import { Simulation, SimulationFailure, type SimulationResult } from './simulation.ts';

export interface RunOptions {
  readonly from: number;
  readonly count: number;
  readonly print: (line: string) => void;
  /** Told every step of every run. */
  readonly trace?: (line: string) => void;
  /** How often progress is printed. */
  readonly everySeeds?: number;
}

export interface RunTotal extends SimulationResult {
  readonly from: number;
  readonly seeds: number;
  readonly failed: number;
}

const NOTHING: SimulationResult = { events: 0, lives: 0, frames: 0, records: 0, exact: 0, cut: 0, quarantined: 0 };

/** Runs seeds one after the other; prints for each that fails what is wrong and the command that replays it. */
export async function runSeeds({ from, count, print, trace, everySeeds }: RunOptions): Promise<RunTotal> {
  let failed = 0;
  const sum: Record<string, number> = { ...NOTHING };
  for (let seed = from; seed < from + count; seed++) {
    try {
      const result = await new Simulation(seed, trace).run();
      for (const [name, value] of Object.entries(result)) sum[name] = (sum[name] ?? 0) + value;
    } catch (thrown) {
      failed++;
      const words =
        thrown instanceof SimulationFailure ? thrown.message : thrown instanceof Error ? thrown.stack : String(thrown);
      print(`seed ${seed}: ${words}\n  replay: npm run -s simulate -- --seed ${seed}`);
    }
    const done = seed - from + 1;
    if (everySeeds !== undefined && done % everySeeds === 0 && done < count)
      print(`${done} of ${count} seeds, ${failed} failed`);
  }
  return { from, seeds: count, failed, ...NOTHING, ...sum };
}
