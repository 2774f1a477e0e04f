import type { AttributeValue } from '../core/evidence.ts';

/** Names of time zones that mean one thing only, in minutes east of Greenwich; PostgreSQL writes such into its log. */
const ZONES: Readonly<Record<string, number>> = {
  ...{ Z: 0, UTC: 0, GMT: 0, UCT: 0, WET: 0, WEST: 60, CET: 60, CEST: 120, EET: 120, EEST: 180, MSK: 180 },
  ...{ EST: -300, EDT: -240, MST: -420, MDT: -360, PST: -480, PDT: -420, JST: 540, KST: 540, NZST: 720, NZDT: 780 },
};

const DATE_TIME =
  /^(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\d*\s*(?:([+-])(\d\d):?(\d\d)?|([A-Za-z]{1,5}))?$/;
/** Common Log Format, `$time_local` of nginx: `22/Nov/2026:10:00:00 +0000`. */
const LOG_TIME = /^(\d\d)\/([A-Z][a-z]{2})\/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)$/;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** Numbers below each of these are in seconds, milliseconds, microseconds; until the year 5138 there is no doubt. */
const UNITS: readonly (readonly [number, number])[] = [
  [1e11, 9],
  [1e14, 6],
  [1e17, 3],
  [1e20, 0],
];

/**
 * The instant that a value states, epoch nanoseconds: RFC 3339, the formats of PostgreSQL's and of web servers' logs, or a number
 * of seconds, milliseconds, microseconds or nanoseconds by its size. A time without a zone is taken as UTC. Undefined for anything
 * else, such as an ambiguous name of a zone.
 */
export function instantOf(value: AttributeValue | undefined): bigint | undefined {
  if (typeof value === 'bigint') return instantOf(String(value));
  if (typeof value === 'number') return Number.isFinite(value) ? ofNumber(String(value)) : undefined;
  if (typeof value !== 'string') return undefined;
  const text = value.trim();
  return ofNumber(text) ?? ofDateTime(text) ?? ofLogTime(text);
}

function ofNumber(text: string): bigint | undefined {
  const [, whole, fraction = ''] = /^(\d{1,19})(?:\.(\d{1,18}))?$/.exec(text) ?? [];
  if (whole === undefined) return undefined;
  const digits = UNITS.find(([limit]) => Number(whole) < limit)?.[1];
  if (digits === undefined) return undefined;
  return BigInt(whole + fraction.slice(0, digits).padEnd(digits, '0'));
}

function ofDateTime(text: string): bigint | undefined {
  const match = DATE_TIME.exec(text);
  if (match === null) return undefined;
  const [, year, month, day, hour, minute, second, fraction = '', sign, hours = '0', minutes = '0', zone] = match;
  const east = zone === undefined ? (Number(hours) * 60 + Number(minutes)) * (sign === '-' ? -1 : 1) : zoneOf(zone);
  if (east === undefined) return undefined;
  const utc = utcOf([year, month, day, hour, minute, second].map(Number));
  return utc === undefined ? undefined : toNs(utc - east * 60_000, fraction);
}

function zoneOf(zone: string): number | undefined {
  return ZONES[zone.toUpperCase()];
}

function ofLogTime(text: string): bigint | undefined {
  const match = LOG_TIME.exec(text);
  if (match === null) return undefined;
  const [, day, month = '', year, hour, minute, second, sign, hours, minutes] = match;
  const index = MONTHS.indexOf(month);
  const utc = index < 0 ? undefined : utcOf([Number(year), index + 1, ...[day, hour, minute, second].map(Number)]);
  if (utc === undefined) return undefined;
  return toNs(utc - (Number(hours) * 60 + Number(minutes)) * (sign === '-' ? -60_000 : 60_000), '');
}

/** Undefined for a day or hour that there is not. */
function utcOf([year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0]: readonly number[]):
  | number
  | undefined {
  if (hour > 24 || minute > 59 || second > 60) return undefined;
  const utc = Date.UTC(year, month - 1, day, hour, minute, second);
  return new Date(Date.UTC(year, month - 1, day)).getUTCMonth() === month - 1 ? utc : undefined;
}

function toNs(utcMs: number, fraction: string): bigint | undefined {
  return utcMs < 0 ? undefined : BigInt(utcMs) * 1_000_000n + BigInt(fraction.padEnd(9, '0'));
}
