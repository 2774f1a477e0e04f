import { type DistinctPieces, PIECE_FLAG } from './huge-distinct.ts';
import { type HugeSpans, NO_SPAN, SPAN_FLAG } from './huge-spans.ts';
import { NO_ENTRY } from './slot-table.ts';

/** Numbers of a huge trace's tree that its records carry. */
export interface HugeTree {
  /** The root that stands for the trace; NO_SPAN when none came. */
  readonly root: number;
  readonly roots: number;
  /** Links that were cut because they closed a cycle. */
  readonly cuts: number;
  readonly missingParents: number;
  readonly orphans: number;
}

/** Steps of these walks between two looks at whether the slice is over. */
const STEPS = 256;

/**
 * Links the spans of a huge trace as enrich/trace-tree.ts links those of any: a link is cut in every cycle, the earliest trusted
 * root stands for the trace. Yields where a slice may end, `STEPS` simple steps from one to the next.
 */
export function* linkSpans(pieces: DistinctPieces): Generator<void, HugeTree> {
  const { spans } = pieces;
  spans.above = new Uint32Array(spans.count);
  spans.order = new Uint32Array(spans.count);
  spans.top = new Uint32Array(spans.count);
  for (let span = 1; span < spans.count; span++) {
    if (span % STEPS === 0) yield;
    const parent = spans.parent[span] as number;
    if (spans.winner[span] === NO_ENTRY || parent === NO_SPAN) continue;
    spans.mark(parent, SPAN_FLAG.parent);
    if (spans.winner[parent] !== NO_ENTRY) spans.above[span] = parent;
  }
  yield* cutCycles(pieces);
  yield* orderSpans(spans);
  yield* markNamed(pieces);
  return yield* measure(pieces);
}

/** Spans that access events name as theirs are on the way to an access like those above them. */
function* markNamed(pieces: DistinctPieces): Generator<void> {
  for (let piece = 1; piece < pieces.count; piece++) {
    if (piece % STEPS === 0) yield;
    const isEvent = pieces.has(piece, PIECE_FLAG.log) && pieces.has(piece, PIECE_FLAG.access);
    const span = pieces.span[piece] as number;
    if (isEvent && span !== NO_SPAN) pieces.spans.mark(span, SPAN_FLAG.way);
  }
}

function* cutCycles(pieces: DistinctPieces): Generator<void> {
  const { spans } = pieces;
  const visited = new Uint32Array(spans.count);
  let steps = 0;
  for (let from = 1; from < spans.count; from++) {
    let at = from;
    for (; at !== NO_SPAN && visited[at] === 0; at = spans.above[at] as number) {
      visited[at] = from;
      if (++steps % STEPS === 0) yield;
    }
    if (at === NO_SPAN || visited[at] !== from) continue;
    let weakest = at;
    for (let member = spans.above[at] as number; member !== at; member = spans.above[member] as number) {
      if (isWeaker(pieces, member, weakest)) weakest = member;
      if (++steps % STEPS === 0) yield;
    }
    spans.above[weakest] = NO_SPAN;
    spans.mark(weakest, SPAN_FLAG.cut);
  }
}

function isTrusted({ spans, flags }: DistinctPieces, span: number): boolean {
  return ((flags[spans.winner[span] as number] as number) & PIECE_FLAG.trusted) !== 0;
}

function isWeaker(pieces: DistinctPieces, span: number, than: number): boolean {
  const trust = Number(isTrusted(pieces, span)) - Number(isTrusted(pieces, than));
  return trust !== 0 ? trust < 0 : pieces.spans.compare(span, than) < 0;
}

/** Climbs from each span to what is ordered already, and orders the way down. */
function* orderSpans(spans: HugeSpans): Generator<void> {
  // The way up is kept where the tops will be: it never reaches beyond the ids not ordered yet.
  const way = spans.top;
  let steps = 0;
  for (let from = 1; from < spans.count; from++) {
    if (spans.winner[from] === NO_ENTRY) continue;
    let length = 0;
    for (let at = from; at !== NO_SPAN && !spans.has(at, SPAN_FLAG.ordered); at = spans.above[at] as number) {
      way[length++] = at;
      spans.mark(at, SPAN_FLAG.ordered);
      if (++steps % STEPS === 0) yield;
    }
    while (length > 0) {
      spans.order[spans.ordered++] = way[--length] as number;
      if (++steps % STEPS === 0) yield;
    }
  }
}

