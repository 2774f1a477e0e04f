import type { Access } from '../access/access.ts';
import { type Attributor, attributeTrace } from '../access/actor.ts';
import { type CheckDraft, recogniseCheck } from '../access/checks.ts';
import { logEventOf } from '../access/mapped-event.ts';
import { purposeOf } from '../access/purpose.ts';
import { accessOf, type DraftVerdict, judgeSpan, recogniseLog } from '../access/recognise.ts';
import type { AccessRules } from '../access/rules.ts';
import { byContent } from '../core/by-content.ts';
import type { LogRecord, Span, TraceEvidence } from '../core/evidence.ts';
import type { Settle, SettledRecord, Settlement, SettleSteps } from '../core/settlement.ts';
import { absorbAccesses } from './absorb.ts';
import type { CheckPiece } from './checks.ts';
import { type DistinctEvidence, distinctEvidence, type LogPiece } from './dedupe.ts';
import { type EventAccess, type Finding, identify } from './findings.ts';
import { rankOf } from './identity.ts';
import { ascending, sorted } from './order.ts';
import { buildRecord, type EnrichSettings } from './record-builder.ts';
import { redactAccess, redactDraft, redactName, redactTexts } from './redact.ts';
import { actorOrLogin, placeTestimony, withRefusals } from './testimony.ts';
import { gatherFacts, type TraceFacts } from './trace-facts.ts';
import { buildTree, NONE, type TraceTree } from './trace-tree.ts';
import { countUse, UsedPieces } from './used-pieces.ts';
import { explainingPieces, originOf } from './why.ts';

