import { byKeys } from '../core/attribute-table.ts';
import type { Attributes, AttributeValue, FrameNote } from '../core/evidence.ts';
import type { ActorType } from '../core/record.ts';
import type { Identity } from './access.ts';
import { compact, listOf, NAMES, remember, section, textOf } from './attributes.ts';
import { CERTIFICATE_CHARS_MAX, identityOfCertificate } from './certificate.ts';
import {
  type ClaimNames,
  type Credentials,
  claimsOfHeader,
  identityOfClaims,
  readCredentials,
  TOKEN_CHARS_MAX,
} from './credentials.ts';
import { someone } from './nobody.ts';

/**
 * Which part of an identity a captured request header tells:
 * - `token` a JSON Web Token, bare or behind its scheme, or Basic credentials
 * - `claims` the claims of a token that a gateway has checked, as JSON, in base64 or not
 * - `certificate` a client certificate that a proxy has checked
 * - `effective` on whose behalf the caller acts
 */
export interface IdentityHeader {
  readonly header: string;
  readonly field: 'id' | 'name' | 'email' | 'roles' | 'token' | 'claims' | 'certificate' | 'effective';
}

/** Headers of HTTP, and the metadata of gRPC in the names of the older conventions and of the stable ones. */
const HEADER_PREFIXES = ['http.request.header.', 'rpc.grpc.request.metadata.', 'rpc.request.metadata.'] as const;
const ACTOR_TYPES: ReadonlySet<string> = new Set<ActorType>(['user', 'service', 'script', 'agent', 'anonymous']);
/** Accounts of programs in Kubernetes. */
const SERVICE_ACCOUNT = /^system:(?:serviceaccount|node):/;

const NAMING: ReadonlySet<string> = new Set([NAMES.userId, NAMES.userName, NAMES.userPseudoId, NAMES.userEmail].flat());

const mayName = byKeys((keys) => keys.some((key) => NAMING.has(key)));

const DESCRIBING: ReadonlySet<string> = new Set([
  ...[NAMES.userRoles, NAMES.userGroup, NAMES.userDomain, NAMES.effectiveId, NAMES.effectiveName].flat(),
  ...['audit.actor.type', 'audit.actor.relation'],
]);

/** More than who it is. */
const mayDescribe = byKeys((keys) => keys.some((key) => DESCRIBING.has(key)));

/** The identity that attributes state in the record's own names or those of the conventions. */
export function identityOfAttributes(attributes: Attributes): Identity | undefined {
  if (!mayName(attributes)) return undefined;
  const name = someone(textOf(attributes, NAMES.userName));
  const email = someone(textOf(attributes, NAMES.userEmail));
  const id =
    someone(textOf(attributes, NAMES.userId)) ?? name ?? someone(textOf(attributes, NAMES.userPseudoId)) ?? email;
  if (id === undefined) return undefined;
  if (!mayDescribe(attributes)) return bareIdentity(id, name, email);
  const type = textOf(attributes, ['audit.actor.type']);
  return compact({
    id,
    name,
    email,
    roles: listOf(attributes, NAMES.userRoles),
    group: textOf(attributes, NAMES.userGroup),
    domain: textOf(attributes, NAMES.userDomain),
    type: type !== undefined && ACTOR_TYPES.has(type) ? (type as ActorType) : typeOfId(id),
    relation: textOf(attributes, ['audit.actor.relation']),
    effective: section({
      id: textOf(attributes, NAMES.effectiveId),
      name: textOf(attributes, NAMES.effectiveName),
    }),
  });
}

function bareIdentity(id: string, name: string | undefined, email: string | undefined): Identity {
  const identity: { -readonly [Key in keyof Identity]: Identity[Key] } = { id };
  if (name !== undefined) identity.name = name;
  if (email !== undefined) identity.email = email;
  const type = typeOfId(id);
  if (type !== undefined) identity.type = type;
  return identity;
}

