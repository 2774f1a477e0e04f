import { hash } from 'node:crypto';
import type { Attributes } from '../core/evidence.ts';
import type { MetricPoint } from '../core/metric-point.ts';
import { textOf } from './identity.ts';
import { isAt, keyOfPlace, linksOf, type MeasuredPlace } from './pressure-places.ts';
import { PointRing } from './pressure-ring.ts';
import type { PressureRule } from './pressure-rules.ts';

/** Longer texts of what tells series apart are kept as a digest. */
const SERIES_KEY_CHARS_MAX = 200;

/** Longest name of a measured thing that a record shows. */
const THING_CHARS_MAX = 120;

/** Places of records whose resources are remembered; then it begins anew. */
const PLACES_REMEMBERED_MAX = 2_000;

/** How long nothing is looked for that has become too old, as a part of the time that points are kept. */
const SWEEPS_PER_KEEP = 20;

export interface PressureLimits {
  /** Series of all resources; further ones are not kept until others have become too old. */
  readonly seriesMax: number;
  /** Points of one series. */
  readonly pointsMax: number;
  /** Points are kept so long after they came. */
  readonly keepMs: number;
}

/** What became of a point that was offered: `base` is the first of a growing sum, which says nothing by itself. */
export type Taken = 'kept' | 'duplicate' | 'base' | 'no_place' | 'full' | 'other';

/** How the values of a metric are read, and what tells its series apart. */
interface Reading {
  readonly reads: NonNullable<PressureRule['reads']>;
  readonly where: PressureRule['where'];
  readonly of: readonly string[];
}

/** One stream of points: a metric of one resource with one set of attributes. */
export interface Series {
  readonly key: string;
  readonly name: string;
  /** What was measured: the pool, the disk …; empty where the resource says all. */
  readonly thing: string;
  readonly ring: PointRing;
  readonly resource: MeasuredResource;
  /** When a point came last. */
  receivedMs: number;
  /** The last point of a growing sum. */
  last?: { readonly timeNs: bigint; readonly value: number; readonly count: number };
}

export interface MeasuredResource {
  readonly key: string;
  readonly place: MeasuredPlace;
  /** By the metric's name. */
  readonly series: Map<string, Series[]>;
}

/**
 * The short memory of resource metrics: the last points of each series by the resource they were measured on. Time is passed
 * in; memory is bounded by the limits alone.
 */
export class PressureMemory {
  readonly #limits: PressureLimits;
  readonly #readings: ReadonlyMap<string, Reading>;
  readonly #resources = new Map<string, MeasuredResource>();
  readonly #links = new Map<string, Set<MeasuredResource>>();
  readonly #series = new Map<string, Series>();
  /** Resources of a place that was asked for; cleared whenever a resource comes or goes. */
  readonly #remembered = new Map<string, readonly MeasuredResource[]>();
  readonly #onExpired: (points: number) => void;
  #sweptMs = 0;

  /** `onExpired` is told of points that leave without a record that shows them. */
  constructor(rules: readonly PressureRule[], limits: PressureLimits, onExpired: (points: number) => void) {
    this.#limits = limits;
    this.#readings = readingsOf(rules);
    this.#onExpired = onExpired;
  }

