import { readFileSync } from 'node:fs';
import { type ScannedItem, scanTraces } from '../../src/otlp/scan.ts';
import { encodeTraces, type TestSpan } from '../otlp/encode.ts';
import type { RunningProcess } from './spantrail.ts';

/** Requests with many spans that cost little to make: encoded once, and their ids written into a copy for each request. */

export const hugeSpanId = (number: number): string => (number + 1).toString(16).padStart(16, '0');

const access: TestSpan = {
  name: 'GET /patients/:id',
  kind: 2,
  attributes: {
    'http.request.method': 'GET',
    'http.route': '/patients/:id',
    'url.path': '/patients/7',
    'user.id': 'alice',
  },
};
const step: TestSpan = { name: 'step', kind: 1, attributes: { 'thread.id': 7 } };

export interface Load {
  readonly count: number;
  /** One span of so many is an access: the first of them. Divides `perRequest`. */
  readonly accessEvery: number;
  readonly perRequest: number;
  readonly startNs: bigint;
  /** Of the span of this number. Trace ids of one trace each, or one for all; a parent of -1 is none. */
  readonly idsOf: (number: number) => { readonly traceId: string; readonly span: number; readonly parent: number };
}

/** Sends it, one request after the other; resolves when all of it is acknowledged. */
export async function sendLoad(running: RunningProcess, load: Load): Promise<void> {
  const { count, accessEvery, perRequest, startNs, idsOf } = load;
  const spans = Array.from({ length: perRequest }, (_, index): TestSpan => {
    const ids = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), parentSpanId: 'c'.repeat(16) };
    return { ...(index % accessEvery === 0 ? access : step), ...ids, startNs, endNs: startNs + 5_000_000n };
  });
  const template = encodeTraces([{ attributes: { 'service.name': 'batch' }, spans }]);
  const places: ScannedItem[] = [];
  scanTraces(template, (item) => places.push({ ...item }));
  for (let from = 0; from < count; from += perRequest) {
    const payload = Buffer.from(template);
    for (const [index, place] of places.entries()) {
      const { traceId, span, parent } = idsOf(from + index);
      payload.write(traceId, place.traceIdAt, 'hex');
      payload.write(hugeSpanId(span), place.spanIdAt, 'hex');
      // All zeros is no parent.
      payload.write(parent < 0 ? '0'.repeat(16) : hugeSpanId(parent), place.parentSpanIdAt, 'hex');
    }
    while ((await running.send('traces', payload)) === 503) await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** Peak of its resident memory. */
export function peakMiB(running: RunningProcess): number {
  const status = readFileSync(`/proc/${running.process.pid}/status`, 'utf8');
  return Math.round(Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
}
