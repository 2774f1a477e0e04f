import { type Counted as CountedOf, CountedRecords } from './counted-records.ts';
import { addEvidence, extendIncident, findIncident, type Incident, type Match, startIncident } from './incident.ts';
import type { BaselineRule } from './rule.ts';
import {
  type Change,
  type GroupName,
  groupName,
  matchOf,
  NO_CHANGES,
  NOTHING_SHOWN,
  OneChange,
  type Raise,
  type Shown,
  type Sight,
  type SightMatch,
  type Tracker,
  type TrackerCounts,
  type TrackerLimits,
} from './tracker.ts';

/** Intervals remembered of an hour of the week, and of all hours together for as long as that one has too few. */
const HOUR_SAMPLES_MAX = 12;
const RECENT_SAMPLES_MAX = 200;
const SAMPLES_MIN = 6;
const HOURS_OF_WEEK = 168;
const HOUR_MS = 3_600_000;
/** The epoch began on a Thursday; weeks begin on Monday. */
const EPOCH_HOURS = 3 * 24;

/** Each group has up to two thousand numbers: more groups than that are no baseline but a flood. */
const BASELINE_GROUPS_MAX = 1000;
/** Records remembered so that a revision of theirs is not counted twice. */
const RECORDS_MAX = 20_000;
/** Of these, as many are on one line of a snapshot. */
const COUNTED_A_LINE = 500;
/** Records of an interval that are named as evidence, at most. */
const EVIDENCE_MAX = 100;

/** The median of absolute deviations times this is the standard deviation of a normal distribution. */
const MAD_TO_DEVIATION = 1.4826;
/** Deviations are at least this much of the median, so that what never varies is not abnormal for a trifle. */
const DEVIATION_SHARE_MIN = 0.1;
/** A share of failures deviates by at least a fiftieth. */
const FAILURE_SHARE_MIN = 0.02;

/** Latencies are counted in classes that grow by 4 %. */
const CLASS_GROWTH = Math.log(1.04);

interface Interval {
  count: number;
  /** Failures, or accesses slower than the limit. */
  over: number;
  /** Above this the interval is abnormal; undefined while there is too little to compare with. */
  readonly limit: number | undefined;
  isTold: boolean;
  /** Class of latency → how many. */
  readonly classes: Map<number, number>;
  evidence: Match[];
}

interface Group {
  readonly name: GroupName;
  firstMs: number;
  newestMs: number;
  /** Intervals that are not closed yet, by number. */
  readonly open: Map<number, Interval>;
  /** The newest one that is closed. */
  closed: number | undefined;
  readonly hours: Map<number, number[]>;
  recent: number[];
  incidents: Incident[];
}

type Counted = CountedOf<Group>;

/**
 * Compares rate, share of failures or median latency of a group's present interval with its own past at this hour of the week:
 * median and deviation. What is compared with is fixed when the interval begins, so that each access is judged at once.
 */
export class BaselineTracker implements Tracker {
  readonly counts: TrackerCounts = { groups: 0, entries: 0, evicted: 0, late: 0 };
  readonly #rule: BaselineRule;
  readonly #raise: Raise;
  readonly #limits: TrackerLimits;
  /** In the order in which they were last touched. */
  readonly #groups = new Map<string, Group>();
  #newest: Group | undefined;
  readonly #counted = new CountedRecords<Group>(RECORDS_MAX);
  readonly #one = new OneChange();
  /** Groups as the lines of a snapshot name them. */
  readonly #restored: Group[] = [];

  constructor(rule: BaselineRule, limits: TrackerLimits, raise: Raise) {
    this.#rule = rule;
    this.#raise = raise;
    this.#limits = { ...limits, groupsMax: Math.min(limits.groupsMax, BASELINE_GROUPS_MAX) };
  }

  changesOf(sight: Sight, matches: readonly SightMatch[], shown: Shown): readonly Change[] {
    const { record, timeMs, isRevision } = sight;
    const slot = this.#counted.find(record);
    const known = slot < 0 ? undefined : this.#counted.at(slot);
    // Only one group can be told again of a record.
    const [match] = matches;
    const group = match === undefined ? undefined : this.#groups.get(match.group.key);
    const number = this.#numberOf(timeMs);
    if (known === undefined) {
      if (match === undefined) return NO_CHANGES;
      const isClosed = group?.closed !== undefined && number <= group.closed;
      if (isClosed || isRevision) {
        this.counts.late++;
        return NO_CHANGES;
      }
    } else if (match !== undefined && isSame(known, match, number)) return NO_CHANGES;
    const isGone: readonly Change[] = known === undefined ? NO_CHANGES : [{ kind: 'x', record }];
    if (match === undefined) return isGone;
    // What is shown is that of evidence. An interval that is not open yet may make evidence of anything.
    const interval = group?.open.get(number);
    const isEvidence = interval === undefined || this.#isOver(interval, Number(match.value));
    const changes = this.#one.of(sight, match, isEvidence ? shown() : NOTHING_SHOWN);
    return known === undefined ? changes : [...isGone, ...changes];
  }

