import { formatTimestamp, msToNs } from '../core/clock.ts';
import type { CoverageNote } from '../core/coverage.ts';
import type { SettleReason } from '../core/record.ts';
import {
  type BySignal,
  type EvidenceCounts,
  type FreshCounts,
  NO_COUNTS,
  type RecordWrite,
  type SettledRecord,
  type SettledTrace,
  type Settlement,
} from '../core/settlement.ts';
import type { EncodedEntries } from '../wal/encoded-entries.ts';
import { comparePositions, type FramePosition } from '../wal/segment-format.ts';
import type { EvidencePlaces, JournalEntry, JournalRecord } from '../wal/settle-journal.ts';

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
  /** Nobody knows whether it was ever published; if so, it may live at another time. */
  readonly isGuess?: true;
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
  readonly entries: EncodedEntries;
  /**
   * What the journal is to remember before anything is written: records of huge traces. What is not looked at could have been
   * published by a settle that knew less, and nothing else tells after a crash which of it was.
   */
  readonly announced: JournalEntry[];
  readonly superseded: Supersession[];
  readonly quarantined: SetAside[];
  /** What the fresh evidence says of the coverage of its services. */
  readonly coverage: CoverageNote[];
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
  /** Evidence is gone or unreadable: that the settle does not yield an id any more means nothing. */
  readonly hasLost: boolean;
  /** Nothing of what it was settled from before is left: the horizon has passed it. */
  readonly isBeyond?: boolean;
  /** More of it came than is kept of one trace: nothing of it is kept from now on. */
  readonly isClosed?: boolean;
  /** An earlier run may have written records of it that the journal does not know. */
  readonly isReplayed: boolean;
  /** What is stored is written again though nothing is new. */
  readonly isRepeat: boolean;
  /** What the journal remembers of the last settle. */
  readonly previous: JournalEntry | undefined;
  /** What the entry is to remember of the evidence. */
  readonly pieces: EvidencePlaces;
  readonly counts: BySignal<EvidenceCounts>;
  readonly fresh: BySignal<FreshCounts>;
  readonly settles: number;
  /** Epoch milliseconds before which nothing is known any more; 0 when nothing was forgotten. */
  readonly horizonMs: number;
}

export interface StampedTrace {
  /** Undefined when nothing was settled. */
  readonly trace: SettledTrace | undefined;
  readonly entry: JournalEntry;
  readonly superseded: Supersession[];
}

/**
 * Turns a settle into writes and a journal entry, with what depends on how and when (the fields exempt from the equality
 * of settles) written into the settlement's records. A settle of the rank that is stored already writes nothing, unless it
 * is a repetition: then the records are those of the stored revision.
 */
