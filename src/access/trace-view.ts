import type { LogRecord, Span } from '../core/evidence.ts';

/** What attribution needs to see of a trace. Duplicates are gone and cycles of parents are broken. */
export interface TraceView {
  /** Every span, a parent before its children, in an order that depends on the set of spans alone. */
  readonly spans: readonly Span[];
  /** Index of each span's parent; -1 where none was received. */
  readonly parent: ArrayLike<number>;
  readonly indexOf: ReadonlyMap<string, number>;
  /** Log records by the span that they are tied to, and all of them; in an order that depends on the set alone. */
  readonly logsBySpan: ReadonlyMap<string, readonly LogRecord[]>;
  readonly logs: readonly LogRecord[];
}
