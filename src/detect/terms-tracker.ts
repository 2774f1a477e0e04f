import { addEvidence, extendIncident, findIncident, type Incident, type Match, startIncident } from './incident.ts';
import type { NewTermsRule } from './rule.ts';
import {
  type Change,
  type GroupName,
  groupName,
  matchOf,
  NO_CHANGES,
  OneChange,
  type Raise,
  type Shown,
  type Sight,
  type SightMatch,
  type Tracker,
  type TrackerCounts,
  type TrackerLimits,
} from './tracker.ts';

/** A value that is seen again is noted again after this part of the history: not each time. */
const NOTED_PARTS = 64;

interface Group {
  readonly name: GroupName;
  firstMs: number;
  size: number;
  /** Values of it had to go for want of room. */
  isShort: boolean;
  incidents: Incident[];
}

interface Term {
  readonly group: Group;
  readonly text: string;
  firstMs: number;
  lastMs: number;
  isTold: boolean;
  first: Match;
}

/** Remembers the values of each group for the history's length; one that is not among them is new. */
export class TermsTracker implements Tracker {
  readonly counts: TrackerCounts = { groups: 0, entries: 0, evicted: 0, late: 0 };
  readonly #rule: NewTermsRule;
  readonly #raise: Raise;
  readonly #limits: TrackerLimits;
  readonly #groups = new Map<string, Group>();
  /** By group and value, in the order in which they were last noted. */
  readonly #terms = new Map<string, Term>();
  readonly #one = new OneChange();
  #newestMs = Number.NEGATIVE_INFINITY;

  constructor(rule: NewTermsRule, limits: TrackerLimits, raise: Raise) {
    this.#rule = rule;
    this.#raise = raise;
    this.#limits = limits;
  }

  changesOf(sight: Sight, matches: readonly SightMatch[], shown: Shown): readonly Change[] {
    const { historyMs } = this.#rule;
    const { timeMs } = sight;
    let changes = NO_CHANGES;
    for (let at = 0; at < matches.length; at++) {
      const match = matches[at] as SightMatch;
      if (timeMs < this.#newestMs - historyMs - this.#limits.latenessMs) {
        this.counts.late++;
        continue;
      }
      match.key ??= termKey(match.group, String(match.value));
      const term = this.#terms.get(match.key);
      const isKnown = term !== undefined && timeMs >= term.firstMs && timeMs <= term.lastMs + historyMs / NOTED_PARTS;
      if (isKnown) continue;
      const [change] = this.#one.of(sight, match, shown());
      changes = [...changes, { ...(change as Change) }];
    }
    return changes;
  }

  apply(change: Change): void {
    // Nobody unlearns a value.
    if (change.kind === 'x') return;
    const { group: name, seen, value } = change;
    const { timeMs } = seen;
    const text = String(value);
    const key = termKey(name, text);
    this.#newestMs = Math.max(this.#newestMs, timeMs);
    const known = this.#terms.get(key);
    const group = this.#groups.get(name.key) ?? this.#begin(name, timeMs);
    const isNew = known === undefined || timeMs > known.lastMs + this.#rule.historyMs;
    if (known !== undefined) this.#terms.delete(key);
    else group.size++;
    const term: Term = isNew
      ? { group, text, firstMs: timeMs, lastMs: timeMs, isTold: false, first: matchOf(change) }
      : Object.assign(known, { lastMs: Math.max(known.lastMs, timeMs) });
    this.#terms.set(key, term);
    if (timeMs < term.firstMs) Object.assign(term, { firstMs: timeMs, first: matchOf(change) });
    if (timeMs < group.firstMs) {
      // What was taken for the group's first value was not: it is looked at again.
      group.firstMs = timeMs;
      for (const other of this.#terms.values()) if (other.group === group) this.#look(other);
    }
    this.#look(term);
    this.#shrink();
    this.counts.groups = this.#groups.size;
    this.counts.entries = this.#terms.size;
  }

  #begin(name: GroupName, firstMs: number): Group {
    const group: Group = { name, firstMs, size: 0, isShort: false, incidents: [] };
    this.#groups.set(name.key, group);
    return group;
  }

