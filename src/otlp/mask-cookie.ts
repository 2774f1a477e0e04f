import { SESSION_CHARS_MIN } from '../core/session-id.ts';
import { fill } from './mask-text.ts';
import type { SecretNames } from './secret-names.ts';

const SEMICOLON = 0x3b;
const EQUALS = 0x3d;
const QUOTE = 0x22;
const SPACE = 0x20;

/**
 * Masks the value of a Cookie or Set-Cookie header (RFC 6265): of session cookies the name stays, and `hash` is given the value
 * to put something in its place; everything else between the semicolons goes. Returns whether anything was masked.
 */
export function maskCookies(text: Buffer, sessionNames: SecretNames, hash: (id: Buffer) => void): boolean {
  let masked = false;
  for (let start = 0; start < text.length; ) {
    const semicolon = text.indexOf(SEMICOLON, start);
    const end = semicolon < 0 ? text.length : semicolon;
    const value = sessionValue(text, start, end, sessionNames);
    if (value === undefined) masked = fill(text, start, end) || masked;
    else {
      hash(value);
      masked = true;
    }
    start = end + 1;
  }
  return masked;
}

/** The value of the session cookie between two semicolons; undefined for other cookies and for values too short to be one. */
function sessionValue(text: Buffer, start: number, end: number, names: SecretNames): Buffer | undefined {
  const equals = text.indexOf(EQUALS, start);
  if (equals < 0 || equals >= end || !names.has(text.toString('latin1', start, equals).trim())) return undefined;
  let from = equals + 1;
  let to = end;
  while (from < to && (text[to - 1] as number) <= SPACE) to--;
  if (text[from] === QUOTE && text[to - 1] === QUOTE && to - from >= 2) {
    from++;
    to--;
  }
  return to - from < SESSION_CHARS_MIN ? undefined : text.subarray(from, to);
}
