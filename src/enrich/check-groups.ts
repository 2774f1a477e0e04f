import type { CheckDraft } from '../access/checks.ts';
import { type LogRecord, SPAN_KIND, type Span, STATUS_CODE } from '../core/evidence.ts';
import { LIST_ITEMS_MAX } from '../core/limits.ts';
import type { CheckPiece, CheckWorld, FoundCheck } from './checks.ts';
import { ascending } from './order.ts';
import { NONE, type TraceTree } from './trace-tree.ts';

/** All that tells of one check. */
export interface Grouped {
  readonly draft: CheckDraft;
  /** Spans of it, by index. */
  readonly members: readonly number[];
  /** The span that decided; NONE when none came. */
  readonly decided: number;
  /** The span that a log record names and that never came. */
  readonly spanId: string | undefined;
  /** Where to look for the access that it belongs to: the span above it. NONE: nothing tells. */
  readonly below: number;
  /** Nanoseconds after the trace's base. */
  readonly start: number;
  readonly end: number;
  /** Nanoseconds that whoever asked waited, else what the engine states. */
  readonly duration: number | undefined;
  /** Whoever asked got no answer. */
  readonly isFailed: boolean;
  readonly pieces: FoundCheck['pieces'];
}

/** Spans between the one that asks an engine and the one in which the engine answers: SDK, HTTP, proxies. */
const STEPS_BETWEEN_MAX = 8;
/** Decisions whose spans never came for which a call is looked for: one look through the calls for each. */
const GUESSES_MAX = 1000;
/** Statements on tables of roles are each a check of their own. */
const ALONE = 'role_table';

interface Group {
  readonly engine: string;
  /** The span that asks: the topmost one. */
  top: number;
  readonly spans: CheckPiece[];
  readonly logs: (CheckPiece & { readonly evidence: LogRecord })[];
}

function isLog(piece: CheckPiece): piece is CheckPiece & { readonly evidence: LogRecord } {
  return !('kind' in piece.evidence);
}

/** The pieces by check: a client's call, the engine's spans below it, and the decision's log record are one. */
export function groupChecks({ tree, standing }: CheckWorld, pieces: readonly CheckPiece[]): Grouped[] {
  const groups: Group[] = [];
  const bySpan = new Map<number, Group>();
  const spans = pieces.filter((piece) => !isLog(piece)).sort((left, right) => left.index - right.index);
  for (const piece of spans) {
    const { engine } = piece.draft;
    let group = engine === ALONE ? undefined : groupAbove(tree, bySpan, tree.parent[piece.index] ?? NONE, engine);
    if (group === undefined) {
      group = { engine, top: askedBy(tree, standing, piece.index), spans: [], logs: [] };
      groups.push(group);
      bySpan.set(group.top, group);
    }
    group.spans.push(piece);
    bySpan.set(piece.index, group);
  }
  const logs = pieces.filter(isLog).sort((left, right) => ascending(left.evidence.timeNs, right.evidence.timeNs));
  let guesses = 0;
  for (const piece of logs) {
    if (piece.index === NONE) guesses += 1;
    const mayGuess = guesses <= GUESSES_MAX;
    const group = mayGuess ? groupOfLog(tree, groups, bySpan, piece) : undefined;
    if (group !== undefined) group.logs.push(piece);
    else groups.push({ engine: piece.draft.engine, top: NONE, spans: [], logs: [piece] });
  }
  return groups.flatMap((group) => split(group).map((part) => grouped(tree, standing, part)));
}

function groupAbove(
  tree: TraceTree,
  bySpan: ReadonlyMap<number, Group>,
  from: number,
  engine: string,
): Group | undefined {
  let at = from;
  for (let step = 0; at !== NONE && step < STEPS_BETWEEN_MAX; step += 1, at = tree.parent[at] ?? NONE) {
    const group = bySpan.get(at);
    if (group?.engine === engine) return group;
  }
  return undefined;
}

/** The client's span above an engine's own one, which need not look like a check by itself. */
function askedBy(tree: TraceTree, standing: CheckWorld['standing'], index: number): number {
  const above = tree.parent[index] ?? NONE;
  const isAnswer = tree.spans[index]?.kind === SPAN_KIND.server && standing[index] === undefined;
  const isAsked = tree.spans[above]?.kind === SPAN_KIND.client && standing[above] === undefined;
  return isAnswer && isAsked && tree.spans[above]?.note.trusted ? above : index;
}

