import type { KeySet } from './key-set.ts';

/** What a masked byte becomes. */
export const STAR = 0x2a;

const COLON = 0x3a;
const EQUALS = 0x3d;
const AMPERSAND = 0x26;
const HASH = 0x23;
const QUESTION_MARK = 0x3f;
const SEMICOLON = 0x3b;

/** The scheme with the space around it, the scheme alone, and the credentials. */
const CREDENTIALS = /^(\s*([!#$%&'*+.^_`|~0-9a-z-]+)\s+)(.*)$/is;

/** Header and claims of a JSON Web Token (RFC 7519), and its signature. A header begins with `{"`, `eyJ` in base64url. */
const JWT = /^(eyJ[\w-]+\.[\w-]+\.)([\w-]*)\s*$/;

const BASE64 = /^[A-Za-z0-9+/_-]+={0,2}$/;

/**
 * Masks the proof in the value of an Authorization header (RFC 9110) and keeps what says who it was: a JWT's header and
 * claims without its signature, the user name of Basic. Of everything else only the scheme stays. Returns whether anything
 * was masked.
 */
export function maskAuthorization(buffer: Buffer, start: number, end: number): boolean {
  const match = CREDENTIALS.exec(buffer.toString('latin1', start, end));
  if (match === null) return fill(buffer, start, end);
  const [, before = '', scheme = '', credentials = ''] = match;
  const at = start + before.length;
  if (/^bearer$/i.test(scheme)) {
    const kept = JWT.exec(credentials)?.[1] ?? '';
    return fill(buffer, at + kept.length, end);
  }
  if (/^basic$/i.test(scheme) && maskBasic(buffer, at, credentials)) return true;
  return fill(buffer, at, end);
}

/** Masks the password in the base64 of `user:password`; false when it is not that, or cannot keep its length. */
function maskBasic(buffer: Buffer, at: number, credentials: string): boolean {
  if (!BASE64.test(credentials)) return false;
  const decoded = Buffer.from(credentials, 'base64');
  const colon = decoded.indexOf(COLON);
  if (colon < 0) return false;
  decoded.fill(STAR, colon + 1);
  const standard = decoded.toString('base64');
  const encoded = /[-_]/.test(credentials) ? standard.replaceAll('+', '-').replaceAll('/', '_') : standard;
  const cut = credentials.endsWith('=') ? encoded : encoded.replace(/=+$/, '');
  if (cut.length !== credentials.length) return false;
  buffer.write(cut, at, 'latin1');
  return true;
}

/** `user:password@` behind the `//` of a URL (RFC 3986): the password. */
const URL_PASSWORD = /\/\/[^/?#@:]*:([^/?#]*)@/;

/**
 * Masks the values of secret query parameters in a URL or a part of one, up to the next `&` or `#`, and a password in front
 * of the host. Names count also when they are percent-encoded, stand in the fragment, or follow a `;`. Returns whether
 * anything was masked.
 */
export function maskQuery(buffer: Buffer, start: number, end: number, secretNames: KeySet): boolean {
  let masked = maskUrlPassword(buffer, start, end);
  let at = start;
  while (at < end) {
    const nameStart = at;
    while (at < end && buffer[at] !== EQUALS && !startsName(buffer[at])) at++;
    if (at < end && buffer[at] === EQUALS && isSecret(buffer, nameStart, at, secretNames)) {
      const valueStart = at + 1;
      while (at < end && buffer[at] !== AMPERSAND && buffer[at] !== HASH) at++;
      masked = fill(buffer, valueStart, at) || masked;
    }
    while (at < end && !startsName(buffer[at])) at++;
    at++;
  }
  return masked;
}

/** Does a parameter's name begin behind this byte? */
function startsName(byte: number | undefined): boolean {
  return byte === AMPERSAND || byte === QUESTION_MARK || byte === HASH || byte === SEMICOLON;
}

function isSecret(buffer: Buffer, start: number, end: number, secretNames: KeySet): boolean {
  if (secretNames.match(buffer, start, end) !== undefined) return true;
  const name = buffer.toString('latin1', start, end);
  if (!name.includes('%')) return false;
  const decoded = name.replace(/%([0-9a-f]{2})/gi, (_escape: string, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return secretNames.match(Buffer.from(decoded, 'latin1'), 0, decoded.length) !== undefined;
}

function maskUrlPassword(buffer: Buffer, start: number, end: number): boolean {
  const match = URL_PASSWORD.exec(buffer.toString('latin1', start, end));
  if (match === null) return false;
  const passwordEnd = start + match.index + match[0].length - 1;
  return fill(buffer, passwordEnd - (match[1] ?? '').length, passwordEnd);
}

/** Overwrites the range; false when it is empty. */
function fill(buffer: Buffer, start: number, end: number): boolean {
  buffer.fill(STAR, start, end);
  return start < end;
}