function typeOfId(id: string): ActorType | undefined {
  return SERVICE_ACCOUNT.test(id) ? 'service' : undefined;
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

const headersAmong = byKeys((keys) => keys.filter((key) => HEADER_PREFIXES.some((prefix) => key.startsWith(prefix))));

/** The captured headers by name with dashes; undefined when there are none. */
function headersIn(attributes: Attributes): Attributes | undefined {
  let headers: Map<string, AttributeValue> | undefined;
  for (const key of headersAmong(attributes)) {
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

/** The headers that tell who calls, and how their values are read. */
export interface HeaderRules {
  readonly sources: readonly HeaderSource[];
  readonly claims: ClaimNames;
}

/** Whom captured headers name. */
export interface HeaderIdentity {
  /** Absent when only `claimed` or `onBehalfOf` is known. */
  readonly identity?: Identity;
  /** Whether a gateway set the headers or the caller's own credentials say so. */
  readonly by: 'gateway' | 'credentials';
  /** The credentials are a token that was checked against the keys of its issuer. */
  readonly isVerified: boolean;
  /** Whom a token names that did not stand the check: somebody claims to be that one. */
  readonly claimed?: Identity;
  /** Whom the caller impersonates. */
  readonly onBehalfOf?: string;
}

/**
 * Whom captured request headers name: what a gateway set, the first of these that is there; else a person's certificate; else
 * credentials, those first that were checked; else a workload's certificate, which in a mesh comes with every request. They
 * are not mixed, because a gateway's user and a service's token may stand side by side. Without the note of the request all
 * tokens count as unchecked.
 */
export function identityOfHeaders(
  attributes: Attributes,
  { sources, claims }: HeaderRules,
  note?: FrameNote,
): HeaderIdentity | undefined {
  const headers = headersIn(attributes);
  if (headers === undefined) return undefined;
  const onBehalfOf = someone(firstText(headers, sources, 'effective'));
  const complete = (found: Omit<HeaderIdentity, 'onBehalfOf'>): HeaderIdentity =>
    onBehalfOf === undefined ? found : { ...found, onBehalfOf };
  const set = identityOfGateway(headers, sources) ?? identityOfGatewayClaims(headers, sources, claims);
  if (set !== undefined) return complete({ identity: set, by: 'gateway', isVerified: false });
  const certificate = firstOf(headers, sources, 'certificate', identityOfCertificate, CERTIFICATE_CHARS_MAX);
  if (certificate !== undefined && certificate.type !== 'service') {
    return complete({ identity: certificate, by: 'gateway', isVerified: false });
  }
  const { believed, refused } = credentialsIn(headers, sources, claims, note);
  const claimed = refused?.identity;
  if (believed !== undefined) {
    const isVerified = believed.verdict === 'verified';
    return complete(compact({ identity: believed.identity, by: 'credentials' as const, isVerified, claimed }));
  }
  if (certificate === undefined && claimed === undefined && onBehalfOf === undefined) return undefined;
  return complete(compact({ identity: certificate, by: 'gateway' as const, isVerified: false, claimed }));
}

function firstOf(
  headers: Attributes,
  sources: readonly HeaderSource[],
  wanted: IdentityHeader['field'],
  read: (text: string) => Identity | undefined,
  charsMax: number,
): Identity | undefined {
  for (const { field, names } of sources) {
    if (field !== wanted) continue;
    const text = textOf(headers, names, charsMax);
    const identity = text === undefined ? undefined : read(text);
    if (identity !== undefined) return identity;
  }
  return undefined;
}

function firstText(
  headers: Attributes,
  sources: readonly HeaderSource[],
  wanted: IdentityHeader['field'],
): string | undefined {
  for (const { field, names } of sources) {
    const text = field === wanted ? textOf(headers, names) : undefined;
    if (text !== undefined) return text;
  }
  return undefined;
}

function identityOfGateway(headers: Attributes, sources: readonly HeaderSource[]): Identity | undefined {
  const said = new Map<IdentityHeader['field'], string>();
  let roles: readonly string[] | undefined;
  for (const { field, names } of sources) {
    if (field === 'roles') roles ??= listOf(headers, names);
    else if ((field === 'id' || field === 'name' || field === 'email') && !said.has(field)) {
      // Google's proxy writes `accounts.google.com:alice@example.com`.
      const text = someone(onlyText(headers, names, field === 'name'))?.replace(/^accounts\.google\.com:/, '');
      if (text !== undefined) said.set(field, text);
    }
  }
  const name = said.get('name');
  const email = said.get('email');
  const id = said.get('id') ?? name ?? email;
  return id === undefined ? undefined : compact({ id, name, email, roles, type: typeOfId(id) });
}

/** Two plain values or more in one text: how servers join a header that came several times (RFC 9110, 5.3). */
const JOINED = /^[^\s,="]+(?:\s*,\s*[^\s,="]+)+$/;

/** A header that came twice with different values may be the caller's own beside the gateway's: nobody can tell which. */
function onlyText(headers: Attributes, names: readonly [string], isName: boolean): string | undefined {
  const value = headers.get(names[0]);
  if (Array.isArray(value) && new Set(value).size > 1) return undefined;
  const text = textOf(headers, names);
  // A person's name may be written "Doe, Jane".
  if (text === undefined || isName || !JOINED.test(text)) return text;
  const [first, ...others] = text.split(',').map((part) => part.trim());
  return others.every((other) => other === first) ? first : undefined;
}

function identityOfGatewayClaims(
  headers: Attributes,
  sources: readonly HeaderSource[],
  names: ClaimNames,
): Identity | undefined {
  const read = (text: string): Identity | undefined => {
    const claims = claimsOfHeader(text);
    return claims && identityOfClaims(claims, names);
  };
  return firstOf(headers, sources, 'claims', read, TOKEN_CHARS_MAX);
}

/** The credentials that count: those that were checked, else those that nobody checked. Those that were refused are a claim. */
function credentialsIn(
  headers: Attributes,
  sources: readonly HeaderSource[],
  names: ClaimNames,
  note: FrameNote | undefined,
): { believed?: Credentials; refused?: Credentials } {
  let unchecked: Credentials | undefined;
  let refused: Credentials | undefined;
  for (const { field, names: header } of sources) {
    if (field !== 'token') continue;
    const text = textOf(headers, header, TOKEN_CHARS_MAX);
    const found = text === undefined ? undefined : readCredentials(text, names, note);
    if (found === undefined) continue;
    if (found.verdict === 'verified') return { believed: found };
    if (found.verdict === 'unchecked') unchecked ??= found;
    else refused ??= found;
  }
  return compact({ believed: unchecked, refused });
}
