import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type CoverageNote, HOUR_MS } from '../../src/core/coverage.ts';
import { CoverageLog, type CoverageLogSettings } from '../../src/coverage/coverage-log.ts';
import type { CoverageFacts } from '../../src/coverage/facts.ts';
import { type CrashMode, type FaultMode, MemoryDisk } from '../wal/memory-disk.ts';
import { BASE_MS } from './evidence.ts';

const DAY_MS = 24 * HOUR_MS;
const FOLDER = '/data/coverage';
const TODAY = `${FOLDER}/2026-11-22.ndjson`;

function note(fields: Partial<CoverageNote> & { atMs?: number } = {}): CoverageNote {
  const { atMs = BASE_MS, ...more } = fields;
  return {
    ...{ namespace: 'default', service: 'shop', hour: Math.floor(atMs / HOUR_MS), firstMs: atMs, lastMs: atMs },
    ...{ spans: 1, roots: 1, logs: 0, stated: 0, sampled: 0, unsampled: 0 },
    ...{ children: 0, missingLocal: 0, missingRemote: 0, probabilityMin: 0, probabilityMax: 0 },
    ...more,
  };
}

interface World {
  readonly disk: MemoryDisk;
  nowMs: number;
  readonly damages: { file: string; reason: string; lost: string }[];
  open(settings?: Partial<CoverageLogSettings>): Promise<CoverageLog>;
}

function world(): World {
  const made: World = {
    disk: new MemoryDisk(),
    nowMs: BASE_MS,
    damages: [],
    open: (settings) =>
      CoverageLog.open({
        folder: FOLDER,
        disk: made.disk,
        clock: { nowMs: () => made.nowMs },
        settings: { retentionMs: 3 * DAY_MS, servicesMax: 3, ...settings },
        report: (damage) => made.damages.push(damage),
      }),
  };
  return made;
}

/** Files hold the services in another order than they came in. */
const sorted = (facts: CoverageFacts) => ({
  ...facts,
  services: facts.services.toSorted((a, b) => (`${a.namespace} ${a.service}` < `${b.namespace} ${b.service}` ? -1 : 1)),
});

const spansOf = ({ services }: CoverageFacts) =>
  Object.fromEntries(services.map(({ service, cells }) => [service, cells.map(({ spans }) => spans)]));

describe('what was seen', () => {
  it('is there after a restart, to the letter', async () => {
    const here = world();
    const log = await here.open();
    log.add([note(), note({ atMs: BASE_MS + HOUR_MS, stated: 2, sampled: 1, probabilityMin: 0.1, probabilityMax: 1 })]);
    log.add([note({ atMs: BASE_MS - DAY_MS, namespace: 'blue', missingRemote: 1, children: 1 })]);
    log.add([note({ atMs: BASE_MS - DAY_MS - HOUR_MS, namespace: 'blue', service: '', spans: 0, logs: 3 })]);
    log.refused(5);
    await log.close();
    const before = sorted(log.facts());
    expect(here.disk.paths()).toEqual([`${FOLDER}/2026-11-21.ndjson`, TODAY, `${FOLDER}/runs.ndjson`]);

    here.nowMs += 60_000;
    const thisRun = { startedMs: here.nowMs, aliveMs: here.nowMs, isClean: false };
    const again = sorted((await here.open()).facts());
    expect(again).toEqual({ ...before, runs: [...before.runs, thisRun] });
    expect(before.runs).toEqual([{ startedMs: BASE_MS, aliveMs: BASE_MS, isClean: true }]);
    expect(before.refusals).toEqual([{ fromMs: BASE_MS, toMs: BASE_MS, requests: 5 }]);
    expect(here.damages).toEqual([]);
  });

  it('adds up, and what is taken back never goes below nothing', async () => {
    const log = await world().open();
    log.add([note({ missingLocal: 2 }), note({ missingLocal: -1, spans: 0 }), note({ missingLocal: -5, spans: 0 })]);
    expect(log.facts().services[0]?.cells).toMatchObject([{ spans: 1, missingLocal: 0 }]);
  });

  it('with a time that cannot be is counted when it came', async () => {
    const log = await world().open();
    log.add([
      note({ atMs: BASE_MS + 366 * DAY_MS, spans: 2 }),
      note({ atMs: BASE_MS - 366 * DAY_MS, spans: 0, logs: 1 }),
    ]);
    log.add([note({ atMs: BASE_MS + HOUR_MS / 2 })]);
    expect(log.facts().services[0]?.cells).toMatchObject([{ hour: BASE_MS / HOUR_MS, spans: 1, misdated: 3, logs: 0 }]);
  });

  it('of services beyond the limit is only counted, until others are forgotten', async () => {
    const here = world();
    const log = await here.open();
    const names = ['a', 'b', 'c', 'd', 'e'];
    log.add(names.map((service) => note({ service })));
    expect(spansOf(log.facts())).toEqual({ a: [1], b: [1], c: [1] });
    expect(log.facts().unwatched.cells).toMatchObject([{ spans: 2 }]);
    await log.close();

    here.nowMs += 4 * DAY_MS;
    const later = await here.open();
    later.add([note({ service: 'd', atMs: here.nowMs })]);
    expect(spansOf(later.facts())).toEqual({ d: [1] });
    expect(later.facts().unwatched.cells).toEqual([]);
    await later.flush();
    expect(here.disk.paths()).toEqual([`${FOLDER}/2026-11-26.ndjson`, `${FOLDER}/runs.ndjson`]);
  });

  it('fits a lower limit at the next start', async () => {
    const here = world();
    const log = await here.open();
    log.add(['a', 'b', 'c'].flatMap((service) => [note({ service }), note({ service, atMs: BASE_MS + HOUR_MS })]));
    await log.close();
    const again = await here.open({ servicesMax: 1 });
    expect(spansOf(again.facts())).toEqual({ a: [1, 1] });
    expect(again.facts().unwatched.cells).toMatchObject([{ spans: 2 }, { spans: 2 }]);
  });
});

