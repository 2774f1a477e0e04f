import { describe, expect, it } from 'vitest';
import { spanIdOf, traceIdOf, World } from './world.ts';

const event = (access: number) => ({
  signal: 'logs' as const,
  log: { traceId: traceIdOf(1), spanId: spanIdOf(1), attributes: { access } },
});

describe('a run that ends between the acknowledgements of the store and of the journal', () => {
  it('leaves no record standing beside the one that stands for it', () => {
    const world = new World();
    world.send([event(1)]);
    world.nowMs += 30_000;
    expect(world.step(3, 'write')).toBe(true);
    const [before = ''] = world.visible().keys();
    world.restart();
    world.send([event(2)]);
    world.settleAll();
    expect(world.visible().has(before)).toBe(false);
    expect(world.visible().size).toBe(2);
    expect(world.store.get(before)?.record.audit.superseded_by).toBeDefined();
  });
});

describe('a clock that is set ahead by months', () => {
  it.each([40, 170, 365])('settles what was open (%i days)', (days) => {
    const world = new World();
    world.send([event(1)]);
    world.pass(days * 86_400_000);
    world.pass(30_000);
    expect(world.shard.stats(world.nowMs).evidencePending).toBe(0);
    expect(world.visible().size).toBe(1);
  });
});
