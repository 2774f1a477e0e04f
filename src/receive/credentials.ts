import type { Counters } from '../core/metrics.ts';
import { SESSION_CHARS_MIN } from '../core/session-id.ts';
import type { CredentialFinder } from '../otlp/credential-finder.ts';
import type { HashSession } from './session-hash.ts';

/** Between which moments something was used, in epoch nanoseconds; 0 when no span or log record told. */
export interface Use {
  earliestNs: bigint;
  latestNs: bigint;
}

/**
 * Tokens, and sessions, of one request that are looked at: a batch of 8192 spans seldom has as many callers. Of more than these
 * nothing is said.
 */
const EACH_MAX = 2000;

/** Fills up what the hash does not, where the id was longer. */
const PADDING = 0x3d;

/** The longest token that is looked at: servers do not take longer headers. */
const TOKEN_CHARS_MAX = 16_384;

/** What one request holds of credentials. Tokens and session ids are in memory while it is admitted, and nowhere else. */
export class RequestCredentials implements CredentialFinder {
  /** By the whole token. */
  readonly tokens = new Map<string, Use>();
  /** By the hash; only those that are long enough to tell sessions apart. */
  readonly sessions = new Map<string, Use>();
  readonly #counters: Counters;
  readonly #hash: HashSession;
  /** Most spans of a request name the same few sessions. */
  readonly #hashes = new Map<string, string>();
  #untimed: Use[] = [];

  constructor(counters: Counters, hash: HashSession) {
    this.#counters = counters;
    this.#hash = hash;
  }

  get hasUntimed(): boolean {
    return this.#untimed.length > 0;
  }

  arrived(kind: 'authorization' | 'token' | 'cookie'): void {
    this.#counters.add('credentials', 1, { kind });
  }

  token(token: string): void {
    if (token.length > TOKEN_CHARS_MAX) this.#counters.add('tokens', 1, { verdict: 'too_long' });
    else if (!this.#note(this.tokens, token)) this.#counters.add('tokens', 1, { verdict: 'too_many' });
  }

  session(id: Buffer): void {
    const text = id.toString('latin1');
    let hash = this.#hashes.get(text);
    if (hash === undefined) {
      hash = this.#hash(id);
      if (this.#hashes.size < EACH_MAX) this.#hashes.set(text, hash);
    }
    id.fill(PADDING);
    id.write(hash, 'latin1');
    if (hash.length < SESSION_CHARS_MIN) return;
    if (!this.#note(this.sessions, hash)) this.#counters.add('sessions', 1, { owner: 'too_many' });
  }

  usedAt(timeNs: bigint): void {
    for (const use of this.#untimed) {
      if (timeNs === 0n) continue;
      if (use.earliestNs === 0n || timeNs < use.earliestNs) use.earliestNs = timeNs;
      if (timeNs > use.latestNs) use.latestNs = timeNs;
    }
    this.#untimed = [];
  }

  #note(uses: Map<string, Use>, key: string): boolean {
    let use = uses.get(key);
    if (use === undefined) {
      if (uses.size >= EACH_MAX) return false;
      use = { earliestNs: 0n, latestNs: 0n };
      uses.set(key, use);
    }
    this.#untimed.push(use);
    return true;
  }
}
