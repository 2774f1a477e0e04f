import { byKeys } from '../core/attribute-table.ts';
import type { Attributes, FrameNote, SessionOwner } from '../core/evidence.ts';
import { sessionId, sessionOfCookies } from '../core/session-id.ts';
import { asText } from './attributes.ts';
import { someone } from './nobody.ts';

/** What a login answers with names the session that begins; what a request comes with names the one that goes on. */
const COOKIE_KEYS = [
  'http.response.header.set-cookie',
  'http.response.header.set_cookie',
  'http.request.header.cookie',
] as const;
const COOKIES_CHARS_MAX = 16_384;

/** Attribute keys that the decoder must keep for `sessionOf`, besides those that it is asked for. */
export const SESSION_KEYS: readonly string[] = COOKIE_KEYS;

const mayNameSession = byKeys((keys, names: readonly string[]) =>
  keys.some((key) => names.includes(key) || SESSION_KEYS.includes(key)),
);

/** The keyed hash of the session that attributes name, in one of `names` or in a captured cookie. */
export function sessionOf(attributes: Attributes, names: readonly string[]): string | undefined {
  if (!mayNameSession(attributes, names)) return undefined;
  for (const name of names) {
    const value = attributes.get(name);
    const id = value === undefined ? undefined : someone(asText(value));
    if (id !== undefined) return sessionId(id);
  }
  for (const key of COOKIE_KEYS) {
    const value = attributes.get(key);
    if (value === undefined) continue;
    for (const line of Array.isArray(value) ? value : [value]) {
      const id = sessionOfCookies(asText(line, COOKIES_CHARS_MAX) ?? '');
      if (id !== undefined) return id;
    }
  }
  return undefined;
}

/** Whose session it was known to be when the request came that names it. */
export function ownerOf(session: string | undefined, { sessions }: FrameNote): SessionOwner | undefined {
  return session !== undefined && sessions !== undefined && Object.hasOwn(sessions, session)
    ? sessions[session]
    : undefined;
}
