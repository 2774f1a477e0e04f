import type { Access } from '../access/access.ts';
import { attributeTrace } from '../access/actor.ts';
import { type CheckDraft, recogniseCheck } from '../access/checks.ts';
import { logEventOf } from '../access/mapped-event.ts';
import { purposeOf } from '../access/purpose.ts';
import { accessOf, type DraftVerdict, judgeSpan, recogniseLog } from '../access/recognise.ts';
import type { AccessRules } from '../access/rules.ts';
import { byContent } from '../core/by-content.ts';
import type { BeyondCounts, LogRecord, Span } from '../core/evidence.ts';
import type { EvidenceCounts, Settle, SettledRecord, SettleSteps } from '../core/settlement.ts';
import { absorbAccesses } from './absorb.ts';
import type { CheckPiece } from './checks.ts';
import { type DistinctEvidence, distinctEvidence } from './dedupe.ts';
import { type EventAccess, identify } from './findings.ts';
import { rankOf } from './identity.ts';
import { ascending, sorted } from './order.ts';
import { buildRecord, type EnrichSettings } from './record-builder.ts';
import { redactAccess, redactDraft, redactName, redactTexts } from './redact.ts';
import { actorOrLogin, placeTestimony, withRefusals } from './testimony.ts';
import { gatherFacts } from './trace-facts.ts';
import { buildTree, NONE, type TraceTree } from './trace-tree.ts';
import { explainingPieces, originOf } from './why.ts';

/** What the rules say of each piece, asked once. */
interface Judged {
  readonly spanAccesses: readonly (Access | undefined)[];
  readonly eventAccesses: readonly EventAccess[];
  readonly excluded: ReadonlySet<Span | LogRecord>;
}

const verdictOn = byContent((span: Span, rules: AccessRules): DraftVerdict => {
  const verdict = judgeSpan(span, rules);
  return verdict.kind === 'access' ? { ...verdict, draft: redactDraft(verdict.draft, rules.isSecret) } : verdict;
});

const checkOn = byContent((span: Span, rules: AccessRules): CheckDraft | undefined => {
  const draft = recogniseCheck(span, rules);
  return draft && redactTexts(draft, rules.isSecret);
});

const purposeOn = byContent((span: Span, rules: AccessRules) =>
  span.note.trusted ? purposeOf(span.attributes, rules.purposes) : undefined,
);

function judge(rules: AccessRules, tree: TraceTree, distinct: DistinctEvidence): Judged {
  const excluded = new Set<Span | LogRecord>();
  const spanAccesses = tree.spans.map((span) => {
    const verdict = verdictOn(span, rules);
    if (verdict.kind === 'excluded') excluded.add(span);
    return verdict.kind === 'access' ? accessOf(verdict.draft, span) : undefined;
  });
  const eventAccesses = distinct.logs.flatMap((piece) => {
    const verdict = recogniseLog(piece.log, rules);
    if (verdict.kind === 'excluded') excluded.add(piece.log);
    const access = verdict.kind === 'access' ? redactAccess(verdict.access, rules.isSecret) : undefined;
    return access?.source === 'event' ? [{ access, piece }] : [];
  });
  return { spanAccesses, eventAccesses, excluded };
}

function groupBySpan(logs: readonly LogRecord[]): Map<string, LogRecord[]> {
  const bySpan = new Map<string, LogRecord[]>();
  for (const log of logs) {
    if (log.spanId === '') continue;
    const known = bySpan.get(log.spanId);
    if (known) known.push(log);
    else bySpan.set(log.spanId, [log]);
  }
  return bySpan;
}

/** Where each piece given went, and each that was left out; the four add up to the number of all. */
function countUse(
  given: number,
  duplicate: number,
  used: ReadonlySet<Span | LogRecord>,
  excluded: ReadonlySet<Span | LogRecord>,
  beyond: readonly (BeyondCounts | undefined)[],
): EvidenceCounts {
  let left = 0;
  for (const piece of excluded) if (!used.has(piece)) left += 1;
  const counts = { used: used.size, context: given - duplicate - used.size - left, excluded: left, duplicate };
  for (const more of beyond) {
    if (more === undefined) continue;
    counts.context += more.context;
    counts.excluded += more.excluded;
    counts.duplicate += more.duplicate;
  }
  return counts;
}

/** What spans and log records tell of checks, in the order of the tree and of digests. */
function checkPiecesOf(rules: AccessRules, { spans, indexOf }: TraceTree, logs: readonly LogRecord[]): CheckPiece[] {
  const pieces: CheckPiece[] = [];
  spans.forEach((span, index) => {
    const draft = checkOn(span, rules);
    if (draft !== undefined) pieces.push({ evidence: span, index, draft });
  });
  for (const log of logs) {
    const draft = recogniseCheck(logEventOf(log, rules.mappings).evidence, rules);
    if (draft === undefined) continue;
    const index = indexOf.get(log.spanId) ?? NONE;
    pieces.push({ evidence: log, index, draft: redactTexts(draft, rules.isSecret) });
  }
  return pieces;
}

