import { describe, expect, it } from 'vitest';
import type { JoinSettings } from '../../src/join/settings.ts';
import { entryOf } from '../fixtures/journal.ts';
import { encodeTraces } from '../otlp/encode.ts';
import { entriesOf } from './entries.ts';
import { type Item, spanIdOf, traceIdOf, World } from './world.ts';

const SERVER = 2;

function span(number: number, parent?: number, trace = 1): Item {
  const ids = { traceId: traceIdOf(trace), spanId: spanIdOf(number) };
  return {
    signal: 'traces',
    span: { ...ids, name: `s${number}`, kind: SERVER, ...(parent && { parentSpanId: spanIdOf(parent) }) },
  };
}

function log(number: number, trace = 1): Item {
  return { signal: 'logs', log: { ...(trace > 0 && { traceId: traceIdOf(trace) }), attributes: { access: number } } };
}

/** A timer may fire one tick late. */
const TICK = 32;

interface Case {
  name: string;
  settings?: Partial<JoinSettings>;
  /** What arrives when, in ms from the start. */
  arrivals: [number, Item[]][];
  reason: string;
  /** When the trace settles, in ms from the start. */
  settlesAtMs: number;
}

const cases: Case[] = [
  { name: 'root and children', arrivals: [[0, [span(1), span(2, 1)]]], reason: 'complete', settlesAtMs: 500 },
  {
    name: 'child before root',
    arrivals: [
      [0, [span(2, 1)]],
      [3000, [span(1)]],
    ],
    reason: 'complete',
    settlesAtMs: 3500,
  },
  {
    name: 'the grace starts anew with each arrival',
    arrivals: [
      [0, [span(1)]],
      [400, [span(2, 1)]],
    ],
    reason: 'complete',
    settlesAtMs: 900,
  },
  {
    name: 'a missing parent that comes in time',
    arrivals: [
      [0, [span(1), span(3, 2)]],
      [2000, [span(2, 1)]],
    ],
    reason: 'complete',
    settlesAtMs: 2500,
  },
  {
    name: 'a missing parent that does not come',
    arrivals: [[0, [span(1), span(3, 2)]]],
    reason: 'root_wait',
    settlesAtMs: 5000,
  },
  {
    name: 'no root',
    arrivals: [
      [0, [span(2, 1)]],
      [4000, [span(3, 1)]],
    ],
    reason: 'idle',
    settlesAtMs: 14_000,
  },
  { name: 'its own parent', arrivals: [[0, [span(2, 2)]]], reason: 'idle', settlesAtMs: 10_000 },
  { name: 'logs alone', arrivals: [[0, [log(1)]]], reason: 'idle', settlesAtMs: 10_000 },
  {
    name: 'never quiet',
    settings: { maxAgeMs: 20_000 },
    arrivals: Array.from({ length: 12 }, (_, index) => [index * 2000, [span(index + 2, 1)]]),
    reason: 'max_age',
    settlesAtMs: 20_000,
  },
  {
    name: 'too many spans',
    settings: { spansMax: 3 },
    arrivals: [[0, [span(1), span(2, 1), span(3, 1), span(4, 1)]]],
    reason: 'too_many_spans',
    settlesAtMs: 0,
  },
  { name: 'a log record without a trace', arrivals: [[0, [log(1, 0)]]], reason: 'untraced', settlesAtMs: 500 },
];

