import type { Attributes, AttributeValue, Resource } from '../core/evidence.ts';
import type { MetricPoint } from '../core/metric-point.ts';
import { compileKeys, type KeySet } from './key-set.ts';
import { ValueReader } from './value.ts';
import { WIRE, type WireCursor, WireError } from './wire.ts';

const { varint, fixed64, delimited } = WIRE;

/** Tags of opentelemetry-proto 1.x, metrics.proto. */
const REQUEST = { resourceBlock: (1 << 3) | delimited } as const;
const BLOCK = { resource: (1 << 3) | delimited, scopeBlock: (2 << 3) | delimited } as const;
const RESOURCE = { attributes: (1 << 3) | delimited } as const;
const SCOPE_BLOCK = { metrics: (2 << 3) | delimited } as const;
const METRIC = {
  name: (1 << 3) | delimited,
  unit: (3 << 3) | delimited,
  gauge: (5 << 3) | delimited,
  sum: (7 << 3) | delimited,
  histogram: (9 << 3) | delimited,
  exponentialHistogram: (10 << 3) | delimited,
  summary: (11 << 3) | delimited,
} as const;
const DATA = { points: (1 << 3) | delimited, temporality: (2 << 3) | varint, isMonotonic: (3 << 3) | varint } as const;
/** NumberDataPoint; histograms share start and time. */
const POINT = {
  start: (2 << 3) | fixed64,
  time: (3 << 3) | fixed64,
  double: (4 << 3) | fixed64,
  int: (6 << 3) | fixed64,
  attributes: (7 << 3) | delimited,
  flags: (8 << 3) | varint,
} as const;
/** HistogramDataPoint and ExponentialHistogramDataPoint. */
const HISTOGRAM = {
  count: (4 << 3) | fixed64,
  sum: (5 << 3) | fixed64,
  attributes: (9 << 3) | delimited,
  flags: (10 << 3) | varint,
  exponentialAttributes: (1 << 3) | delimited,
  exponentialFlags: (10 << 3) | varint,
} as const;

const TEMPORALITY = { delta: 1, cumulative: 2 } as const;
/** DataPointFlags: the point says that there is no value. */
const NO_RECORDED_VALUE = 1;

const ALL_KEYS = compileKeys(['*']);

/** Which metrics and which attributes of their resources are wanted. */
export interface WantedMetrics {
  readonly names: KeySet;
  readonly resourceKeys: KeySet;
  /** Points that are decoded at most. */
  readonly pointsMax: number;
}

/**
 * Decodes the points of the wanted metrics: gauges, sums and histograms (exponential ones, too). Points without a value, of
 * sums without a temporality or that cannot be decoded, and summaries are left out. The payload must have passed
 * `scanMetrics`; what is broken inside of a resource, a metric or a point costs that alone. Fields may come in any legal order.
 * Returns how many points of wanted metrics were beyond `pointsMax`.
 */
export function readMetrics(payload: Uint8Array, wanted: WantedMetrics, sink: (point: MetricPoint) => void): number {
  const reader = new MetricReader(payload, wanted, sink);
  reader.read();
  return reader.beyond;
}

/** The data of one metric, gathered before its points are read: name, unit and temporality may come after them. */
interface MetricData {
  name: string | undefined;
  unit: string;
  kind: number;
  temporality: number;
  isMonotonic: boolean;
  /** Starts and ends of the points' messages. */
  points: number[];
}

class MetricReader {
  readonly #values: ValueReader;
  readonly #cursor: WireCursor;
  readonly #view: DataView;
  readonly #bytes: Buffer;
  readonly #wanted: WantedMetrics;
  readonly #sink: (point: MetricPoint) => void;
  #pointsLeft: number;
  beyond = 0;

