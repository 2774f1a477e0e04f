import { describe, expect, it } from 'vitest';
import { createSettling } from '../../src/app/settling.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import { formatTimestamp } from '../../src/core/clock.ts';
import { entryOf } from '../fixtures/journal.ts';
import { entriesOf } from './entries.ts';
import { type Item, spanIdOf, traceIdOf, World } from './world.ts';

const SERVER = 2;
const MINUTE_MS = 60_000;

function span(number: number, parent?: number, trace = 1): Item {
  const ids = { traceId: traceIdOf(trace), spanId: spanIdOf(number) };
  return {
    signal: 'traces',
    span: { ...ids, name: `s${number}`, kind: SERVER, ...(parent && { parentSpanId: spanIdOf(parent) }) },
  };
}

function event(number: number, trace = 1, spanNumber?: number): Item {
  const ids = { traceId: traceIdOf(trace), ...(spanNumber && { spanId: spanIdOf(spanNumber) }) };
  return { signal: 'logs', log: { ...ids, attributes: { access: number } } };
}

function idOf(number: number, trace = 1): string {
  return `${traceIdOf(trace)}/${spanIdOf(number)}`;
}

/** What one settle of all that was sent yields. */
function batchOf(items: readonly Item[]): World {
  const world = new World();
  world.send(items);
  world.settleAll();
  return world;
}

