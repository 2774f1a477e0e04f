import { compact } from '../access/attributes.ts';
import type { CheckDraft } from '../access/checks.ts';
import type { LogRecord, Span } from '../core/evidence.ts';
import { LIST_ITEMS_MAX } from '../core/limits.ts';
import type { Check } from '../core/record.ts';
import { answerOf } from './answer.ts';
import { type Grouped, groupChecks } from './check-groups.ts';
import type { Finding } from './findings.ts';
import type { Verdicts } from './path.ts';
import { refusalsOfAccesses } from './status-checks.ts';
import { NONE, type TraceTree } from './trace-tree.ts';

/** A span or log record that tells of a check; `index` is the span's, or that of the span that the record names; or NONE. */
export interface CheckPiece {
  readonly evidence: Span | LogRecord;
  readonly index: number;
  readonly draft: CheckDraft;
}

/** A check as the trace tells it. */
export interface FoundCheck {
  readonly check: Check;
  /** `decision`: somebody was asked; `database`, `status`: an access was refused, and nothing says that anybody was asked. */
  readonly kind: 'decision' | 'database' | 'status';
  /** The span that decided; NONE when it never came. */
  readonly index: number;
  /** Nanoseconds after the trace's base. */
  readonly start: number;
  /** Why it was not granted, in the engine's own words. */
  readonly reason?: string;
  /** The access that states it, where one does. */
  readonly stated?: Finding;
  readonly pieces: readonly { readonly piece: Span | LogRecord; readonly source: string }[];
}

export interface TraceChecks {
  /** The checks of an access and of those below it, in the order of time; of too many the refused ones stay. */
  readonly of: (finding: Finding) => readonly FoundCheck[];
  /** The check for which an access was refused. */
  readonly refusing: (finding: Finding) => FoundCheck | undefined;
  /** Spans that decided and did not grant. */
  readonly refusedAt: ReadonlySet<number>;
}

/** What the checks of a trace are told from. */
export interface CheckWorld {
  readonly tree: TraceTree;
  readonly list: readonly Finding[];
  readonly standing: readonly (Finding | undefined)[];
  readonly entries: ReadonlyMap<Finding, Finding>;
  readonly origins: Int32Array;
  readonly verdicts: Verdicts;
}

/** Accesses above a check, from the nearest one, whose records tell of it; the entry's does in any case. */
const ACCESSES_ABOVE_MAX = 16;
/** Checks remembered of one access: a loop may ask thousands of times. */
const CHECKS_MAX = 4 * LIST_ITEMS_MAX;

type Own = Map<Finding, FoundCheck[]>;
type Nearest = readonly (Finding | undefined)[];

const NO_CHECKS: TraceChecks = { of: () => [], refusing: () => undefined, refusedAt: new Set() };

/** Does an access state a check, or may its end be one? */
function tellsOfCheck({ access }: Finding): boolean {
  return access.decision === 'deny' || (access.checks !== undefined && access.checks.length > 0);
}

/** All checks of a trace, with the accesses that they belong to. */
export function gatherChecks(world: CheckWorld, pieces: readonly CheckPiece[]): TraceChecks {
  if (pieces.length === 0 && !world.list.some(tellsOfCheck)) return NO_CHECKS;
  const own: Own = new Map();
  for (const finding of world.list) {
    for (const check of finding.access.checks ?? []) add(own, finding, explicitCheck(world, finding, check));
  }
  const nearest = nearestAccesses(world);
  if (pieces.length > 0) addDecisions(world, own, groupChecks(world, pieces), nearest);
  const asked = own.size === 0 ? own : propagate(world, own, nearest);
  const isAsked = (finding: Finding): boolean => refusingCheck(world, own, asked, finding) !== undefined;
  for (const { owner, found } of [...refusalsOfAccesses(world, isAsked)]) add(own, owner, found);
  const all = own.size === 0 ? own : propagate(world, own, nearest);
  const refusedAt = new Set<number>();
  for (const found of own.values()) for (const { check, index } of found) if (!check.granted) refusedAt.add(index);
  return {
    of: (finding) => all.get(finding) ?? [],
    refusing: (finding) => (own.size === 0 ? undefined : refusingCheck(world, own, all, finding)),
    refusedAt,
  };
}