export function stampTrace(taken: TakenTrace, nowMs: number): StampedTrace {
  const { settlement, previous } = taken;
  const entry = entryOf(taken, nowMs);
  if (settlement === undefined) return { trace: undefined, entry, superseded: [] };
  const { rank } = settlement;
  const isSame = previous !== undefined && previous.revision > 0 && previous.rank === rank;
  const { namespace, traceId } = taken;
  if (isSame && !taken.isRepeat) {
    const { revision } = previous;
    const trace = { namespace, traceId, reason: taken.reason, rank, revision, writes: [] };
    return { trace, entry: { ...entry, reason: previous.reason }, superseded: [] };
  }
  const revision = isSame ? previous.revision : (previous?.revision ?? 0) + 1;
  const stamp: Stamp = {
    rank,
    revision,
    reason: isSame ? previous.reason : taken.reason,
    revisedAt: revision > 1 || taken.isReplayed ? formatTimestamp(msToNs(isSame ? previous.settledAtMs : nowMs)) : '',
    horizonNs: entry.horizonMs === 0 ? 0n : msToNs(entry.horizonMs),
    isPartial: entry.isLost,
    mayBeElsewhere: taken.isReplayed,
  };
  const published = previous && new Map(previous.records.map((record) => [record.id, record]));
  const writes = settlement.records.map((settled) => {
    const before = published?.get(settled.id);
    published?.delete(settled.id);
    return stampRecord(namespace, settled, before, stamp);
  });
  const trace = { namespace, traceId, reason: stamp.reason, rank, revision, writes };
  if (isSame) return { trace, entry: { ...entry, reason: stamp.reason }, superseded: [] };
  const known = previous && new Map(previous.records.map(({ id, firstRevision }) => [id, firstRevision]));
  const records = writes.map(({ id, timestampNs }): JournalRecord => {
    return { id, timestampNs, firstRevision: known?.get(id) ?? revision };
  });
  // As nearly always: a first settle.
  if (previous === undefined && !taken.isReplayed)
    return { trace, entry: { ...entry, rank, revision, records }, superseded: [] };
  const gone = standIns([...(published?.values() ?? [])], settlement, entry.isLost);
  const told = new Map(previous?.records.map(({ id, supersededBy }) => [id, supersededBy]));
  const superseded = gone.flatMap(({ id, timestampNs, firstRevision, supersededBy: by }): Supersession[] => {
    // Told once: a record that another stands for is not revised by each later settle.
    const isTold = by === undefined || told.get(id) === by;
    const isGuess = firstRevision > (previous?.revision ?? 0) && { isGuess: true as const };
    return isTold ? [] : [{ id, by, namespace, timestampNs, rank, revision, revisedAt: stamp.revisedAt, ...isGuess }];
  });
  if (taken.isReplayed) superseded.push(...guesses(taken, settlement, { ...stamp, records: [...writes, ...gone] }));
  // Superseded ids stay in the journal: should evidence bring one back, its older row must be found.
  records.push(...gone);
  const highestRank = previous !== undefined && previous.rank > rank ? previous.rank : rank;
  return { trace, entry: { ...entry, rank: highestRank, revision, records }, superseded };
}

/** No frame lies there. */
const BEFORE_ALL: FramePosition = { segment: 0, offset: 1 };

/**
 * The entry to be written before the records of a settle are: what was known before, and the ids that may be published from then
 * on, of the revision that is not there yet. Undefined when it publishes none for the first time.
 */
export function announce(previous: JournalEntry | undefined, { entry, trace }: StampedTrace): JournalEntry | undefined {
  const known = new Set(previous?.records.map(({ id }) => id));
  const firstRevision = (previous?.revision ?? 0) + 1;
  const added = (trace?.writes ?? []).flatMap(({ id, timestampNs }): JournalRecord[] =>
    known.has(id) ? [] : [{ id, timestampNs, firstRevision }],
  );
  if (added.length === 0) return undefined;
  const nothing = { ...NO_COUNTS, quarantined: 0 };
  return {
    ...entry,
    through: previous?.through ?? BEFORE_ALL,
    rank: previous?.rank ?? 0n,
    revision: previous?.revision ?? 0,
    settles: previous?.settles ?? 0,
    isLost: previous?.isLost ?? false,
    records: [...(previous?.records ?? []), ...added],
    pieces: previous?.pieces ?? [],
    counts: previous?.counts ?? { traces: NO_COUNTS, logs: NO_COUNTS },
    fresh: { traces: nothing, logs: nothing },
  };
}

/**
 * A run that ended between the store's acknowledgement and the journal's may have published an id that the evidence which
 * came since takes back: each that it could have published, as far as the journal does not know better.
 */
function guesses(
  { namespace }: TakenTrace,
  { superseded, records: settled }: Settlement,
  { rank, revision, revisedAt, records }: Stamp & { readonly records: readonly { readonly id: string }[] },
): Supersession[] {
  const known = new Set(records.map(({ id }) => id));
  const times = new Map(settled.map(({ id, timestampNs }) => [id, timestampNs]));
  return [...superseded].flatMap(([id, by]): Supersession[] => {
    if (known.has(id)) return [];
    const timestampNs = times.get(by) ?? settled[0]?.timestampNs ?? 0n;
    return [{ id, by, namespace, timestampNs, rank, revision, revisedAt, isGuess: true }];
  });
}

/** Epoch milliseconds before which nothing was known any more when it was settled first, or again from nothing. */
export function horizonOf({ isBeyond, previous, horizonMs }: Pick<TakenTrace, 'isBeyond' | 'previous' | 'horizonMs'>) {
  return isBeyond ? horizonMs : (previous?.horizonMs ?? horizonMs);
}

