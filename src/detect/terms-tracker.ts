import { addEvidence, extendIncident, findIncident, type Incident, type Match, startIncident } from './incident.ts';
import type { NewTermsRule } from './rule.ts';
import {
  type Change,
  groupKey,
  matchOf,
  type Raise,
  type Sight,
  type Tracker,
  type TrackerCounts,
  type TrackerLimits,
} from './tracker.ts';

/** A value that is seen again is noted again after this part of the history: not each time. */
const NOTED_PARTS = 64;

interface Group {
  readonly namespace: string;
  readonly values: readonly string[];
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
  #newestMs = Number.NEGATIVE_INFINITY;

  constructor(rule: NewTermsRule, limits: TrackerLimits, raise: Raise) {
    this.#rule = rule;
    this.#raise = raise;
    this.#limits = limits;
  }

  changesOf({ record, trace, namespace, timeMs, matches }: Sight): Change[] {
    const { historyMs } = this.#rule;
    const changes: Change[] = [];
    for (const { group, value, shown } of matches) {
      if (timeMs < this.#newestMs - historyMs - this.#limits.latenessMs) {
        this.counts.late++;
        continue;
      }
      const term = this.#terms.get(termKey(groupKey(namespace, group), String(value)));
      const isKnown = term !== undefined && timeMs >= term.firstMs && timeMs <= term.lastMs + historyMs / NOTED_PARTS;
      if (!isKnown) changes.push(['m', namespace, group, record, trace, timeMs, value, shown]);
    }
    return changes;
  }

  apply(change: Change): void {
    // Nobody unlearns a value.
    if (change[0] === 'x') return;
    const [, namespace, values, , , timeMs, value] = change;
    const key = groupKey(namespace, values);
    const text = String(value);
    this.#newestMs = Math.max(this.#newestMs, timeMs);
    const known = this.#terms.get(termKey(key, text));
    const group = this.#groups.get(key) ?? this.#begin(key, namespace, values, timeMs);
    const isNew = known === undefined || timeMs > known.lastMs + this.#rule.historyMs;
    if (known !== undefined) this.#terms.delete(termKey(key, text));
    else group.size++;
    const term: Term = isNew
      ? { group, text, firstMs: timeMs, lastMs: timeMs, isTold: false, first: matchOf(change) }
      : Object.assign(known, { lastMs: Math.max(known.lastMs, timeMs) });
    this.#terms.set(termKey(key, text), term);
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

  #begin(key: string, namespace: string, values: readonly string[], firstMs: number): Group {
    const group: Group = { namespace, values, firstMs, size: 0, isShort: false, incidents: [] };
    this.#groups.set(key, group);
    return group;
  }

  #look(term: Term): void {
    const { group, firstMs, text, first } = term;
    const { suppressMs, warmUpMs, historyMs } = this.#rule;
    if (term.isTold || firstMs <= group.firstMs || firstMs - group.firstMs < warmUpMs) return;
    term.isTold = true;
    const start = { rule: this.#rule, namespace: group.namespace, group: group.values, term: text, shown: first.shown };
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
      if (group.size === 0) this.#groups.delete(groupKey(group.namespace, group.values));
    }
  }

  *snapshot(): Iterable<unknown> {
    yield { newestMs: Number.isFinite(this.#newestMs) ? this.#newestMs : null, ...this.counts };
    for (const { namespace, values, firstMs, isShort, incidents } of this.#groups.values()) {
      yield ['g', namespace, values, firstMs, isShort, incidents];
    }
    for (const { group, text, firstMs, lastMs, isTold, first } of this.#terms.values()) {
      // Who showed it first matters until it is told.
      yield ['t', group.namespace, group.values, text, firstMs, lastMs, isTold, isTold ? null : first];
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
      Object.assign(this.#begin(groupKey(namespace, values), namespace, values, firstMs), { isShort, incidents });
      return;
    }
    const [, namespace, values, text, firstMs, lastMs, isTold, first] = line as SavedTerm;
    const key = groupKey(namespace, values);
    const group = this.#groups.get(key) ?? this.#begin(key, namespace, values, firstMs);
    group.size++;
    const match = first ?? { record: '', trace: '', timeMs: firstMs, shown: [] };
    this.#terms.set(termKey(key, text), { group, text, firstMs, lastMs, isTold, first: match });
  }
}

type SavedGroup = ['g', string, string[], number, boolean, Incident[]];
type SavedTerm = ['t', string, string[], string, number, number, boolean, Match | null];

function termKey(group: string, text: string): string {
  return `${group}\u0001${text}`;
}
