import { expect, it } from 'vitest';
import { Pace, REQUEST_BYTES_MAX } from '../../src/store/elasticsearch/pace.ts';
import { RequestBuffers } from '../../src/store/elasticsearch/request-buffers.ts';

const MIB = 1024 ** 2;

/** Writes so much that rounds are compared, to a cluster of this throughput (bytes a millisecond) by requests under way. */
function writeFor(pace: Pace, rounds: number, throughput: (parallel: number) => number): number[] {
  const seen: number[] = [];
  for (let round = 0; round < rounds; round++) {
    seen.push(pace.parallel);
    pace.wrote(128 * MIB, (128 * MIB) / throughput(pace.parallel));
  }
  return seen;
}

it('has more requests under way as long as that gains, and stays where it gains no more', () => {
  const pace = new Pace();
  const seen = writeFor(pace, 100, (parallel) => 10_000 * Math.min(parallel, 6));
  expect(Math.max(...seen)).toBe(7);
  expect(seen.filter((parallel) => parallel === 6).length).toBeGreaterThan(80);
});

it('goes back to fewer where more of them cost throughput', () => {
  const pace = new Pace();
  const seen = writeFor(pace, 100, (parallel) => 60_000 / parallel);
  expect(seen.slice(60).every((parallel) => parallel <= 2)).toBe(true);
});

it('keeps within its bounds, whatever the answers are', () => {
  const pace = new Pace();
  for (let answer = 0; answer < 100; answer++) pace.answered(pace.requestBytes, 1);
  expect(pace.requestBytes).toBe(REQUEST_BYTES_MAX);
  expect(Math.max(...writeFor(pace, 200, (parallel) => 1_000 * parallel))).toBe(8);
  for (let answer = 0; answer < 100; answer++) pace.answered(pace.requestBytes, 60_000);
  expect(pace.requestBytes).toBe(64 * 1024);
});

it('halves both when the cluster is busy, and learns nothing from writes that are too small', () => {
  const pace = new Pace();
  const { requestBytes, parallel } = pace;
  pace.busy();
  expect([pace.requestBytes, pace.parallel]).toEqual([requestBytes / 2, parallel >> 1]);
  for (let write = 0; write < 100_000; write++) pace.wrote(1_000, 1);
  expect(pace.parallel).toBe(parallel >> 1);
});

it('uses the body of a request again only when it was given back, and keeps no more than it may', () => {
  const buffers = new RequestBuffers();
  const first = buffers.take(300_000);
  const second = buffers.take(300_000);
  expect(second.buffer).not.toBe(first.buffer);
  buffers.giveBack(first);
  const third = buffers.take(400_000);
  expect([third.buffer, third.length]).toEqual([first.buffer, 400_000]);
  const many = Array.from({ length: 20 }, () => buffers.take(4 * MIB));
  for (const buffer of many) buffers.giveBack(buffer);
  const again = Array.from({ length: 20 }, () => buffers.take(4 * MIB));
  const old = new Set(many.map(({ buffer }) => buffer));
  expect(again.filter(({ buffer }) => old.has(buffer))).toHaveLength(8);
});
