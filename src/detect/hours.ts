/** Times of the week in a place of the world, and whether an instant lies outside of them. */
export interface HoursOutside {
  /** `Mon-Fri 07:00-19:00`; several with commas. */
  readonly text: string;
  readonly timezone: string;
  /** Minutes of the week from Monday 00:00 that count as inside: start inclusive, end exclusive. */
  readonly inside: readonly { readonly fromMinute: number; readonly toMinute: number }[];
}

const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'];
const DAY_MINUTES = 24 * 60;
const WEEK_MINUTES = 7 * DAY_MINUTES;
/** No place of the world has changed its offset within a quarter of an hour. */
const STEP_MS = 15 * 60_000;

const RANGE = /^([a-z]{3})(?:-([a-z]{3}))?(?:\s+(\d\d):(\d\d)-(\d\d):(\d\d))?$/i;

/** Undefined when the text says no times of the week. `22:00-06:00` ends on the day after; days without times are whole. */
export function parseHours(text: string): HoursOutside['inside'] | undefined {
  const inside: { fromMinute: number; toMinute: number }[] = [];
  for (const part of text.split(',')) {
    const match = RANGE.exec(part.trim());
    const first = DAYS.indexOf(match?.[1]?.toLowerCase() ?? '?');
    const last = match?.[2] === undefined ? first : DAYS.indexOf(match[2].toLowerCase());
    const from = minuteOf(match?.[3] ?? '00', match?.[4] ?? '00');
    const to = minuteOf(match?.[5] ?? '24', match?.[6] ?? '00');
    if (first < 0 || last < 0 || from === undefined || to === undefined || from === to) return undefined;
    for (let day = first; ; day = (day + 1) % 7) {
      inside.push({
        fromMinute: day * DAY_MINUTES + from,
        toMinute: day * DAY_MINUTES + to + (to < from ? DAY_MINUTES : 0),
      });
      if (day === last) break;
    }
  }
  return inside;
}

function minuteOf(hours: string, minutes: string): number | undefined {
  const minute = Number(hours) * 60 + Number(minutes);
  return Number(minutes) < 60 && minute <= DAY_MINUTES ? minute : undefined;
}

/** Of the machine's calendars, which cost some milliseconds when they are asked for the first time. */
export function isTimezone(name: string): boolean {
  if (name === 'UTC') return true;
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

/** Answers for epoch milliseconds whether they lie outside of the times. */
export function compileHours({ timezone, inside }: HoursOutside): (timeMs: number) => boolean {
  // The first calendar of a process costs some milliseconds, which a start need not wait for.
  let format: Intl.DateTimeFormat | undefined;
  const calendar = () =>
    (format ??= new Intl.DateTimeFormat('en-GB', {
      ...{ timeZone: timezone, weekday: 'short', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' },
    } as Intl.DateTimeFormatOptions));
  // Asking the calendar costs more than all the rest, and most records of a moment share the answer.
  let known = { step: Number.NaN, minute: 0 };
  return (timeMs) => {
    const step = Math.floor(timeMs / STEP_MS);
    if (step !== known.step) known = { step, minute: minuteOfWeek(calendar(), step * STEP_MS) };
    const minute = known.minute + (timeMs - step * STEP_MS) / 60_000;
    const isIn = (at: number) => inside.some(({ fromMinute, toMinute }) => at >= fromMinute && at < toMinute);
    return !isIn(minute % WEEK_MINUTES) && !isIn((minute % WEEK_MINUTES) + WEEK_MINUTES);
  };
}

function minuteOfWeek(format: Intl.DateTimeFormat, timeMs: number): number {
  const parts = new Map(format.formatToParts(timeMs).map(({ type, value }) => [type, value]));
  const day = DAYS.indexOf((parts.get('weekday') ?? '').toLowerCase());
  return day * DAY_MINUTES + Number(parts.get('hour')) * 60 + Number(parts.get('minute'));
}
