import { describe, expect, it } from 'vitest';
import type { DiskFile } from '../../src/wal/disk.ts';
import { ReadAhead } from '../../src/wal/read-ahead.ts';

const MEBIBYTE = 1024 * 1024;
const START = 32;

function bytesOf(length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, at) => Math.imul(at, 0x9e37_79b1) >>> 24));
}

/** Reads come when they are let, and are counted. */
function fileOf(bytes: Buffer, read: (offset: number) => Promise<void> = async () => undefined) {
  const under: { reads: number; most: number } = { reads: 0, most: 0 };
  const file: Pick<DiskFile, 'read'> = {
    async read(target, offset) {
      under.reads++;
      under.most = Math.max(under.most, under.reads);
      await read(offset);
      const there = bytes.subarray(offset, offset + target.length);
      target.set(there);
      under.reads--;
      return there.length;
    },
  };
  return { file: file as DiskFile, under };
}

describe('reading ahead', () => {
  it.each([true, false])('gives every byte, whatever the lengths that are asked for; reused: %s', async (isReused) => {
    const bytes = bytesOf(12 * MEBIBYTE + 77);
    const { file, under } = fileOf(bytes);
    const reads = new ReadAhead(file, START, bytes.length, isReused);
    const lengths = [18, 100_000, 700_000, 0.5, MEBIBYTE, 1, MEBIBYTE + 1, 3 * MEBIBYTE, 346_000, 2 * MEBIBYTE - 5];
    const kept: { offset: number; found: Buffer }[] = [];
    let offset = START;
    for (let turn = 0; offset < bytes.length; turn++) {
      const length = Math.min(Math.ceil(lengths[turn % lengths.length] ?? 1), bytes.length - offset);
      // As an entry is looked at: first its head.
      expect(await reads.load(offset, Math.min(18, length))).toBe(true);
      expect(await reads.load(offset, length)).toBe(true);
      const found = reads.chunk.subarray(offset - reads.chunkAt, offset - reads.chunkAt + length);
      expect(found.equals(bytes.subarray(offset, offset + length))).toBe(true);
      if (!isReused) kept.push({ offset, found });
      offset += length;
    }
    for (const one of kept) {
      expect(one.found.equals(bytes.subarray(one.offset, one.offset + one.found.length))).toBe(true);
    }
    expect(under.most).toBe(1);
    await reads.end();
  });

  it('has the next chunk on its way while one is looked through, none beyond the limit', async () => {
    const bytes = bytesOf(2 * MEBIBYTE);
    const { file, under } = fileOf(bytes, () => new Promise(setImmediate));
    const reads = new ReadAhead(file, START, MEBIBYTE + START + 100, true);
    expect(await reads.load(START, 18)).toBe(true);
    expect(under.reads).toBe(1);
    expect(await reads.load(START + MEBIBYTE, 100)).toBe(true);
    expect(under.reads).toBe(0);
    expect(await reads.load(START + MEBIBYTE, 101)).toBe(false);
    expect(await reads.load(START + MEBIBYTE, 5 * MEBIBYTE)).toBe(false);
    await reads.end();
  });

  it('a file that ends early, and a length that is none', async () => {
    const bytes = bytesOf(MEBIBYTE + 500);
    const reads = new ReadAhead(fileOf(bytes).file, START, 8 * MEBIBYTE, true);
    expect(await reads.load(START, 18)).toBe(true);
    expect(await reads.load(START + 10, 2 ** 32)).toBe(false);
    expect(reads.chunk.length).toBe(bytes.length - START - 10);
    await reads.end();
  });

  it('tells who loads it of a read that failed, nobody else', async () => {
    const bytes = bytesOf(3 * MEBIBYTE);
    const fails = async (offset: number) => {
      if (offset > MEBIBYTE) throw new Error('EIO');
    };
    const reads = new ReadAhead(fileOf(bytes, fails).file, START, bytes.length, true);
    expect(await reads.load(START, 18)).toBe(true);
    await new Promise(setImmediate);
    await expect(reads.load(START + MEBIBYTE, 18)).rejects.toThrow('EIO');
    await reads.end();
    const given = new ReadAhead(fileOf(bytes, fails).file, START, bytes.length, true);
    expect(await given.load(START, 18)).toBe(true);
    await given.end();
  });
});
