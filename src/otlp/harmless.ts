import { IS_CLEAN } from './clean-parts.ts';
import { headerNameStart } from './header-keys.ts';
import { Hints, TOKEN_HINTS } from './hints.ts';
import { endsSecret, type Mask } from './mask-names.ts';
import { partEnd, partStart } from './usual-fields.ts';
import { VALUE_TAG } from './value.ts';

/** Header, claims and signature of the shortest JSON Web Tokens. */
const TOKEN_BYTES_MIN = 60;

/** Tells cheaply, and in favour of a search, which attributes of a request need not be searched for secrets. */
export class HarmlessAttributes {
  readonly #buffer: Buffer;
  readonly #view: DataView;
  readonly #mask: Mask;
  /** Of what may be secret in a text. */
  readonly #hints: Hints;
  readonly #tokens: Hints;

  constructor(buffer: Buffer, view: DataView, mask: Mask, hints: Hints) {
    this.#buffer = buffer;
    this.#view = view;
    this.#mask = mask;
    this.#hints = hints;
    this.#tokens = new Hints(buffer, TOKEN_HINTS);
  }

  /** See Hints. */
  limit(end: number): void {
    this.#tokens.limit(end);
  }

  /**
   * Is the KeyValue from `start` to `end` written the way nearly every sender writes it, a short key, then one short text
   * or number to the end, does nothing in it hint at a secret, and is its key not one of ours? Then nothing is to be done.
   */
  has(start: number, end: number): boolean {
    const bytes = this.#buffer;
    const keyEnd = start + 2 + (bytes[start + 1] as number);
    if (keyEnd + 3 >= end || bytes[start] !== VALUE_TAG.key || (bytes[start + 1] as number) >= 0x80) return false;
    if (bytes[keyEnd] !== VALUE_TAG.value || partEnd(bytes, keyEnd + 1) !== end) return false;
    const contentStart = partStart(bytes, keyEnd + 1) + 1;
    if (contentStart >= end) return false;
    switch (bytes[contentStart - 1]) {
      case VALUE_TAG.string:
        if ((bytes[contentStart] as number) >= 0x80 || contentStart + 1 + (bytes[contentStart] as number) !== end)
          return false;
        if (this.#isSuspicious(contentStart + 1, end)) return false;
        break;
      case VALUE_TAG.bool:
      case VALUE_TAG.int:
        for (let at = contentStart; at < end - 1; at++) if ((bytes[at] as number) < 0x80) return false;
        break;
      case VALUE_TAG.double:
        if (contentStart + 8 !== end) return false;
        break;
      default:
        return false;
    }
    return this.#hasKey(start, keyEnd);
  }

  /** With the tag and length in front of the key and the tag behind it, so that short ones are remembered, too. */
  #hasKey(start: number, keyEnd: number): boolean {
    const { keys } = this.#mask.clean;
    const slot = keys.find(this.#view, start, keyEnd + 1);
    if (slot === IS_CLEAN) return true;
    const bytes = this.#buffer;
    const isHarmless =
      headerNameStart(bytes, start + 2, keyEnd) < 0 &&
      this.#mask.noted.match(bytes, start + 2, keyEnd) === undefined &&
      !endsSecret(this.#mask, bytes, start + 2, keyEnd);
    if (isHarmless && slot >= 0) keys.keep(slot, this.#view, start, keyEnd + 1);
    return isHarmless;
  }

  mayHoldToken(start: number, end: number): boolean {
    return end - start >= TOKEN_BYTES_MIN && this.#tokens.within(start, end);
  }

  /** May there be a secret in the text of a key that is not secret? */
  #isSuspicious(start: number, end: number): boolean {
    return this.#hints.within(start, end) || this.mayHoldToken(start, end) || beginsJson(this.#buffer[start]);
  }
}

/** May the text that begins with this byte be JSON? */
export function beginsJson(byte: number | undefined): boolean {
  return byte === 0x7b || byte === 0x5b;
}
