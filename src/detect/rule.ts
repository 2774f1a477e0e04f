import type { RuleType, Severity } from '../core/alert.ts';
import type { Field } from '../core/fields.ts';
import type { Query } from '../query/ast.ts';
import type { HoursOutside } from './hours.ts';
import { templateFields } from './template.ts';

/** A rule as it stands in a file, after the checks: see docs/rules.md. Durations in milliseconds. */
interface RuleBase {
  readonly id: string;
  readonly name: string;
  readonly description?: string;
  readonly type: RuleType;
  readonly severity: Severity;
  /** The text as written, definitions not expanded. */
  readonly queryText: string;
  readonly query: Query;
  /** What Spantrail tells of itself, instead of records. */
  readonly source: 'records' | 'pipeline';
  /** Also accesses inside of others. */
  readonly inner: boolean;
  readonly hours?: HoursOutside;
  readonly groupBy: readonly Field[];
  /** Groups remembered; absent: as many as the settings say. */
  readonly groupsMax?: number;
  /** Template with `${count}`, `${value}`, `${threshold}` and `${field.name}`. */
  readonly reason: string;
  /** Within this time after the last one a group raises no further alert; 0: each match of a `query` rule is an alert. */
  readonly suppressMs: number;
  readonly tags: readonly string[];
  readonly references: readonly string[];
  readonly notify: readonly string[];
  readonly enabled: boolean;
  /** Where it stands, for people: `deploy/rules/logins.yaml:12`. */
  readonly place: string;
  /** Of all that its state depends on: state of another fingerprint is not taken over. */
  readonly fingerprint: string;
}

export interface QueryRule extends RuleBase {
  readonly type: 'query';
}

export interface ThresholdRule extends RuleBase {
  readonly type: 'threshold';
  readonly windowMs: number;
  /** It is reached when so many matches, or distinct values of the field, lie within the window. */
  readonly threshold: { readonly value: number; readonly distinct?: Field };
  /** It fires when, after the threshold was reached, a match of this comes for the same group within the window. */
  readonly followedBy?: Query;
}

export interface NewTermsRule extends RuleBase {
  readonly type: 'new_terms';
  readonly fields: readonly Field[];
  /** Values not seen for this long are new again. */
  readonly historyMs: number;
  /** A group fires only when it is known for this long. Its very first value never fires. */
  readonly warmUpMs: number;
}

export type BaselineMeasure = 'rate' | 'failures' | 'latency';

export interface BaselineRule extends RuleBase {
  readonly type: 'baseline';
  readonly of: BaselineMeasure;
  readonly intervalMs: number;
  readonly deviations: number;
  /** Accesses in the interval below which it says nothing. */
  readonly volumeMin: number;
  readonly warmUpMs: number;
}

export type Rule = QueryRule | ThresholdRule | NewTermsRule | BaselineRule;

/** The record's fields that the reason shows, other than those that the group says. */
export function shownFields({ reason, groupBy }: Rule): string[] {
  return templateFields(reason).filter((name) => !groupBy.some((field) => field.name === name));
}
