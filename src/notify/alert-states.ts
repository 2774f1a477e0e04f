import { ALERT_RECORDS_MAX, ALERT_TRACES_MAX, type Alert, type AlertChange, type AlertState } from '../core/alert.ts';
import { AppError } from '../core/errors.ts';

/** Changes that an alert keeps: far more than people make. */
const HISTORY_MAX = 1000;

/**
 * What is known of an alert and what was raised of it now, as one: the evidence of both, the words of the one that rests on more,
 * and what people did to it. In whatever order the parts come, and however often, the outcome has the same evidence.
 */
export function mergeAlert(known: Alert, raised: Alert): Alert {
  const [more, less] = raised.count >= known.count ? [raised, known] : [known, raised];
  const suppressed = Math.max(known.suppressed ?? 0, raised.suppressed ?? 0);
  const { atLeast: _, suppressed: __, ...base } = more;
  const records = [...new Set([...more.records, ...less.records])];
  const isAtLeast = known.atLeast === true || raised.atLeast === true || records.length > Math.max(more.count, 1);
  return {
    ...base,
    state: known.state,
    history: known.history,
    raisedAt: known.raisedAt,
    firstAt: known.firstAt < raised.firstAt ? known.firstAt : raised.firstAt,
    lastAt: known.lastAt > raised.lastAt ? known.lastAt : raised.lastAt,
    count: Math.max(more.count, records.length),
    records: records.slice(0, ALERT_RECORDS_MAX),
    traces: [...new Set([...more.traces, ...less.traces])].slice(0, ALERT_TRACES_MAX),
    ...(suppressed > 0 ? { suppressed } : {}),
    ...(isAtLeast ? { atLeast: true } : {}),
  };
}

/** The alert after a person's change; the alert itself when that changes nothing. A note alone is kept, too. */
export function changeAlert(
  alert: Alert,
  { at, by, state, note }: { at: string; by: string; state: AlertState; note?: string | undefined },
): Alert {
  if (alert.state === state && note === undefined) return alert;
  if (alert.history.length >= HISTORY_MAX) {
    throw new AppError('bad_request', `the alert has had ${HISTORY_MAX} changes; it takes no more`);
  }
  const change: AlertChange = { at, by, state, ...(note === undefined ? {} : { note }) };
  return { ...alert, state, history: [...alert.history, change] };
}
