import { type DistinctPieces, PIECE_FLAG } from './huge-distinct.ts';
import { NO_SPAN, SPAN_FLAG } from './huge-spans.ts';
import { NO_ENTRY } from './slot-table.ts';
import { SmallestPieces } from './smallest-pieces.ts';

/** In which order pieces are chosen; within a rank those of the smallest span ids come first, those without a span last. */
const RANK = {
  /** The root that stands for the trace. */
  root: 0,
  /** Accesses: those stated outright, those with no access above them, those below. */
  event: 1,
  entry: 2,
  inner: 3,
  /** The same of senders that are not trusted, so that nobody hides another's accesses behind many of his own: that much later. */
  untrusted: 3,
  /** What leads from an access to its root, or is named by an access as its span. */
  way: 7,
  /** Log records on any of those spans that tell of an exception or of a person, from trusted senders. */
  telling: 8,
  /** Spans of trusted senders that failed: they may explain what failed above them. */
  failed: 9,
  /** What else was said of accesses and ways: other log records, other contents of the spans. */
  beside: 10,
  rest: 11,
  /** Other contents of the spans of the rest. */
  surplus: 12,
} as const;
const RANKS = RANK.surplus + 1;

/** Simple steps between two looks at whether the slice is over. */
const STEPS = 256;

/**
 * Marks the pieces that a settle looks at, at most `countMax`. What is said twice, in another's words or copied by another sender,
 * ranks by the content or copy that stands. Yields where a slice may end.
 */
export function* choosePieces(pieces: DistinctPieces, root: number, countMax: number): Generator<void> {
  const standing = yield* standingLogs(pieces);
  const ranks = new Uint8Array(pieces.count);
  const counts = new Uint32Array(RANKS);
  for (let piece = 1; piece < pieces.count; piece++) {
    if (piece % STEPS === 0) yield;
    const rank = rankOf(pieces, piece, root, standing);
    ranks[piece] = rank;
    counts[rank] = (counts[rank] as number) + 1;
  }
  let [last, room] = [0, countMax];
  while (last < RANKS && (counts[last] as number) <= room) room -= counts[last++] as number;
  const smallest = new SmallestPieces(last < RANKS ? room : 0, (left, right) => compareIds(pieces, left, right));
  for (let piece = 1; piece < pieces.count; piece++) {
    if (piece % STEPS === 0) yield;
    const rank = ranks[piece] as number;
    if (rank < last) pieces.mark(piece, PIECE_FLAG.chosen);
    else if (rank === last) smallest.offer(piece);
  }
  for (const piece of smallest.kept) pieces.mark(piece, PIECE_FLAG.chosen);
}

/** For each content of a log record, at its first copy, the copy that stands for it; NO_ENTRY where there is but one. */
function* standingLogs(pieces: DistinctPieces): Generator<void, Uint32Array> {
  const standing = new Uint32Array(pieces.count);
  for (let piece = 1; piece < pieces.count; piece++) {
    if (piece % STEPS === 0) yield;
    const content = pieces.content[piece] as number;
    if (content === piece || !pieces.has(piece, PIECE_FLAG.log)) continue;
    const known = (standing[content] as number) || content;
    const flagged = (flag: number): number => Number(pieces.has(piece, flag)) - Number(pieces.has(known, flag));
    const order =
      flagged(PIECE_FLAG.trusted) ||
      flagged(PIECE_FLAG.vouches) ||
      (pieces.origin[known] as number) - (pieces.origin[piece] as number);
    standing[content] = order > 0 ? piece : known;
  }
  return standing;
}

function rankOf(pieces: DistinctPieces, piece: number, root: number, standing: Uint32Array): number {
  const { spans } = pieces;
  const span = pieces.span[piece] as number;
  const isLog = pieces.has(piece, PIECE_FLAG.log);
  const content = pieces.content[piece] as number;
  const stands = isLog ? ((standing[content] as number) || content) === piece : spans.winner[span] === piece;
  const isTrusted = pieces.has(piece, PIECE_FLAG.trusted);
  if (stands && !isLog && span === root) return RANK.root;
  if (stands && pieces.has(piece, PIECE_FLAG.access)) {
    const inner = isTrusted ? SPAN_FLAG.innerTrusted : SPAN_FLAG.inner;
    const rank = isLog ? RANK.event : spans.has(span, inner) ? RANK.inner : RANK.entry;
    return isTrusted ? rank : rank + RANK.untrusted;
  }
  const isWay = span !== NO_SPAN && spans.has(span, SPAN_FLAG.way);
  if (stands && !isLog && isWay) return RANK.way;
  const isTelling = isTrusted && pieces.has(piece, PIECE_FLAG.telling);
  const winner = spans.winner[span] as number;
  const isTold = isWay || (winner !== NO_ENTRY && pieces.has(winner, PIECE_FLAG.access));
  if (isTold) return stands && isLog && isTelling ? RANK.telling : RANK.beside;
  if (!stands) return RANK.surplus;
  return !isLog && isTelling ? RANK.failed : RANK.rest;
}

function compareIds(pieces: DistinctPieces, left: number, right: number): number {
  return (
    pieces.spans.compare(pieces.span[left] as number, pieces.span[right] as number) ||
    Number(pieces.has(left, PIECE_FLAG.log)) - Number(pieces.has(right, PIECE_FLAG.log)) ||
    pieces.compareDigests(left, right) ||
    (pieces.origin[left] as number) - (pieces.origin[right] as number)
  );
}
