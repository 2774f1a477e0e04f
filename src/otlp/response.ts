import type { Signal } from '../core/evidence.ts';
import { WireWriter } from './writer.ts';

export type Encoding = 'protobuf' | 'json';

/**
 * Longest message or description in an answer, in characters. OTLP caps answers at 4 MiB and asks to shorten the message
 * first; gRPC clients cap headers, where a status travels as base64, at 8 KiB or more: plain text of this length fits.
 */
const MESSAGE_CHARS_MAX = 1000;

/** Export*PartialSuccess.rejected_*, field 1; its JSON name. error_message is field 2 in all three. */
const REJECTED: Record<Signal, string> = {
  traces: 'rejectedSpans',
  logs: 'rejectedLogRecords',
  metrics: 'rejectedDataPoints',
};

/**
 * The body of an Export*ServiceResponse. Full success is the empty message, as OTLP asks; otherwise `rejected` items were
 * refused for good because of `reason`.
 */
export function encodeExportResponse(encoding: Encoding, signal: Signal, rejected: number, reason: string): Buffer {
  if (rejected === 0) return Buffer.from(encoding === 'json' ? '{}' : '');
  const errorMessage = shorten(reason);
  if (encoding === 'protobuf') {
    const writer = new WireWriter();
    writer.message(1, () => {
      writer.integer(1, rejected);
      writer.text(2, errorMessage);
    });
    return writer.finish();
  }
  // 64-bit integers are strings in protobuf's JSON.
  return Buffer.from(JSON.stringify({ partialSuccess: { [REJECTED[signal]]: String(rejected), errorMessage } }));
}

/** What goes wrong, for the client: `code` is the gRPC status code, which a google.rpc.Status carries on HTTP too. */
export interface StatusAnswer {
  readonly code: number;
  readonly message: string;
  /** Adds google.rpc.RetryInfo: send the same request again after this time. */
  readonly retryAfterMs?: number | undefined;
  /** Adds google.rpc.BadRequest: the part of the request that is wrong, and how it would be right. */
  readonly badRequest?: { readonly field: string; readonly description: string } | undefined;
}

/** A google.rpc.Status (google/rpc/status.proto: 1 code, 2 message, 3 details) with details of google/rpc/error_details.proto. */
export function encodeStatus(encoding: Encoding, answer: StatusAnswer): Buffer {
  const message = shorten(answer.message);
  return encoding === 'json' ? statusJson(answer, message) : statusProtobuf(answer, message);
}

const RETRY_INFO = 'type.googleapis.com/google.rpc.RetryInfo';
const BAD_REQUEST = 'type.googleapis.com/google.rpc.BadRequest';

function statusProtobuf(answer: StatusAnswer, message: string): Buffer {
  const writer = new WireWriter();
  writer.integer(1, answer.code);
  writer.text(2, message);
  const { badRequest, retryAfterMs } = answer;
  if (badRequest !== undefined) {
    writeDetail(writer, BAD_REQUEST, () => {
      writer.text(1, shorten(badRequest.field));
      writer.text(2, shorten(badRequest.description));
    });
  }
  if (retryAfterMs !== undefined) {
    const { seconds, nanos } = duration(retryAfterMs);
    writeDetail(writer, RETRY_INFO, () => {
      writer.integer(1, seconds);
      writer.integer(2, nanos);
    });
  }
  return writer.finish();
}

/** A google.protobuf.Any (1 type_url, 2 value) of a detail message whose field 1 is the message that `write` writes. */
function writeDetail(writer: WireWriter, typeUrl: string, write: () => void): void {
  writer.message(3, () => {
    writer.text(1, typeUrl);
    writer.message(2, () => writer.message(1, write));
  });
}

function statusJson(answer: StatusAnswer, message: string): Buffer {
  const details: object[] = [];
  const { badRequest, retryAfterMs } = answer;
  if (badRequest !== undefined) {
    const violation = { field: shorten(badRequest.field), description: shorten(badRequest.description) };
    details.push({ '@type': BAD_REQUEST, fieldViolations: [violation] });
  }
  if (retryAfterMs !== undefined) details.push({ '@type': RETRY_INFO, retryDelay: durationText(retryAfterMs) });
  return Buffer.from(JSON.stringify({ code: answer.code, message, ...(details.length > 0 && { details }) }));
}

/** google.protobuf.Duration. Never negative: a time that has passed means now. */
function duration(milliseconds: number): { seconds: number; nanos: number } {
  const whole = Math.max(0, Math.ceil(milliseconds));
  return { seconds: Math.trunc(whole / 1000), nanos: (whole % 1000) * 1_000_000 };
}

/** A Duration in protobuf's JSON: seconds with no, three, six or nine fraction digits, then `s`. */
function durationText(milliseconds: number): string {
  const { seconds, nanos } = duration(milliseconds);
  return nanos === 0 ? `${seconds}s` : `${seconds}.${String(nanos / 1_000_000).padStart(3, '0')}s`;
}

/** The cut may fall inside a character; both encodings say the same then. */
function shorten(text: string): string {
  return text.length <= MESSAGE_CHARS_MAX ? text : `${text.slice(0, MESSAGE_CHARS_MAX - 1).toWellFormed()}…`;
}
