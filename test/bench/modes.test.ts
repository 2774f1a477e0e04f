import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { runProgram } from '../setup/cache.ts';
import { countCode } from './count.ts';
import { compareRecords } from './pairs.ts';
import type { Receiver } from './receiver.ts';
import { readRows } from './results.ts';
import { SHAPE_NAMES } from './shapes.ts';
import { startSpantrail } from './spantrail.ts';
import { buildTraffic } from './workload.ts';

/** Costs even a Collector that does nothing several hundredths of a second, the unit in which Linux counts CPU time. */
const PAIR_SPANS = 16_384;

/** Each way of measuring once with next to no load: that it comes to an end and finds what it must find, not how fast. */
const bench = async (...words: string[]) => {
  const printed = await runProgram(process.execPath, [join(import.meta.dirname, 'bench.ts'), ...words]);
  return printed
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
};

describe('records of the traffic', () => {
  let spantrail: Receiver;
  beforeAll(async () => {
    spantrail = await startSpantrail({ store: 'memory', cores: '', serveArguments: [] });
  });
  afterAll(() => spantrail?.stop());

  it.each(SHAPE_NAMES)('say what was sent, of %s', async (shape) => {
    const measure = { gzip: shape === 'orders', spans: 1024, connections: 2, slots: 2 };
    const records = await compareRecords(spantrail, buildTraffic(shape), measure);
    // The huge trace has a root besides.
    const expected = { orders: 640, entries: 128, events: 640, logs: 640, varied: 640, services: 640, huge: 641 };
    expect(records).toBe(expected[shape]);
  });
});

describe.skipIf('skipped' in inject('collector'))('pairs', () => {
  it('load a Collector as they load Spantrail', async () => {
    const words = [
      '--peer',
      'collector',
      '--pairs',
      '1',
      '--spans',
      String(PAIR_SPANS),
      '--pipelines',
      'nop,groupbytrace',
      '--gzip',
    ];
    const rows = await bench(...words);
    expect(rows.map(({ pipeline, comparedRecords, pairs }) => [pipeline, comparedRecords, pairs.length])).toEqual([
      ['nop', 1920, 1],
      ['groupbytrace', 1920, 1],
    ]);
    for (const { ratio } of rows) expect(ratio.median).toBeGreaterThan(0);
  });
});

it('a full log is read at a start', async () => {
  const [replay] = await bench('--replay', '--pairs', '1', '--spans', '5120');
  expect(replay).toMatchObject({ shape: 'orders', spans: 5120 });
});

it('a full log becomes records with one worker and with two', async () => {
  const [settled] = await bench('--workers', '1,2', '--pairs', '1', '--spans', '5120');
  expect(settled.workers.map(({ workers }: { workers: number }) => workers)).toEqual([1, 2]);
});

it('a start is timed', async () => {
  const rows = await bench('--start', '--pairs', '1');
  expect(rows.map(({ program, turn }) => `${program} ${turn}`)).toEqual([
    'package first',
    'package later',
    'checkout first',
    'checkout later',
  ]);
  for (const { seconds } of rows) expect(seconds.median).toBeGreaterThan(0);
});

it('spans are counted among open traces', async () => {
  const rows = await bench('--open-cost', '64,128', '--pairs', '1', '--spans', '512');
  expect(rows.map(({ openTraces }) => openTraces)).toEqual([64, 128]);
});

/** What differs from run to run is below a hundredth; a tenth is a change of the code that somebody should have meant. */
const GROWTH_MAX = 1.1;
/** On a busy machine V8 counts calls now and then that it otherwise counts with their callers (`mixWord`, a sixth of all). */
const COUNTS_MAX = 4;

it('a span runs through no more code than it did when that was last kept', async () => {
  const kept = readRows<{ shape: string; spans: number; codeASpan: number }>('count');
  expect(kept.map(({ shape }) => shape)).toContain('orders');
  const [orders] = kept.filter(({ shape }) => shape === 'orders');
  const most = (orders?.codeASpan ?? 0) * GROWTH_MAX;
  let least = Number.POSITIVE_INFINITY;
  for (let count = 0; count < COUNTS_MAX && least >= most; count++) {
    const { codeASpan } = await countCode({ shape: 'orders', spans: orders?.spans ?? 0, serveArguments: [] });
    least = Math.min(least, codeASpan);
  }
  expect(least).toBeLessThan(most);
});
