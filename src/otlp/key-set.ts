import { cachedText } from './text-cache.ts';

/**
 * The attribute keys that are wanted, matched on bytes: keys that are not wanted never become strings. Compared by length
 * and last byte first (keys share beginnings such as `http.request.`, seldom ends), then byte by byte.
 */
export class KeySet {
  /** Exact keys by their length in bytes. */
  readonly #byLength: Key[][] = [];
  readonly #prefixes: Uint8Array[] = [];
  /** Is there an exact key of this length that ends in this byte? At length × 256 + byte. */
  readonly #endings: Uint8Array;
  /** What each byte is compared as. */
  readonly #fold: Uint8Array;

  constructor(keys: Iterable<string>, fold: Uint8Array) {
    this.#fold = fold;
    for (const text of new Set(keys)) {
      if (text.endsWith('*')) this.#prefixes.push(folded(text.slice(0, -1), fold));
      else {
        const bytes = folded(text, fold);
        const sameLength = this.#byLength[bytes.length] ?? [];
        sameLength.push({ bytes, text });
        this.#byLength[bytes.length] = sameLength;
      }
    }
    for (let length = 0; length < this.#byLength.length; length++) this.#byLength[length] ??= [];
    this.#endings = new Uint8Array(this.#byLength.length * 256);
    for (const [length, sameLength] of this.#byLength.entries()) {
      const ends = new Set(sameLength.map((key) => key.bytes[length - 1]));
      for (let byte = 0; byte < 256; byte++) {
        this.#endings[length * 256 + byte] = length === 0 || ends.has(fold[byte]) ? 1 : 0;
      }
    }
  }

  /** The key at these bytes when it is wanted. */
  match(bytes: Buffer, start: number, end: number): string | undefined {
    const length = end - start;
    if (length < this.#byLength.length && this.#endings[length * 256 + (bytes[end - 1] as number)] !== 0) {
      for (const key of this.#byLength[length] as Key[])
        if (equal(key.bytes, bytes, start, length, this.#fold)) return key.text;
    }
    for (const prefix of this.#prefixes) {
      if (prefix.length <= length && equal(prefix, bytes, start, prefix.length, this.#fold)) {
        return cachedText(bytes, start, end);
      }
    }
    return undefined;
  }
}

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

/** A key that ends in `*` is a prefix (`http.request.header.*`); `*` alone wants every key. */
export function compileKeys(keys: Iterable<string>): KeySet {
  return new KeySet(keys, EXACT);
}

/** The same, but ASCII letters match in either case, and `-` matches `_`. */
export function compileLooseKeys(keys: Iterable<string>): KeySet {
  return new KeySet(keys, LOOSE);
}
