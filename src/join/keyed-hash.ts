import { randomInt } from 'node:crypto';

/**
 * HalfSipHash-2-4 with 64 bits out (Aumasson, Bernstein) of a namespace number and a trace id, under a key of this process.
 * Senders choose trace ids: without a keyed function they could choose one whose hash is that of another's trace.
 */
export class KeyedHash {
  /** The hash that was made last, 32 bits each. */
  high = 0;
  low = 0;
  readonly #key0 = randomInt(2 ** 32);
  readonly #key1 = randomInt(2 ** 32);

  /** Leaves the hash in `high` and `low`. */
  hash(namespace: number, id: Uint32Array): void {
    let v0 = this.#key0 | 0;
    let v1 = this.#key1 ^ 0xee;
    let v2 = this.#key0 ^ 0x6c79_6765;
    let v3 = this.#key1 ^ 0x7465_6462;
    // Five words, the length in bytes (in the highest byte of a word), and two steps that give half of the hash each.
    for (let step = 0; step < 8; step++) {
      const word = step === 0 ? namespace : step < 5 ? (id[step - 1] as number) : 20 << 24;
      if (step < 6) v3 ^= word;
      else if (step === 6) v2 ^= 0xee;
      else v1 ^= 0xdd;
      for (let round = step < 6 ? 2 : 4; round > 0; round--) {
        v0 = (v0 + v1) | 0;
        v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
        v0 = (v0 << 16) | (v0 >>> 16);
        v2 = (v2 + v3) | 0;
        v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
        v0 = (v0 + v3) | 0;
        v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
        v2 = (v2 + v1) | 0;
        v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
        v2 = (v2 << 16) | (v2 >>> 16);
      }
      if (step < 6) v0 ^= word;
      else if (step === 6) this.low = (v1 ^ v3) >>> 0;
      else this.high = (v1 ^ v3) >>> 0;
    }
  }
}