/** Log records in which policy engines tell their decisions; those of applications are theirs. */
function decisionsIn(pieces: readonly CheckPiece[]): ReadonlySet<LogRecord> {
  const decisions = new Set<LogRecord>();
  for (const { evidence, draft } of pieces) {
    if (!('kind' in evidence) && draft.engine !== 'application') decisions.add(evidence);
  }
  return decisions;
}

function among(logs: readonly LogRecord[], pieces: ReadonlySet<Span | LogRecord>): ReadonlySet<Span | LogRecord> {
  return new Set(logs.filter((log) => pieces.has(log)));
}

/** Records made between two pauses of a settle in steps. */
const RECORDS_PER_STEP = 64;

/** See createSettleSteps. */
export function createSettle(rules: AccessRules, settings: EnrichSettings): Settle {
  const settle = createSettleSteps(rules, settings);
  return (evidence) => {
    const steps = settle(evidence);
    for (;;) {
      const step = steps.next();
      if (step.done) return step.value;
    }
  };
}

/**
 * The function that makes records: from all evidence of a trace, in whatever order and however often it came, to its
 * accesses. It looks at no clock and keeps nothing between calls. It pauses now and then, so that a trace with thousands of
 * records keeps nobody waiting.
 */
export function createSettleSteps(rules: AccessRules, settings: EnrichSettings): SettleSteps {
  const isAccess = (span: Span): boolean => judgeSpan(span, rules).kind === 'access';
  return function* (evidence) {
    const { beyond } = evidence;
    const distinct = distinctEvidence(evidence.spans, evidence.logs, isAccess);
    const tree = buildTree(
      distinct.spans.map((span) => redactName(span, rules.isSecret)),
      beyond,
    );
    const { spans, parent, indexOf } = tree;
    yield;
    const { spanAccesses, eventAccesses, excluded } = judge(rules, tree, distinct);
    const rivalAccesses = [...distinct.rivals].filter(([, rivals]) => rivals.some(isAccess)).map(([spanId]) => spanId);
    const placed = placeTestimony(evidence, tree, spanAccesses, eventAccesses);
    const logs = distinct.logs.map((piece) => piece.log);
    const checkPieces = checkPiecesOf(rules, tree, logs);
    const decisions = decisionsIn(checkPieces);
    const identified = identify(evidence, tree, { spanAccesses, eventAccesses: placed, rivalAccesses, decisions });
    const { list: joined, superseded } = absorbAccesses(tree, identified, decisions);
    const list = withRefusals(tree, joined);
    yield;
    const logsBySpan = groupBySpan(logs);
    const logIds = new Map(distinct.logs.map(({ log, digest }) => [log, digest]));
    for (const { access } of eventAccesses) if (access.ownId !== '') logIds.set(access.from, access.ownId);
    const facts = gatherFacts(evidence.namespace, evidence.traceId, tree, list, {
      ...{ logsBySpan, logIds, isSecret: rules.isSecret, beyond, checkPieces },
      purposeIn: (piece) => ('kind' in piece ? purposeOn(piece, rules) : purposeOf(piece.attributes, rules.purposes)),
    });
    yield;
    const accesses = list.map((finding) => finding.access);
    const people = attributeTrace({ spans, parent, indexOf, logs, logsBySpan }, accesses, rules);

    const used = new Set<Span | LogRecord>();
    const records: SettledRecord[] = [];
    for (const finding of list) {
      if (records.length % RECORDS_PER_STEP === 0) yield;
      const { access } = finding;
      for (const piece of finding.pieces) used.add(piece);
      const origin = originOf(facts, finding);
      if (origin) used.add(origin.span);
      if (origin?.failure.reported) used.add(origin.failure.reported);
      const actor = actorOrLogin(people.actorOf(access), access);
      for (const { by } of actor.named) used.add(by);
      const rivals = distinct.rivals.get(access.spanId)?.length ?? 0;
      const explaining = explainingPieces(facts, finding, origin);
      for (const { piece } of explaining) used.add(piece);
      records.push(
        buildRecord(facts, finding, settings, { actor, source: people.sourceOf(access), rivals, explaining }),
      );
    }
    sorted(records, (left, right) => ascending(left.timestampNs, right.timestampNs) || ascending(left.id, right.id));
    return {
      rank: rankOf(distinct.pieces + (beyond?.pieces ?? 0), (distinct.bitsSum + (beyond?.bitsSum ?? 0)) | 0),
      records,
      superseded,
      counts: countUse(evidence.spans.length + evidence.logs.length, distinct.duplicates, used, excluded, [
        beyond?.counts.traces,
        beyond?.counts.logs,
      ]),
      logCounts: countUse(evidence.logs.length, distinct.logDuplicates, among(logs, used), among(logs, excluded), [
        beyond?.counts.logs,
      ]),
      repeats: distinct.repeats,
    };
  };
}
