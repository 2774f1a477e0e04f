import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { MetricPoint } from '../../src/core/metric-point.ts';
import { compileKeys } from '../../src/otlp/key-set.ts';
import { readMetrics } from '../../src/otlp/metrics.ts';
import { scanMetrics } from '../../src/otlp/scan.ts';
import { delimited, encodeMetrics } from './encode.ts';
import { ORACLE } from './oracle.ts';

const ALL = { names: compileKeys(['*']), resourceKeys: compileKeys(['*']), pointsMax: 1000 };

/** What is read of a point, as plain data: it must not hold on to what is reused. */
function read(payload: Uint8Array, wanted = ALL) {
  const points: object[] = [];
  readMetrics(payload, wanted, (point: MetricPoint) => {
    const { attributes, resource, ...rest } = point;
    points.push({ ...rest, attributes: Object.fromEntries(attributes), of: Object.fromEntries(resource.attributes) });
  });
  return points;
}

function encode(message: object): Buffer {
  return Buffer.from(ORACLE.metrics.encode(ORACLE.metrics.fromObject(message)).finish());
}

function request(metric: object, service = 'orders'): object {
  const resource = { attributes: [{ key: 'service.name', value: { stringValue: service } }] };
  return { resourceMetrics: [{ resource, scopeMetrics: [{ metrics: [metric] }] }] };
}

const TIME = { timeUnixNano: '1790000000000000000', startTimeUnixNano: '1789999999000000000' };
const READ_TIME = { timeNs: 1_790_000_000_000_000_000n, startNs: 1_789_999_999_000_000_000n };
const DELTA = 1;
const CUMULATIVE = 2;

describe('points of metrics', () => {
  it.each([
    ['a gauge', { gauge: { dataPoints: [{ ...TIME, asDouble: 0.5 }] } }, [{ kind: 'level', value: 0.5 }]],
    ['a whole number', { gauge: { dataPoints: [{ ...TIME, asInt: '-7' }] } }, [{ kind: 'level', value: -7 }]],
    [
      'a sum that goes up and down',
      { sum: { aggregationTemporality: CUMULATIVE, dataPoints: [{ ...TIME, asInt: '3' }] } },
      [{ kind: 'level', value: 3 }],
    ],
    [
      'a growing sum',
      { sum: { aggregationTemporality: CUMULATIVE, isMonotonic: true, dataPoints: [{ ...TIME, asInt: '3' }] } },
      [{ kind: 'total', value: 3 }],
    ],
    [
      'the growth of a sum',
      { sum: { aggregationTemporality: DELTA, isMonotonic: true, dataPoints: [{ ...TIME, asDouble: 3 }] } },
      [{ kind: 'increase', value: 3 }],
    ],
    [
      'a histogram',
      { histogram: { aggregationTemporality: CUMULATIVE, dataPoints: [{ ...TIME, count: '4', sum: 2.5 }] } },
      [{ kind: 'total', value: 2.5, count: 4 }],
    ],
    [
      'an exponential histogram',
      { exponentialHistogram: { aggregationTemporality: DELTA, dataPoints: [{ ...TIME, count: '4', sum: 2.5 }] } },
      [{ kind: 'increase', value: 2.5, count: 4 }],
    ],
    [
      'a histogram without a sum',
      { histogram: { aggregationTemporality: 2, dataPoints: [{ ...TIME, count: '4' }] } },
      [],
    ],
    ['a sum without a temporality', { sum: { isMonotonic: true, dataPoints: [{ ...TIME, asInt: '3' }] } }, []],
    ['the change of an up-and-down sum', { sum: { aggregationTemporality: DELTA, dataPoints: [{ asInt: '3' }] } }, []],
    ['a point without a value', { gauge: { dataPoints: [{ ...TIME }, { ...TIME, asDouble: 1, flags: 1 }] } }, []],
    ['no number', { gauge: { dataPoints: [{ ...TIME, asDouble: Number.NaN }] } }, []],
    ['a summary', { summary: { dataPoints: [{ ...TIME, count: '1', sum: 1 }] } }, []],
  ])('reads %s', (_, data, expected) => {
    const payload = encode(request({ name: 'm', unit: 's', ...data }));
    const whole = { name: 'm', unit: 's', ...READ_TIME, attributes: {}, of: { 'service.name': 'orders' } };
    expect(read(payload)).toEqual(expected.map((point) => ({ ...whole, ...point })));
  });

  it('reads attributes, the resource after its metrics, and only the metrics asked for', () => {
    const attributes = { 'pool.name': 'main', state: 'used' };
    const metrics = [
      { name: 'db.client.connections.usage', points: [{ timeNs: 5n, value: 1, attributes }] },
      { name: 'http.server.request.duration', points: [{ timeNs: 5n, value: 1 }] },
    ];
    const usual = encodeMetrics([{ attributes: { 'service.name': 'orders', 'host.name': 'h' }, metrics }]);
    const wanted = { names: compileKeys(['db.client.*']), resourceKeys: compileKeys(['service.name']), pointsMax: 10 };
    const point = { kind: 'level', unit: '', startNs: 0n, timeNs: 5n, value: 1, attributes };
    const expected = [{ name: 'db.client.connections.usage', ...point, of: { 'service.name': 'orders' } }];
    expect(read(usual, wanted)).toEqual(expected);

    const block = usual.subarray(usual.indexOf(0x0a, 1));
    const resourceLength = 2 + (block[1] as number);
    const turned = Buffer.concat([block.subarray(resourceLength), block.subarray(0, resourceLength)]);
    expect(read(delimited(1, turned), wanted)).toEqual(expected);
  });

  it('reads no more points than it may, and says how many were beyond', () => {
    const points = [1, 2, 3].map((value) => ({ timeNs: 5n, value }));
    const metrics = ['a', 'b', 'c'].map((name) => ({ name, points }));
    const wanted = { ...ALL, names: compileKeys(['a', 'c']), pointsMax: 4 };
    const values: unknown[] = [];
    const beyond = readMetrics(encodeMetrics([{ metrics }]), wanted, ({ name, value }) => values.push([name, value]));
    expect([values, beyond]).toEqual([[...[1, 2, 3].map((value) => ['a', value]), ['c', 1]], 2]);
  });

  it('never throws on what the scan lets pass, and never finds more points than it', () => {
    const payload = encode(
      request({
        name: 'm',
        histogram: {
          aggregationTemporality: 2,
          dataPoints: [
            { ...TIME, count: '4', sum: 2.5 },
            { ...TIME, count: '9', sum: 3 },
          ],
        },
      }),
    );
    let passed = 0;
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(payload.length - 1), fc.nat(255)), { maxLength: 4 }), (changes) => {
        const bad = Buffer.from(payload);
        for (const [at, byte] of changes) bad[at] = byte;
        const scanned = scanMetrics(bad);
        if (!scanned.ok) return;
        passed++;
        expect(read(bad).length).toBeLessThanOrEqual(scanned.items);
      }),
      { numRuns: 2000 },
    );
    expect(passed).toBeGreaterThan(100);
  });
});
