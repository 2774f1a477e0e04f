import type { Piece } from './trace-table.ts';

/** Pieces that one settle decodes for each distinct span that it may look at: room for logs and duplicates. */
const PIECES_PER_SPAN_MAX = 4;

/** A list of this many pieces is cut by `dropNeverChosen`: twice what that leaves, so that it is not done for each piece. */
export function listedMax(spansMax: number): number {
  return 2 * (spansMax * PIECES_PER_SPAN_MAX + 1);
}

/** Takes away pieces behind all that `choosePieces` looks at, whatever else is added to the list. */
export function dropNeverChosen(pieces: Piece[], spansMax: number): void {
  pieces.sort(byId);
  pieces.length = Math.min(pieces.length, spansMax * PIECES_PER_SPAN_MAX + 1);
}

/**
 * The pieces that a settle of a huge trace looks at: those of the smallest span ids, at most `spansMax` ids, each with all
 * of its pieces, so that order of arrival and duplicates do not matter. Logs without a span come last. Only when one id
 * alone has more pieces than may be decoded does the place in the write-ahead log decide.
 */
export function choosePieces(pieces: Piece[], spansMax: number): Piece[] {
  if (pieces.length <= spansMax) return pieces;
  const piecesMax = spansMax * PIECES_PER_SPAN_MAX;
  const sorted = [...pieces].sort(byId);
  let end = 0;
  let ids = 0;
  while (end < sorted.length && ids < spansMax) {
    const groupEnd = endOfGroup(sorted, end);
    if (groupEnd > piecesMax) break;
    end = groupEnd;
    ids++;
  }
  if (end === 0) end = piecesMax;
  // In the order of the log, so that each frame is opened once.
  return sorted.slice(0, end).sort(byPlace);
}

function endOfGroup(sorted: readonly Piece[], start: number): number {
  const first = sorted[start];
  let end = start + 1;
  while (end < sorted.length && sorted[end]?.spanHigh === first?.spanHigh && sorted[end]?.spanLow === first?.spanLow)
    end++;
  return end;
}

function byId(a: Piece, b: Piece): number {
  const aHasSpan = a.spanHigh !== 0 || a.spanLow !== 0;
  const bHasSpan = b.spanHigh !== 0 || b.spanLow !== 0;
  if (aHasSpan !== bHasSpan) return aHasSpan ? -1 : 1;
  return a.spanHigh - b.spanHigh || a.spanLow - b.spanLow || byPlace(a, b);
}

function byPlace(a: Piece, b: Piece): number {
  return a.segment - b.segment || a.offset - b.offset || a.itemStart - b.itemStart;
}
