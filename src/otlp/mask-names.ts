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
  readonly sessions: KeySet;
  /** What the keys of `sessions` begin with, up to the last dot, and what they end in: ids may be members of objects. */
  readonly groups: KeySet;
  readonly members: KeySet;
  /** `attributes`, `sessions`, `groups` and keys of URLs: whatever is not among these is looked at once only. */
  readonly noted: KeySet;
  readonly queryParameters: SecretNames;
  readonly cookies: SecretNames;
}

/** How the value of an attribute is masked, by its key. */
export function modeOfKey(mask: Mask, bytes: Buffer, start: number, end: number): Mode {
  if (mask.noted.match(bytes, start, end) === undefined) {
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
    if (mask.noted.match(text, start, end) === undefined) return undefined;
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
