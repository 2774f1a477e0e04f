import type { Signal } from '../../src/core/evidence.ts';
import type { Frame, StoredFrame } from '../../src/wal/frame.ts';
import type { SegmentReport } from '../../src/wal/segment-files.ts';
import { Wal, type WalOptions } from '../../src/wal/wal.ts';
import type { MemoryDisk } from './memory-disk.ts';

export const FOLDER = '/data/wal';

/** A frame that can be told from all others by its number. */
export function frameOf(number: number, bytes = 40, signal: Signal = 'traces'): Frame {
  const note = { namespace: 'default', sender: 'grpc', trusted: true, vouches: false, peer: '10.0.0.7' };
  const payload = Buffer.alloc(Math.max(bytes, 4), number);
  payload.writeUInt32LE(number);
  return { signal, note: { ...note, receivedNs: 1_790_000_000_000_000_000n + BigInt(number) }, payload };
}

export function numberOf(frame: Frame): number {
  return frame.payload.readUInt32LE(0);
}

/** A log on the disk in memory, with small segments unless told otherwise, and what it reported. */
export async function openWal(disk: MemoryDisk, options: Partial<WalOptions> = {}) {
  const reports: SegmentReport[] = [];
  const clock = { nowMs: () => 1_790_000_000_000 };
  const report = (about: SegmentReport) => void reports.push(about);
  const wal = await Wal.open({ folder: FOLDER, segmentBytes: 512, disk, clock, report, ...options });
  return { wal, reports };
}

export async function replayed(wal: Wal): Promise<StoredFrame[]> {
  const frames: StoredFrame[] = [];
  await wal.replay((frame) => void frames.push(frame));
  return frames;
}