function add(to: Own, finding: Finding, found: FoundCheck): void {
  const known = to.get(finding);
  if (known === undefined) to.set(finding, [found]);
  else if (known.length < CHECKS_MAX || !found.check.granted) known.push(found);
}

function explicitCheck({ tree }: CheckWorld, finding: Finding, check: Check): FoundCheck {
  const index = check.span_id === undefined ? NONE : (tree.indexOf.get(check.span_id) ?? NONE);
  const start = index === NONE ? Number(finding.access.startNs - tree.baseNs) : (tree.start[index] ?? 0);
  return { check, kind: 'decision', index, start, stated: finding, pieces: [] };
}

/** For each span the nearest access of a trusted sender at it or above it. */
function nearestAccesses({ tree, standing }: CheckWorld): (Finding | undefined)[] {
  const nearest: (Finding | undefined)[] = [];
  for (let index = 0; index < tree.spans.length; index += 1) {
    const own = standing[index];
    nearest.push(own?.trusted ? own : nearest[tree.parent[index] ?? NONE]);
  }
  return nearest;
}

function addDecisions(world: CheckWorld, own: Own, groups: readonly Grouped[], nearest: Nearest): void {
  const byOwner = new Map<Finding, Grouped[]>();
  const first = world.list.find((finding) => finding.trusted && !world.entries.has(finding) && finding.index !== NONE);
  for (const group of groups) {
    const owner = group.below === NONE ? first : nearest[group.below];
    if (owner === undefined) continue;
    const known = byOwner.get(owner);
    if (known) known.push(group);
    else byOwner.set(owner, [group]);
  }
  for (const [owner, asked] of byOwner) {
    const known = own.get(owner) ?? [];
    const granted = inferGranted(world, owner, asked, refusedDecision(known) !== undefined);
    for (const group of asked) {
      const isGranted = granted.get(group);
      if (isGranted === undefined) continue;
      const found = foundCheck(world, owner, group, isGranted);
      const same = known.findIndex(({ check }) => isSame(check, found.check));
      if (same < 0) add(own, owner, found);
      else known[same] = joined(known[same] ?? found, found);
    }
  }
}

function foundCheck({ tree }: CheckWorld, owner: Finding, group: Grouped, granted: boolean): FoundCheck {
  const { draft, decided } = group;
  const { action, target } = owner.access;
  const check: Check = compact({
    permission: draft.permission ?? (draft.ofRequest ? action : undefined),
    target: draft.target ?? (draft.ofRequest ? target.id : undefined),
    granted,
    rule: draft.rule,
    span_id: tree.spans[decided]?.spanId ?? group.spanId,
    duration: group.duration,
    inferred: draft.granted === undefined ? (true as const) : undefined,
    engine: draft.engine,
  });
  const { start, pieces } = group;
  return {
    ...{ check, kind: 'decision', index: decided, start, pieces },
    ...(draft.reason !== undefined && !granted && { reason: draft.reason }),
  };
}

/** What an event states and what a span tells of one check: the same span, or the same permission for the same target. */
function isSame(stated: Check, found: Check): boolean {
  if (stated.engine !== undefined && stated.engine !== found.engine) return false;
  if (stated.span_id !== undefined) return stated.span_id === found.span_id;
  return (
    stated.permission !== undefined &&
    stated.permission === found.permission &&
    (stated.target === undefined || stated.target === found.target) &&
    (stated.granted === found.granted || found.inferred === true)
  );
}

function joined(stated: FoundCheck, found: FoundCheck): FoundCheck {
  const { inferred: _, ...rest } = found.check;
  return { ...found, ...(stated.stated && { stated: stated.stated }), check: { ...rest, ...stated.check } };
}

