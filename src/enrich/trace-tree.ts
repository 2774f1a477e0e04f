import type { Span } from '../core/evidence.ts';
import { ascending } from './dedupe.ts';
import { clampNs, DURATION_NS_MAX } from './times.ts';

/** Index that stands for no span. */
export const NONE = -1;

/**
 * The spans of one trace by index, parents before their children. Everything is in typed arrays and every walk is a
 * loop: a trace may be 20,000 spans wide or deep. Indexes depend on the set of spans alone.
 */
export interface TraceTree {
  readonly spans: readonly Span[];
  readonly indexOf: ReadonlyMap<string, number>;
  /** Parent of each span; NONE for a root, for a span whose parent never came, and where a cycle was cut. */
  readonly parent: Int32Array;
  /** Topmost span above each span, itself when it has no parent. */
  readonly top: Int32Array;
  /** 1 where the topmost span is a root, 0 where it is a span whose parent never came. */
  readonly rooted: Uint8Array;
  readonly depth: Int32Array;
  /** Children of span `i`: `childList[childStart[i]]` up to `childList[childStart[i + 1]]`, by start and span id. */
  readonly childStart: Int32Array;
  readonly childList: Int32Array;
  /** Earliest instant of the trace, epoch nanoseconds; starts and ends count from here. */
  readonly baseNs: bigint;
  readonly start: Float64Array;
  /** Never before the start. */
  readonly end: Float64Array;
  /** The trace's root: a trusted one, then the earliest; NONE when none came. */
  readonly root: number;
  /** Roots received, spans with a cut parent link included. */
  readonly roots: number;
  /** Spans whose parent link was cut because it closed a cycle. */
  readonly cut: readonly number[];
  /** Distinct parents that were named but never came. */
  readonly missingParents: number;
  /** Spans that the root does not reach. */
  readonly orphans: number;
}

/**
 * The start of a span. One without a start begins where it ends; one without any time begins with its trace, which is
 * the best guess that does not depend on when it arrived; a trace without any time is at the epoch.
 */
function startOf(span: Span, earliestNs: bigint): bigint {
  return clampNs(span.startNs || span.endNs || earliestNs);
}

function earliestOf(spans: readonly Span[]): bigint {
  let earliestNs: bigint | undefined;
  for (const span of spans) {
    const startNs = clampNs(span.startNs || span.endNs);
    if (startNs > 0n && (earliestNs === undefined || startNs < earliestNs)) earliestNs = startNs;
  }
  return earliestNs ?? 0n;
}

/**
 * Parent index of each span, with one link cut in every cycle: an untrusted span's, then that of the smallest span
 * id.
 */
function linkParents(
  spans: readonly Span[],
  indexOf: ReadonlyMap<string, number>,
): { parent: Int32Array; cut: number[] } {
  const parent = Int32Array.from(spans, (span) =>
    span.parentSpanId ? (indexOf.get(span.parentSpanId) ?? NONE) : NONE,
  );
  const cut: number[] = [];
  const visit = new Int32Array(spans.length);
  for (let from = 0; from < spans.length; from += 1) {
    let at = from;
    while (at !== NONE && visit[at] === 0) {
      visit[at] = from + 1;
      at = parent[at] ?? NONE;
    }
    if (at === NONE || visit[at] !== from + 1) continue;
    let weakest = at;
    for (let member = parent[at] ?? NONE; member !== at; member = parent[member] ?? NONE) {
      if (isWeakerLink(spans[member], spans[weakest])) weakest = member;
    }
    parent[weakest] = NONE;
    cut.push(weakest);
  }
  return { parent, cut };
}

function isWeakerLink(span: Span | undefined, than: Span | undefined): boolean {
  if (span === undefined || than === undefined) return false;
  if (span.note.trusted !== than.note.trusted) return than.note.trusted;
  return span.spanId < than.spanId;
}

