import type { Transform } from 'node:stream';
import * as zlib from 'node:zlib';
import { describeError } from '../core/errors.ts';
import type { Limit } from './fair-share.ts';
import type { Reservation } from './in-flight.ts';

export type Inflated =
  | { readonly kind: 'inflated'; readonly payload: Buffer }
  | { readonly kind: 'too_large' }
  | { readonly kind: 'busy'; readonly limit: Limit }
  | { readonly kind: 'corrupt'; readonly message: string };

interface Codec {
  readonly sync: (compressed: Buffer, options: { maxOutputLength: number; chunkSize: number }) => Buffer;
  readonly stream: () => Transform;
  /** Does the first bytes' signature fit? Needed where a flag that says "compressed" cannot be seen. */
  readonly fits: (bytes: Buffer) => boolean;
  /** What the sender says that comes out, 0 when it does not say. Only a hint: senders lie. */
  readonly saysBytes: (compressed: Buffer) => number;
}

const SAYS_NOTHING = () => 0;

const CODECS = new Map<string, Codec>([
  [
    'gzip',
    {
      sync: zlib.gunzipSync,
      stream: zlib.createGunzip,
      fits: (b) => b[0] === 0x1f && b[1] === 0x8b,
      // RFC 1952: the last four bytes are the length of the last member modulo 4 GiB.
      saysBytes: (b) => (b.length < 18 ? 0 : b.readUInt32LE(b.length - 4)),
    },
  ],
  [
    'deflate',
    {
      sync: zlib.inflateSync,
      stream: zlib.createInflate,
      // RFC 1950: method 8, and the two header bytes are a multiple of 31.
      fits: (b) => b.length > 1 && ((b[0] ?? 0) & 0x0f) === 8 && b.readUInt16BE(0) % 31 === 0,
      saysBytes: SAYS_NOTHING,
    },
  ],
]);
// Node 22.15 and 23.8 brought zstd; older ones do without.
if (typeof zlib.zstdDecompressSync === 'function') {
  CODECS.set('zstd', {
    sync: zlib.zstdDecompressSync,
    stream: zlib.createZstdDecompress,
    fits: (b) => b.length > 3 && b.readUInt32LE(0) === 0xfd2fb528,
    saysBytes: SAYS_NOTHING,
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

/**
 * Inflates within two bounds: `bytesMax` for this request and what the reservation still gets. Afterwards the reservation
 * holds what came out; what went in is no longer needed.
 */
export async function inflate(
  compressed: Buffer,
  encoding: string,
  bytesMax: number,
  reservation: Reservation,
): Promise<Inflated> {
  const codec = CODECS.get(encoding);
  if (!codec) return { kind: 'corrupt', message: `cannot inflate ${encoding}` };
  const said = codec.saysBytes(compressed);
  if (compressed.length <= SYNC_COMPRESSED_BYTES_MAX && said <= SYNC_INFLATED_BYTES_MAX) {
    const result = inflateAtOnce(compressed, encoding, codec, bytesMax, reservation);
    if (result) return result;
  }
  const limit = reservation.expect(Math.min(said, bytesMax));
  if (limit) return { kind: 'busy', limit };
  return reservation.inTurn(() => inflateStreamed(compressed, encoding, codec, bytesMax, reservation));
}

/** Room that is made for what comes out at least, and for each byte of what the sender does not say the size of. */
const ROOM_BYTES_MIN = 1024;
const ROOM_A_BYTE = 16;

/** Undefined when it turns out to be larger than what should be inflated on the main thread. */
function inflateAtOnce(
  compressed: Buffer,
  encoding: string,
  codec: Codec,
  bytesMax: number,
  reservation: Reservation,
): Inflated | undefined {
  try {
    const maxOutputLength = Math.min(bytesMax, SYNC_INFLATED_BYTES_MAX);
    // All in one piece, and a byte more, so that the end is seen in it: pieces put together cost more than the inflating.
    const said = codec.saysBytes(compressed) || ROOM_A_BYTE * compressed.length;
    const chunkSize = Math.max(ROOM_BYTES_MIN, Math.min(said, maxOutputLength) + 1);
    const inflated = codec.sync(compressed, { maxOutputLength, chunkSize });
    // Senders lie: room that is not used must not be held as long as what came out.
    const payload = 2 * inflated.length < chunkSize ? Buffer.from(inflated) : inflated;
    const limit = reservation.add(payload.length);
    if (limit) return { kind: 'busy', limit };
    reservation.shrinkTo(payload.length);
    return { kind: 'inflated', payload };
  } catch (thrown) {
    if (!isTooLarge(thrown)) return { kind: 'corrupt', message: corruptMessage(encoding, thrown) };
    return bytesMax <= SYNC_INFLATED_BYTES_MAX ? { kind: 'too_large' } : undefined;
  }
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
      parts.length = 0;
      resolve(result);
    };
    stream.on('data', (part: Buffer) => {
      bytes += part.length;
      const limit = reservation.add(part.length);
      if (bytes > bytesMax) stop({ kind: 'too_large' });
      else if (limit) stop({ kind: 'busy', limit });
      else parts.push(part);
    });
    stream.on('end', () => {
      reservation.shrinkTo(bytes);
      resolve({ kind: 'inflated', payload: Buffer.concat(parts, bytes) });
    });
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
