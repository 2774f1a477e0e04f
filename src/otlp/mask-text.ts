import type { SecretNames } from './secret-names.ts';

/** What a masked byte becomes. */
export const STAR = 0x2a;

const COLON = 0x3a;
const EQUALS = 0x3d;
const AMPERSAND = 0x26;
const HASH = 0x23;
const BACKSLASH = 0x5c;
const DOT = 0x2e;

/** The scheme with the space around it, the scheme alone, and the credentials. */
const CREDENTIALS = /^(\s*([!#$%&'*+.^_`|~0-9a-z-]+)\s+)(.*)$/is;

/** Schemes of which senders put JSON Web Tokens. */
const TOKEN_SCHEME = /^(?:bearer|token|jwt|dpop)$/i;

/** Header, claims and signature of a JSON Web Token (RFC 7519). Amazon's load balancer pads each part. */
const JWT = /^\s*([\w-]+=*)(\.[\w-]+=*\.)[\w-]*=*\s*$/;

const BASE64 = /^[A-Za-z0-9+/_-]+={0,2}$/;

/** Told of each JSON Web Token, before its signature is masked. */
type FoundToken = (token: string) => void;

/**
 * Masks the proof in the value of an Authorization header (RFC 9110) and keeps what says who it was: a JWT's header and
 * claims without its signature, the user name of Basic. Of everything else only the scheme stays. Returns whether anything
 * was masked.
 */
export function maskAuthorization(text: Buffer, found: FoundToken): boolean {
  const match = CREDENTIALS.exec(text.toString('latin1'));
  if (match === null) return maskToken(text, found);
  const [, before = '', scheme = '', credentials = ''] = match;
  if (TOKEN_SCHEME.test(scheme)) {
    const kept = claimsEnd(credentials);
    if (kept > 0) found(credentials.trim());
    return fill(text, before.length + kept, text.length);
  }
  if (/^basic$/i.test(scheme) && maskBasic(text, before.length, credentials)) return true;
  return fill(text, before.length, text.length);
}

/** Masks the signature of a JSON Web Token, with or without a scheme in front; everything when it is none. */
export function maskToken(text: Buffer, found: FoundToken): boolean {
  return maskSignature(text, found) ?? fill(text, 0, text.length);
}

/** Masks the signature when the text is a JSON Web Token, with or without a scheme in front; undefined when it is none. */
export function maskSignature(text: Buffer, found: FoundToken): boolean | undefined {
  const all = text.toString('latin1');
  const before = CREDENTIALS.exec(all)?.[1]?.length ?? 0;
  const token = all.slice(before);
  const kept = claimsEnd(token);
  if (kept === 0) return undefined;
  found(token.trim());
  return fill(text, before + kept, text.length);
}

/** Where the claims of a JSON Web Token end, behind their dot; 0 when the text is none. */
function claimsEnd(text: string): number {
  const [, header = '', claims = ''] = JWT.exec(text) ?? [];
  if (!header.startsWith('eyJ') && !namesAlgorithm(header)) return 0;
  return text.indexOf(header) + header.length + claims.length;
}

/** Is this, in base64url, the JSON object that begins every signed token? */
function namesAlgorithm(header: string): boolean {
  return /^e[w-z0-9_-]/.test(header) && /"alg"\s*:/.test(Buffer.from(header, 'base64url').toString('latin1'));
}

/** Masks the signatures of all JSON Web Tokens in a text. */
export function maskSignatures(text: Buffer): boolean {
  let masked = false;
  let end = 0;
  for (let at = text.indexOf('eyJ'); at >= 0; at = text.indexOf('eyJ', at)) {
    if (at >= end) for (end = at; end < text.length && isTokenByte(text[end] as number); ) end++;
    const firstDot = dotFrom(text, at, end);
    const secondDot = dotFrom(text, firstDot + 1, end);
    if (secondDot >= end) at = end;
    else if (namesAlgorithm(text.toString('latin1', at, firstDot))) {
      masked = fill(text, secondDot + 1, end) || masked;
      at = end;
    } else at = firstDot;
  }
  return masked;
}

function dotFrom(text: Buffer, from: number, end: number): number {
  let at = from;
  while (at < end && text[at] !== DOT) at++;
  return at;
}

/** What a JSON Web Token is written in: base64url, padding, dots. */
function isTokenByte(byte: number): boolean {
  return (
    (byte >= 0x61 && byte <= 0x7a) ||
    (byte >= 0x41 && byte <= 0x5a) ||
    (byte >= 0x30 && byte <= 0x39) ||
    byte === 0x2d ||
    byte === 0x5f ||
    byte === DOT ||
    byte === EQUALS
  );
}

/** Masks the password in the base64 of `user:password`; false when it is not that, or cannot keep its length. */
function maskBasic(text: Buffer, at: number, credentials: string): boolean {
  if (!BASE64.test(credentials)) return false;
  const decoded = Buffer.from(credentials, 'base64');
  const colon = decoded.indexOf(COLON);
  if (colon < 0) return false;
  decoded.fill(STAR, colon + 1);
  const standard = decoded.toString('base64');
  const encoded = /[-_]/.test(credentials) ? standard.replaceAll('+', '-').replaceAll('/', '_') : standard;
  const cut = credentials.endsWith('=') ? encoded : encoded.replace(/=+$/, '');
  if (cut.length !== credentials.length) return false;
  text.write(cut, at, 'latin1');
  return true;
}

/** `user:password@` behind the `//` of a URL (RFC 3986): the password. */
const URL_PASSWORD = /\/\/[^\s/?#@:"<>]*:([^\s/?#"<>]*)@/g;

/** Masks the passwords in front of the hosts of all URLs in a text. */
export function maskUrlPasswords(text: Buffer): boolean {
  let masked = false;
  if (!text.includes(0x40)) return masked;
  for (const match of text.toString('latin1').matchAll(URL_PASSWORD)) {
    const end = match.index + match[0].length - 1;
    masked = fill(text, end - (match[1] ?? '').length, end) || masked;
  }
  return masked;
}

/** Bytes that do not belong to a parameter's name: 1 where one may begin behind it, 2 where it may not. */
const NO_NAME = Uint8Array.from({ length: 256 }, (_, byte) => {
  if ('&?#;\\'.includes(String.fromCharCode(byte))) return 1;
  return byte <= 0x20 || '"<>='.includes(String.fromCharCode(byte)) ? 2 : 0;
});

/** Longer names are none. */
const NAME_BYTES_MAX = 256;

/** Where the name of the parameter begins whose `=` is at `equals`; -1 when there is none between it and `start`. */
export function nameBefore(bytes: Buffer, start: number, equals: number): number {
  const first = Math.max(start, equals - NAME_BYTES_MAX);
  for (let at = equals - 1; at >= first; at--) {
    const kind = NO_NAME[bytes[at] as number] as number;
    if (kind !== 0) return kind === 1 && at < equals - 1 ? at + 1 : -1;
  }
  return -1;
}

/**
 * Masks the values of secret query parameters. In a URL, or a part of one, a name may be the first thing and a value goes on
 * to the next `&` or `#`. In any other text a name follows `?`, `&`, `#` or `;`, and a value also ends at a space or quote.
 * Names count also when they are percent-encoded, or follow a `&` that JSON has as an escape.
 */
export function maskParameters(text: Buffer, secretNames: SecretNames, isUrl: boolean): boolean {
  let masked = false;
  for (let equals = text.indexOf(EQUALS); equals >= 0; equals = text.indexOf(EQUALS, equals + 1)) {
    let nameStart = nameBefore(text, 0, equals);
    if (nameStart < 0 && isUrl) nameStart = firstName(text, equals);
    if (nameStart < 0) continue;
    let name = text.toString('latin1', nameStart, equals);
    if (text[nameStart - 1] === BACKSLASH) name = name.replace(/^u0026/i, '');
    if (!secretNames.has(name)) continue;
    const end = valueEnd(text, equals + 1, isUrl);
    masked = fill(text, equals + 1, end) || masked;
    equals = end - 1;
  }
  return masked;
}

/** 0 when the text begins with the name whose `=` is at `equals`, else -1. */
function firstName(text: Buffer, equals: number): number {
  if (equals > NAME_BYTES_MAX) return -1;
  for (let at = 0; at < equals; at++) if (NO_NAME[text[at] as number] !== 0) return -1;
  return 0;
}

function valueEnd(text: Buffer, from: number, isUrl: boolean): number {
  let at = from;
  for (; at < text.length; at++) {
    const byte = text[at] as number;
    if (byte === AMPERSAND || byte === HASH) break;
    if (!isUrl && (byte <= 0x20 || byte === 0x22 || byte === 0x3c || byte === 0x3e || byte === BACKSLASH)) break;
  }
  return at;
}

/** Overwrites the range; false when it is empty. */
export function fill(text: Buffer, start: number, end: number): boolean {
  text.fill(STAR, start, end);
  return start < end;
}
