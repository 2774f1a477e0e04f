import { BlockList, isIP } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  compareText,
  fitsPattern,
  ipKey,
  ipText,
  letterRuns,
  parseDuration,
  parseNetwork,
} from '../../src/query/text.ts';

describe('letter runs', () => {
  it.each([
    [
      "alice (nurse) was refused SELECT: 42501, it's 41 ms",
      ['alice', 'nurse', 'was', 'refused', 'select', 'it', 's', 'ms'],
    ],
    ['ΟΔΟΣ İstanbul STRAßE', ['οδοσ', 'istanbul', 'straße']],
    ['日本語。テスト', ['日本語', 'テスト']],
    ['42 %_', []],
    ['a'.repeat(300), ['a'.repeat(255), 'a'.repeat(45)]],
  ])('%j', (text, runs) => expect(letterRuns(text)).toEqual(runs));
});

describe('patterns', () => {
  it('fit as the same regular expression does', () => {
    const pieces = fc.array(fc.constantFrom('', 'a', 'b', 'ab', '.', 'aa'), { minLength: 2, maxLength: 5 });
    const text = fc.array(fc.constantFrom('a', 'b', '.', '\n'), { maxLength: 8 }).map((all) => all.join(''));
    fc.assert(
      fc.property(pieces, text, (pattern, whole) => {
        const expression = new RegExp(`^${pattern.map((piece) => piece.replaceAll('.', '\\.')).join('.*')}$`, 's');
        expect(fitsPattern(whole, pattern)).toBe(expression.test(whole));
      }),
      { numRuns: 2000 },
    );
  });
});

describe('text order', () => {
  it('is the order of the UTF-8 bytes', () => {
    const text = fc.string({ unit: 'binary', maxLength: 5 });
    fc.assert(
      fc.property(text, text, (a, b) => {
        expect(Math.sign(compareText(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)));
      }),
      { numRuns: 2000 },
    );
  });
});

describe('durations', () => {
  it.each([
    ['0', 0n],
    ['1500', 1500n],
    ['41ms', 41_000_000n],
    ['1.5s', 1_500_000_000n],
    ['0.5us', 500n],
    ['3m', 180_000_000_000n],
    ['1d', 86_400_000_000_000n],
    ['-1s', undefined],
    ['1 s', undefined],
    ['1y', undefined],
    ['s', undefined],
    ['9223372036854775807', 9_223_372_036_854_775_807n],
    ['9223372036854775808', undefined],
  ])('%s', (text, wanted) => expect(parseDuration(text)).toBe(wanted));
});

describe('addresses', () => {
  it('agree with the platform on what is one, and come back as canonical text', () => {
    const address = fc.oneof(
      fc.ipV4(),
      fc.ipV6(),
      fc
        .array(fc.constantFrom('1', ':', '::', '.', 'ffff', '0', '255', '256', '01'), { maxLength: 12 })
        .map((a) => a.join('')),
    );
    fc.assert(
      fc.property(address, (text) => {
        const key = ipKey(text);
        expect(key !== undefined, text).toBe(isIP(text) !== 0);
        if (key === undefined) return;
        const canonical = ipText(key);
        expect(ipKey(canonical)).toBe(key);
        const platform = text.includes(':') ? new URL(`http://[${text}]/`).hostname.slice(1, -1) : text;
        if (!key.startsWith('0'.repeat(20))) expect(canonical).toBe(platform);
      }),
      { numRuns: 3000 },
    );
  });

  it.each([
    ['10.1.2.3/8', '10.0.0.0', '10.255.255.255'],
    ['10.1.2.3/32', '10.1.2.3', '10.1.2.3'],
    ['0.0.0.0/0', '0.0.0.0', '255.255.255.255'],
    ['2001:db8::/33', '2001:db8::', '2001:db8:7fff:ffff:ffff:ffff:ffff:ffff'],
    ['::ffff:10.0.0.0/104', '10.0.0.0', '10.255.255.255'],
  ])('%s', (text, first, last) => expect(parseNetwork(text)).toEqual({ first, last }));

  it.each(['10.0.0.0', '10.0.0.0/33', '::/129', 'x/8', '10.0.0.0/', '/8'])('%s is no network', (text) =>
    expect(parseNetwork(text)).toBeUndefined(),
  );

  it('are inside a network when the platform says so', () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.ipV4(), fc.nat(32), (address, base, bits) => {
        const network = parseNetwork(`${base}/${bits}`);
        const list = new BlockList();
        list.addSubnet(base, bits);
        const key = ipKey(address) ?? '';
        const inside = key >= (ipKey(network?.first ?? '') ?? '') && key <= (ipKey(network?.last ?? '') ?? '');
        expect(inside).toBe(list.check(address));
      }),
    );
  });
});
