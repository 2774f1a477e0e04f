import { createHash } from 'node:crypto';
import type { Alert } from '../core/alert.ts';
import { parseTimestamp } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';

/** What the stores keep of an alert beside itself. */

/** Alerts of one page, or groups, at most. */
export const ALERTS_MAX = 1000;

/** Of rule, namespace and group: 32 hex digits, the same wherever and whenever it is computed. */
export function groupKey({ rule, namespace, group }: Alert): string {
  const fields = Object.entries(group).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256')
    .update(JSON.stringify([rule.id, namespace, fields]))
    .digest('hex')
    .slice(0, 32);
}

/** Epoch nanoseconds; 0 for what is no time. */
export function instantNs(text: string): bigint {
  return parseTimestamp(text) ?? 0n;
}

export function checkAlertLimit(limit: number): void {
  if (Number.isInteger(limit) && limit >= 1 && limit <= ALERTS_MAX) return;
  throw new AppError('bad_request', `limit must be a whole number from 1 to ${ALERTS_MAX}`);
}

/** Where a page ended. */
interface AlertPosition {
  readonly raisedAt: string;
  readonly id: string;
}

export function encodeAlertCursor({ raisedAt, id }: AlertPosition): string {
  return Buffer.from(JSON.stringify([raisedAt, id])).toString('base64url');
}

export function decodeAlertCursor(cursor: string): AlertPosition {
  try {
    const state: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString());
    const [raisedAt, id] = Array.isArray(state) ? (state as unknown[]) : [];
    if (typeof raisedAt === 'string' && typeof id === 'string' && parseTimestamp(raisedAt) !== undefined)
      return { raisedAt, id };
  } catch {
    // Not ours: answered like any other foreign text.
  }
  throw new AppError('bad_request', 'the cursor is none of ours; start again without it');
}
