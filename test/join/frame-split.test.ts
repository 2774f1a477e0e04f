import { describe, expect, it } from 'vitest';
import { FACT, FACT_WORDS } from '../../src/core/span-columns.ts';
import { FrameSplitter } from '../../src/join/frame-split.ts';
import { type MailedSpans, MailWriter, readMail } from '../../src/join/shard-mail.ts';
import type { StoredFrame } from '../../src/wal/frame.ts';
import { encodeLogs, encodeTraces } from '../otlp/encode.ts';
import { noteAt, spanIdOf, traceIdOf, World } from './world.ts';

const SHARDS = 3;

function frameOf(payload: Buffer, signal: 'traces' | 'logs' = 'traces'): StoredFrame {
  return { signal, payload, note: noteAt(1_000), position: { segment: 1, offset: 32 }, length: payload.length };
}

function mailOf(frame: StoredFrame, nowMs: number): Iterable<MailedSpans> {
  const mail = new MailWriter();
  mail.add(frame, new FrameSplitter(1).spansOf(frame, 0) as Uint32Array, nowMs, false);
  return readMail(mail.take());
}

/** Eight traces, their spans in turn, every third of them a root. */
const SPANS = Array.from({ length: 40 }, (_, at) => ({
  ...{ traceId: traceIdOf(at % 8), spanId: spanIdOf(at + 1), kind: 2 },
  ...(at % 3 > 0 && { parentSpanId: spanIdOf(at) }),
}));

describe('a frame split among shards', () => {
  it('gives each shard its spans alone, and every span to one', () => {
    const frame = frameOf(encodeTraces([{ spans: SPANS }]));
    const splitter = new FrameSplitter(SHARDS);
    const parts = Array.from(
      { length: SHARDS },
      (_, shard) => splitter.spansOf(frame, shard)?.slice() ?? new Uint32Array(),
    );
    expect(parts.reduce((sum, { length }) => sum + length / FACT_WORDS, 0)).toBe(SPANS.length);
    expect(frame.items).toBe(SPANS.length);
    const owners = new Map<string, Set<number>>();
    for (const [shard, words] of parts.entries()) {
      for (let at = 0; at < words.length; at += FACT_WORDS) {
        const id = words.subarray(at, at + 4).join();
        owners.set(id, (owners.get(id) ?? new Set()).add(shard));
        const itemStart = words[at + FACT.itemStart] as number;
        // A span's first field is its trace id: tag, length, 16 bytes.
        expect(frame.payload.readUInt32BE(itemStart + 2)).toBe(words[at + FACT.traceId]);
      }
    }
    expect([...owners.values()].map(({ size }) => size)).toEqual(Array(8).fill(1));
  });

  it('leaves to the shards what has to be read', () => {
    const splitter = new FrameSplitter(SHARDS);
    const log = frameOf(encodeLogs([{ logs: [{ body: 'hello' }] }]), 'logs');
    const whole = encodeTraces([{ spans: SPANS }]);
    expect(splitter.spansOf(log, 0)).toBeUndefined();
    expect(splitter.spansOf(frameOf(whole.subarray(0, whole.length - 3)), 0)).toBeUndefined();
    expect(splitter.spansOf(frameOf(whole), 1)).toBeDefined();
  });

  it('is the same to a shard as the frame itself', () => {
    const told = ['whole', 'split'].map((way) => {
      const world = new World();
      const frame = frameOf(encodeTraces([{ spans: SPANS }]));
      world.frames.push(frame);
      if (way === 'whole') world.shard.ingest(frame, world.nowMs);
      else for (const spans of mailOf(frame, world.nowMs)) world.shard.ingestMailed(spans);
      const { segments, ...stats } = world.shard.stats(world.nowMs);
      const open = { ...stats, segments: [...segments] };
      world.pass(200_000);
      return { open, records: [...world.visible().keys()], counted: world.counted(), reasons: world.reasons() };
    });
    expect(told[1]).toEqual(told[0]);
    expect(told[0]?.open).toMatchObject({ tracesOpen: 8, evidencePending: 40 });
  });
});
