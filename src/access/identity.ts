import type { Attributes, AttributeValue } from '../core/evidence.ts';
import type { ActorType } from '../core/record.ts';
import type { Identity } from './access.ts';
import { asList, compact, listOf, NAMES, remember, section, textOf } from './attributes.ts';

/** Which part of an identity a captured request header tells; `token` is a bearer JWT, a bare JWT or Basic credentials. */
export interface IdentityHeader {
  readonly header: string;
  readonly field: 'id' | 'name' | 'email' | 'roles' | 'token';
}

/** Headers of HTTP, and the metadata of gRPC in the names of the older conventions and of the stable ones. */
const HEADER_PREFIXES = ['http.request.header.', 'rpc.grpc.request.metadata.', 'rpc.request.metadata.'] as const;
const [HTTP, GRPC, RPC] = HEADER_PREFIXES;
/** Longest token that is opened: real ones stay below what servers take as a header. */
const TOKEN_CHARS_MAX = 16_384;
/** What libraries write when nobody is logged in, and what masking leaves. */
const NOBODY = /^(?:-|null|\(null\)|undefined|none|anonymous|anonymoususer|anonymous user|unknown|\*+)$/i;
const ACTOR_TYPES: ReadonlySet<string> = new Set<ActorType>(['user', 'service', 'script', 'agent', 'anonymous']);

function someone(text: string | undefined): string | undefined {
  return text === undefined || NOBODY.test(text) ? undefined : text;
}

/** The identity that attributes state in the record's own names or those of the conventions. */
export function identityOfAttributes(attributes: Attributes): Identity | undefined {
  const name = someone(textOf(attributes, NAMES.userName));
  const email = someone(textOf(attributes, NAMES.userEmail));
  const id =
    someone(textOf(attributes, NAMES.userId)) ?? name ?? someone(textOf(attributes, NAMES.userPseudoId)) ?? email;
  if (id === undefined) return undefined;
  const type = textOf(attributes, ['audit.actor.type']);
  return compact({
    id,
    name,
    email,
    roles: listOf(attributes, NAMES.userRoles),
    group: textOf(attributes, NAMES.userGroup),
    domain: textOf(attributes, NAMES.userDomain),
    type: type !== undefined && ACTOR_TYPES.has(type) ? (type as ActorType) : undefined,
    relation: textOf(attributes, ['audit.actor.relation']),
    effective: section({
      id: textOf(attributes, NAMES.effectiveId),
      name: textOf(attributes, NAMES.effectiveName),
    }),
  });
}

/** An identity header with its name as `headersIn` has it, and the attribute keys under which it may come. */
export interface HeaderSource {
  readonly field: IdentityHeader['field'];
  readonly names: readonly [string];
  readonly keys: readonly string[];
}

export function headerSource({ header, field }: IdentityHeader): HeaderSource {
  const name = header.toLowerCase();
  const spellings = [...new Set([name, name.replaceAll('-', '_')])];
  const keys = HEADER_PREFIXES.flatMap((prefix) => spellings.map((spelling) => prefix + spelling));
  return { field, names: [name.replaceAll('_', '-')], keys };
}

/** The captured headers by name with dashes; undefined when there are none. */
function headersIn(attributes: Attributes): Attributes | undefined {
  let headers: Map<string, AttributeValue> | undefined;
  for (const key of attributes.keys()) {
    if (!key.startsWith(HTTP) && !(key.startsWith('rpc.') && (key.startsWith(GRPC) || key.startsWith(RPC)))) continue;
    headers ??= new Map();
    const name = headerName(key);
    const value = attributes.get(key);
    if (value !== undefined && !headers.has(name)) headers.set(name, value);
  }
  return headers;
}

const headerName = remember((key) => {
  const prefix = HEADER_PREFIXES.find((each) => key.startsWith(each)) ?? '';
  return key.slice(prefix.length).replaceAll('_', '-');
});

/** Whom captured headers name, and whether a gateway set them or the caller's own credentials say so. */
export interface HeaderIdentity {
  readonly identity: Identity;
  readonly by: 'gateway' | 'credentials';
}

