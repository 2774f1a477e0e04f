import type { Alert, RuleStatus } from '../core/alert.ts';
import { describeError } from '../core/errors.ts';
import type { WriteForm } from '../core/settlement.ts';
import { type BatchChanges, ChangePacker, unpackChanges } from './changes.ts';
import { addEvidence, alertOf, type Incident, startIncident } from './incident.ts';
import { type Place, placeNamed, Reading } from './reading.ts';
import type { Rule } from './rule.ts';
import { COUNTED, countOf, type RuleCounts, type Running, stateOf, trackerOf } from './running.ts';
import type { Subject } from './subject.ts';
import type { Change, Raise, Sight, SightMatch, Tracker, TrackerLimits } from './tracker.ts';
import { compileWatch, durationOf } from './watch.ts';

export interface EngineOptions {
  readonly limits: TrackerLimits;
  /** Told once for a rule that threw; it is off from then on. */
  readonly onFailure: (rule: Rule, reason: string) => void;
}

/** What is known of all records of a form: what rules have of it, other than how long it took and what comes late. */
interface FormSight {
  /** Which engine, with which rules, knows it. */
  readonly of: object;
  readonly isRevision: boolean;
  /** Of rules that fit, or may. */
  readonly steps: readonly FormStep[];
}

interface FormStep {
  readonly running: Running;
  /** Undefined: they rest on late fields, so that each record is looked at. */
  readonly matches: readonly SightMatch[] | undefined;
  /** What alerts show of the record; undefined where that rests on late fields, too. */
  readonly shown: readonly string[] | undefined;
}

const NO_MATCHES: readonly SightMatch[] = [];
/** In place of how long an access took. */
const LATER = [0];
const NOBODY: Subject = {
  ...{ id: '', trace: '', namespace: '', timeMs: 0, ingestedMs: 0, isRevision: false },
  ...{ source: 'records', document: {} },
};
const ENTRY: Place = placeNamed('audit.entry');

/**
 * Runs rules over records in the order in which they are stored. What state depends on comes out as changes, which are kept
 * durably; from these, or from a snapshot and the later ones, another engine gets the same state.
 */
export class Engine {
  readonly #options: EngineOptions;
  readonly #reading = new Reading();
  #running: readonly Running[] = [];
  /** Those that look at inner accesses, too. */
  #inner: readonly Running[] = [];
  /** What forms remember of other rules is of no use. */
  #known = {};
  /** What is known where no rule fits: nearly always. */
  #nothing: FormSight = { of: this.#known, isRevision: false, steps: [] };
  /** What is looked at right now. */
  #subject: Subject = NOBODY;
  #isRevision = false;
  #sight: Sight | undefined;
  /** What alerts show of it, where that is known. */
  #shown: readonly string[] | undefined;
  readonly #packer = new ChangePacker();
  readonly #raised = new Map<string, { rule: Rule; tracker: Tracker | undefined; incident: Incident }>();

  constructor(rules: readonly Rule[], options: EngineOptions) {
    this.#options = options;
    this.setRules(rules);
  }

  /** Rules of which nothing changed that their state depends on keep it. */
  setRules(rules: readonly Rule[]): void {
    const known = new Map(this.#running.map((running) => [running.rule.id, running]));
    const running = rules.map((rule) => {
      const before = known.get(rule.id);
      if (before === undefined || before.rule.fingerprint !== rule.fingerprint) return this.#start(rule);
      const started = this.#start(rule);
      if (before.failure !== undefined || before.tracker === undefined || started.tracker === undefined) return started;
      for (const line of before.tracker.snapshot()) started.tracker.restore(structuredClone(line));
      Object.assign(started.told, before.told);
      return Object.assign(started, { matches: before.matches, alerts: before.alerts });
    });
    this.#run(running);
  }

  #run(running: readonly Running[]): void {
    this.#running = running;
    this.#inner = running.filter(({ rule }) => rule.inner);
    this.#known = {};
    this.#nothing = { of: this.#known, isRevision: false, steps: [] };
  }

  get rules(): readonly Rule[] {
    return this.#running.map(({ rule }) => rule);
  }

  /** Is it known of the form that no rule looks at any of its records? */
  passes(form: WriteForm | undefined): boolean {
    const known = form === undefined ? undefined : this.#knownOf(form);
    return known !== undefined && !known.isRevision && known.steps.length === 0;
  }

