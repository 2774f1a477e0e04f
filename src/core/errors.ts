/**
 * The catalogue of expected failures. A failure has one code; the code decides whether a client may retry, the HTTP and
 * gRPC status, and the exit code of the command line. Causes are kept for our own log and never go on the wire.
 */
export const ERROR_CODES = {
  bad_request: { retryable: false, http: 400, grpc: 3, exit: 1 },
  unauthenticated: { retryable: false, http: 401, grpc: 16, exit: 1 },
  forbidden: { retryable: false, http: 403, grpc: 7, exit: 1 },
  not_found: { retryable: false, http: 404, grpc: 5, exit: 3 },
  method_not_allowed: { retryable: false, http: 405, grpc: 12, exit: 1 },
  too_large: { retryable: false, http: 413, grpc: 8, exit: 1 },
  unsupported_media_type: { retryable: false, http: 415, grpc: 3, exit: 1 },
  /** Over budget or shutting down: nothing is lost, try again later. */
  unavailable: { retryable: true, http: 503, grpc: 14, exit: 5 },
  /** This sender has its share in work: nothing is lost, try again later. Over gRPC it needs RetryInfo to mean that. */
  over_share: { retryable: true, http: 429, grpc: 8, exit: 5 },
  usage: { retryable: false, http: 400, grpc: 3, exit: 2 },
  config: { retryable: false, http: 500, grpc: 13, exit: 2 },
  /** A file or folder of ours cannot be used as it is. */
  storage: { retryable: false, http: 500, grpc: 13, exit: 1 },
  store_unavailable: { retryable: true, http: 503, grpc: 14, exit: 5 },
  internal: { retryable: false, http: 500, grpc: 13, exit: 1 },
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

/** An expected failure. `message` is one sentence for the person who reads it: what is wrong and what would be right. */
export class AppError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'AppError';
    this.code = code;
  }

  get retryable(): boolean {
    return ERROR_CODES[this.code].retryable;
  }
}

/** One line for a person, from whatever was thrown. */
export function describeError(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