describe('when a trace settles', () => {
  it.each(cases)('$name: $reason after $settlesAtMs ms', ({ settings = {}, arrivals, reason, settlesAtMs }) => {
    const world = new World({ settings });
    const startMs = world.nowMs;
    let left = [...arrivals];
    for (let atMs = 0; atMs <= settlesAtMs + TICK; atMs++) {
      world.nowMs = startMs + atMs;
      for (const [arrivesMs, items] of left) if (arrivesMs === atMs) world.send(items);
      left = left.filter(([arrivesMs]) => arrivesMs > atMs);
      world.drain();
      if (atMs < settlesAtMs) expect(world.reasons()).toEqual([]);
      const dueAtMs = world.shard.nextDueAtMs(world.nowMs);
      if (world.reasons().length === 0) expect(dueAtMs).toBeGreaterThan(world.nowMs);
    }
    expect(world.reasons()).toEqual([reason]);
  });

  it('late evidence makes a revision once an idle period, then at growing distances', () => {
    const world = new World({ settings: { lateWaitMaxMs: 40_000 } });
    world.send([span(1)]);
    world.pass(1000);
    const settledAtMs: number[] = [];
    const startMs = world.nowMs;
    for (let second = 1; second <= 200; second++) {
      world.send([span(second + 1, 1)]);
      const before = world.reasons().length;
      world.pass(1000);
      if (world.reasons().length > before) settledAtMs.push(Math.round((world.nowMs - startMs) / 1000));
    }
    expect(world.reasons()).toEqual(['complete', ...settledAtMs.map(() => 'late')]);
    expect(settledAtMs).toEqual([11, 31, 71, 111, 151, 191]);
    const record = world.store.get(`${traceIdOf(1)}/${spanIdOf(1)}`)?.record;
    expect(record?.audit).toMatchObject({ revision: 7, supersedes: 6, join: { reason: 'late', late: true } });
  });

  it('the same evidence again makes no revision, only a journal entry', () => {
    const world = new World();
    world.send([span(1)]);
    world.pass(1000);
    const before = structuredClone(world.store);
    world.send([span(1)]);
    world.pass(20_000);
    expect(world.store).toEqual(before);
    expect(world.journal.map(({ entry }) => [entry.revision, entry.through.offset])).toEqual([
      [1, 32],
      [1, 132],
    ]);
    expect(world.counted()).toEqual({ used: 1, context: 0, excluded: 0, duplicate: 1, quarantined: 0 });
  });

  it('evidence that comes while its trace is on the way to the store is settled later', () => {
    const world = new World();
    world.send([span(1)]);
    world.nowMs += 1000;
    const batch = world.shard.take(world.nowMs, 10);
    world.send([span(2, 1)]);
    expect(world.shard.stats(world.nowMs)).toMatchObject({ tracesOpen: 1, evidencePending: 2 });
    expect(world.shard.take(world.nowMs + 60_000, 10)).toBeUndefined();
    world.shard.stored(batch?.number ?? 0, [{ segment: 1, offset: 32 }]);
    world.journal.push({ entry: entriesOf(batch?.entries as never)[0] as never, position: { segment: 1, offset: 32 } });
    expect(world.shard.stats(world.nowMs)).toMatchObject({ tracesOpen: 1, evidencePending: 1 });
    world.pass(80_000);
    expect(world.reasons()).toEqual(['late']);
    expect(world.shard.stats(world.nowMs)).toMatchObject({ tracesOpen: 0, tracesStored: 1, evidencePending: 0 });
  });

  it('a clock that is set back stops nothing', () => {
    const world = new World();
    world.send([span(1)]);
    world.nowMs -= 3_600_000;
    world.send([span(1, undefined, 2)]);
    world.pass(600);
    expect(world.reasons()).toEqual(['complete', 'complete']);
  });

  it('a namespace does not see the spans of another', () => {
    const world = new World();
    world.send([span(1)], 'a');
    world.send([span(2, 1)], 'b');
    world.pass(60_000);
    expect(world.reasons()).toEqual(['complete', 'idle']);
  });
});

