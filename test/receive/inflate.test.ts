import { randomBytes } from 'node:crypto';
import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { createInFlight } from '../../src/receive/in-flight.ts';
import { CONTENT_ENCODINGS, inflate, looksCompressed } from '../../src/receive/inflate.ts';

const MEBIBYTE = 1024 * 1024;
const compressors = { gzip: gzipSync, deflate: deflateSync, zstd: zstdCompressSync };

describe.each(Object.entries(compressors))('inflating %s', (encoding, compress) => {
  // Around the sizes at which it goes from one piece to streaming, in what is sent and in what comes out.
  const small = randomBytes(1000);
  const wide = Buffer.alloc(6 * MEBIBYTE, 'abc');
  const dense = randomBytes(2 * MEBIBYTE);

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['a small body', small],
    ['a small body that becomes large', wide],
    ['a large body', dense],
  ])('gives back %s and holds what it takes', async (_, original) => {
    const inFlight = createInFlight(10 * MEBIBYTE);
    const reservation = inFlight.reserve();
    const compressed = compress(original);
    const result = await inflate(compressed, encoding, Math.max(1, original.length), reservation);
    expect(result.kind === 'inflated' && result.payload.equals(original)).toBe(true);
    expect(inFlight.bytes).toBe(original.length);
    expect(looksCompressed(compressed, encoding)).toBe(true);
  });

  it.each([
    ['small', small],
    ['widely inflating', wide],
    ['large', dense],
  ])('stops at either bound and says when a %s body is broken', async (_, original) => {
    const compressed = compress(original);
    const roomy = createInFlight(10 * MEBIBYTE);
    const tooLarge = await inflate(compressed, encoding, original.length - 1, roomy.reserve());
    expect(tooLarge).toEqual({ kind: 'too_large' });
    const crowded = createInFlight(original.length - 1);
    expect(await inflate(compressed, encoding, original.length, crowded.reserve())).toEqual({ kind: 'busy' });
    const cut = compressed.subarray(0, -compressed.length / 2);
    const corrupt = await inflate(cut, encoding, original.length, createInFlight(10 * MEBIBYTE).reserve());
    expect(corrupt).toEqual({ kind: 'corrupt', message: expect.stringContaining(`not valid ${encoding}`) });
  });
});

it('knows every encoding that it offers', () => expect(CONTENT_ENCODINGS).toEqual(Object.keys(compressors)));