  constructor(payload: Uint8Array, wanted: WantedMetrics, sink: (point: MetricPoint) => void) {
    const { buffer, byteOffset, byteLength } = payload;
    this.#values = new ValueReader(payload);
    this.#cursor = this.#values.cursor;
    this.#view = new DataView(buffer, byteOffset, byteLength);
    this.#bytes = Buffer.from(buffer, byteOffset, byteLength);
    this.#wanted = wanted;
    this.#sink = sink;
    this.#pointsLeft = wanted.pointsMax;
  }

  read(): void {
    const cursor = this.#cursor;
    const end = this.#bytes.length;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag !== REQUEST.resourceBlock) {
        cursor.skip(tag, end);
        continue;
      }
      const blockEnd = cursor.delimitedEnd(end);
      this.#whole(() => this.#resourceBlock(blockEnd));
      cursor.position = blockEnd;
    }
  }

  /** The scan looks at the frames only: what turns out bad inside of one is left out. */
  #whole(read: () => void): void {
    try {
      read();
    } catch (thrown) {
      if (!(thrown instanceof WireError)) throw thrown;
    }
  }

  /** A resource may come after its metrics, and in parts. */
  #resourceBlock(end: number): void {
    const cursor = this.#cursor;
    const attributes = new Map<string, AttributeValue>();
    const scopes: number[] = [];
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag === BLOCK.resource) this.#attributes(cursor.delimitedEnd(end), attributes);
      else if (tag === BLOCK.scopeBlock) {
        const scopeEnd = cursor.delimitedEnd(end);
        scopes.push(cursor.position, scopeEnd);
        cursor.position = scopeEnd;
      } else cursor.skip(tag, end);
    }
    const resource: Resource = { attributes };
    for (let index = 0; index < scopes.length; index += 2) {
      cursor.position = scopes[index] as number;
      this.#scopeBlock(scopes[index + 1] as number, resource);
    }
  }

  #attributes(end: number, into: Map<string, AttributeValue>): void {
    const cursor = this.#cursor;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag === RESOURCE.attributes) this.#values.attribute(end, this.#wanted.resourceKeys, into);
      else cursor.skip(tag, end);
    }
  }

  #scopeBlock(end: number, resource: Resource): void {
    const cursor = this.#cursor;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag !== SCOPE_BLOCK.metrics) {
        cursor.skip(tag, end);
        continue;
      }
      const metricEnd = cursor.delimitedEnd(end);
      this.#whole(() => this.#metric(metricEnd, resource));
      cursor.position = metricEnd;
    }
  }

  /** The data is a oneof: the last kind given counts, and the same kind given again adds its points, as the scan counts them. */
  #metric(end: number, resource: Resource): void {
    const cursor = this.#cursor;
    const data: MetricData = { name: undefined, unit: '', kind: 0, temporality: 0, isMonotonic: false, points: [] };
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      switch (tag) {
        case METRIC.name: {
          const nameEnd = cursor.delimitedEnd(end);
          data.name = this.#wanted.names.match(this.#bytes, cursor.position, nameEnd);
          cursor.position = nameEnd;
          break;
        }
        case METRIC.unit:
          data.unit = this.#values.text(end);
          break;
        case METRIC.gauge:
        case METRIC.sum:
        case METRIC.histogram:
        case METRIC.exponentialHistogram:
        case METRIC.summary:
          if (tag !== data.kind) Object.assign(data, { kind: tag, temporality: 0, isMonotonic: false, points: [] });
          this.#data(cursor.delimitedEnd(end), data);
          break;
        default:
          cursor.skip(tag, end);
      }
    }
    const kind = kindOf(data);
    if (data.name === undefined || kind === undefined) return;
    const count = data.points.length / 2;
    const readable = Math.min(count, this.#pointsLeft);
    this.#pointsLeft -= readable;
    this.beyond += count - readable;
    for (let index = 0; index < 2 * readable; index += 2) {
      cursor.position = data.points[index] as number;
      const pointEnd = data.points[index + 1] as number;
      const head = { name: data.name, kind, resource };
      this.#whole(() => this.#point(pointEnd, data, head));
    }
  }

  #data(end: number, data: MetricData): void {
    const cursor = this.#cursor;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag === DATA.points) {
        const pointEnd = cursor.delimitedEnd(end);
        data.points.push(cursor.position, pointEnd);
        cursor.position = pointEnd;
      } else if (tag === DATA.temporality) data.temporality = cursor.int32(end);
      else if (tag === DATA.isMonotonic) data.isMonotonic = cursor.bool(end);
      else cursor.skip(tag, end);
    }
  }

  #point(end: number, data: MetricData, head: Pick<MetricPoint, 'name' | 'kind' | 'resource'>): void {
    const isNumber = data.kind === METRIC.gauge || data.kind === METRIC.sum;
    const point = isNumber ? this.#number(end) : this.#histogram(end, data.kind);
    if (point !== undefined) this.#sink({ ...head, unit: data.unit, ...point });
  }

  #number(end: number): PointParts | undefined {
    const cursor = this.#cursor;
    const parts = newParts();
    let value = Number.NaN;
    let flags = 0;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag === POINT.double) value = this.#view.getFloat64(cursor.fixed(8, end), true);
      else if (tag === POINT.int) value = Number(this.#view.getBigInt64(cursor.fixed(8, end), true));
      else if (tag === POINT.attributes) this.#values.attribute(end, ALL_KEYS, parts.attributes);
      else if (tag === POINT.flags) flags = cursor.int32(end);
      else if (!this.#times(tag, end, parts)) cursor.skip(tag, end);
    }
    return (flags & NO_RECORDED_VALUE) !== 0 || !Number.isFinite(value) ? undefined : { ...parts, value };
  }

  #histogram(end: number, kind: number): PointParts | undefined {
    const cursor = this.#cursor;
    const parts = newParts();
    const isExponential = kind === METRIC.exponentialHistogram;
    const attributesTag = isExponential ? HISTOGRAM.exponentialAttributes : HISTOGRAM.attributes;
    const flagsTag = isExponential ? HISTOGRAM.exponentialFlags : HISTOGRAM.flags;
    let [count, sum, flags] = [0, Number.NaN, 0];
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag === HISTOGRAM.count) count = Number(this.#values.fixed64(end));
      else if (tag === HISTOGRAM.sum) sum = this.#view.getFloat64(cursor.fixed(8, end), true);
      else if (tag === attributesTag) this.#values.attribute(end, ALL_KEYS, parts.attributes);
      else if (tag === flagsTag) flags = cursor.int32(end);
      else if (!this.#times(tag, end, parts)) cursor.skip(tag, end);
    }
    return (flags & NO_RECORDED_VALUE) !== 0 || !Number.isFinite(sum) ? undefined : { ...parts, value: sum, count };
  }

  #times(tag: number, end: number, parts: { startNs: bigint; timeNs: bigint }): boolean {
    if (tag === POINT.start) parts.startNs = this.#values.fixed64(end);
    else if (tag === POINT.time) parts.timeNs = this.#values.fixed64(end);
    else return false;
    return true;
  }
}

type PointParts = Pick<MetricPoint, 'startNs' | 'timeNs' | 'value' | 'count'> & { readonly attributes: Attributes };

function newParts() {
  return { startNs: 0n, timeNs: 0n, attributes: new Map<string, AttributeValue>() };
}

/** Up-and-down sums have a level only when they are cumulative. */
function kindOf({ kind, temporality, isMonotonic }: MetricData): MetricPoint['kind'] | undefined {
  if (kind === METRIC.gauge) return 'level';
  if (kind === METRIC.sum && !isMonotonic) return temporality === TEMPORALITY.cumulative ? 'level' : undefined;
  if (kind === 0 || kind === METRIC.summary) return undefined;
  if (temporality === TEMPORALITY.cumulative) return 'total';
  return temporality === TEMPORALITY.delta ? 'increase' : undefined;
}