/** Tops, roots and orphans; which spans have an access above them; which lie on the way from an access to its root. */
function* measure(pieces: DistinctPieces): Generator<void, HugeTree> {
  const { spans } = pieces;
  let [roots, cuts, root] = [0, 0, NO_SPAN];
  const earliest = yield* earliestStart(spans);
  for (let at = 0; at < spans.ordered; at++) {
    if (at % STEPS === 0) yield;
    const span = spans.order[at] as number;
    const above = spans.above[span] as number;
    spans.top[span] = above === NO_SPAN ? span : (spans.top[above] as number);
    if (above !== NO_SPAN) {
      inherit(pieces, span, above);
      continue;
    }
    if (spans.parent[span] !== NO_SPAN && !spans.has(span, SPAN_FLAG.cut)) continue;
    spans.mark(span, SPAN_FLAG.rooted);
    roots++;
    cuts += Number(spans.has(span, SPAN_FLAG.cut));
    if (root === NO_SPAN || isBetterRoot(pieces, span, root, earliest)) root = span;
  }
  let orphans = 0;
  for (let at = spans.ordered - 1; at >= 0; at--) {
    if (at % STEPS === 0) yield;
    const span = spans.order[at] as number;
    if (spans.top[span] !== root) orphans++;
    const isAccess = pieces.has(spans.winner[span] as number, PIECE_FLAG.access);
    const above = spans.above[span] as number;
    if (above !== NO_SPAN && (isAccess || spans.has(span, SPAN_FLAG.way))) spans.mark(above, SPAN_FLAG.way);
  }
  let missingParents = 0;
  for (let span = 1; span < spans.count; span++) {
    if (span % STEPS === 0) yield;
    missingParents += Number(spans.winner[span] === NO_ENTRY && spans.has(span, SPAN_FLAG.parent));
  }
  return { root, roots, cuts, missingParents, orphans };
}

/** A span without any time starts with its trace. */
function* earliestStart({ order, ordered, startHigh, startLow }: HugeSpans): Generator<void, [number, number]> {
  let earliest: [number, number] = [0, 0];
  for (let at = 0; at < ordered; at++) {
    if (at % STEPS === 0) yield;
    const [high, low] = [startHigh[order[at] as number] as number, startLow[order[at] as number] as number];
    if (high === 0 && low === 0) continue;
    const [bestHigh, bestLow] = earliest;
    const isNone = bestHigh === 0 && bestLow === 0;
    if (isNone || high < bestHigh || (high === bestHigh && low < bestLow)) earliest = [high, low];
  }
  return earliest;
}

function inherit(pieces: DistinctPieces, span: number, above: number): void {
  const { spans } = pieces;
  const isAccess = pieces.has(spans.winner[above] as number, PIECE_FLAG.access);
  const passed = spans.flags[above] as number;
  let flags = passed & (SPAN_FLAG.rooted | SPAN_FLAG.inner | SPAN_FLAG.innerTrusted);
  if (isAccess) flags |= SPAN_FLAG.inner;
  if (isAccess && isTrusted(pieces, above)) flags |= SPAN_FLAG.innerTrusted;
  spans.mark(span, flags);
}

function isBetterRoot(pieces: DistinctPieces, span: number, than: number, earliest: [number, number]): boolean {
  const trust = Number(isTrusted(pieces, span)) - Number(isTrusted(pieces, than));
  if (trust !== 0) return trust > 0;
  const { spans } = pieces;
  const start = (index: number): [number, number] => {
    const [high, low] = [spans.startHigh[index] as number, spans.startLow[index] as number];
    return high === 0 && low === 0 ? earliest : [high, low];
  };
  const [left, right] = [start(span), start(than)];
  return (left[0] - right[0] || left[1] - right[1] || spans.compare(span, than)) < 0;
}
