import type { Access, Actor } from '../access/access.ts';
import { SPAN_KIND, type Span, type TraceEvidence } from '../core/evidence.ts';
import type { TraceTie } from '../core/record.ts';
import type { EventAccess, Finding } from './findings.ts';
import { ascending, sorted } from './order.ts';
import { NONE, type TraceTree } from './trace-tree.ts';

/** How a log record without a trace id of its own came into its trace. As the tie at admission writes it. */
export const TIE_KEY = 'spantrail.tie';

/** The least sure first: a record says how sure its weakest piece is. */
const TIES: readonly TraceTie[] = ['session', 'text', 'application_name', 'transaction', 'statement'];

/**
 * How far a database's clock and log may be from its client's span for a line of which only the session is known: a second,
 * since clocks are kept together far better than that, and statements of other requests seldom come so close.
 */
const CLOCKS_APART_NS_MAX = 1_000_000_000n;

/**
 * Lines of one trace for which a call is looked for. One comparison for each pair of them, so that a trace made of nothing else
 * must not hold up the others; what is beyond keeps records of its own.
 */
const GUESSES_MAX = 1000;

/** The tie of a piece of evidence; undefined when it brought its trace id itself. */
export function tieOf({ from }: Access): TraceTie | undefined {
  const tie = from.attributes.get(TIE_KEY);
  return TIES.find((known) => known === tie);
}

/** The least sure tie among these; undefined when all of them brought their trace ids. */
export function weakestTie(pieces: Finding['pieces']): TraceTie | undefined {
  let weakest = TIES.length;
  for (let at = 0; at < pieces.length; at += 1) {
    const piece = pieces[at];
    if (piece === undefined || 'kind' in piece) continue;
    const rank = TIES.indexOf(piece.attributes.get(TIE_KEY) as TraceTie);
    if (rank >= 0 && rank < weakest) weakest = rank;
  }
  return TIES[weakest];
}

/**
 * Finds for each access that a database tells of itself the client's span that it is the other side of (`witnessOf`). A
 * traceparent names that span, or the one above it, as the language has it; a session names none, so that statement and time
 * must fit. What belongs to no request is the deed of the login. Pure: the answer depends on the set of evidence alone.
 */
export function placeTestimony(
  { traceId, beyond }: Pick<TraceEvidence, 'traceId' | 'beyond'>,
  tree: TraceTree,
  spanAccesses: readonly (Access | undefined)[],
  given: readonly EventAccess[],
): readonly EventAccess[] {
  if (!given.some(({ access }) => access.outOfBand)) return given;
  const calls = callsOf(tree, spanAccesses);
  const taken = new Set<number>();
  const placed = new Map<EventAccess, EventAccess>();
  const testimony = sorted(
    given.filter(({ access }) => access.outOfBand),
    (left, right) =>
      ascending(left.access.startNs, right.access.startNs) || ascending(left.piece.digest, right.piece.digest),
  );
  // Those that name their span come first: what others are guessed to be must not take it from them.
  for (const event of testimony) {
    const named = namedCall(event.access, tree, spanAccesses);
    if (named === NONE) continue;
    taken.add(named);
    placed.set(event, asWitness(event, tree, named));
  }
  let guesses = traceId === '' ? 0 : GUESSES_MAX;
  for (const event of testimony) {
    if (placed.has(event)) continue;
    const found = guesses-- <= 0 ? NONE : fittingCall(event.access, { tree, spanAccesses, calls, taken });
    if (found !== NONE) taken.add(found);
    const { spanId } = event.access;
    const isExplained =
      !isOutOfBand(event.access, traceId, undefined) &&
      (spanId === '' || tree.indexOf.has(spanId) || beyond?.named.has(spanId) === true);
    placed.set(event, found === NONE ? withoutCall(event, isExplained) : asWitness(event, tree, found));
  }
  return given.map((event) => placed.get(event) ?? event);
}

/** What a browser or a stranger says is nobody's other side. */
function isDatabaseCall(span: Span | undefined, access: Access | undefined): boolean {
  return span?.kind === SPAN_KIND.client && span.note.trusted && access?.sections.db !== undefined;
}

/** The client's span that a statement's comment names itself. */
function namedCall(access: Access, tree: TraceTree, spanAccesses: readonly (Access | undefined)[]): number {
  const index = tree.indexOf.get(access.spanId) ?? NONE;
  const isCall = isDatabaseCall(tree.spans[index], spanAccesses[index]);
  const tie = tieOf(access);
  // A connection's name may still be that of an earlier statement.
  return isCall && (tie === undefined || tie === 'statement' || fits(access, spanAccesses[index])) ? index : NONE;
}

interface Calls {
  readonly tree: TraceTree;
  readonly spanAccesses: readonly (Access | undefined)[];
  /** Indexes of the spans that are calls of a database, by what a line must have in common with them. */
  readonly calls: ReadonlyMap<string, readonly number[]>;
  readonly taken: ReadonlySet<number>;
}

/** Of the calls below the span that is named, or of all when none is, the one that fits and is nearest in time. */
function fittingCall(access: Access, { tree, spanAccesses, calls, taken }: Calls): number {
  const above = tree.indexOf.get(access.spanId) ?? NONE;
  if (above === NONE && access.spanId !== '') return NONE;
  const mustBeNear = tieOf(access) === 'session';
  let best = NONE;
  let least = 0n;
  const fitting = keysOf(access).flatMap((key) => calls.get(key) ?? []);
  for (const index of fitting) {
    if (taken.has(index)) continue;
    if (above !== NONE && !isBelow(tree, index, above)) continue;
    const apart = apartNs(access, spanAccesses[index]);
    if (mustBeNear && apart > CLOCKS_APART_NS_MAX) continue;
    if (best !== NONE && apart >= least) continue;
    best = index;
    least = apart;
  }
  return best;
}

