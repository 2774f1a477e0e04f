import type { LogRecord, Span } from '../core/evidence.ts';

/** What attribution needs to see of a trace. Duplicates are gone and cycles of parents are broken. */
export interface TraceView {
  /** The parent that was received, if any. Following it always ends. */
  parentOf(span: Span): Span | undefined;
  spanOf(spanId: string): Span | undefined;
  /** Every span, a parent before its children, in an order that depends on the set of spans alone. */
  readonly spansRootFirst: readonly Span[];
  /** Log records tied to this span, in an order that depends on the set alone. */
  logsOf(spanId: string): readonly LogRecord[];
  /** Every log record of the trace, in an order that depends on the set alone. */
  readonly logs: readonly LogRecord[];
}
