/**
 * Evidence: what senders told us, decoded. Spans and log records keep the names of the OpenTelemetry data model; ids are
 * lower-case hex; times are epoch nanoseconds. Only the attributes that the rule set asks for are decoded.
 */

export type Signal = 'traces' | 'logs' | 'metrics';

/**
 * What admission found out about one request. It is written into the WAL frame before the acknowledgement, so that a replay
 * decides as the first run did.
 */
export interface FrameNote {
  /** Receive time, epoch nanoseconds. */
  readonly receivedNs: bigint;
  readonly namespace: string;
  /** Who sent it, as far as we know: a token's name later; until then `grpc`, `http` or `browser`. */
  readonly sender: string;
  /** May this sender state actors, outcomes and decisions, or only context? */
  readonly trusted: boolean;
  /** May this sender's word for an identity be taken as proof? (`audit.actor.verified`) */
  readonly vouches: boolean;
  /** Peer IP address. */
  readonly peer: string;
}

/** Attribute values after decoding; bytes as base64 text, non-finite numbers as the text `NaN`, `Infinity`, `-Infinity`. */
export type AttributeValue = string | number | bigint | boolean | AttributeValue[] | { [key: string]: AttributeValue };

export type Attributes = ReadonlyMap<string, AttributeValue>;

export interface Resource {
  readonly attributes: Attributes;
}

export interface Scope {
  readonly name: string;
  readonly version: string;
}

/** Numbers as in opentelemetry.proto.trace.v1.Span.SpanKind. */
export const SPAN_KIND = { unspecified: 0, internal: 1, server: 2, client: 3, producer: 4, consumer: 5 } as const;

/** Numbers as in opentelemetry.proto.trace.v1.Status.StatusCode. */
export const STATUS_CODE = { unset: 0, ok: 1, error: 2 } as const;

export interface SpanEvent {
  readonly name: string;
  readonly timeNs: bigint;
  readonly attributes: Attributes;
}

export interface Span {
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for a root. */
  readonly parentSpanId: string;
  readonly traceState: string;
  readonly flags: number;
  readonly name: string;
  readonly kind: number;
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly attributes: Attributes;
  /** How many attributes the sender sent, decoded or not: part of the rule that picks between two contents of one span. */
  readonly attributeCount: number;
  readonly events: readonly SpanEvent[];
  readonly statusCode: number;
  readonly statusMessage: string;
  readonly resource: Resource;
  readonly scope: Scope;
  readonly note: FrameNote;
  /** The span's own bytes as sent, for digests: equal bytes are the same evidence. */
  readonly raw: Uint8Array;
}

export interface LogRecord {
  /** Empty when the record names no (valid) trace. */
  readonly traceId: string;
  /** Empty when the record names no (valid) span. */
  readonly spanId: string;
  readonly timeNs: bigint;
  readonly observedNs: bigint;
  readonly severityNumber: number;
  readonly severityText: string;
  readonly eventName: string;
  readonly body: AttributeValue | undefined;
  readonly attributes: Attributes;
  readonly resource: Resource;
  readonly scope: Scope;
  readonly note: FrameNote;
  /** The record's own bytes as sent. */
  readonly raw: Uint8Array;
}

/** All that is known of one trace, duplicates and contradictions included, in no particular order. */
export interface TraceEvidence {
  readonly namespace: string;
  /** 32 hex digits; empty for a log record that belongs to no trace and settles by itself. */
  readonly traceId: string;
  readonly spans: readonly Span[];
  readonly logs: readonly LogRecord[];
}