/** The entry as it is when the settle changes no record. */
function entryOf(taken: TakenTrace, settledAtMs: number): JournalEntry {
  const { namespace, traceId, reason, previous, pieces, counts, fresh, settles } = taken;
  const isNewer = previous === undefined || comparePositions(previous.through, taken.through) < 0;
  return {
    namespace,
    traceId,
    through: isNewer ? taken.through : previous.through,
    rank: previous?.rank ?? 0n,
    revision: previous?.revision ?? 0,
    settledAtMs,
    reason,
    settles,
    isLost: taken.hasLost || (previous?.isLost ?? false),
    ...((taken.isClosed || previous?.isClosed) && { isClosed: true as const }),
    horizonMs: horizonOf(taken),
    records: previous?.records ?? [],
    pieces,
    counts,
    fresh,
  };
}

interface Stamp {
  readonly rank: bigint;
  readonly revision: number;
  readonly reason: SettleReason;
  readonly revisedAt: string;
  readonly horizonNs: bigint;
  readonly isPartial: boolean;
  readonly mayBeElsewhere: boolean;
}

function stampRecord(
  namespace: string,
  { id, timestampNs, record }: SettledRecord,
  before: JournalRecord | undefined,
  stamp: Stamp,
): RecordWrite {
  const { rank, revision, reason } = stamp;
  const { audit } = record;
  audit.revision = revision;
  audit.join.reason = reason;
  audit.join.late = reason === 'late';
  if (stamp.isPartial) audit.join.state = 'partial';
  // Not settled by what the trace is: complete evidence is complete, however old.
  if (timestampNs < stamp.horizonNs && audit.join.state !== 'complete' && audit.join.state !== 'out_of_band') {
    audit.join.state = 'orphan';
    audit.join.horizon = `began before ${formatTimestamp(stamp.horizonNs)}; what came before that is not known any more`;
  }
  if (revision > 1) audit.revised_at = stamp.revisedAt;
  const isElsewhere = stamp.mayBeElsewhere || mayHaveMoved(record);
  const write: RecordWrite = isElsewhere
    ? { id, namespace, timestampNs, rank, record, mayBeElsewhere: true }
    : { id, namespace, timestampNs, rank, record };
  if (before === undefined) return write;
  if (revision > before.firstRevision) audit.supersedes = revision - 1;
  return { ...write, previousTimestampNs: before.timestampNs };
}

/**
 * An event of no trace settles by itself, and nothing remembers where one with its id was written before. It may come again with
 * another time: from a sender that puts the time of sending on it, or because it has none but that of its receipt.
 */
function mayHaveMoved({ trace, audit }: SettledRecord['record']): boolean {
  const [first] = audit.evidence;
  return trace === undefined && (first?.signal === 'access' || /^webhook(?::|$)/.test(first?.sender ?? ''));
}

/** What the journal remembers of published ids that the settle does not yield: which one stands for each, if that is known. */
function standIns(published: readonly JournalRecord[], settlement: Settlement, hasLost: boolean): JournalRecord[] {
  if (published.length === 0) return [];
  const entry = settlement.records.find((settled) => settled.record.audit.entry) ?? settlement.records[0];
  return published.map(({ id, timestampNs, firstRevision, supersededBy }) => {
    const by = settlement.superseded.get(id) ?? (hasLost ? supersededBy : (entry?.id ?? 'none'));
    return { id, timestampNs, firstRevision, ...(by !== undefined && { supersededBy: by }) };
  });
}

/**
 * Counts each piece once, when it is first settled, though every revision looks at all pieces again: `fresh` pieces are
 * counted as the uses that grew against `before`. The result sums up to `fresh` and `quarantined`.
 */
export function countFresh(
  fresh: number,
  quarantined: number,
  before: EvidenceCounts | undefined,
  after: EvidenceCounts,
): FreshCounts {
  let left = fresh;
  const grown = (use: keyof EvidenceCounts): number => {
    const amount = Math.min(left, Math.max(0, after[use] - (before?.[use] ?? 0)));
    left -= amount;
    return amount;
  };
  const [used, context, excluded, duplicate] = [grown('used'), grown('context'), grown('excluded'), grown('duplicate')];
  // What is left the settle did not look at (a trace above the limit) or told as another use than before.
  return { used, context: context + left, excluded, duplicate, quarantined };
}
