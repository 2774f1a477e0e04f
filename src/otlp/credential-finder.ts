import { STAR } from './mask-text.ts';

/** Told of the credentials in a request on the way. */
export interface CredentialFinder {
  /** Has something been found whose time has not been told? */
  readonly hasUntimed: boolean;
  /** A value that held credentials, or whose name says so, has been masked. */
  arrived(kind: 'authorization' | 'token' | 'cookie'): void;
  /** A JSON Web Token without its scheme, its signature not masked yet. */
  token(token: string): void;
  /** Puts a keyed hash in place of the id of a session, in as many bytes of ASCII. */
  session(id: Buffer): void;
  /** When what was found since the last call was used, as the span or log record that holds it says. Epoch nanoseconds. */
  usedAt(timeNs: bigint): void;
}

/** Without a key a session cannot be told from another one. */
export const FINDS_NOTHING: CredentialFinder = {
  hasUntimed: false,
  arrived: () => undefined,
  token: () => undefined,
  session: (id) => void id.fill(STAR),
  usedAt: () => undefined,
};
