import type { Severity } from '../core/alert.ts';
import { compileHours, isTimezone, parseHours } from '../detect/hours.ts';
import { isAtLeast } from './notice.ts';

export interface QuietSettings {
  readonly times: readonly string[];
  readonly timezone: string;
  readonly channels?: readonly string[] | undefined;
  readonly except: Severity;
}

const MINUTE_MS = 60_000;
const WEEK_MINUTES = 7 * 24 * 60;

/** When a channel may be told of a severity: undefined for now, else the end of the quiet time, epoch milliseconds. */
export type Quiet = (channel: string, severity: Severity, nowMs: number) => number | undefined;

/** Throws RangeError that names the setting. */
export function compileQuiet(settings: readonly QuietSettings[]): Quiet {
  const compiled = settings.map(({ times, timezone, ...rest }, at) => {
    const text = times.join(', ');
    const inside = parseHours(text);
    if (!inside) {
      throw new RangeError(`notify.quiet.${at}.times: "${text}" must be like "Mon-Fri 19:00-07:00, Sat-Sun"`);
    }
    if (!isTimezone(timezone)) {
      throw new RangeError(`notify.quiet.${at}.timezone: "${timezone}" must be a time zone like Europe/Berlin`);
    }
    return { ...rest, isOutside: compileHours({ text, timezone, inside }) };
  });
  // Of many notices that wait the answer is the same until the time is over.
  const known = new Map<string, { readonly fromMs: number; readonly endMs: number }>();
  return (channel, severity, nowMs) => {
    const key = `${channel} ${severity}`;
    const last = known.get(key);
    if (last && nowMs >= last.fromMs && nowMs < last.endMs) return last.endMs;
    const holding = compiled.filter(
      ({ channels, except }) => (channels?.includes(channel) ?? true) && !isAtLeast(severity, except),
    );
    const isQuiet = (timeMs: number) => holding.some(({ isOutside }) => !isOutside(timeMs));
    if (!isQuiet(nowMs)) return undefined;
    // Minute by minute of real time, so that changes of the clocks are in it. What is quiet all week is looked at again later.
    let endMs = nowMs - (nowMs % MINUTE_MS);
    for (let step = 0; step < WEEK_MINUTES && isQuiet(endMs); step++) endMs += MINUTE_MS;
    known.set(key, { fromMs: nowMs, endMs });
    return endMs;
  };
}
