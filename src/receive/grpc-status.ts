import { encodeStatus } from '../otlp/response.ts';
import { LIMIT_MESSAGES, RETRY_AFTER_MS } from './admission.ts';
import type { Limit } from './fair-share.ts';
import type { Closed } from './senders.ts';

/** The status codes of gRPC that are answered here (grpc.io, "Status codes and their use in gRPC"). */
export const STATUS = {
  OK: 0,
  CANCELLED: 1,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16,
} as const;

export type StatusName = keyof typeof STATUS;

export interface Refusal {
  readonly kind: 'status';
  readonly status: StatusName;
  readonly message: string;
  /** A google.rpc.Status that says more, in base64. */
  readonly details?: string;
}

/** Without RetryInfo, which tells clients not to retry. */
export function final(status: StatusName, message: string): Refusal {
  return { kind: 'status', status, message };
}

/** Never acceptable: the client must not retry. */
export function badRequest(field: string, message: string): Refusal {
  return detailed('INVALID_ARGUMENT', message, { badRequest: { field, description: message } });
}

/** Nothing was kept; the client sends the same again after the time in RetryInfo. */
export function unavailable(message: string, retryAfterMs: number): Refusal {
  return detailed('UNAVAILABLE', message, { retryAfterMs });
}

/** The same, when it is this sender who has too much in work: its RetryInfo is what makes the status one to retry. */
export function overLimit(limit: Limit): Refusal {
  const status = limit === 'share' ? 'RESOURCE_EXHAUSTED' : 'UNAVAILABLE';
  return detailed(status, LIMIT_MESSAGES[limit], { retryAfterMs: RETRY_AFTER_MS });
}

/** Of a sender over its quota: what makes clients retry is RetryInfo. */
export function overQuota(message: string, retryAfterMs: number): Refusal {
  return detailed('RESOURCE_EXHAUSTED', message, { retryAfterMs });
}

export function notLetIn({ code, message, retryAfterMs = RETRY_AFTER_MS }: Closed): Refusal {
  if (code === 'over_share') return overQuota(message, retryAfterMs);
  return final(code === 'unauthenticated' ? 'UNAUTHENTICATED' : 'PERMISSION_DENIED', message);
}

function detailed(
  status: StatusName,
  message: string,
  details: { retryAfterMs?: number; badRequest?: { field: string; description: string } },
): Refusal {
  const encoded = encodeStatus('protobuf', { code: STATUS[status], message, ...details });
  return { kind: 'status', status, message, details: encoded.toString('base64') };
}