/**
 * How checks ended that do not say so: an access that was refused was so for the last thing that it asked, unless a check that does
 * say so or something that it called explains it; one that failed was not granted what could not be answered; else it went on, so
 * that it was granted. Without an entry: nothing tells.
 */
function inferGranted(
  world: CheckWorld,
  owner: Finding,
  asked: readonly Grouped[],
  isRefusalKnown: boolean,
): ReadonlyMap<Grouped, boolean> {
  const granted = new Map<Grouped, boolean>();
  const { outcome, decision } = owner.access;
  let last: Grouped | undefined;
  let isExplained = isRefusalKnown;
  for (const group of asked) {
    if (group.draft.granted !== undefined) {
      granted.set(group, group.draft.granted);
      isExplained ||= !group.draft.granted;
    } else if (last === undefined || group.end >= last.end) last = group;
  }
  if (outcome === 'unknown' && decision === 'none') return granted;
  isExplained ||= explainsBelow(world, owner, asked);
  for (const group of asked) {
    if (group.draft.granted !== undefined) continue;
    const isRefused = decision === 'deny' ? group === last && !isExplained : outcome === 'failure' && group.isFailed;
    granted.set(group, !isRefused);
  }
  return granted;
}

/** Was the access refused because of another one below it? */
function explainsBelow({ tree, origins, verdicts }: CheckWorld, owner: Finding, asked: readonly Grouped[]): boolean {
  const origin = origins[owner.index] ?? NONE;
  if (origin === NONE || origin === owner.index) return false;
  const span = tree.spans[origin];
  if (asked.some(({ members }) => members.includes(origin))) return false;
  return verdicts(origin)?.decision === 'deny' || (span !== undefined && answerOf(span, undefined)?.isRefusal === true);
}

function byTime(left: FoundCheck, right: FoundCheck): number {
  return left.start - right.start || left.index - right.index;
}

/** Each access with its own checks and those of the accesses below it. */
function propagate(world: CheckWorld, own: Own, nearest: Nearest): Own {
  const all: Own = new Map();
  for (const [finding, checks] of own) {
    const above = new Set([finding]);
    let at: Finding | undefined = finding;
    while (at !== undefined && at.index !== NONE && above.size < ACCESSES_ABOVE_MAX) {
      at = nearest[world.tree.parent[at.index] ?? NONE];
      if (at !== undefined) above.add(at);
    }
    const entry = world.entries.get(finding);
    if (entry !== undefined) above.add(entry);
    for (const each of above) for (const check of checks) add(all, each, check);
  }
  for (const [finding, checks] of all) {
    const kept = checks.length <= LIST_ITEMS_MAX ? checks : mostTelling(checks);
    all.set(finding, kept.toSorted(byTime));
  }
  return all;
}

function mostTelling(checks: readonly FoundCheck[]): FoundCheck[] {
  const rank = ({ check }: FoundCheck) => Number(check.granted);
  return checks.toSorted((left, right) => rank(left) - rank(right) || byTime(left, right)).slice(0, LIST_ITEMS_MAX);
}

/** The last check that was not granted: the access ended there. Of several at one time the first that was stated. */
function refusedDecision(checks: readonly FoundCheck[] | undefined): FoundCheck | undefined {
  let last: FoundCheck | undefined;
  for (const found of checks ?? []) {
    if (found.kind !== 'decision' || found.check.granted) continue;
    if (last === undefined || found.start > last.start) last = found;
  }
  return last;
}

/** Its own, else that of the refused access below that explains it, else, where none does, the last one below. */
function refusingCheck(world: CheckWorld, own: Own, all: Own, finding: Finding): FoundCheck | undefined {
  if (finding.access.decision !== 'deny') return undefined;
  const mine = refusedDecision(own.get(finding));
  if (mine !== undefined) return mine;
  const origin = world.standing[world.origins[finding.index] ?? NONE];
  if (origin !== undefined && origin !== finding && origin.access.decision === 'deny') {
    const below = refusedDecision(own.get(origin));
    if (below !== undefined || origin.access.sections.db !== undefined) return below;
  }
  return refusedDecision(all.get(finding));
}
