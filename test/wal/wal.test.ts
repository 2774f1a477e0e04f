import { describe, expect, it } from 'vitest';
import { Counters } from '../../src/core/metrics.ts';
import type { StoredFrame } from '../../src/wal/frame.ts';
import { Quarantine } from '../../src/wal/quarantine.ts';
import { encodeHeader, JOURNAL_KIND, sealEntry, WAL_KIND } from '../../src/wal/segment-format.ts';
import { SegmentReader } from '../../src/wal/segment-reader.ts';
import { SettleJournal } from '../../src/wal/settle-journal.ts';
import { openFrameReader } from '../../src/wal/wal.ts';
import { entryOf } from '../fixtures/journal.ts';
import { FOLDER, frameOf, numberOf, openWal, replayed } from './helpers.ts';
import { MemoryDisk } from './memory-disk.ts';

/** The steps of a new segment, in the order that makes it safe. */
const STARTED = ['create', 'write', 'fdatasync', 'syncFolder'];

const first = `${FOLDER}/0000000001.wal`;

describe('append and replay', () => {
  it('gives every frame back as it was, in order, from memory, from disk and to another reader', async () => {
    const disk = new MemoryDisk();
    const { wal } = await openWal(disk);
    const frames = [frameOf(1), frameOf(2, 0, 'logs'), frameOf(3, 2000, 'metrics'), frameOf(4)];
    const positions = [];
    for (const frame of frames) positions.push(await wal.append(frame));
    await wal.append({ ...frameOf(5), payload: Buffer.alloc(0) });
    const reader = openFrameReader(FOLDER, disk);
    for (const [index, frame] of frames.entries()) {
      const position = positions[index] ?? { segment: 0, offset: 0 };
      expect(wal.read(position)).toMatchObject({ ...frame, position });
      expect(reader.read(position)).toEqual(wal.read(position));
    }
    await wal.close();
    const again = await openWal(disk);
    const found = await replayed(again.wal);
    expect(found.map(({ position }) => position).slice(0, 4)).toEqual(positions);
    expect(found.slice(0, 4)).toMatchObject(frames);
    expect(found[4]?.payload.length).toBe(0);
    expect(found.map((frame) => again.wal.read(frame.position))).toEqual(found);
    expect(again.reports).toEqual([]);
  });

  it('tells listeners in append order before the append resolves, and replays only what is older than the open', async () => {
    const disk = new MemoryDisk();
    const before = await openWal(disk);
    await Promise.all([1, 2, 3].map((number) => before.wal.append(frameOf(number))));
    await before.wal.close();
    const { wal } = await openWal(disk);
    const events: string[] = [];
    wal.onDurable((frame) => events.push(`durable ${numberOf(frame)}`));
    const numbers: number[] = [];
    const appends: Promise<unknown>[] = [];
    await wal.replay(async (frame) => {
      numbers.push(numberOf(frame));
      appends.push(wal.append(frameOf(10 + numberOf(frame))).then(() => events.push(`ack ${10 + numberOf(frame)}`)));
    });
    await Promise.all(appends);
    expect(numbers).toEqual([1, 2, 3]);
    for (const number of [11, 12, 13]) {
      expect(events.indexOf(`durable ${number}`)).toBeLessThan(events.indexOf(`ack ${number}`));
    }
    expect(events.filter((event) => event.startsWith('durable'))).toEqual(['durable 11', 'durable 12', 'durable 13']);
  });

  it('keeps recent frames in memory within the budget and reads older ones from disk', async () => {
    const disk = new MemoryDisk();
    const { wal } = await openWal(disk, { cacheBytesMax: 2 * (200 + 512), segmentBytes: 10_000 });
    const stored: StoredFrame[] = [];
    wal.onDurable((frame) => stored.push(frame));
    for (const number of [1, 2, 3]) await wal.append(frameOf(number));
    // A small frame counts with what its objects take. There is room for two, and the oldest are asked for first.
    expect(stored.map((frame) => wal.read(frame.position) === frame)).toEqual([true, true, false]);
    // Those before the one that was read last make way.
    for (const number of [4, 5, 6]) await wal.append(frameOf(number));
    expect(stored.map((frame) => wal.read(frame.position) === frame)).toEqual([false, false, false, true, true, false]);
    for (const frame of stored) expect(wal.read(frame.position)).toEqual(frame);
  });

  it('replays from a segment on, and tells how far it is', async () => {
    const disk = new MemoryDisk();
    const before = await openWal(disk);
    for (let number = 0; number < 7; number += 1) await before.wal.append(frameOf(number, 150));
    await before.wal.close();
    const { wal } = await openWal(disk);
    const numbers: number[] = [];
    const told: unknown[] = [];
    const opened: string[] = [];
    const open = disk.openToRead.bind(disk);
    disk.openToRead = (path) => {
      opened.push(path.slice(-5, -4));
      return open(path);
    };
    const options = { fromSegment: 3, progress: (progress: unknown) => told.push(progress) };
    const { frames } = await wal.replay((frame) => void numbers.push(numberOf(frame)), options);
    const young = wal.segments().filter(({ segment }) => segment >= 3);
    const bytesTotal = young.reduce((sum, { bytes }) => sum + bytes, 0);
    expect(opened).toEqual(young.map(({ segment }) => String(segment)));
    expect(numbers).toEqual([2, 3, 4, 5, 6]);
    expect(frames).toBe(5);
    expect(told.at(-1)).toEqual({ entries: 5, bytes: bytesTotal, bytesTotal });
  });

  it('passes over an entry that is whole and yet no frame, and says so', async () => {
    const disk = new MemoryDisk();
    const { wal } = await openWal(disk);
    await wal.append(frameOf(1));
    const other = Buffer.alloc(18 + 4);
    sealEntry(other, 9, 5n);
    const bytes = disk.bytesOf(first);
    disk.plant(first, Buffer.concat([bytes, other, bytes.subarray(32)]));
    const again = await openWal(disk);
    expect((await replayed(again.wal)).map(numberOf)).toEqual([1, 1]);
    const reason = `segment 1 at ${bytes.length} holds no frame`;
    expect(again.reports).toEqual([{ segment: 1, offset: bytes.length, bytesCut: other.length, reason }]);
  });

  it('has its folders on the medium before anything in them counts', async () => {
    const disk = new MemoryDisk();
    const { wal } = await openWal(disk);
    await wal.append(frameOf(1));
    const journal = await SettleJournal.open({ folder: '/data/journal', disk });
    const [position] = await journal.append([entryOf({ settledAtMs: 1 })]);
    const entry = { stage: 'store', reason: 'refused', id: 'a', body: {} };
    await (await Quarantine.open('/data/quarantine', { disk })).add([entry]);
    disk.crash('nothing unsynced');
    expect((await replayed((await openWal(disk)).wal)).map(numberOf)).toEqual([1]);
    const again = await SettleJournal.open({ folder: '/data/journal', disk });
    expect(again.read(position ?? { segment: 0, offset: 0 })).toMatchObject({ settledAtMs: 1 });
    expect((await Quarantine.open('/data/quarantine', { disk })).status().open).toBe(1);
  });

  it('keeps when a frame was received that comes again, and its segment is as old as it is', async () => {
    const disk = new MemoryDisk();
    const nowMs = 1_800_000_000_000;
    const options = { clock: { nowMs: () => nowMs } };
    const { wal } = await openWal(disk, options);
    const frame = frameOf(1);
    await wal.appendAgain(frame);
    const nowNs = BigInt(nowMs) * 1_000_000n;
    const times = { firstReceivedNs: nowNs, lastReceivedNs: nowNs };
    expect(wal.segments()).toEqual([expect.objectContaining(times)]);
    await wal.close();
    const again = await openWal(disk, options);
    const [found] = await replayed(again.wal);
    expect(found).toMatchObject({ ...frame, note: frame.note });
    expect(Object.keys(found?.note ?? {}).toSorted()).toEqual(Object.keys(frame.note).toSorted());
    expect(again.wal.segments()).toEqual([expect.objectContaining(times)]);
  });

  it('finishes what waits at close and refuses what comes after', async () => {
    const { wal } = await openWal(new MemoryDisk());
    const finished: unknown[] = [];
    void wal.append(frameOf(1)).then((position) => finished.push(position));
    await wal.close();
    expect(finished).toEqual([{ segment: 1, offset: 32 }]);
    await expect(wal.append(frameOf(2))).rejects.toMatchObject({ code: 'unavailable' });
  });
});

