import { extendIncident, findIncident, type Incident, startIncident } from './incident.ts';
import { mostDistinct } from './most-distinct.ts';
import type { QueryRule, ThresholdRule } from './rule.ts';
import {
  type Change,
  firstAfter,
  type GroupName,
  groupName,
  NO_CHANGES,
  NOTHING_SHOWN,
  type Raise,
  type Shown,
  type Sight,
  type SightMatch,
  type Tracker,
  type TrackerCounts,
  type TrackerLimits,
} from './tracker.ts';
import { addEntry, type Entry, type Group, insert, isSame, newGroup } from './window-group.ts';

/** Matches kept of one group, if its threshold does not need more: the window of a busy group is known by its end. */
const GROUP_ENTRIES_MAX = 2_000;
/** Groups whose time is over that are let go after each change: faster than they can come. */
const GROUPS_SWEPT = 2;

/**
 * Counts matches, or distinct values of a field, in windows that end at each match: (time - window, time]. In order or not,
 * within the lateness the same times come out as abnormal; `query` rules that suppress are those with a threshold of one.
 */
export class WindowTracker implements Tracker {
  readonly counts: TrackerCounts = { groups: 0, entries: 0, evicted: 0, late: 0 };
  readonly #rule: QueryRule | ThresholdRule;
  readonly #raise: Raise;
  readonly #limits: TrackerLimits;
  readonly #windowMs: number;
  readonly #wanted: number;
  readonly #isDistinct: boolean;
  readonly #hasFollower: boolean;
  readonly #keepMs: number;
  readonly #groupEntriesMax: number;
  /** In the order in which they were last touched. */
  readonly #groups = new Map<string, Group>();
  readonly #seen = new Map<string, Entry[]>();
  /** Records of the last batches that were let go since, with their batch: the last one comes again after a crash. */
  readonly #gone = new Map<string, number>();
  #batch = 0;
  readonly #unmeasured = new WeakMap<Incident, { group: Group; fromMs: number; toMs: number }>();
  #newestMs = Number.NEGATIVE_INFINITY;

  constructor(rule: QueryRule | ThresholdRule, limits: TrackerLimits, raise: Raise) {
    this.#rule = rule;
    this.#raise = raise;
    this.#limits = limits;
    this.#windowMs = rule.type === 'threshold' ? rule.windowMs : rule.suppressMs;
    this.#wanted = rule.type === 'threshold' ? rule.threshold.value : 1;
    this.#isDistinct = rule.type === 'threshold' && rule.threshold.distinct !== undefined;
    this.#hasFollower = rule.type === 'threshold' && rule.followedBy !== undefined;
    this.#keepMs = this.#windowMs + limits.latenessMs;
    this.#groupEntriesMax = Math.max(GROUP_ENTRIES_MAX, 2 * this.#wanted);
  }

