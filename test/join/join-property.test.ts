import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SPAN_KIND } from '../../src/core/evidence.ts';
import { type Item, spanIdOf, traceIdOf, World } from './world.ts';

/** Spans of three traces with parents that may be missing, two contents for some, and logs with and without span or trace. */
const item: fc.Arbitrary<Item> = fc.oneof(
  fc
    .record({
      trace: fc.integer({ min: 1, max: 3 }),
      span: fc.integer({ min: 1, max: 6 }),
      parent: fc.integer({ min: 0, max: 5 }),
      isServer: fc.boolean(),
      version: fc.integer({ min: 1, max: 2 }),
    })
    .map(({ trace, span, parent, isServer, version }): Item => {
      const ids = { traceId: traceIdOf(trace), spanId: spanIdOf(span) };
      const kind = isServer ? SPAN_KIND.server : SPAN_KIND.internal;
      const content = { name: `v${version}`, kind, endNs: BigInt(version) };
      return { signal: 'traces', span: { ...ids, ...content, ...(parent > 0 && { parentSpanId: spanIdOf(parent) }) } };
    }),
  fc
    .record({
      trace: fc.integer({ min: 0, max: 3 }),
      span: fc.integer({ min: 0, max: 6 }),
      isAccess: fc.boolean(),
      number: fc.integer({ min: 1, max: 3 }),
    })
    .map(({ trace, span, isAccess, number }): Item => {
      const attributes: Record<string, unknown> = isAccess ? { access: number } : { other: number };
      const ids = trace === 0 ? {} : { traceId: traceIdOf(trace), ...(span > 0 && { spanId: spanIdOf(span) }) };
      return { signal: 'logs', log: { ...ids, attributes, body: `line ${number}` } };
    }),
);

const action = fc.oneof(
  { weight: 5, arbitrary: fc.record({ send: fc.array(fc.nat(), { minLength: 1, maxLength: 4 }) }) },
  { weight: 2, arbitrary: fc.record({ passMs: fc.constantFrom(1, 600, 5_500, 11_000, 130_000) }) },
  { weight: 1, arbitrary: fc.record({ recordsMax: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ dieAfter: fc.constantFrom('take', 'write', 'journal', 'none') }) },
);

const settings = fc.constantFrom({}, { rootWaitMs: 100, graceMs: 0 }, { takeEvidenceMax: 1, idleMs: 100 });

describe('joining is a function of the set of evidence', () => {
  it('whatever the order, batching, duplicates, delays and crashes', () => {
    fc.assert(
      fc.property(
        fc.array(item, { minLength: 1, maxLength: 24 }),
        fc.array(action, { maxLength: 40 }),
        settings,
        (items, actions, chosen) => {
          const world = new World({ settings: chosen });
          const sent = new Set<Item>();
          const send = (batch: Item[]) => {
            for (const one of batch) sent.add(one);
            world.send(batch);
          };
          for (const step of actions) {
            if ('send' in step) send(step.send.map((index) => items[index % items.length] as Item));
            else if ('passMs' in step) world.pass(step.passMs);
            else if ('recordsMax' in step) world.step(step.recordsMax, 'none');
            else {
              world.step(3, step.dieAfter);
              world.restart();
            }
          }
          send(items.filter((one) => !sent.has(one)));
          world.settleAll();

          const batch = new World();
          batch.send(items);
          batch.settleAll();
          expect(world.visible()).toEqual(batch.visible());
          expect(world.shard.stats(world.nowMs).evidencePending).toBe(0);
        },
      ),
      { numRuns: 500 },
    );
  });
});
