/**
 * Evidence: what senders told us, decoded. Spans and log records keep the names of the OpenTelemetry data model; ids are
 * lower-case hex; times are epoch nanoseconds. Only the attributes that the rule set asks for are decoded.
 */

import type { RawBytes } from './raw-bytes.ts';

export type Signal = 'traces' | 'logs' | 'metrics';

/** `sender` of what Spantrail itself says: who read what. No token may have this name. */
export const OWN_SENDER = 'spantrail';

/**
 * What admission found out about one request. It is written into the WAL frame before the acknowledgement, so that a replay
 * decides as the first run did.
 */
export interface FrameNote {
  /** Receive time, epoch nanoseconds. */
  readonly receivedNs: bigint;
  readonly namespace: string;
  /**
   * Who sent it, as far as we know: the name of its token or certificate, without one `grpc`, `http`, `access_api` or `webhook`;
   * without trust `browser` or `untrusted`, and what came by webhook or without trust has the name behind a colon.
   */
  readonly sender: string;
  /** May this sender state actors, outcomes and decisions, or only context? */
  readonly trusted: boolean;
  /** May this sender's word for an identity be taken as proof? (`audit.actor.verified`) */
  readonly vouches: boolean;
  /** Peer IP address. */
  readonly peer: string;
  /** What became of checking the tokens in the request, by `tokenKey`; absent where none are checked. */
  readonly tokens?: Readonly<Record<string, TokenVerdict>>;
  /** Whose sessions the request names, as known when it came, by the keyed hash that stands in its place; absent for none. */
  readonly sessions?: Readonly<Record<string, SessionOwner>>;
}

/** `unchecked`: no keys are configured, or the set of keys was not there yet. */
export type TokenVerdict =
  | 'verified'
  | 'unchecked'
  | 'expired'
  | 'not_yet_valid'
  | 'wrong_issuer'
  | 'wrong_audience'
  | 'unknown_key'
  | 'bad_signature';

/** Who a session belongs to, bound once when evidence that names it comes. */
export interface SessionOwner {
  readonly id: string;
  readonly name?: string;
  readonly email?: string;
  readonly roles?: readonly string[];
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
  /** Those that have attributes that were asked for. */
  readonly events: readonly SpanEvent[];
  readonly statusCode: number;
  readonly statusMessage: string;
  readonly resource: Resource;
  readonly scope: Scope;
  readonly note: FrameNote;
  /** How many attributes and other parts, its resource's included, could not be decoded and are left out; absent for none. */
  readonly unreadable?: number;
  /** The span's own bytes as sent, for digests: equal bytes are the same evidence. */
  readonly raw: RawBytes;
  /**
   * The same object for spans that say the same, to senders of the same trust, but for ids, times, `attributeCount` and `traceState`:
   * what rests on nothing else is remembered by it (`ByContent`). Absent where nobody looked.
   */
  readonly content?: object | undefined;
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
  /** As of a span. */
  readonly unreadable?: number;
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
  /** Epoch nanoseconds: what began before this may have been settled with evidence that is not known any more; absent for never. */
  readonly horizonNs?: bigint;
  /** Of a trace with more evidence than one settle looks at: what is known of the rest. */
  readonly beyond?: EvidenceBeyond;
}

/** What one piece of evidence says by itself: all that a choice among the pieces of a huge trace goes by. */
export interface PieceFacts {
  readonly kind: 'access' | 'excluded' | 'context';
  /** A span that failed or tells of a check; a log record that tells of an exception, a person or a check. */
  readonly isTelling: boolean;
  /** In hex, at least 64 bits; equal for equal contents. */
  readonly digest: string;
  /** 32 bits that stand for who sent it and from where: with the digest they tell distinct pieces from repeated ones. */
  readonly origin: number;
  /** 32 bits that stand for the piece in the rank. */
  readonly bits: number;
  readonly service: string | undefined;
}

/** Pure, as the settle. */
export type Examine = (piece: Span | LogRecord) => PieceFacts;

/** Pieces that were not looked at, by what would have become of them. */
export interface BeyondCounts {
  readonly context: number;
  readonly excluded: number;
  readonly duplicate: number;
}

/**
 * Evidence of a huge trace that its settle does not look at, counted exactly, so that what the records say of the whole trace
 * is right. Numbers of the tree are those of the whole trace.
 */
export interface EvidenceBeyond {
  /** Distinct pieces and the sum of their bits, for the rank. */
  readonly pieces: number;
  readonly bitsSum: number;
  readonly counts: { readonly traces: BeyondCounts; readonly logs: BeyondCounts };
  /** Accesses among them: they get no record. */
  readonly accesses: number;
  /** Spans among them that lead from an access to its root. */
  readonly ways: number;
  readonly spans: number;
  readonly errors: number;
  /** Of the whole trace: the first names in order. */
  readonly services: readonly string[];
  readonly roots: number;
  readonly cuts: number;
  readonly missingParents: number;
  readonly orphans: number;
  /** For spans looked at whose parent is beyond: the nearest span above them that is looked at. */
  readonly above: ReadonlyMap<string, string>;
  /**
   * For those with none above them whose way up ends at a root all the same: that root; itself where its parent is beyond and the
   * link to it was cut because it closed a cycle.
   */
  readonly rootOf: ReadonlyMap<string, string>;
  /** Spans beyond that accesses looked at name as theirs. */
  readonly named: ReadonlySet<string>;
}

/** Where admission found no more than who sent it, equal bytes say the same. */
export function isPlain({ tokens, sessions }: FrameNote): boolean {
  return sessions === undefined && (tokens === undefined || Object.keys(tokens).length === 0);
}
