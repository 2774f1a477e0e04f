import fc from 'fast-check';
import { expect, it } from 'vitest';
import { choosePieces, listedMax } from '../../src/join/choose-pieces.ts';
import { type Piece, TraceTable } from '../../src/join/trace-table.ts';

const ALL = Number.POSITIVE_INFINITY;

it('of a trace with many pieces of one span a bounded list is made, and the same pieces are chosen from it', () => {
  const spanLow = fc.integer({ min: 0, max: 4 });
  fc.assert(
    fc.property(fc.array(spanLow, { maxLength: 120 }), fc.integer({ min: 1, max: 4 }), (spans, spansMax) => {
      const table = new TraceTable();
      const trace = table.add(Uint32Array.of(1, 2, 3, 4), 1);
      for (const [number, low] of spans.entries()) {
        const frame = table.addFrame(1, 32 + number, 0);
        table.addPiece(trace, frame, 0, true, { spanHigh: 0, spanLow: low, parentHigh: 0, parentLow: 0 }, true);
      }
      const look = (idsMax: number) => table.look(trace, { firstSegment: 0, idsMax, take: false });
      const { pieces, readable } = look(spansMax);
      expect(pieces.length).toBeLessThan(listedMax(spansMax));
      expect(readable).toBe(spans.length);
      const offsets = (chosen: Piece[]) => chosen.map((piece) => piece.offset).sort((a, b) => a - b);
      expect(offsets(choosePieces(pieces, spansMax))).toEqual(offsets(choosePieces(look(ALL).pieces, spansMax)));
    }),
    { numRuns: 500 },
  );
});
