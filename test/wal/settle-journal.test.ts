import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SegmentReport } from '../../src/wal/segment-recovery.ts';
import { type JournalEntry, type JournalPosition, SettleJournal } from '../../src/wal/settle-journal.ts';
import { MemoryDisk } from './memory-disk.ts';

const folder = '/data/journal';

const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const arbitraryEntry: fc.Arbitrary<JournalEntry> = fc.record({
  namespace: fc.string({ unit: 'grapheme', maxLength: 20 }),
  traceId: fc.oneof(
    fc.constant(''),
    fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: 32, maxLength: 32 }),
  ),
  through: fc.record({ segment: u32, offset: u32 }),
  rank: fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
  revision: u32,
  settledAtMs: fc.integer({ min: 0, max: 4_000_000_000_000 }),
  records: fc.array(
    fc.record({ id: fc.string({ maxLength: 70 }), timestampNs: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) }),
    { maxLength: 5 },
  ),
});

function entryAt(settledAtMs: number, traceId = 'c'.repeat(32)): JournalEntry {
  const records = [{ id: 'f'.repeat(32), timestampNs: 1_790_000_000_000_000_001n }];
  return {
    namespace: 'default',
    traceId,
    through: { segment: 3, offset: 99 },
    rank: 7n,
    revision: 1,
    settledAtMs,
    records,
  };
}

async function open(disk: MemoryDisk, segmentBytes = 2000) {
  const reports: SegmentReport[] = [];
  const journal = await SettleJournal.open({ folder, disk, segmentBytes, report: (about) => void reports.push(about) });
  return { journal, reports };
}

async function replayed(journal: SettleJournal): Promise<[JournalEntry, JournalPosition][]> {
  const entries: [JournalEntry, JournalPosition][] = [];
  await journal.replay((entry, position) => void entries.push([entry, position]));
  return entries;
}

describe('settle journal', () => {
  it('gives every entry back, by replay and by position', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(arbitraryEntry, { maxLength: 8 }), { maxLength: 6 }), async (batches) => {
        const disk = new MemoryDisk();
        const { journal } = await open(disk);
        const positions: JournalPosition[] = [];
        for (const batch of batches) positions.push(...(await journal.append(batch)));
        await journal.close();
        const again = await open(disk);
        const found = await replayed(again.journal);
        expect(found.map(([entry]) => entry)).toEqual(batches.flat());
        expect(found.map(([, position]) => position)).toEqual(positions);
        expect(positions.map((position) => again.journal.read(position))).toEqual(batches.flat());
        expect(again.reports).toEqual([]);
      }),
      { numRuns: 100 },
    );
  });

  it('writes a batch with one write and one fsync', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk, 1_000_000);
    await journal.append([entryAt(1)]);
    const [writes, syncs] = [disk.count('write'), disk.count('fdatasync')];
    await journal.append(Array.from({ length: 1000 }, (_, index) => entryAt(index)));
    expect([disk.count('write') - writes, disk.count('fdatasync') - syncs]).toEqual([1, 1]);
  });

  it('cut at any byte gives back what stood before the cut', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk);
    const entries = [1, 2, 3].map((settledAtMs) => entryAt(settledAtMs));
    const starts = (await journal.append(entries)).map(({ offset }) => offset);
    await journal.close();
    const path = `${folder}/0000000001.journal`;
    const whole = disk.bytesOf(path);
    const ends = [...starts.slice(1), whole.length];
    for (let at = 32; at < whole.length; at += 1) {
      disk.plant(path, whole.subarray(0, at));
      const again = await open(disk);
      expect((await replayed(again.journal)).map(([entry]) => entry)).toEqual(
        entries.slice(0, ends.filter((end) => end <= at).length),
      );
      expect(again.reports.length).toBe(at === 32 || ends.includes(at) ? 0 : 1);
    }
  });

  it('drops segments whose newest entry is older, and never the newest segment', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk, 200);
    const positions: JournalPosition[] = [];
    for (const timeMs of [1000, 2000, 3000, 4000]) positions.push(...(await journal.append([entryAt(timeMs)])));
    expect(positions.map(({ segment }) => segment)).toEqual([1, 2, 3, 4]);
    await journal.dropBefore(3000);
    expect(disk.paths().map((path) => path.slice(-9, -8))).toEqual(['3', '4']);
    expect(() => journal.read({ segment: 1, offset: 32 })).toThrow(/cannot read settle journal/);
    await journal.close();
    const again = await open(disk, 200);
    await replayed(again.journal);
    await again.journal.dropBefore(9000);
    expect((await replayed(again.journal)).map(([entry]) => entry.settledAtMs)).toEqual([4000]);
  });

  it('does not open the write-ahead log’s files', async () => {
    const disk = new MemoryDisk();
    disk.plant(`${folder}/0000000001.wal`, Buffer.alloc(40));
    const { reports } = await open(disk);
    expect(reports).toMatchObject([{ segment: 0, reason: expect.stringContaining('not ours') }]);
  });
});