describe('evidence that comes long after its trace was stored', () => {
  it('joins it whole, 30 minutes later', () => {
    const world = new World();
    const early = [span(1), span(2, 1), event(1)];
    const late = [span(3, 2), event(2, 1, 2)];
    world.send(early);
    world.pass(1000);
    for (let trace = 2; trace <= 200; trace++) {
      world.send([span(1, undefined, trace)]);
      world.pass(9_000);
    }
    expect(world.shard.stats(world.nowMs)).toMatchObject({ tracesStored: 200 });
    world.send(late);
    world.pass(MINUTE_MS);
    const others = [...world.visible().keys()].filter((id) => !id.startsWith(traceIdOf(1)) && id.includes('/'));
    for (const id of others) world.store.delete(id);
    expect(world.visible()).toEqual(batchOf([...early, ...late]).visible());
    expect(world.store.get(idOf(1))?.record.audit).toMatchObject({
      revision: 2,
      join: { late: true, state: 'complete' },
    });
  });

  it('joins it also after a restart, and when the index has been full all the time', () => {
    const world = new World({ settings: { indexBytesMax: 40_000, graceMs: 5000 } });
    world.send([span(1), span(2, 1)]);
    world.pass(6000);
    for (let trace = 2; trace <= 300; trace++) {
      world.send(Array.from({ length: 20 }, (_, index) => span(index + 1, index === 0 ? undefined : 1, trace)));
      world.drain();
      world.nowMs += 10;
    }
    expect(world.reasons()).toContain('memory_pressure');
    world.settleAll();
    world.restart();
    expect(world.shard.stats(world.nowMs)).toMatchObject({ tracesOpen: 0, tracesStored: 300, replayed: 0 });
    world.send([span(3, 1)]);
    world.pass(20_000);
    expect([1, 2, 3].map((number) => world.store.get(idOf(number))?.record.audit)).toMatchObject([
      { revision: 2, join: { state: 'complete' } },
      { revision: 2 },
      { revision: 2 },
    ]);
  });

  it('finds the evidence gone: says partial, takes nothing back and does not forget it', () => {
    const world = new World({ segmentFrames: 1 });
    world.send([span(1), span(2, 1)]);
    world.pass(1000);
    world.dropBefore(2);
    for (let number = 3; number <= 9; number++) {
      world.send([span(number, 1)]);
      world.pass(MINUTE_MS * 20);
    }
    const states = [...world.visible()].map(([id, { audit }]) => [id.slice(-1), audit.join.state]);
    expect(states.slice(0, 2)).toEqual([
      ['1', 'complete'],
      ['2', 'complete'],
    ]);
    expect(new Set(states.slice(2).map(([, state]) => state))).toEqual(new Set(['partial']));
  });

  it('finds the journal entry gone: says partial', () => {
    const world = new World();
    world.send([span(1)]);
    world.pass(1000);
    world.send([span(2, 1)]);
    world.journal.splice(0);
    world.pass(MINUTE_MS);
    expect(world.store.get(idOf(2))?.record.audit.join.state).toBe('partial');
  });

  it('and of which nothing is known any more makes an orphan that says since when things are known', () => {
    const indexBytesMax = 40_000;
    const world = new World({ settings: { indexBytesMax }, settling: createSettling(settingsSchema.parse({})) });
    const request = (number: number, trace: number): Item => ({
      signal: 'traces',
      span: {
        ...{ traceId: traceIdOf(trace), spanId: spanIdOf(number), kind: SERVER, name: 'GET' },
        ...(number > 1 && { parentSpanId: spanIdOf(1) }),
        startNs: BigInt(world.nowMs) * 1_000_000n,
        attributes: { 'http.request.method': 'GET', 'url.path': `/patients/${number}` },
      },
    });
    const [early, late] = [request(1, 1), request(2, 1)];
    world.send([early]);
    world.pass(1000);
    for (let trace = 3; trace <= 2000; trace++) {
      const position = { segment: 1, offset: 1000 + trace };
      const entry = entryOf({ traceId: traceIdOf(trace), settledAtMs: world.nowMs + trace });
      world.journal.push({ entry, position });
      world.shard.restore(entry, position);
    }
    const { knownSinceMs = 0, indexBytes } = world.shard.stats(world.nowMs);
    expect(indexBytes).toBeLessThanOrEqual(indexBytesMax);
    expect(knownSinceMs).toBeGreaterThan(world.nowMs);
    world.pass(knownSinceMs - world.nowMs);
    world.send([late, request(2, 2)]);
    world.pass(MINUTE_MS);
    const joins = [...world.visible().values()].map(({ trace, url, audit }) => [
      trace?.id,
      url?.path,
      audit.join.state,
    ]);
    expect(joins.sort()).toEqual([
      [traceIdOf(1), '/patients/1', 'complete'],
      [traceIdOf(1), '/patients/2', 'orphan'],
      [traceIdOf(2), '/patients/2', 'orphan'],
    ]);
    const horizons = [...world.store.values()].map(({ record }) => [record.trace?.id, record.audit.join.horizon]);
    const since = formatTimestamp(BigInt(knownSinceMs) * 1_000_000n);
    expect(horizons.filter(([, horizon]) => horizon !== undefined)).toEqual([
      [traceIdOf(1), `began before ${since}; what came before that is not known any more`],
    ]);
  });

  it('revises a record that another stands for once, not with every later settle', () => {
    const world = new World({ settings: { lateWaitMaxMs: 10_000 } });
    const supersededOf = () => world.batches.flatMap((batch) => batch.superseded.map(({ id, by }) => [id, by]));
    world.send([event(1, 1, 1)]);
    world.pass(MINUTE_MS);
    world.send([event(2, 1, 1)]);
    world.pass(MINUTE_MS);
    const [[id, by] = []] = supersededOf();
    expect([id, typeof by]).toEqual([idOf(1), 'string']);
    for (let number = 3; number <= 6; number++) {
      world.send([event(number, 1, 9)]);
      world.pass(MINUTE_MS);
      world.restart();
    }
    expect(supersededOf().filter(([superseded]) => superseded === id)).toEqual([[id, by]]);
    expect(world.store.get(idOf(1))?.record.audit).toMatchObject({ superseded_by: by, revision: 2 });
    // It comes back with the span, and is known to have been there.
    world.send([span(1)]);
    world.pass(MINUTE_MS);
    const back = world.batches.at(-1)?.traces[0]?.writes.find((write) => write.id === id);
    expect(back).toMatchObject({ previousTimestampNs: 0n, record: { audit: { revision: 7 } } });
  });
});

