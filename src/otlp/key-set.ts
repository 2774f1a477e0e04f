import { cachedText } from './text-cache.ts';

/**
 * The attribute keys that are wanted, matched on bytes: keys that are not wanted never become strings. Compared by length
 * and last byte first (keys share beginnings such as `http.request.`, seldom ends), then byte by byte.
 */
export class KeySet {
  /** Exact keys by their length in bytes. */
  readonly #byLength: Key[][] = [];
  readonly #prefixes: Uint8Array[] = [];

  constructor(keys: Iterable<string>) {
    for (const text of new Set(keys)) {
      if (text.endsWith('*')) this.#prefixes.push(Buffer.from(text.slice(0, -1)));
      else {
        const bytes = Buffer.from(text);
        const sameLength = this.#byLength[bytes.length] ?? [];
        sameLength.push({ bytes, text });
        this.#byLength[bytes.length] = sameLength;
      }
    }
    for (let length = 0; length < this.#byLength.length; length++) this.#byLength[length] ??= [];
  }

  /** The key at these bytes when it is wanted. */
  match(bytes: Buffer, start: number, end: number): string | undefined {
    const length = end - start;
    if (length < this.#byLength.length) {
      for (const key of this.#byLength[length] as Key[])
        if (endsAlike(key.bytes, bytes, start, length)) return key.text;
    }
    for (const prefix of this.#prefixes) {
      if (prefix.length <= length && endsAlike(prefix, bytes, start, prefix.length)) {
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
function endsAlike(key: Uint8Array, bytes: Uint8Array, start: number, length: number): boolean {
  for (let index = length - 1; index >= 0; index--) if (key[index] !== bytes[start + index]) return false;
  return true;
}

/** A key that ends in `*` is a prefix (`http.request.header.*`); `*` alone wants every key. */
export function compileKeys(keys: Iterable<string>): KeySet {
  return new KeySet(keys);
}
