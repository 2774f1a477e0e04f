import { comparePlaces } from '../wal/journal-codec.ts';
import type { Piece } from './trace-table.ts';

/** Pieces that one settle decodes for each distinct span that it may look at: room for logs and duplicates. */
const PIECES_PER_SPAN_MAX = 4;

/**
 * The pieces that a settle of a huge trace looks at: those of the smallest span ids, at most `spansMax` ids, each with all
 * of its pieces, so that order of arrival and duplicates do not matter. Those without a span come last. Only when one id
 * alone has more pieces than may be decoded does the place in the write-ahead log decide.
 */
export function choosePieces(pieces: readonly Piece[], spansMax: number, spanIdOf: (piece: Piece) => string): Piece[] {
  const piecesMax = spansMax * PIECES_PER_SPAN_MAX;
  const ids = new Map(pieces.map((piece) => [piece, spanIdOf(piece)]));
  const idOf = (piece: Piece | undefined): string => (piece === undefined ? '' : (ids.get(piece) ?? ''));
  const sorted = [...pieces].sort((a, b) => compareIds(idOf(a), idOf(b)) || comparePlaces(a, b));
  let end = 0;
  for (let spans = 0; end < sorted.length && spans < spansMax; spans++) {
    let groupEnd = end + 1;
    while (groupEnd < sorted.length && idOf(sorted[groupEnd]) === idOf(sorted[end])) groupEnd++;
    if (groupEnd > piecesMax) break;
    end = groupEnd;
  }
  // In the order of the log, so that each frame is opened once.
  return sorted.slice(0, end === 0 ? piecesMax : end).sort(comparePlaces);
}

function compareIds(a: string, b: string): number {
  if (a === b) return 0;
  if (a === '' || b === '') return a === '' ? 1 : -1;
  return a < b ? -1 : 1;
}