  #knownOf({ rules }: WriteForm): FormSight | undefined {
    const known = rules as FormSight | undefined;
    return known?.of === this.#known ? known : undefined;
  }

  /** What rules have of one record alone, found while it is an object: `observe` goes by it as by what is known of a form. */
  lookAt(subject: Subject): WriteForm {
    const own: WriteForm = {};
    this.#learn(own, subject, true);
    return own;
  }

  observe(subject: Subject): void {
    const { form } = subject;
    const known = form === undefined ? undefined : (this.#knownOf(form) ?? this.#learn(form, subject));
    if (known !== undefined && !known.isRevision) {
      if (known.steps.length > 0) this.#follow(known.steps, subject);
      return;
    }
    this.#begin(subject, subject.isRevision);
    for (const running of this.#watching()) {
      if (running.rule.source === subject.source) this.#try(running, undefined);
    }
  }

  /** Rules that the subject may be for. */
  #watching(): readonly Running[] {
    const isPlain = this.#subject.source === 'records' && !this.#isRevision;
    return isPlain && this.#reading.values(ENTRY)[0] !== true ? this.#inner : this.#running;
  }

  #begin(subject: Subject, isRevision: boolean): void {
    this.#subject = subject;
    this.#isRevision = isRevision;
    this.#sight = undefined;
    this.#reading.start(subject);
  }

  #follow(steps: readonly FormStep[], subject: Subject): void {
    this.#begin(subject, false);
    for (let at = 0; at < steps.length; at++) {
      const { running, matches, shown } = steps[at] as FormStep;
      this.#shown = shown;
      this.#try(running, matches);
    }
    this.#shown = undefined;
  }

  #try(running: Running, known: readonly SightMatch[] | undefined): void {
    if (!running.rule.enabled || running.failure !== undefined) return;
    try {
      this.#see(running, known === undefined ? this.#matchesOf(running) : this.#complete(running, known));
    } catch (thrown) {
      this.#fail(running, thrown);
    }
  }

  /** What all records of the form have in common, found with one of them. */
  #learn(form: WriteForm, subject: Subject, isSole = false): FormSight {
    this.#begin(subject, subject.isRevision);
    const reading = this.#reading;
    const steps: FormStep[] = [];
    for (const running of this.#watching()) {
      if (!running.rule.enabled || running.rule.source !== subject.source || running.failure !== undefined) continue;
      try {
        reading.takeLate();
        const matches = this.#matchesAtAnyTime(running);
        if (reading.takeLate() && !isSole) steps.push({ running, matches: undefined, shown: undefined });
        else if (matches.length > 0) steps.push({ running, matches, shown: this.#shownAtAnyTime(running, isSole) });
      } catch (thrown) {
        this.#fail(running, thrown);
      }
    }
    const isRevision = this.#isRevision;
    const known: FormSight = steps.length === 0 && !isRevision ? this.#nothing : { of: this.#known, isRevision, steps };
    form.rules = known;
    return known;
  }

  #shownAtAnyTime({ watch }: Running, isSole: boolean): readonly string[] | undefined {
    const shown = watch.shown(this.#reading);
    return this.#reading.takeLate() && !isSole ? undefined : shown;
  }

  #fail(running: Running, thrown: unknown): void {
    running.failure = describeError(thrown);
    running.rows = [];
    this.#options.onFailure(running.rule, running.failure);
  }

  #see(running: Running, matches: readonly SightMatch[]): void {
    const { tracker, rule } = running;
    if (matches.length > 0) running.matches++;
    if (tracker !== undefined) {
      // Most records match nothing, and never did.
      if (matches.length === 0 && !this.#isRevision) return;
      const changes = tracker.changesOf(this.#sightOf(), matches, running.shown);
      for (let at = 0; at < changes.length; at++) {
        const change = changes[at] as Change;
        tracker.apply(change);
        this.#packer.add(running.rows, change);
      }
      return;
    }
    for (const { group } of matches) {
      const { record, trace, timeMs } = this.#sightOf();
      const { namespace, values } = group;
      const shown = running.shown();
      const incident = startIncident({ rule, namespace, group: values, shown, timeMs, cellMs: 0, cell: record });
      addEvidence(incident, { record, trace, timeMs, shown });
      running.raise(incident);
    }
  }

  /** The record that is looked at, as rules see it. */
  #sightOf(): Sight {
    if (this.#sight !== undefined) return this.#sight;
    const { id: record, trace, timeMs, ingestedMs } = this.#subject;
    const isClamped = timeMs > ingestedMs + this.#options.limits.latenessMs;
    const isRevision = this.#isRevision;
    const sight = { number: -1, record, trace, timeMs: isClamped ? ingestedMs : timeMs, isRevision, isClamped };
    this.#sight = sight;
    return sight;
  }

  #matchesOf(running: Running): readonly SightMatch[] {
    return this.#complete(running, this.#matchesAtAnyTime(running));
  }

  #matchesAtAnyTime({ watch }: Running): readonly SightMatch[] {
    const reading = this.#reading;
    const fits = watch.fits(reading);
    const follows = watch.follows?.(reading) ?? false;
    if (!fits && !follows) return NO_MATCHES;
    const groups = watch.groups(reading);
    const matches: SightMatch[] = [];
    if (fits && groups.length > 0) {
      const values = watch.values?.(reading) ?? LATER;
      for (const group of groups) for (const value of values) matches.push({ kind: 'm', group, value });
    }
    if (follows) for (const group of groups) matches.push({ kind: 't', group, value: 0 });
    return matches;
  }

  /** With what is not the same for all of a form and yet known of each record: its time, and how long it took. */
  #complete({ watch }: Running, known: readonly SightMatch[]): readonly SightMatch[] {
    if (known.length === 0) return known;
    const isOut = watch.isOutside === undefined || watch.isOutside(this.#sightOf().timeMs);
    const matches = isOut ? known : known.filter(({ kind }) => kind === 't');
    if (watch.values !== undefined) return matches;
    const value = durationOf(this.#reading);
    if (value === undefined) return NO_MATCHES;
    // Nobody keeps them.
    for (let at = 0; at < matches.length; at++) (matches[at] as SightMatch).value = value;
    return matches;
  }

  /** What changed since the last call, to be made durable before the alerts are told. */
  takeChanges(): BatchChanges | undefined {
    const taken: (readonly [rule: string, rows: readonly unknown[]])[] = [];
    for (const running of this.#running) {
      const { rows, rule, tracker } = running;
      if (rows.length === 0) continue;
      running.rows = [];
      tracker?.endBatch?.();
      taken.push([rule.id, rows]);
    }
    const batch = this.#packer.take(taken);
    return taken.length === 0 ? undefined : batch;
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
    for (const [id, changes] of unpackChanges(batch)) {
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
    this.#run(this.#running.map((running) => (running.rule.id === id ? this.#start(running.rule) : running)));
  }

  /** How many rules are in this state. */
  count(state: RuleStatus['state']): number {
    let count = 0;
    for (const { rule, failure } of this.#running) if (stateOf(rule, failure) === state) count++;
    return count;
  }

  statuses(): RuleStatus[] {
    return this.#running.map(({ rule, tracker, matches, alerts, failure }) => ({
      ...{ id: rule.id, name: rule.name, type: rule.type, severity: rule.severity, place: rule.place },
      state: stateOf(rule, failure),
      ...(failure === undefined ? {} : { because: failure }),
      ...{ query: rule.queryText, matches, alerts },
      ...(tracker?.counts ?? { groups: 0, entries: 0, evicted: 0, late: 0 }),
    }));
  }

  /** Hands on what rules counted since the last time: after each batch, so nothing is made for it. */
  takeCounts(add: (rule: string, name: keyof RuleCounts, more: number) => void): void {
    for (const running of this.#running) {
      const { rule, told } = running;
      for (const name of COUNTED) {
        const count = countOf(running, name);
        if (count > told[name]) add(rule.id, name, count - told[name]);
        told[name] = count;
      }
    }
  }

  #start(rule: Rule): Running {
    const limits = { ...this.#options.limits, groupsMax: rule.groupsMax ?? this.#options.limits.groupsMax };
    // The same incident is raised with each access that it gets.
    const counted = new WeakSet<Incident>();
    const raise: Raise = (incident) => {
      const { tracker } = running;
      if (this.#raised.get(incident.id)?.incident === incident) return;
      this.#raised.set(incident.id, { rule, tracker, incident });
      if (incident.times <= 1 && !counted.has(incident)) running.alerts++;
      counted.add(incident);
    };
    const watch = compileWatch(rule);
    const running: Running = {
      ...{ rule, watch, raise, tracker: trackerOf(rule, limits, raise) },
      shown: () => this.#shown ?? watch.shown(this.#reading),
      ...{ rows: [], matches: 0, alerts: 0, failure: undefined },
      told: { matches: 0, alerts: 0, evicted: 0, late: 0 },
    };
    return running;
  }
}
