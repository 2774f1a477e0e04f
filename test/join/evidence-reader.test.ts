import { expect, it } from 'vitest';
import { EvidenceReader, newFound } from '../../src/join/evidence-reader.ts';
import { scanLogs, scanTraces } from '../../src/otlp/scan.ts';
import { encodeLogs, encodeTraces } from '../otlp/encode.ts';
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
  const whose = { namespace: noteAt(0).namespace, traceId: traceIdOf(1) };
  const read = (offset: number) => {
    expect(reader.read([{ isLog: false, isNew: true, segment: 1, offset, itemStart }], newFound(), whose)).toEqual([]);
  };
  for (let offset = 0; offset < 20_000; offset++) read(offset);
  read(19_999);
  expect(frames).toBe(20_000);
  read(0);
  expect(frames).toBe(20_001);
});

it.each([
  ['its own', {}, 1],
  ['of another trace', { traceId: traceIdOf(2) }, 0],
  ['of another namespace', { namespace: 'other' }, 0],
])('evidence is taken only when it is whose it is said to be: %s', (_, other, taken) => {
  const [span, log] = [
    { traceId: traceIdOf(1), spanId: spanIdOf(1), name: 'x', kind: 2 },
    { traceId: traceIdOf(1), spanId: spanIdOf(1), body: 'x' },
  ];
  const whose = { namespace: noteAt(0).namespace, traceId: traceIdOf(1), ...other };
  for (const isLog of [false, true]) {
    const payload = isLog ? encodeLogs([{ logs: [log] }]) : encodeTraces([{ spans: [span] }]);
    let itemStart = 0;
    (isLog ? scanLogs : scanTraces)(payload, (item) => {
      itemStart = item.itemStart;
    });
    const frame = { signal: isLog ? 'logs' : 'traces', note: noteAt(0), payload, length: payload.length } as const;
    const reader = new EvidenceReader((position) => ({ ...frame, position }), keys);
    const piece = { isLog, isNew: false, segment: 1, offset: 32, itemStart };
    const found = newFound();
    expect(reader.read([piece], found, whose)).toHaveLength(1 - taken);
    expect([...found.spans, ...found.logs, ...found.spanPieces, ...found.logPieces]).toHaveLength(2 * taken);
    if (taken) expect(reader.readOne(piece, whose)).toMatchObject({ traceId: traceIdOf(1) });
    else expect(() => reader.readOne(piece, whose)).toThrow('evidence of another trace');
  }
});

it('evidence that the system is too short of files to read is not taken for lost', () => {
  const reader = new EvidenceReader(() => {
    throw Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE' });
  }, keys);
  const piece = { isLog: false, isNew: false, segment: 1, offset: 32, itemStart: 0 };
  const whose = { namespace: noteAt(0).namespace, traceId: traceIdOf(1) };
  expect(() => reader.read([piece], newFound(), whose)).toThrow('EMFILE');
  expect(() => reader.namespaceOf(piece)).toThrow('EMFILE');
});
