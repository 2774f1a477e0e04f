import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatTimestamp } from '../../src/core/clock.ts';
import { putFraction, putHex, putHexOf, putNumber, putTook } from '../../src/enrich/form-bytes.ts';
import { tookText } from '../../src/enrich/sentence.ts';

const BYTES = 40;

/** What is written into memory full of other things. */
function written(write: (pairs: Uint16Array, bytes: Uint8Array) => void): string {
  const bytes = new Uint8Array(BYTES).fill(0x78);
  write(new Uint16Array(bytes.buffer), bytes);
  return Buffer.from(bytes).toString();
}

describe('what is written into gaps', () => {
  it('numbers as JSON has them, at the right end', () => {
    const numbers = fc.oneof(fc.maxSafeInteger(), fc.integer(), fc.integer({ min: -1000, max: 1000 }));
    fc.assert(
      fc.property(numbers, (number) => {
        const text = String(number === 0 ? 0 : number).padStart(20);
        expect(written((pairs) => putNumber(pairs, 2, 10, number))).toBe(`xxxx${text}${'x'.repeat(16)}`);
      }),
    );
  });

  it('nanoseconds of a second as a timestamp ends', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 999_999_999 }), (nanoseconds) => {
        const end = `${formatTimestamp(BigInt(nanoseconds)).slice(20)}" `;
        expect(written((pairs) => putFraction(pairs, 1, nanoseconds)).slice(2, 14)).toBe(end);
      }),
    );
  });

  it('words and bytes in hex', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 4, maxLength: 16 }), (id) => {
        const word = Buffer.from(id).readUInt32BE(0);
        expect(written((pairs) => putHex(pairs, 0, word)).slice(0, 8)).toBe(word.toString(16).padStart(8, '0'));
        const hex = Buffer.from(id).toString('hex');
        expect(written((pairs) => putHexOf(pairs, 1, id, 0, id.length)).slice(2, 2 + hex.length)).toBe(hex);
      }),
    );
  });

  it('how long something took as the sentence tells it', () => {
    const nanoseconds = fc.oneof(
      fc.nat({ max: 2_000_000 }),
      fc.nat({ max: 1_000_000_000 }),
      fc.maxSafeInteger().filter((number) => number >= 0),
      fc.constantFrom(0, 999, 1000, 999_499, 999_500, 999_499_999, 999_500_000),
    );
    fc.assert(
      fc.property(nanoseconds, (took) => {
        const text = written((_, bytes) => putTook(bytes, 4, 36, took));
        // Filled up to 32 bytes.
        const told = Buffer.from(`${tookText(took)}"`);
        expect(text).toBe(`xxxx${Buffer.concat([told, Buffer.alloc(32, ' ')], 32)}xxxx`);
      }),
    );
  });
});
