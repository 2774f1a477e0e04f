import { type Clock, nsToMs } from '../core/clock.ts';
import type { ShardHandle } from '../join/shard-handle.ts';
import { comparePositions } from '../wal/segment-format.ts';
import type { JournalHead, JournalMark, JournalPosition, SettleJournal } from '../wal/settle-journal.ts';
import type { Wal } from '../wal/wal.ts';
import type { Sums } from './sums.ts';

/** Journal entries or frames handed to the shards before waiting for them: bounds the messages on their way to other threads. */
const AHEAD_MAX = 256;

/** A line in the log tells how far the replay is, this often. */
const PROGRESS_MS = 1_000;

export interface ReplayParts {
  readonly shards: readonly ShardHandle[];
  readonly journal: Pick<SettleJournal, 'replayHeads' | 'read' | 'bytes' | 'firstSegment'>;
  readonly wal: Pick<Wal, 'replay' | 'segments'>;
  readonly sums: Sums;
  readonly clock: Clock;
  /** Told of the memory that the index takes, each time that the shards are waited for. */
  readonly noteIndexBytes?: (bytes: number) => void;
  readonly log: { info(details: object, message: string): void };
}

export interface ReplayResult {
  readonly entries: number;
  readonly frames: number;
  readonly bytes: number;
  /** The segment of the write-ahead log with which the replay began: all evidence before it is stored. */
  readonly fromSegment: number;
}

/**
 * Brings the shards and the sums back to where the last run left off: first what the settle journal remembers, then the
 * frames of the write-ahead log that its newest mark does not say are stored. New frames may be ingested meanwhile; nothing
 * is settled before the end.
 */
export async function replayInto(parts: ReplayParts): Promise<ReplayResult> {
  const { shards, wal, sums, clock } = parts;
  const keepPace = pacer(parts);
  const { entries, mark } = await replayJournal(parts, keepPace);
  const fromSegment = mark?.storedBefore ?? 0;
  const segments = wal.segments();
  const bytesTotal = segments.reduce((sum, { segment, bytes }) => sum + (segment < fromSegment ? 0 : bytes), 0);
  const tell = progressOf(parts, 'write-ahead log', bytesTotal);
  let done = 0;
  const { frames, bytes } = await wal.replay(
    (frame) => {
      done += frame.length;
      tell(done);
      for (const shard of shards) shard.ingest(frame, clock.nowMs(), true);
      // After the scan of a shard on this thread, which says how many there are.
      if (mark === undefined || comparePositions(frame.position, mark.acceptedThrough) > 0) sums.accept(frame);
      return keepPace();
    },
    { fromSegment, isReused: true },
  );
  const [oldest] = segments;
  // Nothing was ever let go of a log that still begins with its first segment.
  const receivedMs = oldest === undefined || oldest.segment === 1 ? 0 : nsToMs(oldest.firstReceivedNs);
  const journalSegment = parts.journal.firstSegment;
  await Promise.all(shards.map((shard) => shard.dropBefore(oldest?.segment ?? 0, journalSegment, receivedMs)));
  await Promise.all(shards.map((shard) => shard.endReplay(clock.nowMs())));
  return { entries, frames, bytes, fromSegment };
}

/** Every entry goes to the shards; the newest mark, with what was settled after it, to the sums. */
async function replayJournal(
  { shards, journal, sums, clock, log }: ReplayParts,
  keepPace: () => Promise<void> | undefined,
): Promise<{ entries: number; mark: JournalMark | undefined }> {
  const tell = progressOf({ clock, log }, 'settle journal', journal.bytes);
  let mark: JournalMark | undefined;
  let unmarked: JournalPosition[] = [];
  let [before, fromSegment] = [0, 0];
  const visit = (entry: JournalHead, position: JournalPosition) => {
    tell(before + position.offset);
    unmarked.push(position);
    for (const shard of shards) shard.restore(entry, position);
    return keepPace();
  };
  const { entries } = await journal.replayHeads(visit, {
    visitMark(found) {
      mark = found;
      unmarked = [];
      if (found.storedBefore === fromSegment) return;
      fromSegment = found.storedBefore;
      for (const shard of shards) shard.replayFrom(fromSegment);
    },
    progress({ bytes }) {
      before = bytes;
    },
  });
  if (mark !== undefined) sums.restore(mark);
  sums.settled(unmarked.map((position) => journal.read(position)));
  return { entries, mark };
}

/** Waits for the shards now and then. */
function pacer({
  shards,
  clock,
  noteIndexBytes,
}: Pick<ReplayParts, 'shards' | 'clock' | 'noteIndexBytes'>): () => Promise<void> | undefined {
  let ahead = 0;
  return () => {
    ahead++;
    if (ahead % AHEAD_MAX !== 0) return undefined;
    return Promise.all(shards.map((shard) => shard.stats(clock.nowMs()))).then((stats) =>
      noteIndexBytes?.(stats.reduce((sum, { indexBytes }) => sum + indexBytes, 0)),
    );
  };
}

function progressOf({ clock, log }: Pick<ReplayParts, 'clock' | 'log'>, of: string, bytesTotal: number) {
  let toldMs = clock.nowMs();
  return (bytes: number): void => {
    const nowMs = clock.nowMs();
    if (Math.abs(nowMs - toldMs) < PROGRESS_MS) return;
    toldMs = nowMs;
    const share = Math.min(Math.round((100 * bytes) / bytesTotal), 100);
    log.info({ bytes, bytesTotal, percent: share }, `${of}: ${share} % replayed; evidence is accepted meanwhile`);
  };
}
