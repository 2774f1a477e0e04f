import type { SettledTrace } from '../core/settlement.ts';
import type { EncodedEntries, EntriesWriter } from '../wal/encoded-entries.ts';
import type { JournalEntry } from '../wal/settle-journal.ts';
import type { SetAside, Supersession } from './batch.ts';
import type { NoteSum } from './coverage-notes.ts';

/** A batch while it is filled. */
export interface Draft {
  readonly settledAtMs: number;
  readonly traces: SettledTrace[];
  /** Of traces in the order of `inFlight.taken`; those of groups without a trace come after them. */
  readonly entries: EntriesWriter;
  readonly untracedEntries: JournalEntry[];
  readonly announced: JournalEntry[];
  readonly superseded: Supersession[];
  readonly quarantined: SetAside[];
  readonly coverage: NoteSum;
  readonly inFlight: InFlight;
}

/** Traces of the index that are on the way to the store, in the order of the batch. */
export interface InFlight {
  readonly taken: number[];
  /** Groups of log records without a trace of which this is the last part, and those of which it is not. */
  readonly groups: number[];
  readonly parts: number[];
  readonly setAside: readonly SetAside[];
  /** Memory that the batch's records lie in. */
  chunks: readonly Buffer[];
  /** What the journal is to have; its memory, too, is used again. */
  entries?: EncodedEntries;
}
