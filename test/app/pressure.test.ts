import fc from 'fast-check';
import { expect, it } from 'vitest';
import { openPressure } from '../../src/app/pressure.ts';
import { Sums, sumsOf } from '../../src/app/sums.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import type { FrameNote } from '../../src/core/evidence.ts';
import { Counters } from '../../src/core/metrics.ts';
import { scanMetrics } from '../../src/otlp/scan.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';
import { encodeMetrics } from '../otlp/encode.ts';

const START_MS = Date.parse('2026-11-22T10:00:00Z');
const NOTE: FrameNote = {
  ...{ receivedNs: 0n, namespace: 'default', sender: 'grpc', trusted: true, vouches: false, peer: '10.0.0.7' },
};

function open(settings: object = {}) {
  const counters = new Counters();
  const sums = new Sums(counters);
  const time = { nowMs: START_MS };
  const parsed = settingsSchema.parse({ pressure: settings }).pressure;
  const pressure = openPressure({ settings: parsed, clock: { nowMs: () => time.nowMs }, counters });
  /** As admission does it. */
  const send = (payload: Buffer, note = NOTE) => {
    pressure.observe(payload, note);
    const scanned = scanMetrics(payload);
    if (scanned.ok) counters.add('accepted', scanned.items, { signal: 'metrics' });
  };
  const told = () => sumsOf(sums.moment(0), { traces: 0, logs: 0 }, []).find(({ of }) => of === 'metrics');
  return { counters, sums, time, pressure, send, told };
}

function loop(value: number, atMs: number, instance = 'a'): Buffer {
  const attributes = { 'service.name': 'shop', 'service.instance.id': instance };
  const timeNs = BigInt(atMs) * 1_000_000n;
  const metrics = [
    { name: 'nodejs.eventloop.utilization', points: [{ timeNs, value }] },
    { name: 'http.server.active_requests', points: [{ timeNs, value: 1 }] },
  ];
  return encodeMetrics([{ attributes, metrics }]);
}

const record = () => makeRecord({ service: { name: 'shop', node: { name: 'a' } } });

it('every point has its place in the sums: kept, shown, repeated, not listed, too old, not believed', () => {
  const { time, pressure, send, told, counters } = open({ keepMs: 60_000 });
  send(loop(1, START_MS));
  expect(told()).toMatchObject({ accepted: 2, pending: 1, context: 1, difference: 0 });
  send(loop(1, START_MS));
  expect(told()).toMatchObject({ accepted: 4, pending: 1, context: 2, duplicate: 1, difference: 0 });
  send(loop(1, START_MS + 1000), { ...NOTE, trusted: false });
  expect(told()).toMatchObject({ accepted: 6, pending: 1, context: 4, duplicate: 1, difference: 0 });
  const shown = record();
  pressure.annotate([toWrite(shown), toWrite(record())]);
  expect(shown.audit.pressure).toMatchObject({ state: 'exhausted', metric: 'nodejs.eventloop.utilization' });
  expect(told()).toMatchObject({ accepted: 6, pending: 0, used: 1, difference: 0 });
  expect(counters.total('pressure_shown')).toBe(2);
  send(loop(1, START_MS + 2000));
  time.nowMs += 100_000;
  send(loop(1, START_MS + 100_000));
  expect(told()).toMatchObject({ accepted: 10, pending: 1, used: 1, expired: 1, difference: 0 });
  expect(counters.total('pressure_refused', { reason: 'untrusted' })).toBe(2);
});

it('a restart finds the points of the last run expired, once', () => {
  const first = open();
  first.send(loop(1, START_MS));
  first.pressure.annotate([toWrite(record())]);
  first.send(loop(1, START_MS + 1000));
  const mark = first.sums.mark(START_MS);
  const second = open();
  second.send(loop(1, START_MS));
  second.sums.restore(mark);
  expect(second.told()).toMatchObject({ accepted: 6, pending: 1, used: 1, context: 3, expired: 1, difference: 0 });
  const third = open();
  third.sums.restore(second.sums.mark(START_MS));
  expect(third.told()).toMatchObject({ accepted: 6, pending: 0, used: 1, context: 3, expired: 2, difference: 0 });
});

it('without metrics, or with pressure turned off, records stay as they are', () => {
  for (const settings of [{}, { enabled: false }]) {
    const { pressure, send, told } = open(settings);
    if ('enabled' in settings) send(loop(1, START_MS));
    const untouched = record();
    pressure.annotate([toWrite(untouched)]);
    expect(untouched.audit).not.toHaveProperty('pressure');
    expect(told()).toMatchObject({ pending: 0, difference: 0 });
  }
});

it('whatever comes in whatever order, the sums have no difference', () => {
  const step = fc.oneof(
    fc.record({
      kind: fc.constant('send' as const),
      at: fc.nat(20),
      value: fc.nat(3),
      instance: fc.constantFrom('a', 'b', 'c'),
    }),
    fc.record({ kind: fc.constant('show' as const) }),
    fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(30_000) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { time, pressure, send, told, counters } = open({ keepMs: 20_000, pointsMax: 3, seriesMax: 2 });
      for (const each of steps) {
        if (each.kind === 'wait') time.nowMs += each.ms;
        else if (each.kind === 'show') pressure.annotate([toWrite(record())]);
        else send(loop(each.value, START_MS + each.at * 1000, each.instance));
        expect(told()).toMatchObject({ difference: 0 });
        expect(counters.total('pressure_points')).toBeGreaterThanOrEqual(0);
        expect(counters.total('pressure_points')).toBeLessThanOrEqual(6);
      }
    }),
    { numRuns: 200 },
  );
});
