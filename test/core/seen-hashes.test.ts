import { describe, expect, it } from 'vitest';
import { SeenHashes } from '../../src/core/seen-hashes.ts';

const [COUNT, SETS] = [64, 16];

/** So many hashes that belong into one set. */
function ofOneSet(count: number): number[] {
  return Array.from({ length: count }, (_, at) => (((at + 1) << 16) | ((at + 1) & (SETS - 1))) >>> 0);
}

describe('hashes that were seen', () => {
  it('are known the second time, signed or not', () => {
    const seen = new SeenHashes(COUNT);
    expect([seen.see(0x1234_5678), seen.see(0x8765_4321 | 0), seen.see(0x1234_5678)]).toEqual([false, false, true]);
    expect(seen.see(0x8765_4321)).toBe(true);
  });

  it('do not displace each other in turns, up to four of a set', () => {
    const seen = new SeenHashes(COUNT);
    const four = ofOneSet(4);
    expect(four.map((hash) => seen.see(hash))).toEqual([false, false, false, false]);
    for (let round = 0; round < 3; round++)
      expect(four.map((hash) => seen.see(hash))).toEqual([true, true, true, true]);
  });

  it('make way for new ones, the oldest first', () => {
    const seen = new SeenHashes(COUNT);
    const five = ofOneSet(5);
    for (const hash of five) seen.see(hash);
    expect(seen.see(five[4] ?? 0)).toBe(true);
    expect(seen.see(five[0] ?? 0)).toBe(false);
  });
});
