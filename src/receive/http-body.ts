import type { IncomingMessage } from 'node:http';
import type { Limit } from './fair-share.ts';
import type { Reservation } from './in-flight.ts';
import { CONTENT_ENCODINGS, inflate } from './inflate.ts';
import { PIECE_BYTES_MIN } from './limits.ts';

export type BodyResult =
  | { readonly kind: 'body'; readonly bytes: Buffer }
  | { readonly kind: 'too_large' }
  | { readonly kind: 'busy'; readonly limit: Limit }
  | { readonly kind: 'corrupt'; readonly message: string }
  | { readonly kind: 'unsupported_encoding' }
  /** The client is gone; nobody waits for an answer. */
  | { readonly kind: 'aborted' };

/** Reads and inflates a request's body, at most `bytesMax` before and after, and stops as soon as that is exceeded. */
export async function readBody(
  request: IncomingMessage,
  bytesMax: number,
  reservation: Reservation,
): Promise<BodyResult> {
  const encoding = (request.headers['content-encoding'] ?? '').trim().toLowerCase() || 'identity';
  if (encoding !== 'identity' && !CONTENT_ENCODINGS.includes(encoding)) return { kind: 'unsupported_encoding' };
  const read = await readBytes(request, bytesMax, reservation);
  if (read.kind !== 'body' || encoding === 'identity') return read;
  const result = await inflate(read.bytes, encoding, bytesMax, reservation);
  return result.kind === 'inflated' ? { kind: 'body', bytes: result.payload } : result;
}

function readBytes(request: IncomingMessage, bytesMax: number, reservation: Reservation): Promise<BodyResult> {
  const said = Number(request.headers['content-length'] ?? 0);
  if (said > bytesMax) return Promise.resolve({ kind: 'too_large' });
  const limit = reservation.expect(said);
  if (limit) return Promise.resolve({ kind: 'busy', limit });
  return new Promise((resolve) => {
    const pieces = said > 0 ? intoOne(said) : intoMany();
    let bytes = 0;
    const stop = (result: BodyResult): void => {
      request.off('data', onData);
      resolve(result);
    };
    const onData = (chunk: Buffer): void => {
      bytes += chunk.length;
      const limit = reservation.add(said > 0 ? chunk.length : Math.max(chunk.length, PIECE_BYTES_MIN));
      if (bytes > bytesMax) stop({ kind: 'too_large' });
      else if (limit) stop({ kind: 'busy', limit });
      else pieces.add(chunk);
    };
    request.on('data', onData);
    request.once('end', () => {
      reservation.shrinkTo(bytes);
      resolve({ kind: 'body', bytes: pieces.join() });
    });
    request.once('error', () => stop({ kind: 'aborted' }));
    request.once('close', () => stop({ kind: 'aborted' }));
  });
}

interface Pieces {
  add(chunk: Buffer): void;
  join(): Buffer;
}

/** Node sees to it that no more bytes come than the header said. */
function intoOne(bytes: number): Pieces {
  // Not from the pool, and not filled: pages are only taken as the bytes come.
  const body = Buffer.allocUnsafeSlow(bytes);
  let at = 0;
  return {
    add: (chunk) => {
      at += chunk.copy(body, at);
    },
    join: () => body,
  };
}

function intoMany(): Pieces {
  const chunks: Buffer[] = [];
  return { add: (chunk) => void chunks.push(chunk), join: () => Buffer.concat(chunks) };
}
