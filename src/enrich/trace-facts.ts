import { clip, exceptionOf } from '../access/attributes.ts';
import { type EvidenceBeyond, type LogRecord, SPAN_KIND, type Span, STATUS_CODE } from '../core/evidence.ts';
import { LIST_ITEMS_MAX } from '../core/limits.ts';
import type { PathStep } from '../core/record.ts';
import { type CheckPiece, gatherChecks, type TraceChecks } from './checks.ts';
import { errorOrigins } from './error-origin.ts';
import type { Finding } from './findings.ts';
import { pathHeads, pathStep, type Verdicts } from './path.ts';
import { gatherPurposes } from './purposes.ts';
import { correctSkew, type Timeline } from './skew.ts';
import { NONE, type TraceTree } from './trace-tree.ts';
import { serviceName } from './where.ts';

/** Database work in the spans below a span. */
interface DatabaseWork {
  readonly count: Int32Array;
  /** Sum of the statements' durations, nanoseconds. */
  readonly duration: Float64Array;
  /** Index of the slowest statement's span, or NONE. */
  readonly slowest: Int32Array;
}

/** What is found out once for a whole trace, so that each record only looks it up. */
export interface TraceFacts {
  readonly namespace: string;
  readonly traceId: string;
  readonly tree: TraceTree;
  readonly timeline: Timeline;
  readonly heads: Int32Array;
  readonly verdicts: Verdicts;
  /** The access that stands for a span, by index. */
  readonly standing: readonly (Finding | undefined)[];
  readonly origins: Int32Array;
  readonly databaseWork: DatabaseWork;
  /** The topmost access above each access; entries are not in it. */
  readonly entries: ReadonlyMap<Finding, Finding>;
  readonly checks: TraceChecks;
  /** What an access is for, as far as it is told. */
  readonly purposeOf: (finding: Finding) => string | undefined;
  /** Below each entry the first event that states a refusal. */
  readonly refusals: ReadonlyMap<Finding, Finding>;
  readonly logsBySpan: ReadonlyMap<string, readonly LogRecord[]>;
  /**
   * The only server span or entry that failed, with the exceptions of the trace that no span was named for: they can only tell
   * of it.
   */
  readonly loneFailure: { readonly index: number; readonly logs: readonly LogRecord[] } | undefined;
  /** Tells parameters of addresses whose values must not be stored by their names. */
  readonly isSecret: (name: string) => boolean;
  /** What each log record is known by: the event's own id, else its digest. */
  readonly logIds: ReadonlyMap<LogRecord, string>;
  /** From the first start to the last end, on the corrected clock, nanoseconds. */
  readonly duration: number;
  /** Of the whole trace. */
  readonly spanCount: number;
  readonly errorCount: number;
  readonly services: string[];
  readonly root: { service?: string; name: string } | undefined;
  /** The step of a path that a span is; made once. */
  readonly stepAt: (index: number) => PathStep;
  readonly beyond: EvidenceBeyond | undefined;
}

function standingFindings(tree: TraceTree, list: readonly Finding[]): (Finding | undefined)[] {
  const standing = new Array<Finding | undefined>(tree.spans.length);
  for (const finding of list) if (finding.index !== NONE && finding.standsForSpan) standing[finding.index] = finding;
  return standing;
}

/**
 * The topmost access above each access. Above a trusted access only trusted ones count: else a browser could hide
 * what a person did by claiming to be its parent. Where several events share a span that is no access itself, what
 * happened below belongs to the first of them.
 */
function entriesOf(
  tree: TraceTree,
  list: readonly Finding[],
  standing: readonly (Finding | undefined)[],
): Map<Finding, Finding> {
  const owners = [...standing];
  for (const finding of list) if (finding.index !== NONE) owners[finding.index] ??= finding;
  const topTrusted = new Array<Finding | undefined>(tree.spans.length);
  const topOfAny = new Array<Finding | undefined>(tree.spans.length);
  for (let index = 0; index < tree.spans.length; index += 1) {
    const above = tree.parent[index] ?? NONE;
    if (above === NONE) continue;
    const owner = owners[above];
    topOfAny[index] = topOfAny[above] ?? owner;
    topTrusted[index] = topTrusted[above] ?? (owner?.trusted ? owner : undefined);
  }
  const entries = new Map<Finding, Finding>();
  for (const finding of list) {
    if (finding.index === NONE) continue;
    const sharer = standing[finding.index];
    const beside = sharer !== finding && (sharer?.trusted || !finding.trusted) ? sharer : undefined;
    const entry = (finding.trusted ? topTrusted : topOfAny)[finding.index] ?? beside;
    if (entry !== undefined) entries.set(finding, entry);
  }
  return entries;
}

function databaseWorkOf(tree: TraceTree, standing: readonly (Finding | undefined)[]): DatabaseWork {
  const count = new Int32Array(tree.spans.length);
  const duration = new Float64Array(tree.spans.length);
  const slowest = new Int32Array(tree.spans.length).fill(NONE);
  const took = (index: number): number => (tree.end[index] ?? 0) - (tree.start[index] ?? 0);
  const offer = (to: number, index: number): void => {
    const known = slowest[to] ?? NONE;
    if (index !== NONE && (known === NONE || took(index) >= took(known))) slowest[to] = index;
  };
  for (let index = tree.spans.length - 1; index >= 0; index -= 1) {
    const above = tree.parent[index] ?? NONE;
    if (above === NONE) continue;
    const own = standing[index]?.access.sections.db !== undefined;
    count[above] = (count[above] ?? 0) + (count[index] ?? 0) + Number(own);
    duration[above] = (duration[above] ?? 0) + (duration[index] ?? 0) + (own ? took(index) : 0);
    offer(above, slowest[index] ?? NONE);
    if (own) offer(above, index);
  }
  return { count, duration, slowest };
}

