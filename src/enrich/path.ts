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

function climb(tree: TraceTree, from: number, stepsMax: number): number[] {
  const steps: number[] = [];
  for (let at = from; at !== NONE && steps.length < stepsMax; at = tree.parent[at] ?? NONE) steps.push(at);
  return steps.reverse();
}

/** Indexes from the topmost span to `to`; of a longer way both ends. Takes the same time however deep the trace is. */
export function pathIndexes(tree: TraceTree, heads: Int32Array, to: number): number[] {
  if ((tree.depth[to] ?? 0) < PATH_STEPS_MAX) return climb(tree, to, PATH_STEPS_MAX);
  return [...climb(tree, heads[to] ?? to, HALF_STEPS), ...climb(tree, to, HALF_STEPS)];
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
  const step = (service === undefined ? {} : { service }) as PathStep;
  step.name = clip(span.name);
  step.kind = KIND_NAMES[span.kind] ?? 'unspecified';
  step.span_id = span.spanId;
  step.start_offset = start - zero;
  step.duration = (timeline.end[index] ?? 0) - start;
  step.status = statusOf(tree, verdicts, index);
  if (timeline.shift[index] !== 0) step.skew_corrected = true;
  return step;
}
