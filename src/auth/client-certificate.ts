import type { Socket } from 'node:net';
import { type PeerCertificate, TLSSocket } from 'node:tls';

/** What is known of the certificate of a client, once it was checked against its authority. */
export interface ClientCertificate {
  /** By attribute (`CN`, `O`, `OU` …); an attribute may be there more than once. */
  readonly subject: Readonly<Record<string, readonly string[]>>;
  /** As `DNS:name`, `URI:…`, `IP Address:…`, `email:…`. */
  readonly alternativeNames: readonly string[];
  /** SHA-256 in 64 hex digits, lower case. */
  readonly fingerprint: string;
  /** Epoch milliseconds. */
  readonly endsAtMs: number;
}

const known = new WeakMap<Socket, ClientCertificate>();

/**
 * The client's certificate of a connection; undefined when it gave none, or none that its authority signed. The same object for all
 * requests of the connection.
 */
export function clientCertificateOf(socket: Socket): ClientCertificate | undefined {
  const before = known.get(socket);
  if (before || !(socket instanceof TLSSocket) || !socket.authorized) return before;
  const found = socket.getPeerCertificate();
  // The types do not say so: without one the object is empty.
  if (!found?.fingerprint256) return undefined;
  const certificate = readCertificate(found);
  known.set(socket, certificate);
  return certificate;
}

function readCertificate(found: PeerCertificate): ClientCertificate {
  const subject = Object.entries(found.subject ?? {}).map(([name, value]: [string, unknown]) => [name, listOf(value)]);
  return {
    subject: Object.fromEntries(subject),
    alternativeNames: splitNames(found.subjectaltname ?? ''),
    fingerprint: found.fingerprint256.replaceAll(':', '').toLowerCase(),
    endsAtMs: Date.parse(found.valid_to),
  };
}

function listOf(value: unknown): readonly string[] {
  return (Array.isArray(value) ? value : [value]).filter((each) => typeof each === 'string');
}

/** Node writes a name that has commas or quotes in it as a JSON text: such a one is nobody's, and must not pass for two. */
export function splitNames(text: string): readonly string[] {
  const names = text.match(/(?:"(?:[^"\\]|\\.)*"|[^",])+/g) ?? [];
  return names.filter((name) => !name.includes('"')).map((name) => name.trim());
}
