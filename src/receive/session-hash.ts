import { createHmac } from 'node:crypto';

/** Writes a keyed hash over the id of a session, in as many bytes, and returns it without padding. */
export type HashSession = (id: Buffer) => string;

const PADDING = 0x3d;

/** HMAC-SHA256 in base64url: cut to the length of a shorter id, padded with `=` to that of a longer one. */
export function createSessionHash(key: Uint8Array): HashSession {
  return (id) => {
    const hash = createHmac('sha256', key).update(id).digest('base64url').slice(0, id.length);
    id.fill(PADDING);
    id.write(hash, 'latin1');
    return hash;
  };
}
