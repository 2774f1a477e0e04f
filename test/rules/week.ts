import type { AuditRecord } from '../../src/core/record.ts';
import type { Overrides } from '../fixtures/records.ts';
import { type Random, randomOf } from '../simulation/random.ts';
import { accessAt, DAY_MS, HOUR_MS, MONDAY_MS } from './shipped.ts';

/**
 * Ordinary days of a hospital: people who log in, mistype, look after the patients of their ward, are refused now and then, travel;
 * some who work at night and on Sundays; services around the clock; requests that fail or take long, more of them at noon.
 */

interface Person {
  readonly id: string;
  readonly role: 'nurse' | 'doctor' | 'clerk';
  readonly ward: number;
  /** Has a night or a day of the weekend now and then. */
  readonly isOnCall: boolean;
  /** The first day, for those who come later. */
  readonly fromDay: number;
  readonly daysAbroad: readonly number[];
}

type Shape = Overrides<AuditRecord>;

const PEOPLE = 60;
const WARDS = 8;
const PATIENTS_A_WARD = 30;
const ACCESSES_A_SHIFT = 120;
const SERVICE_ACCESSES_A_DAY = 6_000;
const DAYS_A_WEEK = 7;
const SHIFT_HOURS = 8;

/** In the second week one colleague is new, and one is abroad for two days. */
const NEW_COLLEAGUE_FROM_DAY = 9;
const DAYS_ABROAD = [10, 11];

function person(index: number): Person {
  return {
    id: `person-${index}`,
    role: index % 6 === 0 ? 'clerk' : index % 3 === 0 ? 'doctor' : 'nurse',
    ward: index % WARDS,
    isOnCall: index % 10 === 9,
    fromDay: index === PEOPLE - 2 ? NEW_COLLEAGUE_FROM_DAY : 0,
    daysAbroad: index === 12 ? DAYS_ABROAD : [],
  };
}

/** Records of the days from the first one on, in the order of time. Day 0 is a Monday; the same seed gives the same days. */
export function ordinaryDays(days: number, seed: number): AuditRecord[] {
  const random = randomOf(seed);
  const shaped: { atMs: number; shape: Shape }[] = [];
  for (let day = 0; day < days; day++) {
    for (let index = 0; index < PEOPLE; index++)
      shaped.push(...shiftOf(person(index), day, random.fork(`${day}/${index}`)));
    shaped.push(...servicesOn(day, random.fork(`services/${day}`)));
  }
  shaped.sort((left, right) => left.atMs - right.atMs);
  return shaped.map(({ atMs, shape }) => accessAt(atMs, shape));
}

function shiftOf(who: Person, day: number, random: Random): { atMs: number; shape: Shape }[] {
  if (day < who.fromDay) return [];
  const isWeekend = day % DAYS_A_WEEK >= 5;
  const isNight = who.isOnCall && random.chance(0.1);
  if (isWeekend && !(who.isOnCall && random.chance(0.3))) return [];
  const fromMs = MONDAY_MS + day * DAY_MS + (isNight ? 21 : random.int(6, 9)) * HOUR_MS;
  const shaped = loginsOf(who, fromMs, random);
  const count = random.int(ACCESSES_A_SHIFT / 2, ACCESSES_A_SHIFT * 1.5);
  for (let index = 0; index < count; index++) {
    const atMs = fromMs + 60_000 + random.next() * SHIFT_HOURS * HOUR_MS;
    shaped.push({ atMs, shape: withOrigin(accessOf(who, random, atMs), who, day) });
  }
  // A round through the ward: all of its patients in a row.
  if (who.role !== 'clerk') {
    const startMs = fromMs + random.int(1, 6) * HOUR_MS;
    for (let bed = 0; bed < PATIENTS_A_WARD; bed++) {
      shaped.push({ atMs: startMs + bed * 40_000, shape: withOrigin(patientOf(who, bed, random, startMs), who, day) });
    }
  }
  return shaped;
}

