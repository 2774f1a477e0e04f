import { compact } from '../access/attributes.ts';
import { SPAN_KIND } from '../core/evidence.ts';
import type { Check } from '../core/record.ts';
import { answerOf } from './answer.ts';
import type { CheckWorld, FoundCheck } from './checks.ts';
import type { Finding } from './findings.ts';
import { NONE } from './trace-tree.ts';

interface Refusal {
  readonly owner: Finding;
  readonly found: FoundCheck;
}

/**
 * Refusals that are checks by themselves: a database that refused a statement, a service that answered 401 or 403, PERMISSION_DENIED
 * or the like. A status tells of a check only where it arose, and where nothing else says what was asked.
 */
export function* refusalsOfAccesses(world: CheckWorld, hasRefusal: (finding: Finding) => boolean): Generator<Refusal> {
  for (const finding of world.list) {
    const { access, index } = finding;
    // A line of the database's own log takes the place of the call that it is about.
    const isCall = access.source === 'span' || (access.outOfBand === true && finding.standsForSpan);
    if (!finding.trusted || access.decision !== 'deny' || !isCall) continue;
    if (access.sections.db !== undefined) {
      yield { owner: finding, found: databaseCheck(world, finding) };
      continue;
    }
    if (hasRefusal(finding)) continue;
    const origin = world.origins[index] ?? NONE;
    if (origin === index) yield { owner: finding, found: statusCheck(world, finding) };
    else {
      const found = world.standing[origin] === undefined ? answerCheck(world, origin) : undefined;
      if (found !== undefined) yield { owner: finding, found };
    }
  }
}

function databaseCheck({ tree }: CheckWorld, { access, index }: Finding): FoundCheck {
  const check: Check = compact({
    permission: access.action,
    target: access.target.name ?? access.target.id,
    granted: false,
    rule: access.sections.db?.status_code,
    span_id: access.spanId,
    duration: durationAt(tree, index),
    engine: 'database',
  });
  return { check, kind: 'database', index, start: tree.start[index] ?? 0, pieces: [] };
}

/** `http.server` is answered in terms of `http`. */
function statusCheck({ tree }: CheckWorld, { access, index }: Finding): FoundCheck {
  const check: Check = compact({
    permission: access.action,
    target: access.target.id,
    granted: false,
    rule: statusOf(access.sections.http?.response?.status_code, access.sections.rpc?.status_code),
    span_id: access.spanId,
    duration: durationAt(tree, index),
    engine: access.preset.split('.', 1)[0] ?? access.preset,
  });
  return { check, kind: 'status', index, start: tree.start[index] ?? 0, pieces: [] };
}

/** What a service that sends no evidence answered its caller. */
function answerCheck({ tree }: CheckWorld, index: number): FoundCheck | undefined {
  const span = tree.spans[index];
  if (span?.kind !== SPAN_KIND.client || !span.note.trusted) return undefined;
  const answer = answerOf(span, undefined);
  if (!answer?.isRefusal) return undefined;
  const check: Check = compact({
    permission: answer.asked,
    target: answer.from,
    granted: false,
    rule: answer.status,
    span_id: span.spanId,
    duration: durationAt(tree, index),
    engine: answer.protocol,
  });
  const pieces = [{ piece: span, source: `check.${answer.protocol}` }];
  return { check, kind: 'status', index, start: tree.start[index] ?? 0, pieces };
}

function statusOf(http: number | undefined, rpc: string | undefined): string | undefined {
  return http === undefined ? rpc : String(http);
}

function durationAt(tree: CheckWorld['tree'], index: number): number {
  return (tree.end[index] ?? 0) - (tree.start[index] ?? 0);
}
