import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatTimestamp, parseTimestamp, TIMESTAMP_NS_MAX } from '../../src/core/clock.ts';

describe('timestamps', () => {
  it('are what a Date says, with nine digits, in any order of asking', () => {
    const instants = fc.array(fc.bigInt({ min: 0n, max: TIMESTAMP_NS_MAX }), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(instants, fc.bigInt({ min: -2n, max: 2n }), (list, off) => {
        // The ends of days too, where the day that is kept changes.
        for (const instant of list.flatMap((ns) => [ns, ns - (ns % 86_400_000_000_000n) + off])) {
          if (instant < 0n || instant > TIMESTAMP_NS_MAX) continue;
          const text = formatTimestamp(instant);
          const seconds = new Date(Number(instant / 1_000_000_000n) * 1000).toISOString().slice(0, 19);
          expect(text).toBe(`${seconds}.${String(instant % 1_000_000_000n).padStart(9, '0')}Z`);
          expect(parseTimestamp(text)).toBe(instant);
        }
      }),
    );
  });

  it('are clamped to what records hold', () => {
    expect(formatTimestamp(-1n)).toBe('1970-01-01T00:00:00.000000000Z');
    expect(formatTimestamp(TIMESTAMP_NS_MAX + 1n)).toBe(formatTimestamp(TIMESTAMP_NS_MAX));
  });
});
