import { describe, expect, it } from 'vitest';
import type { Signal } from '../../src/core/evidence.ts';
import type { StoredFrame } from '../../src/wal/frame.ts';
import { FrameCache } from '../../src/wal/frame-cache.ts';

const OBJECTS_BYTES = 512;
const FRAME_BYTES = 100_000;

function frameOf(number: number, signal: Signal = 'traces', bytes = FRAME_BYTES): StoredFrame {
  const note = { receivedNs: 0n, namespace: 'default', sender: 'grpc', trusted: true, vouches: false, peer: '' };
  const position = { segment: 1, offset: number * FRAME_BYTES };
  return { signal, note, payload: Buffer.alloc(0), position, length: bytes - OBJECTS_BYTES };
}

/** Frames 1 to `count`, of which every `step`th is read ten frames later; which of those were there. */
function run(cache: FrameCache, count: number, step: number): boolean[] {
  const found: boolean[] = [];
  for (let number = 1; number <= count; number++) {
    cache.add(frameOf(number));
    const asked = number - 10;
    if (asked < 1 || asked % step !== 0) continue;
    found.push(cache.get(frameOf(asked).position) !== undefined);
    cache.wasRead(frameOf(asked));
  }
  return found;
}

describe('recent frames', () => {
  it('are all there where each is asked for, and where every second is', () => {
    for (const step of [1, 2]) {
      expect(run(new FrameCache(100 * FRAME_BYTES), 1000, step)).not.toContain(false);
    }
  });

  it('are kept no more where hardly one is asked for', () => {
    const cache = new FrameCache(100 * FRAME_BYTES);
    const seldom = run(cache, 1000, 20);
    // As long as nothing is known a quarter of the room is used.
    expect(seldom[0]).toBe(true);
    expect(seldom.slice(2).filter((isThere) => isThere).length).toBeLessThan(seldom.length / 4);
  });

  it('come back with the first that are asked for', () => {
    const cache = new FrameCache(100 * FRAME_BYTES);
    for (let number = 1; number <= 1000; number++) cache.add(frameOf(number));
    expect(cache.get(frameOf(1000).position)).toBeUndefined();
    for (let number = 901; number <= 1000; number++) cache.wasRead(frameOf(number));
    for (let number = 1001; number <= 1020; number++) cache.add(frameOf(number));
    expect(cache.get(frameOf(1020).position)).toBeDefined();
  });

  it('of a signal that is asked for stay where those of another, of which there is far more, are not', () => {
    const cache = new FrameCache(100 * FRAME_BYTES);
    const logs = (number: number) => frameOf(number, 'logs', FRAME_BYTES / 20);
    const [found, spans]: [boolean[], boolean[]] = [[], []];
    for (let number = 1; number <= 4000; number += 2) {
      cache.add(frameOf(number));
      cache.add(logs(number + 1));
      if (number < 500) continue;
      const asked = logs(number + 1 - 400);
      found.push(cache.get(asked.position) !== undefined);
      cache.wasRead(asked);
      spans.push(cache.get(frameOf(number - 100).position) !== undefined);
    }
    expect(found).not.toContain(false);
    expect(spans.slice(100)).not.toContain(true);
  });
});
