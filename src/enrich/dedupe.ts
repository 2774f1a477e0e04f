import { hash } from 'node:crypto';
import type { FrameNote, LogRecord, Span } from '../core/evidence.ts';
import { bitsAt, saidBits } from '../core/piece-bits.ts';
import { bytesOf } from '../core/raw-bytes.ts';
import { copyBits, fullOriginText, logDigest, noteBits } from './identity.ts';
import { ascending, sorted } from './order.ts';

/** One distinct log record: the copy chosen, its digest, and who sent the content where it came in several ways. */
export interface LogPiece {
  readonly log: LogRecord;
  readonly digest: string;
  readonly senders: readonly string[];
}

/** The set behind a multiset of evidence. */
export interface DistinctEvidence {
  /** One content a span id, in no particular order. */
  readonly spans: readonly Span[];
  /** For span ids that came with several contents: those that lost, best first. */
  readonly rivals: ReadonlyMap<string, readonly Span[]>;
  /** In the order of their digests. */
  readonly logs: readonly LogPiece[];
  /** Distinct pieces (content, origin, sender, trust) and the sum of their bits, for the rank. */
  readonly pieces: number;
  readonly bitsSum: number;
  /** Pieces given that repeat the content of another, and how many of them are log records. */
  readonly duplicates: number;
  readonly logDuplicates: number;
  /** Those of them that are no piece for the rank either: nothing about them is new. */
  readonly repeats: readonly (Span | LogRecord)[];
}

interface Tally {
  pieces: number;
  bitsSum: number;
  duplicates: number;
  repeats: (Span | LogRecord)[];
  /** The note of the piece before, which most share, and the bits that stand for it. */
  note?: FrameNote;
  said: number;
  /** On the memory that the piece before lies in; most lie in the same. */
  view: DataView;
}

/** A copy of a span whose id came more than once, with what the choice between copies asks for. */
interface SpanCopy {
  readonly span: Span;
  readonly isAccess: boolean;
  readonly digest: string;
}

/** Between copies of one content: the trusted one, then the vouched for, then by sender and origin. */
function compareCopies(left: Span | LogRecord, right: Span | LogRecord): number {
  const notes =
    Number(right.note.trusted) - Number(left.note.trusted) || Number(right.note.vouches) - Number(left.note.vouches);
  if (notes !== 0) return notes;
  const senders = ascending(left.note.sender, right.note.sender);
  if (senders === 0 && left.resource === right.resource && left.scope === right.scope) return 0;
  return (
    copyBits(left.note, left.resource, left.scope) - copyBits(right.note, right.resource, right.scope) ||
    senders ||
    ascending(fullOriginText(left.resource, left.scope), fullOriginText(right.resource, right.scope))
  );
}

/**
 * Between copies that are the same evidence: the first to arrive, with what admission found out about it then. Later deliveries
 * change nothing, whatever has become of a token or is known of a session since.
 */
function compareArrival(left: FrameNote, right: FrameNote): number {
  return (
    Number(left.receivedNs - right.receivedNs) ||
    ascending(left.peer, right.peer) ||
    (left === right ? 0 : ascending(foundOut(left), foundOut(right)))
  );
}

function foundOut({ tokens, sessions }: FrameNote): string {
  return tokens === undefined && sessions === undefined ? '' : JSON.stringify([tokens, sessions]);
}

/**
 * Which of two contents of one span stands: the trusted one; then one that is an access, so that a published id does
 * not lose its access; then the higher end time, number of attributes and digest.
 */
function compareContents(left: SpanCopy, right: SpanCopy): number {
  const trust = Number(right.span.note.trusted) - Number(left.span.note.trusted);
  if (trust !== 0) return trust;
  if (left.digest === right.digest) return compareCopies(left.span, right.span);
  const access = Number(right.isAccess) - Number(left.isAccess);
  if (access !== 0) return access;
  if (left.span.endNs !== right.span.endNs) return left.span.endNs > right.span.endNs ? -1 : 1;
  return right.span.attributeCount - left.span.attributeCount || ascending(right.digest, left.digest);
}

const NO_VIEW = new DataView(new ArrayBuffer(0));

