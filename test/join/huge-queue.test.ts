import { describe, expect, it } from 'vitest';
import { HugeQueue } from '../../src/join/huge-queue.ts';
import type { HugeSettle } from '../../src/join/huge-settle.ts';

const due = { trace: 7, reason: 'complete', isRepeat: false } as const;
const settled = { pieces: 3 } as unknown as ReturnType<HugeSettle['step']>;

/** A huge trace whose steps take so many milliseconds each; the last one is done with it. */
function queueOf(stepsMs: readonly number[], elapsedMs?: () => number, passes: (ms: number) => void = () => undefined) {
  const left = [...stepsMs];
  const lateness: boolean[] = [];
  const step = (_pieces: number, _nowMs: number, isLate: () => boolean) => {
    passes(left.shift() ?? 0);
    lateness.push(isLate());
    return left.length === 0 ? settled : undefined;
  };
  const queue = new HugeQueue(() => ({ step, bytes: 0 }) as unknown as HugeSettle, elapsedMs);
  queue.add(due);
  return { queue, lateness };
}

describe('huge traces beside others', () => {
  it('rest as long as their last step took, and are told when a step is long', () => {
    let nowMs = 100;
    const passes = (ms: number) => {
      nowMs += ms;
    };
    const { queue, lateness } = queueOf([10, 1, 1], () => nowMs, passes);
    expect(queue.step(500, 0)).toBeUndefined();
    expect([lateness, queue.restMs]).toEqual([[true], 10]);
    passes(9);
    expect([queue.step(500, 0), lateness.length, queue.isEmpty]).toEqual([undefined, 1, false]);
    passes(1);
    expect([queue.restMs, queue.step(500, 0), lateness]).toEqual([0, undefined, [true, false]]);
    passes(1);
    expect(queue.step(500, 0)).toEqual({ trace: 7, settled });
    expect(queue.isEmpty).toBe(true);
  });

  it('go on at once on a thread that has nothing else to do', () => {
    const { queue, lateness } = queueOf([10, 10]);
    expect(queue.step(500, 0)).toBeUndefined();
    expect(queue.restMs).toBe(0);
    expect(queue.step(500, 0)).toEqual({ trace: 7, settled });
    expect(lateness).toEqual([false, false]);
  });
});
