import type { Access, AccessDraft } from '../access/access.ts';
import type { LogRecord } from '../core/evidence.ts';
import { LIST_ITEMS_MAX } from '../core/limits.ts';
import type { Finding, Findings } from './findings.ts';
import { mergeSections } from './merge.ts';
import { ascending } from './order.ts';
import { NONE, type TraceTree } from './trace-tree.ts';

/** Spans between the two ends of one call: transports, queues, frameworks. */
const STEPS_BETWEEN_MAX = 16;

interface World {
  readonly tree: TraceTree;
  readonly standing: ReadonlyMap<number, Finding>;
  /** How many operations of GraphQL belong to each request. */
  readonly operations: ReadonlyMap<Finding, number>;
  readonly decisions: ReadonlySet<LogRecord>;
}

/**
 * Makes one access of what is one though several pieces state it: both ends of a tool's call, a request and the GraphQL operation that
 * it carries, a request and the decision of a policy engine about it. The record is that of the outermost; what the others had
 * published alone is superseded by it.
 */
export function absorbAccesses(tree: TraceTree, findings: Findings, decisions: ReadonlySet<LogRecord>): Findings {
  const isOf = (preset: string) => findings.list.some(({ access }) => access.preset === preset);
  if (decisions.size === 0 && !isOf('gen_ai.tool') && !isOf('graphql')) return findings;
  const standing = new Map<number, Finding>();
  for (const finding of findings.list) {
    const isDecision = finding.access.source === 'event' && decisions.has(finding.access.from);
    if (finding.standsForSpan && finding.index !== NONE && !isDecision) standing.set(finding.index, finding);
  }
  const operations = new Map<Finding, number>();
  const world: World = { tree, standing, operations, decisions };
  for (const finding of findings.list) {
    const request = finding.access.preset === 'graphql' ? requestOf(world, finding) : undefined;
    if (request !== undefined) operations.set(request, (operations.get(request) ?? 0) + 1);
  }
  const hosts = new Map<Finding, Finding>();
  for (const finding of findings.list) {
    const host = hostOf(world, finding);
    if (host !== undefined && host !== finding) hosts.set(finding, host);
  }
  return hosts.size === 0 ? findings : merged(findings, hosts);
}

function hostOf(world: World, finding: Finding): Finding | undefined {
  const { access } = finding;
  if (access.source === 'event') return world.decisions.has(access.from) ? askedFor(world, finding) : undefined;
  if (access.preset === 'gen_ai.tool') return callerOf(world, finding);
  const request = access.preset === 'graphql' ? requestOf(world, finding) : undefined;
  return request !== undefined && world.operations.get(request) === 1 ? request : undefined;
}

/** The nearest access above a span; only one of as much trust, so that nobody takes another's record. */
function nearestAbove({ tree, standing }: World, { index, trusted }: Finding): Finding | undefined {
  let at = tree.parent[index] ?? NONE;
  for (let step = 0; at !== NONE && step < STEPS_BETWEEN_MAX; step += 1, at = tree.parent[at] ?? NONE) {
    const finding = standing.get(at);
    if (finding?.trusted === trusted) return finding;
  }
  return undefined;
}

/** The access that a policy engine was asked about; one that never came leaves the decision a record of its own. */
function askedFor(world: World, finding: Finding): Finding | undefined {
  if (!finding.trusted) return undefined;
  const own = world.standing.get(finding.index);
  if (own?.trusted) return own;
  if (finding.index !== NONE) return nearestAbove(world, finding);
  for (const entry of world.standing.values()) if (entry.trusted) return entry;
  return undefined;
}

/** The span in which the same tool was called: the model's host, or the client of the protocol. */
function callerOf({ tree, standing }: World, { access, index, trusted }: Finding): Finding | undefined {
  let at = tree.parent[index] ?? NONE;
  for (let step = 0; at !== NONE && step < STEPS_BETWEEN_MAX; step += 1, at = tree.parent[at] ?? NONE) {
    const above = standing.get(at);
    if (above?.access.preset !== 'gen_ai.tool' || above.trusted !== trusted) continue;
    const { action, target } = above.access;
    return action === access.action && target.id === access.target.id ? above : undefined;
  }
  return undefined;
}

/** The HTTP request that carried an operation of GraphQL. */
function requestOf(world: World, finding: Finding): Finding | undefined {
  const above = nearestAbove(world, finding);
  const isSameService = above?.access.target.service === finding.access.target.service;
  return above?.access.preset === 'http.server' && isSameService ? above : undefined;
}

function merged({ list, superseded }: Findings, hosts: ReadonlyMap<Finding, Finding>): Findings {
  const topmost = (finding: Finding): Finding => {
    let at = finding;
    for (let host = hosts.get(at); host !== undefined; host = hosts.get(at)) at = host;
    return at;
  };
  const joined = new Map<Finding, Finding>();
  const gone = new Map<string, string>();
  for (const finding of list) {
    if (!hosts.has(finding)) continue;
    const host = topmost(finding);
    gone.set(finding.id, host.id);
    joined.set(host, join(joined.get(host) ?? host, finding));
  }
  const aliases = [...superseded].map(([id, standsFor]): [string, string] => [id, gone.get(standsFor) ?? standsFor]);
  return {
    list: list.filter((finding) => !hosts.has(finding)).map((finding) => joined.get(finding) ?? finding),
    superseded: new Map([...aliases, ...gone].sort(([left], [right]) => ascending(left, right))),
  };
}

function join(host: Finding, inner: Finding): Finding {
  // Decisions are told as checks, with what they rest on.
  if (inner.access.source === 'event') return host;
  const more =
    inner.access.preset === 'graphql' ? asOperation(host.access, inner.access) : asCall(host.access, inner.access);
  return {
    ...host,
    access: { ...host.access, ...more },
    pieces: [...host.pieces, ...inner.pieces],
    evidence: [...host.evidence, ...inner.evidence].slice(0, LIST_ITEMS_MAX),
    conflicts: [...host.conflicts, ...inner.conflicts],
  };
}

/** How an access ended, of two that tell: who was refused was, then who failed did. */
function endOf(outer: Access, inner: Access): Partial<AccessDraft> {
  const gravity = ({ outcome, decision }: Access) => Number(outcome === 'failure') + 2 * Number(decision === 'deny');
  if (gravity(inner) <= gravity(outer)) return {};
  const { outcome, decision, whySource, reason, error } = inner;
  return { outcome, decision, whySource, ...(reason !== undefined && { reason }), ...(error && { error }) };
}

/** The request does what its operation does. */
function asOperation(request: Access, operation: Access): Partial<AccessDraft> {
  const { action, target, type } = operation;
  return { ...endOf(request, operation), action, target, type };
}

/** What the caller saw, with the service that has the tool. */
function asCall(outer: Access, inner: Access): Partial<AccessDraft> {
  const service = inner.target.service ?? outer.target.service;
  const actor = outer.actor ?? inner.actor;
  return {
    ...endOf(outer, inner),
    target: { ...outer.target, ...(service !== undefined && { service }) },
    ...(actor && { actor }),
    sections: mergeSections(outer.sections, inner.sections),
  };
}
