import { SPAN_KIND } from '../core/evidence.ts';
import { NONE, type TraceTree } from './trace-tree.ts';
import { placeOf } from './where.ts';

/** Starts and ends of a trace's spans on one clock: the root's. Same indexes and base as the tree. */
export interface Timeline {
  readonly start: Float64Array;
  readonly end: Float64Array;
  /** What was added to the sender's times, nanoseconds; 0 where nothing was corrected. */
  readonly shift: Float64Array;
}

/** Messages are taken whenever the consumer likes: a late start says nothing about its clock. */
function isAsynchronous(tree: TraceTree, above: number, index: number): boolean {
  return tree.spans[above]?.kind === SPAN_KIND.producer || tree.spans[index]?.kind === SPAN_KIND.consumer;
}

/**
 * How far a child's clock is off its parent's: 0 when the child fits into the parent. A longer child can only be
 * moved to its parent's start. A shorter one is centred, as if the way there took as long as the way back. One that
 * starts after its parent's end is left alone unless the parent waited for it, because work may go on in the
 * background.
 */
function skewOf(parentStart: number, parentEnd: number, start: number, end: number, parentWaits: boolean): number {
  if (start >= parentStart && end <= parentEnd) return 0;
  if (start > parentEnd && !parentWaits) return 0;
  const slack = parentEnd - parentStart - (end - start);
  if (slack < 0) return start < parentStart ? parentStart - start : 0;
  return parentStart + slack / 2 - start;
}

function isOneClock({ spans }: TraceTree): boolean {
  const first = spans[0] && placeOf(spans[0].resource).clock;
  if (first === undefined || first === '') return false;
  for (const { resource } of spans) if (placeOf(resource).clock !== first) return false;
  return true;
}

/**
 * Corrects clock skew between hosts for display, latency shares and the critical path, by the rule Jaeger made known.
 * Times in `@timestamp` and `event.duration` stay as sent.
 */
export function correctSkew(tree: TraceTree): Timeline {
  if (isOneClock(tree)) return { start: tree.start, end: tree.end, shift: new Float64Array(tree.spans.length) };
  const clocks = tree.spans.map((span) => placeOf(span.resource).clock);
  const start = tree.start.slice();
  const end = tree.end.slice();
  const shift = new Float64Array(tree.spans.length);
  tree.spans.forEach((span, index) => {
    const above = tree.parent[index] ?? NONE;
    if (above === NONE) return;
    const parentShift = shift[above] ?? 0;
    let correction = parentShift;
    if (clocks[index] !== clocks[above] || clocks[index] === '') {
      const waits = tree.spans[above]?.kind === SPAN_KIND.client && span.kind === SPAN_KIND.server;
      correction = isAsynchronous(tree, above, index)
        ? 0
        : Math.trunc(skewOf(start[above] ?? 0, end[above] ?? 0, start[index] ?? 0, end[index] ?? 0, waits));
    }
    if (correction === 0) return;
    shift[index] = correction;
    start[index] = (start[index] ?? 0) + correction;
    end[index] = (end[index] ?? 0) + correction;
  });
  return { start, end, shift };
}
