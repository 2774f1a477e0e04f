import { getCompileCacheDir } from 'node:module';
import { dirname } from 'node:path';
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { assert } from '../core/assert.ts';
import type { FrameSplitter } from '../join/frame-split.ts';
import type { JoinSettings } from '../join/settings.ts';
import { JoinShard } from '../join/shard.ts';
import type { ShardHandle } from '../join/shard-handle.ts';
import { serveShard, threadShard } from '../join/shard-worker.ts';
import type { FramePosition } from '../wal/segment-format.ts';
import { openJournalReader } from '../wal/settle-journal.ts';
import { openFrameReader } from '../wal/wal.ts';
import { createSettling, type SettlingSettings } from './settling.ts';

/** Everything that a shard on a thread of its own is made from: plain data, so that it crosses to the thread. */
export interface ShardThreadData {
  readonly settling: SettlingSettings;
  readonly join: JoinSettings;
  /** Folder of the write-ahead log, which the thread reads by itself. */
  readonly walFolder: string;
  /** Folder of the settle journal, likewise. */
  readonly journalFolder: string;
  readonly shardIndex: number;
  readonly shardCount: number;
}

/** Starts a thread that joins and settles one shard. The splitter is one for all shards. */
export function startShardThread(data: ShardThreadData, splitter: FrameSplitter): ShardHandle {
  const worker = new Worker(new URL(import.meta.url), { workerData: { shardThread: data }, env: environment() });
  return threadShard(worker, (frame) => splitter.spansOf(frame, data.shardIndex));
}

/** Where compiled code is kept, threads look for it, too, but only when told: they start in a third of the time. */
function environment(): NodeJS.ProcessEnv {
  const folder = getCompileCacheDir();
  // Node answers the part that is for itself.
  return folder === undefined ? process.env : { ...process.env, NODE_COMPILE_CACHE: dirname(folder) };
}

/** This file is also what runs on the thread. */
function serveThread({ settling, join, walFolder, journalFolder, shardIndex, shardCount }: ShardThreadData): void {
  assert(parentPort !== null, 'a join shard is served on a thread');
  const frames = openFrameReader(walFolder);
  const journal = openJournalReader(journalFolder);
  const made = createSettling(settling);
  const shard = new JoinShard({
    settings: join,
    ...made,
    readFrame: (position) => frames.read(position),
    readJournal: (position) => journal.read(position),
    shardIndex,
    shardCount,
  });
  const source = {
    read: (position: FramePosition) => frames.read(position),
    forget: (segment: number) => frames.forget(segment),
    forgetJournalBefore: (segment: number) => journal.forgetBefore(segment),
  };
  serveShard(parentPort, shard, source, (chunks) => made.forms.recycle(chunks));
}

// A worker of something else that imports this file (a test runner) has other data.
if (typeof workerData === 'object' && workerData !== null && 'shardThread' in workerData) {
  serveThread(workerData.shardThread as ShardThreadData);
}
