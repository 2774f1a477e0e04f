import { describe, expect, it } from 'vitest';
import { COVERAGE_COUNTS, type CoverageNote } from '../../src/core/coverage.ts';
import { NoteSum } from '../../src/join/coverage-notes.ts';

function noteOf(hour: number, firstMs: number, lastMs: number): CoverageNote {
  const counts = Object.fromEntries(COVERAGE_COUNTS.map((count, at) => [count, at + 1]));
  const where = { namespace: 'default', service: 'shop', hour, firstMs, lastMs };
  return { ...where, probabilityMin: 0, probabilityMax: 0, ...counts } as CoverageNote;
}

describe('the sum of notes of coverage', () => {
  it('is the same of notes that are written over for each trace, over hours that come and go', () => {
    const told = [noteOf(1, 10, 20), noteOf(1, 5, 12), noteOf(2, 100, 130), noteOf(1, 7, 40), noteOf(2, 90, 91)];
    const plain = new NoteSum();
    plain.add(told);
    const formed = new NoteSum();
    formed.add(told.slice(0, 1));
    const written = noteOf(0, 0, 0);
    for (const note of told.slice(1)) formed.addFormed([Object.assign(written, note)]);
    const byHour = (sum: NoteSum) => sum.notes.sort((left, right) => left.hour - right.hour);
    expect(byHour(formed)).toEqual(byHour(plain));
  });
});
