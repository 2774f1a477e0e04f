import { hash } from 'node:crypto';

/** 132 bits: nobody finds two tokens of one key. */
const KEY_CHARS = 22;

/**
 * What stands for a JSON Web Token in `FrameNote.tokens`: from the digest of its header and claims as they are written, so that
 * it is the same before and after the signature is masked. The token comes without its scheme (`Bearer`); undefined when it
 * does not have three parts.
 */
export function tokenKey(token: string): string | undefined {
  const firstDot = token.indexOf('.');
  const secondDot = token.indexOf('.', firstDot + 1);
  if (firstDot <= 0 || secondDot <= firstDot + 1) return undefined;
  return hash('sha256', token.slice(0, secondDot).trimStart(), 'base64url').slice(0, KEY_CHARS);
}
