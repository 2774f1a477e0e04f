import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileKeys, compileLooseKeys } from '../../src/otlp/key-set.ts';

const WANTED = ['user.id', 'http.request.method', 'http.response.status_code', 'audit.*', 'a', 'db.query.text'];
const key = fc.oneof(
  fc.constantFrom(
    ...WANTED,
    'user.if',
    'http.request.methox',
    'http.reqXest.method',
    'audit.actor.id',
    'audit.',
    'abcd',
    '',
  ),
  fc.string({ maxLength: 80 }),
  // Keys of one length that agree where the hash looks, and elsewhere not.
  fc
    .tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.constantFrom('x', 'y'))
    .map(([at, end]) => `${at}key.of.a.span${end}`),
);

describe('a key that is asked for again', () => {
  it.each([
    ['exact', compileKeys(WANTED)],
    ['loose', compileLooseKeys(WANTED)],
  ])('is what it was the first time, in an %s set', (_, keys) => {
    fc.assert(
      fc.property(fc.array(key, { maxLength: 40 }), fc.nat(7), (asked, shift) => {
        const bytes = Buffer.from(`${'-'.repeat(shift)}${asked.join('')}`);
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        let start = shift;
        for (const text of asked) {
          const end = start + Buffer.byteLength(text);
          expect(keys.find(bytes, view, start, end)).toBe(keys.match(bytes, start, end));
          start = end;
        }
      }),
    );
  });

  it('is not mistaken for one of thousands of others', () => {
    const keys = compileKeys(Array.from({ length: 5000 }, (_, number) => `key.${number}.name`));
    for (let round = 0; round < 2; round += 1) {
      for (let number = 0; number < 10_000; number += 1) {
        const text = `key.${number}.name`;
        const bytes = Buffer.from(text);
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        expect(keys.find(bytes, view, 0, bytes.length)).toBe(number < 5000 ? text : undefined);
      }
    }
  });
});
