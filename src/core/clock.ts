/**
 * The only place besides app and config that reads the machine's time. Stages take a Clock or plain milliseconds, so that
 * tests and the simulation can pass time by hand.
 */
export interface Clock {
  /** Wall-clock milliseconds since the epoch. */
  nowMs(): number;
}

export const systemClock: Clock = { nowMs: () => Date.now() };

/** Waiting and chance: what else a stage may not take from the machine by itself. */
export interface Scheduler {
  /** Calls `act` once, after the delay or, for 0, in the next turn of the event loop. What it returns takes that back. */
  after(delayMs: number, act: () => void): () => void;
  /** Milliseconds since some moment; a wall clock that is set does not touch it. */
  elapsedMs(): number;
  /** From 0 to less than 1. */
  random(): number;
}

export const systemScheduler: Scheduler = {
  after(delayMs, act) {
    if (delayMs <= 0) {
      const turn = setImmediate(act);
      return () => clearImmediate(turn);
    }
    const timer = setTimeout(act, delayMs);
    return () => clearTimeout(timer);
  },
  elapsedMs: () => performance.now(),
  random: () => Math.random(),
};

const NANOS_PER_MILLI = 1_000_000n;

/** Epoch milliseconds (may have a fraction) to epoch nanoseconds. */
export function msToNs(milliseconds: number): bigint {
  return BigInt(Math.trunc(milliseconds)) * NANOS_PER_MILLI;
}

/** Epoch nanoseconds to whole epoch milliseconds, rounded down. */
export function nsToMs(nanoseconds: bigint): number {
  return Number(nanoseconds / NANOS_PER_MILLI);
}

/**
 * Largest instant of a record, 2262-01-01T00:00:00Z: what DuckDB's BIGINT and date_nanos hold ends a hundred days later, so that
 * a margin added to any instant still fits.
 */
export const TIMESTAMP_NS_MAX = 9_214_646_400_000_000_000n;

const SECOND_NS = 1_000_000_000n;
const DAY_NS = 86_400_000_000_000n;

/** Where the fraction of a second ends in a timestamp, and where it begins. */
const FRACTION = { first: 20, last: 28 } as const;
const ZERO = 0x30;

/** The second that was written last, and a text within it: most timestamps of a moment share all but the fraction. */
let secondNs = 0n;
const written = Buffer.from('1970-01-01T00:00:00.000000000Z', 'latin1');

/** RFC 3339 in UTC with nine fraction digits, e.g. `2026-11-22T10:19:13.000000001Z`. Out-of-range instants are clamped. */
export function formatTimestamp(nanoseconds: bigint): string {
  const clamped = nanoseconds < 0n ? 0n : nanoseconds > TIMESTAMP_NS_MAX ? TIMESTAMP_NS_MAX : nanoseconds;
  let restNs = Number(clamped - secondNs);
  if (restNs < 0 || restNs >= 1e9) {
    secondNs = clamped - (clamped % SECOND_NS);
    written.write(secondText(secondNs), 'latin1');
    restNs = Number(clamped - secondNs);
  }
  // Into bytes: a text put together of parts is made twice, when it is put together and when it is read.
  for (let at = FRACTION.last as number; at >= FRACTION.first; at--) {
    const tenth = Math.floor(restNs / 10);
    written[at] = ZERO + restNs - tenth * 10;
    restNs = tenth;
  }
  return written.toString('latin1');
}

/** The day that was written last: making a Date costs much. */
let day = { startNs: 0n, text: '1970-01-01' };

/** Up to the point before the fraction. */
function secondText(secondNs: bigint): string {
  let seconds = Number(secondNs - day.startNs) / 1e9;
  if (seconds < 0 || seconds >= 86_400) {
    const startNs = secondNs - (secondNs % DAY_NS);
    day = { startNs, text: new Date(nsToMs(startNs)).toISOString().slice(0, 10) };
    seconds = Number(secondNs - startNs) / 1e9;
  }
  const minutes = Math.floor(seconds / 60);
  const time = `${twoDigits(Math.floor(minutes / 60))}:${twoDigits(minutes % 60)}:${twoDigits(seconds % 60)}`;
  return `${day.text}T${time}.`;
}

function twoDigits(number: number): string {
  return number < 10 ? `0${number}` : `${number}`;
}

const TIMESTAMP = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?(Z|[+-]\d\d:?\d\d)?$/;

/** Epoch nanoseconds of an RFC 3339 date or date-time (UTC when it names no offset); undefined when it is not one. */
export function parseTimestamp(text: string): bigint | undefined {
  const match = TIMESTAMP.exec(text);
  if (!match) return undefined;
  const [, day, minutes = '00:00', seconds = '00', fraction = '', offset = 'Z'] = match;
  const zone = /^[+-]\d{4}$/.test(offset) ? `${offset.slice(0, 3)}:${offset.slice(3)}` : offset;
  const milliseconds = Date.parse(`${day}T${minutes}:${seconds}.000${zone}`);
  if (Number.isNaN(milliseconds)) return undefined;
  return msToNs(milliseconds) + BigInt(fraction.padEnd(9, '0'));
}
