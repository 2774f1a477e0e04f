import { BlockList, isIP } from 'node:net';
import { AppError } from './errors.ts';

/** Tells whether an address lies in one of the networks (`10.0.0.0/8`, `fd00::/8`, single addresses). */
export function compileNetworks(setting: string, networks: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', bits] = network.split('/');
    const version = isIP(address);
    const prefix = bits === undefined ? (version === 6 ? 128 : 32) : Number(bits);
    if (version === 0 || !Number.isInteger(prefix) || prefix < 0 || prefix > (version === 6 ? 128 : 32)) {
      throw new AppError('config', `${setting}: "${network}" must be a network like 10.0.0.0/8 or an address`);
    }
    list.addSubnet(address, prefix, version === 6 ? 'ipv6' : 'ipv4');
  }
  return (address) => {
    const version = isIP(address);
    return version !== 0 && list.check(address, version === 6 ? 'ipv6' : 'ipv4');
  };
}
