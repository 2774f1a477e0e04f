import { AppError } from '../core/errors.ts';
import { SETTLE_REASONS, type SettleReason } from '../core/record.ts';
import type { BySignal, EvidenceCounts, FreshCounts } from '../core/settlement.ts';
import type { FramePosition } from './segment-format.ts';

/** Where one piece of evidence lies in the write-ahead log: the frame, and the item's offset in the frame's payload. */
export interface EvidencePlace {
  readonly segment: number;
  readonly offset: number;
  readonly itemStart: number;
  readonly isLog: boolean;
}

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
  /** Epoch milliseconds before which nothing was known any more when the trace was settled first; 0 when that is all there was. */
  readonly horizonMs: number;
  readonly records: readonly JournalRecord[];
  /** Its evidence, plain repetitions left out. In the order of the log when read back. */
  readonly pieces: readonly EvidencePlace[];
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
 * Settle (kind 0, time: settledAtMs): namespace (flag: isLost), trace id, through, rank u64, revision, reason u8, settles,
 * horizonMs; number of records, each: id (flag: another stands for it), timestampNs u64, firstRevision, that other's id if flagged;
 * number of frames, each: segment after the one before, offset after the one before (in another segment: from its start),
 * number of items times two plus 1 for logs, and each item's start after the one before; then counts and fresh.
 *
 * Mark (kind 1, time: atMs): storedBefore, acceptedThrough, number of totals, totals.
 */
export const ENTRY_KIND = { settle: 0, mark: 1 } as const;

const HEX = /^(?:[0-9a-f]{2})+$/;
const USES = ['used', 'context', 'excluded', 'duplicate'] as const;
const FRESH_USES = [...USES, 'quarantined'] as const;

/** Bytes that grow as they are written. */
export class JournalOutput {
  #bytes = Buffer.allocUnsafe(16 * 1024);
  at = 0;

  /** A part of what was written, as one buffer with the rest: must be copied or used up before more is written. */
  part(start: number, end: number): Buffer {
    return this.#bytes.subarray(start, end);
  }

  reserve(bytes: number): void {
    if (this.at + bytes <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.at + bytes));
    this.#bytes.copy(grown, 0, 0, this.at);
    this.#bytes = grown;
  }

  skip(bytes: number): void {
    this.reserve(bytes);
    this.at += bytes;
  }

  number(value: number): void {
    this.reserve(8);
    let rest = value;
    // Bits above the 31st are no business of the shift operators.
    while (rest >= 0x80) {
      this.#bytes[this.at++] = (rest % 0x80) | 0x80;
      rest = rest < 0x8000_0000 ? rest >>> 7 : Math.floor(rest / 0x80);
    }
    this.#bytes[this.at++] = rest;
  }

  u64(value: bigint): void {
    this.reserve(8);
    this.#bytes.writeBigUInt64LE(BigInt.asUintN(64, value), this.at);
    this.at += 8;
  }

  text(text: string, flag = false): void {
    const isHex = HEX.test(text);
    const bytes = isHex ? text.length / 2 : Buffer.byteLength(text);
    this.number(bytes * 4 + (isHex ? 2 : 0) + (flag ? 1 : 0));
    this.reserve(bytes);
    this.at += this.#bytes.write(text, this.at, isHex ? 'hex' : 'utf8');
  }
}

class JournalInput {
  readonly #bytes: Buffer;
  #at = 0;
  /** The flag of the text that was read last. */
  flag = false;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  number(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 0x80) {
      const byte = this.#bytes.readUInt8(this.#at++);
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  }

  u64(): bigint {
    this.#at += 8;
    return this.#bytes.readBigUInt64LE(this.#at - 8);
  }

  text(): string {
    const head = this.number();
    const end = this.#at + Math.floor(head / 4);
    this.flag = (head & 1) !== 0;
    const text = this.#bytes.toString((head & 2) !== 0 ? 'hex' : 'utf8', this.#at, end);
    this.#at = end;
    return text;
  }

  position(): FramePosition {
    return { segment: this.number(), offset: this.number() };
  }
}

