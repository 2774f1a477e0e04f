import { describe, expect, it } from 'vitest';
import { correlate, PAIRS_MIN } from '../../src/insights/correlation.ts';
import { LATENCY_BOUNDS_NS, percentileNs } from '../../src/insights/latency.ts';

describe('correlation', () => {
  const line = (count: number, y: (x: number) => number) => Array.from({ length: count }, (_, x) => [x, y(x)] as const);

  it('is 1 or -1 on a line, and known with its interval in between', () => {
    expect(correlate(line(20, (x) => 3 * x + 1))).toEqual({ kind: 'known', pairs: 20, r: 1, low: 1, high: 1 });
    expect(correlate(line(20, (x) => -x))).toMatchObject({ r: -1 });
    // Anscombe's first set, made long enough by one more pair on its line: the published coefficient is 0.816.
    const x = [10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5];
    const y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
    const pairs = x.map((value, at) => [value, y[at] ?? 0] as const);
    const known = correlate([...pairs, [9, 7.5]]);
    expect(known).toMatchObject({ kind: 'known', r: 0.816 });
    if (known.kind !== 'known') throw new Error(known.kind);
    expect(known.low).toBeGreaterThan(0.4);
    expect(known.high).toBeLessThan(0.96);
  });

  it('says when there is too little, or nothing varies', () => {
    expect(correlate(line(PAIRS_MIN - 1, (x) => x))).toEqual({ kind: 'too_few', pairs: PAIRS_MIN - 1 });
    expect(correlate(line(20, () => 5))).toEqual({ kind: 'constant', pairs: 20, of: 'second' });
    expect(correlate(line(20, (x) => x).map(([, y]) => [1, y] as const))).toMatchObject({ of: 'first' });
  });
});

describe('latency by bands', () => {
  it('has ten whole steps to a decade, from a microsecond to a quarter of an hour', () => {
    expect(LATENCY_BOUNDS_NS.slice(0, 3)).toEqual([1000, 1250, 1600]);
    expect(LATENCY_BOUNDS_NS.at(-1)).toBe(800e9);
    expect(
      LATENCY_BOUNDS_NS.every((bound, at) => Number.isInteger(bound) && bound > (LATENCY_BOUNDS_NS[at - 1] ?? 0)),
    ).toBe(true);
  });

  it('gives the end of the band in which so many are through, never more than the longest', () => {
    const bands = (values: readonly number[]) =>
      [...LATENCY_BOUNDS_NS, Number.POSITIVE_INFINITY].map(
        (bound, at) => values.filter((value) => value <= bound && value > (LATENCY_BOUNDS_NS[at - 1] ?? -1)).length,
      );
    const hundred = Array.from({ length: 100 }, (_, at) => (at + 1) * 1e6);
    expect(percentileNs(bands(hundred), 50, 100e6)).toBe(50e6);
    expect(percentileNs(bands(hundred), 95, 100e6)).toBe(100e6);
    expect(percentileNs(bands([3e6]), 95, 3e6)).toBe(3e6);
    expect(percentileNs(bands([5e12]), 95, 5e12)).toBe(5e12);
    expect(percentileNs(bands([]), 95, undefined)).toBeNull();
  });
});
