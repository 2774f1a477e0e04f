import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HOUR_MS } from '../../src/core/coverage.ts';
import { addCounts, type Cell, emptyCell, type ServiceHours } from '../../src/coverage/facts.ts';
import { silencesOf } from '../../src/coverage/silence.ts';
import { BASE_MS } from './evidence.ts';

const MINUTE_MS = 60_000;
const DAY_MS = 24 * HOUR_MS;
/** A Monday. */
const MONDAY_MS = Date.parse('2026-11-02T00:00:00Z');

const EVER = { fromMs: Number.NEGATIVE_INFINITY, toMs: Number.POSITIVE_INFINITY };

/** The cells of a service with five pieces at each of these instants. */
function cellsOf(instants: readonly number[], pieces = 5): Cell[] {
  const hours: ServiceHours = { namespace: 'default', service: 'shop', cells: [] };
  for (const atMs of instants) addCounts(hours, { ...emptyCell(Math.floor(atMs / HOUR_MS), atMs), spans: pieces });
  return hours.cells;
}

/** Every ten minutes from one instant to the other, where the hour of the day and the day of the week fit. */
function every10Minutes(fromMs: number, toMs: number, fits: (hour: number, day: number) => boolean = () => true) {
  const instants: number[] = [];
  for (let atMs = fromMs; atMs < toMs; atMs += 10 * MINUTE_MS) {
    const date = new Date(atMs);
    if (fits(date.getUTCHours(), date.getUTCDay())) instants.push(atMs);
  }
  return instants;
}

function silent(cells: readonly Cell[], nowMs: number, blindMs: (fromMs: number, toMs: number) => number = () => 0) {
  return silencesOf(cells, EVER, { silenceMs: HOUR_MS, nowMs, blindMs });
}

describe('a service that is heard all the time', () => {
  const instants = every10Minutes(BASE_MS, BASE_MS + 3 * HOUR_MS);
  const lastMs = BASE_MS + 3 * HOUR_MS - 10 * MINUTE_MS;

  it('is silent from an hour after its last word on', () => {
    expect(silent(cellsOf(instants), lastMs + HOUR_MS - 1)).toEqual([]);
    expect(silent(cellsOf(instants), lastMs + HOUR_MS)).toEqual([
      { fromMs: lastMs, toMs: lastMs + HOUR_MS, ongoing: true, why: 'until then it was heard in 3 of 3 hours' },
    ]);
  });

  it('was silent in between', () => {
    const again = lastMs + 2 * HOUR_MS;
    const cells = cellsOf([...instants, ...every10Minutes(again, again + HOUR_MS)]);
    expect(silent(cells, again + HOUR_MS)).toMatchObject([{ fromMs: lastMs, toMs: again, ongoing: false }]);
  });

  it('is not called silent while Spantrail did not run', () => {
    const nowMs = lastMs + 3 * HOUR_MS;
    expect(silent(cellsOf(instants), nowMs, () => 2 * HOUR_MS + 1)).toEqual([]);
    expect(silent(cellsOf(instants), nowMs, () => HOUR_MS)).toHaveLength(1);
  });
});

describe('what is not expected', () => {
  it('is anything from a script that ran once', () => {
    expect(silent(cellsOf([BASE_MS], 9), BASE_MS + 2 * DAY_MS)).toEqual([]);
    expect(silent(cellsOf([BASE_MS], 10), BASE_MS + 2 * DAY_MS)).toHaveLength(1);
  });

  it('is traffic at night from a service of office hours', () => {
    const office = every10Minutes(MONDAY_MS, MONDAY_MS + 4 * DAY_MS, (hour) => hour >= 9 && hour < 17);
    const named = silent(cellsOf(office), MONDAY_MS + 4 * DAY_MS);
    // Of the first night nothing is known yet.
    expect(named.map(({ fromMs }) => new Date(fromMs).toISOString())).toEqual(['2026-11-02T16:50:00.000Z']);
  });

  it('is traffic at a weekend that rested a week before', () => {
    const week = every10Minutes(
      MONDAY_MS,
      MONDAY_MS + 14 * DAY_MS,
      (hour, day) => hour >= 9 && hour < 17 && day % 6 > 0,
    );
    const named = silent(cellsOf(week), MONDAY_MS + 14 * DAY_MS);
    expect(named.map(({ fromMs }) => new Date(fromMs).toISOString().slice(0, 10))).toEqual([
      '2026-11-02',
      '2026-11-06',
    ]);
  });
});

describe('what is missed', () => {
  it('is the job of a night that did not run', () => {
    const nights = [0, 1, 2, 4, 5].map((day) => MONDAY_MS + day * DAY_MS + 2 * HOUR_MS + (day % 2) * 5 * MINUTE_MS);
    const named = silent(cellsOf(nights, 50), MONDAY_MS + 5 * DAY_MS + 10 * HOUR_MS);
    expect(named).toMatchObject([
      // Of the first night nothing is known yet.
      { fromMs: nights[0], why: 'it was heard in that hour alone' },
      { fromMs: nights[2], toMs: nights[3], why: 'at this time of the day before there was traffic' },
    ]);
  });

  it('is a weekday without a word after a week of them', () => {
    const until = MONDAY_MS + 7 * DAY_MS + 12 * HOUR_MS;
    const days = every10Minutes(MONDAY_MS, until, (hour, day) => hour >= 9 && hour < 17 && day % 6 > 0);
    const named = silent(cellsOf(days), MONDAY_MS + 7 * DAY_MS + 15 * HOUR_MS);
    expect(named.at(-1)).toMatchObject({ ongoing: true, why: 'at this time of the week before there was traffic' });
  });
});

describe('whatever was heard', () => {
  const minutes = fc.uniqueArray(fc.integer({ min: 0, max: 20 * 24 * 60 }), { minLength: 1, maxLength: 200 });

  it('silences are as long as named, hold no evidence and do not overlap', () => {
    fc.assert(
      fc.property(minutes, fc.nat(48 * 60), (offsets, laterMinutes) => {
        const instants = offsets.map((minute) => MONDAY_MS + minute * MINUTE_MS).toSorted((a, b) => a - b);
        const nowMs = (instants.at(-1) ?? 0) + laterMinutes * MINUTE_MS;
        let endMs = 0;
        for (const { fromMs, toMs } of silent(cellsOf(instants), nowMs)) {
          expect(toMs - fromMs).toBeGreaterThanOrEqual(HOUR_MS);
          expect(instants.filter((atMs) => atMs > fromMs && atMs < toMs)).toEqual([]);
          expect(fromMs).toBeGreaterThanOrEqual(endMs);
          endMs = toMs;
        }
      }),
    );
  });

  it('a service of less than a day that is heard in every hour is missed in each hour of silence, and only there', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 0, max: 23 }), { minLength: 2 }), (active) => {
        const hours = [...active].toSorted((a, b) => a - b);
        const cells = cellsOf(
          hours.map((hour) => BASE_MS + hour * HOUR_MS),
          20,
        );
        const nowMs = BASE_MS + (hours.at(-1) ?? 0) * HOUR_MS;
        const [first = 0] = hours;
        const expected = hours.flatMap((hour, index) => {
          const next = hours[index + 1];
          const isRegular = (index + 1) / (hour - first + 1) >= 0.5;
          return next !== undefined && isRegular ? [[BASE_MS + hour * HOUR_MS, BASE_MS + next * HOUR_MS]] : [];
        });
        expect(silent(cells, nowMs).map(({ fromMs, toMs }) => [fromMs, toMs])).toEqual(expected);
      }),
    );
  });
});
