import type { Transform } from 'node:stream';
import * as zlib from 'node:zlib';
import { describeError } from '../core/errors.ts';
import type { Reservation } from './in-flight.ts';

export type Inflated =
  | { readonly kind: 'inflated'; readonly payload: Buffer }
  | { readonly kind: 'too_large' }
  | { readonly kind: 'busy' }
  | { readonly kind: 'corrupt'; readonly message: string };

interface Codec {
  readonly sync: (compressed: Buffer, options: { maxOutputLength: number }) => Buffer;
  readonly stream: () => Transform;
  /** Does the first bytes' signature fit? Needed where a flag that says "compressed" cannot be seen. */
  readonly fits: (bytes: Buffer) => boolean;
}

const CODECS = new Map<string, Codec>([
  ['gzip', { sync: zlib.gunzipSync, stream: zlib.createGunzip, fits: (b) => b[0] === 0x1f && b[1] === 0x8b }],
  [
    'deflate',
    {
      sync: zlib.inflateSync,
      stream: zlib.createInflate,
      // RFC 1950: method 8, and the two header bytes are a multiple of 31.
      fits: (b) => b.length > 1 && ((b[0] ?? 0) & 0x0f) === 8 && b.readUInt16BE(0) % 31 === 0,
    },
  ],
]);
// Node 22.15 and 23.8 brought zstd; older ones do without.
if (typeof zlib.zstdDecompressSync === 'function') {
  CODECS.set('zstd', {
    sync: zlib.zstdDecompressSync,
    stream: zlib.createZstdDecompress,
    fits: (b) => b.length > 3 && b.readUInt32LE(0) === 0xfd2fb528,
  });
}

/** The encodings besides `identity` that requests may be compressed with here, best supported first. */
export const CONTENT_ENCODINGS: readonly string[] = [...CODECS.keys()];

export function looksCompressed(bytes: Buffer, encoding: string): boolean {
  return CODECS.get(encoding)?.fits(bytes) ?? false;
}

/**
 * Up to these sizes a request is inflated in one go on the main thread (some milliseconds at most), which costs half of
 * what the streaming way costs. Everything larger is streamed, so that it neither blocks others nor runs past the cap.
 */
const SYNC_COMPRESSED_BYTES_MAX = 1 << 20;
const SYNC_INFLATED_BYTES_MAX = 4 << 20;

/** Inflates within two bounds: `bytesMax` for this request and what the reservation still gets. */
export async function inflate(
  compressed: Buffer,
  encoding: string,
  bytesMax: number,
  reservation: Reservation,
): Promise<Inflated> {
  const codec = CODECS.get(encoding);
  if (!codec) return { kind: 'corrupt', message: `cannot inflate ${encoding}` };
  if (compressed.length <= SYNC_COMPRESSED_BYTES_MAX) {
    try {
      const payload = codec.sync(compressed, { maxOutputLength: Math.min(bytesMax, SYNC_INFLATED_BYTES_MAX) });
      return reservation.add(payload.length) ? { kind: 'inflated', payload } : { kind: 'busy' };
    } catch (thrown) {
      if (!isTooLarge(thrown)) return { kind: 'corrupt', message: corruptMessage(encoding, thrown) };
      if (bytesMax <= SYNC_INFLATED_BYTES_MAX) return { kind: 'too_large' };
    }
  }
  return inflateStreamed(compressed, encoding, codec, bytesMax, reservation);
}

function inflateStreamed(
  compressed: Buffer,
  encoding: string,
  codec: Codec,
  bytesMax: number,
  reservation: Reservation,
): Promise<Inflated> {
  return new Promise((resolve) => {
    const stream = codec.stream();
    const parts: Buffer[] = [];
    let bytes = 0;
    const stop = (result: Inflated): void => {
      stream.destroy();
      resolve(result);
    };
    stream.on('data', (part: Buffer) => {
      bytes += part.length;
      if (bytes > bytesMax) stop({ kind: 'too_large' });
      else if (!reservation.add(part.length)) stop({ kind: 'busy' });
      else parts.push(part);
    });
    stream.on('end', () => resolve({ kind: 'inflated', payload: Buffer.concat(parts, bytes) }));
    stream.on('error', (thrown) => stop({ kind: 'corrupt', message: corruptMessage(encoding, thrown) }));
    stream.end(compressed);
  });
}

function isTooLarge(thrown: unknown): boolean {
  return thrown instanceof Error && 'code' in thrown && thrown.code === 'ERR_BUFFER_TOO_LARGE';
}

function corruptMessage(encoding: string, thrown: unknown): string {
  return `the request is not valid ${encoding}: ${describeError(thrown)}`;
}
