import { BlockList, isIPv4 } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileNetworks, ipv4Of } from '../../src/core/network.ts';

const part = fc.oneof(
  fc.integer({ min: 0, max: 300 }).map(String),
  fc.constantFrom('', '0', '00', '01', '255', '256', ' 1', '1a', '-1', '+1', '1e1'),
);
const text = fc.oneof(
  fc.array(part, { minLength: 3, maxLength: 5 }).map((parts) => parts.join('.')),
  fc.ipV4(),
  fc.ipV6(),
  fc.string(),
);

describe('an address of IPv4', () => {
  it('is what the platform takes for one', () => {
    fc.assert(
      fc.property(text, (given) => {
        expect(ipv4Of(given) >= 0).toBe(isIPv4(given));
      }),
      { numRuns: 2000 },
    );
  });

  it('is its bits', () => {
    expect(ipv4Of('0.0.0.0')).toBe(0);
    expect(ipv4Of('255.255.255.255')).toBe(0xffff_ffff);
    expect(ipv4Of('10.20.40.7')).toBe(0x0a14_2807);
  });
});

describe('networks', () => {
  const network = fc.oneof(
    fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 32 })),
    fc.tuple(fc.ipV6(), fc.integer({ min: 0, max: 128 })),
    fc.constantFrom<[string, number]>(['::', 0], ['::ffff:10.0.0.0', 104], ['::1', 128], ['127.0.0.0', 8]),
  );

  it('hold the addresses that the platform finds in them', () => {
    const address = fc.oneof(
      fc.ipV4(),
      fc.ipV6(),
      fc.ipV4().map((ip) => `::ffff:${ip}`),
      fc.constantFrom('::1', '10.1.2.3'),
    );
    fc.assert(
      fc.property(fc.array(network, { maxLength: 4 }), fc.array(address, { maxLength: 8 }), (networks, addresses) => {
        const list = new BlockList();
        for (const [ip, prefix] of networks) list.addSubnet(ip, prefix, ip.includes(':') ? 'ipv6' : 'ipv4');
        const isIn = compileNetworks(
          'here',
          networks.map(([ip, prefix]) => `${ip}/${prefix}`),
        );
        for (const one of addresses) expect(isIn(one)).toBe(list.check(one, one.includes(':') ? 'ipv6' : 'ipv4'));
      }),
      { numRuns: 1000 },
    );
  });

  it('hold their edges', () => {
    const isIn = compileNetworks('here', ['10.0.0.0/8', '192.168.7.9']);
    expect(['9.255.255.255', '10.0.0.0', '10.255.255.255', '11.0.0.0', '192.168.7.9', '192.168.7.8'].map(isIn)).toEqual(
      [false, true, true, false, true, false],
    );
  });
});
