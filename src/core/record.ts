/**
 * The audit record: one JSON document per access, nested, in ECS names plus `audit.*`. Times are RFC 3339 UTC with
 * nanoseconds, durations are nanoseconds. A field that is not known is absent, never null or empty.
 */

export const SCHEMA_VERSION = 1;

export type Outcome = 'success' | 'failure' | 'unknown';
export type Decision = 'allow' | 'deny' | 'none';
export type ActorType = 'user' | 'service' | 'script' | 'agent' | 'anonymous';
export type Attribution =
  | 'explicit'
  | 'span'
  | 'header'
  | 'ancestor'
  | 'log'
  | 'trace'
  | 'baggage'
  | 'session'
  | 'service'
  | 'none';
export type WhySource = 'rule' | 'check' | 'status' | 'none';
/**
 * The surest first: a traceparent in a statement's comment, the same transaction as such a statement, a traceparent in the
 * connection's name, ids in the text, the same database session shortly after such a statement.
 */
export type TraceTie = 'statement' | 'transaction' | 'application_name' | 'text' | 'session';
export type JoinState = 'complete' | 'partial' | 'unsampled' | 'orphan' | 'out_of_band';

/** Why a trace was settled when it was: the completion rules, in the order in which they are tried. */
export const SETTLE_REASONS = [
  'complete',
  'root_wait',
  'idle',
  'max_age',
  'too_many_spans',
  'memory_pressure',
  'late',
  'untraced',
] as const;
export type SettleReason = (typeof SETTLE_REASONS)[number];

export interface PathStep {
  service?: string;
  name: string;
  kind: 'internal' | 'server' | 'client' | 'producer' | 'consumer' | 'unspecified';
  span_id: string;
  /** Nanoseconds after the start of the root (or of the first span known), corrected for clock skew. */
  start_offset: number;
  duration: number;
  status: 'ok' | 'error' | 'denied';
  /** True when the offset was corrected because the clocks of two hosts disagree. */
  skew_corrected?: true;
}

export interface Check {
  permission?: string;
  target?: string;
  granted: boolean;
  rule?: string;
  span_id?: string;
  /** Nanoseconds. */
  duration?: number;
  /** True where the evidence does not say how the check ended: `granted` is what followed it. */
  inferred?: true;
  /** What decided: `opa`, `openfga`, `spicedb`, `cedar`, `database`, `role_table`, `rule` … */
  engine?: string;
}

/** A resource metric near an access in time. */
export interface PressureMetric {
  name: string;
  value: number;
  limit?: number;
  /** value / limit. */
  ratio?: number;
  /** RFC 3339. */
  at: string;
  /** What it was measured on: the pool, the container … */
  of?: string;
}

export interface CriticalStep {
  service?: string;
  name: string;
  span_id: string;
  /** Nanoseconds of the critical path spent in this span itself. */
  self_time: number;
}

export interface EvidencePiece {
  signal: 'traces' | 'logs' | 'access';
  /** The preset or rule that read it, e.g. `http.server`, `log.access`. */
  source: string;
  sender: string;
  /** The sender's own id: the span id, the event's own id, or a digest of the content. */
  id: string;
}

export interface AuditActor {
  type: ActorType;
  attribution: Attribution;
  verified: boolean;
  relation?: string;
  /** Who a failed authentication claimed to be. */
  claimed?: string;
}

export interface AuditTarget {
  type: string;
  id: string;
  name?: string;
  service?: string;
}

export interface AuditRecord {
  '@timestamp': string;
  message: string;
  data_stream: { namespace: string };
  event: {
    id: string;
    action: string;
    category: string[];
    type: string[];
    kind: string;
    outcome: Outcome;
    reason?: string;
    start: string;
    end: string;
    created: string;
    ingested: string;
    /** Nanoseconds. */
    duration: number;
    hash?: string;
  };
  user?: {
    id?: string;
    name?: string;
    email?: string;
    roles?: string[];
    group?: { name: string };
    domain?: string;
    effective?: { id?: string; name?: string };
  };
  rule?: { id?: string; name?: string };
  source?: {
    ip?: string;
    port?: number;
    geo?: { country_iso_code?: string; city_name?: string };
    as?: { number?: number; organization?: { name: string } };
  };
  user_agent?: { original: string };
  session?: { id: string };
  service?: { name: string; namespace?: string; version?: string; node?: { name: string } };
  host?: { name: string };
  container?: { id: string };
  orchestrator?: { cluster?: { name: string }; namespace?: string; resource?: { name: string } };
  http?: {
    request?: { method?: string; body?: { bytes?: number } };
    response?: { status_code?: number; body?: { bytes?: number } };
    route?: string;
  };
  url?: { path?: string; query?: string; full?: string; domain?: string; scheme?: string };
  db?: {
    system?: string;
    namespace?: string;
    collection?: string;
    operation?: string;
    statement?: string;
    status_code?: string;
  };
  rpc?: { system?: string; service?: string; method?: string; status_code?: string };
  messaging?: { system?: string; destination?: string; operation?: string; message_id?: string };
  file?: { path?: string; name?: string };
  gen_ai?: { tool?: { name: string }; agent?: { id?: string; name?: string } };
  trace?: { id: string };
  span?: { id: string };
  parent?: { id: string };
  transaction?: { id: string };
  error?: { type?: string; message?: string; stack_trace?: string };
  related?: { user?: string[]; ip?: string[]; hosts?: string[] };
  audit: {
    schema_version: number;
    entry: boolean;
    entry_id?: string;
    entry_action?: string;
    entry_target?: string;
    actor: AuditActor;
    target: AuditTarget;
    decision: Decision;
    why: { source: WhySource };
    denied_by?: string;
    checks?: Check[];
    purpose?: string;
    /** How many records or rows the answer held, where the evidence says so. */
    rows?: number;
    change?: { before?: string; after?: string };
    trace?: {
      root?: { service?: string; name: string };
      /** Nanoseconds from the first start to the last end. */
      duration: number;
      span_count: number;
      error_count: number;
      services: string[];
      self_time?: number;
      critical_path?: CriticalStep[];
      url?: string;
    };
    error_origin?: { service?: string; name: string; span_id: string; type?: string; message?: string };
    path?: PathStep[];
    db?: { count: number; duration: number; slowest?: string };
    /** The metric nearest its limit by name, with all that were near in time; `exhausted` from 100 % on. */
    pressure?: {
      state: 'normal' | 'high' | 'exhausted';
      metric: string;
      value: number;
      limit?: number;
      ratio?: number;
      metrics: PressureMetric[];
    };
    join: {
      state: JoinState;
      /** How evidence that carries no trace id of its own came into the trace; absent when all of it does. */
      tie?: TraceTie;
      spans: number;
      missing_parents: number;
      orphans: number;
      conflicts?: string[];
      reason: SettleReason;
      late: boolean;
      horizon?: string;
    };
    revision: number;
    revised_at?: string;
    supersedes?: number;
    superseded_by?: string;
    evidence: EvidencePiece[];
  };
}
