import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KeyedHash } from '../../src/join/keyed-hash.ts';
import { PositionTable } from '../../src/join/position-table.ts';
import { comparePositions, type FramePosition } from '../../src/wal/segment-format.ts';

const position = fc.record({ segment: fc.integer({ min: 1, max: 6 }), offset: fc.integer({ min: 32, max: 4000 }) });
const step = fc.oneof(
  { weight: 12, arbitrary: fc.record({ key: fc.integer({ min: 0, max: 300 }), position }) },
  { weight: 1, arbitrary: fc.record({ floor: position }) },
  { weight: 1, arbitrary: fc.record({ sweep: fc.integer({ min: 1, max: 8 }) }) },
);

/** Few different hashes that lie close together, so that searches run into each other and over the end of a part. */
function hashOf(key: number): [high: number, low: number] {
  return [key % 3 === 0 ? 0xffff_ffff : key % 7, key % 2 === 0 ? 0xffff_fff0 + (key % 16) : key];
}

describe('the table of positions', () => {
  it('finds what was put and is not below the floor, like a map, whatever its size', () => {
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 300, maxLength: 900 }),
        fc.constantFrom(200, 3000, 200_000),
        (steps, bytesMax) => {
          const table = new PositionTable(bytesMax);
          const map = new Map<string, { hash: [number, number]; position: FramePosition }>();
          for (const one of steps) {
            if ('floor' in one) table.raiseFloor(one.floor);
            else if ('sweep' in one) table.sweep(one.sweep);
            else {
              const hash = hashOf(one.key);
              table.put(...hash, one.position);
              map.set(String(hash), { hash, position: one.position });
            }
            expect(table.bytes).toBeLessThanOrEqual(bytesMax);
          }
          for (const { hash, position: put } of map.values()) {
            const isForgotten = comparePositions(put, table.floor) < 0;
            expect(table.get(...hash)).toEqual(isForgotten ? undefined : put);
          }
          if (bytesMax === 200_000) {
            const told = steps.flatMap((one) => ('floor' in one ? [one.floor] : []));
            expect(table.floor).toEqual(told.sort(comparePositions).at(-1) ?? { segment: 0, offset: 0 });
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  it('makes room where all that it holds stands at one position', () => {
    const table = new PositionTable(200);
    for (let key = 0; key < 300; key++) table.put(key * 7, key * 12_345, { segment: 1, offset: 32 });
    expect(table.bytes).toBeLessThanOrEqual(200);
    table.put(1, 1, { segment: 1, offset: 64 });
    expect(table.get(1, 1)).toEqual({ segment: 1, offset: 64 });
  });

  it('keeps a position in at most 25 bytes, and gives memory back when the floor rises', () => {
    const table = new PositionTable(128 * 1024 * 1024);
    const hash = new KeyedHash();
    const put = (number: number) => {
      hash.hash(1, Uint32Array.of(number, 0, 0, 7));
      table.put(hash.high, hash.low, { segment: 1 + Math.floor(number / 100_000), offset: 32 + (number % 100_000) });
    };
    for (let number = 0; number < 1_000_000; number++) put(number);
    expect(table.count).toBe(1_000_000);
    expect(table.bytes).toBeLessThanOrEqual(25 * 1_000_000);
    table.raiseFloor({ segment: 10, offset: 32 });
    table.sweep(4096);
    expect(table.count).toBe(100_000);
    expect(table.bytes).toBeLessThanOrEqual(25 * 100_000);
  });

  it('at its limit forgets the oldest eighth or so at a time, and never what was put last', () => {
    const table = new PositionTable(1024 * 1024);
    const hash = new KeyedHash();
    let [least, most] = [Number.POSITIVE_INFINITY, 0];
    for (let number = 0; number < 400_000; number++) {
      hash.hash(1, Uint32Array.of(number, 0, 0, 7));
      table.put(hash.high, hash.low, { segment: 1, offset: 32 + number });
      if (table.get(hash.high, hash.low) === undefined) throw new Error(`${number} is forgotten at once`);
      const held = number + 1 - Math.max(table.floor.offset - 32, 0);
      if (number > 100_000) least = Math.min(least, held);
      most = Math.max(most, held);
    }
    expect(table.bytes).toBeLessThanOrEqual(1024 * 1024);
    // 65,536 slots, of which the fullest part has filled 85 %.
    expect(least).toBeGreaterThan(40_000);
    expect(most).toBeLessThan(65_536);
  });
});

describe('the keyed hash', () => {
  it('differs between trace ids, namespaces and processes', () => {
    const hash = new KeyedHash();
    const seen = new Set<string>();
    for (let number = 0; number < 50_000; number++) {
      hash.hash(number % 2, Uint32Array.of(0, 0, 0, number >>> 1));
      seen.add(`${hash.high} ${hash.low}`);
    }
    expect(seen.size).toBe(50_000);
    const [one, other] = [new KeyedHash(), new KeyedHash()];
    one.hash(1, new Uint32Array(4));
    other.hash(1, new Uint32Array(4));
    expect([one.high, one.low]).not.toEqual([other.high, other.low]);
  });
});
