import type { BySignal, FreshCounts } from '../core/settlement.ts';
import { stampTrace } from './batch.ts';
import type { JoinSettings } from './settings.ts';
import { countKept, type DueTrace, type SettledOne } from './trace-settler.ts';

/** A piece of a huge trace takes about half as much while the trace is settled: see HugeSelection. */
const BYTES_A_PIECE = 256;

/** Pieces that are kept of one trace: what its settle takes is then a good half of the index's bytes at most. */
export function piecesMaxOf({ spansMax, indexBytesMax }: JoinSettings): number {
  return Math.max(spansMax, Math.floor(indexBytesMax / BYTES_A_PIECE));
}

/**
 * A trace that came to have more evidence than is kept of one is closed: its records stay as they are, and what still comes is
 * counted as context, neither read nor remembered.
 */
export function settleClosed(due: Omit<DueTrace, 'fresh'>, unseen: BySignal<number>): SettledOne {
  const context = (count: number): FreshCounts => ({
    used: 0,
    context: count,
    excluded: 0,
    duplicate: 0,
    quarantined: 0,
  });
  const taken = {
    ...due,
    ...{ settlement: undefined, hasLost: true, isClosed: true, pieces: [] },
    counts: countKept(undefined, unseen, due.previous),
    fresh: { traces: context(unseen.traces), logs: context(unseen.logs) },
  };
  return { ...stampTrace(taken, due.nowMs), setAside: [], coverage: [], pieces: 0 };
}
