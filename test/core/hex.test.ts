import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hexOfWords } from '../../src/core/hex.ts';

describe('words in hex', () => {
  it('have eight digits each, whatever their sign', () => {
    const word = fc.integer({ min: 0, max: 0xffff_ffff });
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 8 }), fc.nat(7), (words, skipped) => {
        const from = Math.min(skipped, words.length - 1);
        const expected = words.slice(from).map((value) => value.toString(16).padStart(8, '0'));
        for (const kept of [Uint32Array.from(words), Int32Array.from(words)]) {
          expect(hexOfWords(kept, from, words.length - from)).toBe(expected.join(''));
        }
      }),
    );
  });
});
