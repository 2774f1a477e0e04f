/** What a rule found: one alert for each time that a group of accesses was abnormal, with the records that say so. */

export const SEVERITIES = ['low', 'medium', 'high', 'critical'] as const;
export type Severity = (typeof SEVERITIES)[number];

export const RULE_TYPES = ['query', 'threshold', 'new_terms', 'baseline'] as const;
export type RuleType = (typeof RULE_TYPES)[number];

export type AlertState = 'open' | 'acknowledged' | 'closed';

/** Newest records that an alert names as its evidence, and traces of theirs. */
export const ALERT_RECORDS_MAX = 100;
export const ALERT_TRACES_MAX = 20;

export interface AlertRule {
  readonly id: string;
  readonly name: string;
  readonly type: RuleType;
  readonly severity: Severity;
  readonly tags?: readonly string[];
  readonly references?: readonly string[];
  /** Channels that the rule itself names, besides those that the routing finds. */
  readonly notify?: readonly string[];
}

export interface AlertChange {
  /** RFC 3339. */
  readonly at: string;
  /** Who: a principal's name, or `local`. */
  readonly by: string;
  readonly state: AlertState;
  readonly note?: string;
}

export interface Alert {
  /** Of rule, namespace, group and place in time alone: the same accesses give the same id, whatever crashes in between. */
  readonly id: string;
  readonly rule: AlertRule;
  readonly namespace: string;
  readonly state: AlertState;
  /** One sentence for a person. */
  readonly reason: string;
  /** Field → value that the rule groups by; of `new_terms` also the new value. Empty when it groups by nothing. */
  readonly group: Readonly<Record<string, string>>;
  /** What crossed the threshold: a count, distinct values, a share (0 to 1), nanoseconds. */
  readonly value?: number;
  readonly threshold?: number;
  /** Event time of the first and last access, RFC 3339. */
  readonly firstAt: string;
  readonly lastAt: string;
  /** When it was raised, by the machine's clock. */
  readonly raisedAt: string;
  /** Accesses it rests on. */
  readonly count: number;
  /** Ids of the newest of them. */
  readonly records: readonly string[];
  readonly traces: readonly string[];
  /** Times that it would have been raised again while it was suppressed. */
  readonly suppressed?: number;
  /** There was not room for all: count and value are lower bounds. */
  readonly atLeast?: true;
  readonly history: readonly AlertChange[];
}

/** How a rule is doing: for the API and `spantrail rules`. */
export interface RuleStatus {
  readonly id: string;
  readonly name: string;
  readonly type: RuleType;
  readonly severity: Severity;
  readonly place: string;
  /** `failed`: it threw, and is off until rules are read again. */
  readonly state: 'on' | 'off' | 'failed';
  /** Why it is off or failed. */
  readonly because?: string;
  readonly query: string;
  /** Since the start. */
  readonly matches: number;
  readonly alerts: number;
  /** Kept now. */
  readonly groups: number;
  readonly entries: number;
  /** Since the start: groups, values and matches that had to make room, and matches too late to tell whether they were seen before. */
  readonly evicted: number;
  readonly late: number;
}

/** Where alerts go. */
export interface AlertDesk {
  /**
   * Resolves when the alerts are durable. Idempotent by id: an alert that is there already gets what is newer of reason, value,
   * count, times, records, traces, suppressed and atLeast; its state, history and `raisedAt` stay, and nobody is notified twice.
   */
  raise(alerts: readonly Alert[]): Promise<void>;
}
