import type { Clock } from '../core/clock.ts';
import type { Counters } from '../core/metrics.ts';
import type { EncodedEntries } from '../wal/encoded-entries.ts';
import type { JournalPosition, SettleJournal } from '../wal/settle-journal.ts';
import type { Sums } from './sums.ts';

/** A mark is written by itself when no batch has left one for this long. */
const QUIET_MS = 1_000;

/** Work that is done by one at a time, in the order of asking. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  take<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}

export interface MarkedJournalOptions {
  readonly journal: Pick<SettleJournal, 'append' | 'appendEncoded'>;
  readonly sums: Sums;
  readonly clock: Clock;
  readonly log: { warn(details: object, message: string): void };
}

/** The settle journal as the pump writes it: each mark holds for all that stands before it. */
export class MarkedJournal {
  readonly #options: MarkedJournalOptions;
  readonly #turns = new Turns();
  #markedMs = Number.NEGATIVE_INFINITY;
  #isMarking = false;

  constructor(options: MarkedJournalOptions) {
    this.#options = options;
  }

  /**
   * Writes entries with the mark that holds then; `counts` is what they come to and is added when they are durable. `written` is
   * called in the same turn of the event loop, so that who counts and who is counted change at the same moment.
   */
  append(
    entries: readonly EncodedEntries[],
    counts: Counters,
    retry: <Result>(attempt: () => Promise<Result>) => Promise<Result>,
    written: (positions: JournalPosition[][]) => Promise<unknown>,
  ): Promise<void> {
    const { journal, sums, clock } = this.#options;
    return this.#turns.take(async () => {
      sums.settled(entries, counts);
      let mark = sums.mark(clock.nowMs(), counts);
      const positions = await retry(() => {
        mark = sums.mark(clock.nowMs(), counts);
        return journal.appendEncoded(entries, mark);
      });
      this.#markedMs = clock.nowMs();
      sums.marked(mark);
      sums.add(counts);
      await written(positions);
    });
  }

  /** When no batch has left a mark for a while: how far evidence was accepted, and from where on a restart has to read. */
  markWhenQuiet(): void {
    const { clock, log } = this.#options;
    if (this.#isMarking || Math.abs(clock.nowMs() - this.#markedMs) < QUIET_MS) return;
    this.#isMarking = true;
    this.mark()
      .catch((error: unknown) => log.warn({ error }, 'no mark could be written to the settle journal'))
      .finally(() => {
        this.#isMarking = false;
      });
  }

  /** A mark by itself, unless the last one said the same. */
  mark(): Promise<void> {
    const { journal, sums, clock } = this.#options;
    return this.#turns.take(async () => {
      const mark = sums.mark(clock.nowMs());
      if (sums.isMarked(mark)) return;
      await journal.append([], mark);
      sums.marked(mark);
      this.#markedMs = clock.nowMs();
    });
  }
}
