import { isAssignment } from './mask-assignments.ts';
import { nameBefore } from './mask-text.ts';

const EQUALS = 0x3d;
const AT = 0x40;
const COLON = 0x3a;
const SLASH = 0x2f;
/**
 * Where a hint stands at or behind a position; Infinity when there is none. Only single bytes are looked for: that is many
 * times faster than looking for any text.
 */
type Search = (buffer: Buffer, from: number) => number;

function byteSearch(byte: number): Search {
  return (buffer, from) => {
    const at = buffer.indexOf(byte, from);
    return at < 0 ? Infinity : at;
  };
}

/** A `=` that ends the name of a parameter, or of a secret. Statements and such are full of others. */
function parameterFrom(buffer: Buffer, from: number): number {
  let at = buffer.indexOf(EQUALS, from);
  while (at >= 0 && nameBefore(buffer, 0, at) < 0 && !isAssignment(buffer, 0, at)) at = buffer.indexOf(EQUALS, at + 1);
  return at < 0 ? Infinity : at;
}

/** What ends the part of a URL in front of the host, going back. */
const NO_USER = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte <= 0x20 || '/?#@"<>'.includes(String.fromCharCode(byte)) ? 1 : 0,
);

/** A `@` that may end the password of a URL: going back leads over a `:` to a `/`. */
function passwordFrom(buffer: Buffer, from: number): number {
  for (let at = buffer.indexOf(AT, from); at >= 0; at = buffer.indexOf(AT, at + 1)) {
    let hasColon = false;
    let before = at - 1;
    for (; before > 0 && NO_USER[buffer[before] as number] === 0; before--) hasColon ||= buffer[before] === COLON;
    if (hasColon && buffer[before] === SLASH) return at;
  }
  return Infinity;
}

/** What may be secret in a text of any length: parameters, passwords in URLs. */
export const TEXT_HINTS: readonly Search[] = [parameterFrom, passwordFrom];
/** The third letter of every JSON Web Token. Often also the tag of an attribute, so it is looked for in long texts only. */
export const TOKEN_HINTS: readonly Search[] = [byteSearch(0x4a)];
/** Names in JSON. */
export const QUOTE_HINTS: readonly Search[] = [byteSearch(0x22)];

/**
 * Tells cheaply that nothing of interest stands in a range. Each hint is looked for in the whole payload, once up to its next
 * occurrence, so that a range costs two comparisons however many there are.
 */
export class Hints {
  readonly #whole: Buffer;
  #buffer: Buffer;
  readonly #searches: readonly Search[];
  readonly #next: number[];
  #nearest = -1;
  /** No hint stands from here to `#nearest`. */
  #from = 0;

  constructor(buffer: Buffer, searches: readonly Search[]) {
    this.#whole = buffer;
    this.#buffer = buffer;
    this.#searches = searches;
    this.#next = searches.map(() => -1);
  }

  /** From here on no range ends behind `end`: what stands behind it is not searched through. */
  limit(end: number): void {
    this.#buffer = this.#whole.subarray(0, end);
    this.#next.fill(-1);
    this.#nearest = -1;
    this.#from = 0;
  }

  /** May one stand in the range? True also when the range lies before one that was asked for earlier. */
  within(start: number, end: number): boolean {
    if (start > this.#nearest) this.#advance(start);
    return this.#nearest < end || start < this.#from;
  }

  #advance(start: number): void {
    let nearest = Infinity;
    for (let index = 0; index < this.#next.length; index++) {
      let at = this.#next[index] as number;
      if (at < start) {
        at = (this.#searches[index] as Search)(this.#buffer, start);
        this.#next[index] = at;
      }
      if (at < nearest) nearest = at;
    }
    this.#nearest = nearest;
    this.#from = start;
  }
}
