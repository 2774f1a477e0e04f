import { COVERAGE_COUNTS, type CoverageNote } from '../core/coverage.ts';

/** Adds up notes of coverage: one a service and hour. */
export class NoteSum {
  readonly #notes = new Map<string, CoverageNote>();
  readonly #formed = new Map<CoverageNote, CoverageNote>();

  get notes(): CoverageNote[] {
    return [...this.#notes.values()];
  }

  add(notes: readonly CoverageNote[]): void {
    for (const note of notes) this.#add(note);
  }

  /** The same for notes of a form, which are written over for each trace: what they add to is remembered by them. */
  addFormed(notes: readonly CoverageNote[]): void {
    for (let at = 0; at < notes.length; at++) {
      const note = notes[at] as CoverageNote;
      const known = this.#formed.get(note);
      if (known?.hour === note.hour && known.namespace === note.namespace) addTo(known, note);
      else this.#formed.set(note, this.#add(note));
    }
  }

  /** The sum. */
  #add(note: CoverageNote): CoverageNote {
    const key = `${note.hour} ${note.namespace.length} ${note.namespace}${note.service}`;
    const known = this.#notes.get(key);
    if (known !== undefined) {
      addTo(known, note);
      return known;
    }
    const added = { ...note };
    this.#notes.set(key, added);
    return added;
  }
}

function addTo(known: CoverageNote, note: CoverageNote): void {
  for (let at = 0; at < COVERAGE_COUNTS.length; at++) {
    const count = COVERAGE_COUNTS[at] as (typeof COVERAGE_COUNTS)[number];
    known[count] += note[count];
  }
  known.firstMs = Math.min(known.firstMs, note.firstMs);
  known.lastMs = Math.max(known.lastMs, note.lastMs);
  // 0 is none.
  const lowest = Math.min(known.probabilityMin || 1, note.probabilityMin || 1);
  if (known.probabilityMin + note.probabilityMin > 0) known.probabilityMin = lowest;
  known.probabilityMax = Math.max(known.probabilityMax, note.probabilityMax);
}
