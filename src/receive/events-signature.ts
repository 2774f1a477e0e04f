import { createHmac, hash, timingSafeEqual } from 'node:crypto';
import type { RejectCode } from './receipt.ts';

/**
 * How a webhook's sender proves who it is:
 * - `standard_webhooks`: standardwebhooks.com and Svix: `webhook-id`, `webhook-timestamp`, `webhook-signature` (or `svix-…`), the
 *   signature `v1,` + base64 of HMAC-SHA256 over `id.timestamp.body`; several with spaces between them
 * - `github`: `X-Hub-Signature-256: sha256=` + hex of HMAC-SHA256 over the body; no time is in it
 * - `bearer`: the secret itself in `Authorization`, as `Bearer`, as the password of `Basic`, or bare
 */
export const SIGNATURE_SCHEMES = ['standard_webhooks', 'github', 'bearer'] as const;

export type SignatureScheme = (typeof SIGNATURE_SCHEMES)[number];

export interface SignatureSettings {
  /** Several while one is replaced by another. */
  readonly secrets: readonly string[];
  /** The one that must be there; undefined for whichever the request has. */
  readonly scheme: SignatureScheme | undefined;
  /** How far the signature's time may be from ours, in either direction. */
  readonly toleranceMs: number;
}

type Headers = Readonly<Record<string, string | string[] | undefined>>;

export type SignatureCheck =
  | { readonly ok: true }
  | { readonly ok: false; readonly code: RejectCode & `signature_${string}`; readonly reason: string };

/** Checks what the sender proves itself by, over the body as it was before compression. Compares in constant time. */
export function checkSignature(
  { secrets, scheme, toleranceMs }: SignatureSettings,
  headers: Headers,
  body: Uint8Array,
  nowMs: number,
): SignatureCheck {
  const wanted = scheme ?? SIGNATURE_SCHEMES.find((each) => CHECKS[each].isThere(headers));
  if (wanted === undefined || !CHECKS[wanted].isThere(headers)) {
    const asked = (wanted === undefined ? SIGNATURE_SCHEMES : [wanted])
      .map((each) => CHECKS[each].header)
      .join(', or ');
    return { ok: false, code: 'signature_missing', reason: `the request is not signed: it must have ${asked}` };
  }
  return CHECKS[wanted].check({ secrets, toleranceMs }, headers, body, nowMs);
}

interface SchemeCheck {
  /** For a person who is told that it is missing. */
  readonly header: string;
  readonly isThere: (headers: Headers) => boolean;
  readonly check: (
    settings: Pick<SignatureSettings, 'secrets' | 'toleranceMs'>,
    headers: Headers,
    body: Uint8Array,
    nowMs: number,
  ) => SignatureCheck;
}

const OK: SignatureCheck = { ok: true };

function wrong(reason: string): SignatureCheck {
  return { ok: false, code: 'signature_wrong', reason };
}

const CHECKS: Readonly<Record<SignatureScheme, SchemeCheck>> = {
  standard_webhooks: {
    header: 'webhook-id, webhook-timestamp and webhook-signature (or svix-id, svix-timestamp, svix-signature)',
    isThere: (headers) => webhookHeader(headers, 'signature') !== '',
    check: checkStandardWebhook,
  },
  github: {
    header: 'x-hub-signature-256',
    isThere: (headers) => headerOf(headers, 'x-hub-signature-256') !== '',
    check({ secrets }, headers, body) {
      const given = /^sha256=([0-9a-f]{64})$/i.exec(headerOf(headers, 'x-hub-signature-256').trim())?.[1];
      if (given === undefined) return wrong('x-hub-signature-256 must be sha256= and 64 hex digits');
      const signature = Buffer.from(given, 'hex');
      const fits = secrets.some((secret) => isEqual(createHmac('sha256', secret).update(body).digest(), signature));
      return fits ? OK : wrong('x-hub-signature-256 does not fit the body and the secret');
    },
  },
  bearer: {
    header: 'authorization with the secret',
    isThere: (headers) => headerOf(headers, 'authorization') !== '',
    check({ secrets }, headers) {
      const given = secretIn(headerOf(headers, 'authorization'));
      const fits = secrets.some((secret) => isEqual(hash('sha256', secret, 'buffer'), hash('sha256', given, 'buffer')));
      return fits ? OK : wrong('authorization does not hold the secret');
    },
  },
};

function checkStandardWebhook(
  { secrets, toleranceMs }: Pick<SignatureSettings, 'secrets' | 'toleranceMs'>,
  headers: Headers,
  body: Uint8Array,
  nowMs: number,
): SignatureCheck {
  const id = webhookHeader(headers, 'id');
  const timestamp = webhookHeader(headers, 'timestamp');
  if (id === '' || !/^\d{1,12}$/.test(timestamp)) {
    return wrong('the signature needs webhook-id and webhook-timestamp (seconds since 1970) beside it');
  }
  const given = webhookHeader(headers, 'signature')
    .split(' ')
    .filter((part) => part.startsWith('v1,'))
    .map((part) => Buffer.from(part.slice('v1,'.length), 'base64'));
  const signatures = secrets
    .flatMap(webhookKeys)
    .map((key) => createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest());
  if (!signatures.some((signature) => given.some((each) => isEqual(signature, each)))) {
    return wrong('webhook-signature does not fit the id, the timestamp, the body and the secret');
  }
  // Told only to who has the secret.
  const awayMs = nowMs - Number(timestamp) * 1000;
  if (Math.abs(awayMs) <= toleranceMs) return OK;
  const away = `${Math.round(Math.abs(awayMs) / 1000)} s ${awayMs > 0 ? 'ago' : 'ahead'}`;
  const reason = `the request was signed ${away}, by our clock; at most ${toleranceMs / 1000} s are allowed, so that it cannot be replayed`;
  return { ok: false, code: 'signature_expired', reason };
}

/**
 * Standard Webhooks gives secrets as `whsec_` + base64 of the key, and its libraries take them without the prefix, too; what is not
 * made by them may be the key itself.
 */
function webhookKeys(secret: string): Buffer[] {
  const prefix = 'whsec_';
  if (secret.startsWith(prefix)) return [Buffer.from(secret.slice(prefix.length), 'base64')];
  const isBase64 = /^[A-Za-z0-9+/]+={0,2}$/.test(secret) && secret.length % 4 === 0;
  return [Buffer.from(secret), ...(isBase64 ? [Buffer.from(secret, 'base64')] : [])];
}

function webhookHeader(headers: Headers, name: 'id' | 'timestamp' | 'signature'): string {
  return headerOf(headers, `webhook-${name}`) || headerOf(headers, `svix-${name}`);
}

function headerOf(headers: Headers, name: string): string {
  return headers[name]?.toString() ?? '';
}

function secretIn(authorization: string): string {
  const [, scheme = '', credentials = ''] = /^(Bearer|Basic|Token)\s+(.+)$/i.exec(authorization.trim()) ?? [];
  if (scheme === '') return authorization.trim();
  if (scheme.toLowerCase() !== 'basic') return credentials.trim();
  const text = Buffer.from(credentials, 'base64').toString();
  return text.slice(text.indexOf(':') + 1);
}

function isEqual(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && timingSafeEqual(left, right);
}
