import type { Alert, RuleStatus } from '../core/alert.ts';
import { describeError } from '../core/errors.ts';
import { type Field, findField } from '../core/fields.ts';
import { BaselineTracker } from './baseline-tracker.ts';
import { compileHours } from './hours.ts';
import { addEvidence, alertOf, type Incident, startIncident } from './incident.ts';
import { compileField, compileMatch, Reading } from './predicate.ts';
import { type Rule, shownFields } from './rule.ts';
import { TermsTracker } from './terms-tracker.ts';
import type { Change, Raise, Sight, SightMatch, Tracker, TrackerLimits } from './tracker.ts';
import { WindowTracker } from './window-tracker.ts';

/** A record, or what the pipeline tells of itself, on its way past the rules. */
export interface Subject {
  readonly id: string;
  readonly trace: string;
  readonly namespace: string;
  /** `@timestamp`, epoch milliseconds with a fraction. */
  readonly timeMs: number;
  /** When it was made here: a time far after it is a wrong clock's. */
  readonly ingestedMs: number;
  readonly isRevision: boolean;
  readonly source: 'records' | 'pipeline';
  readonly document: object;
}

/** Changes of one batch: rule id → in their order. Rules know nothing of each other. */
export type BatchChanges = readonly (readonly [rule: string, changes: readonly Change[]])[];

export interface EngineOptions {
  readonly limits: TrackerLimits;
  /** Told once for a rule that threw; it is off from then on. */
  readonly onFailure: (rule: Rule, reason: string) => void;
}

/** Groups that one record counts for: a record has few roles, and nobody shall multiply by sending many. */
const GROUPS_OF_RECORD_MAX = 16;
/** Longest value of a field that rules tell apart, characters. */
const VALUE_CHARS_MAX = 512;

interface Running {
  readonly rule: Rule;
  readonly fits: (reading: Reading, timeMs: number) => boolean;
  readonly follows: ((reading: Reading) => boolean) | undefined;
  readonly groups: (reading: Reading) => readonly (readonly string[])[];
  readonly values: (reading: Reading) => readonly (string | number)[];
  readonly shown: (reading: Reading) => readonly string[];
  /** Undefined: each match is an alert of its own, and nothing is remembered. */
  readonly tracker: Tracker | undefined;
  readonly raise: Raise;
  changes: Change[];
  matches: number;
  alerts: number;
  failure: string | undefined;
}

/**
 * Runs rules over records in the order in which they are stored. What state depends on comes out as changes, which are kept
 * durably; from these, or from a snapshot and the later ones, another engine gets the same state.
 */
export class Engine {
  readonly #options: EngineOptions;
  readonly #reading = new Reading();
  #running: readonly Running[] = [];
  readonly #raised = new Map<string, { rule: Rule; tracker: Tracker | undefined; incident: Incident }>();

  constructor(rules: readonly Rule[], options: EngineOptions) {
    this.#options = options;
    this.setRules(rules);
  }

