import { AppError } from '../core/errors.ts';
import { type FormedRecord, HEAD } from '../core/formed-record.ts';
import { SETTLE_REASONS, type SettleReason } from '../core/record.ts';
import type { BySignal, EvidenceCounts, FreshCounts } from '../core/settlement.ts';
import { JournalInput, type JournalOutput } from './journal-bytes.ts';
import { decodePlaces, type EvidencePlaces, encodePlaces } from './journal-places.ts';
import type { FramePosition } from './segment-format.ts';

/** A published id, where its record lives (`@timestamp`, epoch nanoseconds), and the id that stands for it now, if another does. */
export interface JournalRecord {
  readonly id: string;
  readonly timestampNs: bigint;
  /** The revision of the trace with which it appeared. */
  readonly firstRevision: number;
  readonly supersededBy?: string;
}

/** All that is known of a settled trace that the store has acknowledged: late evidence joins by it, a restart goes on from it. */
export interface JournalEntry {
  readonly namespace: string;
  /** Empty for the log records of one frame (`through`) that name no trace. */
  readonly traceId: string;
  /** The newest evidence that was in the settle: what came after it makes the trace dirty again. */
  readonly through: FramePosition;
  readonly rank: bigint;
  readonly revision: number;
  /** Whole milliseconds. */
  readonly settledAtMs: number;
  readonly reason: SettleReason;
  /** How often the trace was settled, for the distance to the next time. */
  readonly settles: number;
  /** Evidence of it is gone or was unreadable: the settle did not see all. */
  readonly isLost: boolean;
  /** More came than is kept of one trace: no piece is kept, and what still comes is only counted. */
  readonly isClosed?: true;
  /** Epoch milliseconds before which nothing was known any more when the trace was settled first; 0 when that is all there was. */
  readonly horizonMs: number;
  readonly records: readonly JournalRecord[];
  /** Its evidence, plain repetitions left out. In the order of the log when read back. */
  readonly pieces: EvidencePlaces;
  /** How the settle counted these pieces. */
  readonly counts: BySignal<EvidenceCounts>;
  /** Evidence that this settle counted for the first time. */
  readonly fresh: BySignal<FreshCounts>;
}

/** How far everything is: where a restart begins to read, and from which numbers it goes on counting. */
export interface JournalMark {
  readonly atMs: number;
  /** All evidence in segments of the write-ahead log before this one is settled, stored and in the journal. */
  readonly storedBefore: number;
  /** The newest frame that `totals` count as accepted. */
  readonly acceptedThrough: FramePosition;
  /** Whole numbers from 0 on; what each means is up to the writer, in an order to which it only ever adds. */
  readonly totals: readonly number[];
}

/**
 * Bodies of the journal's entries (version 2). Numbers are varints, seven bits a byte, lowest first, unless a size is named.
 * A text is its bytes' length times four, plus 2 when it is lower-case hex (kept as bytes), plus 1 for a flag; then the bytes.
 *
 * Settle (kind 0, time: settledAtMs): namespace (flag: isLost), trace id (flag: isClosed), through, rank u64, revision, reason u8, settles,
 * horizonMs; number of records, each: id (flag: another stands for it), timestampNs u64, firstRevision, that other's id if flagged;
 * number of frames, each: segment after the one before, offset after the one before (in another segment: from its start),
 * number of items times two plus 1 for logs, and each item's start after the one before; then counts and fresh.
 *
 * Mark (kind 1, time: atMs): storedBefore, acceptedThrough, number of totals, totals.
 */
export const ENTRY_KIND = { settle: 0, mark: 1 } as const;

/** Entries of an earlier format were written by versions that were never released. */
export const ENTRY_VERSION = 2;

/** Appends the entry's body. */
export function encodeSettle(output: JournalOutput, entry: JournalEntry): void {
  encodeHead(output, entry, entry.revision, entry);
  output.number(entry.records.length);
  for (const { id, timestampNs, firstRevision, supersededBy } of entry.records) {
    output.text(id, supersededBy !== undefined);
    output.u64(timestampNs);
    output.number(firstRevision);
    if (supersededBy !== undefined) output.text(supersededBy);
  }
  encodeRest(output, entry.pieces, entry);
}

/** What the entry of a first settle by form is made of, as the settle has it. */
export type FormedAbout = Pick<JournalEntry, 'namespace' | 'traceId' | 'through' | 'reason' | 'settles' | 'horizonMs'>;
export interface FormedOutcome extends Pick<JournalEntry, 'rank' | 'counts' | 'fresh'> {
  readonly writes: readonly FormedRecord[];
}

/** The same for a first settle by form, of which nothing is lost. */
export function encodeFormed(
  output: JournalOutput,
  about: FormedAbout,
  outcome: FormedOutcome,
  pieces: EvidencePlaces,
): void {
  const { writes } = outcome;
  encodeHead(output, about, 1, outcome);
  output.number(writes.length);
  for (let index = 0; index < writes.length; index++) {
    const { chunk, at } = writes[index] as FormedRecord;
    const id = (at + HEAD.id) * 4;
    output.hex(chunk.bytes, id, id + 16);
    output.u64Of(chunk.words[at + HEAD.timeHigh] as number, chunk.words[at + HEAD.timeLow] as number);
    output.number(1);
  }
  encodeRest(output, pieces, outcome);
}

