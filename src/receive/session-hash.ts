import { createHash, hash } from 'node:crypto';

/** The keyed hash of a session's id, in base64url: at most 43 characters, not more than the id has bytes. */
export type HashSession = (id: Buffer) => string;

/** Of SHA-256. */
const BLOCK_BYTES = 64;
const DIGEST_BYTES = 32;
const INNER_PAD = 0x36;
const OUTER_PAD = 0x5c;

/**
 * HMAC-SHA256 (RFC 2104), put together from two plain hashes: node's own costs many times as much for a text this short, and every
 * span of a browser has one.
 */
export function createSessionHash(key: Uint8Array): HashSession {
  const block = Buffer.alloc(BLOCK_BYTES);
  block.set(key.length > BLOCK_BYTES ? createHash('sha256').update(key).digest() : key);
  const inner = block.map((byte) => byte ^ INNER_PAD);
  const outer = Buffer.alloc(BLOCK_BYTES + DIGEST_BYTES);
  outer.set(block.map((byte) => byte ^ OUTER_PAD));
  return (id) => {
    outer.set(hash('sha256', Buffer.concat([inner, id]), 'buffer'), BLOCK_BYTES);
    return hash('sha256', outer, 'base64url').slice(0, id.length);
  };
}
