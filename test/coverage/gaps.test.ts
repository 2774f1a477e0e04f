import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GAP_KINDS, HOUR_MS } from '../../src/core/coverage.ts';
import { addCounts, type Cell, type CoverageFacts, emptyCell, type ServiceHours } from '../../src/coverage/facts.ts';
import { odds, words } from '../../src/coverage/gap-texts.ts';
import { countGaps, coverageAnswer, coverageSummary, type ReportOptions } from '../../src/coverage/report.ts';
import { BASE_MS } from './evidence.ts';

const MINUTE_MS = 60_000;
const START_MS = BASE_MS - 24 * HOUR_MS;

/** Hour after the base → what was counted in it; ten spans where nothing is said. */
type Hours = Readonly<Record<number, Partial<Cell>>>;

function service(name: string, hours: Hours, namespace = 'default'): ServiceHours {
  const made: ServiceHours = { namespace, service: name, cells: [] };
  for (const [hour, counts] of Object.entries(hours)) {
    const atMs = BASE_MS + Number(hour) * HOUR_MS;
    const last = { lastMs: atMs + 59 * MINUTE_MS };
    addCounts(made, { ...emptyCell(atMs / HOUR_MS, atMs), ...last, spans: 10, ...counts });
  }
  return made;
}

function options(facts: Partial<CoverageFacts>, nowHour = 3): ReportOptions {
  const nowMs = BASE_MS + nowHour * HOUR_MS;
  const run = { startedMs: START_MS, aliveMs: nowMs, isClean: false };
  const nothing = { services: [], unwatched: service('', {}), runs: [run], refusals: [], lost: [] };
  return {
    facts: { ...nothing, ...facts },
    settings: { silenceMs: HOUR_MS, downMs: 10_000 },
    nowMs,
    countedUntilMs: nowMs,
    knownSinceMs: START_MS,
  };
}

const gapsOf = (services: ServiceHours[], nowHour = 3) => coverageSummary({}, options({ services }, nowHour)).gaps;
const busy = { 0: {}, 1: {}, 2: {} };

describe('no gap', () => {
  it('is said with the services and since when something is known', () => {
    const { text, gap_count, services } = coverageSummary({}, options({ services: [service('shop', busy)] }));
    expect({ text, gap_count, services }).toEqual({
      text: 'no gap observed since 2026-11-21 10:00Z (1 service)',
      gap_count: 0,
      services: 1,
    });
  });

  it('needs no beginning where the range begins later', () => {
    const question = { fromMs: BASE_MS, toMs: BASE_MS + HOUR_MS };
    const two = [service('shop', busy), service('stock', busy)];
    expect(coverageSummary(question, options({ services: two })).text).toBe('no gap observed (2 services)');
  });

  it('is not said where nothing was seen', () => {
    expect(coverageSummary({}, options({})).text).toMatch(/^no evidence of any service since .*nothing can be said$/);
    const { text: ofNames } = coverageSummary(
      { services: ['mail', 'post'] },
      options({ services: [service('shop', busy)] }),
    );
    expect(ofNames).toBe('no evidence of mail, post since 2026-11-21 10:00Z, so nothing can be said');
    const before = { fromMs: BASE_MS - 2 * HOUR_MS, toMs: BASE_MS - HOUR_MS };
    const { text } = coverageSummary(before, options({ services: [service('shop', busy)] }));
    expect(text).toBe('no evidence of any service, so nothing can be said');
  });

  it.each([
    ['a sampler that keeps all', { stated: 10, probabilityMin: 1, probabilityMax: 1 }],
    ['two missing parents', { children: 9, missingLocal: 2 }],
    ['few missing parents among many', { spans: 1000, children: 900, missingRemote: 8 }],
  ])('is said of %s', (_, counts) => {
    expect(gapsOf([service('shop', { ...busy, 1: counts })])).toEqual([]);
  });
});

