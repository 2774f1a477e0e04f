import { COVERAGE_COUNTS, type CoverageNote } from '../core/coverage.ts';

/** Traces of one form in one hour, after the first. */
interface FormedSum {
  readonly namespace: string;
  readonly hour: number;
  firstMs: number;
  lastMs: number;
  traces: number;
}

/** Adds up notes of coverage: one a service and hour. */
export class NoteSum {
  readonly #notes = new Map<string, CoverageNote>();
  readonly #formed = new Map<CoverageNote, FormedSum>();

  get notes(): CoverageNote[] {
    for (const [note, sum] of this.#formed) this.#addAll(note, sum);
    this.#formed.clear();
    return [...this.#notes.values()];
  }

  add(notes: readonly CoverageNote[]): void {
    for (const note of notes) this.#add(note);
  }

  /** The same for notes of a form, which are written over for each trace: where, when and whose, while what they count stays. */
  addFormed(notes: readonly CoverageNote[]): void {
    for (let at = 0; at < notes.length; at++) {
      const note = notes[at] as CoverageNote;
      const { namespace, hour, firstMs, lastMs } = note;
      const sum = this.#formed.get(note);
      if (sum !== undefined && sum.hour === hour && sum.namespace === namespace) {
        if (firstMs < sum.firstMs) sum.firstMs = firstMs;
        if (lastMs > sum.lastMs) sum.lastMs = lastMs;
        sum.traces++;
        continue;
      }
      if (sum !== undefined) this.#addAll(note, sum);
      // So that the notes stand in the order in which the traces came.
      this.#add(note);
      this.#formed.set(note, { namespace, hour, firstMs, lastMs, traces: 0 });
    }
  }

  #addAll(note: CoverageNote, { traces, ...when }: FormedSum): void {
    if (traces === 0) return;
    const all = { ...note, ...when };
    for (const count of COVERAGE_COUNTS) all[count] *= traces;
    this.#add(all);
  }

  #add(note: CoverageNote): void {
    const key = `${note.hour} ${note.namespace.length} ${note.namespace}${note.service}`;
    const known = this.#notes.get(key);
    if (known === undefined) this.#notes.set(key, { ...note });
    else addTo(known, note);
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
