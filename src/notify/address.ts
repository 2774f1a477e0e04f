import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { compileNetworks } from '../core/network.ts';

/**
 * Addresses that are not of the public network: a channel's name must not lead into the machine's own network, least of all to a
 * cloud's metadata service (169.254.169.254, fd00:ec2::254, 100.100.100.200, 168.63.129.16), unless it is allowed to. From the
 * special-purpose registries of IANA; of the ways in which IPv6 carries IPv4, mapped addresses are checked as what they carry
 * and the others are not public.
 */
const isReserved = compileNetworks('reserved', [
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'],
  ...['192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24'],
  ...['224.0.0.0/4', '240.0.0.0/4', '168.63.129.16/32'],
]);
/** All that is public in IPv6 lies in 2000::/3; what is not for everybody within it: */
const isGlobal = compileNetworks('global', ['2000::/3']);
const isReservedGlobal = compileNetworks('reserved', ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20']);
const isMapped = compileNetworks('mapped', ['::ffff:0:0/96']);

/** An address of the public network. */
export function isPublic(address: string): boolean {
  if (isIP(address) === 4) return !isReserved(address);
  if (isIP(address) !== 6) return false;
  // A list of IPv4 networks knows mapped addresses, too.
  if (isMapped(address)) return !isReserved(address);
  return isGlobal(address) && !isReservedGlobal(address);
}

/** Resolves a name to all its addresses, in the order in which they are to be tried. Rejects as node:dns does. */
export type Resolve = (host: string) => Promise<readonly { readonly address: string; readonly family: number }[]>;

export const systemResolve: Resolve = (host) => lookup(host, { all: true });

/** Nothing that another try soon would mend: the receiver's name leads where the channel may not go. */
export class AddressRefused extends Error {}

/**
 * The addresses of a host that may be connected to. Whoever connects must take one of these and not ask for the name again:
 * it may have another answer then.
 */
export async function allowedAddresses(host: string, allowPrivate: boolean, resolve: Resolve) {
  const name = host.replace(/^\[(.*)\]$/, '$1');
  const family = isIP(name);
  const found = family === 0 ? await resolve(name) : [{ address: name, family }];
  const allowed = allowPrivate ? found : found.filter(({ address }) => isPublic(address));
  if (allowed.length > 0) return allowed;
  const where = found.map(({ address }) => address).join(', ');
  const reason = where === name ? `${name} is` : `${name} is at ${where || 'no address'},`;
  throw new AddressRefused(`${reason} not of the public network; the channel may go there with allowPrivate: true`);
}
