import { formatTimestamp, msToNs } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import type { SettleReason } from '../core/record.ts';
import type { EvidenceCounts, RecordWrite, SettledTrace, Settlement } from '../core/settlement.ts';
import { comparePositions, type FramePosition } from '../wal/segment-format.ts';
import type { JournalEntry, JournalPosition } from '../wal/settle-journal.ts';

/** A published id that its trace no longer yields: its record gets a last revision that names the one that stands for it. */
export interface Supersession {
  readonly id: string;
  readonly by: string;
  readonly namespace: string;
  /** Where the record lives, epoch nanoseconds. */
  readonly timestampNs: bigint;
  readonly rank: bigint;
  readonly revision: number;
  /** RFC 3339. */
  readonly revisedAt: string;
}

/** Evidence set aside because it could not be read or settled; `body` has where it lies and its bytes. */
export interface SetAside {
  readonly stage: 'decode' | 'settle';
  readonly reason: string;
  readonly id: string;
  readonly body: unknown;
  /** Pieces of evidence that are counted as quarantined by this. */
  readonly pieces: number;
}

/** What one take has settled: to be written, journalled, then told to the shard as stored. Crosses threads by cloning. */
export interface SettledBatch {
  readonly number: number;
  readonly traces: SettledTrace[];
  /** What the journal is to remember, in the order in which the shard wants the positions back. */
  readonly entries: JournalEntry[];
  readonly superseded: Supersession[];
  readonly quarantined: SetAside[];
  /** Evidence counted for the first time, by use. */
  readonly counts: EvidenceCounts;
}

/** One settle of one trace, before it is known what it changes. */
export interface TakenTrace {
  readonly namespace: string;
  readonly traceId: string;
  readonly reason: SettleReason;
  /** Undefined when the evidence was set aside: then only the journal moves on. */
  readonly settlement: Settlement | undefined;
  /** The newest evidence that went in. */
  readonly through: FramePosition;
  /** Evidence was left out because the trace is huge: the records are not the whole story. */
  readonly isCut: boolean;
  /** Evidence is gone or unreadable: that the settle does not yield an id any more means nothing. */
  readonly hasLost: boolean;
  /** Pieces that went in and had been settled and stored before. */
  readonly stored: number;
  /** Where the journal remembers the last settle. */
  readonly journal: JournalPosition | undefined;
}

/** A batch as a shard gives it: the traces are not stamped yet, which needs the journal. */
export interface TakenBatch extends Pick<SettledBatch, 'number' | 'quarantined' | 'counts'> {
  readonly settledAtMs: number;
  readonly taken: readonly TakenTrace[];
  /** Log records without a trace, which need no stamp. */
  readonly untraced: readonly SettledTrace[];
  readonly untracedEntries: readonly JournalEntry[];
}

/** Stamps a batch. The entries of its traces come last, in the order of `taken`. Changes the batch's records. */
export function stampBatch(batch: TakenBatch, readJournal: (position: JournalPosition) => JournalEntry): SettledBatch {
  const { number, quarantined, counts, untraced, untracedEntries, settledAtMs } = batch;
  const stamped = { traces: [...untraced], entries: [...untracedEntries], superseded: [] as Supersession[] };
  for (const taken of batch.taken) {
    const previous = previousOf(taken, readJournal);
    const newer = previous !== undefined && comparePositions(previous.through, taken.through) > 0;
    const through = newer ? previous.through : taken.through;
    if (taken.settlement === undefined) {
      const { namespace, traceId } = taken;
      const nothing = { namespace, traceId, rank: 0n, revision: 0, records: [] };
      stamped.entries.push({ ...(previous ?? nothing), through, settledAtMs });
      continue;
    }
    const { trace, entry, superseded } = stampTrace(taken, taken.settlement, previous, settledAtMs);
    stamped.traces.push(trace);
    stamped.entries.push({ ...entry, through });
    stamped.superseded.push(...superseded);
  }
  return { number, quarantined, counts, ...stamped };
}

/** What the journal remembers of the trace; undefined when it was never stored or the entry is beyond the horizon. */
function previousOf(
  { journal }: TakenTrace,
  readJournal: (position: JournalPosition) => JournalEntry,
): JournalEntry | undefined {
  if (journal === undefined) return undefined;
  try {
    return readJournal(journal);
  } catch (thrown) {
    if (thrown instanceof AppError) return undefined;
    throw thrown;
  }
}

