import type { Settings } from '../config/schema.ts';
import type { Span } from '../core/evidence.ts';
import type { JoinSettings } from '../join/settings.ts';
import { JOIN_DEFAULTS } from '../join/settings.ts';
import { JoinShard } from '../join/shard.ts';
import { inlineShard, type ShardHandle } from '../join/shard-handle.ts';
import type { SettleJournal } from '../wal/settle-journal.ts';
import type { Wal } from '../wal/wal.ts';
import { createSettling } from './settling.ts';

export function joinSettings(settings: Settings): JoinSettings {
  return {
    ...JOIN_DEFAULTS,
    ...settings.join,
    indexBytesMax: Math.floor(settings.join.indexBytesMax / settings.workers),
    heldMs: settings.wal.horizonAgeMs,
  };
}

/** One shard for each worker: on this thread when there is one, else each on a thread of its own. */
export async function startShards(
  settings: Settings,
  disk: { wal: Wal; journal: SettleJournal },
): Promise<ShardHandle[]> {
  const shard = new JoinShard({
    settings: joinSettings(settings),
    ...createSettling(settings),
    readFrame: (position) => disk.wal.read(position),
    readJournal: (position) => disk.journal.read(position),
    shardIndex: 0,
    shardCount: 1,
  });
  return [inlineShard(shard)];
}

export async function readSpans(
  _shards: readonly ShardHandle[],
  _traceId: string,
): Promise<readonly Span[] | undefined> {
  return undefined;
}
