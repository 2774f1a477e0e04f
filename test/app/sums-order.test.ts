import { expect, it } from 'vitest';
import { Sums } from '../../src/app/sums.ts';
import { Counters } from '../../src/core/metrics.ts';
import { frameOf } from '../wal/helpers.ts';

it('evidence accepted during a replay is not counted again by the next one', () => {
  const sums = new Sums(new Counters());
  const at = (offset: number) => ({ ...frameOf(1), position: { segment: 3, offset } });
  sums.accept(at(500));
  // The replay comes to what the run before accepted.
  sums.accept(at(32));
  expect(sums.mark(0).acceptedThrough).toEqual({ segment: 3, offset: 500 });
});
