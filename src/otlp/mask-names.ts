import type { CleanParts } from './clean-parts.ts';
import { headerNameStart, modeOfHeader } from './header-keys.ts';
import type { KeySet } from './key-set.ts';
import type { Decide } from './mask-baggage.ts';
import type { MaskOf } from './mask-json.ts';
import { type Mode, modeOfSecret, type Proof } from './mask-mode.ts';
import type { SecretNames } from './secret-names.ts';
import { cachedText } from './text-cache.ts';

/** What is secret by its name, compiled. */
export interface Mask {
  readonly attributes: KeySet;
  /** Lengths of those of `attributes` that are plain words, by their last byte: they are secret as last part of a longer key, too. */
  readonly endings: readonly (readonly number[] | undefined)[];
  readonly sessions: KeySet;
  /** What the keys of `sessions` begin with, up to the last dot, and what they end in: ids may be members of objects. */
  readonly groups: KeySet;
  readonly members: KeySet;
  /** `attributes`, `sessions`, `groups` and keys of URLs: whatever is not among these is looked at once only. */
  readonly noted: KeySet;
  readonly queryParameters: SecretNames;
  readonly cookies: SecretNames;
  /** What was searched and found clean. */
  readonly clean: { readonly rests: CleanParts; readonly texts: CleanParts; readonly keys: CleanParts };
}

const DOT = 0x2e;

/** What tells by its last part that a key is secret (`form.password`): where that part may begin. */
export function endingsOf(attributes: readonly string[]): Mask['endings'] {
  const lengths: number[][] = [];
  for (const word of attributes) {
    if (/[.*]/.test(word)) continue;
    const last = word.at(-1) ?? '';
    for (const letter of new Set([last.toLowerCase(), last.toUpperCase()])) {
      const known = lengths[letter.charCodeAt(0)] ?? [];
      if (!known.includes(word.length)) known.push(word.length);
      lengths[letter.charCodeAt(0)] = known;
    }
  }
  return lengths;
}

/** Is the key's last part, behind a dot, one that is secret? */
export function endsSecret({ endings, attributes }: Mask, bytes: Buffer, start: number, end: number): boolean {
  const lengths = endings[bytes[end - 1] as number];
  if (lengths === undefined) return false;
  for (let index = 0; index < lengths.length; index++) {
    const dot = end - (lengths[index] as number) - 1;
    if (dot > start && bytes[dot] === DOT && attributes.match(bytes, dot + 1, end) !== undefined) return true;
  }
  return false;
}

/** How the value of an attribute is masked, by its key. */
export function modeOfKey(mask: Mask, bytes: Buffer, start: number, end: number): Mode {
  if (mask.noted.match(bytes, start, end) === undefined) {
    if (endsSecret(mask, bytes, start, end)) return modeOfSecret(bytes.toString('latin1', start, end));
    const nameStart = headerNameStart(bytes, start, end);
    return nameStart < 0 ? 'search' : modeOfHeader(cachedText(bytes, nameStart, end));
  }
  return proofOf(mask, bytes, start, end) ?? (mask.groups.match(bytes, start, end) === undefined ? 'url' : 'group');
}

function proofOf({ attributes, sessions }: Mask, bytes: Buffer, start: number, end: number): Proof | undefined {
  if (attributes.match(bytes, start, end) !== undefined) return modeOfSecret(bytes.toString('latin1', start, end));
  return sessions.match(bytes, start, end) === undefined ? undefined : 'session';
}

/** How values in a JSON text are masked, by their names. */
export function jsonNames(mask: Mask, text: Buffer, maskProof: (value: Buffer, mode: Proof) => boolean): MaskOf {
  const maskBy = (mode: Proof) => (value: Buffer) => value.length > 0 && maskProof(value, mode);
  const members: MaskOf = (start, end) =>
    mask.members.match(text, start, end) === undefined ? undefined : maskBy('session');
  return (start, end) => {
    if (mask.noted.match(text, start, end) === undefined) {
      return endsSecret(mask, text, start, end) ? maskBy(modeOfSecret(text.toString('latin1', start, end))) : undefined;
    }
    const mode = proofOf(mask, text, start, end);
    if (mode !== undefined) return maskBy(mode);
    return mask.groups.match(text, start, end) === undefined ? undefined : { members };
  };
}

/** What becomes of the members of a baggage header, by their names. */
export function baggageNames({ sessions, attributes, queryParameters }: Mask, text: Buffer): Decide {
  return (start, end) => {
    if (sessions.match(text, start, end) !== undefined) return 'hash';
    if (attributes.match(text, start, end) !== undefined) return 'fill';
    return queryParameters.has(text.toString('latin1', start, end)) ? 'fill' : 'keep';
  };
}
