import { describe, expect, it } from 'vitest';
import type { MetricPoint } from '../../src/core/metric-point.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { PressureMemory, type Taken } from '../../src/enrich/pressure.ts';
import { placeOfResource } from '../../src/enrich/pressure-places.ts';
import { PRESSURE_RULES, type PressureRule, withOwnRules } from '../../src/enrich/pressure-rules.ts';
import { showPressure } from '../../src/enrich/pressure-shown.ts';
import { makeRecord, type Overrides, toWrite } from '../fixtures/records.ts';

/** When the records of these tests are. */
const AT_MS = Date.parse('2026-11-22T10:00:00Z');
const SHOW = { nearMs: 60_000, highShare: 0.9, metricsMax: 8 };
const ORDERS = { 'service.name': 'orders', 'service.instance.id': 'a' };

interface Sent {
  resource?: Record<string, string>;
  name: string;
  value: number;
  kind?: MetricPoint['kind'];
  count?: number;
  unit?: string;
  /** Seconds after AT_MS; the start is a second before. */
  at?: number;
  attributes?: Record<string, string>;
  namespace?: string;
}

class Measured {
  readonly rules: readonly PressureRule[];
  readonly memory: PressureMemory;
  expired = 0;

  constructor(limits: Partial<ConstructorParameters<typeof PressureMemory>[1]> = {}, rules = PRESSURE_RULES) {
    this.rules = rules;
    const all = { seriesMax: 1000, pointsMax: 60, keepMs: 600_000, ...limits };
    this.memory = new PressureMemory(rules, all, (points) => {
      this.expired += points;
    });
  }

  send(
    { resource = ORDERS, at = 0, attributes = {}, namespace = 'default', ...point }: Sent,
    receivedMs = AT_MS,
  ): Taken {
    const timeNs = BigInt(AT_MS + at * 1000) * 1_000_000n;
    const of = { attributes: new Map(Object.entries(resource)) };
    return this.memory.offer(
      {
        ...{ kind: 'level', unit: '', ...point, timeNs, startNs: timeNs - 1_000_000_000n },
        ...{ attributes: new Map(Object.entries(attributes)), resource: of },
      },
      placeOfResource(namespace, of),
      receivedMs,
    );
  }

  /** What the records show. */
  show(...records: Overrides<AuditRecord>[]): AuditRecord['audit']['pressure'][] {
    const made = records.map((parts) => makeRecord({ service: { name: 'orders', node: { name: 'a' } }, ...parts }));
    showPressure(
      this.memory,
      this.rules,
      SHOW,
      made.map((record) => toWrite(record)),
    );
    return made.map(({ audit }) => audit.pressure);
  }
}

const pool = { 'db.client.connection.pool.name': 'main' };
const used = { ...pool, 'db.client.connection.state': 'used' };
const idle = { ...pool, 'db.client.connection.state': 'idle' };

