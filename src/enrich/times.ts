import type { Access } from '../access/access.ts';
import { TIMESTAMP_NS_MAX } from '../core/clock.ts';

/** Longest duration: 104 days. Up to here whole nanoseconds stay exact in JSON. */
export const DURATION_NS_MAX = Number.MAX_SAFE_INTEGER;

export interface AccessTimes {
  readonly startNs: bigint;
  /** Never before the start. */
  readonly endNs: bigint;
  readonly createdNs: bigint;
  /** Nanoseconds. */
  readonly duration: number;
  /** What was wrong with the times sent, as text. */
  readonly conflicts: readonly string[];
}

/** Into the range that records hold: 1970 to 2262. */
export function clampNs(instantNs: bigint): bigint {
  return instantNs > TIMESTAMP_NS_MAX ? TIMESTAMP_NS_MAX : instantNs < 0n ? 0n : instantNs;
}

/** When the evidence was complete at its sender: a span's end, a log record's observation. */
function createdOf(access: Access): bigint {
  return access.source === 'span' ? access.from.endNs : access.from.observedNs || access.from.timeNs;
}

/**
 * The times of a record, as sent: skew correction never touches them. What has no start begins at its end, at its
 * observation, or with its trace (`earliestNs`), whichever is known first: never when it was received, which a second
 * delivery would change.
 */
export function timesOf(access: Access, earliestNs: bigint): AccessTimes {
  const startNs = clampNs(access.startNs || access.endNs || createdOf(access) || earliestNs);
  const statedEndNs = clampNs(access.endNs);
  const endNs = statedEndNs > startNs ? statedEndNs : startNs;
  return {
    startNs,
    endNs,
    createdNs: clampNs(createdOf(access) || endNs),
    duration: Math.min(Number(endNs - startNs), DURATION_NS_MAX),
    conflicts: conflictsOf(access),
  };
}

const NO_CONFLICTS: readonly string[] = [];

function conflictsOf({ startNs, endNs }: Access): readonly string[] {
  if (startNs !== 0n && endNs >= startNs) return NO_CONFLICTS;
  const conflicts: string[] = [];
  if (startNs === 0n) conflicts.push('no start time was sent');
  if (endNs === 0n) conflicts.push('no end time was sent');
  else if (endNs < startNs) conflicts.push('the end was before the start');
  return conflicts;
}
