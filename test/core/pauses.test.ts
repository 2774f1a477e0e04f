import { expect, it } from 'vitest';
import { Pauses } from '../../src/core/pauses.ts';

it('a pause is due when work has gone on for some milliseconds, and after each pause anew', async () => {
  let elapsedMs = 50;
  const delays: number[] = [];
  const pauses = new Pauses({
    elapsedMs: () => elapsedMs,
    random: () => 0,
    after(delayMs, act) {
      delays.push(delayMs);
      elapsedMs += 100;
      act();
      return () => undefined;
    },
  });
  expect(pauses.isDue).toBe(false);
  elapsedMs += 3;
  expect(pauses.isDue).toBe(true);
  await pauses.take();
  expect([pauses.isDue, delays]).toEqual([false, [0]]);
  elapsedMs += 3;
  expect(pauses.isDue).toBe(true);
});
