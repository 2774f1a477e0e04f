import { describe, expect, it } from 'vitest';
import { hashTrace } from '../../src/join/trace-slots.ts';
import { TraceTable } from '../../src/join/trace-table.ts';
import { type Item, spanIdOf, testSettling, traceIdOf, World } from './world.ts';

const SERVER = 2;

function span(number: number, parent?: number, trace = 1): Item {
  const ids = { traceId: traceIdOf(trace), spanId: spanIdOf(number) };
  return {
    signal: 'traces',
    span: { ...ids, name: `s${number}`, kind: SERVER, ...(parent && { parentSpanId: spanIdOf(parent) }) },
  };
}

function log(number: number, trace = 1): Item {
  return { signal: 'logs', log: { traceId: traceIdOf(trace), attributes: { access: number } } };
}

describe('evidence that comes while the settle journal is replayed', () => {
  it('is settled as late evidence of its trace, not held as if it were stored', () => {
    const world = new World();
    world.send([span(1)]);
    world.pass(1000);
    const replayed = world.frames.length;
    world.beginRestart();
    world.send([span(2, 1)]);
    world.endRestart(replayed);
    expect(world.shard.stats(world.nowMs).evidencePending).toBe(1);
    world.pass(60_000);
    expect(world.shard.stats(world.nowMs).evidencePending).toBe(0);
    expect([...world.visible().keys()].sort()).toEqual([1, 2].map((n) => `${traceIdOf(1)}/${spanIdOf(n)}`));
  });
});

describe('time', () => {
  it('does not jump ahead after a write that took long while evidence came', () => {
    const world = new World();
    world.send([span(1)]);
    world.nowMs += 1000;
    const batch = world.shard.take(world.nowMs, 10);
    for (let second = 0; second < 30; second++) {
      world.nowMs += 1000;
      world.send([span(1, undefined, 100 + second)]);
    }
    world.send([span(2, 9, 2)]);
    world.shard.stored(batch?.number ?? 0, [{ segment: 1, offset: 32 }]);
    world.pass(5000);
    expect(world.shard.stats(world.nowMs).evidencePending).toBe(1);
    world.pass(5100);
    expect(world.shard.stats(world.nowMs).evidencePending).toBe(0);
  });

  it('that was wrong in an earlier run does not put off late evidence', () => {
    const world = new World();
    world.nowMs += 86_400_000;
    world.send([span(1)]);
    world.pass(1000);
    world.nowMs -= 86_400_000;
    world.restart();
    world.send([span(2, 1)]);
    world.pass(60_000);
    expect(world.shard.stats(world.nowMs).evidencePending).toBe(0);
  });
});

describe('a trace that never ends', () => {
  it('is settled though what its settle would look at first is beyond the horizon', () => {
    const world = new World({ settings: { spansMax: 4 }, segmentFrames: 1 });
    const apart = (number: number): Item => ({
      signal: 'traces',
      span: { traceId: traceIdOf(1), spanId: String(number).padEnd(16, '0'), name: `s${number}`, kind: SERVER },
    });
    for (let number = 1; number <= 8; number++) world.send([apart(number)]);
    world.pass(60_000);
    world.send([apart(9)]);
    world.dropBefore(world.frames.length);
    world.pass(600_000);
    expect(world.shard.stats(world.nowMs).evidencePending).toBe(0);
    expect(world.visible().has(`${traceIdOf(1)}/${String(9).padEnd(16, '0')}`)).toBe(true);
  });

  it('does not keep what is beyond the horizon in its journal entries', () => {
    const world = new World({ settings: { spansMax: 4, lateWaitMaxMs: 10_000 }, segmentFrames: 1 });
    for (let number = 1; number <= 200; number++) {
      world.send([span(number, number > 1 ? 1 : undefined)]);
      world.pass(11_000);
      world.dropBefore(world.frames.length - 10);
    }
    expect(world.journal.at(-1)?.entry.pieces.length).toBeLessThan(20);
    expect(world.shard.stats(world.nowMs)).toMatchObject({ tracesOpen: 0, evidencePending: 0, tracesStored: 1 });
  });

  it('and says the same thing for ever makes no journal entry grow', () => {
    const world = new World({ settings: { lateWaitMaxMs: 10_000 }, segmentFrames: 1 });
    for (let round = 1; round <= 50; round++) {
      world.send([span(1), span(2, 1), log(1)]);
      world.pass(11_000);
    }
    expect(world.journal.length).toBe(50);
    expect(new Set(world.journal.map(({ entry }) => entry.pieces.length))).toEqual(new Set([3]));
    expect(world.counted()).toEqual({ used: 3, context: 0, excluded: 0, duplicate: 147, quarantined: 0 });
  });
});

describe('a restart with other rules', () => {
  it.each([
    ['more', () => true],
    ['less', () => false],
  ])('counts each log record without a trace once, though now %s of them are accesses', (_, isAccessLog) => {
    const settling = { ...testSettling };
    const world = new World({ settling });
    world.send([{ access: 1 }, {}, {}].map((attributes) => ({ signal: 'logs', log: { attributes } })));
    world.pass(60_000);
    expect([world.counted().used, world.ignored()]).toEqual([1, 2]);
    settling.isAccessLog = isAccessLog;
    world.restart();
    world.pass(60_000);
    expect([world.counted().used, world.ignored()]).toEqual([1, 2]);
  });
});

describe('a restart that finds a part of a trace beyond the horizon', () => {
  it('does not take records of that part back when more evidence comes', () => {
    const world = new World({ segmentFrames: 1 });
    world.send([span(1)]);
    world.send([span(2, 1)]);
    world.pass(1000);
    world.send([span(3, 1)]);
    world.pass(60_000);
    expect(world.visible().size).toBe(3);
    world.frames.splice(0, 2);
    world.dropBefore(3);
    world.restart();
    for (let number = 4; number <= 8; number++) world.send([span(number, 1)]);
    world.pass(60_000);
    expect(world.visible().size).toBe(8);
  });
});

describe('trace ids that were chosen to have one hash', () => {
  /** Undoes the last step of hashTrace: the word that brings a state to this hash. */
  function lastWord(id: Uint32Array, hash: number): number {
    let state = 1;
    for (const word of id.subarray(0, 3)) {
      state = Math.imul(state ^ word, 0x9e37_79b1);
      state ^= state >>> 15;
    }
    let inverse = 1;
    for (let round = 0; round < 6; round++) inverse = Math.imul(inverse, 2 - Math.imul(inverse, 0x9e37_79b1));
    return Math.imul(hash ^ (hash >>> 15) ^ (hash >>> 30), inverse) ^ state;
  }

  it('are added as fast as others', () => {
    const ids = Array.from({ length: 20_000 }, (_, number) => {
      const id = Uint32Array.of(number + 1, 7, 9, 0);
      id[3] = lastWord(id, 12_345);
      return id;
    });
    expect(new Set(ids.map((id) => hashTrace(id, 1))).size).toBe(1);
    const others = ids.map((_, number) => Uint32Array.of(number, number, number, number));
    expect(addAll(ids)).toBeLessThan(20 * addAll(others) + 200);
  });

  function addAll(ids: readonly Uint32Array[]): number {
    const table = new TraceTable();
    const startMs = performance.now();
    for (const id of ids) if (table.find(id, 1) === 0) table.add(id, 1);
    return performance.now() - startMs;
  }
});
