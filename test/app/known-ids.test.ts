import { describe, expect, it } from 'vitest';
import { KnownIds } from '../../src/app/known-ids.ts';

describe('known ids', () => {
  it.each([0, 10, 6_000])('has what was added and nothing else, when %i were expected', (expected) => {
    const ids = new KnownIds(expected);
    for (let round = 0; round < 2; round++) for (let number = 0; number < 3_000; number++) ids.add(`id ${number}`);
    const seen = Array.from({ length: 6_000 }, (_, number) => ids.has(`id ${number}`));
    expect(seen.indexOf(false)).toBe(3_000);
    expect(seen.lastIndexOf(true)).toBe(2_999);
  });
});
