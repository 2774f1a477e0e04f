import { setTimeout as sleep } from 'node:timers/promises';
import { checkIndexed, type Found } from './check.ts';
import type { House } from './house.ts';
import { Load, type LoadCounts } from './load.ts';

export const FIRST_NAMES = ['spantrail-0', 'spantrail-1', 'spantrail-2'] as const;

export interface ScenarioOptions {
  readonly tracesASecond: number;
  /** Between two faults, and for as long as something is away. */
  readonly pauseMs: number;
  /** The faults are repeated until so much time has passed; 0: each of them once. */
  readonly forMs: number;
  /** Load alone. */
  readonly isCalm?: boolean;
  readonly tell: (words: string) => void;
}

export interface Outcome extends LoadCounts, Found {
  readonly seconds: number;
  readonly faults: readonly string[];
}

/** Load through all of it; resolves when every acknowledged access is indexed once. */
export async function runScenario(house: House, options: ScenarioOptions): Promise<Outcome> {
  const { tracesASecond, pauseMs, forMs, isCalm = false, tell } = options;
  const startMs = performance.now();
  const load = new Load(house, tracesASecond);
  const faults: string[] = [];
  const note = (words: string) => {
    faults.push(words);
    tell(`${((performance.now() - startMs) / 1000).toFixed(0)} s: ${words}`);
  };
  const { steps, done } = faultsOf(house, pauseMs, note);
  try {
    await sleep(pauseMs);
    for (let round = 0; isCalm || round === 0 || performance.now() - startMs < forMs; round++) {
      if (isCalm) {
        await sleep(forMs);
        break;
      }
      for (const step of steps) {
        await step(round);
        await sleep(pauseMs);
      }
    }
    await done();
  } finally {
    await load.stop();
  }
  const seconds = (performance.now() - startMs) / 1000;
  tell(`${seconds.toFixed(0)} s: the load ends`);
  const found = await checkIndexed(house, load.expected);
  return { ...load.counts, ...found, seconds, faults };
}

function faultsOf(house: House, pauseMs: number, note: (words: string) => void) {
  const { cluster } = house;
  const names = () => [...house.instances.keys()];
  const pick = (round: number) => names()[round % names().length] ?? '';
  let next: number = FIRST_NAMES.length;
  let resumed = Promise.resolve();
  const steps = [
    async (round: number) => {
      const name = pick(round);
      note(`${name} is killed (SIGKILL)`);
      await house.end(name, 'SIGKILL');
      await sleep(pauseMs);
      await house.start(name);
      note(`${name} is back`);
    },
    async () => {
      await resumed;
      await cluster.untilGreen();
      note('an Elasticsearch node is killed (SIGKILL)');
      await cluster.second.halt('SIGKILL');
      await sleep(pauseMs);
      // It takes its time, and the others go on.
      resumed = cluster.second.resume().then(() => note('the Elasticsearch node is back'));
      resumed.catch(() => undefined);
    },
    async () => {
      const name = `spantrail-${next++}`;
      await house.start(name);
      await house.route(names());
      note(`${name} is added`);
    },
    async (round: number) => {
      const name = pick(round);
      const going = house.instances.get(name);
      await house.route(names().filter((other) => other !== name));
      note(`${name} gets nothing more from the Collector`);
      // As docs/growth.md says: first out of the routes, then until it holds nothing, then stopped.
      house.withhold(name);
      for (;;) {
        const { pending, counters } = (await going?.pipeline()) ?? { pending: { evidence: 0 }, counters: [] };
        const waiting = counters.find((sample) => sample.name === 'forward_waiting')?.value ?? 0;
        if (pending.evidence + waiting === 0) break;
        await sleep(100);
      }
      await house.end(name, 'SIGTERM');
      note(`${name} holds nothing and is taken away`);
    },
  ];
  return { steps, done: () => resumed };
}