describe('runs and refusals', () => {
  it('tell a run that was killed from one that was stopped, and how long it lived', async () => {
    const here = world();
    const log = await here.open();
    here.nowMs += 5_000;
    await log.flush();
    here.nowMs += 3_000;
    const next = await here.open();
    expect(next.facts().runs).toEqual([
      { startedMs: BASE_MS, aliveMs: BASE_MS + 5_000, isClean: false },
      { startedMs: BASE_MS + 8_000, aliveMs: BASE_MS + 8_000, isClean: false },
    ]);
  });

  it('are two where the process stood still in between', async () => {
    const here = world();
    const log = await here.open();
    here.nowMs += 59_999;
    await log.flush();
    here.nowMs += 3_600_000;
    await log.flush();
    here.nowMs += 5_000;
    await log.close();
    const [first, second, third] = (await here.open()).facts().runs;
    expect([first, second]).toEqual([
      { startedMs: BASE_MS, aliveMs: BASE_MS + 59_999, isClean: false, isPaused: true },
      { startedMs: BASE_MS + 3_659_999, aliveMs: BASE_MS + 3_664_999, isClean: true },
    ]);
    expect(third).toMatchObject({ isClean: false });
  });

  it('join refusals that follow each other, and are bounded', async () => {
    const here = world();
    const log = await here.open();
    log.refused(0);
    for (let number = 0; number < 3; number++) {
      log.refused(2);
      here.nowMs += 30_000;
    }
    here.nowMs += 60_000;
    log.refused(1);
    expect(log.facts().refusals).toEqual([
      { fromMs: BASE_MS, toMs: BASE_MS + 60_000, requests: 6 },
      { fromMs: here.nowMs, toMs: here.nowMs, requests: 1 },
    ]);
    for (let number = 0; number < 1100; number++) {
      here.nowMs += 61_000;
      log.refused(1);
    }
    await log.flush();
    expect(log.facts().refusals).toHaveLength(1000);
  });
});

