import type { Attributes, Resource } from './evidence.ts';

/**
 * One data point of a gauge, sum or histogram, decoded.
 *
 * - `level`: what was measured at that time (a gauge, or a sum that goes up and down)
 * - `total`: a sum that only grows, since some start
 * - `increase`: what a sum grew by between `startNs` and `timeNs`
 */
export interface MetricPoint {
  readonly name: string;
  /** As the sender wrote it (UCUM): `s`, `By`, `{connection}` … */
  readonly unit: string;
  readonly kind: 'level' | 'total' | 'increase';
  /** Of a histogram: the sum of what it measured. */
  readonly value: number;
  /** Of a histogram: how often it measured. */
  readonly count?: number;
  /** Epoch nanoseconds; 0 when the sender gave none. */
  readonly startNs: bigint;
  readonly timeNs: bigint;
  readonly attributes: Attributes;
  /** The same object for all points of one resource in a payload. */
  readonly resource: Resource;
}