describe('gaps of a service', () => {
  it.each([
    [
      'sampling',
      { sampled: 10, stated: 10, probabilityMin: 0.1, probabilityMax: 0.1 },
      /keeps only 1 in 10 of its spans \(sampling stated by 10 of 10\)/,
    ],
    [
      'sampling',
      { sampled: 9, stated: 10, probabilityMin: 0.01, probabilityMax: 1 },
      /keeps between 1 in 100 and all of its spans/,
    ],
    ['sampling', { sampled: 10, stated: 10 }, /keeps only a part of its spans, it does not say which/],
    ['unsampled', { unsampled: 1 }, /1 span of traces that were decided against/],
    ['missing_parents', { children: 10, missingLocal: 3 }, /shop lost spans: 3 of 10 spans with a parent \(30 %\)/],
    [
      'missing_parents',
      { children: 300, missingRemote: 3 },
      /called by something whose spans never came: 3 of 300 spans with a parent \(1 %\)/,
    ],
    ['misdated', { misdated: 4 }, /4 spans or log records whose time cannot be/],
  ])('%s: %j', (kind, counts, text) => {
    const [gap, ...others] = gapsOf([service('shop', { ...busy, 1: counts })]);
    expect(others).toEqual([]);
    expect(gap).toMatchObject({ kind, namespace: 'default', service: 'shop', ongoing: false });
    expect(gap?.from).toBe('2026-11-22T11:00:00.000000000Z');
    expect(gap?.to).toBe('2026-11-22T11:59:00.000000000Z');
    expect(gap?.text).toMatch(text);
  });

  it('of several hours are one, and go on while the newest hour has them', () => {
    const sampled = { sampled: 5, stated: 5, probabilityMin: 0.5, probabilityMax: 0.5 };
    const ofHours = (hours: Hours) =>
      gapsOf([service('shop', hours)], 6)
        .filter(({ kind }) => kind === 'sampling')
        .map(({ from, to, ongoing, text }) => [
          from.slice(11, 13),
          to.slice(11, 13),
          ongoing,
          /\(in .*/.exec(text)?.[0],
        ]);
    const some = '(in 4 of 5 hours with evidence)';
    expect(ofHours({ 0: sampled, 1: sampled, 2: {}, 3: sampled, 5: sampled })).toEqual([['10', '15', true, some]]);
    expect(ofHours({ 0: {}, 1: sampled, 3: sampled, 5: {} })).toEqual([['11', '13', false, undefined]]);
  });

  it('that are missing parents are those of the hours that miss many', () => {
    const some = { children: 10, missingLocal: 1 };
    const few = { children: 1000, missingLocal: 1 };
    expect(gapsOf([service('shop', { 0: some, 1: few, 2: some, 3: some })], 4)).toMatchObject([
      { kind: 'missing_parents', text: expect.stringMatching(/3 of 30 .* \(in 3 of 4 hours with evidence\)$/) },
    ]);
    expect(gapsOf([service('shop', { 0: some, 1: few, 2: some, 3: few })], 4)).toEqual([]);
  });

  it('are named with the service that has no name', () => {
    expect(gapsOf([service('', { ...busy, 1: { unsampled: 2 } })])[0]?.text).toMatch(
      /^\(no service\.name\) sent 2 spans/,
    );
  });

  it('are silences, as far as evidence is counted', () => {
    const services = [service('shop', busy)];
    expect(gapsOf(services, 6)).toMatchObject([
      { kind: 'silence', ongoing: true, text: expect.stringContaining('shop is silent for 3 h 1 min') },
    ]);
    // What waits to be stored may be of this service.
    expect(coverageSummary({}, { ...options({ services }, 6), countedUntilMs: BASE_MS + 3 * HOUR_MS }).gaps).toEqual(
      [],
    );
    expect(coverageSummary({}, { ...options({ services }, 6), countedUntilMs: Number.NEGATIVE_INFINITY }).gaps).toEqual(
      [],
    );
  });
});

describe('gaps of Spantrail itself', () => {
  const at = (minutes: number) => BASE_MS + minutes * MINUTE_MS;
  const run = (from: number, to: number, isClean = true) => ({ startedMs: at(from), aliveMs: at(to), isClean });

  it('are pauses between runs that senders may not have waited for', () => {
    const runs = [run(0, 10), { startedMs: at(10) + 9_999, aliveMs: at(20), isClean: false }, run(25, 200)];
    expect(coverageSummary({}, options({ runs })).gaps).toMatchObject([
      {
        kind: 'down',
        from: '2026-11-22T10:20:00.000000000Z',
        text: expect.stringMatching(/ended without a stop.*for 5 min:/),
      },
    ]);
  });

  it('are times in which it stood still', () => {
    const runs = [{ ...run(0, 10, false), isPaused: true }, run(70, 200)];
    expect(coverageSummary({}, options({ runs })).gaps).toMatchObject([
      { kind: 'down', text: expect.stringMatching(/^Spantrail stood still .* for 1 h:/) },
    ]);
  });

  it('are refusals, unread days and services beyond the limit', () => {
    const facts = {
      refusals: [{ fromMs: at(0), toMs: at(2), requests: 7 }],
      lost: [{ fromMs: at(0), toMs: at(60), reason: '2026-11-22.ndjson could not be read: its checksum is wrong' }],
      unwatched: service('', { 1: { spans: 3, logs: 2 } }),
    };
    expect(coverageSummary({}, options(facts)).gaps.map(({ kind, text }) => [kind, text])).toEqual([
      ['unwatched', '5 pieces of evidence of services beyond coverage.servicesMax came: those are not watched'],
      ['unknown', 'the coverage of this time is not known: 2026-11-22.ndjson could not be read: its checksum is wrong'],
      ['refused', 'Spantrail refused 7 requests: what senders did not send again is missing'],
    ]);
  });

  it('are told together when there are many', () => {
    const runs = Array.from({ length: 6 }, (_, number) => run(number * 10, number * 10 + 8));
    const refusals = Array.from({ length: 4 }, (_, number) => ({
      fromMs: at(number * 5),
      toMs: at(number * 5),
      requests: 2,
    }));
    const gaps = coverageSummary({}, options({ runs, refusals })).gaps;
    expect(
      gaps.map(({ kind, from, to, text }) => [kind, from.slice(11, 16), to.slice(11, 16), text.split(':')[0]]),
    ).toEqual([
      ['down', '10:08', '10:50', 'Spantrail did not run 5 times, for 10 min in all'],
      ['refused', '10:00', '10:15', 'Spantrail refused 8 requests at 4 times'],
    ]);
    const part = { fromMs: at(0), toMs: at(19) };
    expect(coverageSummary(part, options({ runs, refusals })).gaps.map(({ kind }) => kind)).toEqual([
      ...['down', 'refused', 'down'],
    ]);
  });

  it('and silences of a service that is often quiet', () => {
    const hours = Object.fromEntries(Array.from({ length: 12 }, (_, number) => [number * 2, {}]));
    expect(coverageSummary({}, options({ services: [service('shop', hours)] }, 24)).gaps).toMatchObject([
      { ongoing: true, text: expect.stringMatching(/^shop is silent for 1 h 1 min;/) },
      { ongoing: false, text: 'shop was silent 11 times, for 11 h 11 min in all' },
    ]);
  });

  it('are gaps of every range that they touch, whatever the service', () => {
    const facts = { refusals: [{ fromMs: at(10), toMs: at(12), requests: 1 }], services: [service('shop', busy)] };
    const ask = (from: number, to: number) =>
      coverageSummary({ fromMs: at(from), toMs: at(to), services: ['shop'] }, options(facts)).gap_count;
    expect([ask(0, 10), ask(0, 11), ask(11, 12), ask(12, 13), ask(13, 14)]).toEqual([0, 1, 1, 1, 0]);
  });
});

describe('what is asked for', () => {
  const sampled = { 0: { sampled: 10, stated: 10, probabilityMin: 0.5, probabilityMax: 0.5 }, 1: {}, 2: {} };
  const services = [service('shop', sampled), service('stock', sampled), service('shop', sampled, 'blue')];

  it('is one service, one namespace, a range', () => {
    const gapCount = (question: object) => coverageSummary(question, options({ services })).gap_count;
    expect(gapCount({})).toBe(3);
    expect(gapCount({ services: ['shop'] })).toBe(2);
    expect(gapCount({ namespace: 'blue' })).toBe(1);
    expect(gapCount({ services: ['shop'], namespace: 'blue' })).toBe(1);
    expect(gapCount({ services: ['mail'] })).toBe(0);
    expect(gapCount({ fromMs: BASE_MS + HOUR_MS })).toBe(0);
  });

  it('is answered for each service in order, with sums of the range', () => {
    const answer = coverageAnswer({ fromMs: BASE_MS + HOUR_MS }, options({ services }));
    expect(answer.services.map((one) => [one.namespace, one.service, one.hours, one.spans])).toEqual([
      ['blue', 'shop', 2, 20],
      ['default', 'shop', 2, 20],
      ['default', 'stock', 2, 20],
    ]);
    expect(coverageAnswer({}, options({ services })).services[0]?.sampling).toEqual({
      stated: 10,
      sampled: 10,
      unsampled: 0,
      probability_min: 0.5,
      probability_max: 0.5,
    });
  });

  it('names the newest ten, and counts the rest', () => {
    const many = Array.from({ length: 30 }, (_, number) => service(`service-${number}`, sampled));
    const summary = coverageSummary({}, options({ services: many }));
    expect([summary.gap_count, summary.gaps.length]).toEqual([30, 10]);
    expect(countGaps({}, options({ services: many }))).toEqual(new Map([['sampling', 30]]));
  });
});

describe('whatever was counted', () => {
  const count = fc.nat(20);
  const counted = fc.record({
    ...{ spans: count, roots: count, logs: count, stated: count, sampled: count, unsampled: count, children: count },
    ...{ missingLocal: count, missingRemote: count, misdated: count },
    probabilityMin: fc.constantFrom(0.1, 1),
    probabilityMax: fc.constantFrom(1),
  });
  const hours = fc.dictionary(fc.nat(60).map(String), counted, { maxKeys: 20 });

  it('every gap lies in the range asked for, has its words, and counts agree', () => {
    fc.assert(
      fc.property(hours, fc.nat(60), fc.nat(60), (filled, from, length) => {
        const all = options({ services: [service('shop', filled as Hours)] }, 61);
        const range = { fromMs: BASE_MS + from * HOUR_MS, toMs: BASE_MS + (from + length) * HOUR_MS };
        const answer = coverageAnswer(range, all);
        const gaps = [...answer.gaps, ...answer.services.flatMap((one) => one.gaps)];
        for (const gap of gaps) {
          expect(GAP_KINDS).toContain(gap.kind);
          expect(Date.parse(gap.from)).toBeLessThanOrEqual(Date.parse(gap.to));
          expect(Date.parse(gap.from)).toBeLessThan(range.toMs);
          expect(Date.parse(gap.to)).toBeGreaterThanOrEqual(range.fromMs);
          expect(gap.text).not.toMatch(/NaN|Infinity|undefined/);
        }
        const counts = [...countGaps(range, all).values()].reduce((sum, one) => sum + one, 0);
        expect([coverageSummary(range, all).gap_count, counts]).toEqual([gaps.length, gaps.length]);
        expect(answer.text === coverageSummary(range, all).text).toBe(true);
      }),
    );
  });
});

describe('words', () => {
  it.each([
    [0, 'less than a second'],
    [999, 'less than a second'],
    [5_000, '5 s'],
    [65_000, '1 min 5 s'],
    [3_600_000, '1 h'],
    [11_520_000, '3 h 12 min'],
    [90_061_000, '1 d 1 h'],
    [86_400_000 + 60_000, '1 d'],
  ])('%i ms is %s', (milliseconds, text) => expect(words(milliseconds)).toBe(text));

  it.each([
    [0.5, '1 in 2'],
    [1 / 3, '1 in 3'],
    [0.01, '1 in 100'],
    [0.75, '75 %'],
    [0.999, '99.9 %'],
  ])('%f is %s', (probability, text) => expect(odds(probability)).toBe(text));
});
