import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Detect, openDetect } from '../../src/app/detect.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import type { Alert } from '../../src/core/alert.ts';
import { parseTimestamp } from '../../src/core/clock.ts';
import { Counters } from '../../src/core/metrics.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { readChecked, writeChecked } from '../../src/coverage/checked-file.ts';
import { recordOf, type Short } from '../detect/world.ts';
import { type CrashMode, type FaultMode, MemoryDisk } from '../wal/memory-disk.ts';

const RULES = `
- { id: failures, name: Failures, type: threshold, severity: high, query: 'event.outcome: failure', group_by: user.id, window: 60s, threshold: { value: 4 } }
- { id: country, name: Country, type: new_terms, severity: low, query: '*', group_by: user.id, new_terms: { fields: source.geo.country_iso_code, history: 1d } }
- { id: rate, name: Rate, type: baseline, severity: low, query: '*', group_by: user.id, baseline: { of: rate, interval: 1m, deviations: 1, min_volume: 2, warm_up: 0s } }
- { id: down, name: Down, type: query, severity: critical, source: pipeline, query: 'event.action: pipeline.store_failing', suppress: 1h }
`;

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spantrail-detect-'));
  await writeFile(join(folder, 'rules.yaml'), RULES);
});
afterAll(() => rm(folder, { recursive: true }));

/** Keeps what it is told, as a desk does; refuses it when told to. */
class Desk {
  readonly alerts = new Map<string, Alert>();
  refuses = 0;

  async raise(alerts: readonly Alert[]): Promise<void> {
    if (this.refuses-- > 0) throw new Error('the desk is full');
    for (const alert of alerts) this.alerts.set(alert.id, alert);
  }

  told(): string[] {
    return [...this.alerts.values()].map(({ id, count, records }) => `${id} ${count} ${records}`).sort();
  }
}

interface Opened {
  readonly detect: Detect;
  readonly turns: (() => void)[];
  readonly messages: string[];
}

async function open(
  disk: MemoryDisk,
  desk: Desk,
  files = [join(folder, 'rules.yaml')],
  logBytesMin = 300,
): Promise<Opened> {
  const turns: (() => void)[] = [];
  const messages: string[] = [];
  const say = (_: object, message: string) => void messages.push(message);
  const settings = settingsSchema.parse({ detect: { shippedRules: false, latenessMs: '10s', rules: { files } } });
  const detect = await openDetect({
    ...{ settings, folder: '/data', disk, desk, counters: new Counters(), logBytesMin },
    clock: { nowMs: () => Date.UTC(2026, 10, 23, 12) },
    scheduler: {
      after: (_, act) => {
        turns.push(act);
        return () => undefined;
      },
      elapsedMs: () => 0,
      random: () => 0,
    },
    log: { info: say, warn: say, error: say },
  });
  return { detect, turns, messages };
}

function writesOf(shorts: readonly Short[]): RecordWrite[] {
  return shorts.map((short) => {
    const record = recordOf(short);
    const timestampNs = parseTimestamp(record['@timestamp']) ?? 0n;
    return { id: record.event.id, namespace: 'default', timestampNs, rank: 1n, record };
  });
}

/** Six quiet minutes with four failures of alice within one, a new country, and a burst at the end. */
const BATCHES: readonly (readonly Short[])[] = [
  ...Array.from({ length: 15 }, (_, batch) => Array.from({ length: 4 }, (_, index) => quiet(batch * 4 + index))),
  Array.from({ length: 30 }, (_, index): Short => ({ id: `b${index}`, at: 430 + index, country: 'DE' })),
];

function quiet(number: number): Short {
  return {
    ...{ id: `r${number}`, at: number * 6, user: number % 3 === 0 ? 'bob' : 'alice' },
    ...{ outcome: number < 20 && number % 2 === 0 ? 'failure' : 'success', country: number === 17 ? 'KP' : 'DE' },
  };
}

/** As the pump does: each batch until it went through. Power is lost at a fault that kills, and the batch comes again. */
async function run(faults: MemoryDisk['faults'], crash: CrashMode, refuses = 0): Promise<Desk> {
  const disk = new MemoryDisk();
  disk.faults = faults;
  const desk = new Desk();
  desk.refuses = refuses;
  const openOrCrash = async () => {
    for (;;) {
      try {
        return await open(disk, desk);
      } catch {
        disk.crash(crash);
      }
    }
  };
  let { detect } = await openOrCrash();
  for (const batch of BATCHES) {
    for (let tries = 0; ; tries++) {
      try {
        await detect.observe(writesOf(batch));
        break;
      } catch {
        // What only failed is tried again; a medium that is gone is not there until the machine starts again.
        if (tries % 2 === 0) continue;
        disk.crash(crash);
        detect = (await openOrCrash()).detect;
      }
    }
  }
  return desk;
}

describe('what rules remember', () => {
  it('is the same whichever step on disk fails, or ends the process', async () => {
    const expected = (await run([], 'all of it')).told();
    expect(expected).toHaveLength(3);
    const modes = fc.constantFrom<FaultMode>('fails', 'fails but persisted', 'killed', 'killed');
    const crashes = fc.constantFrom<CrashMode>('nothing unsynced', 'half of it', 'all of it');
    const fault = fc.record({ step: fc.nat(200), mode: modes });
    await fc.assert(
      fc.asyncProperty(fc.array(fault, { maxLength: 3 }), crashes, fc.nat(2), async (faults, crash, refuses) => {
        expect((await run(faults, crash, refuses)).told()).toEqual(expected);
      }),
      { numRuns: 150 },
    );
  });

  it('is read up to what is damaged, which is put aside and said', async () => {
    const disk = new MemoryDisk();
    const files = [join(folder, 'rules.yaml')];
    const first = await open(disk, new Desk(), files, 100_000);
    for (const batch of BATCHES.slice(0, 3)) await first.detect.observe(writesOf(batch));
    const log = disk.paths().find((path) => path.includes('log-')) ?? '';
    const bytes = disk.bytesOf(log);
    bytes[bytes.indexOf('"r5"')] = 0;
    disk.plant(log, bytes);
    const { messages } = await open(disk, new Desk());
    expect(messages).toContain('the log of what rules remember is damaged: what it holds up to there is used');
    expect(disk.paths()).toContain(`${log}.unreadable`);
  });
});

