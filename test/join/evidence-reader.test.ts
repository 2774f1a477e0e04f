import { expect, it } from 'vitest';
import { EvidenceReader, newFound } from '../../src/join/evidence-reader.ts';
import { scanTraces } from '../../src/otlp/scan.ts';
import { encodeTraces } from '../otlp/encode.ts';
import { keys, noteAt, spanIdOf, traceIdOf } from './world.ts';

it('readers of many small frames are let go before their objects take more than their bytes', () => {
  const payload = encodeTraces([{ spans: [{ traceId: traceIdOf(1), spanId: spanIdOf(1), name: 'x', kind: 2 }] }]);
  let itemStart = 0;
  scanTraces(payload, (item) => {
    itemStart = item.itemStart;
  });
  let frames = 0;
  const reader = new EvidenceReader((position) => {
    frames++;
    return { signal: 'traces', note: noteAt(0), payload, position, length: payload.length };
  }, keys);
  const read = (offset: number) => {
    expect(reader.read([{ isLog: false, isNew: true, segment: 1, offset, itemStart }], newFound())).toEqual([]);
  };
  for (let offset = 0; offset < 20_000; offset++) read(offset);
  read(19_999);
  expect(frames).toBe(20_000);
  read(0);
  expect(frames).toBe(20_001);
});