/** Most find their password at once, some at the third try. */
function loginsOf({ id }: Person, fromMs: number, random: Random): { atMs: number; shape: Shape }[] {
  const tries = random.chance(0.08) ? random.int(1, 3) : 0;
  return Array.from({ length: tries + 1 }, (_, index) => {
    const isLast = index === tries;
    const event = {
      action: 'login',
      category: ['authentication'],
      type: ['start'],
      outcome: isLast ? 'success' : 'failure',
    };
    const shared = { event, source: { ip: '10.0.0.8' }, related: { user: [id], ip: ['10.0.0.8'] } };
    const target = { type: 'endpoint', id: 'login', name: 'clinic POST /login' };
    const anonymous = { type: 'anonymous', attribution: 'none', claimed: id } as const;
    const shape = isLast
      ? { ...shared, user: { id }, audit: { target } }
      : { ...shared, user: undefined, audit: { actor: anonymous, target } };
    return { atMs: fromMs + index * 9_000, shape } as { atMs: number; shape: Shape };
  });
}

function accessOf(who: Person, random: Random, atMs: number): Shape {
  const kind = random.next();
  if (who.role === 'clerk' && kind < 0.5)
    return targetOf(who, `invoices/${random.int(1, 900)}`, 'clinic GET /invoices/{id}', random, atMs);
  if (kind < 0.55) return patientOf(who, random.int(0, PATIENTS_A_WARD - 1), random, atMs);
  if (kind < 0.57) {
    const shape = targetOf(who, `patients/${random.int(1, 9_000)}`, 'clinic GET /patients/{id}', random, atMs);
    return {
      ...shape,
      event: { ...shape.event, outcome: 'failure', type: ['access', 'denied'] },
      audit: { ...shape.audit, decision: 'deny' },
    };
  }
  if (kind < 0.7) return targetOf(who, 'prescriptions', 'clinic POST /prescriptions', random, atMs);
  return targetOf(who, `ward/${who.ward}`, 'clinic GET /ward/{id}', random, atMs);
}

function patientOf(who: Person, bed: number, random: Random, atMs: number): Shape {
  return targetOf(who, `patients/${who.ward * PATIENTS_A_WARD + bed}`, 'clinic GET /patients/{id}', random, atMs);
}

function targetOf({ id }: Person, target: string, name: string, random: Random, atMs: number): Shape {
  return {
    user: { id },
    event: { duration: latency(random, atMs), outcome: random.chance(0.006) ? 'failure' : 'success' },
    service: { name: 'clinic' },
    audit: { target: { type: 'endpoint', id: target, name }, db: { count: random.int(1, 12), duration: 1e6 } },
  };
}

/** Nanoseconds: log-normal, a third more around noon. */
function latency(random: Random, atMs: number): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
  const noon = Math.abs(((atMs / HOUR_MS) % 24) - 12) < 2 ? 1.3 : 1;
  return Math.round(30e6 * Math.exp(0.5 * normal) * noon);
}

function withOrigin(shape: Shape, { daysAbroad }: Person, day: number): Shape {
  const country = daysAbroad.includes(day) ? 'AT' : 'DE';
  return { ...shape, source: { ip: '198.51.100.7', geo: { country_iso_code: country } } };
}

function servicesOn(day: number, random: Random): { atMs: number; shape: Shape }[] {
  return Array.from({ length: SERVICE_ACCESSES_A_DAY }, () => {
    const atMs = MONDAY_MS + day * DAY_MS + random.next() * DAY_MS;
    const shape: Shape = {
      user: { id: 'interfaces' },
      service: { name: 'interfaces' },
      event: { duration: latency(random, atMs), outcome: random.chance(0.004) ? 'failure' : 'success' },
      audit: {
        actor: { type: 'service', attribution: 'service' },
        target: { type: 'endpoint', id: `results/${random.int(1, 500)}`, name: 'laboratory GET /results/{id}' },
      },
    };
    return { atMs, shape };
  });
}
