import { describe, expect, it } from 'vitest';
import type { PipelineAnswer } from '../../src/api/contract.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { checkCounts, checkRecords, countsOf, sentSpans } from './check.ts';
import { codeRun } from './code-run.ts';
import { spreadOf } from './results.ts';
import { SHAPE_NAMES } from './shapes.ts';
import { buildTraffic, framed, freshen, uniqueValues } from './workload.ts';

const START_MS = 1_700_000_000_123;
const unique = uniqueValues();

function requestsOf(shape: (typeof SHAPE_NAMES)[number]) {
  const ids = Buffer.from(unique());
  const [bundle = []] = buildTraffic(shape, 4).bundles;
  const templates = bundle.filter(({ signal }) => signal === 'traces');
  return templates.map((template) => {
    const bytes = Buffer.from(template.bytes);
    freshen(bytes, template, ids, START_MS);
    return bytes;
  });
}

describe('the traffic', () => {
  it.each(SHAPE_NAMES)('of %s has every span within its parent, and ids and times of its own', (shape) => {
    const [one, other] = [sentSpans(requestsOf(shape)), sentSpans(requestsOf(shape))];
    const byId = new Map(one.map((span) => [span.traceId + span.spanId, span]));
    expect(byId.size).toBe(one.length);
    for (const span of one) {
      expect(span.endNs > span.startNs).toBe(true);
      const parent = byId.get(span.traceId + span.parentId);
      const isWithin = parent === undefined || (span.startNs >= parent.startNs && span.endNs <= parent.endNs);
      expect(isWithin).toBe(true);
    }
    const repeated = other.filter((span) => one.some(({ spanId }) => spanId === span.spanId));
    expect(repeated).toEqual([]);
    expect(new Set(other.map(({ startNs, endNs }) => endNs - startNs)).size).toBeGreaterThan(other.length / 2);
  });

  it('says something new in each trace when it varies, at any time', () => {
    const texts = Array.from({ length: 3 }, () => sentSpans(requestsOf('varied'))).flatMap((spans) =>
      [...Map.groupBy(spans, ({ traceId }) => traceId).values()].map((trace) =>
        trace.map(({ attributes }) => [attributes.get('user.id'), attributes.get('db.query.text')].join(' ')).join(),
      ),
    );
    expect(new Set(texts).size).toBe(texts.length);
    expect(texts.join()).not.toContain('~');
  });

  it('comes in requests of one to ten spans when services are many', () => {
    const sizes = buildTraffic('services').bundles.flatMap((bundle) => bundle.map(({ spans }) => spans));
    expect([Math.min(...sizes), Math.max(...sizes)]).toEqual([1, 10]);
  });
});

describe('the check of records', () => {
  const spans = sentSpans(requestsOf('entries').slice(0, 1)).filter((_, index) => index % 4 === 0);
  const [span] = spans;
  const record = {
    event: { start: '2023-11-14T22:13:20.123000000Z', action: 'GET' },
    trace: { id: span?.traceId },
    span: { id: span?.spanId },
    audit: { join: {} },
  } as unknown as AuditRecord;

  it('finds what no span says, what is missing and what is there twice', () => {
    const stranger = { ...record, span: { id: '0000000000000001' } } as AuditRecord;
    expect(() => checkRecords(spans, [stranger], true)).toThrow('no access');
    expect(() => checkRecords(spans, [record], true)).toThrow(/is undefined and must be/);
    expect(() => checkRecords(spans, [], true)).toThrow('accesses without a record');
    expect(() => checkRecords(spans, [], false)).not.toThrow();
  });

  it('finds sums that say otherwise', () => {
    const sums = [
      { of: 'traces', accepted: 16, difference: 0 },
      { of: 'records', stored: 2, difference: 0 },
    ] as unknown as PipelineAnswer['sums'];
    const counts = countsOf({ sums } as PipelineAnswer);
    const before = { acceptedSpans: 0, storedRecords: 0, difference: 0 };
    const load = { acknowledgedSpans: 16, acknowledgedTraces: 2, refused: {}, elapsedMs: 1 };
    const rest = { generatorCpuSeconds: 0, latenciesMs: [] };
    const check = (traces: number, accepted = 16) =>
      checkCounts(
        buildTraffic('entries'),
        before,
        { ...counts, acceptedSpans: accepted },
        { ...load, acknowledgedTraces: traces, ...rest },
      );
    expect(() => check(2)).not.toThrow();
    expect(() => check(3)).toThrow('must make 3 records and made 2');
    expect(() => check(2, 15)).toThrow('16 spans acknowledged, 15 accepted');
  });
});

it('counts code by how often each block of it was run', () => {
  const ranges = [
    { startOffset: 10, endOffset: 110, count: 2 },
    { startOffset: 20, endOffset: 50, count: 10 },
    { startOffset: 30, endOffset: 40, count: 0 },
    { startOffset: 60, endOffset: 70, count: 1 },
  ];
  const script = { startOffset: 0, endOffset: 200, count: 1 };
  const functions = [{ ranges: [script] }, { ranges }];
  // 60 characters twice, 20 ten times, ten never, ten once.
  expect(codeRun([{ url: 'file:///a/src/wal/log.ts', functions }])).toEqual({ 'wal/log.ts': 120 + 200 + 10 });
  expect(codeRun([{ url: 'node:fs', functions: [{ ranges: [{ startOffset: 1, endOffset: 3, count: 4 }] }] }])).toEqual({
    node: 8,
  });
});

it('knows medians, and frames for gRPC', () => {
  expect(spreadOf([3, 1, 2])).toEqual({ median: 2, least: 1, most: 3 });
  expect(spreadOf([4, 1, 2, 3]).median).toBe(2.5);
  expect(framed(Buffer.from('ab'), true)).toEqual(Buffer.from([1, 0, 0, 0, 2, 97, 98]));
});