function encodeHead(
  output: JournalOutput,
  about: FormedAbout & Partial<Pick<JournalEntry, 'isLost' | 'isClosed'>>,
  revision: number,
  { rank }: Pick<JournalEntry, 'rank'>,
): void {
  output.text(about.namespace, about.isLost === true);
  output.text(about.traceId, about.isClosed === true);
  output.number(about.through.segment);
  output.number(about.through.offset);
  output.u64(rank);
  output.number(revision);
  output.number(SETTLE_REASONS.indexOf(about.reason));
  output.number(about.settles);
  output.number(about.horizonMs);
}

function encodeRest(
  output: JournalOutput,
  pieces: EvidencePlaces,
  { counts, fresh }: Pick<JournalEntry, 'counts' | 'fresh'>,
): void {
  encodePlaces(output, pieces);
  encodeCounts(output, counts.traces);
  encodeFresh(output, fresh.traces);
  encodeCounts(output, counts.logs);
  encodeFresh(output, fresh.logs);
}

function encodeCounts(output: JournalOutput, { used, context, excluded, duplicate }: EvidenceCounts): void {
  output.number(used);
  output.number(context);
  output.number(excluded);
  output.number(duplicate);
}

function encodeFresh(output: JournalOutput, fresh: FreshCounts): void {
  encodeCounts(output, fresh);
  output.number(fresh.quarantined);
}

/** What a restart needs of each entry. */
export type JournalHead = Pick<JournalEntry, 'namespace' | 'traceId' | 'through' | 'settledAtMs' | 'settles'>;

function readHead(input: JournalInput, settledAtMs: number) {
  const namespace = input.text();
  const isLost = input.flag;
  const traceId = input.text();
  return {
    namespace,
    isLost,
    ...(input.flag && { isClosed: true as const }),
    settledAtMs,
    traceId,
    through: input.position(),
    rank: input.u64(),
    revision: input.number(),
    reason: reasonOf(input.number()),
    settles: input.number(),
    horizonMs: input.number(),
  };
}

/** A body whose checksum is right and that says nonsense all the same is damage as any other. */
function decoded<Decoded>(body: Buffer, decode: (input: JournalInput) => Decoded): Decoded {
  try {
    return decode(new JournalInput(body));
  } catch (thrown) {
    throw damage(thrown);
  }
}

function damage(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown;
  return new AppError('storage', 'the settle journal holds an entry that cannot be decoded', { cause: thrown });
}

/** Much faster than the whole entry. Throws AppError `storage`, as the others. */
export function decodeHead(body: Buffer, settledAtMs: number): JournalHead {
  const input = new JournalInput(body);
  try {
    const [namespace, traceId, through] = [input.text(), input.text(), input.position()];
    input.skip(8);
    input.number();
    reasonOf(input.number());
    return { namespace, traceId, through, settledAtMs, settles: input.number() };
  } catch (thrown) {
    throw damage(thrown);
  }
}

export function decodeSettle(body: Buffer, settledAtMs: number): JournalEntry {
  return decoded(body, (input) => readSettle(input, settledAtMs));
}

function readSettle(input: JournalInput, settledAtMs: number): JournalEntry {
  const head = readHead(input, settledAtMs);
  const records: JournalRecord[] = [];
  for (let left = input.number(); left > 0; left--) {
    const id = input.text();
    const isSuperseded = input.flag;
    const [timestampNs, firstRevision] = [input.u64(), input.number()];
    records.push({ id, timestampNs, firstRevision, ...(isSuperseded && { supersededBy: input.text() }) });
  }
  const pieces = decodePlaces(input);
  const counts = () => ({
    used: input.number(),
    context: input.number(),
    excluded: input.number(),
    duplicate: input.number(),
  });
  const [countedSpans, freshSpans] = [counts(), { ...counts(), quarantined: input.number() }];
  const [countedLogs, freshLogs] = [counts(), { ...counts(), quarantined: input.number() }];
  return {
    ...head,
    records,
    pieces,
    counts: { traces: countedSpans, logs: countedLogs },
    fresh: { traces: freshSpans, logs: freshLogs },
  };
}

function reasonOf(index: number): SettleReason {
  const reason = SETTLE_REASONS[index];
  if (reason === undefined)
    throw new AppError('storage', `the settle journal holds an unknown reason, number ${index}`);
  return reason;
}

/** Appends the mark's body. */
export function encodeMark(output: JournalOutput, mark: JournalMark): void {
  output.number(mark.storedBefore);
  output.number(mark.acceptedThrough.segment);
  output.number(mark.acceptedThrough.offset);
  output.number(mark.totals.length);
  for (const total of mark.totals) output.number(total);
}

export function decodeMark(body: Buffer, atMs: number): JournalMark {
  return decoded(body, (input) => readMark(input, atMs));
}

function readMark(input: JournalInput, atMs: number): JournalMark {
  const [storedBefore, acceptedThrough] = [input.number(), input.position()];
  return { atMs, storedBefore, acceptedThrough, totals: Array.from({ length: input.number() }, () => input.number()) };
}