/** What the rules say of each piece, asked once. */
interface Judged {
  readonly spanAccesses: readonly (Access | undefined)[];
  readonly eventAccesses: readonly EventAccess[];
  /** What rules leave out. */
  readonly excludedSpans: readonly Span[];
  readonly excludedLogs: readonly LogRecord[];
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

function judge(rules: AccessRules, { spans }: TraceTree, { logs }: DistinctEvidence): Judged {
  const excludedSpans: Span[] = [];
  const excludedLogs: LogRecord[] = [];
  const spanAccesses: (Access | undefined)[] = [];
  for (const span of spans) {
    const verdict = verdictOn(span, rules);
    if (verdict.kind === 'excluded') excludedSpans.push(span);
    spanAccesses.push(verdict.kind === 'access' ? accessOf(verdict.draft, span) : undefined);
  }
  const eventAccesses: EventAccess[] = [];
  for (const piece of logs) {
    const verdict = recogniseLog(piece.log, rules);
    if (verdict.kind === 'excluded') excludedLogs.push(piece.log);
    const access = verdict.kind === 'access' ? redactAccess(verdict.access, rules.isSecret) : undefined;
    if (access?.source === 'event') eventAccesses.push({ access, piece });
  }
  return { spanAccesses, eventAccesses, excludedSpans, excludedLogs };
}

/** Spans without secrets in their names: the same list where none is there. */
function plainlyNamed(spans: readonly Span[], rules: AccessRules): readonly Span[] {
  let plain: Span[] | undefined;
  for (let index = 0; index < spans.length; index += 1) {
    const span = spans[index] as Span;
    const named = redactName(span, rules.isSecret);
    if (named === span) continue;
    plain ??= [...spans];
    plain[index] = named;
  }
  return plain ?? spans;
}

const NO_LOGS: ReadonlyMap<string, LogRecord[]> = new Map();
const NO_IDS: ReadonlyMap<LogRecord, string> = new Map();

function groupBySpan(logs: readonly LogRecord[]): ReadonlyMap<string, LogRecord[]> {
  if (logs.length === 0) return NO_LOGS;
  const bySpan = new Map<string, LogRecord[]>();
  for (const log of logs) {
    if (log.spanId === '') continue;
    const known = bySpan.get(log.spanId);
    if (known) known.push(log);
    else bySpan.set(log.spanId, [log]);
  }
  return bySpan;
}

/** What each log record is known by: the event's own id, else its digest. */
function idsOf(pieces: readonly LogPiece[], events: readonly EventAccess[]): ReadonlyMap<LogRecord, string> {
  if (pieces.length === 0) return NO_IDS;
  const ids = new Map<LogRecord, string>();
  for (const { log, digest } of pieces) ids.set(log, digest);
  for (const { access } of events) if (access.ownId !== '') ids.set(access.from, access.ownId);
  return ids;
}

/** What spans and log records tell of checks, in the order of the tree and of digests. */
function checkPiecesOf(rules: AccessRules, { spans, indexOf }: TraceTree, logs: readonly LogRecord[]): CheckPiece[] {
  const pieces: CheckPiece[] = [];
  for (let index = 0; index < spans.length; index += 1) {
    const evidence = spans[index] as Span;
    const draft = checkOn(evidence, rules);
    if (draft !== undefined) pieces.push({ evidence, index, draft });
  }
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

/** Records made between two pauses of a settle in steps. */
const RECORDS_PER_STEP = 32;

/** See createSettleSteps; in one go, which costs less. */
export function createSettle(rules: AccessRules, settings: EnrichSettings): Settle {
  const isAccess = (span: Span): boolean => judgeSpan(span, rules).kind === 'access';
  return (evidence) => {
    const distinct = distinctEvidence(evidence.spans, evidence.logs, isAccess);
    const arranged = arrange(evidence, distinct, rules, isAccess);
    const world = worldOf(findAccesses(arranged, judge(rules, arranged.tree, distinct), rules), rules);
    const records: SettledRecord[] = [];
    for (const finding of world.list) records.push(recordOf(world, finding, settings));
    return settlementOf(world, records);
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
    const distinct = distinctEvidence(evidence.spans, evidence.logs, isAccess);
    yield;
    const arranged = arrange(evidence, distinct, rules, isAccess);
    yield;
    const judged = judge(rules, arranged.tree, distinct);
    yield;
    const stated = findAccesses(arranged, judged, rules);
    yield;
    const world = worldOf(stated, rules);
    yield;
    const records: SettledRecord[] = [];
    for (const finding of world.list) {
      if (records.length % RECORDS_PER_STEP === 0) yield;
      records.push(recordOf(world, finding, settings));
    }
    yield;
    return settlementOf(world, records);
  };
}

/** The evidence of a trace without repetitions, and its spans as a tree. */
interface Arranged {
  readonly evidence: TraceEvidence;
  readonly distinct: DistinctEvidence;
  readonly tree: TraceTree;
  /** Spans of which a content that was not chosen is an access. */
  readonly rivalAccesses: readonly string[];
}

function arrange(
  evidence: TraceEvidence,
  distinct: DistinctEvidence,
  rules: AccessRules,
  isAccess: (span: Span) => boolean,
): Arranged {
  const tree = buildTree(plainlyNamed(distinct.spans, rules), evidence.beyond);
  const rivalAccesses: string[] = [];
  if (distinct.rivals.size > 0) {
    for (const [spanId, rivals] of distinct.rivals) if (rivals.some(isAccess)) rivalAccesses.push(spanId);
  }
  return { evidence, distinct, tree, rivalAccesses };
}

/** What the evidence states: accesses with their ids, and what tells of checks. */
interface Stated extends Arranged {
  readonly judged: Judged;
  readonly logs: readonly LogRecord[];
  readonly checkPieces: readonly CheckPiece[];
  readonly list: readonly Finding[];
  readonly superseded: ReadonlyMap<string, string>;
}

function findAccesses(arranged: Arranged, judged: Judged, rules: AccessRules): Stated {
  const { evidence, distinct, tree, rivalAccesses } = arranged;
  const { spanAccesses } = judged;
  const eventAccesses = placeTestimony(evidence, tree, spanAccesses, judged.eventAccesses);
  const logs = distinct.logs.map((piece) => piece.log);
  const checkPieces = checkPiecesOf(rules, tree, logs);
  const decisions = decisionsIn(checkPieces);
  const identified = identify(evidence, tree, { spanAccesses, eventAccesses, rivalAccesses, decisions });
  const { list, superseded } = absorbAccesses(tree, identified, decisions);
  const accesses = withRefusals(tree, list);
  // By name: what is spread is copied by a call into the runtime.
  return { evidence, distinct, tree, rivalAccesses, judged, logs, checkPieces, list: accesses, superseded };
}

/** All that the records of a trace are made from, and what they have used so far. */
interface World extends Stated {
  readonly facts: TraceFacts;
  readonly people: Attributor;
  readonly used: UsedPieces;
}

function worldOf(stated: Stated, rules: AccessRules): World {
  const { evidence, distinct, tree, rivalAccesses, judged, logs, checkPieces, list, superseded } = stated;
  const logsBySpan = groupBySpan(logs);
  const facts = gatherFacts(evidence.namespace, evidence.traceId, tree, list, {
    logsBySpan,
    logIds: idsOf(distinct.logs, judged.eventAccesses),
    checkPieces,
    isSecret: rules.isSecret,
    beyond: evidence.beyond,
    purposeIn: (piece) => ('kind' in piece ? purposeOn(piece, rules) : purposeOf(piece.attributes, rules.purposes)),
  });
  const accesses = list.map((finding) => finding.access);
  const { spans, parent, indexOf } = tree;
  const people = attributeTrace({ spans, parent, indexOf, logs, logsBySpan }, accesses, rules);
  const used = new UsedPieces(tree);
  return {
    evidence,
    distinct,
    tree,
    rivalAccesses,
    judged,
    logs,
    checkPieces,
    list,
    superseded,
    facts,
    people,
    used,
  };
}

function recordOf({ facts, people, used, distinct }: World, finding: Finding, settings: EnrichSettings): SettledRecord {
  const { access } = finding;
  for (const piece of finding.pieces) used.add(piece);
  const origin = originOf(facts, finding);
  if (origin) used.add(origin.span);
  if (origin?.failure.reported) used.add(origin.failure.reported);
  const actor = actorOrLogin(people.actorOf(access), access);
  for (const { by } of actor.named) used.add(by);
  const rivals = distinct.rivals.size === 0 ? 0 : (distinct.rivals.get(access.spanId)?.length ?? 0);
  const explaining = explainingPieces(facts, finding, origin);
  for (const { piece } of explaining) used.add(piece);
  return buildRecord(facts, finding, settings, { actor, source: people.sourceOf(access), rivals, explaining, origin });
}

function settlementOf(
  { evidence, distinct, judged, logs, superseded, used }: World,
  records: SettledRecord[],
): Settlement {
  const { beyond } = evidence;
  const { duplicates: duplicate, logDuplicates } = distinct;
  sorted(records, byTime);
  const given = evidence.spans.length + evidence.logs.length;
  const ofLogs = judged.excludedLogs.length - used.among(judged.excludedLogs);
  const excluded = judged.excludedSpans.length - used.among(judged.excludedSpans) + ofLogs;
  const ofLogUse = { given: evidence.logs.length, duplicate: logDuplicates, used: used.among(logs), excluded: ofLogs };
  return {
    rank: rankOf(distinct.pieces + (beyond?.pieces ?? 0), (distinct.bitsSum + (beyond?.bitsSum ?? 0)) | 0),
    records,
    superseded,
    counts: countUse({ given, duplicate, used: used.size, excluded }, [beyond?.counts.traces, beyond?.counts.logs]),
    logCounts: countUse(ofLogUse, [beyond?.counts.logs]),
    repeats: distinct.repeats,
  };
}

function byTime(left: SettledRecord, right: SettledRecord): number {
  return ascending(left.timestampNs, right.timestampNs) || ascending(left.id, right.id);
}