function tallyPiece(piece: Span | LogRecord, tally: Tally): void {
  if (piece.note !== tally.note) {
    tally.note = piece.note;
    tally.said = noteBits(piece.note);
  }
  tally.pieces += 1;
  const { buffer, byteOffset, byteLength } = piece.raw;
  if (tally.view.buffer !== buffer) tally.view = new DataView(buffer);
  const bits = bitsAt(tally.view, byteOffset, byteOffset + byteLength);
  tally.bitsSum = (tally.bitsSum + saidBits(bits, tally.said)) | 0;
}

/** The distinct contents among the copies of one span, the one that stands first. */
function distinctContents(given: readonly Span[], isAccess: (span: Span) => boolean, tally: Tally): Span[] {
  const copies = given.map((span) => ({
    span,
    isAccess: isAccess(span),
    digest: hash('sha256', bytesOf(span.raw), 'hex'),
  }));
  copies.sort((left, right) => compareContents(left, right) || compareArrival(left.span.note, right.span.note));
  const contents = new Map<string, Span>();
  copies.forEach((copy, index) => {
    const before = copies[index - 1];
    if (before === undefined || compareContents(before, copy) !== 0) tallyPiece(copy.span, tally);
    else tally.repeats.push(copy.span);
    if (contents.has(copy.digest)) tally.duplicates += 1;
    else contents.set(copy.digest, copy.span);
  });
  return [...contents.values()];
}

function distinctLogs(given: readonly LogRecord[], tally: Tally): LogPiece[] {
  if (given.length === 0) return [];
  const byDigest = new Map<string, LogRecord[]>();
  for (const log of given) {
    const digest = logDigest(log);
    const copies = byDigest.get(digest);
    if (copies) copies.push(log);
    else byDigest.set(digest, [log]);
  }
  const pieces: LogPiece[] = [];
  for (const [digest, copies] of byDigest) {
    copies.sort((left, right) => compareCopies(left, right) || compareArrival(left.note, right.note));
    const [log] = copies;
    if (log === undefined) continue;
    const distinct = copies.filter((copy, index) => {
      const before = copies[index - 1];
      const isNew = before === undefined || compareCopies(before, copy) !== 0;
      if (!isNew) tally.repeats.push(copy);
      return isNew;
    });
    for (const copy of distinct) tallyPiece(copy, tally);
    tally.duplicates += copies.length - 1;
    const senders = new Set(distinct.length > 1 ? distinct.map((copy) => copy.note.sender) : []);
    pieces.push({ log, digest, senders: [...senders].sort(ascending) });
  }
  return sorted(pieces, (left, right) => ascending(left.digest, right.digest));
}

/**
 * Drops duplicates and picks one content for each span. A copy of the same bytes from a sender with another name or
 * trust repeats the content but is a piece for the rank, because it may change who is believed.
 */
export function distinctEvidence(
  givenSpans: readonly Span[],
  givenLogs: readonly LogRecord[],
  isAccess: (span: Span) => boolean,
): DistinctEvidence {
  const tally: Tally = { pieces: 0, bitsSum: 0, duplicates: 0, repeats: [], said: 0, view: NO_VIEW };
  const bySpanId = new Map<string, Span | Span[]>();
  for (const span of givenSpans) {
    const known = bySpanId.get(span.spanId);
    if (known === undefined) bySpanId.set(span.spanId, span);
    else if (Array.isArray(known)) known.push(span);
    else bySpanId.set(span.spanId, [known, span]);
  }
  const rivals = new Map<string, readonly Span[]>();
  const spans: Span[] = [];
  for (const [spanId, known] of bySpanId) {
    if (!Array.isArray(known)) {
      tallyPiece(known, tally);
      spans.push(known);
      continue;
    }
    const [winner, ...losers] = distinctContents(known, isAccess, tally);
    if (winner) spans.push(winner);
    if (losers.length > 0) rivals.set(spanId, losers);
  }
  const spanDuplicates = tally.duplicates;
  const logs = distinctLogs(givenLogs, tally);
  const { pieces, bitsSum, duplicates, repeats } = tally;
  return { spans, rivals, logs, pieces, bitsSum, duplicates, logDuplicates: duplicates - spanDuplicates, repeats };
}
