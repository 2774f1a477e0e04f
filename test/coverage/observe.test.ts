import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { COVERAGE_COUNTS, type CoverageNote, HOUR_MS } from '../../src/core/coverage.ts';
import type { Span } from '../../src/core/evidence.ts';
import { observe, SERVICE_CHARS_MAX } from '../../src/coverage/observe.ts';
import { BASE_MS, log, type SpanFields, span } from './evidence.ts';

const NOTHING = { spans: [], logs: [] };
const HOUR = BASE_MS / HOUR_MS;

function notesOf(spans: readonly Span[], earlier: readonly Span[] = [], isWhole = true): CoverageNote[] {
  const fresh = { spans, logs: [] };
  return observe({ namespace: 'default', fresh, earlier: { spans: earlier, logs: [] }, isWhole });
}

describe('one settle', () => {
  it('counts spans by service and by the hour they began in', () => {
    const notes = notesOf([
      span({ id: 'a', service: 'shop', startMs: 0 }),
      span({ id: 'b', parent: 'a', service: 'shop', startMs: 5 }),
      span({ id: 'c', parent: 'b', service: 'stock', startMs: 7 }),
      span({ id: 'd', parent: 'b', service: 'shop', startMs: HOUR_MS }),
    ]);
    expect(notes).toMatchObject([
      { service: 'shop', hour: HOUR, spans: 2, roots: 1, children: 1, firstMs: BASE_MS, lastMs: BASE_MS + 5 },
      { service: 'stock', hour: HOUR, spans: 1, roots: 0, children: 1, missingLocal: 0, missingRemote: 0 },
      { service: 'shop', hour: HOUR + 1, spans: 1 },
    ]);
  });

  it('counts what the sampler said and what the flags say', () => {
    const [note] = notesOf([
      span({ id: 'a', traceState: 'ot=th:8', flags: 2 }),
      span({ id: 'b', traceState: 'ot=th:c' }),
      span({ id: 'c', traceState: 'ot=th:0' }),
      span({ id: 'd' }),
      span({ id: 'e', traceState: 'ot=th:8;rv:00000000000000' }),
    ]);
    expect(note).toMatchObject({ stated: 4, sampled: 3, unsampled: 1, probabilityMin: 0.25, probabilityMax: 1 });
  });

  it('tells a missing parent of the same process from one elsewhere', () => {
    const spans = [
      span({ id: 'a', parent: 'gone', kind: 2 }),
      span({ id: 'b', parent: 'lost', kind: 1 }),
      span({ id: 'c', parent: 'lost', kind: 1 }),
      span({ id: 'd', parent: 'a' }),
      span({ id: 'e', parent: 'e' }),
    ];
    expect(notesOf(spans)).toMatchObject([{ children: 5, missingLocal: 2, missingRemote: 1 }]);
    // Of a trace that is not known in full nobody can say.
    expect(notesOf(spans, [], false)).toMatchObject([{ spans: 5, children: 0, missingLocal: 0, missingRemote: 0 }]);
  });

  it('counts log records, whatever times they have, and services without a name', () => {
    const logs = [log({ timeMs: 3 }), log({ observedMs: HOUR_MS }), log({ service: 'x'.repeat(1000) })];
    const notes = observe({ namespace: 'n', fresh: { spans: [], logs }, earlier: NOTHING, isWhole: true });
    expect(notes).toMatchObject([
      { namespace: 'n', service: '', hour: HOUR, logs: 1, spans: 0 },
      { service: '', hour: HOUR + 1, logs: 1 },
      { service: 'x'.repeat(SERVICE_CHARS_MAX), hour: HOUR, logs: 1, lastMs: BASE_MS },
    ]);
  });
});

describe('later settles', () => {
  it('take back that a parent was missing when it comes', () => {
    const child = span({ id: 'b', parent: 'a', service: 'stock', kind: 2 });
    const parent = span({ id: 'a', service: 'shop', startMs: HOUR_MS });
    expect(notesOf([child])).toMatchObject([{ service: 'stock', missingRemote: 1 }]);
    expect(notesOf([parent], [child])).toMatchObject([
      { service: 'stock', hour: HOUR, spans: 0, missingRemote: -1 },
      { service: 'shop', hour: HOUR + 1, spans: 1, missingRemote: 0 },
    ]);
  });

  it('do not count a span that was sent again', () => {
    const spans = [span({ id: 'a' }), span({ id: 'b', parent: 'a' })];
    expect(notesOf(spans, spans)).toEqual([]);
  });
});

const fieldsOf = fc.record({
  id: fc.constantFrom('a', 'b', 'c', 'd', 'e'),
  parent: fc.constantFrom('', 'a', 'b', 'c', 'x', 'y'),
  service: fc.constantFrom('shop', 'stock', 'mail'),
  kind: fc.constantFrom(1, 2, 3),
  startMs: fc.constantFrom(0, 1, HOUR_MS, -HOUR_MS),
  endMs: fc.constantFrom(10, 20),
  flags: fc.constantFrom(0, 1, 2, 0x100, 0x300),
  traceState: fc.constantFrom('', 'ot=th:0', 'ot=th:8', 'ot=th:c'),
}) satisfies fc.Arbitrary<SpanFields>;

/** Sums by service and hour, without what adds up to nothing. */
function summed(notes: readonly CoverageNote[]): Record<string, Record<string, number>> {
  const sums: Record<string, Record<string, number>> = {};
  for (const note of notes) {
    const key = `${note.service} ${note.hour}`;
    const sum = sums[key] ?? Object.fromEntries(COVERAGE_COUNTS.map((name) => [name, 0]));
    sums[key] = sum;
    for (const name of COVERAGE_COUNTS) sum[name] = (sum[name] ?? 0) + note[name];
  }
  return Object.fromEntries(Object.entries(sums).filter(([, sum]) => Object.values(sum).some((value) => value !== 0)));
}

describe('whatever the order and the number of settles', () => {
  it('the notes add up to those of one settle of the whole', () => {
    fc.assert(
      fc.property(fc.array(fieldsOf, { maxLength: 14 }), fc.array(fc.nat(13), { maxLength: 4 }), (fields, cuts) => {
        const spans = fields.map(span);
        const edges = [0, ...cuts.map((cut) => Math.min(cut, spans.length)).toSorted((a, b) => a - b), spans.length];
        const notes = edges.slice(1).flatMap((edge, index) => {
          const from = edges[index] ?? 0;
          return notesOf(spans.slice(from, edge), spans.slice(0, from));
        });
        expect(summed(notes)).toEqual(summed(notesOf(spans)));
        expect(summed(notesOf(spans.toReversed()))).toEqual(summed(notesOf(spans)));
      }),
      { numRuns: 500 },
    );
  });
});
