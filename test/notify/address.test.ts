import { describe, expect, it } from 'vitest';
import { AddressRefused, allowedAddresses, isPublic, type Resolve } from '../../src/notify/address.ts';

const PRIVATE = [
  ...['0.0.0.0', '10.1.2.3', '100.64.0.1', '100.100.100.200', '127.0.0.1', '127.255.1.1', '169.254.169.254'],
  ...['172.16.0.1', '172.31.255.255', '192.168.1.1', '198.18.0.1', '168.63.129.16', '224.0.0.1', '255.255.255.255'],
  ...['::', '::1', '::ffff:127.0.0.1', '::ffff:7f00:1', '::ffff:a9fe:a9fe', '64:ff9b::7f00:1', '64:ff9b:1::1'],
  ...[
    'fe80::1',
    'fc00::1',
    'fd00:ec2::254',
    'ff02::1',
    '2001::1',
    '2002:7f00:1::',
    '2001:db8::1',
    '::7f00:1',
    'nonsense',
  ],
];
const PUBLIC = [
  '93.184.216.34',
  '172.32.0.1',
  '100.128.0.1',
  '8.8.8.8',
  '::ffff:8.8.8.8',
  '2606:4700::1111',
  '2a00:1450::1',
];

describe('addresses', () => {
  it.each(PRIVATE)('%s is not of the public network', (address) => expect(isPublic(address)).toBe(false));
  it.each(PUBLIC)('%s is', (address) => expect(isPublic(address)).toBe(true));

  const answers =
    (...addresses: string[]): Resolve =>
    async () =>
      addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));

  it('keeps of a name only what may be connected to', async () => {
    const resolve = answers('127.0.0.1', '93.184.216.34', 'fd00::1');
    expect(await allowedAddresses('mixed.example', false, resolve)).toEqual([{ address: '93.184.216.34', family: 4 }]);
    expect(await allowedAddresses('mixed.example', true, resolve)).toHaveLength(3);
  });

  it.each(['127.0.0.1', '[::1]', '[::ffff:7f00:1]', 'internal.example'])(
    'refuses %s, and says what would allow it',
    async (host) => {
      const refused = allowedAddresses(host, false, answers('10.0.0.7'));
      await expect(refused).rejects.toThrow(AddressRefused);
      await expect(refused).rejects.toThrow(
        /not of the public network; the channel may go there with allowPrivate: true/,
      );
      expect(await allowedAddresses(host, true, answers('10.0.0.7'))).toHaveLength(1);
    },
  );

  it('asks no name server about an address', async () => {
    const none: Resolve = async () => {
      throw new Error('asked');
    };
    expect(await allowedAddresses('[2606:4700::1111]', false, none)).toEqual([
      { address: '2606:4700::1111', family: 6 },
    ]);
  });
});
