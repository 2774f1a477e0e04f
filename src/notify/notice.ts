import { createHash } from 'node:crypto';
import type { Alert, Severity } from '../core/alert.ts';

/** What became of an alert: what people are told of. `acknowledged` and `closed` by a person. */
export type NoticeChange = 'raised' | 'acknowledged' | 'closed';

/** One change of one alert for one channel, as it waits in the outbox. */
export interface Notice {
  /** 16 hex digits, of key and channel. */
  readonly id: string;
  /** The same for every channel and every attempt: receivers know by it what they have already. */
  readonly key: string;
  readonly channel: string;
  readonly change: NoticeChange;
  /** As it was then, with fewer records and traces. */
  readonly alert: Alert;
  readonly createdMs: number;
  /** Failed attempts. */
  readonly tries: number;
  /** Not before this. */
  readonly nextMs: number;
  /** `dead`: nothing more is tried until a person says so. */
  readonly state: 'waiting' | 'dead';
  /** Why the last attempt failed. */
  readonly reason?: string;
}

/** Evidence that a notice names; the alert itself has more. */
const NOTICE_RECORDS_MAX = 10;

/** `number`: of the change among those of its alert, which may be closed more than once. */
export function makeNotice(alert: Alert, change: NoticeChange, number: number, channel: string, nowMs: number): Notice {
  const key = change === 'raised' ? `${alert.id}.raised` : `${alert.id}.${change}.${number}`;
  const id = createHash('sha256').update(`${channel}\n${key}`).digest('hex').slice(0, 16);
  const { records, traces } = alert;
  const shown = {
    ...alert,
    records: records.slice(0, NOTICE_RECORDS_MAX),
    traces: traces.slice(0, NOTICE_RECORDS_MAX),
    history: alert.history.slice(-1),
  };
  return { id, key, channel, change, alert: shown, createdMs: nowMs, tries: 0, nextMs: nowMs, state: 'waiting' };
}

/** What became of an attempt. `dead`: the receiver will never take it. */
export type Outcome =
  | { readonly kind: 'delivered'; readonly answer: string }
  | { readonly kind: 'failed'; readonly reason: string; readonly afterMs?: number }
  | { readonly kind: 'dead'; readonly reason: string };

const ORDER: readonly Severity[] = ['low', 'medium', 'high', 'critical'];

export function isAtLeast(severity: Severity, least: Severity): boolean {
  return ORDER.indexOf(severity) >= ORDER.indexOf(least);
}