describe('pressure', () => {
  it('a pool with all its connections in use is exhausted, and both numbers are told', () => {
    const measured = new Measured();
    measured.send({ name: 'db.client.connection.count', value: 1, attributes: used });
    measured.send({ name: 'db.client.connection.count', value: 0, attributes: idle });
    measured.send({ name: 'db.client.connection.max', value: 1, attributes: pool });
    measured.send({ name: 'db.client.connection.pending_requests', value: 4, attributes: pool });
    measured.send({ name: 'nodejs.eventloop.utilization', value: 0.25 });
    const [shown] = measured.show({});
    expect(shown).toMatchObject({
      state: 'exhausted',
      metric: 'db.client.connection.count',
      value: 1,
      limit: 1,
      ratio: 1,
    });
    expect(shown?.metrics).toEqual([
      {
        ...{ name: 'db.client.connection.count', value: 1, limit: 1, ratio: 1 },
        ...{ at: '2026-11-22T10:00:00.000000000Z', of: 'orders main' },
      },
      expect.objectContaining({ name: 'nodejs.eventloop.utilization', ratio: 0.25, of: 'orders' }),
      expect.objectContaining({ name: 'db.client.connection.pending_requests', value: 4 }),
    ]);
    expect(shown?.metrics[2]).not.toHaveProperty('ratio');
  });

  it.each<[string, Sent[], { name: string; value: number; limit?: number }]>([
    [
      'the old names of the conventions',
      [
        { name: 'db.client.connections.usage', value: 9, attributes: { 'pool.name': 'p', state: 'used' } },
        { name: 'db.client.connections.max', value: 10, attributes: { 'pool.name': 'p' } },
      ],
      { name: 'db.client.connections.usage', value: 9, limit: 10 },
    ],
    [
      'CPU time as cores in use, summed over its modes',
      [
        {
          name: 'container.cpu.time',
          value: 10,
          at: -10,
          kind: 'total',
          unit: 's',
          attributes: { 'cpu.mode': 'user' },
        },
        {
          name: 'container.cpu.time',
          value: 1,
          at: -10,
          kind: 'total',
          unit: 's',
          attributes: { 'cpu.mode': 'system' },
        },
        { name: 'container.cpu.time', value: 14, at: 0, kind: 'total', unit: 's', attributes: { 'cpu.mode': 'user' } },
        { name: 'container.cpu.time', value: 2, at: 0, kind: 'total', unit: 's', attributes: { 'cpu.mode': 'system' } },
        { name: 'container.cpu.limit', value: 2 },
      ],
      { name: 'container.cpu.time', value: 0.5, limit: 2 },
    ],
    [
      'a part of the time, from a histogram in milliseconds',
      [
        { name: 'jvm.gc.duration', value: 100, count: 3, at: -10, kind: 'total', unit: 'ms' },
        { name: 'jvm.gc.duration', value: 9600, count: 9, at: 0, kind: 'total', unit: 'ms' },
      ],
      { name: 'jvm.gc.duration', value: 0.95, limit: 1 },
    ],
    [
      'the mean of what a histogram grew by',
      [{ name: 'db.client.connection.wait_time', value: 6, count: 3, kind: 'increase', unit: 's' }],
      { name: 'db.client.connection.wait_time', value: 2 },
    ],
    [
      'periods in which CPU was throttled, of all periods',
      [
        { name: 'container.cpu.throttling_data.throttled_periods', value: 30, kind: 'increase' },
        { name: 'container.cpu.throttling_data.periods', value: 40, kind: 'increase' },
      ],
      { name: 'container.cpu.throttling_data.throttled_periods', value: 30, limit: 40 },
    ],
    [
      'what is left as a limit',
      [
        { name: 'executor.queued', value: 60, attributes: { name: 'pool-1' } },
        { name: 'executor.queue.remaining', value: 40, attributes: { name: 'pool-1' } },
      ],
      { name: 'executor.queued', value: 60, limit: 100 },
    ],
    [
      'no limit where it says that there is none',
      [
        { name: 'db.sql.connection.open', value: 3, attributes: { status: 'inuse' } },
        { name: 'db.sql.connection.max_open', value: 0 },
      ],
      { name: 'db.sql.connection.open', value: 3 },
    ],
  ])('reads %s', (_, points, expected) => {
    const measured = new Measured();
    for (const point of points) measured.send(point);
    const [shown] = measured.show({});
    expect(shown?.metrics).toHaveLength(1);
    expect(shown?.metrics[0]).toMatchObject(expected);
    expect(shown?.metrics[0]?.limit).toBe(expected.limit);
  });

  it('of several points the nearest in time is shown, within the access the highest, and none that is far', () => {
    const measured = new Measured();
    const at = [-90, -30, -5, 0.2, 0.4, 20] as const;
    for (const [index, second] of at.entries()) {
      measured.send({
        name: 'nodejs.eventloop.utilization',
        value: [0.1, 0.2, 0.3, 0.9, 0.4, 0.6][index] ?? 0,
        at: second,
      });
    }
    const valueAt = (time: string, duration = 0) =>
      measured.show({ '@timestamp': time, event: { duration } })[0]?.value;
    expect(valueAt('2026-11-22T09:59:29.000000000Z')).toBe(0.2);
    expect(valueAt('2026-11-22T10:00:00.000000000Z', 1_000_000_000)).toBe(0.9);
    expect(valueAt('2026-11-22T10:00:30.000000000Z')).toBe(0.6);
    expect(valueAt('2026-11-22T10:01:30.000000000Z')).toBeUndefined();
    expect(valueAt('2026-11-22T09:57:00.000000000Z')).toBeUndefined();
  });

  it.each<[string, Record<string, string>, Overrides<AuditRecord>, boolean]>([
    ['another service', { 'service.name': 'billing' }, {}, false],
    ['another instance', { ...ORDERS, 'service.instance.id': 'b' }, {}, false],
    ['the service without an instance', { 'service.name': 'orders' }, {}, true],
    [
      'its container, by another sender',
      { 'container.id': 'c1', 'k8s.pod.name': 'x' },
      { container: { id: 'c1' } },
      true,
    ],
    ['another container', { 'container.id': 'c2' }, { container: { id: 'c1' } }, false],
    [
      'its pod',
      { 'k8s.pod.name': 'p', 'k8s.namespace.name': 'shop' },
      { orchestrator: { namespace: 'shop', resource: { name: 'p' } } },
      true,
    ],
    [
      'a pod of that name elsewhere',
      { 'k8s.pod.name': 'p', 'k8s.namespace.name': 'test' },
      { orchestrator: { namespace: 'shop', resource: { name: 'p' } } },
      false,
    ],
    ['its host', { 'host.name': 'h' }, { host: { name: 'h' } }, true],
    ['another service on its host', { 'service.name': 'billing', 'host.name': 'h' }, { host: { name: 'h' } }, false],
    ['another container on its host', { 'container.id': 'c2', 'host.name': 'h' }, { host: { name: 'h' } }, false],
  ])('what is measured on %s', (_, resource, record, isShown) => {
    const measured = new Measured();
    measured.send({ name: 'nodejs.eventloop.utilization', value: 1, resource });
    expect(measured.show(record)[0] !== undefined).toBe(isShown);
  });

  it('is not shown in another namespace', () => {
    const measured = new Measured();
    measured.send({ name: 'nodejs.eventloop.utilization', value: 1, namespace: 'other' });
    expect(measured.show({})).toEqual([undefined]);
  });

  it('an entry shows all services of its trace, an inner access its own', () => {
    const measured = new Measured();
    const gateway = { 'service.name': 'gateway', 'service.instance.id': 'g' };
    measured.send({ name: 'nodejs.eventloop.utilization', value: 0.5, resource: gateway });
    measured.send({ name: 'nodejs.eventloop.utilization', value: 1 });
    const [entry, inner] = measured.show(
      { service: { name: 'gateway', node: { name: 'g' } } },
      { event: { id: '2' }, audit: { entry: false } },
    );
    expect(entry?.metrics.map(({ of }) => of)).toEqual(['orders', 'gateway']);
    expect(inner?.metrics.map(({ of }) => of)).toEqual(['orders']);
  });

  it('of a service known from the path alone its one instance is shown, but none of several', () => {
    const step = {
      service: 'ledger',
      name: 'x',
      kind: 'server',
      span_id: '1',
      start_offset: 0,
      duration: 1,
      status: 'ok',
    } as const;
    const entry = { audit: { path: [step] } };
    const measured = new Measured();
    const ledger = (instance: string) => ({ 'service.name': 'ledger', 'service.instance.id': instance });
    measured.send({ name: 'nodejs.eventloop.utilization', value: 1, resource: ledger('1') });
    expect(measured.show(entry)[0]?.metrics[0]?.of).toBe('ledger');
    measured.send({ name: 'nodejs.eventloop.utilization', value: 1, resource: ledger('2') });
    expect(measured.show(entry)).toEqual([undefined]);
    measured.send({ name: 'system.memory.utilization', value: 0.5, resource: { 'host.name': 'h' } });
    for (const instance of ['1', '2']) {
      const resource = { ...ledger(instance), 'host.name': 'h' };
      measured.send({ name: 'nodejs.eventloop.utilization', value: 1, at: 1, resource });
    }
    const unnamed = { service: { name: 'ledger', node: undefined }, host: { name: 'h' } };
    expect(measured.show(unnamed)[0]?.metrics).toMatchObject([{ name: 'system.memory.utilization', of: 'h' }]);
  });

  it('the limit of a container may come from another sender than its use', () => {
    const measured = new Measured();
    const container = { 'container.id': 'c1', 'k8s.pod.name': 'p', 'k8s.container.name': 'app' };
    measured.send({ name: 'container.memory.working_set', value: 95, resource: container });
    const cluster = { 'k8s.pod.name': 'p', 'k8s.container.name': 'app' };
    measured.send({ name: 'k8s.container.memory_limit', value: 100, resource: cluster });
    measured.send({
      name: 'k8s.container.memory_limit',
      value: 7,
      resource: { ...cluster, 'k8s.container.name': 'proxy' },
    });
    const record = { container: { id: 'c1' }, orchestrator: { resource: { name: 'p' } } };
    expect(measured.show(record)[0]).toMatchObject({ state: 'high', value: 95, limit: 100, ratio: 0.95 });
  });

  it('memory is bounded: series, points and their age', () => {
    const measured = new Measured({ seriesMax: 2, pointsMax: 3, keepMs: 10_000 });
    const send = (of: string, at: number) =>
      measured.send({ name: 'executor.queued', value: 1, at, attributes: { name: of } }, AT_MS + at * 1000);
    expect(send('a', 0)).toBe('kept');
    expect(send('a', 0)).toBe('duplicate');
    expect(send('b', 0)).toBe('kept');
    expect(send('c', 0)).toBe('full');
    for (let at = 1; at < 6; at++) send('a', at);
    expect(measured.expired).toBe(3);
    measured.memory.sweep(AT_MS + 14_500);
    expect(measured.expired).toBe(6);
    expect(measured.memory.seriesCount).toBe(1);
    expect(send('c', 15)).toBe('kept');
    measured.memory.sweep(AT_MS + 60_000);
    expect(measured.expired).toBe(8);
    expect(measured.memory.isEmpty).toBe(true);
    expect(measured.show({})).toEqual([undefined]);
  });

  it('a growing sum that begins anew or comes late says nothing wrong', () => {
    const measured = new Measured();
    const total = (value: number, at: number) =>
      measured.send({ name: 'process.cpu.time', kind: 'total', unit: 's', value, at });
    expect([total(100, 0), total(110, 10), total(3, 20), total(50, 5), total(8, 30)]).toEqual([
      ...['base', 'kept', 'base', 'base', 'kept'],
    ]);
    expect(measured.show({ '@timestamp': '2026-11-22T10:00:31.000000000Z' })[0]?.value).toBe(0.5);
    expect(total(20, 5000)).toBe('base');
  });

  it('what the user says of a metric stands instead of what is built in', () => {
    const own = [
      { metric: 'executor.queued', limit: 5 },
      { metric: 'shop.carts', limit: 'shop.carts.max', of: 'shop' },
    ];
    const rules = withOwnRules(own, true);
    const measured = new Measured({}, rules);
    measured.send({ name: 'executor.queued', value: 5 });
    measured.send({ name: 'shop.carts', value: 1, attributes: { shop: 'x' } });
    measured.send({ name: 'shop.carts.max', value: 2, attributes: { shop: 'x' } });
    expect(measured.show({})[0]?.metrics).toMatchObject([
      { name: 'executor.queued', limit: 5, ratio: 1 },
      { name: 'shop.carts', ratio: 0.5, of: 'orders x' },
    ]);
    expect(() => withOwnRules([{ metric: 'm', limit: 'm' }], true)).toThrow('pressure.metrics.0');
    expect(new Measured({}, withOwnRules(own, false)).send({ name: 'jvm.memory.used', value: 1 })).toBe('other');
  });
});