const NO_REFUSALS: ReadonlyMap<Finding, Finding> = new Map();

function refusalsOf(list: readonly Finding[], entries: ReadonlyMap<Finding, Finding>): ReadonlyMap<Finding, Finding> {
  let refusals: Map<Finding, Finding> | undefined;
  for (const finding of list) {
    const { source, decision } = finding.access;
    if (source !== 'event' || decision !== 'deny') continue;
    const entry = entries.get(finding);
    refusals ??= new Map();
    if (entry !== undefined && !refusals.has(entry)) refusals.set(entry, finding);
  }
  return refusals ?? NO_REFUSALS;
}

function isFailing(tree: TraceTree, verdicts: Verdicts, index: number): boolean {
  return tree.spans[index]?.statusCode === STATUS_CODE.error || verdicts(index)?.outcome === 'failure';
}

function loneFailureOf(
  tree: TraceTree,
  verdicts: Verdicts,
  isEntry: (index: number) => boolean,
  logs: Iterable<LogRecord>,
): TraceFacts['loneFailure'] {
  const strays: LogRecord[] = [];
  for (const log of logs) if (log.spanId === '' && exceptionOf(log) !== undefined) strays.push(log);
  if (strays.length === 0) return undefined;
  let lone = NONE;
  for (let index = 0; index < tree.spans.length; index += 1) {
    const isServer = tree.spans[index]?.kind === SPAN_KIND.server;
    if (!(isServer || isEntry(index)) || !isFailing(tree, verdicts, index)) continue;
    if (lone !== NONE) return undefined;
    lone = index;
  }
  return lone === NONE ? undefined : { index: lone, logs: strays };
}

function spread(timeline: Timeline): number {
  let [first, last] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  const { start, end } = timeline;
  for (let index = 0; index < start.length; index += 1) {
    first = Math.min(first, start[index] as number);
    last = Math.max(last, end[index] as number);
  }
  return last >= first ? last - first : 0;
}

/** The service of all spans; undefined where there are several, or a span names none. */
function onlyService({ spans }: TraceTree): string | undefined {
  const only = spans[0] && serviceName(spans[0].resource);
  for (const { resource } of spans) if (serviceName(resource) !== only) return undefined;
  return only;
}

function servicesOf(tree: TraceTree, beyond: EvidenceBeyond | undefined): string[] {
  const only = beyond === undefined ? onlyService(tree) : undefined;
  if (only !== undefined) return [only];
  const names = new Set(beyond?.services);
  for (const { resource } of tree.spans) {
    const name = serviceName(resource);
    if (name !== undefined) names.add(name);
  }
  return [...names].sort().slice(0, LIST_ITEMS_MAX);
}

function rootOf(tree: TraceTree): TraceFacts['root'] {
  const root = tree.spans[tree.root];
  const service = root && serviceName(root.resource);
  return root && { ...(service && { service }), name: clip(root.name) };
}

/** A span in which a check was not granted refused, though it answered well. */
function checkedStep(step: PathStep, isRefused: boolean): PathStep {
  return isRefused ? { ...step, status: 'denied' } : step;
}

/** What is known of a trace before its facts are gathered; `checkPieces` in an order that depends on the set of evidence alone. */
interface Given extends Pick<TraceFacts, 'logsBySpan' | 'logIds' | 'isSecret' | 'beyond'> {
  readonly checkPieces: readonly CheckPiece[];
  readonly purposeIn: (piece: Span | LogRecord) => string | undefined;
}

export function gatherFacts(
  namespace: string,
  traceId: string,
  tree: TraceTree,
  list: readonly Finding[],
  { logsBySpan, logIds, isSecret, beyond, checkPieces, purposeIn }: Given,
): TraceFacts {
  const standing = standingFindings(tree, list);
  const verdicts: Verdicts = (index) => standing[index]?.access;
  const timeline = correctSkew(tree);
  const entries = entriesOf(tree, list, standing);
  const isEntry = (index: number): boolean => {
    const finding = standing[index];
    return finding !== undefined && !entries.has(finding);
  };
  const origins = errorOrigins(tree, verdicts);
  const checks = gatherChecks({ tree, list, standing, entries, origins, verdicts }, checkPieces);
  const steps: (PathStep | undefined)[] = [];
  let errorCount = beyond?.errors ?? 0;
  for (let index = 0; index < tree.spans.length; index += 1) errorCount += Number(isFailing(tree, verdicts, index));
  return {
    namespace,
    traceId,
    tree,
    timeline,
    heads: pathHeads(tree),
    verdicts,
    standing,
    origins,
    databaseWork: databaseWorkOf(tree, standing),
    entries,
    checks,
    purposeOf: gatherPurposes(tree, purposeIn),
    refusals: refusalsOf(list, entries),
    logsBySpan,
    logIds,
    isSecret,
    loneFailure: loneFailureOf(tree, verdicts, isEntry, logIds.keys()),
    duration: spread(timeline),
    spanCount: tree.spans.length + (beyond?.spans ?? 0),
    errorCount,
    services: servicesOf(tree, beyond),
    root: rootOf(tree),
    stepAt: (index) => {
      steps[index] ??= checkedStep(pathStep(tree, timeline, verdicts, index), checks.refusedAt.has(index));
      return steps[index];
    },
    beyond,
  };
}