describe('a damaged file', () => {
  async function damaged(path: string, change: (bytes: Buffer) => Buffer) {
    const here = world();
    const log = await here.open();
    log.add([note(), note({ atMs: BASE_MS - DAY_MS })]);
    await log.close();
    here.disk.plant(path, change(here.disk.bytesOf(path)));
    here.nowMs += 60_000;
    return { here, log: await here.open() };
  }

  it.each([
    ['torn', (bytes: Buffer) => bytes.subarray(0, bytes.length - 3), /checksum/],
    ['torn in its first line', (bytes: Buffer) => bytes.subarray(0, 20), /first line is torn/],
    ['empty', () => Buffer.alloc(0), /first line is torn/],
    ['of zeros', (bytes: Buffer) => Buffer.alloc(bytes.length), /first line is torn/],
    ['something else', () => Buffer.from('hello\nworld\n'), /first line is no JSON/],
    ['null', () => Buffer.from('null\n'), /it is no spantrail coverage day/],
    [
      'another file of ours',
      () => Buffer.from('{"format":"spantrail coverage runs"}\n'),
      /it is no spantrail coverage day/,
    ],
    [
      'of a later version',
      (bytes: Buffer) => Buffer.from(bytes.toString().replace('"version":1', '"version":2')),
      /format version 2/,
    ],
  ])('that is %s is named, put aside and begun anew; the others are read', async (_, change, reason) => {
    const { here, log } = await damaged(TODAY, change);
    expect(here.damages).toEqual([
      { file: `${TODAY}.unreadable`, reason: expect.stringMatching(reason), lost: 'the figures of 2026-11-22' },
    ]);
    expect(spansOf(log.facts())).toEqual({ shop: [1] });
    expect(log.facts().lost).toMatchObject([{ fromMs: Date.parse('2026-11-22'), toMs: Date.parse('2026-11-23') }]);
    // What is lost stays known, and is not found again.
    log.add([note()]);
    await log.close();
    const next = await here.open();
    expect(next.facts().lost).toEqual(log.facts().lost);
    expect(spansOf(next.facts())).toEqual({ shop: [1, 1] });
    expect(here.damages).toHaveLength(1);
  });

  it('of runs leaves it unknown when Spantrail ran', async () => {
    const { here, log } = await damaged(`${FOLDER}/runs.ndjson`, (bytes) => bytes.subarray(9));
    expect(here.damages).toMatchObject([{ file: `${FOLDER}/runs.ndjson.unreadable` }]);
    expect(log.facts().runs).toHaveLength(1);
    expect(log.facts().lost).toMatchObject([
      { toMs: here.nowMs, reason: expect.stringMatching(/^when Spantrail ran is not known/) },
    ]);
    expect(spansOf(log.facts())).toEqual({ shop: [1, 1] });
  });

  it('never keeps it from opening, wherever a byte is changed', async () => {
    const here = world();
    const log = await here.open();
    log.add([note()]);
    await log.close();
    const whole = here.disk.bytesOf(TODAY);
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), async (place, change) => {
        const bytes = Buffer.from(whole);
        bytes[place] = (bytes[place] ?? 0) ^ change;
        here.disk.plant(TODAY, bytes);
        here.damages.length = 0;
        const opened = await here.open();
        // Read as it was (the change was in the count of lines, which nothing rests on), or named.
        if (here.damages.length === 0) expect(spansOf(opened.facts())).toEqual({ shop: [1] });
        else expect(opened.facts().services).toEqual([]);
      }),
    );
  });
});

describe('each step of a flush, failed or killed', () => {
  const CASES = (['fails', 'fails but persisted', 'killed'] as FaultMode[]).flatMap((fault) =>
    (['nothing unsynced', 'half of it', 'all of it'] as CrashMode[]).map((crash) => ({ fault, crash })),
  );

  it.each(CASES)(
    '$fault, then $crash: the earlier or the later state, and nothing in between',
    async ({ fault, crash }) => {
      for (let step = 0; ; step++) {
        const here = world();
        const log = await here.open();
        log.add([note()]);
        await log.flush();
        const begun = here.disk.steps.length;
        log.add([note()]);
        here.disk.faults = [{ step: begun + step, mode: fault }];
        const failed = await log.flush().then(
          () => false,
          () => true,
        );
        if (!failed) {
          // There was no such step, or its failure did not matter.
          expect(here.disk.steps.length - begun).toBeGreaterThan(5);
          if (here.disk.steps.length - begun <= step) return;
          continue;
        }
        if (fault !== 'killed') {
          // The process goes on, and the next flush writes what this one could not.
          await log.flush();
          here.disk.crash('nothing unsynced');
          expect(spansOf((await here.open()).facts())).toEqual({ shop: [2] });
          continue;
        }
        here.disk.crash(crash);
        const spans = spansOf((await here.open()).facts());
        expect([{ shop: [1] }, { shop: [2] }]).toContainEqual(spans);
        expect(here.damages).toEqual([]);
      }
    },
  );

  it('a full disk loses nothing of what was there, and the next flush with room catches up', async () => {
    const here = world();
    const log = await here.open();
    log.add([note()]);
    await log.flush();
    log.add([note()]);
    here.disk.capacityBytes = 0;
    await expect(log.flush()).rejects.toThrow(/ENOSPC/);
    here.disk.capacityBytes = Number.POSITIVE_INFINITY;
    await log.flush();
    expect(spansOf((await here.open()).facts())).toEqual({ shop: [2] });
  });
});
