import { describe, expect, it } from 'vitest';
import { type Coverage, startCoverage } from '../../src/app/coverage.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import type { CoverageNote } from '../../src/core/coverage.ts';
import { HOUR_MS } from '../../src/core/coverage.ts';
import { Counters } from '../../src/core/metrics.ts';
import { MemoryDisk } from '../wal/memory-disk.ts';

const NOW_MS = Date.parse('2026-11-22T12:00:00Z');
const NOTE: CoverageNote = {
  ...{ namespace: 'default', service: 'shop', hour: NOW_MS / HOUR_MS, firstMs: NOW_MS, lastMs: NOW_MS },
  ...{ spans: 10, roots: 10, logs: 0, stated: 10, sampled: 10, unsampled: 0 },
  ...{ children: 0, missingLocal: 0, missingRemote: 0, probabilityMin: 0.5, probabilityMax: 0.5 },
};

/** Time that passes by hand: `pass` lets what is due happen, and waits until the disk has done it. */
class World {
  readonly disk = new MemoryDisk();
  readonly counters = new Counters();
  readonly warnings: string[] = [];
  nowMs = NOW_MS;
  lagMs = 0;
  #due: { atMs: number; act: () => void }[] = [];

  start(): Promise<Coverage> {
    const log = {
      warn: (_: object, message: string) => void this.warnings.push(message),
      error: () => undefined,
    };
    return startCoverage({
      settings: settingsSchema.parse({}).coverage,
      ...{ folder: '/data', disk: this.disk, counters: this.counters, log },
      clock: { nowMs: () => this.nowMs },
      scheduler: {
        after: (delayMs, act) => {
          const entry = { atMs: this.nowMs + delayMs, act };
          this.#due.push(entry);
          return () => {
            this.#due = this.#due.filter((other) => other !== entry);
          };
        },
        elapsedMs: () => this.nowMs,
        random: () => 0,
      },
      lagMs: () => this.lagMs,
    });
  }

  get planned(): number {
    return this.#due.length;
  }

  async pass(milliseconds: number): Promise<void> {
    await settled();
    this.nowMs += milliseconds;
    const due = this.#due.filter(({ atMs }) => atMs <= this.nowMs);
    this.#due = this.#due.filter(({ atMs }) => atMs > this.nowMs);
    for (const { act } of due) act();
    await settled();
  }
}

/** The disk in memory answers in turns of the event loop. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
}

const refuse = (world: World, requests: number) =>
  world.counters.add('requests', requests, { transport: 'http', signal: 'traces', status: '503' });
const gaugeOf = (world: World, kind: string) => world.counters.total('coverage_gaps', { kind });

describe('coverage of a process', () => {
  it('is durable some seconds after it was seen, and measured', async () => {
    const world = new World();
    const first = await world.start();
    first.add([NOTE]);
    await world.pass(5_000);
    expect(gaugeOf(world, 'sampling')).toBe(1);
    expect(gaugeOf(world, 'silence')).toBe(0);
    // Killed: nothing is closed.
    world.disk.crash('nothing unsynced');
    const second = await world.start();
    expect(second.answer({}).services).toMatchObject([{ service: 'shop', spans: 10 }]);
    expect(world.warnings).toEqual([expect.stringMatching(/^the last run ended without a stop/)]);
  });

  it('is durable at a stop, which leaves nothing to do behind', async () => {
    const world = new World();
    const first = await world.start();
    first.add([NOTE]);
    refuse(world, 3);
    await first.close();
    expect(world.planned).toBe(0);
    world.disk.crash('nothing unsynced');
    const second = await world.start();
    expect(second.answer({}).services).toMatchObject([{ spans: 10 }]);
    expect(second.summary({}).gaps.map(({ kind }) => kind)).toContain('refused');
    expect(world.warnings).toEqual([]);
  });

  it('counts refusals since it last looked, and not other answers', async () => {
    const world = new World();
    const coverage = await world.start();
    world.counters.add('requests', 5, { transport: 'http', signal: 'traces', status: '200' });
    world.counters.add('requests', 5, { transport: 'http', signal: 'traces', status: '400' });
    await world.pass(5_000);
    expect(coverage.answer({}).gaps).toEqual([]);
    refuse(world, 2);
    await world.pass(5_000);
    world.counters.add('requests', 1, { transport: 'grpc', signal: 'logs', status: 'UNAVAILABLE' });
    await world.pass(5_000);
    expect(coverage.answer({}).gaps).toMatchObject([
      { kind: 'refused', ongoing: true, text: expect.stringMatching(/^Spantrail refused 3 requests:/) },
    ]);
    for (let passed = 0; passed < 12; passed++) await world.pass(5_000);
    expect(coverage.answer({}).gaps).toMatchObject([{ kind: 'refused', ongoing: false }]);
  });

  it('says once that the disk is full, and catches up', async () => {
    const world = new World();
    const coverage = await world.start();
    await settled();
    world.disk.capacityBytes = 0;
    coverage.add([NOTE]);
    for (let round = 0; round < 3; round++) await world.pass(5_000);
    expect(world.warnings).toEqual(['the coverage log could not be written, will be tried again']);
    world.disk.capacityBytes = Number.POSITIVE_INFINITY;
    await world.pass(5_000);
    world.disk.crash('nothing unsynced');
    expect((await world.start()).answer({}).services).toMatchObject([{ spans: 10 }]);
  });

  it('calls nobody silent while evidence waits to be stored', async () => {
    const world = new World();
    const coverage = await world.start();
    const hours = [0, 1, 2].map((hour): CoverageNote => {
      const firstMs = NOW_MS + hour * HOUR_MS;
      return { ...NOTE, hour: NOTE.hour + hour, firstMs, lastMs: firstMs + HOUR_MS - 1, sampled: 0, stated: 0 };
    });
    world.nowMs += 6 * HOUR_MS;
    coverage.add(hours);
    expect(coverage.summary({}).gaps.map(({ kind }) => kind)).toEqual(['silence']);
    world.lagMs = 4 * HOUR_MS;
    expect(coverage.summary({}).gaps).toEqual([]);
    world.lagMs = Number.POSITIVE_INFINITY;
    expect(coverage.summary({}).gaps).toEqual([]);
  });
});
