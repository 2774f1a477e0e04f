import { describe, expect, it } from 'vitest';
import type { StoredFrame } from '../../src/wal/frame.ts';
import { openFrameReader } from '../../src/wal/wal.ts';
import { FOLDER, frameOf, numberOf, openWal } from './helpers.ts';
import { MemoryDisk } from './memory-disk.ts';

const RAW = `${FOLDER}/0000000001.wal`;
const COMPRESSED = `${FOLDER}/0000000001.walz`;

/** Counts the files that are open, and lets something happen before one is opened or read. */
class WatchedDisk extends MemoryDisk {
  open_ = 0;
  beforeOpen: (path: string) => void = () => undefined;
  beforeRead: (path: string) => void = () => undefined;

  override openSync(path: string) {
    this.beforeOpen(path);
    const file = super.openSync(path);
    this.open_++;
    return {
      ...file,
      read: (target: Uint8Array, offset: number) => {
        this.beforeRead(path);
        return file.read(target, offset);
      },
      close: () => void this.open_--,
    };
  }
}

function failing(code: string): Error {
  return Object.assign(new Error(`${code}: it fails`), { code });
}

/** Four segments of one frame each. */
async function written(isCompressed: boolean) {
  const disk = new WatchedDisk();
  const { wal } = await openWal(disk, { segmentBytes: 512, cacheBytesMax: 0, isCompressed });
  const frames: StoredFrame[] = [];
  wal.onDurable((frame) => frames.push(frame));
  for (let number = 0; number < 4; number++) await wal.append(frameOf(number, 400));
  await wal.close();
  expect(disk.paths()).toContain(isCompressed ? COMPRESSED : RAW);
  disk.open_ = 0;
  const positions = frames.map(({ position }) => position);
  const first = positions[0] ?? { segment: 0, offset: 0 };
  return { disk, positions, first, reader: openFrameReader(FOLDER, disk) };
}

describe('a reader of single frames', () => {
  it('finds its frame when another file takes the place of the one that is open', async () => {
    const { disk, first, reader } = await written(true);
    reader.read(first);
    const compressed = disk.bytesOf(COMPRESSED);
    const other = await written(false);
    disk.plant(RAW, other.disk.bytesOf(RAW));
    await disk.unlink(COMPRESSED);
    reader.forget(1);
    expect(numberOf(reader.read(first))).toBe(0);
    disk.plant(COMPRESSED, compressed);
    disk.beforeRead = (path) => {
      if (path === RAW) throw failing('EIO');
    };
    expect(numberOf(reader.read(first))).toBe(0);
  });

  it.each(['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN'])('does not take %s for damage', async (code) => {
    const { disk, positions, first, reader } = await written(true);
    for (const position of positions.slice(1)) reader.read(position);
    expect(disk.open_).toBe(3);
    disk.beforeOpen = () => {
      if (disk.open_ > 0) throw failing(code);
    };
    expect(numberOf(reader.read(first))).toBe(0);
    expect(disk.open_).toBe(1);
    disk.beforeOpen = () => {
      throw failing(code);
    };
    reader.close();
    expect(() => reader.read(first)).toThrow(expect.objectContaining({ code }));
  });

  it('takes one failed read for what may pass, two for damage, and leaves no file open', async () => {
    const { disk, first, reader } = await written(true);
    let failures = 1;
    disk.beforeRead = () => {
      if (failures-- > 0) throw failing('EIO');
    };
    expect(numberOf(reader.read(first))).toBe(0);
    reader.close();
    failures = 2;
    expect(() => reader.read(first)).toThrow(expect.objectContaining({ code: 'storage' }));
    expect(disk.open_).toBe(0);
    expect(numberOf(reader.read(first))).toBe(0);
  });
});