describe('group commit', () => {
  it('writes what waits during an fsync with one write and one fsync', async () => {
    const disk = new MemoryDisk();
    const counters = new Counters();
    const { wal } = await openWal(disk, { segmentBytes: 1_000_000, counters });
    await wal.append(frameOf(0));
    let open = () => {};
    disk.gate = new Promise((resolve) => {
      open = resolve;
    });
    const [writes, syncs] = [disk.count('write'), disk.count('fdatasync')];
    const one = wal.append(frameOf(1));
    await new Promise(setImmediate);
    const rest = Array.from({ length: 50 }, (_, index) => wal.append(frameOf(2 + index)));
    open();
    await Promise.all([one, ...rest]);
    expect(disk.count('write') - writes).toBe(2);
    expect(disk.count('fdatasync') - syncs).toBe(2);
    expect(counters.total('fsyncs')).toBe(3);
    expect(counters.total('appended')).toBe(wal.bytes - 32);
  });

  it('rejects exactly the appends whose batch failed and goes on in a new segment', async () => {
    const disk = new MemoryDisk();
    const { wal, reports } = await openWal(disk, { segmentBytes: 1_000_000 });
    await wal.append(frameOf(1));
    disk.faults = [{ step: disk.steps.length + 1, mode: 'fails' }];
    const durable: number[] = [];
    wal.onDurable((frame) => durable.push(numberOf(frame)));
    const failed = [wal.append(frameOf(2)), wal.append(frameOf(3))];
    for (const append of failed) {
      await expect(append).rejects.toMatchObject({ code: 'unavailable', retryable: true });
    }
    await expect(wal.append(frameOf(4))).resolves.toEqual({ segment: 2, offset: 32 });
    expect(durable).toEqual([4]);
    expect(reports).toMatchObject([{ segment: 1, reason: expect.stringContaining('EIO') }]);
    await wal.close();
    const again = await openWal(disk);
    expect((await replayed(again.wal)).map(numberOf)).toEqual([1, 4]);
    expect(again.reports).toEqual([]);
  });

  it('appends nothing while a failed batch cannot be cut off: what was refused is never between what was not', async () => {
    const disk = new MemoryDisk();
    const { wal } = await openWal(disk);
    await wal.append(frameOf(1));
    const write = disk.steps.length;
    disk.faults = [
      { step: write + 1, mode: 'fails but persisted' },
      { step: write + 2, mode: 'fails' },
      { step: write + 3, mode: 'fails' },
    ];
    await expect(wal.append(frameOf(2))).rejects.toMatchObject({ code: 'unavailable' });
    await expect(wal.append(frameOf(3))).rejects.toMatchObject({ code: 'unavailable' });
    expect(disk.steps.slice(write)).toEqual(['write', 'fdatasync', 'truncate', 'truncate']);
    await wal.append(frameOf(4));
    await wal.close();
    const { wal: again } = await openWal(disk);
    expect((await replayed(again)).map(numberOf)).toEqual([1, 4]);
  });

  it('leaves no trace of a segment whose first batch failed', async () => {
    const disk = new MemoryDisk();
    const { wal } = await openWal(disk);
    disk.faults = [{ step: disk.steps.length + 4, mode: 'fails' }];
    await expect(wal.append(frameOf(1))).rejects.toMatchObject({ code: 'unavailable' });
    expect(await wal.append(frameOf(2))).toEqual({ segment: 1, offset: 32 });
    expect(disk.steps).toEqual(['syncFolder', ...STARTED, 'write', 'unlink', ...STARTED, 'write', 'fdatasync']);
    await wal.close();
    const again = await openWal(disk);
    expect((await replayed(again.wal)).map(numberOf)).toEqual([2]);
  });
});

