/** When a trace is settled, and what the index may hold. Durations in milliseconds. */
export interface JoinSettings {
  /** Quiet time that a trace with a root and all parents is given, so that stragglers of the same request get in. */
  readonly graceMs: number;
  /** How long a trace waits for missing parents once its root was seen. */
  readonly rootWaitMs: number;
  /** A trace without news for this long is settled as it is. Also the least time between two settles of one trace. */
  readonly idleMs: number;
  /** No trace waits longer than this for its first settle. */
  readonly maxAgeMs: number;
  /** Pieces of evidence after which a trace is settled at once, and that one settle looks at. */
  readonly spansMax: number;
  /** Each further revision of one trace waits twice as long as the one before, at most this long; a huge one may wait longer. */
  readonly lateWaitMaxMs: number;
  /** Bytes of index: a quarter for where stored traces are (the oldest go first), the rest for open ones (then settled early). */
  readonly indexBytesMax: number;
  /** Pieces of evidence decoded in one take, so that the event loop is not kept for long. A trace of up to `spansMax` may exceed it. */
  readonly takeEvidenceMax: number;
}

export const JOIN_DEFAULTS: JoinSettings = {
  graceMs: 500,
  rootWaitMs: 5_000,
  idleMs: 10_000,
  maxAgeMs: 120_000,
  spansMax: 10_000,
  lateWaitMaxMs: 600_000,
  indexBytesMax: 512 * 1024 * 1024,
  takeEvidenceMax: 500,
};
