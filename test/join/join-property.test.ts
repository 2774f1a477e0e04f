import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createSettling } from '../../src/app/settling.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import { SPAN_KIND } from '../../src/core/evidence.ts';
import { type Item, spanIdOf, traceIdOf, World, type WorldOptions } from './world.ts';

/** Spans of three traces with parents that may be missing, two contents for some, and logs with and without span or trace. */
const item: fc.Arbitrary<Item> = fc.oneof(
  fc
    .record({
      trace: fc.integer({ min: 1, max: 3 }),
      span: fc.integer({ min: 1, max: 6 }),
      parent: fc.integer({ min: 0, max: 5 }),
      kind: fc.constantFrom('server', 'client', 'internal'),
      version: fc.integer({ min: 1, max: 2 }),
    })
    .map(({ trace, span, parent, kind, version }): Item => {
      const ids = { traceId: traceIdOf(trace), spanId: spanIdOf(span) };
      const startNs = BigInt(span) * 1_000_000n;
      const times = { startNs, endNs: startNs + BigInt(version) };
      const attributes = {
        server: { 'http.request.method': 'GET', 'url.path': `/patients/${span}`, 'user.id': `user ${span % 2}` },
        client: { 'db.system.name': 'postgresql', 'db.query.text': 'SELECT 1 FROM orders' },
        internal: {},
      }[kind];
      const content = { name: `v${version}`, kind: SPAN_KIND[kind], attributes, ...times };
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
      const event = isAccess ? { eventName: 'access' } : {};
      return { signal: 'logs', log: { ...ids, ...event, attributes, body: `line ${number}`, timeNs: BigInt(number) } };
    }),
);

const action = fc.oneof(
  { weight: 5, arbitrary: fc.record({ send: fc.array(fc.nat(), { minLength: 1, maxLength: 4 }) }) },
  { weight: 2, arbitrary: fc.record({ passMs: fc.constantFrom(1, 600, 5_500, 11_000, 130_000) }) },
  { weight: 1, arbitrary: fc.record({ recordsMax: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ dieAfter: fc.constantFrom('take', 'write', 'journal', 'none') }) },
);

const settings = fc.constantFrom({}, { rootWaitMs: 100, graceMs: 0 }, { takeEvidenceMax: 1, idleMs: 100 });

function checkProperty(settling: WorldOptions['settling'], numRuns: number): void {
  const evidence = fc.array(item, { minLength: 1, maxLength: 24 });
  const property = fc.property(evidence, fc.array(action, { maxLength: 40 }), settings, (items, actions, chosen) => {
    const shared = settling === undefined ? {} : { settling };
    const world = new World({ settings: chosen, ...shared });
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

    const batch = new World(shared);
    batch.send(items);
    batch.settleAll();
    expect(world.visible()).toEqual(batch.visible());
    expect(world.shard.stats(world.nowMs).evidencePending).toBe(0);
  });
  fc.assert(property, { numRuns });
}

describe('joining is a function of the set of evidence, whatever the order, batching, duplicates, delays and crashes', () => {
  it('with a small settle', () => checkProperty(undefined, 500));
  it('with the real settle', () => checkProperty(createSettling(settingsSchema.parse({})), 300));

  it('each piece is counted once, by one use', () => {
    const pieces = fc.array(fc.array(item, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(pieces, fc.constantFrom(1, 600, 30_000), (frames, passMs) => {
        const world = new World({ settling: createSettling(settingsSchema.parse({})) });
        for (const frame of frames) {
          world.send(frame);
          world.pass(passMs);
        }
        const { evidencePending } = world.shard.stats(world.nowMs);
        const { used, context, excluded, duplicate } = world.counted();
        const settled = used + context + excluded + duplicate + world.ignored();
        expect(settled + evidencePending).toBe(frames.flat().length);
      }),
      { numRuns: 100 },
    );
  });
});