describe('segments', () => {
  it('rolls over at the size and the age, gives a large frame its own, and keeps numbers after drops', async () => {
    const disk = new MemoryDisk();
    let nowMs = 1_790_000_000_000;
    const { wal } = await openWal(disk, { segmentAgeMs: 1000, clock: { nowMs: () => nowMs } });
    for (const number of [1, 2, 3, 4, 5]) await wal.append(frameOf(number, 100));
    const large = await wal.append(frameOf(6, 5000));
    nowMs += 2000;
    const young = await wal.append(frameOf(7));
    expect(large).toEqual({ segment: 4, offset: 32 });
    expect(young).toEqual({ segment: 5, offset: 32 });
    expect(wal.segments().map(({ segment, sealed }) => [segment, sealed])).toEqual([
      [1, true],
      [2, true],
      [3, true],
      [4, true],
      [5, false],
    ]);
    expect(wal.segments()[0]).toMatchObject({
      firstReceivedNs: frameOf(1).note.receivedNs,
      lastReceivedNs: frameOf(2).note.receivedNs,
      bytes: disk.bytesOf(first).length,
    });
    for (const segment of [1, 2, 3, 4]) await wal.drop(segment);
    await expect(wal.drop(5)).rejects.toMatchObject({ code: 'storage' });
    expect(wal.bytes).toBe(disk.bytesOf(`${FOLDER}/0000000005.wal`).length);
    disk.crash('nothing unsynced');
    expect(disk.paths()).toEqual([`${FOLDER}/0000000005.wal`]);
    const again = await openWal(disk, { segmentFloor: 3 });
    await expect(again.wal.drop(5)).rejects.toMatchObject({ code: 'storage' });
    expect(await again.wal.append(frameOf(8))).toEqual({ segment: 6, offset: 32 });
  });

  it('splits what waits over segments, and knows after a replay what it knew before', async () => {
    const disk = new MemoryDisk();
    const { wal } = await openWal(disk);
    await Promise.all(Array.from({ length: 20 }, (_, index) => wal.append(frameOf(20 - index))));
    const before = wal.segments();
    expect(before.filter(({ bytes }) => bytes > 512 || bytes < 256)).toEqual([]);
    await wal.close();
    const again = await openWal(disk);
    await replayed(again.wal);
    expect(again.wal.segments()).toEqual(before.map((segment) => ({ ...segment, sealed: true })));
  });

  it('seals what is old though nothing more comes, and then lets it go', async () => {
    const disk = new MemoryDisk();
    let nowMs = 1_790_000_000_000;
    const { wal, reports } = await openWal(disk, { segmentAgeMs: 1000, clock: { nowMs: () => nowMs } });
    const segments = () => wal.segments().map(({ segment, sealed }) => [segment, sealed]);
    await wal.sealAged();
    expect(segments()).toEqual([]);
    await wal.append(frameOf(1));
    await wal.sealAged();
    expect(segments()).toEqual([[1, false]]);
    nowMs += 1001;
    // The disk is full: it stays as it is, and is tried again.
    disk.capacityBytes = 0;
    await wal.sealAged();
    expect(segments()).toEqual([[1, true]]);
    expect(reports).toEqual([
      { segment: 2, bytesCut: 0, reason: expect.stringContaining('cannot be started: ENOSPC') },
    ]);
    await expect(wal.drop(1)).rejects.toMatchObject({ code: 'storage' });
    disk.capacityBytes = 1e6;
    await Promise.all([wal.sealAged(), wal.append(frameOf(2)), wal.sealAged()]);
    nowMs += 5000;
    for (let time = 0; time < 3; time += 1) await wal.sealAged();
    expect(segments()).toEqual([
      [1, true],
      [2, true],
      [3, false],
    ]);
    for (const segment of [1, 2]) await wal.drop(segment);
    expect(wal.bytes).toBe(32);
    disk.crash('nothing unsynced');
    const again = await openWal(disk);
    expect(await again.wal.append(frameOf(3))).toEqual({ segment: 4, offset: 32 });
    expect((await replayed(again.wal)).length).toBe(0);
    expect(again.reports).toEqual([]);
  });

  it('leaves files of another kind alone, also where a segment should be', async () => {
    const disk = new MemoryDisk();
    const { wal } = await openWal(disk);
    for (const number of [1, 2, 3]) await wal.append(frameOf(number, 300));
    await wal.close();
    const foreign = Buffer.concat([encodeHeader(JOURNAL_KIND, 2, 1n), disk.bytesOf(first).subarray(32)]);
    const [second, fourth] = [2, 4].map((number) => `${FOLDER}/000000000${number}.wal`);
    for (const path of [second, fourth]) disk.plant(path ?? '', foreign);
    const again = await openWal(disk);
    expect((await replayed(again.wal)).map(numberOf)).toEqual([1, 3]);
    const reason = 'the file is no write-ahead log and is left alone';
    expect(again.reports).toMatchObject([
      { segment: 2, file: second, reason },
      { segment: 4, file: fourth, reason },
    ]);
    await expect(again.wal.drop(2)).rejects.toMatchObject({ code: 'storage' });
    expect(await again.wal.append(frameOf(4))).toEqual({ segment: 5, offset: 32 });
    expect(disk.bytesOf(second ?? '').equals(foreign)).toBe(true);
  });

  it('a segment whose header a crash kept from being written is one that holds nothing', async () => {
    const disk = new MemoryDisk();
    disk.plant(first, Buffer.alloc(5));
    const { wal, reports } = await openWal(disk);
    expect(reports).toMatchObject([{ segment: 1, offset: 0, reason: 'the file is shorter than its header' }]);
    expect(await wal.append(frameOf(1))).toEqual({ segment: 2, offset: 32 });
    await wal.close();
    const again = await openWal(disk);
    expect((await replayed(again.wal)).map(numberOf)).toEqual([1]);
    expect(again.reports).toEqual([]);
  });

  it('starts above the floor', async () => {
    const { wal } = await openWal(new MemoryDisk(), { segmentFloor: 41 });
    expect(await wal.append(frameOf(1))).toEqual({ segment: 42, offset: 32 });
  });

  it('reports strange files, missing segments and short files, and leaves them alone', async () => {
    const disk = new MemoryDisk();
    const { wal } = await openWal(disk);
    for (const number of [1, 2, 3, 4, 5, 6, 7, 8]) await wal.append(frameOf(number, 300));
    await wal.close();
    await disk.unlink(`${FOLDER}/0000000003.wal`);
    disk.plant(`${FOLDER}/0000000005.wal`, Buffer.from('short'));
    disk.plant(`${FOLDER}/notes.txt`, Buffer.from('mine'));
    disk.plant(`${FOLDER}/0000000000.wal`, Buffer.from('no segment has this number'));
    const again = await openWal(disk);
    expect((await replayed(again.wal)).map(numberOf)).toEqual([1, 2, 4, 6, 7, 8]);
    expect(again.reports.map(({ segment, reason }) => `${segment} ${reason}`)).toEqual([
      expect.stringContaining('0000000000.wal is not ours'),
      expect.stringContaining('notes.txt is not ours'),
      '4 1 segments before this one are missing',
      '5 the file is shorter than its header',
    ]);
    expect(disk.bytesOf(`${FOLDER}/notes.txt`).toString()).toBe('mine');
  });

  it('keeps few files open, and those that were read last', () => {
    const disk = new MemoryDisk();
    const opened: string[] = [];
    const open = disk.openSync.bind(disk);
    disk.openSync = (path) => {
      const file = open(path);
      opened.push(path.slice(-5, -4));
      return { ...file, close: () => void opened.push(`-${path.slice(-5, -4)}`) };
    };
    const entry = Buffer.alloc(18 + 4);
    sealEntry(entry, 1, 5n);
    for (const segment of [1, 2, 3]) {
      disk.plant(`${FOLDER}/000000000${segment}.wal`, Buffer.concat([encodeHeader(WAL_KIND, segment, 1n), entry]));
    }
    const reader = new SegmentReader(FOLDER, WAL_KIND, disk, 2);
    for (const segment of [1, 2, 1, 3, 1]) expect(reader.read({ segment, offset: 32 }).timeNs).toBe(5n);
    expect(opened).toEqual(['1', '2', '3', '-2']);
    reader.close();
    expect(opened.slice(4).sort()).toEqual(['-1', '-3']);
  });

  it('says so when a position holds nothing any more', async () => {
    const disk = new MemoryDisk();
    const { wal } = await openWal(disk, { cacheBytesMax: 0 });
    const position = await wal.append(frameOf(1, 400));
    await wal.append(frameOf(2, 400));
    expect(() => wal.read({ ...position, offset: position.offset + 1 })).toThrow(/0000000001.wal at 33/);
    await wal.drop(1);
    expect(() => wal.read(position)).toThrow(/0000000001.wal at 32/);
  });
});
