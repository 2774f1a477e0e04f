import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createSettling } from '../../src/app/settling.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import { SPAN_KIND } from '../../src/core/evidence.ts';
import { eachPlace } from '../../src/wal/settle-journal.ts';
import { type Item, spanIdOf, traceIdOf, World } from './world.ts';

const settling = createSettling(settingsSchema.parse({}));

function spanOf(trace: number, number: number, parent = 0, more: object = {}): Item {
  const startNs = BigInt(number) * 1_000_000n;
  const ids = { traceId: traceIdOf(trace), spanId: spanIdOf(number) };
  const span = { ...ids, name: `span ${number}`, kind: SPAN_KIND.internal, startNs, endNs: startNs + 5n, ...more };
  return { signal: 'traces', span: { ...span, ...(parent > 0 && { parentSpanId: spanIdOf(parent) }) } };
}

function accessOf(trace: number, number: number, parent = 0): Item {
  const attributes = { 'http.request.method': 'GET', 'url.path': `/patients/${number}`, 'user.id': 'alice' };
  return spanOf(trace, number, parent, { kind: SPAN_KIND.server, attributes });
}

const anySpan = fc
  .record({
    number: fc.integer({ min: 1, max: 20 }),
    parent: fc.integer({ min: 0, max: 20 }),
    isAccess: fc.boolean(),
  })
  .map(({ number, parent, isAccess }) => (isAccess ? accessOf(1, number, parent) : spanOf(1, number, parent)));
const anyLog = fc
  .record({ number: fc.integer({ min: 0, max: 20 }), line: fc.integer({ min: 0, max: 3 }), isEvent: fc.boolean() })
  .map(({ number, line, isEvent }): Item => {
    const ids = { traceId: traceIdOf(1), ...(number > 0 && { spanId: spanIdOf(number) }) };
    const attributes = isEvent ? { 'event.action': 'open', 'audit.target.id': `${line}` } : {};
    return {
      signal: 'logs',
      log: { ...ids, eventName: isEvent ? 'access' : '', attributes, body: `line ${line}`, timeNs: 7n },
    };
  });
const evidence = fc.array(fc.oneof({ weight: 3, arbitrary: anySpan }, { weight: 1, arbitrary: anyLog }), {
  minLength: 5,
  maxLength: 50,
});
const action = fc.oneof(
  { weight: 5, arbitrary: fc.record({ send: fc.array(fc.nat(), { minLength: 1, maxLength: 8 }) }) },
  { weight: 2, arbitrary: fc.record({ passMs: fc.constantFrom(1, 600, 11_000, 130_000) }) },
  { weight: 2, arbitrary: fc.record({ dieAfter: fc.constantFrom('take', 'write', 'journal', 'none') }) },
);