  /** The names of all metrics that are kept. */
  get names(): readonly string[] {
    return [...this.#readings.keys()];
  }

  get isEmpty(): boolean {
    return this.#series.size === 0;
  }

  get seriesCount(): number {
    return this.#series.size;
  }

  offer(point: MetricPoint, place: MeasuredPlace | undefined, receivedMs: number): Taken {
    const reading = this.#readings.get(point.name);
    if (reading === undefined || !fits(reading.where, point.attributes)) return 'other';
    if (place === undefined) return 'no_place';
    const key = seriesKey(point, keyOfPlace(place));
    let series = this.#series.get(key);
    const isNew = series === undefined;
    if (series === undefined) {
      if (this.#series.size >= this.#limits.seriesMax) return 'full';
      series = this.#newSeries(key, point, place, reading);
    }
    const timeMs = point.timeNs === 0n ? receivedMs : Number(point.timeNs) / 1e6;
    if (series.ring.has(timeMs) || series.last?.timeNs === point.timeNs) return 'duplicate';
    series.receivedMs = receivedMs;
    const value = readingOf(point, reading.reads, series);
    if (isNew) this.#keep(series, place);
    if (value === undefined) return 'base';
    this.#onExpired(series.ring.add(timeMs, value, receivedMs).expired);
    return 'kept';
  }

  /** Lets go of what came too long ago; looks for it now and then only. */
  sweep(nowMs: number): void {
    if (Math.abs(nowMs - this.#sweptMs) < this.#limits.keepMs / SWEEPS_PER_KEEP) return;
    this.#sweptMs = nowMs;
    for (const series of this.#series.values()) {
      this.#onExpired(series.ring.expire(nowMs - this.#limits.keepMs).expired);
      // A growing sum of which one point has come so far has none in the ring.
      if (series.ring.count === 0 && series.receivedMs < nowMs - this.#limits.keepMs) this.#forget(series);
    }
  }

  /** The resources that were measured at this place, in the order of their names. */
  resourcesAt(place: MeasuredPlace): readonly MeasuredResource[] {
    const key = keyOfPlace(place);
    const known = this.#remembered.get(key);
    if (known !== undefined) return known;
    const found = new Set<MeasuredResource>();
    for (const link of linksOf(place)) {
      for (const resource of this.#links.get(link) ?? []) if (isAt(resource.place, place)) found.add(resource);
    }
    const resources = [...found].sort((left, right) => (left.key < right.key ? -1 : 1));
    if (this.#remembered.size >= PLACES_REMEMBERED_MAX) this.#remembered.clear();
    this.#remembered.set(key, resources);
    return resources;
  }

  #newSeries(key: string, point: MetricPoint, place: MeasuredPlace, reading: Reading): Series {
    const resourceKey = keyOfPlace(place);
    const resource = this.#resources.get(resourceKey) ?? { key: resourceKey, place, series: new Map() };
    const thing = thingOf(reading.of, point.attributes);
    return { key, name: point.name, thing, ring: new PointRing(this.#limits.pointsMax), resource, receivedMs: 0 };
  }

  #keep(series: Series, place: MeasuredPlace): void {
    const { resource } = series;
    this.#series.set(series.key, series);
    const named = resource.series.get(series.name);
    if (named) named.push(series);
    else resource.series.set(series.name, [series]);
    if (this.#resources.has(resource.key)) return;
    this.#resources.set(resource.key, resource);
    this.#remembered.clear();
    for (const link of linksOf(place)) {
      const linked = this.#links.get(link);
      if (linked) linked.add(resource);
      else this.#links.set(link, new Set([resource]));
    }
  }

  #forget(series: Series): void {
    const { resource } = series;
    this.#series.delete(series.key);
    const others = (resource.series.get(series.name) ?? []).filter((other) => other !== series);
    if (others.length > 0) resource.series.set(series.name, others);
    else resource.series.delete(series.name);
    if (resource.series.size > 0) return;
    this.#resources.delete(resource.key);
    this.#remembered.clear();
    for (const link of linksOf(resource.place)) {
      const linked = this.#links.get(link);
      linked?.delete(resource);
      if (linked?.size === 0) this.#links.delete(link);
    }
  }
}

/** Rules name metrics; what tells a limit is read as what it limits. The first rule that names a metric decides. */
function readingsOf(rules: readonly PressureRule[]): ReadonlyMap<string, Reading> {
  const readings = new Map<string, Reading>();
  const add = (name: string, reading: Reading) => {
    if (!readings.has(name)) readings.set(name, reading);
  };
  for (const { names, reads = 'rate', where, of = [] } of rules) {
    for (const name of names) add(name, { reads, where, of });
  }
  for (const { reads = 'rate', of = [], limit, left = [] } of rules) {
    const named = typeof limit === 'object' ? limit : [];
    for (const name of [...named, ...left]) add(name, { reads, where: undefined, of });
  }
  return readings;
}

function fits(where: PressureRule['where'], attributes: Attributes): boolean {
  if (where === undefined) return true;
  const key = where.attributes.find((name) => attributes.has(name));
  return key === undefined || where.values.includes(textOf(attributes.get(key)));
}

function seriesKey({ name, attributes }: MetricPoint, resourceKey: string): string {
  const pairs: string[] = [];
  for (const [key, value] of attributes) pairs.push(`${key}\x01${textOf(value)}`);
  const text = pairs.sort().join('\x02');
  const short = text.length > SERIES_KEY_CHARS_MAX ? hash('sha256', text, 'hex') : text;
  return `${name}\x03${short}\x03${resourceKey}`;
}

function thingOf(of: readonly string[], attributes: Attributes): string {
  const texts = of.map((key) => textOf(attributes.get(key))).filter((text) => text !== '');
  const text = texts.join(' ');
  // A copy: a slice would keep all of a long text in memory.
  return text.length > THING_CHARS_MAX ? Buffer.from(text.slice(0, THING_CHARS_MAX)).toString() : text;
}

/** What grew over longer than an hour (or since the epoch, where the sender gave no start) tells nothing of one access. */
const GROWTH_SECONDS_MAX = 3600;

const SECONDS: Readonly<Record<string, number>> = { s: 1, ms: 1e-3, us: 1e-6, ns: 1e-9 };

/** The value that a point is read as; undefined where it takes another point to tell. Keeps the point for the next one. */
function readingOf(point: MetricPoint, reads: Reading['reads'], series: Series): number | undefined {
  const { kind, timeNs, startNs, value, count = 0 } = point;
  if (kind === 'level') return value;
  if (kind === 'increase') return perReading(reads, { value, count, tookNs: timeNs - startNs }, point.unit);
  const { last } = series;
  // One that comes late, or begins anew, has nothing to be compared with.
  if (last !== undefined && timeNs <= last.timeNs) return undefined;
  series.last = { timeNs, value, count };
  if (last === undefined || value < last.value || count < last.count) return undefined;
  const grown = { value: value - last.value, count: count - last.count, tookNs: timeNs - last.timeNs };
  return perReading(reads, grown, point.unit);
}

interface Growth {
  readonly value: number;
  readonly count: number;
  readonly tookNs: bigint;
}

function perReading(reads: Reading['reads'], { value, count, tookNs }: Growth, unit: string): number | undefined {
  if (reads === 'increase') return value;
  if (reads === 'mean') return count > 0 ? value / count : undefined;
  const tookSeconds = Number(tookNs) / 1e9;
  return tookSeconds > 0 && tookSeconds <= GROWTH_SECONDS_MAX
    ? (value * (SECONDS[unit] ?? 1)) / tookSeconds
    : undefined;
}
