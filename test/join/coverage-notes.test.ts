import { describe, expect, it } from 'vitest';
import { COVERAGE_COUNTS, type CoverageNote } from '../../src/core/coverage.ts';
import { NoteSum } from '../../src/join/coverage-notes.ts';

function noteOf(service: string, hour: number, firstMs: number, lastMs: number): CoverageNote {
  const counts = Object.fromEntries(COVERAGE_COUNTS.map((count, at) => [count, at + hour]));
  const where = { namespace: 'default', service, hour, firstMs, lastMs };
  return { ...where, probabilityMin: 0, probabilityMax: 0, ...counts } as CoverageNote;
}

const TOLD = [
  ...[noteOf('shop', 1, 10, 20), noteOf('bank', 1, 11, 12), noteOf('shop', 1, 5, 12), noteOf('bank', 1, 5, 6)],
  ...[noteOf('shop', 2, 100, 130), noteOf('shop', 1, 7, 40), noteOf('shop', 2, 90, 91), noteOf('mill', 1, 5, 6)],
  ...[noteOf('bank', 1, 2, 3), { ...noteOf('bank', 1, 5, 6), namespace: 'other' }],
];

describe('the sum of notes of coverage', () => {
  it('has one a service and hour, in the order in which they came, with all counts', () => {
    const sum = new NoteSum();
    sum.add(TOLD);
    const places = sum.notes.map(({ namespace, service, hour, firstMs, lastMs }) => {
      return [namespace, service, hour, firstMs, lastMs];
    });
    expect(places).toEqual([
      ['default', 'shop', 1, 5, 40],
      ['default', 'bank', 1, 2, 12],
      ['default', 'shop', 2, 90, 130],
      ['default', 'mill', 1, 5, 6],
      ['other', 'bank', 1, 5, 6],
    ]);
    const counts = sum.notes.map((note) => COVERAGE_COUNTS.map((count) => note[count]));
    const times = [3, 3, 2, 1, 1];
    const expected = sum.notes.map(({ hour }, at) =>
      COVERAGE_COUNTS.map((_, count) => (count + hour) * (times[at] ?? 0)),
    );
    expect(counts).toEqual(expected);
  });

  it('is the same of notes that are written over for each trace', () => {
    const [plain, formed] = [new NoteSum(), new NoteSum()];
    plain.add(TOLD);
    const written = noteOf('', 0, 0, 0);
    for (const note of TOLD) formed.add([Object.assign(written, note)]);
    expect(formed.notes).toEqual(plain.notes);
  });
});
