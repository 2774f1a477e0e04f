import { hash } from 'node:crypto';
import { type CompactVerifyGetKey, compactVerify, errors } from 'jose';
import type { TokenVerdict } from '../core/evidence.ts';
import type { Use } from './credentials.ts';
import type { TokenKeys, VerificationKey } from './token-keys.ts';

export interface TokenIssuer {
  /** Claim `iss`. */
  readonly issuer: string;
  /** One of them must be in the claim `aud`; any will do when absent. */
  readonly audience?: readonly string[] | undefined;
  /** Must be in the header as `signer`: whose keys others share, too. */
  readonly signer?: string | undefined;
  readonly keys: TokenKeys;
}

/** Checks one token, its signature first. Never rejects, never waits for the network. */
export type CheckToken = (token: string, use: Use, nowMs: number) => TokenVerdict | Promise<TokenVerdict>;

/** Tokens whose check is remembered: one caller's token comes with each of its requests. Some 200 bytes each. */
const REMEMBERED_MAX = 20_000;

/** What does not change with time; times in seconds, as claims have them. */
type Finding =
  | { readonly verdict: Exclude<TokenVerdict, 'verified' | 'expired' | 'not_yet_valid'> }
  | { readonly verdict: 'verified'; readonly notBefore: number; readonly expires: number };

interface Claims {
  readonly iss?: unknown;
  readonly aud?: unknown;
  readonly exp?: unknown;
  readonly nbf?: unknown;
}

/** Undefined without issuers: nothing can be checked then. */
export function createTokenCheck(issuers: readonly TokenIssuer[], leewayMs: number): CheckToken | undefined {
  if (issuers.length === 0) return undefined;
  const remembered = new Map<string, Finding>();
  let generation = 0;
  return (token, use, nowMs) => {
    const current = issuers.reduce((sum, { keys }) => sum + keys.generation, 0);
    if (current !== generation || remembered.size >= REMEMBERED_MAX) remembered.clear();
    generation = current;
    // Not the token itself: it is a secret, and longer.
    const digest = hash('sha256', token, 'base64url');
    const known = remembered.get(digest);
    if (known !== undefined) return inTime(known, use, nowMs, leewayMs);
    return examine(token, issuers).then((finding) => {
      // Keys that are not there yet, or may come: to be asked for again.
      const isFinal = finding.verdict !== 'unchecked' && finding.verdict !== 'unknown_key';
      if (isFinal && generation === current) remembered.set(digest, finding);
      return inTime(finding, use, nowMs, leewayMs);
    });
  };
}

/** A token must be valid when it was used, as the spans say that hold it; they may come much later. */
function inTime(finding: Finding, use: Use, nowMs: number, leewayMs: number): TokenVerdict {
  if (finding.verdict !== 'verified') return finding.verdict;
  // A sender's clock that is ahead must not make a token last longer.
  const momentMs = (ns: bigint) => (ns === 0n ? nowMs : Math.min(Number(ns / 1_000_000n), nowMs));
  if (momentMs(use.latestNs) - leewayMs >= finding.expires * 1000) return 'expired';
  return momentMs(use.earliestNs) + leewayMs < finding.notBefore * 1000 ? 'not_yet_valid' : 'verified';
}

/** Several issuers may have one name, such as a load balancer that signs what the issuer said: the best answer counts. */
async function examine(token: string, issuers: readonly TokenIssuer[]): Promise<Finding> {
  const claims = claimsOf(token);
  const { kid, signer: signedBy } = headerOf(token);
  const meant = issuers.filter(
    ({ issuer, signer }) => issuer === claims?.iss && (signer === undefined || signer === signedBy),
  );
  let worst: Finding = { verdict: claims === undefined ? 'bad_signature' : 'wrong_issuer' };
  for (const issuer of meant) {
    const verdict = await checkSignature(token, kid, issuer.keys);
    if (verdict === 'verified') {
      const rest = checkClaims(claims ?? {}, issuer.audience);
      if (rest.verdict === 'verified') return rest;
      worst = rest;
    } else if (worst.verdict !== 'wrong_audience') worst = { verdict };
  }
  return worst;
}

function claimsOf(token: string): Claims | undefined {
  return objectIn(token.split('.')[1]);
}

function headerOf(token: string): { readonly kid?: string | undefined; readonly signer?: string | undefined } {
  const { kid, signer }: { kid?: unknown; signer?: unknown } = objectIn(token.split('.')[0]) ?? {};
  return { kid: typeof kid === 'string' ? kid : undefined, signer: typeof signer === 'string' ? signer : undefined };
}

function objectIn(base64 = ''): object | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(base64, 'base64url').toString('utf8'));
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

async function checkSignature(
  token: string,
  kid: string | undefined,
  keys: TokenKeys,
): Promise<'verified' | 'unchecked' | 'unknown_key' | 'bad_signature'> {
  const { key, algorithms } = keys;
  if (key === undefined) return 'unchecked';
  try {
    await verify(token, key, [...algorithms]);
    return 'verified';
  } catch (thrown) {
    if (!(thrown instanceof errors.JWKSNoMatchingKey)) return 'bad_signature';
    keys.missed(kid);
    return 'unknown_key';
  }
}

async function verify(token: string, key: VerificationKey, algorithms: string[]): Promise<void> {
  // The two shapes are two overloads.
  const check = (by: VerificationKey | CompactVerifyGetKey) =>
    typeof by === 'function' ? compactVerify(token, by, { algorithms }) : compactVerify(token, by, { algorithms });
  try {
    await check(key);
  } catch (thrown) {
    // A token that names no key may be signed by any of them.
    if (!(thrown instanceof errors.JWKSMultipleMatchingKeys)) throw thrown;
    for await (const one of thrown) {
      const isRight = await compactVerify(token, one, { algorithms }).then(
        () => true,
        () => false,
      );
      if (isRight) return;
    }
    throw new errors.JWSSignatureVerificationFailed();
  }
}

function checkClaims({ aud, exp, nbf }: Claims, audience: readonly string[] | undefined): Finding {
  const given: readonly unknown[] = Array.isArray(aud) ? aud : [aud];
  if (audience !== undefined && !audience.some((one) => given.includes(one))) return { verdict: 'wrong_audience' };
  return {
    verdict: 'verified',
    expires: typeof exp === 'number' ? exp : Number.POSITIVE_INFINITY,
    notBefore: typeof nbf === 'number' ? nbf : Number.NEGATIVE_INFINITY,
  };
}
