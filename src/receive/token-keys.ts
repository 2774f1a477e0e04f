import { createPublicKey, type KeyObject } from 'node:crypto';
import { type CompactVerifyGetKey, createLocalJWKSet, type JSONWebKeySet } from 'jose';
import type { Clock, Scheduler } from '../core/clock.ts';
import { describeError } from '../core/errors.ts';

/** Signs of keys that anybody may know; a secret shared by both sides is never one of them. */
const PUBLIC_ALGORITHMS = words('RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519');
const SECRET_ALGORITHMS = words('HS256 HS384 HS512');

/** More is no set of keys. */
const KEYS_CHARS_MAX = 1_048_576;

/** A token that names an unknown key makes them be read again, but not more often than this: anybody can make up names. */
const REFRESH_FLOOR_MS = 30_000;

export type VerificationKey = CompactVerifyGetKey | KeyObject | Uint8Array;

/** The keys of one issuer as they are known now. */
export interface TokenKeys {
  /** Undefined until they have been read. */
  readonly key: VerificationKey | undefined;
  readonly algorithms: readonly string[];
  /** Rises when the keys change: what was found with earlier ones says nothing any more. */
  readonly generation: number;
  /** Has them read again in the background, if that was not tried just now: there is none of this name. */
  missed(name: string | undefined): void;
  close(): void;
}

/** A secret that both sides know. */
export function secretKeys(secret: string): TokenKeys {
  const key = new TextEncoder().encode(secret);
  return { key, algorithms: SECRET_ALGORITHMS, generation: 0, missed: () => undefined, close: () => undefined };
}

/** Throws an Error that says what the text should be: a JWK set (RFC 7517), or a public key or certificate in PEM. */
export function parseKeys(text: string, mayBeNone = false): VerificationKey {
  if (text.length > KEYS_CHARS_MAX) throw new Error(`is larger than ${KEYS_CHARS_MAX} characters`);
  if (/^\s*-----BEGIN /.test(text)) {
    if (/PRIVATE KEY/.test(text)) throw new Error('is a private key: give the public one, which belongs here');
    return createPublicKey(text);
  }
  let set: unknown;
  try {
    set = JSON.parse(text);
  } catch {
    throw new Error('is neither a JWK set ({"keys": […]}) nor PEM');
  }
  const keys = typeof set === 'object' && set !== null && 'keys' in set ? set.keys : undefined;
  if (!Array.isArray(keys) || (keys.length === 0 && !mayBeNone))
    throw new Error('is JSON without keys: {"keys": […]} is needed');
  return createLocalJWKSet(set as JSONWebKeySet);
}

export interface RefreshedKeysOptions {
  /** Resolves with a JWK set or PEM. */
  readonly read: () => Promise<string>;
  /** Keys are read by name: told of each that is missed. There may be none of them, then. */
  readonly want?: (name: string) => void;
  /** What was read before the start, if it was. */
  readonly first?: string;
  readonly refreshMs: number;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  /** Told of every attempt; the words say what is wrong. */
  readonly report: (failure: string | undefined) => void;
}

/** Keys that are read again and again in the background. The last that could be read stay until others can. */
export class RefreshedKeys implements TokenKeys {
  readonly algorithms = PUBLIC_ALGORITHMS;
  key: VerificationKey | undefined;
  generation = 0;
  readonly #options: RefreshedKeysOptions;
  #text: string | undefined;
  #attemptedMs = Number.NEGATIVE_INFINITY;
  #isReading = false;
  #isClosed = false;
  #cancel: () => void = () => undefined;

  /** Throws an Error for a first text that holds no keys. Without one the first attempt begins at once. */
  constructor(options: RefreshedKeysOptions) {
    this.#options = options;
    if (options.first !== undefined) this.#take(options.first);
    this.#plan(options.first === undefined ? 0 : options.refreshMs);
  }

  missed(name: string | undefined): void {
    if (name !== undefined) this.#options.want?.(name);
    if (this.#options.clock.nowMs() - this.#attemptedMs >= REFRESH_FLOOR_MS) void this.#read();
  }

  close(): void {
    this.#isClosed = true;
    this.#cancel();
  }

  #take(text: string): void {
    if (text === this.#text) return;
    this.key = parseKeys(text, this.#options.want !== undefined);
    this.#text = text;
    this.generation += 1;
  }

  #plan(delayMs: number): void {
    this.#cancel();
    if (!this.#isClosed) this.#cancel = this.#options.scheduler.after(delayMs, () => void this.#read());
  }

  async #read(): Promise<void> {
    if (this.#isReading || this.#isClosed) return;
    this.#isReading = true;
    this.#attemptedMs = this.#options.clock.nowMs();
    let failure: string | undefined;
    try {
      this.#take(await this.#options.read());
    } catch (thrown) {
      failure = describeError(thrown);
    }
    this.#isReading = false;
    this.#options.report(failure);
    const { refreshMs } = this.#options;
    // Without any keys nothing can be checked: that is worth asking more often for.
    this.#plan(this.key === undefined ? Math.min(refreshMs, REFRESH_FLOOR_MS) : refreshMs);
  }
}

function words(text: string): readonly string[] {
  return text.split(' ');
}
