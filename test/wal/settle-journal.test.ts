import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SETTLE_REASONS } from '../../src/core/record.ts';
import { countKept } from '../../src/join/trace-settler.ts';
import { JournalOutput } from '../../src/wal/journal-bytes.ts';
import {
  decodeHead,
  decodeMark,
  decodeSettle,
  ENTRY_KIND,
  encodeMark,
  encodeSettle,
} from '../../src/wal/journal-codec.ts';
import { comparePlaces } from '../../src/wal/journal-places.ts';
import type { SegmentReport } from '../../src/wal/segment-files.ts';
import {
  type JournalEntry,
  type JournalMark,
  type JournalPosition,
  SettleJournal,
} from '../../src/wal/settle-journal.ts';
import { entryOf } from '../fixtures/journal.ts';
import { MemoryDisk } from './memory-disk.ts';

const folder = '/data/journal';

const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const number = fc.oneof(fc.nat(200), u32, fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }));
const hex = fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: 32, maxLength: 32 });
const text = fc.oneof(hex, fc.string({ maxLength: 70 }), fc.string({ unit: 'grapheme', maxLength: 20 }));
const place = fc.record({ segment: u32, offset: u32 });
const counts = fc.record({ used: number, context: number, excluded: number, duplicate: number });
const fresh = fc.record({ used: number, context: number, excluded: number, duplicate: number, quarantined: number });
const piece = fc.record({
  segment: fc.oneof(fc.integer({ min: 1, max: 3 }), u32),
  offset: fc.oneof(fc.constantFrom(32, 700), u32),
  itemStart: fc.integer({ min: 0, max: 2 ** 29 - 1 }),
  isLog: fc.boolean(),
});
const record = fc
  .record({
    id: text,
    timestampNs: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    firstRevision: u32,
    by: fc.option(text),
  })
  .map(({ by, ...rest }) => ({ ...rest, ...(by !== null && { supersededBy: by }) }));
const anyEntry = fc.record({
  namespace: fc.string({ unit: 'grapheme', maxLength: 20 }),
  traceId: fc.oneof(fc.constant(''), hex),
  through: place,
  rank: fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
  revision: u32,
  settledAtMs: fc.integer({ min: 0, max: 4_000_000_000_000 }),
  reason: fc.constantFrom(...SETTLE_REASONS),
  settles: u32,
  isLost: fc.boolean(),
  horizonMs: number,
  records: fc.array(record, { maxLength: 5 }),
  pieces: fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.sort(comparePlaces)),
  counts: fc.record({ traces: counts, logs: counts }),
  fresh: fc.record({ traces: fresh, logs: fresh }),
});
const arbitraryEntry: fc.Arbitrary<JournalEntry> = fc.oneof(
  anyEntry,
  anyEntry.map((entry) => ({ ...entry, isClosed: true as const })),
);
const arbitraryMark: fc.Arbitrary<JournalMark> = fc.record({
  atMs: fc.integer({ min: 0, max: 4_000_000_000_000 }),
  storedBefore: u32,
  acceptedThrough: place,
  totals: fc.array(number, { maxLength: 30 }),
});

function entryAt(settledAtMs: number, traceId = 'c'.repeat(32)): JournalEntry {
  return entryOf({
    traceId,
    settledAtMs,
    records: [{ id: 'f'.repeat(32), timestampNs: 1_790_000_000_000_000_001n, firstRevision: 1 }],
  });
}

function markAt(atMs: number): JournalMark {
  return { atMs, storedBefore: 3, acceptedThrough: { segment: 4, offset: 99 }, totals: [1, 2] };
}

async function open(disk: MemoryDisk, segmentBytes = 2000) {
  const reports: SegmentReport[] = [];
  const journal = await SettleJournal.open({ folder, disk, segmentBytes, report: (about) => void reports.push(about) });
  return { journal, reports };
}

async function replayed(journal: SettleJournal, marks: JournalMark[] = []): Promise<[JournalEntry, JournalPosition][]> {
  const entries: [JournalEntry, JournalPosition][] = [];
  await journal.replay((entry, position) => void entries.push([entry, position]), {
    visitMark: (mark) => void marks.push(mark),
  });
  return entries;
}

const arbitraryBatch = fc.record({
  entries: fc.array(arbitraryEntry, { maxLength: 8 }),
  mark: fc.option(arbitraryMark, { nil: undefined }),
});

describe('a body that its checksum vouches for and that says nonsense', () => {
  it.each([
    ['settle', ENTRY_KIND.settle, decodeSettle],
    ['settle, as a restart reads it', ENTRY_KIND.settle, decodeHead],
    ['mark', ENTRY_KIND.mark, decodeMark],
  ])(
    'is damage that can be told and passed over: %s',
    (_name, kind, decode: (body: Buffer, atMs: number) => unknown) => {
      const output = new JournalOutput();
      if (kind === ENTRY_KIND.mark) encodeMark(output, { ...markAt(0), totals: [1, -1] });
      else encodeSettle(output, entryOf({ traceId: 'c'.repeat(32), revision: -1 }));
      const body = Buffer.from(output.part(0, output.at));
      for (let length = 0; length < body.length; length++) {
        const damaged = body.subarray(0, length);
        try {
          decode(damaged, 0);
        } catch (thrown) {
          expect(thrown).toMatchObject({ name: 'AppError', code: 'storage' });
        }
      }
      expect(() => decode(body.subarray(0, 5), 0)).toThrow('cannot be decoded');
    },
  );

  it('is not written: a settle that tells of fewer duplicates than were dropped counts none', () => {
    const none = { used: 0, context: 0, excluded: 0, duplicate: 0 };
    const settlement = { rank: 1n, records: [], superseded: new Map(), counts: none, logCounts: none, repeats: [] };
    expect(countKept(settlement, { traces: 1, logs: 2 }, undefined)).toEqual({ traces: none, logs: none });
  });
});

