import { randomBytes } from 'node:crypto';
import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { createInFlight } from '../../src/receive/in-flight.ts';
import { CONTENT_ENCODINGS, inflate, looksCompressed } from '../../src/receive/inflate.ts';
import { reserve } from './harness.ts';

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
    const inFlight = createInFlight({ bytesMax: 10 * MEBIBYTE, connectionsMax: 10 });
    const reservation = reserve(inFlight);
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
    const roomy = createInFlight({ bytesMax: 10 * MEBIBYTE, connectionsMax: 10 });
    const tooLarge = await inflate(compressed, encoding, original.length - 1, reserve(roomy));
    expect(tooLarge).toEqual({ kind: 'too_large' });
    const crowded = createInFlight({ bytesMax: original.length - 1, connectionsMax: 10 });
    expect(await inflate(compressed, encoding, original.length, reserve(crowded))).toEqual({
      kind: 'busy',
      limit: 'full',
    });
    const cut = compressed.subarray(0, -compressed.length / 2);
    const corrupt = await inflate(
      cut,
      encoding,
      original.length,
      reserve(createInFlight({ bytesMax: 10 * MEBIBYTE, connectionsMax: 10 })),
    );
    expect(corrupt).toEqual({ kind: 'corrupt', message: expect.stringContaining(`not valid ${encoding}`) });
  });
});

it('knows every encoding that it offers', () => expect(CONTENT_ENCODINGS).toEqual(Object.keys(compressors)));