  /** Rules of which nothing changed that their state depends on keep it. */
  setRules(rules: readonly Rule[]): void {
    const known = new Map(this.#running.map((running) => [running.rule.id, running]));
    this.#running = rules.map((rule) => {
      const before = known.get(rule.id);
      if (before === undefined || before.rule.fingerprint !== rule.fingerprint) return this.#start(rule);
      const started = this.#start(rule);
      if (before.failure !== undefined || before.tracker === undefined || started.tracker === undefined) return started;
      for (const line of before.tracker.snapshot()) started.tracker.restore(structuredClone(line));
      return Object.assign(started, { matches: before.matches, alerts: before.alerts });
    });
  }

  get rules(): readonly Rule[] {
    return this.#running.map(({ rule }) => rule);
  }

  observe(subject: Subject): void {
    this.#reading.start(subject.document);
    for (const running of this.#running) {
      if (running.rule.source !== subject.source || !running.rule.enabled || running.failure !== undefined) continue;
      try {
        this.#see(running, subject);
      } catch (thrown) {
        this.#fail(running, thrown);
      }
    }
  }

  #fail(running: Running, thrown: unknown): void {
    running.failure = describeError(thrown);
    running.changes = [];
    this.#options.onFailure(running.rule, running.failure);
  }

  #see(running: Running, subject: Subject): void {
    const { tracker, rule } = running;
    const reading = this.#reading;
    const { id, trace, namespace, isRevision } = subject;
    const isClamped = subject.timeMs > subject.ingestedMs + this.#options.limits.latenessMs;
    const timeMs = isClamped ? subject.ingestedMs : subject.timeMs;
    const matches: SightMatch[] = [];
    if (running.fits(reading, timeMs)) matches.push(...this.#matchesOf(running, 'm'));
    if (running.follows?.(reading)) matches.push(...this.#matchesOf(running, 't'));
    running.matches += matches.length > 0 ? 1 : 0;
    if (tracker === undefined) {
      for (const { group, shown } of matches) {
        const start = { rule, namespace, group, shown, timeMs, cellMs: 0, cell: id };
        const incident = startIncident(start);
        addEvidence(incident, { record: id, trace, timeMs, shown });
        running.raise(incident);
      }
      return;
    }
    // Most records match nothing, and never did.
    if (matches.length === 0 && !isRevision) return;
    const sight: Sight = { record: id, trace, namespace, timeMs, isRevision, isClamped, matches };
    for (const change of tracker.changesOf(sight)) {
      tracker.apply(change);
      running.changes.push(change);
    }
  }

  #matchesOf({ groups, values, shown }: Running, kind: 'm' | 't'): SightMatch[] {
    const reading = this.#reading;
    const all: SightMatch[] = [];
    for (const group of groups(reading)) {
      if (kind === 't') all.push({ kind, group, value: 0, shown: shown(reading) });
      else for (const value of values(reading)) all.push({ kind, group, value, shown: shown(reading) });
    }
    return all;
  }

  /** What changed since the last call, to be made durable before the alerts are told. */
  takeChanges(): BatchChanges {
    const taken = this.#running.flatMap((running): [string, readonly Change[]][] => {
      const { changes, rule, tracker } = running;
      running.changes = [];
      if (changes.length === 0) return [];
      tracker?.endBatch?.();
      return [[rule.id, changes]];
    });
    return taken;
  }

  /** Alerts that began or got more evidence; they stay until they are said to be told. */
  alerts(nowMs: number): readonly Alert[] {
    return [...this.#raised.values()].map(({ rule, tracker, incident }) => {
      tracker?.measure?.(incident);
      return alertOf(rule, incident, nowMs);
    });
  }

  forgetAlerts(): void {
    this.#raised.clear();
  }

  /** Changes of an earlier run. Those of rules that are no more, or are others by now, are passed over. */
  apply(batch: BatchChanges, fingerprints: ReadonlyMap<string, string>): void {
    for (const [id, changes] of batch) {
      const running = this.#running.find(({ rule }) => rule.id === id && fingerprints.get(id) === rule.fingerprint);
      if (running?.tracker === undefined || running.failure !== undefined) continue;
      try {
        for (const change of changes) running.tracker.apply(change);
        running.tracker.endBatch?.();
      } catch (thrown) {
        this.#fail(running, thrown);
      }
    }
  }

  fingerprints(): Readonly<Record<string, string>> {
    return Object.fromEntries(this.#running.map(({ rule }) => [rule.id, rule.fingerprint]));
  }

  /** The state of all rules, as lines of JSON values. */
  *snapshot(): Iterable<readonly [rule: string, fingerprint: string, line: unknown]> {
    for (const { rule, tracker, failure } of this.#running) {
      if (tracker === undefined || failure !== undefined) continue;
      for (const line of tracker.snapshot()) yield [rule.id, rule.fingerprint, line];
    }
  }

  restore(id: string, fingerprint: string, line: unknown): void {
    const running = this.#running.find(({ rule }) => rule.id === id && rule.fingerprint === fingerprint);
    running?.tracker?.restore(line);
  }

  /** The rule begins anew: its state could not be restored. */
  forget(id: string): void {
    this.#running = this.#running.map((running) => (running.rule.id === id ? this.#start(running.rule) : running));
  }

  statuses(): RuleStatus[] {
    return this.#running.map(({ rule, tracker, matches, alerts, failure }) => ({
      ...{ id: rule.id, name: rule.name, type: rule.type, severity: rule.severity, place: rule.place },
      state: failure !== undefined ? 'failed' : rule.enabled ? 'on' : 'off',
      ...(failure === undefined ? {} : { because: failure }),
      ...{ query: rule.queryText, matches, alerts },
      ...(tracker?.counts ?? { groups: 0, entries: 0, evicted: 0, late: 0 }),
    }));
  }

  #start(rule: Rule): Running {
    const limits = { ...this.#options.limits, groupsMax: rule.groupsMax ?? this.#options.limits.groupsMax };
    // The same incident is raised with each access that it gets.
    const counted = new WeakSet<Incident>();
    const raise: Raise = (incident) => {
      this.#raised.set(incident.id, { rule, tracker: running.tracker, incident });
      if (incident.times <= 1 && !counted.has(incident)) running.alerts++;
      counted.add(incident);
    };
    const fits = compileMatch(rule.query, rule.inner);
    const isOutside = rule.hours === undefined ? undefined : compileHours(rule.hours);
    const running: Running = {
      rule,
      fits: (reading, timeMs) => fits(reading) && (isOutside === undefined || isOutside(timeMs)),
      follows:
        rule.type === 'threshold' && rule.followedBy !== undefined
          ? compileMatch(rule.followedBy, rule.inner)
          : undefined,
      groups: compileGroups(rule.groupBy),
      values: compileValues(rule),
      shown: compileShown(rule),
      tracker: trackerOf(rule, limits, raise),
      raise,
      ...{ changes: [], matches: 0, alerts: 0, failure: undefined },
    };
    return running;
  }
}