  apply(change: Change): void {
    if (change.kind === 'x') {
      this.#remove(change.record);
      return;
    }
    const { record, timeMs } = change.seen;
    const value = Number(change.value);
    const group = this.#touch(change.group, timeMs);
    if (timeMs < group.firstMs) group.firstMs = timeMs;
    if (timeMs > group.newestMs) group.newestMs = timeMs;
    this.#close(group);
    const number = this.#numberOf(timeMs);
    const interval = group.open.get(number) ?? this.#open(group, number);
    this.#count(interval, value, 1);
    this.#counted.set(record, group, number, value);
    if (this.#isOver(interval, value)) {
      interval.evidence.push(matchOf(change));
      if (interval.evidence.length > EVIDENCE_MAX) interval.evidence.shift();
    }
    this.#look(group, number, interval);
    this.#shrink();
  }

  #numberOf(timeMs: number): number {
    return Math.floor(timeMs / this.#rule.intervalMs);
  }

  #isOver({ limit }: Interval, value: number): boolean {
    if (this.#rule.of === 'rate') return true;
    return this.#rule.of === 'failures' ? value > 0 : limit !== undefined && value > limit;
  }

  #count(interval: Interval, value: number, by: 1 | -1): void {
    interval.count += by;
    if (this.#isOver(interval, value)) interval.over += by;
    if (this.#rule.of !== 'latency') return;
    const name = Math.round(Math.log(Math.max(value, 1)) / CLASS_GROWTH);
    interval.classes.set(name, (interval.classes.get(name) ?? 0) + by);
  }

  #look(group: Group, number: number, interval: Interval): void {
    const { of, volumeMin, warmUpMs, intervalMs, suppressMs } = this.#rule;
    const { count, over, limit, evidence } = interval;
    const startMs = number * intervalMs;
    if (limit === undefined || count < volumeMin || startMs - group.firstMs < warmUpMs) return;
    const isAbnormal = of === 'rate' ? count > limit : of === 'failures' ? over / count > limit : over > count / 2;
    const last = evidence.at(-1);
    if (!isAbnormal || last === undefined) return;
    let incident = findIncident(group.incidents, startMs, suppressMs);
    if (incident === undefined) {
      const { namespace, values } = group.name;
      const cellMs = Math.max(suppressMs, intervalMs);
      incident = startIncident({
        rule: this.#rule,
        namespace,
        group: values,
        shown: last.shown,
        timeMs: startMs,
        cellMs,
      });
      const oldest = startMs - suppressMs - this.#limits.latenessMs - intervalMs;
      group.incidents = [...group.incidents.filter(({ lastMs }) => lastMs >= oldest), incident];
    }
    if (!interval.isTold) extendIncident(incident, startMs);
    for (const match of interval.isTold ? [last] : evidence) addEvidence(incident, match);
    interval.isTold = true;
    const value = measure(this.#rule, interval);
    if (value >= incident.value) Object.assign(incident, { value, threshold: limit });
    this.#raise(incident);
  }

  #open(group: Group, number: number): Interval {
    const hour = group.hours.get(hourOf(number * this.#rule.intervalMs)) ?? [];
    const samples = hour.length >= SAMPLES_MIN ? hour : group.recent;
    const limit = samples.length >= SAMPLES_MIN ? limitOf(samples, this.#rule) : undefined;
    const interval: Interval = { count: 0, over: 0, limit, isTold: false, classes: new Map(), evidence: [] };
    group.open.set(number, interval);
    return interval;
  }

  /** Intervals that are over, and late ones of which are not waited for any more, become part of the past. */
  #close(group: Group): void {
    const last = this.#numberOf(group.newestMs - this.#limits.latenessMs) - 1;
    if (group.closed !== undefined && last <= group.closed) return;
    const first = group.closed === undefined ? Math.min(...group.open.keys(), last + 1) : group.closed + 1;
    // Nothing is known of longer gaps than there are samples.
    for (let number = Math.max(first, last - RECENT_SAMPLES_MAX); number <= last; number++) {
      const interval = group.open.get(number);
      group.open.delete(number);
      if (interval === undefined || interval.count <= 0) {
        if (this.#rule.of === 'rate') this.#sample(group, number, 0);
      } else this.#sample(group, number, measure(this.#rule, interval));
    }
    for (const number of group.open.keys()) if (number <= last) group.open.delete(number);
    group.closed = last;
  }

  #sample(group: Group, number: number, value: number): void {
    const rounded = Number(value.toPrecision(4));
    const hour = hourOf(number * this.#rule.intervalMs);
    const samples = group.hours.get(hour) ?? [];
    samples.push(rounded);
    if (samples.length > HOUR_SAMPLES_MAX) samples.shift();
    group.hours.set(hour, samples);
    group.recent.push(rounded);
    if (group.recent.length > RECENT_SAMPLES_MAX) group.recent.shift();
  }

  #touch(name: GroupName, timeMs: number): Group {
    if (this.#newest?.name.key === name.key) return this.#newest;
    const group = this.#groups.get(name.key) ?? groupOf(name, timeMs);
    this.#groups.delete(name.key);
    this.#groups.set(name.key, group);
    this.#newest = group;
    return group;
  }

  #remove(record: string): void {
    const slot = this.#counted.find(record);
    if (slot < 0) return;
    const counted = this.#counted.at(slot);
    const interval = counted.group.open.get(counted.interval);
    if (interval !== undefined) {
      this.#count(interval, counted.value, -1);
      interval.evidence = interval.evidence.filter((match) => match.record !== record);
    }
    this.#counted.remove(slot);
  }

  #shrink(): void {
    if (this.#groups.size > this.#limits.groupsMax) {
      for (const [key, group] of this.#groups) {
        if (this.#groups.size <= this.#limits.groupsMax) break;
        this.#groups.delete(key);
        group.open.clear();
        this.counts.evicted++;
      }
    }
    this.counts.groups = this.#groups.size;
    this.counts.entries = this.#counted.size;
  }

  *snapshot(): Iterable<unknown> {
    yield { ...this.counts };
    const numbers = new Map<Group, number>();
    for (const group of this.#groups.values()) {
      numbers.set(group, numbers.size);
      const { name, firstMs, newestMs, closed, open, hours, recent, incidents } = group;
      const { namespace, values } = name;
      const intervals = [...open].map(([number, { classes, ...rest }]) => [number, { ...rest, classes: [...classes] }]);
      yield ['g', namespace, values, firstMs, newestMs, closed ?? null, intervals, [...hours], recent, incidents];
    }
    let rows: SavedCounts = [];
    for (let slot = this.#counted.after(); slot >= 0; slot = this.#counted.after(slot)) {
      const { record, group, interval, value } = this.#counted.at(slot);
      const number = numbers.get(group) ?? numbers.size;
      if (number === numbers.size) {
        // It had to go, but that the record counted is known still.
        numbers.set(group, number);
        yield ['o', group.name.namespace, group.name.values];
      }
      rows.push([record, number, interval, value]);
      if (rows.length < COUNTED_A_LINE) continue;
      yield ['r', rows];
      rows = [];
    }
    if (rows.length > 0) yield ['r', rows];
  }

  restore(line: unknown): void {
    if (!Array.isArray(line)) {
      Object.assign(this.counts, line);
      return;
    }
    if (line[0] === 'r') {
      for (const [record, number, interval, value] of (line as ['r', SavedCounts])[1]) {
        const group = this.#restored[number];
        if (group !== undefined) this.#counted.set(record, group, interval, value);
      }
      return;
    }
    const [kind, namespace, values, ...rest] = line as SavedGroup;
    const group = groupOf(groupName(namespace, values), 0);
    this.#restored.push(group);
    if (kind !== 'g') return;
    const [firstMs, newestMs, closed, open, hours, recent, incidents] = rest;
    for (const [number, { classes, ...saved }] of open) {
      group.open.set(number, { ...saved, limit: saved.limit, classes: new Map(classes) });
    }
    for (const [hour, samples] of hours) group.hours.set(hour, samples);
    Object.assign(group, { firstMs, newestMs, closed: closed ?? undefined, recent, incidents });
    this.#groups.set(group.name.key, group);
    this.#newest = undefined;
  }
}

function groupOf(name: GroupName, timeMs: number): Group {
  return {
    ...{ name, firstMs: timeMs, newestMs: timeMs, closed: undefined },
    ...{ open: new Map(), hours: new Map(), recent: [], incidents: [] },
  };
}

function isSame({ group, interval, value }: Counted, match: SightMatch, number: number): boolean {
  return group.name.key === match.group.key && interval === number && value === Number(match.value);
}

type SavedInterval = Omit<Interval, 'classes'> & { classes: [number, number][] };
type SavedGroup = [
  ...['g' | 'o', string, string[], number, number, number | null],
  ...[[number, SavedInterval][], [number, number[]][], number[], Incident[]],
];
type SavedCounts = [record: string, group: number, interval: number, value: number][];

function hourOf(timeMs: number): number {
  return (Math.floor(timeMs / HOUR_MS) + EPOCH_HOURS) % HOURS_OF_WEEK;
}

function measure({ of }: BaselineRule, { count, over, classes }: Interval): number {
  if (of === 'rate') return count;
  if (of === 'failures') return over / count;
  let below = 0;
  for (const [name, some] of [...classes].sort((a, b) => a[0] - b[0])) {
    below += some;
    if (below >= count / 2) return Math.exp(name * CLASS_GROWTH);
  }
  return 0;
}

function limitOf(samples: readonly number[], { of, deviations }: BaselineRule): number {
  const middle = median(samples);
  const spread = MAD_TO_DEVIATION * median(samples.map((sample) => Math.abs(sample - middle)));
  // Counts vary by their square root even when nothing changes.
  const least = of === 'rate' ? Math.max(Math.sqrt(middle), 1) : of === 'failures' ? FAILURE_SHARE_MIN : 0;
  return middle + deviations * Math.max(spread, least, DEVIATION_SHARE_MIN * middle);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  const upper = sorted[half] ?? 0;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[half - 1] ?? upper)) / 2;
}
