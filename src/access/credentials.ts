import type { Attributes, AttributeValue, FrameNote, TokenVerdict } from '../core/evidence.ts';
import { tokenKey } from '../core/token-key.ts';
import type { Identity } from './access.ts';
import { asList, asText, compact } from './attributes.ts';
import { someone } from './nobody.ts';

/** Longest token that is opened: real ones stay below what servers take as a header. */
export const TOKEN_CHARS_MAX = 16_384;
/** Deepest claim that a name with dots can ask for. */
const CLAIM_DEPTH_MAX = 4;

/**
 * Names of the claims that say who a token is about, the first that is there counts. A dot leads into an object, unless a claim
 * has the whole name.
 */
export interface ClaimNames {
  readonly id: readonly string[];
  readonly name: readonly string[];
  readonly email: readonly string[];
  readonly roles: readonly string[];
  /** Taken for roles where there are none. */
  readonly groups: readonly string[];
  /** Who acts with the token, where that is not its subject (`act` of RFC 8693). */
  readonly actor: readonly string[];
  /** The program that the token was issued to. */
  readonly client: readonly string[];
}

/** Claims of RFC 7519, RFC 8693 and OpenID Connect, with the names that the large providers use. */
export const DEFAULT_CLAIM_NAMES: ClaimNames = {
  id: ['sub', 'nameidentifier', 'userId'],
  name: ['preferred_username', 'username', 'cognito:username', 'upn', 'unique_name', 'name', 'userDetails'],
  email: ['email', 'emailaddress'],
  roles: ['roles', 'role', 'realm_access.roles', 'userRoles'],
  groups: ['groups', 'cognito:groups'],
  actor: ['act.sub'],
  client: ['client_id', 'azp', 'appid'],
};

/** What credentials claim, and for a token what became of checking it; `unchecked` for everything else. */
export interface Credentials {
  readonly identity: Identity;
  readonly verdict: TokenVerdict;
}

/**
 * Whom the value of a header names that holds a JSON Web Token, bare or behind its scheme, or Basic credentials. The proof in
 * them was masked before the evidence was stored; what became of checking it stands in the note of the request.
 */
export function readCredentials(
  value: string,
  names: ClaimNames,
  note: FrameNote | undefined,
): Credentials | undefined {
  const [, scheme = '', credentials = value] = /^(Bearer|Basic|Token|JWT|DPoP)\s+(.+)$/is.exec(value) ?? [];
  if (scheme.toLowerCase() === 'basic') {
    const identity = identityOfBasic(credentials);
    return identity && { identity, verdict: 'unchecked' };
  }
  const token = credentials.trim();
  const claims = claimsOfToken(token);
  const identity = claims && identityOfClaims(claims, names);
  if (identity === undefined) return undefined;
  if (note?.tokens === undefined) return { identity, verdict: 'unchecked' };
  // Where tokens are checked, one that was not, however it was written, is no better than a forged one.
  return { identity, verdict: note.tokens[tokenKey(token) ?? ''] ?? 'bad_signature' };
}

function identityOfBasic(credentials: string): Identity | undefined {
  const [user = '', password] = Buffer.from(credentials, 'base64').toString('utf8').split(':', 2);
  const id = password === undefined || /[\p{Cc}\uFFFD]/u.test(user) ? undefined : someone(user.trim());
  return id === undefined || id === '' ? undefined : { id, name: id };
}

function claimsOfToken(token: string): Attributes | undefined {
  const [header, payload, signature] = token.split('.');
  return header && payload && signature !== undefined ? claimsIn(payload) : undefined;
}

/** The claims that a gateway has taken out of a checked token: a JSON object, in base64 or not. */
export function claimsOfHeader(value: string): Attributes | undefined {
  return value.startsWith('{') ? claimsOfJson(value) : claimsIn(value);
}

function claimsIn(base64: string): Attributes | undefined {
  return claimsOfJson(Buffer.from(base64, 'base64url').toString('utf8'));
}

function claimsOfJson(text: string): Attributes | undefined {
  try {
    const claims: unknown = JSON.parse(text);
    if (!isObject(claims)) return undefined;
    const given = new Map(Object.entries(claims));
    return Array.isArray(claims['claims']) ? withTyped(given, claims['claims']) : given;
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is { [key: string]: AttributeValue } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Azure lists claims as `{"typ": "http://…/claims/name", "val": "…"}`: by their types and by the last parts of these. */
function withTyped(given: Map<string, AttributeValue>, list: readonly AttributeValue[]): Attributes {
  for (const entry of list) {
    if (!isObject(entry)) continue;
    const [type, value] = [asText(entry['typ']), asText(entry['val'])];
    if (type === undefined || value === undefined) continue;
    for (const name of new Set([type, type.slice(type.lastIndexOf('/') + 1)])) {
      const known = given.get(name);
      if (known === undefined) given.set(name, value);
      else given.set(name, [...(Array.isArray(known) ? known : [known]), value]);
    }
  }
  return given;
}

function claimAt(claims: Attributes, name: string): AttributeValue | undefined {
  const whole = claims.get(name);
  if (whole !== undefined || !name.includes('.')) return whole;
  const [first = '', ...rest] = name.split('.', CLAIM_DEPTH_MAX);
  let value = claims.get(first);
  for (const key of rest) value = isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined;
  return value;
}

function claimText(claims: Attributes, names: readonly string[]): string | undefined {
  for (const name of names) {
    const text = asText(claimAt(claims, name));
    if (text !== undefined) return text;
  }
  return undefined;
}

function claimList(claims: Attributes, names: readonly string[]): readonly string[] | undefined {
  for (const name of names) {
    const items = asList(claimAt(claims, name));
    if (items.length > 0) return items;
  }
  return undefined;
}

export function identityOfClaims(claims: Attributes, names: ClaimNames): Identity | undefined {
  const subject = claimText(claims, names.id);
  const name = claimText(claims, names.name);
  const email = claimText(claims, names.email);
  const client = claimText(claims, names.client);
  const id = someone(subject ?? name ?? email ?? client);
  if (id === undefined) return undefined;
  const actor = claimText(claims, names.actor);
  // Whoever acts is the actor; the subject is the one it acts for.
  if (actor !== undefined) return { id: actor, effective: compact({ id, name }) };
  const roles = claimList(claims, names.roles) ?? claimList(claims, names.groups);
  // Client credentials: the token was issued to a program for itself.
  const isClient = claimText(claims, ['gty']) === 'client-credentials' || subject === undefined || subject === client;
  return compact({ id, name, email, roles, type: isClient && name === undefined ? ('service' as const) : undefined });
}