function trackerOf(rule: Rule, limits: TrackerLimits, raise: Raise): Tracker | undefined {
  switch (rule.type) {
    case 'query':
      return rule.suppressMs === 0 ? undefined : new WindowTracker(rule, limits, raise);
    case 'threshold':
      return new WindowTracker(rule, limits, raise);
    case 'new_terms':
      return new TermsTracker(rule, limits, raise);
    case 'baseline':
      return new BaselineTracker(rule, limits, raise);
  }
}

/** Each combination of the fields' values; none when one of them is missing. */
function compileGroups(fields: readonly Field[]): (reading: Reading) => readonly (readonly string[])[] {
  const everything = [[]];
  if (fields.length === 0) return () => everything;
  const reads = fields.map(compileField);
  return (reading) => {
    let groups: string[][] = [[]];
    for (const read of reads) {
      const values = read(reading);
      groups = groups.flatMap((group) => values.map((value) => [...group, value.slice(0, VALUE_CHARS_MAX)]));
    }
    return groups.slice(0, GROUPS_OF_RECORD_MAX);
  };
}

/** What a rule compares: distinct values, new ones, failures, latencies. */
function compileValues(rule: Rule): (reading: Reading) => readonly (string | number)[] {
  const nothing = [0];
  if (rule.type === 'new_terms') {
    const terms = compileGroups(rule.fields);
    return (reading) => terms(reading).map((values) => JSON.stringify(values));
  }
  if (rule.type === 'threshold' && rule.threshold.distinct !== undefined) {
    const read = compileField(rule.threshold.distinct);
    return (reading) =>
      read(reading)
        .slice(0, GROUPS_OF_RECORD_MAX)
        .map((value) => value.slice(0, VALUE_CHARS_MAX));
  }
  if (rule.type !== 'baseline' || rule.of === 'rate') return () => nothing;
  if (rule.of === 'latency') {
    const read = compileNamed('event.duration');
    return (reading) => read(reading).slice(0, 1).map(Number);
  }
  const read = compileNamed('event.outcome');
  return (reading) => [read(reading)[0] === 'failure' ? 1 : 0];
}

function compileNamed(name: string): (reading: Reading) => readonly string[] {
  const field = findField(name);
  return field === undefined ? () => [] : compileField(field);
}

function compileShown(rule: Rule): (reading: Reading) => readonly string[] {
  const reads = shownFields(rule).map(compileNamed);
  return (reading) => reads.map((read) => read(reading).join(', ').slice(0, VALUE_CHARS_MAX));
}