  #look(term: Term): void {
    const { group, firstMs, text, first } = term;
    const { suppressMs, warmUpMs, historyMs } = this.#rule;
    if (term.isTold || firstMs <= group.firstMs || firstMs - group.firstMs < warmUpMs) return;
    term.isTold = true;
    const { namespace, values } = group.name;
    const start = { rule: this.#rule, namespace, group: values, term: text, shown: first.shown };
    let incident = findIncident(group.incidents, firstMs, suppressMs);
    if (incident === undefined || suppressMs === 0) {
      // A value is new again after the history at the earliest, so never twice in one cell. Values that share an alert do not name it.
      const cell = suppressMs > 0 ? String(Math.floor(firstMs / suppressMs)) : undefined;
      incident = startIncident({
        ...start,
        timeMs: firstMs,
        cellMs: historyMs,
        ...(cell === undefined ? {} : { cell }),
      });
      if (suppressMs > 0)
        group.incidents = [
          ...group.incidents.filter((old) => old.lastMs + suppressMs + this.#limits.latenessMs > firstMs),
          incident,
        ];
    }
    extendIncident(incident, firstMs);
    addEvidence(incident, first);
    if (group.isShort) incident.atLeast = true;
    this.#raise(incident);
  }

  #shrink(): void {
    for (const [key, { group, lastMs }] of this.#terms) {
      const isOld = lastMs < this.#newestMs - this.#rule.historyMs - this.#limits.latenessMs;
      const isOver = this.#terms.size > this.#limits.termsMax || this.#groups.size > this.#limits.groupsMax;
      if (!isOld && !isOver) return;
      if (!isOld) {
        this.counts.evicted++;
        group.isShort = true;
      }
      this.#terms.delete(key);
      group.size--;
      if (group.size === 0) this.#groups.delete(group.name.key);
    }
  }

  *snapshot(): Iterable<unknown> {
    yield { newestMs: Number.isFinite(this.#newestMs) ? this.#newestMs : null, ...this.counts };
    for (const { name, firstMs, isShort, incidents } of this.#groups.values()) {
      const { namespace, values } = name;
      yield ['g', namespace, values, firstMs, isShort, incidents];
    }
    for (const { group, text, firstMs, lastMs, isTold, first } of this.#terms.values()) {
      // Who showed it first matters until it is told.
      yield ['t', group.name.namespace, group.name.values, text, firstMs, lastMs, isTold, isTold ? null : first];
    }
  }

  restore(line: unknown): void {
    if (!Array.isArray(line)) {
      const { newestMs, ...counts } = line as TrackerCounts & { newestMs: number | null };
      this.#newestMs = newestMs ?? Number.NEGATIVE_INFINITY;
      Object.assign(this.counts, counts);
      return;
    }
    if (line[0] === 'g') {
      const [, namespace, values, firstMs, isShort, incidents] = line as SavedGroup;
      Object.assign(this.#begin(groupName(namespace, values), firstMs), { isShort, incidents });
      return;
    }
    const [, namespace, values, text, firstMs, lastMs, isTold, first] = line as SavedTerm;
    const name = groupName(namespace, values);
    const group = this.#groups.get(name.key) ?? this.#begin(name, firstMs);
    group.size++;
    const match = first ?? { record: '', trace: '', timeMs: firstMs, shown: [] };
    this.#terms.set(termKey(name, text), { group, text, firstMs, lastMs, isTold, first: match });
  }
}

type SavedGroup = ['g', string, string[], number, boolean, Incident[]];
type SavedTerm = ['t', string, string[], string, number, number, boolean, Match | null];

function termKey({ key }: GroupName, text: string): string {
  return `${key}\u0001${text}`;
}
