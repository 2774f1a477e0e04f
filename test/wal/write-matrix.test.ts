import { describe, expect, it } from 'vitest';
import { StreamedPieces, WholePieces } from '../../src/wal/piece-encoder.ts';
import type { WalOptions } from '../../src/wal/wal.ts';
import { frameOf, numberOf, openWal, replayed } from './helpers.ts';
import { type CrashMode, type FaultMode, MemoryDisk } from './memory-disk.ts';

/** What a sender and the join were told up to the end or the crash. */
class Told {
  readonly acknowledged = new Set<number>();
  readonly listened: number[] = [];
  /** In a segment that was asked to be dropped: may be there or not. */
  readonly dropped = new Set<number>();
}

async function appendAll(
  disk: MemoryDisk,
  options: () => Partial<WalOptions>,
  told: Told,
  batches: readonly (readonly number[])[],
) {
  const { wal } = await openWal(disk, options());
  wal.onDurable((frame) => told.listened.push(numberOf(frame)));
  for (const batch of batches) {
    const appends = batch.map(async (number) => {
      await wal.append(frameOf(number, 90));
      expect(told.listened).toContain(number);
      told.acknowledged.add(number);
    });
    for (const { status, reason } of (await Promise.allSettled(appends)) as { status: string; reason?: unknown }[]) {
      if (status === 'rejected') expect(reason).toMatchObject({ code: 'unavailable' });
    }
  }
  return wal;
}

/** Lone appends, batches, roll-overs, a restart and a drop: every kind of step occurs several times. */
async function scenario(disk: MemoryDisk, options: () => Partial<WalOptions>, told: Told): Promise<void> {
  const wal = await appendAll(disk, options, told, [[1], [2, 3, 4], [5], [6, 7]]);
  await wal.close();
  const second = await appendAll(disk, options, told, [[8, 9, 10, 11, 12], [13], [14]]);
  const [oldest, ...younger] = second.segments();
  if (oldest && younger.length > 0) {
    for (const frame of await replayed(second)) {
      if (frame.position.segment === oldest.segment) told.dropped.add(numberOf(frame));
    }
    await second.drop(oldest.segment);
  }
  await second.close();
}

/** What may be on disk, in this order, is any of what was appended; what must be is all that was acknowledged. */
async function checkRecovered(disk: MemoryDisk, told: Told): Promise<void> {
  const { wal } = await openWal(disk, { segmentBytes: 600 });
  const found = (await replayed(wal)).map((frame) => {
    expect(frame).toMatchObject(frameOf(numberOf(frame), 90));
    return numberOf(frame);
  });
  expect(found).toEqual([...new Set(found)].sort((a, b) => a - b));
  expect(found.filter((number) => number < 1 || number > 14)).toEqual([]);
  const promised = [...told.acknowledged].filter((number) => !told.dropped.has(number));
  expect(promised.filter((number) => !found.includes(number))).toEqual([]);
  // What a replay showed is promised from then on, whether or not it was acknowledged before.
  for (const number of found) told.acknowledged.add(number);
  await wal.close();
}

const FAULTS: FaultMode[] = ['fails', 'fails but persisted', 'killed'];
const CRASHES: CrashMode[] = ['nothing unsynced', 'half of it', 'all of it'];

const cases = FAULTS.flatMap((mode) => CRASHES.map((crash) => ({ mode, crash })));

describe.each([
  ['raw', () => ({ segmentBytes: 600 })],
  ['compressed', () => ({ segmentBytes: 600, isCompressed: true, encoder: new WholePieces() })],
  ['compressed as one stream', () => ({ segmentBytes: 900, isCompressed: true, encoder: new StreamedPieces() })],
])('write matrix, %s', async (_, options: () => Partial<WalOptions>) => {
  const whole = new MemoryDisk();
  await scenario(whole, options, new Told());
  const steps = whole.steps;

  it('has every kind of step', () => {
    expect(new Set(steps)).toEqual(new Set(['create', 'write', 'fdatasync', 'syncFolder', 'unlink']));
  });

  it.each(cases)('a step that $mode, then a crash that leaves $crash', async ({ mode, crash }) => {
    for (const [step, kind] of steps.entries()) {
      const disk = new MemoryDisk();
      disk.faults = [{ step, mode }];
      const told = new Told();
      // A start or a drop that fails says so. What follows is a crash in any case, then two starts.
      const failure = await scenario(disk, options, told).then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(told.listened.filter((number) => !told.acknowledged.has(number))).toEqual([]);
      if (failure) expect(String(failure), `step ${step} ${kind}`).toMatch(/EIO/);
      if (mode !== 'killed' && !failure) expect(told.acknowledged.size).toBeGreaterThan(8);
      for (const next of [crash, 'nothing unsynced'] as const) {
        disk.crash(next);
        await checkRecovered(disk, told).catch((error: unknown) => {
          throw new Error(`step ${step} ${kind}, ${next}: ${error}`, { cause: error });
        });
      }
    }
  });

  it.each(CRASHES)('fails again while it tidies up after a failure, then a crash that leaves %s', async (crash) => {
    for (const step of steps.keys()) {
      const disk = new MemoryDisk();
      disk.faults = [step, step + 1].map((at) => ({ step: at, mode: 'fails' }));
      const told = new Told();
      await scenario(disk, options, told).catch((error: unknown) => expect(String(error)).toMatch(/EIO/));
      disk.crash(crash);
      await checkRecovered(disk, told);
    }
  });
});