/** Appends the entry's body. */
export function encodeSettle(output: JournalOutput, entry: JournalEntry): void {
  output.text(entry.namespace, entry.isLost);
  output.text(entry.traceId);
  output.number(entry.through.segment);
  output.number(entry.through.offset);
  output.u64(entry.rank);
  output.number(entry.revision);
  output.number(SETTLE_REASONS.indexOf(entry.reason));
  output.number(entry.settles);
  output.number(entry.horizonMs);
  output.number(entry.records.length);
  for (const { id, timestampNs, firstRevision, supersededBy } of entry.records) {
    output.text(id, supersededBy !== undefined);
    output.u64(timestampNs);
    output.number(firstRevision);
    if (supersededBy !== undefined) output.text(supersededBy);
  }
  encodePieces(output, entry.pieces);
  for (const signal of ['traces', 'logs'] as const) {
    for (const use of USES) output.number(entry.counts[signal][use]);
    for (const use of FRESH_USES) output.number(entry.fresh[signal][use]);
  }
}

export function decodeSettle(body: Buffer, settledAtMs: number): JournalEntry {
  const input = new JournalInput(body);
  const namespace = input.text();
  const isLost = input.flag;
  const head = {
    namespace,
    isLost,
    traceId: input.text(),
    through: input.position(),
    rank: input.u64(),
    revision: input.number(),
    reason: reasonOf(input.number()),
    settles: input.number(),
    horizonMs: input.number(),
  };
  const records: JournalRecord[] = [];
  for (let left = input.number(); left > 0; left--) {
    const id = input.text();
    const isSuperseded = input.flag;
    const [timestampNs, firstRevision] = [input.u64(), input.number()];
    records.push({ id, timestampNs, firstRevision, ...(isSuperseded && { supersededBy: input.text() }) });
  }
  const pieces = decodePieces(input);
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
    settledAtMs,
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

export function comparePlaces(a: EvidencePlace, b: EvidencePlace): number {
  const frames = a.segment - b.segment || a.offset - b.offset;
  return frames || Number(a.isLog) - Number(b.isLog) || a.itemStart - b.itemStart;
}

function encodePieces(output: JournalOutput, pieces: readonly EvidencePlace[]): void {
  const sorted = [...pieces].sort(comparePlaces);
  let frames = 0;
  for (let at = 0; at < sorted.length; at = endOfFrame(sorted, at)) frames++;
  output.number(frames);
  let [segment, offset] = [0, 0];
  for (let at = 0, end = 0; at < sorted.length; at = end) {
    end = endOfFrame(sorted, at);
    const first = sorted[at] as EvidencePlace;
    output.number(first.segment - segment);
    output.number(first.offset - (first.segment === segment ? offset : 0));
    output.number((end - at) * 2 + Number(first.isLog));
    let before = 0;
    for (let index = at; index < end; index++) {
      const { itemStart } = sorted[index] as EvidencePlace;
      output.number(itemStart - before);
      before = itemStart;
    }
    segment = first.segment;
    offset = first.offset;
  }
}

function endOfFrame(pieces: readonly EvidencePlace[], start: number): number {
  const first = pieces[start] as EvidencePlace;
  let end = start + 1;
  for (; end < pieces.length; end++) {
    const piece = pieces[end] as EvidencePlace;
    if (piece.segment !== first.segment || piece.offset !== first.offset || piece.isLog !== first.isLog) break;
  }
  return end;
}

function decodePieces(input: JournalInput): EvidencePlace[] {
  const pieces: EvidencePlace[] = [];
  let [segment, offset] = [0, 0];
  for (let frames = input.number(); frames > 0; frames--) {
    const segments = input.number();
    segment += segments;
    offset = input.number() + (segments === 0 ? offset : 0);
    const items = input.number();
    const isLog = items % 2 === 1;
    for (let left = Math.floor(items / 2), itemStart = 0; left > 0; left--) {
      itemStart += input.number();
      pieces.push({ segment, offset, itemStart, isLog });
    }
  }
  return pieces;
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
  const input = new JournalInput(body);
  const [storedBefore, acceptedThrough] = [input.number(), input.position()];
  return { atMs, storedBefore, acceptedThrough, totals: Array.from({ length: input.number() }, () => input.number()) };
}