  changesOf(sight: Sight, all: readonly SightMatch[], shown: Shown): readonly Change[] {
    const { record, timeMs, isRevision } = sight;
    const known = this.#seen.get(record);
    if (known === undefined && (all.length === 0 || this.#gone.has(record))) return NO_CHANGES;
    // Nobody could have been waiting for what follows.
    const isAsked = ({ kind, group }: SightMatch) => kind === 'm' || this.#groups.has(group.key);
    const matches = all.every(isAsked) ? all : all.filter(isAsked);
    if (known !== undefined && isSame(known, matches, sight)) return NO_CHANGES;
    const changes: Change[] = known === undefined ? [] : [{ kind: 'x', record }];
    for (const { kind, group, value } of matches) {
      if (known === undefined && this.#isTooLate(group.key, timeMs, isRevision)) this.counts.late++;
      else
        changes.push({
          kind,
          seen: sight,
          group,
          value,
          shown: this.#isGoingOn(group, timeMs) ? NOTHING_SHOWN : shown(),
        });
    }
    return changes;
  }

  /** Of a rule that tells of each match, what is shown matters for the one that begins an alert only. */
  #isGoingOn({ key }: GroupName, timeMs: number): boolean {
    if (this.#rule.type !== 'query') return false;
    const incidents = this.#groups.get(key)?.incidents;
    return incidents !== undefined && findIncident(incidents, timeMs, this.#rule.suppressMs) !== undefined;
  }

  /** Whether it was counted before cannot be told any more. */
  #isTooLate(key: string, timeMs: number, isRevision: boolean): boolean {
    const group = this.#groups.get(key);
    if (group === undefined) return isRevision && (this.counts.evicted > 0 || timeMs <= this.#newestMs - this.#keepMs);
    return timeMs <= group.newestMs - this.#keepMs || (isRevision && group.isShort);
  }

  apply(change: Change): void {
    if (change.kind === 'x') {
      this.#remove(change.record);
      return;
    }
    const { kind, seen, shown } = change;
    const { record, trace, timeMs } = seen;
    const group = this.#touch(change.group);
    const value = String(change.value);
    const entry: Entry = {
      record,
      trace,
      timeMs,
      shown,
      kind,
      group,
      value,
      isTold: false,
      isHot: false,
      batch: this.#batch,
    };
    const known = this.#seen.get(record);
    if (known === undefined) this.#seen.set(record, [entry]);
    else known.push(entry);
    this.counts.entries++;
    if (timeMs > group.newestMs) group.newestMs = timeMs;
    if (timeMs > this.#newestMs) this.#newestMs = timeMs;
    const list = kind === 'm' ? group.matches : group.followers;
    const at = insert(list, entry);
    this.#hold(entry, 1);
    if (kind === 't') this.#follow(group, entry);
    else this.#look(group, at, timeMs);
    this.#forget(group);
    this.#sweep();
    this.counts.groups = this.#groups.size;
  }

  /** Windows that end at this match or up to a window's length later have one more in them. */
  #look(group: Group, from: number, timeMs: number): void {
    for (let at = from; at < group.matches.length; at++) {
      const entry = group.matches[at];
      if (entry === undefined || entry.timeMs >= timeMs + this.#windowMs) break;
      if (entry.isHot) {
        // It came late: counted with what it explains.
        const late = group.matches[from];
        if (!entry.isTold || late === undefined) continue;
        if (late.isTold) this.#weigh(group, entry.timeMs);
        else this.#tell(group, entry.timeMs, late, entry.timeMs);
        continue;
      }
      if (!this.#isReached(group, at)) continue;
      entry.isHot = true;
      if (!this.#hasFollower) this.#tell(group, entry.timeMs, entry, entry.timeMs);
    }
    if (!this.#hasFollower) return;
    for (const follower of group.followers) if (!follower.isTold) this.#follow(group, follower);
  }

  #follow(group: Group, follower: Entry): void {
    for (let at = firstAfter(group.matches, follower.timeMs) - 1; at >= 0; at--) {
      const entry = group.matches[at];
      if (entry === undefined || entry.timeMs < follower.timeMs - this.#windowMs) return;
      if (!entry.isHot) continue;
      this.#tell(group, follower.timeMs, follower, entry.timeMs);
      return;
    }
  }

  #isReached(group: Group, at: number): boolean {
    const end = group.matches[at]?.timeMs ?? 0;
    if (!this.#isDistinct) {
      const first = group.matches[at - this.#wanted + 1];
      return first !== undefined && first.timeMs > end - this.#windowMs;
    }
    if (group.held.size < this.#wanted) return false;
    const earliest = group.matches[at - this.#wanted + 1];
    if (earliest === undefined || earliest.timeMs <= end - this.#windowMs) return false;
    return this.#hasEnough(group, at);
  }

  /** Are there so many distinct values in the window that ends at this match? */
  #hasEnough(group: Group, at: number): boolean {
    const { matches, enough } = group;
    const endMs = matches[at]?.timeMs ?? 0;
    if (enough !== undefined && enough.fromMs > endMs - this.#windowMs && enough.toMs <= endMs) return true;
    const values = new Set<string>();
    for (let index = at; index >= 0; index--) {
      const entry = matches[index];
      if (entry === undefined || entry.timeMs <= endMs - this.#windowMs) return false;
      values.add(entry.value);
      if (values.size < this.#wanted) continue;
      group.enough = { fromMs: entry.timeMs, toMs: endMs };
      return true;
    }
    return false;
  }

  /** The group was abnormal at `timeMs`: what lies in the window before `windowEndMs`, and up to it, is why. */
  #tell(group: Group, timeMs: number, by: Entry, windowEndMs: number): void {
    const { suppressMs } = this.#rule;
    let incident = findIncident(group.incidents, timeMs, suppressMs);
    if (incident === undefined) {
      const { namespace, values } = group.name;
      const { shown } = by;
      incident = startIncident({ rule: this.#rule, namespace, group: values, shown, timeMs, cellMs: suppressMs });
      group.incidents.push(incident);
    }
    extendIncident(incident, timeMs);
    for (const entry of this.#untold(group, timeMs, windowEndMs)) addEntry(incident, entry);
    addEntry(incident, by);
    if (this.#rule.type === 'threshold') {
      incident.threshold = this.#wanted;
      this.#weighFor(incident, group, windowEndMs);
    }
    if (group.isShort) incident.atLeast = true;
    this.#raise(incident);
  }

  /** What was told of the window that ends here has one more in it. */
  #weigh(group: Group, endMs: number): void {
    const incident = findIncident(group.incidents, endMs, this.#rule.suppressMs);
    if (incident === undefined || this.#rule.type !== 'threshold' || this.#hasFollower) return;
    this.#weighFor(incident, group, endMs);
    this.#raise(incident);
  }

  #weighFor(incident: Incident, group: Group, endMs: number): void {
    if (!this.#isDistinct) {
      incident.value = Math.max(incident.value, this.#countAt(group, endMs));
      return;
    }
    const { fromMs = endMs, toMs = endMs } = this.#unmeasured.get(incident) ?? {};
    this.#unmeasured.set(incident, { group, fromMs: Math.min(fromMs, endMs), toMs: Math.max(toMs, endMs) });
  }

  /** What lies in the window and up to the time and is not counted yet, oldest first. */
  #untold(group: Group, timeMs: number, windowEndMs: number): Entry[] {
    const found: Entry[] = [];
    for (let at = firstAfter(group.matches, timeMs) - 1; at >= 0; at--) {
      const entry = group.matches[at];
      // Whatever lies in the window before one that was told as abnormal was told with it.
      if (entry === undefined || entry.timeMs <= windowEndMs - this.#windowMs || (entry.isHot && entry.isTold)) break;
      if (!entry.isTold) found.push(entry);
    }
    return found.reverse();
  }

  #countAt(group: Group, endMs: number): number {
    return firstAfter(group.matches, endMs) - firstAfter(group.matches, endMs - this.#windowMs);
  }

  /** Distinct values are counted when somebody is told, not with each match. */
  measure(incident: Incident): void {
    const at = this.#unmeasured.get(incident);
    if (at === undefined) return;
    this.#unmeasured.delete(incident);
    incident.value = Math.max(incident.value, this.#wanted, mostDistinct(at.group.matches, this.#windowMs, at));
  }

  #touch(name: GroupName): Group {
    const group = this.#groups.get(name.key) ?? newGroup(name);
    this.#groups.delete(name.key);
    this.#groups.set(name.key, group);
    return group;
  }

  #hold({ kind, group: { held }, value }: Entry, by: 1 | -1): void {
    if (!this.#isDistinct || kind === 't') return;
    const count = (held.get(value) ?? 0) + by;
    if (count > 0) held.set(value, count);
    else held.delete(value);
  }

  #remove(record: string): void {
    for (const entry of this.#seen.get(record) ?? []) {
      const list = entry.kind === 'm' ? entry.group.matches : entry.group.followers;
      const at = list.indexOf(entry);
      if (at >= 0) list.splice(at, 1);
      entry.group.enough = undefined;
      this.#hold(entry, -1);
      this.counts.entries--;
    }
    this.#seen.delete(record);
  }

  #drop(entries: readonly Entry[]): void {
    for (const entry of entries) {
      this.#hold(entry, -1);
      if (entry.batch >= this.#batch - 1) this.#gone.set(entry.record, entry.batch);
      const rest = (this.#seen.get(entry.record) ?? []).filter((other) => other !== entry);
      if (rest.length === 0) this.#seen.delete(entry.record);
      else this.#seen.set(entry.record, rest);
    }
    this.counts.entries -= entries.length;
  }

  #forget(group: Group): void {
    const oldest = group.newestMs - this.#keepMs;
    for (const list of [group.matches, group.followers]) {
      // Many at a time: to take the first of a long list costs as much.
      const few = list.length >> 3;
      const expired = (list[few]?.timeMs ?? oldest + 1) <= oldest ? firstAfter(list, oldest) : 0;
      const over = list.length > this.#groupEntriesMax * 1.125 ? list.length - this.#groupEntriesMax : 0;
      if (over > expired) {
        this.counts.evicted += over - expired;
        group.isShort = true;
        group.enough = undefined;
      }
      if (Math.max(over, expired) > 0) this.#drop(list.splice(0, Math.max(over, expired)));
    }
    const { suppressMs } = this.#rule;
    if (group.incidents.length > 0) {
      group.incidents = group.incidents.filter(({ lastMs }) => lastMs + suppressMs > oldest);
    }
  }

  #sweep(): void {
    const oldest = this.#newestMs - this.#keepMs - this.#rule.suppressMs;
    let looked = 0;
    for (const group of this.#groups.values()) {
      const isOver = this.#groups.size > this.#limits.groupsMax || this.counts.entries > this.#limits.entriesMax;
      if (!isOver && (group.newestMs > oldest || looked >= GROUPS_SWEPT)) return;
      // The one that was touched right now is the last.
      if (this.#groups.size === 1) return;
      looked++;
      if (group.newestMs > oldest) this.counts.evicted++;
      this.#groups.delete(group.name.key);
      this.#drop([...group.matches, ...group.followers]);
    }
  }

  endBatch(): void {
    this.#batch++;
    for (const [record, batch] of this.#gone) if (batch < this.#batch - 1) this.#gone.delete(record);
  }

  *snapshot(): Iterable<unknown> {
    const { evicted, late } = this.counts;
    yield { newestMs: finite(this.#newestMs), evicted, late, batch: this.#batch, gone: [...this.#gone] };
    for (const { name, matches, followers, newestMs, isShort, incidents } of this.#groups.values()) {
      const { namespace, values } = name;
      const entries = [...matches, ...followers].map((entry) => {
        const { kind, record, trace, timeMs, value, isTold, isHot, shown, batch } = entry;
        return [kind, record, trace, timeMs, value, isTold, isHot, shown, batch];
      });
      yield [namespace, values, newestMs, isShort, entries, incidents];
    }
  }

  restore(line: unknown): void {
    if (!Array.isArray(line)) {
      const { newestMs, evicted, late, batch, gone } = line as SavedHead;
      this.#newestMs = newestMs ?? Number.NEGATIVE_INFINITY;
      this.#batch = batch;
      for (const [record, of] of gone) this.#gone.set(record, of);
      Object.assign(this.counts, { evicted, late });
      return;
    }
    const [namespace, values, newestMs, isShort, entries, incidents] = line as SavedGroup;
    const group = Object.assign(this.#touch(groupName(namespace, values)), { newestMs, isShort, incidents });
    for (const [kind, record, trace, timeMs, value, isTold, isHot, shown, batch] of entries) {
      const entry: Entry = { kind, record, trace, timeMs, value, isTold, isHot, shown, batch, group };
      (kind === 'm' ? group.matches : group.followers).push(entry);
      this.#hold(entry, 1);
      this.#seen.set(record, [...(this.#seen.get(record) ?? []), entry]);
      this.counts.entries++;
    }
    this.counts.groups = this.#groups.size;
  }
}

interface SavedHead {
  readonly newestMs: number | null;
  readonly evicted: number;
  readonly late: number;
  readonly batch: number;
  readonly gone: readonly [string, number][];
}
type SavedEntry = ['m' | 't', string, string, number, string, boolean, boolean, string[], number];
type SavedGroup = [string, string[], number, boolean, SavedEntry[], Incident[]];

/** JSON has no infinity. */
function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
