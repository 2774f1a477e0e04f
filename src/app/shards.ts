import { join } from 'node:path';
import type { Settings } from '../config/schema.ts';
import { systemScheduler } from '../core/clock.ts';
import { FrameSplitter } from '../join/frame-split.ts';
import type { JoinSettings } from '../join/settings.ts';
import { JOIN_DEFAULTS } from '../join/settings.ts';
import { JoinShard } from '../join/shard.ts';
import { inlineShard, type ShardHandle } from '../join/shard-handle.ts';
import type { KnownParts } from '../otlp/known-parts.ts';
import type { SettleJournal } from '../wal/settle-journal.ts';
import type { Wal } from '../wal/wal.ts';
import { createSettling, settlingSettings } from './settling.ts';
import { startShardThread } from './shard-thread.ts';

/**
 * Pieces of evidence that a shard on a thread of its own settles in one take: no event loop of others is kept by it, and each take
 * costs its messages.
 */
const THREAD_TAKE_EVIDENCE_MAX = 2_000;

export function joinSettings(settings: Settings): JoinSettings {
  return {
    ...JOIN_DEFAULTS,
    ...settings.join,
    indexBytesMax: Math.floor(settings.join.indexBytesMax / settings.workers),
  };
}

/**
 * One shard for each worker: on this thread when there is one, else each on a thread of its own. Both go by what admission knows.
 */
export function startShards(
  settings: Settings,
  disk: { folder: string; wal: Wal; journal: SettleJournal },
  known: KnownParts,
): ShardHandle[] {
  if (settings.workers === 1) {
    const shard = new JoinShard({
      settings: joinSettings(settings),
      ...createSettling(settings),
      readFrame: (position) => disk.wal.read(position),
      known,
      readJournal: (position) => disk.journal.read(position),
      elapsedMs: systemScheduler.elapsedMs,
      shardIndex: 0,
      shardCount: 1,
    });
    return [inlineShard(shard)];
  }
  const shared = {
    settling: settlingSettings(settings),
    join: { ...joinSettings(settings), takeEvidenceMax: THREAD_TAKE_EVIDENCE_MAX },
    walFolder: walFolder(disk.folder),
    journalFolder: journalFolder(disk.folder),
    shardCount: settings.workers,
  };
  const splitter = new FrameSplitter(settings.workers, known);
  return Array.from({ length: settings.workers }, (_, shardIndex) =>
    startShardThread({ ...shared, shardIndex }, splitter),
  );
}

/** Where the write-ahead log lies in the data folder. */
export function walFolder(dataFolder: string): string {
  return join(dataFolder, 'wal');
}

/** Where the settle journal lies in the data folder. */
export function journalFolder(dataFolder: string): string {
  return join(dataFolder, 'journal');
}