/** The check that a decision's log record is about: by its span, else by engine and rule, in the order of time. */
function groupOfLog(
  tree: TraceTree,
  groups: readonly Group[],
  bySpan: ReadonlyMap<number, Group>,
  { draft, index, evidence }: CheckPiece & { readonly evidence: LogRecord },
): Group | undefined {
  if (index !== NONE) {
    const group = groupAbove(tree, bySpan, index, draft.engine);
    if (group !== undefined) return group;
  }
  // The application's own record of a check: its span is the request's.
  if (index !== NONE || evidence.spanId === '') return undefined;
  return groups.find(
    ({ engine, spans, logs }) =>
      engine === draft.engine &&
      logs.length === 0 &&
      spans.every(({ draft: said }) => said.rule === undefined || draft.rule === undefined || said.rule === draft.rule),
  );
}

/** One call may ask for many things: each that is told by itself is a check. */
function split(group: Group): Group[] {
  const asked = new Set<string>();
  const all = [...group.spans, ...group.logs];
  for (const { draft } of all) if (isTelling(draft)) asked.add(keyOf(draft));
  if (asked.size < 2 || all.every(({ draft }) => draft.granted === undefined)) return [group];
  const rest = group.spans.filter(({ draft }) => !isTelling(draft));
  return [...asked].slice(0, LIST_ITEMS_MAX).map((key) => ({
    ...group,
    spans: [...rest, ...group.spans.filter(({ draft }) => isTelling(draft) && keyOf(draft) === key)],
    logs: group.logs.filter(({ draft }) => keyOf(draft) === key),
  }));
}

function isTelling({ permission, target }: CheckDraft): boolean {
  return permission !== undefined || target !== undefined;
}

function keyOf({ permission = '', target = '' }: CheckDraft): string {
  return `${permission}\n${target}`;
}

/** What engines log says more than their spans, and these say more than who asked them. */
function strength({ evidence }: CheckPiece): number {
  if (!('kind' in evidence)) return 3;
  return evidence.kind === SPAN_KIND.client ? 0 : evidence.kind === SPAN_KIND.server ? 1 : 2;
}

/** Where a check is looked for its access: what an access says of itself is its own check, what it calls is of the one above. */
function askingPlace(tree: TraceTree, standing: CheckWorld['standing'], top: number): number {
  const kind = tree.spans[top]?.kind;
  const isOwn = standing[top] !== undefined && kind !== SPAN_KIND.client && kind !== SPAN_KIND.producer;
  return isOwn ? top : (tree.parent[top] ?? NONE);
}

function grouped(tree: TraceTree, standing: CheckWorld['standing'], group: Group): Grouped {
  const byStrength = [...group.logs, ...group.spans].sort(
    (left, right) => strength(right) - strength(left) || left.index - right.index,
  );
  let draft: CheckDraft = { engine: group.engine };
  for (const said of byStrength) draft = { ...said.draft, ...draft };
  const [log] = group.logs;
  const named = log?.index ?? NONE;
  const answered = byStrength.find(({ evidence, draft: said }) => 'kind' in evidence && said.granted !== undefined);
  const server = group.spans.find(({ evidence }) => 'kind' in evidence && evidence.kind === SPAN_KIND.server);
  const isAlone = group.spans.length === 0;
  const decided = answered?.index ?? server?.index ?? (isAlone ? NONE : group.top);
  const asks = tree.spans[group.top];
  const below = isAlone ? named : askingPlace(tree, standing, group.top);
  const start = isAlone ? offsetOf(tree, log) : (tree.start[group.top] ?? 0);
  const end = isAlone ? start : (tree.end[group.top] ?? 0);
  return {
    ...{ draft, decided, start, end },
    members: [group.top, ...group.spans.map(({ index }) => index)],
    spanId: log === undefined || log.evidence.spanId === '' ? undefined : log.evidence.spanId,
    below,
    // What an access says of itself took a part of its time.
    duration: isAlone || below === group.top ? draft.duration : end - start,
    isFailed: asks?.statusCode === STATUS_CODE.error,
    pieces: piecesOf(asks, byStrength),
  };
}

function offsetOf(tree: TraceTree, log: { readonly evidence: LogRecord } | undefined): number {
  const timeNs = log?.evidence.timeNs ?? 0n;
  return timeNs > tree.baseNs ? Number(timeNs - tree.baseNs) : 0;
}

function piecesOf(asks: Span | undefined, told: readonly CheckPiece[]): FoundCheck['pieces'] {
  const pieces = told
    .slice(0, LIST_ITEMS_MAX)
    .map(({ evidence, draft }) => ({ piece: evidence, source: `check.${draft.engine}` }));
  const isTold = asks === undefined || told.some(({ evidence }) => evidence === asks);
  return isTold ? pieces : [...pieces, { piece: asks, source: `check.${told[0]?.draft.engine ?? 'span'}` }];
}
