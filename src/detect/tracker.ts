import type { Incident, Match } from './incident.ts';

/** A record as changes name it: one object for all rules that look at it. */
export interface Seen {
  /** Its number among those of its batch that changed anything; -1 until one does. */
  number: number;
  readonly record: string;
  readonly trace: string;
  readonly timeMs: number;
}

/** Whom a rule watches by itself: a combination of values in a namespace. */
export interface GroupName {
  /** Says namespace and values. */
  readonly key: string;
  readonly namespace: string;
  readonly values: readonly string[];
}

/**
 * What changes a rule's state, and all that does: state is these in their order.
 * - `m`, `t`: a record matched (the query, `then`)
 * - `x`: a record matched and does so no longer
 */
export type Change = MatchChange | { readonly kind: 'x'; readonly record: string };

export interface MatchChange {
  readonly kind: 'm' | 't';
  readonly seen: Seen;
  readonly group: GroupName;
  readonly value: string | number;
  /** Values that the reason shows; empty where state does not depend on them. */
  readonly shown: readonly string[];
}

/** One record as a rule sees it. */
export interface Sight extends Seen {
  /** It was seen before, maybe, with other contents. */
  readonly isRevision: boolean;
  /** Its time is not its own: a clock far ahead is not believed. */
  readonly isClamped: boolean;
}

/** What is the same for all records of a form is the same object for each of them. */
export interface SightMatch {
  readonly kind: 'm' | 't';
  readonly group: GroupName;
  value: string | number;
  /** What the rule's tracker remembers it by, once that was asked for. */
  key?: string;
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
  /**
   * What seeing the record changes, given the state; no matches: the query does not fit. To be applied, and used up, before the
   * next is asked about. What the reason shows may cost something to read: it is asked for only where state depends on it.
   */
  changesOf(sight: Sight, matches: readonly SightMatch[], shown: Shown): readonly Change[];
  apply(change: Change): void;
  /** What was applied since the last end is one batch: only the last one is ever shown again as it was. */
  endBatch?(): void;
  /** Works out what is shown of an incident and costs too much to keep up with each match. */
  measure?(incident: Incident): void;
  /** State as JSON values, each small. */
  snapshot(): Iterable<unknown>;
  restore(line: unknown): void;
}

export type Shown = () => readonly string[];

export const NO_CHANGES: readonly Change[] = [];

/** The one change of most records, written over for each. */
export class OneChange {
  readonly #changes: { -readonly [Key in keyof MatchChange]: MatchChange[Key] }[] = [];

  of(seen: Seen, { kind, group, value }: SightMatch, shown: readonly string[]): readonly Change[] {
    const [change] = this.#changes;
    if (change === undefined) this.#changes.push({ kind, seen, group, value, shown });
    else {
      change.kind = kind;
      change.seen = seen;
      change.group = group;
      change.value = value;
      change.shown = shown;
    }
    return this.#changes;
  }
}

export const NOTHING_SHOWN: readonly string[] = [];

/** Told of each incident that began or got more evidence. */
export type Raise = (incident: Incident) => void;

export function groupName(namespace: string, values: readonly string[]): GroupName {
  const key = values.length === 0 ? namespace : `${namespace}\u0000${values.join('\u0000')}`;
  return { key, namespace, values };
}

export function matchOf({ seen: { record, trace, timeMs }, shown }: MatchChange): Match {
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
