import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TraceTable } from '../../src/join/trace-table.ts';
import { TRACE } from '../../src/join/trace-words.ts';

const NO_IDS = { spanHigh: 1, spanLow: 1, parentHigh: 0, parentLow: 0 };

describe('the index of traces', () => {
  it('tells of what is taken, of few pieces and of many, until the next take', () => {
    const table = new TraceTable();
    for (const [number, pieces] of [3, 200, 70, 1].entries()) {
      const trace = table.add(Uint32Array.of(0, 0, 0, number + 1), 1);
      const frame = table.addFrame(number + 1, 64, 0);
      for (let at = 0; at < pieces; at++) table.addPiece(trace, frame, number + at, (number + at) % 2 === 1, NO_IDS);
      const expected = Array.from({ length: pieces }, (_, at) => {
        const isLog = (number + at) % 2 === 1;
        return { segment: number + 1, offset: 64, itemStart: number + at, isLog, isNew: true };
      });
      expect(table.take(trace)).toEqual({ pieces: expected, newest: { segment: number + 1, offset: 64 } });
    }
  });

  it('finds what was added and not removed, like a map', () => {
    // Few different ids in a small table, so that searches run into each other.
    const id = fc.tuple(fc.integer({ min: 0, max: 900 }), fc.integer({ min: 1, max: 2 }));
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), id), { maxLength: 3000, minLength: 1500 }), (steps) => {
        const table = new TraceTable();
        const map = new Map<string, number>();
        const words = (number: number) => Uint32Array.of(0, number, 0, 7);
        for (const [isRemoval, [number, namespace]] of steps) {
          const key = `${number}/${namespace}`;
          const known = map.get(key);
          expect(table.find(words(number), namespace)).toBe(known ?? 0);
          if (known === undefined) map.set(key, table.add(words(number), namespace));
          else if (isRemoval) {
            table.remove(known);
            map.delete(key);
          }
        }
        for (const [key, trace] of map) {
          const [number = 0, namespace = 0] = key.split('/').map(Number);
          expect(table.find(words(number), namespace)).toBe(trace);
          expect(table.traces.get(trace, TRACE.id + 1)).toBe(number);
        }
      }),
      { numRuns: 20 },
    );
  });

  it('keeps 200,000 traces of 8 spans in 100 bytes a trace and 60 a piece, and gives all of it back', () => {
    const table = new TraceTable();
    const traces: number[] = [];
    for (let number = 0; number < 200_000; number++) {
      const trace = table.add(Uint32Array.of(Math.imul(number, 0x9e3779b1), number, 3, 4), 1);
      traces.push(trace);
      // The worst case: every span comes in a frame of its own.
      for (let span = 0; span < 8; span++)
        table.addPiece(trace, table.addFrame(1, number * 8 + span, 0), 0, false, NO_IDS);
    }
    expect(table.pieceCount).toBe(1_600_000);
    expect(table.allocatedBytes).toBeLessThan(200_000 * 100 + 1_600_000 * 60);
    expect(table.usedBytes).toBeLessThanOrEqual(table.allocatedBytes);
    for (const trace of traces) table.remove(trace);
    expect([table.pieceCount, table.segments.size, table.oldestPendingMs()]).toEqual([0, 0, undefined]);
    const before = table.allocatedBytes;
    for (let number = 0; number < 1000; number++) table.add(Uint32Array.of(1, 2, 3, number), 1);
    expect(table.allocatedBytes).toBe(before);
  });
});
