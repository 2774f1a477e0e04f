import { createPublicKey } from 'node:crypto';
import { AppError, describeError } from '../core/errors.ts';

/** An issuer that does not answer for longer is asked again later. */
const FETCH_TIMEOUT_MS = 5_000;
/** A larger answer is no set of keys. */
const FETCH_BYTES_MAX = 2 ** 20;

/** Stands in an address for the name of a key. */
const KID = '{kid}';
const KID_PATTERN = /^[\w.-]{1,128}$/;

/** Anybody can make up names: more are not asked for, and the one asked for last is forgotten first. */
const NAMES_MAX = 16;

/** What says that there is no key of this name. */
const ABSENT_STATUS: ReadonlySet<number> = new Set([400, 403, 404, 410]);

/** Keys of an address that answers with one public key in PEM for each name, as Amazon's load balancers have it. */
export interface NamedKeys {
  /** Asked for at the next read. */
  want(name: string): void;
  /** Resolves with a JWK set of the keys that are there. */
  read(): Promise<string>;
}

/** Undefined when the address does not have `{kid}` in it. */
export function namedKeys(url: string): NamedKeys | undefined {
  if (!url.includes(KID)) return undefined;
  const wanted = new Set<string>();
  return {
    want: (name) => {
      if (KID_PATTERN.test(name) && wanted.size < NAMES_MAX) wanted.add(name);
    },
    read: async () => {
      const keys: object[] = [];
      for (const name of [...wanted]) {
        try {
          const text = await fetchKeys(url.replace(KID, encodeURIComponent(name)));
          keys.push({ ...createPublicKey(text).export({ format: 'jwk' }), kid: name });
        } catch (thrown) {
          if (!(thrown instanceof AppError) || thrown.code !== 'not_found') throw thrown;
          wanted.delete(name);
        }
      }
      return JSON.stringify({ keys });
    },
  };
}

/** Throws an Error that says what came instead of keys: AppError('not_found') when there are none at the address. */
export async function fetchKeys(url: string): Promise<string> {
  const response = await fetch(url, {
    headers: { accept: 'application/json, application/jwk-set+json, */*' },
    signal: AbortSignal.timeout(FETCH_TIMEOUT_MS),
  }).catch((thrown: unknown) => {
    // "fetch failed" alone tells nobody anything.
    throw new Error(describeError(thrown instanceof Error && thrown.cause ? thrown.cause : thrown), { cause: thrown });
  });
  const words = `answered with status ${response.status}`;
  if (ABSENT_STATUS.has(response.status)) throw new AppError('not_found', words);
  if (!response.ok) throw new Error(words);
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > FETCH_BYTES_MAX) throw new Error(`answered with more than ${FETCH_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
