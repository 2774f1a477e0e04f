import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AttributeTable, byKeys } from '../../src/core/attribute-table.ts';

const key = fc.oneof(
  fc.constantFrom('a', 'b', 'user.id', '__proto__', ''),
  fc.integer({ max: 99, min: 0 }).map(String),
);
const entries = fc.array(fc.tuple(key, fc.integer()), { maxLength: 150 });

function tableOf(given: readonly (readonly [string, number])[]): AttributeTable {
  const table = new AttributeTable();
  for (const [name, value] of given) table.set(name, value);
  return table;
}

describe('a table of attributes', () => {
  it('is read as the Map of the same entries', () => {
    fc.assert(
      fc.property(entries, (given) => {
        const [table, map] = [tableOf(given), new Map(given)];
        expect([...table]).toEqual([...map]);
        expect([...table.keys()]).toEqual([...map.keys()]);
        expect([...table.values()]).toEqual([...map.values()]);
        expect(table.size).toBe(map.size);
        for (const name of ['a', 'b', '7', 'none', ...map.keys()]) {
          expect(table.get(name)).toBe(map.get(name));
          expect(table.has(name)).toBe(map.has(name));
        }
        const visited: unknown[] = [];
        table.forEach((value, name) => {
          visited.push([name, value]);
        });
        expect(visited).toEqual([...map]);
      }),
    );
  });

  it('remembers no long key that somebody made up', () => {
    const long = 'x'.repeat(257);
    const [one, two] = [
      tableOf([
        ['a', 1],
        [long, 2],
        ['b', 3],
      ]),
      tableOf([
        ['a', 1],
        [long, 2],
        ['b', 3],
      ]),
    ];
    expect([...one]).toEqual([...two]);
    expect(one.shape).not.toBe(two.shape);
    expect(
      tableOf([
        ['a', 1],
        ['b', 3],
      ]).shape,
    ).toBe(
      tableOf([
        ['a', 2],
        ['b', 4],
      ]).shape,
    );
  });

  it('keeps its own values beside others of the same shape, and while others grow', () => {
    const [one, two] = [tableOf([['a', 1]]), tableOf([['a', 2]])];
    two.set('b', 3);
    expect([...one]).toEqual([['a', 1]]);
    expect([...two]).toEqual([
      ['a', 2],
      ['b', 3],
    ]);
  });

  it('stays what it is when thousands of other shapes come', () => {
    const table = tableOf([['a', 1]]);
    for (let number = 0; number < 10_000; number += 1) tableOf([[`key.${number}`, number]]);
    table.set('b', 2);
    expect([...table]).toEqual([
      ['a', 1],
      ['b', 2],
    ]);
    expect([...tableOf([['a', 3]])]).toEqual([['a', 3]]);
  });
});

describe('what follows from keys', () => {
  it('is the same for tables and Maps, whatever came before', () => {
    const has = byKeys((keys, wanted: { readonly key: string }) => keys.includes(wanted.key));
    const rules = ['a', '7'].map((wanted) => ({ key: wanted }));
    fc.assert(
      fc.property(entries, fc.nat(1), (given, at) => {
        const [table, wanted] = [new AttributeTable(), rules[at] ?? { key: '' }];
        for (const [name, value] of given) {
          table.set(name, value);
          expect(has(table, wanted)).toBe(table.has(wanted.key));
        }
        expect(has(new Map(given), wanted)).toBe(table.has(wanted.key));
      }),
    );
  });
});
