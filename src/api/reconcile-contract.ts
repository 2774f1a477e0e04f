/** The part of the contract that is about reconciling. */

/** What the store has otherwise than the settle journal says. */
export interface ReconcileDifference {
  readonly type: 'difference';
  /**
   * `missing`: stored once, and not there; `older`: there in an earlier state; `unknown`: there, of a time that is known, and
   * of no trace that was settled here.
   */
  readonly kind: 'missing' | 'older' | 'unknown';
  readonly id: string;
  readonly namespace: string;
  readonly trace_id: string;
  readonly timestamp: string;
}

export interface ReconcileSummary {
  readonly type: 'summary';
  /** Records that the journal says are stored. */
  readonly compared: number;
  readonly missing: number;
  readonly older: number;
  readonly unknown: number;
  /** Missing, but in quarantine or dropped from there: no difference. */
  readonly quarantined: number;
  /** Missing, but another record stands for them: no read shows them, and they cannot be restored. No difference. */
  readonly superseded_missing: number;
  readonly restored: number;
  /** Differences that are left. */
  readonly left: number;
  /** Unknown records were looked for from here on. */
  readonly since: string;
  /** Of the journal: what they said could not be compared. */
  readonly damaged_bytes: number;
}

/** The lines of a reconciliation's answer; the last is the summary, or an error. */
export type ReconcileEvent =
  | { readonly type: 'progress'; readonly step: string; readonly records: number }
  | ReconcileDifference
  | { readonly type: 'unrestored'; readonly id: string; readonly kind: 'missing' | 'older'; readonly reason: string }
  | ReconcileSummary
  | { readonly type: 'error'; readonly message: string };