/**
 * The identity in captured request headers: what a gateway set, else what a token claims. The two are not mixed, because a
 * gateway's user and a service's token may stand side by side.
 */
export function identityOfHeaders(
  attributes: Attributes,
  sources: readonly HeaderSource[],
): HeaderIdentity | undefined {
  const headers = headersIn(attributes);
  if (headers === undefined) return undefined;
  const said = new Map<IdentityHeader['field'], string>();
  let roles: readonly string[] | undefined;
  for (const { field, names } of sources) {
    if (field === 'token' || said.has(field)) continue;
    if (field === 'roles') roles ??= listOf(headers, names);
    // Google's proxy writes `accounts.google.com:alice@example.com`.
    const text = someone(textOf(headers, names))?.replace(/^accounts\.google\.com:/, '');
    if (text !== undefined) said.set(field, text);
  }
  const name = said.get('name');
  const email = said.get('email');
  const id = said.get('id') ?? name ?? email;
  if (id !== undefined) return { identity: compact({ id, name, email, roles }), by: 'gateway' };
  for (const { field, names } of sources) {
    if (field !== 'token') continue;
    const token = textOf(headers, names, TOKEN_CHARS_MAX);
    const identity = token === undefined ? undefined : identityOfToken(token);
    if (identity !== undefined) return { identity, by: 'credentials' };
  }
  return undefined;
}

/** What credentials claim. They are read, not checked: the signature is masked before evidence is stored. */
function identityOfToken(value: string): Identity | undefined {
  const [, scheme = '', credentials = value] = /^(Bearer|Basic|Token|JWT)\s+(.+)$/is.exec(value) ?? [];
  if (scheme.toLowerCase() === 'basic') {
    const [user = '', password] = Buffer.from(credentials, 'base64').toString('utf8').split(':', 2);
    const id = password === undefined || /[\p{Cc}\uFFFD]/u.test(user) ? undefined : someone(user.trim());
    return id === undefined || id === '' ? undefined : { id, name: id };
  }
  const claims = claimsOf(credentials.trim());
  return claims === undefined ? undefined : identityOfClaims(claims);
}

function claimsOf(token: string): Attributes | undefined {
  const [header, payload, signature] = token.split('.');
  if (!header || !payload || signature === undefined) return undefined;
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
    if (typeof claims !== 'object' || claims === null || Array.isArray(claims)) return undefined;
    return new Map(Object.entries(claims));
  } catch {
    return undefined;
  }
}

/** Claims of RFC 7519, RFC 8693 (`act`) and OpenID Connect, with the names that the large providers use. */
function identityOfClaims(claims: Attributes): Identity | undefined {
  const subject = textOf(claims, ['sub']);
  const name = textOf(claims, ['preferred_username', 'username', 'cognito:username', 'upn', 'unique_name', 'name']);
  const email = textOf(claims, ['email']);
  const client = textOf(claims, ['client_id', 'azp', 'appid']);
  const id = someone(subject ?? name ?? email ?? client);
  if (id === undefined) return undefined;
  const acting = claims.get('act');
  const actor =
    typeof acting === 'object' && 'sub' in acting ? textOf(new Map(Object.entries(acting)), ['sub']) : undefined;
  // Whoever acts is the actor; the subject is the one it acts for.
  if (actor !== undefined) return { id: actor, effective: compact({ id, name }) };
  const realm = claims.get('realm_access');
  const realmRoles = typeof realm === 'object' && 'roles' in realm ? asList(realm['roles']) : [];
  const roles =
    listOf(claims, ['roles', 'role']) ??
    (realmRoles.length > 0 ? realmRoles : listOf(claims, ['groups', 'cognito:groups']));
  // Client credentials: the token was issued to a program for itself.
  const isClient = textOf(claims, ['gty']) === 'client-credentials' || subject === undefined || subject === client;
  return compact({ id, name, email, roles, type: isClient && name === undefined ? ('service' as const) : undefined });
}
