import type { CoverageNote } from '../core/coverage.ts';

/** Adds up notes of coverage: one a service and hour. */
export class NoteSum {
  /** In the order in which they came first. */
  readonly notes: CoverageNote[] = [];
  readonly #places = new Map<string, number>();
  /** The place after that of the last one: traces that follow one another mostly are of the same services. */
  #next = 0;

  /** They may be written over afterwards. */
  add(notes: readonly CoverageNote[]): void {
    for (let at = 0; at < notes.length; at++) this.#add(notes[at] as CoverageNote);
  }

  #add(note: CoverageNote): void {
    const guess = this.#next < this.notes.length ? this.#next : 0;
    const guessed = this.notes[guess];
    const place = guessed !== undefined && isAlike(guessed, note) ? guess : this.#placeOf(note);
    this.#next = place + 1;
    const known = this.notes[place];
    if (known === undefined) this.notes.push({ ...note });
    else addTo(known, note);
  }

  #placeOf(note: CoverageNote): number {
    const key = `${note.hour} ${note.namespace.length} ${note.namespace}${note.service}`;
    const place = this.#places.get(key);
    if (place !== undefined) return place;
    this.#places.set(key, this.notes.length);
    return this.notes.length;
  }
}

function isAlike(one: CoverageNote, other: CoverageNote): boolean {
  return one.hour === other.hour && one.service === other.service && one.namespace === other.namespace;
}

/** Count by count (`COVERAGE_COUNTS`): there is a note a trace. */
function addTo(known: CoverageNote, note: CoverageNote): void {
  known.spans += note.spans;
  known.roots += note.roots;
  known.logs += note.logs;
  known.stated += note.stated;
  known.sampled += note.sampled;
  known.unsampled += note.unsampled;
  known.children += note.children;
  known.missingLocal += note.missingLocal;
  known.missingRemote += note.missingRemote;
  known.firstMs = Math.min(known.firstMs, note.firstMs);
  known.lastMs = Math.max(known.lastMs, note.lastMs);
  // 0 is none.
  const lowest = Math.min(known.probabilityMin || 1, note.probabilityMin || 1);
  if (known.probabilityMin + note.probabilityMin > 0) known.probabilityMin = lowest;
  known.probabilityMax = Math.max(known.probabilityMax, note.probabilityMax);
}
