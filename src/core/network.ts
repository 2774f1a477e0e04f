import { BlockList, isIP } from 'node:net';
import { AppError } from './errors.ts';

const ZERO = 0x30;
const NINE = 0x39;
const DOT = 0x2e;

/** The 32 bits of an IPv4 address in dotted decimals, unsigned, without a look at `node:net`; -1 for all other text. */
export function ipv4Of(text: string): number {
  if (text.length < 7 || text.length > 15) return -1;
  let bits = 0;
  let part = -1;
  let parts = 0;
  for (let index = 0; index < text.length; index++) {
    const char = text.charCodeAt(index);
    if (char === DOT) {
      if (part < 0) return -1;
      bits = bits * 256 + part;
      part = -1;
      parts++;
    } else if (char < ZERO || char > NINE || part === 0) return -1;
    else {
      part = part < 0 ? char - ZERO : part * 10 + char - ZERO;
      if (part > 255) return -1;
    }
  }
  return parts === 3 && part >= 0 ? bits * 256 + part : -1;
}

/** Does the network of IPv6 hold addresses of IPv4 in their mapped form? */
function holdsMapped(address: string, prefix: number): boolean {
  const [mapped, network] = [new BlockList(), new BlockList()];
  mapped.addSubnet('::ffff:0:0', 96, 'ipv6');
  network.addSubnet(address, prefix, 'ipv6');
  return prefix > 96 ? mapped.check(address, 'ipv6') : network.check('::ffff:0:0', 'ipv6');
}

/** Tells whether an address lies in one of the networks (`10.0.0.0/8`, `fd00::/8`, single addresses). */
export function compileNetworks(setting: string, networks: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  const ipv4: { readonly from: number; readonly to: number }[] = [];
  let hasMapped = false;
  for (const network of networks) {
    const [address = '', bits] = network.split('/');
    const version = isIP(address);
    const prefix = bits === undefined ? (version === 6 ? 128 : 32) : Number(bits);
    if (version === 0 || !Number.isInteger(prefix) || prefix < 0 || prefix > (version === 6 ? 128 : 32)) {
      throw new AppError('config', `${setting}: "${network}" must be a network like 10.0.0.0/8 or an address`);
    }
    list.addSubnet(address, prefix, version === 6 ? 'ipv6' : 'ipv4');
    if (version === 6) hasMapped ||= holdsMapped(address, prefix);
    else {
      const size = 2 ** (32 - prefix);
      const from = Math.floor(ipv4Of(address) / size) * size;
      ipv4.push({ from, to: from + size });
    }
  }
  return (address) => {
    const bits = hasMapped ? -1 : ipv4Of(address);
    if (bits >= 0) return ipv4.some(({ from, to }) => bits >= from && bits < to);
    const version = isIP(address);
    return version !== 0 && list.check(address, version === 6 ? 'ipv6' : 'ipv4');
  };
}
