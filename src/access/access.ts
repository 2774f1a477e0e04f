import type { LogRecord, Span } from '../core/evidence.ts';
import type {
  ActorType,
  Attribution,
  AuditRecord,
  Check,
  Decision,
  EvidencePiece,
  Outcome,
  WhySource,
} from '../core/record.ts';

/** Who someone is, as far as one piece of evidence says. A field that was not stated is absent, never empty. */
export interface Identity {
  readonly id?: string;
  readonly name?: string;
  readonly email?: string;
  readonly roles?: readonly string[];
  readonly group?: string;
  readonly domain?: string;
  readonly type?: ActorType;
  /** employee, contractor, partner … */
  readonly relation?: string;
  /** The one on whose behalf the actor acted, or whose login it used. */
  readonly effective?: { readonly id?: string; readonly name?: string };
}

/** The actor of one access, with how it is known. */
export interface Actor {
  /** Empty when nobody is known. */
  readonly identity: Identity;
  readonly type: ActorType;
  readonly attribution: Attribution;
  /**
   * True only when the sender of the evidence that named the actor is trusted to vouch for identities, or a token that names
   * it was checked against the keys of its issuer.
   */
  readonly verified: boolean;
  /**
   * Whom a failed authentication or a refused token claimed to be; then `identity` is empty and `type` is `anonymous`, or it is
   * the service that the claim came to.
   */
  readonly claimed?: string;
  /** The evidence that names the actor; empty when nobody is known. */
  readonly named: readonly Naming[];
}

/** A piece of evidence and how it names someone. */
export interface Naming {
  readonly by: Span | LogRecord;
  readonly as: 'explicit' | 'span' | 'header' | 'log' | 'baggage' | 'session' | 'agent' | 'service';
}

export interface AccessTarget {
  readonly type: string;
  readonly id: string;
  readonly name?: string;
  readonly service?: string;
}

/** The parts of the record that the evidence fills by itself, in the record's own shape. */
export type AccessSections = Pick<
  AuditRecord,
  | 'http'
  | 'url'
  | 'db'
  | 'rpc'
  | 'messaging'
  | 'file'
  | 'gen_ai'
  | 'source'
  | 'user_agent'
  | 'session'
  | 'service'
  | 'host'
  | 'container'
  | 'orchestrator'
>;

/**
 * What one piece of evidence says about one access, before its trace is consulted. Plain data. Evidence of a sender that is
 * not trusted has outcome `unknown`, decision `none` and no actor, reason, rule or checks.
 */
export interface AccessDraft {
  /** What read it: `http.server`, `rpc.server`, `db.client`, `messaging.producer`, `log.access`, `rule.<name>` … */
  readonly preset: string;
  /** 16 hex digits; empty when the evidence names no span. */
  readonly spanId: string;
  /** The sender's own id of an event (`event.id`); empty for spans and for events without one. */
  readonly ownId: string;
  readonly action: string;
  /** ECS `event.category`, `event.type` and `event.kind`. */
  readonly category: readonly string[];
  readonly type: readonly string[];
  readonly kind: string;
  readonly target: AccessTarget;
  readonly outcome: Outcome;
  readonly decision: Decision;
  readonly reason?: string;
  readonly whySource: WhySource;
  readonly rule?: { readonly id?: string; readonly name?: string };
  readonly checks?: readonly Check[];
  readonly purpose?: string;
  /** How many records or rows the answer held. */
  readonly rows?: number;
  readonly change?: { readonly before?: string; readonly after?: string };
  /** The actor that the evidence states outright; absent when it states none. */
  readonly actor?: Identity;
  /** The service's own login at the target (`db.user`): not the person. */
  readonly effective?: { readonly id?: string; readonly name?: string };
  /** The account that an authentication was about; on a failed one it is claimed, not proven. */
  readonly claimedAccount?: string;
  readonly error?: { readonly type?: string; readonly message?: string; readonly stack?: string };
  readonly sections: AccessSections;
  /**
   * What an event left out and a default stands in for: where the event is tied to a span, the span's value is better. An
   * unstated outcome is `unknown`, an unstated decision `none`.
   */
  readonly unstated?: readonly ('action' | 'target' | 'category' | 'type')[];
  /** Told by what was asked, a database's own log: without a request that it belongs to, somebody went around the application. */
  readonly outOfBand?: boolean;
  /** `id` is the span id or the event's own id; empty for an event without one (then it is a digest of its content). */
  readonly evidence: EvidencePiece;
  /** Epoch nanoseconds, as sent; an event has both the same unless it states a duration. */
  readonly startNs: bigint;
  readonly endNs: bigint;
}

/** A draft with the evidence it came from. */
export type Access = AccessDraft &
  ({ readonly source: 'span'; readonly from: Span } | { readonly source: 'event'; readonly from: LogRecord });

/** What the rules say about one piece of evidence: an access, one that a rule leaves out, or context for others. */
export type Verdict =
  | { readonly kind: 'access'; readonly access: Access }
  | { readonly kind: 'excluded'; readonly rule: string }
  /** `unfit`: the preset that a log record's sender named, and that the record does not fit. */
  | { readonly kind: 'context'; readonly unfit?: string };