describe('bounds', () => {
  it('keeps the index within its bytes: settles open traces early', () => {
    const indexBytesMax = 20_000;
    const world = new World({ settings: { indexBytesMax, graceMs: 5000 } });
    for (let trace = 1; trace <= 400; trace++) {
      world.send([span(1, undefined, trace), span(2, 1, trace)]);
      world.drain();
      const { indexBytes } = world.shard.stats(world.nowMs);
      expect(indexBytes).toBeLessThanOrEqual(indexBytesMax);
      world.nowMs += 10;
    }
    expect(new Set(world.reasons())).toEqual(new Set(['memory_pressure']));
    world.settleAll();
    expect(world.store.size).toBe(800);
  });

  it('keeps of a stored trace where its journal entry is, and nothing else', () => {
    const world = new World({ segmentFrames: 1 });
    world.send([span(1)]);
    world.send([span(1, undefined, 2)]);
    const { indexBytes } = world.shard.stats(world.nowMs);
    world.pass(1000);
    const stats = world.shard.stats(world.nowMs);
    expect(stats).toMatchObject({ tracesOpen: 0, tracesStored: 2, evidencePending: 0 });
    expect([...stats.segments]).toEqual([]);
    expect(stats.indexBytes).toBeLessThan(indexBytes);
  });

  it('keeps 100,000 stored traces in 25 bytes each', () => {
    const world = new World({ settings: { takeEvidenceMax: 2000 }, segmentFrames: 100 });
    const before = world.shard.stats(world.nowMs).indexBytes;
    for (let trace = 0; trace < 100_000; trace++) {
      world.shard.restore(entryOf({ traceId: traceIdOf(trace) }), { segment: 1, offset: 32 + trace });
    }
    world.shard.endReplay(world.nowMs);
    const { tracesStored, indexBytes } = world.shard.stats(world.nowMs);
    expect(tracesStored).toBe(100_000);
    expect(indexBytes - before).toBeLessThanOrEqual(100_000 * 25);
  });

  it('counts pending evidence by segment and knows how old the oldest is', () => {
    const world = new World({ segmentFrames: 1 });
    world.send([span(1), span(2, 1), span(1, undefined, 2)]);
    const receivedMs = world.nowMs;
    world.nowMs += 200;
    world.send([span(3, 9)]);
    expect([...world.shard.stats(world.nowMs).segments]).toEqual([
      [1, { pending: 3 }],
      [2, { pending: 1 }],
    ]);
    expect(world.shard.stats(world.nowMs).oldestPendingMs).toBe(receivedMs);
    world.pass(600);
    expect(world.shard.stats(world.nowMs).segments.get(1)).toEqual({ pending: 2 });
    world.pass(10_000);
    expect(world.shard.stats(world.nowMs).segments.size).toBe(0);
    expect(world.shard.stats(world.nowMs).oldestPendingMs).toBeUndefined();
  });

  it('looks at the smallest span ids of a huge trace, whatever came first, and says so', () => {
    const spans = Array.from({ length: 40 }, (_, index) => span(index + 1, index === 0 ? undefined : 1));
    const [forward, backward] = [spans, [...spans].reverse()].map((order) => {
      const world = new World({ settings: { spansMax: 10 } });
      for (let at = 0; at < order.length; at += 7) world.send(order.slice(at, at + 7));
      world.settleAll();
      return world;
    });
    expect([...(forward?.visible().keys() ?? [])]).toEqual(
      spans.slice(0, 10).map((_, index) => `${traceIdOf(1)}/${spanIdOf(index + 1)}`),
    );
    expect(forward?.visible()).toEqual(backward?.visible());
    expect([...(forward?.visible().values() ?? [])].every((record) => record.audit.join.state === 'partial')).toBe(
      true,
    );
  });

  it('takes at most so many records and pieces at a time', () => {
    const world = new World({ settings: { takeEvidenceMax: 6 } });
    for (let trace = 1; trace <= 10; trace++) world.send([span(1, undefined, trace), span(2, 1, trace)]);
    world.nowMs += 1000;
    expect(world.shard.take(world.nowMs, 3)?.traces.length).toBe(2);
    expect(world.shard.take(world.nowMs, 100)?.traces.length).toBe(3);
  });
});

describe('beyond the horizon', () => {
  it('evidence that is gone takes no record with it', () => {
    const world = new World({ segmentFrames: 1 });
    world.send([span(1), span(2, 1)]);
    world.pass(1000);
    world.send([span(3, 1)]);
    world.dropBefore(2);
    world.send([4, 5, 6].map((number) => span(number, 1)));
    world.pass(20_000);
    expect(world.reasons()).toEqual(['complete', 'late']);
    const states = [...world.visible()].map(([id, record]) => [id.slice(-1), record.audit.join.state]);
    expect(states).toEqual([
      ['1', 'complete'],
      ['2', 'complete'],
      ...['3', '4', '5', '6'].map((id) => [id, 'partial']),
    ]);
    expect(world.shard.spansOf(traceIdOf(1)).map((read) => read.name)).toEqual(['s3', 's4', 's5', 's6']);
    expect(world.shard.spansOf(traceIdOf(2))).toEqual([]);
  });

  it('what comes after the evidence is gone still makes its records, and changes no richer one', () => {
    const world = new World({ segmentFrames: 1 });
    world.send([span(1), span(2, 1), span(3, 1)]);
    world.pass(1000);
    const before = world.visible();
    world.send([span(4, 1)]);
    world.dropBefore(2);
    world.pass(20_000);
    const added = `${traceIdOf(1)}/${spanIdOf(4)}`;
    expect([...world.visible().keys()]).toEqual([...before.keys(), added]);
    expect(new Map([...world.visible()].filter(([id]) => id !== added))).toEqual(before);
  });

  it('a restart goes on from the journal, also where the evidence is gone', () => {
    const world = new World({ segmentFrames: 1 });
    world.send([span(1)]);
    world.send([span(1, undefined, 2)]);
    world.pass(1000);
    world.frames.shift();
    world.restart();
    expect(world.shard.stats(world.nowMs)).toMatchObject({ tracesOpen: 0, tracesStored: 2, evidencePending: 0 });
    world.send([span(2, 1), span(2, 1, 2)]);
    world.pass(20_000);
    const auditOf = (trace: number) => world.store.get(`${traceIdOf(trace)}/${spanIdOf(2)}`)?.record.audit;
    expect(auditOf(1)).toMatchObject({ revision: 2, join: { state: 'partial' } });
    expect(auditOf(2)).toMatchObject({ revision: 2, join: { state: 'complete' } });
  });
});