describe('what another version remembered', () => {
  it('is put aside when its log reads otherwise, and said', async () => {
    const disk = new MemoryDisk();
    const first = await open(disk, new Desk(), undefined, 100_000);
    await first.detect.observe(writesOf(BATCHES[0] ?? []));
    const log = disk.paths().find((path) => path.includes('log-')) ?? '';
    const text = '[["failures",[["m","default",["alice"],"r0","t",1,0,[]]]]]';
    const line = `${crc32(text).toString(16).padStart(8, '0')} ${text}\n`;
    const bytes = disk.bytesOf(log);
    const head = bytes.subarray(0, bytes.indexOf('\n') + 1);
    disk.plant(log, Buffer.concat([head, Buffer.from(line)]));
    const { messages } = await open(disk, new Desk());
    expect(messages).toContain('the log of what rules remember is damaged: what it holds up to there is used');
    expect(disk.paths()).toContain(`${log}.unreadable`);
  });

  it('is left out rule by rule, and said', async () => {
    const disk = new MemoryDisk();
    const desk = new Desk();
    const first = await open(disk, desk);
    for (const batch of BATCHES.slice(0, 5)) await first.detect.observe(writesOf(batch));
    await first.detect.close();
    const path = '/data/detect/state';
    const format = 'spantrail-detect-state';
    const state = await readChecked(disk, path, format);
    if (state.kind !== 'lines') throw new Error('there is a state');
    const [head, ...saved] = state.lines as [unknown, ...[string, string, unknown][]];
    const other = saved.map(([rule, fingerprint, line]) => [
      rule,
      fingerprint,
      rule === 'failures' ? { of: 'x' } : line,
    ]);
    await writeChecked(disk, path, format, [head, ...other]);
    const { detect, messages } = await open(disk, desk);
    expect(messages).toContain('what a rule remembers cannot be read; it begins anew');
    expect(detect.rules().map(({ id, groups }) => [id, groups > 0])).toEqual([
      ...[
        ['failures', false],
        ['country', true],
        ['rate', true],
        ['down', false],
      ],
    ]);
    for (const batch of BATCHES.slice(5)) await detect.observe(writesOf(batch));
    await detect.close();
  });
});

describe('rule files', () => {
  it('are read again when they change; with mistakes the last good rules stay, and an alert says so', async () => {
    const path = join(folder, 'changing.yaml');
    const rule = (threshold: number) => RULES.split('\n')[1]?.replace('value: 4', `value: ${threshold}`) ?? '';
    await writeFile(path, rule(4));
    const desk = new Desk();
    const { detect, turns } = await open(new MemoryDisk(), desk, [path]);
    const failures = (from: number, to: number) =>
      writesOf(Array.from({ length: to - from }, (_, index): Short => ({ at: from + index, outcome: 'failure' })));
    await detect.observe(failures(0, 3));
    await writeFile(path, `${rule(4).replace('high', 'highest')}\n`);
    const look = turns.pop();
    look?.();
    await expect
      .poll(() => detect.problems())
      .toEqual([expect.stringContaining('changing.yaml:1:62: rule failures, severity')]);
    await expect
      .poll(() => [...desk.alerts.values()])
      .toMatchObject([{ rule: { id: 'rules-broken', severity: 'high' } }]);
    // What was counted before counts on: words changed, not the meaning.
    await writeFile(path, rule(4).replace('severity: high', 'severity: low'));
    expect(await detect.reload()).toEqual([]);
    await detect.observe(failures(3, 4));
    expect([...desk.alerts.values()].filter(({ rule: { id } }) => id === 'failures')).toMatchObject([
      { count: 4, rule: { severity: 'low' } },
    ]);
    expect(detect.rules()).toMatchObject([{ id: 'failures', state: 'on', alerts: 1 }]);
    await detect.close();
  });

  it('that are broken at the start leave the others at work', async () => {
    const path = join(folder, 'broken.yaml');
    await writeFile(path, '- id: x');
    const desk = new Desk();
    const { detect } = await open(new MemoryDisk(), desk, [
      path,
      join(folder, 'rules.yaml'),
      join(folder, 'none.yaml'),
    ]);
    expect(detect.rules()).toHaveLength(4);
    await detect.close();
    expect([...desk.alerts.values()]).toMatchObject([
      { reason: expect.stringContaining('none.yaml:1:1: cannot be read') },
    ]);
  });
});

describe('what the pipeline tells', () => {
  it('goes by the rules for it, and not by others', async () => {
    const desk = new Desk();
    const { detect } = await open(new MemoryDisk(), desk);
    const news = { action: 'pipeline.store_failing', reason: 'the store is away', of: 'store_failing' } as const;
    for (let times = 0; times < 5; times++) detect.tell(news);
    await detect.close();
    expect([...desk.alerts.values()]).toMatchObject([
      { rule: { id: 'down' }, reason: 'spantrail: the store is away', count: 1 },
    ]);
  });
});