describe('a trace of more evidence than one settle looks at', () => {
  it('is settled alike in any order, slices and repetition, with crashes and delays, and every piece is counted once', () => {
    const property = fc.property(
      evidence,
      fc.array(action, { maxLength: 30 }),
      fc.constantFrom(1, 2, 5, 9, 30),
      fc.constantFrom(1, 4, 100),
      (items, actions, spansMax, takeEvidenceMax) => {
        const world = new World({ settings: { spansMax, takeEvidenceMax, idleMs: 500 }, settling });
        const sent = new Set<Item>();
        let [pieces, restarts] = [0, 0];
        const send = (batch: Item[]) => {
          for (const one of batch) sent.add(one);
          pieces += batch.length;
          world.send(batch);
        };
        for (const step of actions) {
          if ('send' in step) send(step.send.map((index) => items[index % items.length] as Item));
          else if ('passMs' in step) world.pass(step.passMs);
          else {
            // A huge trace is worked on without giving anything for a while.
            for (let slice = 0; slice < 20 && !world.step(3, step.dieAfter); slice++);
            world.restart();
            restarts++;
          }
        }
        send(items.filter((one) => !sent.has(one)));
        world.settleAll();
        const whole = new World({ settings: { spansMax }, settling });
        whole.send(items);
        whole.settleAll();
        expect(world.visible()).toEqual(whole.visible());
        expect(world.shard.stats(world.nowMs).evidencePending).toBe(0);
        if (restarts > 0) return;
        const { used, context, excluded, duplicate } = world.counted();
        expect(used + context + excluded + duplicate).toBe(pieces);
      },
    );
    fc.assert(property, { numRuns: 150 });
  });

  it('takes back what a run published that ended before its journal said so, however often its other evidence came', () => {
    const access = (line: number): Item => {
      const attributes = { 'event.action': 'open', 'audit.target.id': `${line}` };
      const log = { traceId: traceIdOf(1), eventName: 'access', attributes, body: `line ${line}`, timeNs: 7n };
      return { signal: 'logs', log };
    };
    const repeated = [spanOf(1, 1), spanOf(1, 1), spanOf(1, 1)];
    const shown = (diesAfter: 'write' | 'none') => {
      const world = new World({ settings: { spansMax: 2 }, settling });
      world.send([...repeated, access(0)]);
      world.nowMs += 20_000;
      for (let slice = 0; slice < 20 && !world.step(3, diesAfter); slice++);
      expect(world.store.size).toBe(1);
      if (diesAfter === 'write') world.restart();
      world.send([access(1)]);
      world.settleAll();
      return world.visible();
    };
    expect(shown('write').size).toBe(1);
    expect(shown('write')).toEqual(shown('none'));
  });

  it('keeps no other waiting, and takes no more of what comes meanwhile', () => {
    const world = new World({ settings: { spansMax: 20, takeEvidenceMax: 8, graceMs: 0 }, settling });
    for (let from = 0; from < 400; from += 50) {
      world.send(Array.from({ length: 50 }, (_, index) => spanOf(1, from + index + 1, from + index)));
    }
    const order: string[] = [];
    for (let round = 0; round < 200 && !order.includes(traceIdOf(1)); round++) {
      world.send([accessOf(100 + round, 1)]);
      world.nowMs += 50;
      const before = world.batches.length;
      world.step(10, 'none');
      for (const batch of world.batches.slice(before)) order.push(...batch.traces.map((trace) => trace.traceId));
    }
    expect(order.indexOf(traceIdOf(1))).toBeGreaterThan(40);
    expect(order.filter((id) => id !== traceIdOf(1)).length).toBeGreaterThan(40);
  });

  it('is settled again by late evidence from what the journal knows, packed, in a trickle ever more seldom', () => {
    const world = new World({ settings: { spansMax: 100, idleMs: 1_000, lateWaitMaxMs: 2_000 }, settling });
    const count = 6_000;
    for (let from = 1; from <= count; from += 500) {
      world.send(Array.from({ length: 500 }, (_, index) => spanOf(1, from + index, from + index - 1)));
    }
    world.pass(1_000);
    const entry = () => world.journal.at(-1)?.entry ?? expect.unreachable();
    expect('bytes' in entry().pieces).toBe(true);
    expect([...eachPlace(entry().pieces)]).toHaveLength(count);
    world.restart();
    for (let round = 0; round < 60; round++) {
      world.send([spanOf(1, count + 1 + round, 1)]);
      world.pass(1_000);
    }
    expect(entry().pieces.length).toBeGreaterThan(count);
    // 1, 2, 4 and so on seconds apart, as far as six seconds: a millisecond for each piece.
    expect(entry().settles).toBeLessThan(20);
    expect(entry().settles).toBeGreaterThan(5);
    world.send([accessOf(1, count + 1_000, 1)]);
    world.settleAll();
    const [record] = [...world.visible().values()];
    expect(record?.audit).toMatchObject({ join: { state: 'complete', spans: 100 }, trace: { span_count: count + 61 } });
  });

  it('that never ends is closed: it takes no more memory nor journal, says partial, and every piece is counted', () => {
    // 500 pieces are kept of one trace.
    const settings = { spansMax: 50, indexBytesMax: 500 * 256, idleMs: 1_000, lateWaitMaxMs: 1_000 };
    const world = new World({ settings, settling });
    const bytes: number[] = [];
    const sizes: number[] = [];
    let peakBytes = 0;
    const settle = () => {
      world.nowMs += 400_000;
      while (world.step(10, 'none') || world.shard.nextDueAtMs(world.nowMs) === world.nowMs)
        peakBytes = Math.max(peakBytes, world.shard.stats(world.nowMs).indexBytes);
    };
    for (let round = 0; round < 12; round++) {
      const from = round * 200;
      const spans = Array.from({ length: 199 }, (_, index) => spanOf(1, from + index + 2, 1));
      world.send([accessOf(1, from + 1, 1), ...spans, accessOf(100 + round, 1)]);
      if (round === 9) world.restart();
      settle();
      bytes.push(world.shard.stats(world.nowMs).indexBytes);
      sizes.push(world.journal.filter(({ entry }) => entry.traceId === traceIdOf(1)).at(-1)?.entry.pieces.length ?? -1);
    }
    expect(sizes).toEqual([200, 400, ...Array(10).fill(0)]);
    expect(Math.max(...bytes.slice(3)) - Math.min(...bytes.slice(3))).toBeLessThan(2_000);
    expect(peakBytes).toBeLessThan(settings.indexBytesMax);
    const { used, context, excluded, duplicate, quarantined } = world.counted();
    expect([used + context, excluded, duplicate, quarantined]).toEqual([12 * 201, 0, 0, 0]);
    expect(world.shard.stats(world.nowMs)).toMatchObject({ evidencePending: 0, tracesOpen: 0 });
    const told = [...world.visible().values()].map(({ trace, audit }) => [
      trace?.id === traceIdOf(1),
      audit.join.state,
    ]);
    expect(told.filter(([isEndless]) => !isEndless)).toEqual(Array(12).fill([false, 'complete']));
    expect(told.filter(([isEndless]) => isEndless)).toEqual(Array(3).fill([true, 'partial']));
    const { entry } =
      world.journal.filter(({ entry: { traceId } }) => traceId === traceIdOf(1)).at(-1) ?? expect.unreachable();
    expect(entry).toMatchObject({ isClosed: true, isLost: true, records: { length: 3 } });
    expect(world.store.get(entry.records[0]?.id ?? '')?.record.audit.join).toMatchObject({ reason: 'too_many_spans' });
    expect(world.shard.repeat('default', traceIdOf(1))).toBe(false);
  });

  it('one whose settle throws is set aside, and only it', () => {
    const throwing = {
      ...settling,
      settleSteps: () => {
        throw new Error('a bug');
      },
    };
    const world = new World({ settings: { spansMax: 5 }, settling: throwing });
    world.send(Array.from({ length: 10 }, (_, index) => spanOf(1, index + 1)));
    world.send([accessOf(2, 1)]);
    world.pass(20_000);
    expect(world.batches.flatMap((batch) => batch.quarantined)).toMatchObject([
      { stage: 'settle', reason: 'a bug', pieces: 10 },
    ]);
    expect(world.visible().size).toBe(1);
    expect(world.shard.stats(world.nowMs).evidencePending).toBe(0);
  });
});
