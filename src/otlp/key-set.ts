import { cachedText } from './text-cache.ts';

/**
 * The attribute keys that are wanted, matched on bytes: keys that are not wanted never become strings. Compared by length
 * and last byte first (keys share beginnings such as `http.request.`, seldom ends), then byte by byte.
 */
export class KeySet {
  /** What is wanted of log records: mappings look for names that no span has, and would only slow down the reading of spans. */
  readonly ofLogs: KeySet;
  /** Exact keys by length and last byte, at length × 256 + byte. */
  readonly #byEnding: readonly (readonly Key[] | undefined)[];
  readonly #prefixes: Uint8Array[] = [];
  /** Keys that were asked for, wanted or not, their lengths, 0 for none, and the answers. */
  #asked = new Int32Array(0);
  #lengths = new Uint8Array(0);
  #answers: (string | undefined)[] = [];
  /** What each byte is compared as. */
  readonly #fold: Uint8Array;

  constructor(keys: Iterable<string>, fold: Uint8Array, ofLogs?: KeySet) {
    this.ofLogs = ofLogs ?? this;
    this.#fold = fold;
    const byLength: Key[][] = [];
    for (const text of new Set(keys)) {
      if (text.endsWith('*')) this.#prefixes.push(folded(text.slice(0, -1), fold));
      else {
        const bytes = folded(text, fold);
        const sameLength = byLength[bytes.length] ?? [];
        sameLength.push({ bytes, text });
        byLength[bytes.length] = sameLength;
      }
    }
    const byEnding: (Key[] | undefined)[] = new Array(byLength.length * 256).fill(undefined);
    for (const [length, sameLength = []] of byLength.entries()) {
      for (const key of sameLength) {
        for (let byte = 0; byte < 256; byte++) {
          if (length > 0 && key.bytes[length - 1] !== fold[byte]) continue;
          const ending = byEnding[length * 256 + byte];
          if (ending === undefined) byEnding[length * 256 + byte] = [key];
          else ending.push(key);
        }
      }
    }
    this.#byEnding = byEnding;
  }

  /** As `match`; `view` is on the same bytes. What spans call their attributes repeats, so that the answers are remembered. */
  find(bytes: Buffer, view: DataView, start: number, end: number): string | undefined {
    const length = end - start;
    if (length < 4 || length > 4 * WORDS) return this.match(bytes, start, end);
    if (this.#lengths.length === 0) this.#beginAsking();
    const middle = view.getInt32(start + ((length - 4) >>> 1), true);
    const hash = Math.imul(Math.imul(middle ^ length, PRIME) ^ view.getInt32(end - 4, true), PRIME);
    const slot = (hash >>> 15) & (ASKED - 1);
    if (this.#isAsked(slot, view, start, length)) return this.#answers[slot];
    const other = slot ^ 1;
    if (this.#isAsked(other, view, start, length)) return this.#answers[other];
    // The one asked for last stays beside it.
    const first = slot * WORDS;
    this.#asked.copyWithin(other * WORDS, first, first + WORDS);
    this.#lengths[other] = this.#lengths[slot] as number;
    this.#answers[other] = this.#answers[slot];
    const last = Math.ceil(length / 4) - 1;
    for (let word = 0; word < last; word++) this.#asked[first + word] = view.getInt32(start + 4 * word, true);
    this.#asked[first + last] = view.getInt32(end - 4, true);
    this.#lengths[slot] = length;
    this.#answers[slot] = this.match(bytes, start, end);
    return this.#answers[slot];
  }

  /** Many sets are never asked so. */
  #beginAsking(): void {
    this.#asked = new Int32Array(ASKED * WORDS);
    this.#lengths = new Uint8Array(ASKED);
    this.#answers = new Array(ASKED).fill(undefined);
  }

  /** Is it this key whose answer is in the slot? */
  #isAsked(slot: number, view: DataView, start: number, length: number): boolean {
    if (this.#lengths[slot] !== length) return false;
    const asked = this.#asked;
    let word = slot * WORDS;
    for (let at = 0; at + 4 < length; at += 4) {
      if (asked[word++] !== view.getInt32(start + at, true)) return false;
    }
    return asked[word] === view.getInt32(start + length - 4, true);
  }

  /** The key at these bytes when it is wanted. */
  match(bytes: Buffer, start: number, end: number): string | undefined {
    const length = end - start;
    const at = length * 256 + (length === 0 ? 0 : (bytes[end - 1] as number));
    const ending = at < this.#byEnding.length ? this.#byEnding[at] : undefined;
    if (ending !== undefined) {
      for (const key of ending) if (equal(key.bytes, bytes, start, length, this.#fold)) return key.text;
    }
    for (const prefix of this.#prefixes) {
      if (prefix.length <= length && equal(prefix, bytes, start, prefix.length, this.#fold)) {
        return cachedText(bytes, start, end);
      }
    }
    return undefined;
  }
}

/** Keys of which it is remembered what they are, two to a set; a power of two. */
const ASKED = 2048;
/** Words kept of each, the last one being that of its last four bytes, wherever these begin. */
const WORDS = 16;
const PRIME = 0x9e3779b1;

interface Key {
  readonly bytes: Uint8Array;
  readonly text: string;
}

/** Do `length` bytes from `start` equal the key? Compared from the end. */
function equal(key: Uint8Array, bytes: Uint8Array, start: number, length: number, fold: Uint8Array): boolean {
  for (let index = length - 1; index >= 0; index--) {
    if (key[index] !== fold[bytes[start + index] as number]) return false;
  }
  return true;
}

function folded(text: string, fold: Uint8Array): Uint8Array {
  return Buffer.from(text).map((byte) => fold[byte] as number);
}

const EXACT = Uint8Array.from({ length: 256 }, (_, byte) => byte);

/** ASCII letters without case, and `_` as `-`. */
const LOOSE = EXACT.map((byte) => (byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte === 0x5f ? 0x2d : byte));

/**
 * A key that ends in `*` is a prefix (`http.request.header.*`); `*` alone wants every key. `alsoOfLogs` are wanted of log records
 * only.
 */
export function compileKeys(keys: Iterable<string>, alsoOfLogs: readonly string[] = []): KeySet {
  if (alsoOfLogs.length === 0) return new KeySet(keys, EXACT);
  const ofAll = [...keys];
  return new KeySet(ofAll, EXACT, new KeySet([...ofAll, ...alsoOfLogs], EXACT));
}

/** The same, but ASCII letters match in either case, and `-` matches `_`. */
export function compileLooseKeys(keys: Iterable<string>): KeySet {
  return new KeySet(keys, LOOSE);
}