describe('what cannot be settled', () => {
  it('is set aside, counted and journalled, and stops no other trace', () => {
    const world = new World();
    world.send([span(1), { signal: 'traces', span: { traceId: traceIdOf(2), spanId: spanIdOf(1), name: 'poison' } }]);
    world.pass(1000);
    expect(world.store.size).toBe(1);
    const quarantined = world.batches.flatMap((batch) => batch.quarantined);
    expect(quarantined).toMatchObject([{ stage: 'settle', reason: 'poisoned evidence', pieces: 1 }]);
    world.restart();
    expect(world.shard.stats(world.nowMs)).toMatchObject({ evidencePending: 0, replayed: 0 });
  });

  it('a frame that turns out unreadable is set aside with its evidence', () => {
    const world = new World();
    const good = encodeTraces([{ spans: [{ traceId: traceIdOf(1), spanId: spanIdOf(1), kind: SERVER }] }]);
    world.append('traces', Buffer.concat([good, Buffer.from([0x0a, 0x7f])]));
    world.send([span(2)]);
    world.pass(1000);
    expect([...world.store.keys()]).toEqual([`${traceIdOf(1)}/${spanIdOf(2)}`]);
    const quarantined = world.batches.flatMap((batch) => batch.quarantined);
    expect(quarantined.map(({ stage, pieces }) => [stage, pieces])).toEqual([
      ['decode', 0],
      ['decode', 1],
    ]);
    expect(world.counted()).toMatchObject({ used: 1, quarantined: 1 });
  });

  it('log records that are no access and name no trace count as context', () => {
    const world = new World();
    world.send([log(1, 0), { signal: 'logs', log: { body: 'hello' } }]);
    world.pass(1000);
    expect(world.store.size).toBe(1);
    expect(world.shard.stats(world.nowMs)).toMatchObject({ evidencePending: 0, tracesOpen: 0, tracesStored: 0 });
    expect(world.ignored()).toBe(1);
    world.restart();
    expect(world.shard.stats(world.nowMs)).toMatchObject({ evidencePending: 0, tracesOpen: 0, tracesStored: 0 });
  });
});

describe('shards', () => {
  it('divide the evidence among them, each piece to one', () => {
    const worlds = [0, 1, 2].map((shardIndex) => new World({ shardIndex, shardCount: 3 }));
    const whole = new World();
    for (let trace = 0; trace < 60; trace++) {
      for (const world of [...worlds, whole]) world.send([span(1, undefined, trace + 1), log(trace, 0)]);
    }
    for (const world of [...worlds, whole]) world.settleAll();
    const parts = worlds.map((world) => world.visible().size);
    expect(Math.min(...parts)).toBeGreaterThan(20);
    expect(new Map(worlds.flatMap((world) => [...world.visible()]).sort())).toEqual(
      new Map([...whole.visible()].sort()),
    );
  });
});

describe('after a long stop', () => {
  it('everything that is overdue is settled, however much it is', () => {
    const world = new World({ settings: { takeEvidenceMax: 100_000 }, segmentFrames: 100 });
    for (let first = 1; first <= 6000; first += 1000) {
      world.send(Array.from({ length: 1000 }, (_, index) => span(1, undefined, first + index)));
    }
    world.nowMs += 600_000;
    const batches: number[] = [];
    for (let batch = world.shard.take(world.nowMs, 100_000); batch; batch = world.shard.take(world.nowMs, 100_000)) {
      batches.push(batch.traces.length);
    }
    expect(batches).toEqual([4096, 1904]);
  });
});
