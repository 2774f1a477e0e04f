import { BIGINT_MAX } from './sql.ts';

/**
 * How far from the times that a batch names a state of one of its records is looked for. Covers a state that was stored
 * right before a crash, and so never reached the journal, and then moved by less than this.
 */
const LOOKUP_MARGIN_NS = 60_000_000_000n;

/** Times further apart than this are looked up as separate ranges, so that row groups between them are not read. */
const RANGE_GAP_NS = 3_600_000_000_000n;

/** Epoch nanoseconds, both ends included. */
export interface TimeRange {
  readonly firstNs: bigint;
  readonly lastNs: bigint;
}

export const ALL_TIMES: TimeRange = { firstNs: -BIGINT_MAX, lastNs: BIGINT_MAX };

/** Few ranges that hold all of these times with some margin, ordered. */
export function timeRanges(timesNs: readonly bigint[]): TimeRange[] {
  const ranges: { firstNs: bigint; lastNs: bigint }[] = [];
  for (const time of timesNs.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0))) {
    const range = ranges.at(-1);
    if (range && time - range.lastNs <= RANGE_GAP_NS) range.lastNs = time;
    else ranges.push({ firstNs: time, lastNs: time });
  }
  return ranges.map(({ firstNs, lastNs }) => ({
    firstNs: firstNs < LOOKUP_MARGIN_NS ? 0n : firstNs - LOOKUP_MARGIN_NS,
    lastNs: lastNs > BIGINT_MAX - LOOKUP_MARGIN_NS ? BIGINT_MAX : lastNs + LOOKUP_MARGIN_NS,
  }));
}
