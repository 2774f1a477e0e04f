import { describe, expect, it } from 'vitest';
import { FACT, FACT_WORDS } from '../../src/core/span-columns.ts';
import { ROW, ROW_WORDS, type SpanRows } from '../../src/core/span-rows.ts';
import { RecentSpans } from '../../src/join/frame-spans.ts';
import type { StoredFrame } from '../../src/wal/frame.ts';

/** Five of them fill the memory that there is for all, less than six do. */
const SPANS = 60_000;

function rowsOf(count: number): SpanRows {
  const words = new Int32Array(count * ROW_WORDS);
  for (let row = 0; row < count; row++) words[row * ROW_WORDS + ROW.startAt] = -1;
  return { count, words, parts: [], heads: [], isClean: true };
}

function frameOf(offset: number, given: Partial<StoredFrame> = {}): StoredFrame {
  return {
    signal: 'traces',
    note: { receivedNs: 0n, namespace: 'default', sender: 'grpc', trusted: true, vouches: false, peer: '127.0.0.1' },
    payload: Buffer.alloc(16),
    position: { segment: 1, offset },
    length: 100,
    spans: rowsOf(SPANS),
    ...given,
  };
}

const at = (offset: number) => ({ segment: 1, offset });

describe('spans of frames that came lately', () => {
  it('are remembered as long as there is room, and then those before the one that was asked for last make way', () => {
    const recent = new RecentSpans();
    for (const offset of [100, 200, 300, 400, 500, 600]) recent.add(frameOf(offset));
    const known = (offsets: readonly number[]) => offsets.map((offset) => recent.find(at(offset)) !== undefined);
    // Nothing was asked for when the sixth came: it is the one that has to be read back.
    expect(known([100, 200, 300])).toEqual([true, true, true]);
    recent.add(frameOf(700));
    recent.add(frameOf(800));
    recent.add(frameOf(900));
    expect(known([100, 200, 300, 400, 500, 600, 700, 800, 900])).toEqual([
      ...[false, false, true, true, true, false, true, true, false],
    ]);
  });

  it('stay as they are until they make way, however large the frames are that come after them', () => {
    const recent = new RecentSpans();
    const sizes = [3, 90_000, 1, 40_000, 512, 120_000, 7, 75_000, 20_000];
    let kept = 0;
    for (let number = 1; number <= 80; number++) {
      const spans = rowsOf(sizes[(number * number) % sizes.length] as number);
      for (let row = 0; row < spans.count; row++) spans.words[row * ROW_WORDS + ROW.itemStart] = number;
      recent.add(frameOf(number, { spans }));
      // Those that came some frames ago are asked for.
      if (number % 3 === 0) recent.find(at(number - 4));
      for (let asked = Math.max(number - 12, 1); asked <= number - 4; asked++) {
        const found = recent.find(at(asked));
        if (found === undefined) continue;
        kept++;
        const ends = [0, found.count - 1].map((span) => found.facts[span * FACT_WORDS + FACT.itemStart]);
        expect(ends).toEqual([asked, asked]);
      }
    }
    expect(kept).toBeGreaterThan(80);
  });

  it('come from another thread with numbers of what they are known by, which mean the same in each frame', () => {
    const recent = new RecentSpans();
    const facts = new Uint32Array(3 * FACT_WORDS);
    for (const [span, number] of [7, 0, 8].entries()) facts[span * FACT_WORDS + FACT.part] = number;
    const shared = { note: frameOf(0).note, isPlain: true, count: 3, facts, nowMs: 0, isReplay: false };
    recent.addMailed({ ...shared, position: at(100) });
    recent.addMailed({ ...shared, position: at(200) });
    recent.addMailed({ ...shared, position: at(300), isPlain: false });
    const [first, second, third] = [100, 200, 300].map((offset) => recent.find(at(offset))?.parts);
    expect(first?.map((part) => part?.number)).toEqual([7, undefined, 8]);
    expect([0, 1, 2].map((span) => second?.[span] === first?.[span])).toEqual([true, true, true]);
    expect(third).toBeUndefined();
  });

  it('are none where nobody walked through the frame, it is of logs, or equal bytes may say different things', () => {
    const recent = new RecentSpans();
    const { spans: _spans, ...unwalked } = frameOf(100, { spans: rowsOf(1) });
    recent.add(unwalked);
    recent.add(frameOf(200, { signal: 'logs', spans: rowsOf(1) }));
    const note = { ...frameOf(0).note, sessions: {} as never };
    recent.add(frameOf(300, { note, spans: rowsOf(1) }));
    recent.add(frameOf(400, { spans: rowsOf(1) }));
    expect([100, 200, 300, 400].map((offset) => recent.find(at(offset))?.facts.length)).toEqual([
      ...[undefined, undefined, undefined, FACT_WORDS],
    ]);
  });
});
