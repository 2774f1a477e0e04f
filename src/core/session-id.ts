/**
 * Sessions as evidence names them once it is admitted. Admission puts a keyed hash in base64url in place of every session id,
 * in as many bytes: cut where the id was shorter, padded with `=` where it was longer.
 */

/** 66 bits. Shorter hashes do not tell sessions apart surely enough to say whose one is. */
export const SESSION_CHARS_MIN = 11;

const PADDING = /=+$/;

/** The hash without its padding: what stands in a record's `session.id` and names the session in `FrameNote.sessions`. */
export function sessionId(text: string): string {
  return text.replace(PADDING, '');
}

/** What admission leaves of a session cookie; everything else in a captured cookie header is overwritten. */
const SESSION_COOKIE = /^\s*[^\s=*]+="?([\w-]{11,43})=*"?\s*$/;

/** The session in the masked value of a captured `cookie` or `set-cookie` header; undefined when it names none. */
export function sessionOfCookies(header: string): string | undefined {
  for (const part of header.split(';')) {
    const [, id] = SESSION_COOKIE.exec(part) ?? [];
    if (id !== undefined) return id;
  }
  return undefined;
}
