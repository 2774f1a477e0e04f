import { expect, it } from 'vitest';
import { FACT, FACT_WORDS, putFacts, spanAt } from '../../src/core/span-columns.ts';
import { ROW_WORDS } from '../../src/core/span-rows.ts';
import { SpanWalk } from '../../src/otlp/span-walk.ts';
import { encodeTraces } from '../otlp/encode.ts';

const TRACE_ID = 'a1'.repeat(16);
const TIMES = { startNs: 2n ** 32n + 7n, endNs: 2n ** 32n + 9n };
const SPANS = Array.from({ length: 9 }, () => ({ traceId: TRACE_ID, spanId: 'b2'.repeat(8), ...TIMES }));

function factsOf(spans: typeof SPANS, partNumber: number) {
  const payload = encodeTraces([{ spans }]);
  const { rows } = new SpanWalk().walk(payload);
  const facts = new Uint32Array(rows.count * FACT_WORDS).fill(1);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const part = { number: partNumber, isClean: false, contentOf: () => undefined, setContent: () => undefined };
  for (let row = 0; row < rows.count; row++) putFacts(facts, row * FACT_WORDS, rows.words, row * ROW_WORDS, view, part);
  return { facts, rows };
}

it('finds spans by where they start', () => {
  const { facts, rows } = factsOf(SPANS, 1);
  expect(rows.count).toBe(9);
  for (let span = 0; span < 9; span++) {
    const start = rows.words[span * ROW_WORDS] as number;
    for (const guess of [span, 0, 8, 9]) expect(spanAt(facts, 9, start, guess)).toBe(span);
    expect(spanAt(facts, 9, start + 1, span)).toBe(-1);
  }
});

it('tells ids, times and the number of what a span is known by, as long as it fits a word', () => {
  const told = [5, 2 ** 32 - 1, 2 ** 32].map((number) => factsOf(SPANS.slice(0, 1), number).facts);
  expect(told.map((facts) => facts[FACT.part])).toEqual([5, 2 ** 32 - 1, 0]);
  const [facts] = told;
  expect(facts?.slice(0, FACT.startLow + 1)).toEqual(
    new Uint32Array([...Array(4).fill(0xa1a1a1a1), ...Array(2).fill(0xb2b2b2b2), 0, 0, 1, 7]),
  );
});