function callsOf(tree: TraceTree, spanAccesses: readonly (Access | undefined)[]): Map<string, number[]> {
  const calls = new Map<string, number[]>();
  tree.spans.forEach((span, index) => {
    const access = spanAccesses[index];
    if (access === undefined || !isDatabaseCall(span, access)) return;
    for (const key of keysOf(access)) {
      const known = calls.get(key);
      if (known) known.push(index);
      else calls.set(key, [index]);
    }
  });
  return calls;
}

/** A line and a call fit that are of the same statement, or the same deed to the same target. */
function keysOf({ action, target, sections }: Access): string[] {
  const deed = `deed ${action} ${target.id}`.toLowerCase();
  const statement = sections.db?.statement;
  return statement === undefined ? [deed] : [deed, `statement ${statement}`];
}

function fits(testimony: Access, call: Access | undefined): boolean {
  if (call === undefined) return false;
  const keys = keysOf(call);
  return keysOf(testimony).some((key) => keys.includes(key));
}

/** Nanoseconds between a line's time and its client's span; 0 inside of it. */
function apartNs({ endNs }: Access, call: Access | undefined): bigint {
  if (call === undefined || (endNs >= call.startNs && endNs <= call.endNs)) return 0n;
  return endNs < call.startNs ? call.startNs - endNs : endNs - call.endNs;
}

function isBelow(tree: TraceTree, index: number, above: number): boolean {
  const depth = tree.depth[above] ?? 0;
  let at = index;
  while (at !== NONE && (tree.depth[at] ?? 0) > depth) at = tree.parent[at] ?? NONE;
  return at === above && index !== above;
}

/** Where its client was is told by the span: what a database sees is the address of the service. */
function asWitness({ access, piece }: EventAccess, tree: TraceTree, index: number): EventAccess {
  const { source: _, ...sections } = access.sections;
  const spanId = tree.spans[index]?.spanId ?? '';
  return { access: { ...access, spanId, sections }, piece, witnessOf: index };
}

/** A span that is named and not there may be made up: no person of the trace is held to account for it, the login is. */
function withoutCall({ access, piece }: EventAccess, isExplained: boolean): EventAccess {
  if (!isExplained && access.from.note.trusted) {
    const login = access.effective;
    const { effective: _, ...rest } = access;
    const isStated = access.actor !== undefined || login === undefined || access.claimedAccount !== undefined;
    return { access: isStated ? access : { ...rest, actor: asActor(login) }, piece };
  }
  const { source: _, ...sections } = access.sections;
  return { access: { ...access, sections }, piece };
}

/** Whom a database tells of where nothing else tells who it was: its own login. */
export function actorOrLogin(actor: Actor, access: Access): Actor {
  const { effective, from } = access;
  const isKnown = actor.attribution !== 'none' || actor.claimed !== undefined;
  if (isKnown || access.outOfBand !== true || effective === undefined || !from.note.trusted) return actor;
  const identity = asActor(effective);
  const named = [{ by: from, as: 'explicit' }] as const;
  return { identity, type: 'user', attribution: 'explicit', verified: from.note.vouches, named };
}

function asActor({ id, name }: NonNullable<Access['effective']>): NonNullable<Access['actor']> {
  const known = id ?? name;
  return { ...(known === undefined ? {} : { id: known }), ...(name === undefined ? {} : { name }) };
}

/**
 * Somebody went around the application: the database tells of an access that no request explains. To have used the same
 * session as a request before explains nothing by itself.
 */
export function isOutOfBand(access: Access, traceId: string, witnessOf: number | undefined): boolean {
  if (access.outOfBand !== true || !access.from.note.trusted) return false;
  return traceId === '' || (tieOf(access) === 'session' && witnessOf === undefined);
}

/** Where the application's own event says that all went well and a database below it refused, both are kept, and it is said. */
export function withRefusals(tree: TraceTree, list: readonly Finding[]): readonly Finding[] {
  const claims = list.filter(
    ({ access, index, trusted }) =>
      access.source === 'event' && !access.outOfBand && trusted && index !== NONE && access.outcome === 'success',
  );
  if (claims.length === 0) return list;
  const refused = new Array<Finding | undefined>(tree.spans.length);
  for (const finding of list) {
    const { access, index, trusted } = finding;
    const isRefusal = trusted && index !== NONE && access.decision === 'deny' && access.sections.db !== undefined;
    if (isRefusal) refused[index] ??= finding;
  }
  // Children come behind their parents.
  const below = new Array<Finding | undefined>(tree.spans.length);
  for (let index = tree.spans.length - 1; index >= 0; index -= 1) {
    const above = tree.parent[index] ?? NONE;
    if (above !== NONE) below[above] = refused[index] ?? below[index] ?? below[above];
  }
  const claiming = new Set(claims);
  return list.map((finding) => {
    const refusal = claiming.has(finding) ? below[finding.index]?.access : undefined;
    if (refusal === undefined) return finding;
    const text = `outcome: the event says success, the database refused ${refusal.action} on ${refusal.target.id}`;
    return { ...finding, conflicts: [...finding.conflicts, text] };
  });
}
