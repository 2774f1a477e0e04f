import { randomUUID } from 'node:crypto';
import type { ReadEvent } from '../api/read-event.ts';
import { assert } from '../core/assert.ts';
import { type Clock, formatTimestamp, msToNs } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { type FrameNote, OWN_SENDER } from '../core/evidence.ts';
import type { Counters } from '../core/metrics.ts';
import { readAccessEvent } from '../receive/access-event.ts';
import type { Admit } from '../receive/admission.ts';
import { encodeLogItem, encodeLogRequest } from '../receive/log-items.ts';

export interface ReadRecorderOptions {
  readonly admit: Admit;
  readonly clock: Clock;
  readonly counters: Counters;
}

/** The service that such records are of. */
const SERVICE = 'spantrail';

/** Whoever follows longer than that is told of as if for so long: events have durations of 104 days at most. */
const DURATION_MS_MAX = 100 * 86_400_000;

/** Whoever asks about a trace names it, and is no part of it for that. */
export function isOwnEvidence({ sender }: FrameNote): boolean {
  return sender === OWN_SENDER;
}

/** What we say ourselves needs nobody's trust and no quota. Of whoever failed to prove it, it is a claim who they are. */
const PASS = { name: OWN_SENDER, trusted: true, vouches: true, charge: () => undefined } as const;
const CLAIM = { ...PASS, vouches: false } as const;

/**
 * Makes an access event of each question to the API and has it admitted like anybody's: durable when it resolves, a record a moment
 * later. Throws AppError('unavailable') when it cannot be admitted: then the question must not be answered.
 */
export function createReadRecorder({ admit, clock, counters }: ReadRecorderOptions) {
  return async (read: ReadEvent): Promise<void> => {
    const nowMs = clock.nowMs();
    const event = readAccessEvent(accessEventOf(read, nowMs), { nowMs, sequence: () => 0 });
    assert(event.ok, `a read is no access event: ${event.ok ? '' : event.problem.reason}`);
    if (!event.ok) return;
    const payload = encodeLogRequest(new Map([[SERVICE, [encodeLogItem(event.item)]]]));
    const result = await admit('logs', payload, {
      transport: 'http',
      peer: read.request.ip,
      browser: false,
      isProven: true,
      pass: read.request.status === 401 ? CLAIM : PASS,
    });
    if (result.kind !== 'accepted') {
      throw new AppError(
        'unavailable',
        `what you asked for has to be recorded first, and cannot be: ${result.message}`,
      );
    }
    counters.add('reads', 1, { outcome: read.decision === 'deny' ? 'refused' : 'answered' });
  };
}

/** The event as the access API takes it: docs/access-events.md. */
function accessEventOf(read: ReadEvent, nowMs: number): object {
  const { principal, target, phase, request } = read;
  // Whole milliseconds are all that is known. What has ended stands behind what has begun, though both began at the same time.
  const durationMs = phase === 'start' ? 0 : Math.min(Math.max(0, nowMs - read.startMs), DURATION_MS_MAX);
  const orderNs = phase === 'end' ? 1n : 0n;
  return {
    id: randomUUID(),
    time: formatTimestamp(msToNs(read.startMs + durationMs) + orderNs),
    service: SERVICE,
    actor: { id: principal.name },
    action: read.action,
    target: { ...target, service: SERVICE },
    outcome: read.outcome,
    decision: read.decision,
    reason: read.reason,
    source: { ip: request.ip, user_agent: request.userAgent },
    duration: durationMs * 1_000_000,
    attributes: {
      'event.category': 'api',
      'event.type': phase === 'whole' ? ['access'] : ['access', phase],
      'http.request.method': request.method,
      'http.response.status_code': request.status,
      'http.route': request.route,
      'url.path': request.path,
      'url.query': request.query === '' ? undefined : decoded(request.query),
      'audit.rows': read.rows,
    },
  };
}

/** As it was meant, so that secrets in it are found: behind `%3D` nobody looks for one. */
function decoded(query: string): string {
  try {
    return decodeURIComponent(query.replaceAll('+', ' '));
  } catch {
    return query;
  }
}