describe('settle journal', () => {
  it('gives every entry back, by replay and by position', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(arbitraryBatch, { maxLength: 6 }), async (batches) => {
        const disk = new MemoryDisk();
        const { journal } = await open(disk);
        const positions: JournalPosition[] = [];
        for (const { entries, mark } of batches) positions.push(...(await journal.append(entries, mark)));
        await journal.close();
        const again = await open(disk);
        const marks: JournalMark[] = [];
        const found = await replayed(again.journal, marks);
        const entries = batches.flatMap((batch) => batch.entries);
        expect(found.map(([entry]) => entry)).toEqual(entries);
        expect(found.map(([, position]) => position)).toEqual(positions);
        expect(positions.map((position) => again.journal.read(position))).toEqual(entries);
        expect(marks).toEqual(batches.flatMap(({ mark }) => mark ?? []));
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
    const starts = (await journal.append(entries, markAt(4))).map(({ offset }) => offset);
    await journal.close();
    const path = `${folder}/0000000001.journal`;
    const whole = disk.bytesOf(path);
    const markBytes = 18 + 3 + 1 + 2;
    const ends = [...starts.slice(1), whole.length - markBytes];
    for (let at = 32; at < whole.length; at += 1) {
      disk.plant(path, whole.subarray(0, at));
      const again = await open(disk);
      const marks: JournalMark[] = [];
      expect((await replayed(again.journal, marks)).map(([entry]) => entry)).toEqual(
        entries.slice(0, ends.filter((end) => end <= at).length),
      );
      expect(marks).toEqual([]);
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

  it('keeps its newest mark while the next one is not durable yet, and when entries came after it', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk, 60);
    await journal.append([], markAt(1000));
    const { promise, resolve } = Promise.withResolvers<void>();
    disk.gate = promise;
    void journal.append([], markAt(2000)).catch(() => undefined);
    await new Promise(setImmediate);
    // The header of the next segment becomes durable, the mark does not.
    disk.gate = new Promise(() => undefined);
    resolve();
    await new Promise(setImmediate);
    expect(disk.paths()).toHaveLength(2);
    await journal.dropBefore(9000);
    disk.gate = undefined;
    disk.crash('nothing unsynced');
    const again = await open(disk, 60);
    const marks: JournalMark[] = [];
    await replayed(again.journal, marks);
    expect(marks).toEqual([markAt(1000)]);
    for (const timeMs of [3000, 4000]) await again.journal.append([entryAt(timeMs)]);
    await again.journal.dropBefore(9000);
    const third = await open(disk, 60);
    await replayed(third.journal, marks);
    expect(marks).toEqual([markAt(1000), markAt(1000)]);
    await third.journal.append([], markAt(5000));
    await third.journal.dropBefore(9000);
    expect(disk.paths()).not.toContain(`${folder}/0000000001.journal`);
  });

  it('keeps what it knows of evidence that may be read again, also when the clock says that it is old', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk, 200);
    for (const [timeMs, segment] of [
      [1000, 3],
      [2000, 9],
      [3000, 4],
      [4000, 10],
    ] as const)
      await journal.append([{ ...entryAt(timeMs), through: { segment, offset: 32 } }]);
    await journal.close();
    const again = await open(disk, 200);
    await replayed(again.journal);
    await again.journal.dropBefore(9000, 5);
    expect((await replayed(again.journal)).map(([entry]) => entry.settledAtMs)).toEqual([2000, 4000]);
  });

  it('keeps the entry of an ordinary trace in some 200 bytes', async () => {
    const { journal } = await open(new MemoryDisk(), 1_000_000);
    const records = Array.from({ length: 5 }, (_, index) => ({
      id: `${index}`.padStart(32, 'a'),
      timestampNs: 1_790_000_000_000_000_001n,
      firstRevision: 1,
    }));
    const pieces = Array.from({ length: 8 }, (_, index) => ({
      ...{ segment: 700, offset: 60_000_000, itemStart: 40_000 + index * 600, isLog: false },
    }));
    const before = journal.bytes;
    await journal.append([entryOf({ traceId: 'c'.repeat(32), records, pieces })]);
    expect(journal.bytes - before).toBeLessThan(280);
  });

  it('refuses a journal of the format before with words', async () => {
    const disk = new MemoryDisk();
    const { journal } = await open(disk);
    await journal.append([entryAt(1)]);
    await journal.close();
    const path = `${folder}/0000000001.journal`;
    const whole = disk.bytesOf(path);
    const entry = whole.subarray(32);
    entry.writeUInt8(1, 8);
    entry.writeUInt32LE(crc32(entry.subarray(8)), 4);
    disk.plant(path, whole);
    const again = await open(disk);
    await expect(replayed(again.journal)).rejects.toThrow(/format version 1.*move the folder "journal" away/);
    expect(() => again.journal.read({ segment: 1, offset: 32 })).toThrow(/format version 1/);
  });

  it('does not open the write-ahead log’s files', async () => {
    const disk = new MemoryDisk();
    disk.plant(`${folder}/0000000001.wal`, Buffer.alloc(40));
    const { reports } = await open(disk);
    expect(reports).toMatchObject([{ segment: 0, reason: expect.stringContaining('not ours') }]);
  });
});
