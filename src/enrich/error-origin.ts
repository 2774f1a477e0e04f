import { clip, type ErrorText, exceptionOf } from '../access/attributes.ts';
import { errorOf } from '../access/draft.ts';
import { type LogRecord, type Span, STATUS_CODE } from '../core/evidence.ts';
import type { AuditRecord } from '../core/record.ts';
import type { Verdicts } from './path.ts';
import { NONE, type TraceTree } from './trace-tree.ts';
import { serviceName } from './where.ts';

/** What went wrong in a span, and the log record that told it where the span itself does not. */
export interface Failure extends ErrorText {
  readonly reported?: LogRecord;
}

/**
 * What a span says went wrong, else what the last exception log record tied to it says. Log records of senders that
 * are not trusted do not speak for a span of one that is.
 */
export function failureOf(span: Span, logs: readonly LogRecord[]): Failure {
  const stated = errorOf(span) ?? {};
  if (stated.message !== undefined) return stated;
  const reported = logs
    .filter((log) => (log.note.trusted || !span.note.trusted) && exceptionOf(log) !== undefined)
    .toSorted((left, right) => Number(left.timeNs - right.timeNs))
    .at(-1);
  if (reported === undefined) return stated;
  return { ...errorOf({ ...span, events: [{ attributes: reported.attributes }] }), reported };
}

/**
 * For each span the failing span that explains its failure best, NONE where nothing failed. From a failing span the
 * way goes to the child whose failure ended last (for a refusal: the last refused one, if any), and on until no child
 * failed. Spans that say nothing of their outcome, as middleware often does, are looked through; a span that
 * succeeded hides what failed below it, because it was dealt with. Untrusted spans explain nothing of trusted ones.
 */
export function errorOrigins(tree: TraceTree, verdicts: Verdicts): Int32Array {
  const origins = new Int32Array(tree.spans.length).fill(NONE);
  const isDenied = (index: number): boolean => verdicts(index)?.decision === 'deny';
  const isFailing = (index: number): boolean =>
    tree.spans[index]?.statusCode === STATUS_CODE.error || verdicts(index)?.outcome === 'failure' || isDenied(index);
  // Most traces have nothing to explain.
  if (!tree.spans.some((_, index) => isFailing(index))) return origins;
  const isBetter = (index: number, child: number, than: number): boolean => {
    if (isDenied(index)) {
      const denied = Number(isDenied(origins[child] ?? NONE)) - Number(isDenied(origins[than] ?? NONE));
      if (denied !== 0) return denied > 0;
    }
    return (tree.end[child] ?? 0) >= (tree.end[than] ?? 0);
  };
  for (let index = tree.spans.length - 1; index >= 0; index -= 1) {
    const span = tree.spans[index];
    if (span === undefined) continue;
    const failing = isFailing(index);
    if (!failing && (span.statusCode === STATUS_CODE.ok || verdicts(index)?.outcome === 'success')) continue;
    let best = NONE;
    for (let child = tree.childStart[index] ?? 0; child < (tree.childStart[index + 1] ?? 0); child += 1) {
      if (origins[child] === NONE || (span.note.trusted && !tree.spans[child]?.note.trusted)) continue;
      if (best === NONE || isBetter(index, child, best)) best = child;
    }
    origins[index] = best === NONE ? (failing ? index : NONE) : (origins[best] ?? NONE);
  }
  return origins;
}

/** `audit.error_origin` for a span. */
export function originSection(span: Span, failure: Failure): NonNullable<AuditRecord['audit']['error_origin']> {
  const service = serviceName(span.resource);
  return {
    ...(service && { service }),
    name: clip(span.name),
    span_id: span.spanId,
    ...(failure.type && { type: clip(failure.type) }),
    ...(failure.message && { message: clip(failure.message) }),
  };
}
