import { clip } from '../access/attributes.ts';
import { assert } from '../core/assert.ts';
import { SPAN_KIND } from '../core/evidence.ts';
import { LIST_ITEMS_MAX } from '../core/limits.ts';
import type { CriticalStep } from '../core/record.ts';
import { sorted } from './order.ts';
import type { Timeline } from './skew.ts';
import type { TraceTree } from './trace-tree.ts';
import { serviceName } from './where.ts';

function childrenOf(tree: TraceTree, index: number): number[] {
  const children: number[] = [];
  for (let child = tree.childStart[index] ?? 0; child < (tree.childStart[index + 1] ?? 0); child += 1) {
    children.push(child);
  }
  return children;
}

/** Own time of a span that no child covers: its duration without the union of its children, nanoseconds. */
export function selfTime(tree: TraceTree, timeline: Timeline, index: number): number {
  const { start, end } = timeline;
  const last = end[index] ?? 0;
  let covered = start[index] ?? 0;
  let own = 0;
  const first = tree.childStart[index] ?? 0;
  const after = tree.childStart[index + 1] ?? 0;
  const sortedChildren = areByStart(timeline, first, after) ? undefined : childrenOf(tree, index);
  if (sortedChildren) sorted(sortedChildren, (left, right) => (start[left] ?? 0) - (start[right] ?? 0));
  for (let at = first; at < after; at += 1) {
    const child = sortedChildren?.[at - first] ?? at;
    const childStart = Math.min(start[child] ?? 0, last);
    if (childStart > covered) own += childStart - covered;
    covered = Math.max(covered, Math.min(end[child] ?? 0, last));
  }
  return own + Math.max(0, last - covered);
}

/** As they are unless clocks were corrected. */
function areByStart({ start }: Timeline, first: number, after: number): boolean {
  for (let at = first + 1; at < after; at += 1) if ((start[at - 1] ?? 0) > (start[at] ?? 0)) return false;
  return true;
}

/** Children up to here are put in order by insertion. */
const FEW = 24;

/**
 * The walk along a critical path. What it needs is kept from walk to walk and grows with the largest trace, so that a walk makes
 * no objects.
 */
class CriticalWalk {
  /** Steps of the last walk: spans in the order of their start, and nanoseconds spent in each itself. */
  count = 0;
  steps = new Int32Array(0);
  spent = new Float64Array(0);
  /** Spans on the way: what is left to explain of each runs from its floor to its cursor. */
  #on = new Int32Array(0);
  #floor = new Float64Array(0);
  #end = new Float64Array(0);
  #cursor = new Float64Array(0);
  /** Nanoseconds spent in each itself so far. */
  #own = new Float64Array(0);
  /** Of each its children, the last to end first: from where to where in the list, the next one to look at. */
  #next = new Int32Array(0);
  #after = new Int32Array(0);
  #children = new Int32Array(0);
  #depth = 0;

  walk(tree: TraceTree, timeline: Timeline, from: number): void {
    if (this.steps.length < tree.spans.length) this.#grow(tree.spans.length);
    this.count = 0;
    this.#depth = 0;
    this.#visit(tree, timeline, from, timeline.start[from] ?? 0, timeline.end[from] ?? 0);
    while (this.#depth > 0) this.#step(tree, timeline);
    this.#order(timeline);
  }

  #grow(spans: number): void {
    const size = 2 * spans;
    this.steps = new Int32Array(size);
    this.spent = new Float64Array(size);
    this.#on = new Int32Array(size);
    this.#floor = new Float64Array(size);
    this.#end = new Float64Array(size);
    this.#cursor = new Float64Array(size);
    this.#own = new Float64Array(size);
    this.#next = new Int32Array(size);
    this.#after = new Int32Array(size);
    this.#children = new Int32Array(size);
  }

  #visit(tree: TraceTree, timeline: Timeline, index: number, floor: number, end: number): void {
    const at = this.#depth++;
    this.#on[at] = index;
    this.#floor[at] = floor;
    this.#end[at] = end;
    this.#cursor[at] = end;
    this.#own[at] = 0;
    const start = at === 0 ? 0 : (this.#after[at - 1] as number);
    let to = start;
    const isProducer = tree.spans[index]?.kind === SPAN_KIND.producer;
    for (let child = tree.childStart[index] ?? 0; child < (tree.childStart[index + 1] ?? 0); child += 1) {
      if (!isProducer || tree.spans[child]?.kind !== SPAN_KIND.consumer) this.#children[to++] = child;
    }
    if (to - start > 1) this.#sortByEnd(timeline, start, to);
    this.#next[at] = start;
    this.#after[at] = to;
  }

