import { hash, randomBytes } from 'node:crypto';

/** So that a token is known for one where it turns up: in code, in a log, by a scanner for secrets. */
const TOKEN_PREFIX = 'spantrail_';

/** 256 bits of chance, which nobody can try out: that is why a plain SHA-256 of a token is enough to keep. */
const TOKEN_BYTES = 32;

const TOKEN = /^spantrail_[A-Za-z0-9_-]{43}$/;

export function createToken(): string {
  return `${TOKEN_PREFIX}${randomBytes(TOKEN_BYTES).toString('base64url')}`;
}

export function isToken(text: string): boolean {
  return TOKEN.test(text);
}

/** As in the settings: `sha256:` and 64 hex digits. */
export function hashToken(token: string): string {
  return `sha256:${hash('sha256', token, 'hex')}`;
}

/** The token in `Bearer TOKEN`; undefined for whatever else. */
export function bearerToken(authorization: string): string | undefined {
  const token = /^bearer +(\S+) *$/i.exec(authorization)?.[1];
  return token !== undefined && isToken(token) ? token : undefined;
}
