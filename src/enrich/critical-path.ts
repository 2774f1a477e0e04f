import { clip } from '../access/attributes.ts';
import { assert } from '../core/assert.ts';
import { SPAN_KIND } from '../core/evidence.ts';
import { LIST_ITEMS_MAX } from '../core/limits.ts';
import type { CriticalStep } from '../core/record.ts';
import { sorted } from './order.ts';
import type { Timeline } from './skew.ts';
import type { TraceTree } from './trace-tree.ts';
import { serviceName } from './where.ts';

/** A span on the walk: what is left to explain runs from `floor` to `cursor`; children come last to finish first. */
interface Visit {
  readonly index: number;
  readonly floor: number;
  readonly end: number;
  readonly children: readonly number[];
  next: number;
  cursor: number;
}

function childrenOf(tree: TraceTree, index: number): number[] {
  const children: number[] = [];
  for (let child = tree.childStart[index] ?? 0; child < (tree.childStart[index + 1] ?? 0); child += 1) {
    children.push(child);
  }
  return children;
}

/** Own time of a span that no child covers: its duration without the union of its children, nanoseconds. */
export function selfTime(tree: TraceTree, timeline: Timeline, index: number): number {
  const end = timeline.end[index] ?? 0;
  let covered = timeline.start[index] ?? 0;
  let own = 0;
  const [first, after] = [tree.childStart[index] ?? 0, tree.childStart[index + 1] ?? 0];
  const cover = (child: number): void => {
    const childStart = Math.min(timeline.start[child] ?? 0, end);
    if (childStart > covered) own += childStart - covered;
    covered = Math.max(covered, Math.min(timeline.end[child] ?? 0, end));
  };
  if (areByStart(timeline, first, after)) for (let child = first; child < after; child += 1) cover(child);
  else {
    const children = childrenOf(tree, index);
    sorted(children, (left, right) => (timeline.start[left] ?? 0) - (timeline.start[right] ?? 0));
    for (const child of children) cover(child);
  }
  return own + Math.max(0, end - covered);
}

/** As they are unless clocks were corrected. */
function areByStart({ start }: Timeline, first: number, after: number): boolean {
  for (let at = first + 1; at < after; at += 1) if ((start[at - 1] ?? 0) > (start[at] ?? 0)) return false;
  return true;
}

function visit(tree: TraceTree, timeline: Timeline, index: number, floor: number, end: number): Visit {
  let children = childrenOf(tree, index);
  if (tree.spans[index]?.kind === SPAN_KIND.producer) {
    children = children.filter((child) => tree.spans[child]?.kind !== SPAN_KIND.consumer);
  }
  if (children.length > 1) {
    sorted(children, (left, right) => (timeline.end[right] ?? 0) - (timeline.end[left] ?? 0) || left - right);
  }
  return { index, floor, end, children, next: 0, cursor: end };
}

/** The next child backwards that ended by the cursor; one that outlives its parent is cut to the parent's time. */
function takeChild(timeline: Timeline, at: Visit): { child: number; start: number; end: number } | undefined {
  while (at.next < at.children.length) {
    const child = at.children[at.next] ?? 0;
    at.next += 1;
    const end = Math.min(timeline.end[child] ?? 0, at.end);
    const start = Math.max(timeline.start[child] ?? 0, at.floor);
    if (end <= at.cursor && start < end) return { child, start, end };
  }
  return undefined;
}

/** Nanoseconds of the critical path by span index; they add up to the span's duration. */
function walk(tree: TraceTree, timeline: Timeline, from: number): Map<number, number> {
  const selfTimes = new Map<number, number>();
  const add = (index: number, spent: number): void => {
    if (spent > 0) selfTimes.set(index, (selfTimes.get(index) ?? 0) + spent);
  };
  const stack = [visit(tree, timeline, from, timeline.start[from] ?? 0, timeline.end[from] ?? 0)];
  for (let at = stack.at(-1); at !== undefined; at = stack.at(-1)) {
    const taken = takeChild(timeline, at);
    add(at.index, at.cursor - (taken?.end ?? at.floor));
    if (taken === undefined) {
      stack.pop();
      continue;
    }
    at.cursor = taken.start;
    if (tree.childStart[taken.child] === tree.childStart[taken.child + 1]) add(taken.child, taken.end - taken.start);
    else stack.push(visit(tree, timeline, taken.child, taken.start, taken.end));
  }
  return selfTimes;
}

/**
 * Where the time of a span went: from its end backwards through the child that finished last, then the one that had
 * finished before that child began, and so on. Children that overlap the one taken ran beside it and are off the
 * path, as are consumers of a message. In O(n log n) and without recursion; the longest steps are kept, in the order
 * of their start.
 */
export function criticalPath(tree: TraceTree, timeline: Timeline, from: number): CriticalStep[] {
  return criticalSteps(tree, timeline, from).map(([index, spent]) => {
    const span = tree.spans[index];
    assert(span, 'the walk visits spans of the tree');
    const service = serviceName(span.resource);
    const [name, id] = [clip(span.name), span.spanId];
    return service ? { service, name, span_id: id, self_time: spent } : { name, span_id: id, self_time: spent };
  });
}

/** The same as indexes of spans and the nanoseconds spent in each. */
export function criticalSteps(tree: TraceTree, timeline: Timeline, from: number): [index: number, spent: number][] {
  const longest = [...walk(tree, timeline, from)];
  if (longest.length > LIST_ITEMS_MAX) {
    longest.sort(([left, leftTime], [right, rightTime]) => rightTime - leftTime || left - right);
    longest.length = LIST_ITEMS_MAX;
  }
  return sorted(
    longest,
    ([left], [right]) => (timeline.start[left] ?? 0) - (timeline.start[right] ?? 0) || left - right,
  );
}