/** Children of each span as one list with offsets; a parent's children keep the order of their indexes. */
function linkChildren(parent: Int32Array): { childStart: Int32Array; childList: Int32Array } {
  const childStart = new Int32Array(parent.length + 1);
  for (const above of parent) if (above !== NONE) childStart[above + 1] = (childStart[above + 1] ?? 0) + 1;
  for (let index = 0; index < parent.length; index += 1) {
    childStart[index + 1] = (childStart[index + 1] ?? 0) + (childStart[index] ?? 0);
  }
  const next = childStart.slice();
  const childList = new Int32Array(childStart[parent.length] ?? 0);
  parent.forEach((above, index) => {
    if (above === NONE) return;
    childList[next[above] ?? 0] = index;
    next[above] = (next[above] ?? 0) + 1;
  });
  return { childStart, childList };
}

/** Parents before children, level by level from the topmost spans. */
function rootFirst(parent: Int32Array): number[] {
  const { childStart, childList } = linkChildren(parent);
  const order: number[] = [];
  parent.forEach((above, index) => {
    if (above === NONE) order.push(index);
  });
  for (let at = 0; at < order.length; at += 1) {
    const index = order[at] ?? 0;
    for (let child = childStart[index] ?? 0; child < (childStart[index + 1] ?? 0); child += 1) {
      order.push(childList[child] ?? 0);
    }
  }
  return order;
}

function indexSpans(spans: readonly Span[]): Map<string, number> {
  return new Map(spans.map((span, index) => [span.spanId, index]));
}

/** The root that stands for the trace among the topmost spans. */
function chooseRoot(spans: readonly Span[], roots: readonly number[]): number {
  return roots.find((index) => spans[index]?.note.trusted) ?? roots[0] ?? NONE;
}

/** Builds the tree from spans with distinct ids. */
export function buildTree(distinct: readonly Span[]): TraceTree {
  const baseNs = earliestOf(distinct);
  const offset = (instantNs: bigint): number => Math.min(Number(instantNs - baseNs), DURATION_NS_MAX);
  const byStart = distinct
    .map((span) => ({ span, start: offset(startOf(span, baseNs)) }))
    .sort((left, right) => left.start - right.start || ascending(left.span.spanId, right.span.spanId));
  const sorted = byStart.map((entry) => entry.span);
  const linked = linkParents(sorted, indexSpans(sorted));
  const order = rootFirst(linked.parent);
  const spans = order.flatMap((index) => sorted[index] ?? []);
  const indexOf = indexSpans(spans);
  const position = new Int32Array(order.length);
  order.forEach((index, at) => {
    position[index] = at;
  });
  const parent = Int32Array.from(order, (index) => {
    const above = linked.parent[index] ?? NONE;
    return above === NONE ? NONE : (position[above] ?? NONE);
  });
  const start = Float64Array.from(order, (index) => byStart[index]?.start ?? 0);
  const end = Float64Array.from(spans, (span, index) => Math.max(start[index] ?? 0, offset(clampNs(span.endNs))));
  const cut = linked.cut.map((index) => position[index] ?? NONE).sort((left, right) => left - right);
  return { spans, indexOf, parent, baseNs, start, end, cut, ...linkChildren(parent), ...shapeOf(spans, parent, cut) };
}

function shapeOf(
  spans: readonly Span[],
  parent: Int32Array,
  cut: readonly number[],
): Pick<TraceTree, 'top' | 'rooted' | 'depth' | 'root' | 'roots' | 'missingParents' | 'orphans'> {
  const top = new Int32Array(spans.length);
  const rooted = new Uint8Array(spans.length);
  const depth = new Int32Array(spans.length);
  const isCut = new Set(cut);
  const missing = new Set<string>();
  const roots: number[] = [];
  spans.forEach((span, index) => {
    const above = parent[index] ?? NONE;
    top[index] = above === NONE ? index : (top[above] ?? index);
    depth[index] = above === NONE ? 0 : (depth[above] ?? 0) + 1;
    const isRoot = span.parentSpanId === '' || isCut.has(index);
    rooted[index] = above === NONE ? Number(isRoot) : (rooted[above] ?? 0);
    if (above !== NONE) return;
    if (isRoot) roots.push(index);
    else missing.add(span.parentSpanId);
  });
  const root = chooseRoot(spans, roots);
  const orphans = top.reduce((sum, above) => sum + (above === root ? 0 : 1), 0);
  return { top, rooted, depth, root, roots: roots.length, missingParents: missing.size, orphans };
}
