import { clip } from '../access/attributes.ts';
import { assert } from '../core/assert.ts';
import { STATUS_CODE } from '../core/evidence.ts';
import { PATH_STEPS_MAX } from '../core/limits.ts';
import type { Decision, Outcome, PathStep } from '../core/record.ts';
import type { Timeline } from './skew.ts';
import { NONE, type TraceTree } from './trace-tree.ts';
import { serviceName } from './where.ts';

/** Half of a path: steps kept at the root's end and at the access's end of a longer one. */
const HALF_STEPS = PATH_STEPS_MAX / 2;

const KIND_NAMES = ['unspecified', 'internal', 'server', 'client', 'producer', 'consumer'] as const;

/** What the access on a span says of how it went; undefined for spans that are no access. */
export type Verdicts = (index: number) => { readonly outcome: Outcome; readonly decision: Decision } | undefined;

/** For each span that is deeper than half a path: the ancestor where the root's half ends. */
export function pathHeads(tree: TraceTree): Int32Array {
  const heads = new Int32Array(tree.spans.length);
  tree.spans.forEach((_, index) => {
    const depth = tree.depth[index] ?? 0;
    if (depth < HALF_STEPS) heads[index] = index;
    else heads[index] = heads[tree.parent[index] ?? NONE] ?? index;
  });
  return heads;
}

/** Puts the way down to `to` into the last places before `end`, as many as there are. */
function climb(tree: TraceTree, to: number, way: number[], start: number, end: number): void {
  let index = to;
  for (let at = end - 1; at >= start; at -= 1) {
    way[at] = index;
    index = tree.parent[index] ?? NONE;
  }
}

/** Indexes from the topmost span to `to`; of a longer way both ends. Takes the same time however deep the trace is. */
export function pathIndexes(tree: TraceTree, heads: Int32Array, to: number): number[] {
  const depth = tree.depth[to] ?? 0;
  if (depth < PATH_STEPS_MAX) {
    const way = new Array<number>(depth + 1);
    climb(tree, to, way, 0, depth + 1);
    return way;
  }
  const way = new Array<number>(PATH_STEPS_MAX);
  climb(tree, heads[to] ?? to, way, 0, HALF_STEPS);
  climb(tree, to, way, HALF_STEPS, PATH_STEPS_MAX);
  return way;
}

function statusOf(tree: TraceTree, verdicts: Verdicts, index: number): PathStep['status'] {
  const verdict = verdicts(index);
  if (verdict?.decision === 'deny') return 'denied';
  return verdict?.outcome === 'failure' || tree.spans[index]?.statusCode === STATUS_CODE.error ? 'error' : 'ok';
}

/**
 * The step of `audit.path[]` that a span is; its offset counts from the root's corrected start, or from the first span without
 * a root.
 */
export function pathStep(tree: TraceTree, timeline: Timeline, verdicts: Verdicts, index: number): PathStep {
  const span = tree.spans[index];
  assert(span, 'a path leads over spans of the tree');
  const zero = tree.root === NONE ? 0 : (timeline.start[tree.root] ?? 0);
  const start = timeline.start[index] ?? 0;
  const service = serviceName(span.resource);
  const name = clip(span.name);
  const kind = KIND_NAMES[span.kind] ?? 'unspecified';
  const duration = (timeline.end[index] ?? 0) - start;
  const status = statusOf(tree, verdicts, index);
  const offset = start - zero;
  const step: PathStep =
    service === undefined
      ? { name, kind, span_id: span.spanId, start_offset: offset, duration, status }
      : { service, name, kind, span_id: span.spanId, start_offset: offset, duration, status };
  if (timeline.shift[index] !== 0) step.skew_corrected = true;
  return step;
}