interface StampedTrace {
  readonly trace: SettledTrace;
  readonly entry: JournalEntry;
  readonly superseded: Supersession[];
}

/**
 * Turns a settle into writes and a journal entry, with what depends on how and when (the fields exempt from the equality
 * of settles) written into the settlement's records. A settle of the rank that is stored already writes nothing.
 */
export function stampTrace(
  taken: TakenTrace,
  settlement: Settlement,
  previous: JournalEntry | undefined,
  nowMs: number,
): StampedTrace {
  const { namespace, traceId, reason, through, isCut } = taken;
  // After a restart the index does not know what was beyond the horizon before, but the last rank counts its pieces.
  const hasLost = taken.hasLost || (previous !== undefined && taken.stored < piecesOf(previous.rank));
  // What a cut trace shows can change without its rank growing; within this trace a later look still counts more.
  const isOvertaken = isCut && previous !== undefined && settlement.rank < previous.rank;
  const rank = isOvertaken ? previous.rank + 1n : settlement.rank;
  if (previous !== undefined && previous.revision > 0 && previous.rank === rank) {
    const trace = { namespace, traceId, reason, rank, revision: previous.revision, writes: [] };
    return { trace, entry: { ...previous, through, settledAtMs: nowMs }, superseded: [] };
  }
  const revision = (previous?.revision ?? 0) + 1;
  const revisedAt = formatTimestamp(msToNs(nowMs));
  const published = new Map(previous?.records.map(({ id, timestampNs }) => [id, timestampNs]));
  const writes = settlement.records.map(({ id, timestampNs, record }): RecordWrite => {
    const previousTimestampNs = published.get(id);
    published.delete(id);
    const { audit } = record;
    audit.revision = revision;
    audit.join.reason = reason;
    audit.join.late = reason === 'late';
    if (isCut || hasLost) audit.join.state = 'partial';
    if (revision > 1) audit.revised_at = revisedAt;
    const write = { id, namespace, timestampNs, rank, record };
    if (previousTimestampNs === undefined) return write;
    audit.supersedes = revision - 1;
    return { ...write, previousTimestampNs };
  });
  const entry = settlement.records.find(({ record }) => record.audit.entry) ?? settlement.records[0];
  const superseded = [...published].flatMap(([id, timestampNs]): Supersession[] => {
    const by = settlement.superseded.get(id) ?? (hasLost ? undefined : (entry?.id ?? 'none'));
    return by === undefined ? [] : [{ id, by, namespace, timestampNs, rank, revision, revisedAt }];
  });
  // Superseded ids stay in the journal: should evidence bring one back, its older row must be found.
  const records = [
    ...writes.map(({ id, timestampNs }) => ({ id, timestampNs })),
    ...[...published].map(([id, timestampNs]) => ({ id, timestampNs })),
  ];
  const highestRank = previous !== undefined && previous.rank > rank ? previous.rank : rank;
  return {
    trace: { namespace, traceId, reason, rank, revision, writes },
    entry: { namespace, traceId, through, rank: highestRank, revision, settledAtMs: nowMs, records },
    superseded,
  };
}

/** The distinct pieces that a rank stands for (record.md, Identity). */
function piecesOf(rank: bigint): number {
  return Number(rank >> 32n);
}

/** The uses of evidence, in the order in which new pieces are counted. */
export const EVIDENCE_USES = ['used', 'context', 'excluded', 'duplicate'] as const satisfies (keyof EvidenceCounts)[];

/**
 * Counts each piece once, when it is first settled, though every revision looks at all pieces again: `fresh` pieces are
 * counted as the uses that grew against `before`. The result sums up to `fresh`.
 */
export function countFresh(fresh: number, before: readonly number[], after: EvidenceCounts): number[] {
  let left = fresh;
  const counted = EVIDENCE_USES.map((use, index) => {
    const amount = Math.min(left, Math.max(0, after[use] - (before[index] ?? 0)));
    left -= amount;
    return amount;
  });
  // What the settle did not look at (a trace above the limit) or told as another use than before.
  counted[1] = (counted[1] ?? 0) + left;
  return counted;
}
