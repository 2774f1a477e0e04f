import { assert } from '../core/assert.ts';
import type { EvidenceBeyond, Span } from '../core/evidence.ts';
import { ascending, sorted } from './order.ts';
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
  /** Children of span `i` are the indexes from `childStart[i]` up to `childStart[i + 1]`, by start and span id. */
  readonly childStart: Int32Array;
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
 * The start of each span. One without a start begins where it ends; one without any time begins with its trace, which is
 * the best guess that does not depend on when it arrived; a trace without any time is at the epoch.
 */
function startsOf(spans: readonly Span[]): { baseNs: bigint; startsNs: bigint[] } {
  const startsNs: bigint[] = [];
  let baseNs = 0n;
  for (const span of spans) {
    const startNs = clampNs(span.startNs || span.endNs);
    if (startNs > 0n && (baseNs === 0n || startNs < baseNs)) baseNs = startNs;
    startsNs.push(startNs);
  }
  return { baseNs, startsNs };
}

/**
 * Parent index of each span, with one link cut in every cycle: an untrusted span's, then that of the smallest span
 * id.
 */
function linkParents(
  spans: readonly Span[],
  indexOf: ReadonlyMap<string, number>,
  beyond: EvidenceBeyond | undefined,
): { parent: Int32Array; cut: number[] } {
  const parent = new Int32Array(spans.length);
  const cut: number[] = [];
  let mayCycle = false;
  for (let index = 0; index < spans.length; index += 1) {
    const { parentSpanId, spanId } = spans[index] as Span;
    const aboveId = beyond?.above.get(spanId) ?? parentSpanId;
    const above = aboveId === '' ? NONE : (indexOf.get(aboveId) ?? NONE);
    parent[index] = above;
    mayCycle ||= above >= index;
  }
  if (!mayCycle) return { parent, cut };
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

/**
 * Parents before children, level by level from the topmost spans; children keep the order of their indexes. Siblings end up
 * next to each other: those of the span at place `i` begin at `childStart[i]`.
 */
function rootFirst(parent: Int32Array): { order: number[]; childStart: Int32Array } {
  const order: number[] = [];
  const firstChild = new Int32Array(parent.length).fill(NONE);
  const nextSibling = new Int32Array(parent.length).fill(NONE);
  for (let index = parent.length - 1; index >= 0; index -= 1) {
    const above = parent[index] ?? NONE;
    if (above === NONE) continue;
    nextSibling[index] = firstChild[above] ?? NONE;
    firstChild[above] = index;
  }
  for (let index = 0; index < parent.length; index += 1) if (parent[index] === NONE) order.push(index);
  const childStart = new Int32Array(parent.length + 1);
  for (let at = 0; at < order.length; at += 1) {
    childStart[at] = order.length;
    for (let child = firstChild[order[at] ?? 0] ?? NONE; child !== NONE; child = nextSibling[child] ?? NONE) {
      order.push(child);
    }
  }
  childStart[parent.length] = order.length;
  return { order, childStart };
}

interface Starting {
  readonly span: Span;
  readonly start: number;
}

const NO_CUTS: readonly number[] = [];

/** Nanoseconds from one instant to another, both within 63 bits, so that the machine's own words hold them. */
function offsetOf(instantNs: bigint, baseNs: bigint): number {
  return Math.min(Number(BigInt.asIntN(64, instantNs - baseNs)), DURATION_NS_MAX);
}

function compareStarts(left: Starting, right: Starting): number {
  return left.start - right.start || ascending(left.span.spanId, right.span.spanId);
}

/** The root that stands for the trace among the topmost spans. */
function chooseRoot(spans: readonly Span[], roots: readonly number[]): number {
  return roots.find((index) => spans[index]?.note.trusted) ?? roots[0] ?? NONE;
}

/** Builds the tree from spans with distinct ids. Where spans of a huge trace are left out, it leads over them. */
export function buildTree(distinct: readonly Span[], beyond?: EvidenceBeyond): TraceTree {
  const { baseNs, startsNs } = startsOf(distinct);
  const byStart: Starting[] = [];
  for (let index = 0; index < distinct.length; index += 1) {
    byStart.push({ span: distinct[index] as Span, start: offsetOf(startsNs[index] || baseNs, baseNs) });
  }
  sorted(byStart, compareStarts);
  const starting: Span[] = [];
  const indexOf = new Map<string, number>();
  for (const { span } of byStart) {
    indexOf.set(span.spanId, starting.length);
    starting.push(span);
  }
  const linked = linkParents(starting, indexOf, beyond);
  const { order, childStart } = rootFirst(linked.parent);
  const spans: Span[] = [];
  const position = new Int32Array(order.length);
  const parent = new Int32Array(order.length);
  const start = new Float64Array(order.length);
  const end = new Float64Array(order.length);
  for (let at = 0; at < order.length; at += 1) {
    const index = order[at] as number;
    const entry = byStart[index];
    assert(entry, 'the order holds indexes of spans');
    const above = linked.parent[index] ?? NONE;
    spans.push(entry.span);
    if (index !== at) indexOf.set(entry.span.spanId, at);
    position[index] = at;
    // The parent has its place already.
    parent[at] = above === NONE ? NONE : (position[above] ?? NONE);
    start[at] = entry.start;
    end[at] = Math.max(entry.start, offsetOf(clampNs(entry.span.endNs), baseNs));
  }
  const cut =
    linked.cut.length === 0
      ? NO_CUTS
      : linked.cut.map((index) => position[index] ?? NONE).sort((left, right) => left - right);
  const { top, rooted, depth, root, roots, missingParents, orphans } = shapeOf(spans, parent, indexOf, beyond);
  return {
    spans,
    indexOf,
    parent,
    top,
    rooted,
    depth,
    childStart,
    baseNs,
    start,
    end,
    root,
    roots,
    cut,
    missingParents,
    orphans,
  };
}

function shapeOf(
  spans: readonly Span[],
  parent: Int32Array,
  indexOf: ReadonlyMap<string, number>,
  beyond: EvidenceBeyond | undefined,
): Pick<TraceTree, 'top' | 'rooted' | 'depth' | 'root' | 'roots' | 'missingParents' | 'orphans'> {
  const top = new Int32Array(spans.length);
  const rooted = new Uint8Array(spans.length);
  const depth = new Int32Array(spans.length);
  let missing: Set<string> | undefined;
  const roots: number[] = [];
  for (let index = 0; index < spans.length; index += 1) {
    const { spanId, parentSpanId } = spans[index] as Span;
    const above = parent[index] ?? NONE;
    if (above === NONE) {
      // A span whose parent is there and not above it has lost its link in a cycle.
      const rootId = beyond?.rootOf.get(spanId);
      const isRoot = parentSpanId === '' || indexOf.has(parentSpanId) || rootId === spanId;
      if (isRoot) roots.push(index);
      else {
        missing ??= new Set();
        missing.add(parentSpanId);
      }
      top[index] = index;
      rooted[index] = Number(isRoot || rootId !== undefined);
    } else {
      top[index] = top[above] ?? index;
      rooted[index] = rooted[above] ?? 0;
      depth[index] = (depth[above] ?? 0) + 1;
    }
  }
  const root = chooseRoot(spans, roots);
  let orphans = 0;
  for (let index = 0; index < top.length; index += 1) if (top[index] !== root) orphans += 1;
  const shape = { roots: roots.length, missingParents: missing?.size ?? 0, orphans };
  const whole = beyond
    ? { roots: beyond.roots, missingParents: beyond.missingParents, orphans: beyond.orphans }
    : shape;
  return { top, rooted, depth, root, ...whole };
}