  /** The last to end first, then by index. */
  #sortByEnd({ end }: Timeline, from: number, to: number): void {
    const children = this.#children;
    if (to - from > FEW) {
      children.subarray(from, to).sort((left, right) => (end[right] ?? 0) - (end[left] ?? 0) || left - right);
      return;
    }
    for (let at = from + 1; at < to; at++) {
      const child = children[at] as number;
      let before = at - 1;
      for (; before >= from && (end[children[before] as number] as number) < (end[child] as number); before--) {
        children[before + 1] = children[before] as number;
      }
      children[before + 1] = child;
    }
  }

  /** The next child backwards that ended by the cursor; one that outlives its parent is cut to the parent's time. */
  #step(tree: TraceTree, timeline: Timeline): void {
    const at = this.#depth - 1;
    const cursor = this.#cursor[at] as number;
    const floor = this.#floor[at] as number;
    for (let next = this.#next[at] as number; next < (this.#after[at] as number); next++) {
      const child = this.#children[next] as number;
      const end = Math.min(timeline.end[child] ?? 0, this.#end[at] as number);
      const start = Math.max(timeline.start[child] ?? 0, floor);
      if (end > cursor || start >= end) continue;
      this.#next[at] = next + 1;
      this.#own[at] = (this.#own[at] as number) + cursor - end;
      this.#cursor[at] = start;
      this.#visit(tree, timeline, child, start, end);
      return;
    }
    const own = (this.#own[at] as number) + cursor - floor;
    this.#depth = at;
    if (own <= 0) return;
    this.steps[this.count] = this.#on[at] as number;
    this.spent[this.count++] = own;
  }

  /** The longest steps, in the order of their start. */
  #order({ start }: Timeline): void {
    if (this.count > FEW) {
      const all = Array.from({ length: this.count }, (_, at) => ({
        index: this.steps[at] ?? 0,
        own: this.spent[at] ?? 0,
      }));
      if (all.length > LIST_ITEMS_MAX) {
        all.sort((left, right) => right.own - left.own || left.index - right.index);
        all.length = LIST_ITEMS_MAX;
      }
      this.count = 0;
      for (const { index, own } of all) {
        this.steps[this.count] = index;
        this.spent[this.count++] = own;
      }
    }
    for (let at = 1; at < this.count; at++) {
      const index = this.steps[at] as number;
      const own = this.spent[at] as number;
      let before = at - 1;
      for (; before >= 0; before--) {
        const other = this.steps[before] as number;
        const difference = (start[other] ?? 0) - (start[index] ?? 0);
        if (difference < 0 || (difference === 0 && other < index)) break;
        this.steps[before + 1] = other;
        this.spent[before + 1] = this.spent[before] as number;
      }
      this.steps[before + 1] = index;
      this.spent[before + 1] = own;
    }
  }
}

const walk = new CriticalWalk();

/**
 * Where the time of a span went: from its end backwards through the child that finished last, then the one that had
 * finished before that child began, and so on. Children that overlap the one taken ran beside it and are off the
 * path, as are consumers of a message. In O(n log n) and without recursion; the longest steps are kept, in the order
 * of their start.
 */
export function criticalPath(tree: TraceTree, timeline: Timeline, from: number): CriticalStep[] {
  const { count, steps, spent } = criticalSteps(tree, timeline, from);
  const path: CriticalStep[] = [];
  for (let at = 0; at < count; at++) {
    const span = tree.spans[steps[at] ?? 0];
    assert(span, 'the walk visits spans of the tree');
    const service = serviceName(span.resource);
    const [name, spanId, selfTime] = [clip(span.name), span.spanId, spent[at] ?? 0];
    path.push(
      service
        ? { service, name, span_id: spanId, self_time: selfTime }
        : { name, span_id: spanId, self_time: selfTime },
    );
  }
  return path;
}

/** The same as indexes of spans, with the nanoseconds spent in each; valid until the next call. */
export function criticalSteps(
  tree: TraceTree,
  timeline: Timeline,
  from: number,
): Readonly<Pick<CriticalWalk, 'count' | 'steps' | 'spent'>> {
  walk.walk(tree, timeline, from);
  return walk;
}