describe('for a comparison with the store', () => {
  const world = new World({ settings: { lateWaitMaxMs: 10_000 } });
  world.send([span(1), span(2, 1)], 'a');
  world.send([span(1)], 'b');
  world.pass(MINUTE_MS);
  world.send([span(3, 1)], 'a');
  world.pass(MINUTE_MS);

  it('a shard tells which journal entries are the newest of their traces', () => {
    const entries = world.journal.map(({ entry, position }) => ({ ...entry, position }));
    expect(entries.map(({ namespace }) => namespace)).toEqual(['a', 'b', 'a']);
    expect(world.shard.isCurrent(entries)).toEqual([false, true, true]);
    expect(world.shard.isCurrent(entries.map((entry) => ({ ...entry, namespace: 'c' })))).toEqual([
      false,
      false,
      false,
    ]);
  });

  it('a shard settles again what it knows, with the rank, revision and reason that are stored', () => {
    const before = structuredClone(world.store);
    world.store.clear();
    expect(world.shard.repeat('a', traceIdOf(1))).toBe(true);
    expect(world.shard.repeat('b', traceIdOf(1))).toBe(true);
    expect(world.shard.repeat('b', traceIdOf(2))).toBe(false);
    world.pass(1000);
    expect(world.store).toEqual(before);
    expect(world.counted()).toEqual({ used: 4, context: 0, excluded: 0, duplicate: 0, quarantined: 0 });
    world.pass(MINUTE_MS);
    expect(world.shard.stats(world.nowMs)).toMatchObject({ tracesOpen: 0, tracesStored: 2 });
  });

  it('a trace that is to be settled again, but is forgotten meanwhile, is left as it is', () => {
    const [one, huge] = [new World(), new World({ settings: { spansMax: 2 } })];
    for (const forgetful of [one, huge]) {
      forgetful.send([span(1), span(2, 1), span(3, 1)]);
      forgetful.pass(MINUTE_MS);
      const before = structuredClone(forgetful.store);
      expect(forgetful.shard.repeat('default', traceIdOf(1))).toBe(true);
      forgetful.journal.splice(0);
      forgetful.pass(MINUTE_MS);
      expect([forgetful.journal, forgetful.store]).toEqual([[], before]);
      expect(forgetful.shard.stats(forgetful.nowMs)).toMatchObject({ tracesOpen: 0, evidencePending: 0 });
    }
  });

  it('what an entry says of stored evidence never makes it less', () => {
    const stored = new World();
    stored.send([span(1)]);
    stored.pass(MINUTE_MS);
    const { entry } = stored.journal[0] ?? expect.unreachable();
    for (const through of [
      { segment: 0, offset: 1 },
      { segment: 0, offset: 0 },
    ]) {
      const position = { segment: 1, offset: 5000 + stored.journal.length };
      stored.journal.push({ entry: { ...entry, through }, position });
    }
    stored.restart();
    expect(stored.shard.stats(stored.nowMs)).toMatchObject({ replayed: 0, evidencePending: 0 });
  });

  it('a repetition does not get in the way of late evidence, nor it in the way of a repetition', () => {
    world.send([span(4, 1)], 'a');
    expect(world.shard.repeat('a', traceIdOf(1))).toBe(true);
    world.nowMs += 1000;
    const batch = world.shard.take(world.nowMs, 100);
    expect(batch?.traces.map((trace) => trace.revision)).toEqual([3]);
    expect(world.shard.repeat('a', traceIdOf(1))).toBe(true);
    expect(world.shard.take(world.nowMs, 100)).toBeUndefined();
    const position = { segment: 1, offset: 9000 };
    world.journal.push({ entry: entriesOf(batch?.entries as never)[0] as never, position });
    world.shard.stored(batch?.number ?? 0, [position]);
    expect(world.shard.take(world.nowMs, 100)?.traces).toMatchObject([{ revision: 3, writes: { length: 4 } }]);
  });
});
