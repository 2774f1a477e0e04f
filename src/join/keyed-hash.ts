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
  readonly #state = new Int32Array(4);

  /** Leaves the hash in `high` and `low`. */
  hash(namespace: number, id: Uint32Array): void {
    const state = this.#state;
    state[0] = this.#key0;
    state[1] = this.#key1 ^ 0xee;
    state[2] = this.#key0 ^ 0x6c79_6765;
    state[3] = this.#key1 ^ 0x7465_6462;
    absorb(state, namespace);
    for (let word = 0; word < 4; word++) absorb(state, id[word] as number);
    // The length in bytes, in the last block's highest byte.
    absorb(state, 20 << 24);
    state[2] = (state[2] as number) ^ 0xee;
    mix(state, 4);
    this.low = ((state[1] as number) ^ (state[3] as number)) >>> 0;
    state[1] = (state[1] as number) ^ 0xdd;
    mix(state, 4);
    this.high = ((state[1] as number) ^ (state[3] as number)) >>> 0;
  }
}

function absorb(state: Int32Array, word: number): void {
  state[3] = (state[3] as number) ^ word;
  mix(state, 2);
  state[0] = (state[0] as number) ^ word;
}

function mix(state: Int32Array, rounds: number): void {
  let [v0, v1, v2, v3] = [state[0] as number, state[1] as number, state[2] as number, state[3] as number];
  for (let round = 0; round < rounds; round++) {
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
  state[0] = v0;
  state[1] = v1;
  state[2] = v2;
  state[3] = v3;
}
