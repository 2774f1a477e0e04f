import type { Incident, Match } from './incident.ts';

/**
 * What changes a rule's state, and all that does: state is these in their order. JSON, so that they can be kept.
 * - `m`, `t`: a record matched (the query, `then`): namespace, group, record, trace, time, value, shown
 * - `x`: a record matched and does so no longer
 */
export type Change =
  | readonly [
      kind: 'm' | 't',
      namespace: string,
      group: readonly string[],
      record: string,
      trace: string,
      timeMs: number,
      value: string | number,
      shown: readonly string[],
    ]
  | readonly [kind: 'x', record: string];

/** One record as a rule sees it. */
export interface Sight {
  readonly record: string;
  readonly trace: string;
  readonly namespace: string;
  readonly timeMs: number;
  /** It was seen before, maybe, with other contents. */
  readonly isRevision: boolean;
  /** Its time is not its own: a clock far ahead is not believed. */
  readonly isClamped: boolean;
  /** Empty when the query does not fit. */
  readonly matches: readonly SightMatch[];
}

export interface SightMatch {
  readonly kind: 'm' | 't';
  readonly group: readonly string[];
  readonly value: string | number;
  readonly shown: readonly string[];
}

export interface TrackerLimits {
  readonly latenessMs: number;
  readonly groupsMax: number;
  readonly entriesMax: number;
  readonly termsMax: number;
}

export interface TrackerCounts {
  groups: number;
  entries: number;
  evicted: number;
  late: number;
}

/** The state of one rule. It depends on the changes alone: no clock, no chance. */
export interface Tracker {
  readonly counts: TrackerCounts;
  /** What seeing the record changes, given the state. To be applied before the next is asked about. */
  changesOf(sight: Sight): Change[];
  apply(change: Change): void;
  /** What was applied since the last end is one batch: only the last one is ever shown again as it was. */
  endBatch?(): void;
  /** Works out what is shown of an incident and costs too much to keep up with each match. */
  measure?(incident: Incident): void;
  /** State as JSON values, each small. */
  snapshot(): Iterable<unknown>;
  restore(line: unknown): void;
}

/** Told of each incident that began or got more evidence. */
export type Raise = (incident: Incident) => void;

export function groupKey(namespace: string, group: readonly string[]): string {
  return group.length === 0 ? namespace : `${namespace}\u0000${group.join('\u0000')}`;
}

export function matchOf([, , , record, trace, timeMs, , shown]: Exclude<Change, readonly ['x', string]>): Match {
  return { record, trace, timeMs, shown };
}

/** Index of the first of those, sorted by time, that is later than the time. */
export function firstAfter(sorted: readonly { readonly timeMs: number }[], timeMs: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle]?.timeMs ?? 0) > timeMs) high = middle;
    else low = middle + 1;
  }
  return low;
}
