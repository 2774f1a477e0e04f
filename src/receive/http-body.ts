import type { IncomingMessage } from 'node:http';
import type { Reservation } from './in-flight.ts';
import { CONTENT_ENCODINGS, inflate } from './inflate.ts';

export type BodyResult =
  | { readonly kind: 'body'; readonly bytes: Buffer }
  | { readonly kind: 'too_large' }
  | { readonly kind: 'busy' }
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
  if (Number(request.headers['content-length'] ?? 0) > bytesMax) return Promise.resolve({ kind: 'too_large' });
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const stop = (result: BodyResult): void => {
      request.off('data', onData);
      chunks.length = 0;
      resolve(result);
    };
    const onData = (chunk: Buffer): void => {
      bytes += chunk.length;
      if (bytes > bytesMax) stop({ kind: 'too_large' });
      else if (!reservation.add(chunk.length)) stop({ kind: 'busy' });
      else chunks.push(chunk);
    };
    request.on('data', onData);
    request.once('end', () => resolve({ kind: 'body', bytes: Buffer.concat(chunks) }));
    request.once('error', () => stop({ kind: 'aborted' }));
    request.once('close', () => stop({ kind: 'aborted' }));
  });
}
