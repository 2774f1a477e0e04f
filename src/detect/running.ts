import type { RuleStatus } from '../core/alert.ts';
import { BaselineTracker } from './baseline-tracker.ts';
import type { Rule } from './rule.ts';
import { TermsTracker } from './terms-tracker.ts';
import type { Raise, Shown, Tracker, TrackerLimits } from './tracker.ts';
import type { Watch } from './watch.ts';
import { WindowTracker } from './window-tracker.ts';

/** A rule at work. */
export interface Running {
  readonly rule: Rule;
  readonly watch: Watch;
  /** Undefined: each match is an alert of its own, and nothing is remembered. */
  readonly tracker: Tracker | undefined;
  readonly raise: Raise;
  readonly shown: Shown;
  /** Changes since they were taken, as they are packed. */
  rows: unknown[];
  matches: number;
  alerts: number;
  failure: string | undefined;
  /** As of the last time that somebody was told. */
  readonly told: RuleCounts;
}

/** What is counted of a rule, from when it began. */
export type RuleCounts = Record<(typeof COUNTED)[number], number>;
export const COUNTED = ['matches', 'alerts', 'evicted', 'late'] as const;

export function stateOf({ enabled }: Rule, failure: string | undefined): RuleStatus['state'] {
  if (failure !== undefined) return 'failed';
  return enabled ? 'on' : 'off';
}

export function countOf(running: Running, name: keyof RuleCounts): number {
  if (name === 'matches' || name === 'alerts') return running[name];
  return running.tracker?.counts[name] ?? 0;
}

export function trackerOf(rule: Rule, limits: TrackerLimits, raise: Raise): Tracker | undefined {
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
