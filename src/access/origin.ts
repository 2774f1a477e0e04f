import type { Attributes, AttributeValue } from '../core/evidence.ts';
import { compileNetworks } from '../core/network.ts';
import type { AccessSections } from './access.ts';
import { countOf, ipOf, NAMES, textOf } from './attributes.ts';

/** Captured request headers, in the names of HTTP and of gRPC's metadata. */
const HEADER_PREFIXES = ['http.request.header.', 'rpc.grpc.request.metadata.', 'rpc.request.metadata.'];

/** The address at the other end of the connection, in the names of newer and older instrumentations. */
const PEER_ADDRESS = ['network.peer.address', 'net.sock.peer.addr', 'net.peer.ip'];
const PEER_PORT = ['network.peer.port', 'net.sock.peer.port', 'net.peer.port'];
/** What the instrumentation says of the client: many read a forwarded header for it, whoever wrote that. */
const CLIENT_ADDRESS = ['client.address', 'http.client_ip'];

/** Hops of one request that are looked at, from the server outwards; real chains have a handful. */
const HOPS_MAX = 32;

export interface OriginSettings {
  /** Networks of the proxies whose forwarded headers are believed. */
  readonly trustedProxies: readonly string[];
  /** Request headers that name the client, in order of precedence. */
  readonly headers: readonly string[];
}

export interface OriginRules {
  readonly isProxy: (address: string) => boolean;
  /** The attributes in which each header may have been captured. */
  readonly headers: readonly { readonly isForwarded: boolean; readonly keys: readonly string[] }[];
  readonly keys: readonly string[];
}

/** Throws AppError('config') that names the network. */
export function compileOrigin({ trustedProxies, headers }: OriginSettings): OriginRules {
  const compiled = headers.map((header) => {
    const name = header.trim().toLowerCase();
    const spellings = [...new Set([name, name.replaceAll('-', '_')])];
    const keys = HEADER_PREFIXES.flatMap((prefix) => spellings.map((spelling) => prefix + spelling));
    return { isForwarded: name === 'forwarded', keys };
  });
  return {
    isProxy: compileNetworks('origin.trustedProxies', trustedProxies),
    headers: compiled,
    keys: [...PEER_ADDRESS, ...PEER_PORT, ...CLIENT_ADDRESS, ...compiled.flatMap(({ keys }) => keys)],
  };
}

/**
 * Where a request came from. Whoever is at the other end of the connection is the client, unless it is a trusted proxy: then
 * the captured header is read from its end, since each proxy adds whom it saw, up to the first address that is no trusted
 * proxy. What stands before that could be written by anybody. Without rules, what the instrumentation says is believed.
 */
export function clientOf(attributes: Attributes, origin: OriginRules | undefined): AccessSections['source'] {
  if (origin === undefined)
    return withPort(ipOf(textOf(attributes, NAMES.clientAddress)), attributes, NAMES.clientPort);
  const peer = ipOf(textOf(attributes, PEER_ADDRESS));
  const stated = ipOf(textOf(attributes, CLIENT_ADDRESS));
  const nearest = peer ?? stated;
  if (nearest === undefined) return undefined;
  if (!origin.isProxy(nearest)) return withPort(nearest, attributes, peer === undefined ? NAMES.clientPort : PEER_PORT);
  const forwarded = walk(nearest, hopsOf(attributes, origin), origin);
  if (forwarded !== undefined) return { ip: forwarded };
  return stated === undefined || stated === peer
    ? withPort(nearest, attributes, NAMES.clientPort)
    : withPort(stated, attributes, ['client.port']);
}

function withPort(ip: string | undefined, attributes: Attributes, names: readonly string[]): AccessSections['source'] {
  if (ip === undefined) return undefined;
  const port = countOf(attributes, names);
  return port === undefined ? { ip } : { ip, port };
}

/** From the nearest hop outwards; undefined when no header was captured. What is no address ends the walk. */
function walk(nearest: string, hops: readonly string[], { isProxy }: OriginRules): string | undefined {
  let address: string | undefined;
  for (let index = hops.length - 1; index >= 0 && isProxy(address ?? nearest); index--) {
    const next = ipOf(hops[index]);
    if (next === undefined) return address ?? nearest;
    address = next;
  }
  return address;
}

/**
 * The client in a list of addresses as servers tell it, the one that connected last (Kubernetes' `sourceIPs`): read from the end as
 * forwarded headers are.
 */
export function clientInList(value: AttributeValue | undefined, origin: OriginRules | undefined): string | undefined {
  if (!Array.isArray(value)) return undefined;
  const addresses = value.slice(-HOPS_MAX).map((item) => (typeof item === 'string' ? ipOf(item) : undefined));
  const nearest = addresses.at(-1);
  if (nearest === undefined || origin === undefined) return nearest;
  return (
    walk(
      nearest,
      addresses.slice(0, -1).map((address) => address ?? ''),
      origin,
    ) ?? nearest
  );
}

/** The hops that the first header that was captured names, the client first. */
function hopsOf(attributes: Attributes, { headers }: OriginRules): readonly string[] {
  for (const { keys, isForwarded } of headers) {
    for (const key of keys) {
      const text = joinedText(attributes.get(key));
      if (text === '') continue;
      const hops = splitList(text).slice(-HOPS_MAX);
      return isForwarded ? hops.map(forwardedFor) : hops;
    }
  }
  return [];
}

/** Header lines of the same name are one list. */
function joinedText(value: AttributeValue | undefined): string {
  const parts = Array.isArray(value) ? value : [value];
  return parts
    .filter((part) => typeof part === 'string')
    .join(',')
    .trim();
}

function splitList(text: string): string[] {
  return text.split(',').map((hop) => hop.trim());
}

/** The `for` of an element of RFC 7239, without its quotes: `for="[2001:db8::1]:4711";proto=https`. */
function forwardedFor(element: string): string {
  for (const pair of element.split(';')) {
    const [, value] = /^\s*for\s*=\s*"?([^"]*)"?\s*$/i.exec(pair) ?? [];
    if (value !== undefined) return value;
  }
  return '';
}
