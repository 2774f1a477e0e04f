import fc from 'fast-check';
import { expect, it } from 'vitest';
import { formatTimestamp, parseTimestamp, TIMESTAMP_NS_MAX } from '../../src/core/clock.ts';

it('writes instants one after the other as each alone, clamped to those that a record may have', () => {
  const instant = fc.oneof(
    fc.bigInt({ min: 0n, max: TIMESTAMP_NS_MAX }),
    fc.bigInt({ min: TIMESTAMP_NS_MAX - 3n, max: TIMESTAMP_NS_MAX + 3n }),
    fc.bigInt({ min: -3n, max: 3n }),
  );
  fc.assert(
    fc.property(fc.array(instant, { maxLength: 20 }), (instants) => {
      for (const ns of instants) {
        const clamped = ns < 0n ? 0n : ns > TIMESTAMP_NS_MAX ? TIMESTAMP_NS_MAX : ns;
        const text = formatTimestamp(ns);
        expect(text).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
        expect(parseTimestamp(text)).toBe(clamped);
      }
    }),
  );
});
