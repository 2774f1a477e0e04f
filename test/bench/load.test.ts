import { describe, expect, it } from 'vitest';
import { PayloadReader } from '../../src/otlp/decode.ts';
import { compileKeys } from '../../src/otlp/key-set.ts';
import { scanTraces } from '../../src/otlp/scan.ts';
import type { Frame } from '../../src/wal/frame.ts';
import { startHarness } from '../receive/harness.ts';
import { percentile, runLoad } from './load.ts';
import {
  buildTemplate,
  freshen,
  GRPC_PREFIX_BYTES,
  SPANS_A_REQUEST,
  TRACES_A_REQUEST,
  uniqueValues,
} from './workload.ts';

const START_MS = 1_700_000_000_123;

/** The spans of a request, read by the product's own decoder. */
function spansOf(payload: Buffer) {
  const note = { receivedNs: 0n, namespace: 'x', sender: 'x', trusted: true, vouches: false, peer: '' };
  const reader = new PayloadReader(payload, 'traces', note, compileKeys(['*']));
  const starts: number[] = [];
  const scanned = scanTraces(payload, (item) => void starts.push(item.itemStart));
  expect(scanned).toEqual({ ok: true, items: SPANS_A_REQUEST, rejected: 0, reason: '' });
  return starts.map((start) => reader.span(start));
}

describe('the load', () => {
  it('is whole traces of about 677 bytes a span, new in every request', () => {
    const template = buildTemplate();
    const unique = uniqueValues();
    const requests = [0, 1].map(() => {
      const buffer = Buffer.from(template.bytes);
      freshen(buffer, template, unique(), START_MS);
      return spansOf(buffer.subarray(GRPC_PREFIX_BYTES));
    });
    const spans = requests.flat();
    expect(new Set(spans.map((span) => span.traceId)).size).toBe(2 * TRACES_A_REQUEST);
    expect(new Set(spans.map((span) => span.traceId + span.spanId)).size).toBe(2 * SPANS_A_REQUEST);
    expect(Math.abs(template.bytes.length / SPANS_A_REQUEST - 677)).toBeLessThan(15);

    const trace = requests[0]?.filter((span) => span.traceId === spans[0]?.traceId) ?? [];
    const ids = new Set(trace.map((span) => span.spanId));
    const roots = trace.filter((span) => span.parentSpanId === '');
    expect(roots.map((root) => root.startNs)).toEqual([BigInt(START_MS) * 1_000_000n]);
    for (const span of trace) {
      expect(span.parentSpanId === '' || ids.has(span.parentSpanId)).toBe(true);
      expect(span.startNs >= (roots[0]?.startNs ?? 0n) && span.endNs <= (roots[0]?.endNs ?? 0n)).toBe(true);
      expect(span.endNs > span.startNs).toBe(true);
    }
  });

  it('is acknowledged, counted and bounded', async () => {
    const frames: Frame[] = [];
    const wal = { append: async (frame: Frame) => void frames.push(frame) };
    const harness = await startHarness({ wal, requestBytesMax: 1024 * 1024 });
    const load = { port: harness.grpc.port, connections: 2, slots: 2, seconds: 60, spansMax: 5 * SPANS_A_REQUEST };
    const result = await runLoad(load);
    expect(result).toMatchObject({ acknowledgedSpans: 5 * SPANS_A_REQUEST, refused: {} });
    expect(result.latenciesMs.length).toBe(5);
    expect(frames.length).toBe(5);
    harness.budget.refuse = true;
    expect(await runLoad(load)).toMatchObject({ acknowledgedSpans: 0, refused: { 14: 5 } });
    await harness.close();
  });

  it('knows percentiles', () => {
    expect([percentile([1, 2, 3, 4], 50), percentile([1, 2, 3, 4], 99), percentile([], 50)]).toEqual([
      3,
      4,
      Number.NaN,
    ]);
  });
});
