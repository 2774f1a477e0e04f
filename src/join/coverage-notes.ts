import { COVERAGE_COUNTS, type CoverageNote } from '../core/coverage.ts';

/** Adds up notes of coverage: one a service and hour. */
export class NoteSum {
  readonly #notes = new Map<string, CoverageNote>();

  get notes(): CoverageNote[] {
    return [...this.#notes.values()];
  }

  add(notes: readonly CoverageNote[]): void {
    for (const note of notes) {
      const key = `${note.hour} ${note.namespace.length} ${note.namespace}${note.service}`;
      const known = this.#notes.get(key);
      if (known === undefined) this.#notes.set(key, { ...note });
      else addTo(known, note);
    }
  }
}

function addTo(known: CoverageNote, note: CoverageNote): void {
  for (const count of COVERAGE_COUNTS) known[count] += note[count];
  known.firstMs = Math.min(known.firstMs, note.firstMs);
  known.lastMs = Math.max(known.lastMs, note.lastMs);
  // 0 is none.
  const lowest = Math.min(known.probabilityMin || 1, note.probabilityMin || 1);
  if (known.probabilityMin + note.probabilityMin > 0) known.probabilityMin = lowest;
  known.probabilityMax = Math.max(known.probabilityMax, note.probabilityMax);
}
