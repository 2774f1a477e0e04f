import fc from 'fast-check';
import { expect, it } from 'vitest';
import { CountedRecords } from '../../src/detect/counted-records.ts';

const hex = (number: number) => number.toString(16).padStart(32, '0');
/** Ids as records have them, of which many share their first word, others, and some that only look like one. */
const id = fc
  .nat(60)
  .map(
    (number) =>
      [hex(number), hex(number).replace(/^0/, 'e'), `r${number}`, `${hex(number)}F`.slice(1)][number % 4] ?? '',
  );

/** Oldest first. */
function slotsOf(counted: CountedRecords<string>): number[] {
  const slots: number[] = [];
  for (let slot = counted.after(); slot >= 0; slot = counted.after(slot)) slots.push(slot);
  return slots;
}

const step = fc.record({ kind: fc.constantFrom('set', 'set', 'set', 'remove'), id, value: fc.nat(9) });

it('keeps what a map would, in its order, and lets the oldest go', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const counted = new CountedRecords<string>(24);
      const expected = new Map<string, [string, number, number]>();
      for (const { kind, id: record, value } of steps) {
        const slot = counted.find(record);
        expect(slot >= 0).toBe(expected.has(record));
        if (kind === 'set') {
          counted.set(record, `g${value}`, value * 1e9, -value);
          expected.set(record, [`g${value}`, value * 1e9, -value]);
        } else if (slot >= 0) {
          counted.remove(slot);
          expected.delete(record);
        }
        if (expected.size > 30) for (const old of [...expected.keys()].slice(0, -24)) expected.delete(old);
        expect(counted.size).toBe(expected.size);
      }
      const rows = slotsOf(counted)
        .map((slot) => counted.at(slot))
        .map(({ record, group, interval, value }) => [record, [group, interval, value]]);
      expect(rows).toEqual([...expected]);
    }),
  );
});

it('goes on where many are taken out in between', () => {
  const counted = new CountedRecords<string>(5_000);
  for (let number = 0; number < 40_000; number++) {
    counted.set(hex(number), 'g', number, 1);
    // Every second one goes again.
    if (number % 2 === 1) counted.remove(counted.find(hex(number)));
  }
  expect(counted.size).toBeLessThanOrEqual(6_250);
  expect(counted.at(slotsOf(counted).at(-1) ?? -1)).toEqual({
    record: hex(39_998),
    group: 'g',
    interval: 39_998,
    value: 1,
  });
  expect(counted.find(hex(39_998))).toBeGreaterThanOrEqual(0);
  expect(counted.find(hex(0))).toBe(-1);
});
