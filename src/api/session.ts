import { hash, randomBytes } from 'node:crypto';
import type { Clock } from '../core/clock.ts';

/** Without a request for so long a session is over: somebody left the page open. */
const IDLE_MS = 30 * 60_000;

/** Then the token is asked for again, whatever is done. A working day. */
export const SESSION_MS_MAX = 8 * 3_600_000;

/** Sessions at once; each needs a good token. Over it the one longest unused goes. */
const SESSIONS_MAX = 1000;

const ID_BYTES = 32;

/** On HTTPS a name that browsers take only with Secure, path / and from this very host. */
const COOKIE = 'spantrail_session';
const SECURE_COOKIE = `__Host-${COOKIE}`;

interface Session {
  /** What the page proved itself by: it is looked at again at each request, so that a session ends with its token. */
  readonly authorization: string;
  readonly begunMs: number;
  usedMs: number;
}

/** Sessions of the page in browsers. In memory only: a restart ends them. */
export interface Sessions {
  /** Answers the `set-cookie` header of a new session. */
  begin(authorization: string): string;
  /** The `authorization` of the session that a `cookie` header names; undefined for none, or one that is over. */
  authorizationOf(cookies: string | undefined): string | undefined;
  /** Answers the `set-cookie` header that takes the cookie away. */
  end(cookies: string | undefined): string;
}

export function createSessions(clock: Clock, isSecure: boolean): Sessions {
  // Kept in the order of their last use, by a digest: what reads this memory cannot pass for a browser.
  const sessions = new Map<string, Session>();
  const name = isSecure ? SECURE_COOKIE : COOKIE;
  const cookie = (value: string, ageMs: number): string =>
    `${name}=${value}; Path=/; Max-Age=${Math.floor(ageMs / 1000)}; HttpOnly; SameSite=Strict${isSecure ? '; Secure' : ''}`;
  const keyIn = (cookies: string | undefined): string | undefined => {
    const prefix = `${name}=`;
    const pair = cookies?.split(';').find((part) => part.trim().startsWith(prefix));
    return pair === undefined ? undefined : keyOf(pair.trim().slice(prefix.length));
  };
  const isOver = ({ begunMs, usedMs }: Session, nowMs: number): boolean =>
    nowMs - usedMs > IDLE_MS || nowMs - begunMs > SESSION_MS_MAX;
  return {
    begin(authorization) {
      const nowMs = clock.nowMs();
      for (const [key, session] of sessions) if (isOver(session, nowMs)) sessions.delete(key);
      const [longestUnused] = sessions.keys();
      if (sessions.size >= SESSIONS_MAX && longestUnused !== undefined) sessions.delete(longestUnused);
      const id = randomBytes(ID_BYTES).toString('base64url');
      sessions.set(keyOf(id), { authorization, begunMs: nowMs, usedMs: nowMs });
      return cookie(id, SESSION_MS_MAX);
    },
    authorizationOf(cookies) {
      const key = keyIn(cookies);
      const session = key === undefined ? undefined : sessions.get(key);
      if (key === undefined || session === undefined) return undefined;
      sessions.delete(key);
      const nowMs = clock.nowMs();
      if (isOver(session, nowMs)) return undefined;
      session.usedMs = nowMs;
      sessions.set(key, session);
      return session.authorization;
    },
    end(cookies) {
      const key = keyIn(cookies);
      if (key !== undefined) sessions.delete(key);
      return cookie('', 0);
    },
  };
}

function keyOf(id: string): string {
  return hash('sha256', id, 'base64');
}
