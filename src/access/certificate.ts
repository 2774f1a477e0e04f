import type { Identity } from './access.ts';
import { compact } from './attributes.ts';

/** Longest header that is read: a handful of certificates as Envoy tells them, without the certificates themselves. */
export const CERTIFICATE_CHARS_MAX = 16_384;
const SPIFFE = /^spiffe:\/\/[^/\s]+\/\S+$/i;

/**
 * Whom a client certificate names that a proxy has checked and tells in a header: Envoy's `x-forwarded-client-cert`
 * (`By=…;Hash=…;Subject="CN=…";URI=…`, an element for each proxy on the way, the first is the original client's), a
 * distinguished name (nginx, load balancers), Traefik's `Subject="…"`, URL-encoded or not, or a bare SPIFFE id. Workloads have
 * the type `service`.
 */
export function identityOfCertificate(header: string): Identity | undefined {
  const text = plain(header);
  if (SPIFFE.test(text)) return workload(text);
  const fields = fieldsIn(text);
  const uri = fields.get('uri')?.find((value) => SPIFFE.test(value));
  const subject = fields.get('subject')?.[0] ?? (isName(text) ? text : undefined);
  if (uri !== undefined) return workload(uri);
  const parts = subject === undefined ? undefined : partsOf(subject);
  const name = parts?.get('cn');
  const email = parts?.get('emailaddress') ?? parts?.get('e');
  const id = name ?? parts?.get('uid') ?? email ?? subject ?? fields.get('dns')?.[0];
  return id === undefined || id.trim() === '' ? undefined : compact({ id, name, email });
}

function workload(uri: string): Identity {
  // `spiffe://cluster.local/ns/shop/sa/orders` is the account `orders`.
  return { id: uri, name: uri.slice(uri.lastIndexOf('/') + 1), type: 'service' };
}

function plain(header: string): string {
  if (!/%(?:22|3D|2C|20)/i.test(header)) return header.trim();
  try {
    return decodeURIComponent(header.replaceAll('+', ' ')).trim();
  } catch {
    return header.trim();
  }
}

/** A distinguished name: RFC 4514 (`CN=alice,O=x`) or as OpenSSL used to write it (`/O=x/CN=alice`). */
function isName(text: string): boolean {
  return (
    /^(?:\/?[A-Za-z][\w.]*\s*=)/.test(text) && !/^(?:By|Hash|Cert|Chain|Subject|URI|DNS|Issuer|NB|NA|SAN)=/i.test(text)
  );
}

/** The fields of the first element, by name in lower case; quoted values may hold any character. */
function fieldsIn(text: string): ReadonlyMap<string, string[]> {
  const fields = new Map<string, string[]>();
  const field = /\s*([A-Za-z]+)=("(?:\\.|[^"\\])*"|[^;,]*)(;|,|$)/y;
  for (;;) {
    const match = field.exec(text);
    if (match === null) return fields;
    const [, name = '', raw = '', separator] = match;
    const value = (raw.startsWith('"') ? raw.slice(1, -1).replace(/\\(.)/g, '$1') : raw).trim();
    if (value !== '') fields.set(name.toLowerCase(), [...(fields.get(name.toLowerCase()) ?? []), value]);
    if (separator !== ';') return fields;
  }
}

/** The parts of a distinguished name by type in lower case; of several the first as written. */
function partsOf(subject: string): ReadonlyMap<string, string> {
  const separated = subject.startsWith('/')
    ? subject.slice(1).split(/\/(?=[A-Za-z][\w.]*=)/)
    : subject.split(/(?<!\\)[,+]/);
  const parts = new Map<string, string>();
  for (const part of separated) {
    const equals = part.indexOf('=');
    const type = part.slice(0, Math.max(equals, 0)).trim().toLowerCase();
    const value = part
      .slice(equals + 1)
      .trim()
      .replace(/\\([,+"\\<>;= #])/g, '$1');
    if (type !== '' && value !== '' && !parts.has(type)) parts.set(type, value);
  }
  return parts;
}
