import { addEvidence, type Incident, type Match } from './incident.ts';
import type { GroupName, Sight, SightMatch } from './tracker.ts';

/** One match in a group's window. */
export interface Entry extends Match {
  readonly kind: 'm' | 't';
  readonly group: Group;
  readonly value: string;
  /** The batch that it came in. */
  readonly batch: number;
  /** Counted in an incident. */
  isTold: boolean;
  /** The threshold was reached at its time. */
  isHot: boolean;
}

/** Whom the rule watches by itself, with what matched lately. */
export interface Group {
  readonly name: GroupName;
  /** By time. */
  matches: Entry[];
  followers: Entry[];
  /** Of a rule that counts distinct values: how many of the matches have each. */
  readonly held: Map<string, number>;
  /** From and to when a search found enough of them, as long as none of these was taken out. */
  enough: { readonly fromMs: number; readonly toMs: number } | undefined;
  newestMs: number;
  /** Some had to go for want of room. */
  isShort: boolean;
  incidents: Incident[];
}

export function newGroup(name: GroupName): Group {
  return {
    ...{ name, matches: [], followers: [], incidents: [], held: new Map(), enough: undefined },
    ...{ newestMs: Number.NEGATIVE_INFINITY, isShort: false },
  };
}

export function addEntry(incident: Incident, entry: Entry): void {
  if (!entry.isTold) addEvidence(incident, entry);
  entry.isTold = true;
}

/** Keeps the list by time, then by record; returns where the entry is. */
export function insert(list: Entry[], entry: Entry): number {
  let at = list.length;
  for (let before = list[at - 1]; before !== undefined && isAfter(before, entry); before = list[at - 1]) at--;
  list.splice(at, 0, entry);
  return at;
}

function isAfter(left: Entry, right: Entry): boolean {
  return left.timeMs > right.timeMs || (left.timeMs === right.timeMs && left.record > right.record);
}

export function isSame(known: readonly Entry[], matches: readonly SightMatch[], { timeMs, isClamped }: Sight): boolean {
  if (known.length !== matches.length) return false;
  return matches.every(({ kind, group, value }) =>
    known.some(
      (entry) =>
        entry.kind === kind &&
        entry.group.name.key === group.key &&
        entry.value === String(value) &&
        (isClamped || entry.timeMs === timeMs),
    ),
  );
}
