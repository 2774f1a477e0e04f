import { addEvidence, extendIncident, findIncident, type Incident, type Match, startIncident } from './incident.ts';
import type { BaselineRule } from './rule.ts';
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
  readonly namespace: string;
  readonly values: readonly string[];
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

interface Counted {
  readonly group: Group;
  readonly interval: number;
  readonly value: number;
}

/**
 * Compares rate, share of failures or median latency of a group's present interval with its own past at this hour of the week:
 * median and deviation. What is compared with is fixed when the interval begins, so that each access is judged at once.
 */
export class BaselineTracker implements Tracker {
  readonly counts: TrackerCounts = { groups: 0, entries: 0, evicted: 0, late: 0 };
  readonly #rule: BaselineRule;
  readonly #raise: Raise;
  readonly #limits: TrackerLimits;
  readonly #groups = new Map<string, Group>();
  readonly #counted = new Map<string, Counted>();

  constructor(rule: BaselineRule, limits: TrackerLimits, raise: Raise) {
    this.#rule = rule;
    this.#raise = raise;
    this.#limits = { ...limits, groupsMax: Math.min(limits.groupsMax, BASELINE_GROUPS_MAX) };
  }

  changesOf({ record, trace, namespace, timeMs, isRevision, matches }: Sight): Change[] {
    const known = this.#counted.get(record);
    // Only one group can be told again of a record.
    const [match] = matches;
    if (known === undefined) {
      if (match === undefined) return [];
      const group = this.#groups.get(groupKey(namespace, match.group));
      const isClosed = group?.closed !== undefined && this.#numberOf(timeMs) <= group.closed;
      if (isClosed || isRevision) {
        this.counts.late++;
        return [];
      }
    } else if (match !== undefined && this.#isSame(known, namespace, match, timeMs)) return [];
    const changes: Change[] = known === undefined ? [] : [['x', record]];
    if (match !== undefined) {
      changes.push(['m', namespace, match.group, record, trace, timeMs, match.value, match.shown]);
    }
    return changes;
  }

  #isSame({ group, interval, value }: Counted, namespace: string, match: Sight['matches'][number], timeMs: number) {
    const isGroup = groupKey(group.namespace, group.values) === groupKey(namespace, match.group);
    return isGroup && interval === this.#numberOf(timeMs) && value === Number(match.value);
  }

  apply(change: Change): void {
    if (change[0] === 'x') {
      this.#remove(change[1]);
      return;
    }
    const [, namespace, values, record, , timeMs, value] = change;
    const group = this.#touch(namespace, values, timeMs);
    group.firstMs = Math.min(group.firstMs, timeMs);
    group.newestMs = Math.max(group.newestMs, timeMs);
    this.#close(group);
    const number = this.#numberOf(timeMs);
    const interval = group.open.get(number) ?? this.#open(group, number);
    this.#count(interval, Number(value), 1);
    this.#counted.set(record, { group, interval: number, value: Number(value) });
    if (this.#isOver(interval, Number(value))) {
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
      const { namespace, values } = group;
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

  #touch(namespace: string, values: readonly string[], timeMs: number): Group {
    const key = groupKey(namespace, values);
    const group = this.#groups.get(key) ?? {
      ...{ namespace, values, firstMs: timeMs, newestMs: timeMs, closed: undefined },
      ...{ open: new Map(), hours: new Map(), recent: [], incidents: [] },
    };
    this.#groups.delete(key);
    this.#groups.set(key, group);
    return group;
  }

  #remove(record: string): void {
    const counted = this.#counted.get(record);
    const interval = counted?.group.open.get(counted.interval);
    if (counted !== undefined && interval !== undefined) {
      this.#count(interval, counted.value, -1);
      interval.evidence = interval.evidence.filter((match) => match.record !== record);
    }
    this.#counted.delete(record);
  }

  #shrink(): void {
    for (const [key, group] of this.#groups) {
      if (this.#groups.size <= this.#limits.groupsMax) break;
      this.#groups.delete(key);
      group.open.clear();
      this.counts.evicted++;
    }
    // Many at a time: a map of which always the first entry goes is slow.
    if (this.#counted.size > RECORDS_MAX + RECORDS_MAX / 4) {
      for (const record of this.#counted.keys()) {
        if (this.#counted.size <= RECORDS_MAX) break;
        this.#counted.delete(record);
      }
    }
    this.counts.groups = this.#groups.size;
    this.counts.entries = this.#counted.size;
  }

  *snapshot(): Iterable<unknown> {
    yield { ...this.counts };
    for (const group of this.#groups.values()) {
      const { namespace, values, firstMs, newestMs, closed, open, hours, recent, incidents } = group;
      const intervals = [...open].map(([number, { classes, ...rest }]) => [number, { ...rest, classes: [...classes] }]);
      yield ['g', namespace, values, firstMs, newestMs, closed ?? null, intervals, [...hours], recent, incidents];
    }
    for (const [record, { group, interval, value }] of this.#counted) {
      yield ['c', record, group.namespace, group.values, interval, value];
    }
  }

  restore(line: unknown): void {
    if (!Array.isArray(line)) {
      Object.assign(this.counts, line);
      return;
    }
    if (line[0] === 'g') {
      const [, namespace, values, firstMs, newestMs, closed, open, hours, recent, incidents] = line as SavedGroup;
      const intervals = open.map(([number, { classes, ...rest }]): [number, Interval] => {
        return [number, { ...rest, limit: rest.limit, classes: new Map(classes) }];
      });
      this.#groups.set(groupKey(namespace, values), {
        ...{ namespace, values, firstMs, newestMs, closed: closed ?? undefined },
        ...{ open: new Map(intervals), hours: new Map(hours), recent, incidents },
      });
      return;
    }
    const [, record, namespace, values, interval, value] = line as SavedCount;
    const group = this.#groups.get(groupKey(namespace, values));
    if (group !== undefined) this.#counted.set(record, { group, interval, value });
  }
}

type SavedInterval = Omit<Interval, 'classes'> & { classes: [number, number][] };
type SavedGroup = [
  ...['g', string, string[], number, number, number | null],
  ...[[number, SavedInterval][], [number, number[]][], number[], Incident[]],
];
type SavedCount = ['c', string, string, string[], number, number];

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
