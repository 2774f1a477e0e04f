import { clip } from '../access/attributes.ts';
import type { LogRecord, Span } from '../core/evidence.ts';
import { LIST_ITEMS_MAX } from '../core/limits.ts';
import {
  type AuditRecord,
  type Check,
  type EvidencePiece,
  type JoinState,
  type PathStep,
  SCHEMA_VERSION,
} from '../core/record.ts';
import type { SettledRecord } from '../core/settlement.ts';
import { originSection } from './error-origin.ts';
import type { Finding } from './findings.ts';
import { pathIndexes } from './path.ts';
import { type AccessContext, type Parts, sharing } from './record-parts.ts';
import {
  actorSection,
  databaseSection,
  errorSection,
  eventSection,
  relatedSection,
  targetSection,
  traceSection,
  userSection,
  whySection,
} from './record-sections.ts';
import { describeAccess } from './sentence.ts';
import { isOutOfBand, weakestTie } from './testimony.ts';
import { timesOf } from './times.ts';
import type { TraceFacts } from './trace-facts.ts';
import { NONE } from './trace-tree.ts';
import { placeOf } from './where.ts';
import { whyOf } from './why.ts';

export interface EnrichSettings {
  /** Address of a trace in another tool, with `${trace_id}` and `${span_id}`; empty for none. */
  readonly traceUrlTemplate: string;
}

type Audit = AuditRecord['audit'];

function stateOf({ traceId, tree, spanCount, beyond }: TraceFacts, finding: Finding): JoinState {
  const witnessOf = finding.index === NONE ? undefined : finding.index;
  if (isOutOfBand(finding.access, traceId, witnessOf)) return 'out_of_band';
  // It names no trace, so that nothing of it can be missing.
  if (traceId === '') return 'complete';
  if (spanCount === 0) return 'unsampled';
  const { spanId } = finding.access;
  const isLost =
    finding.index === NONE ? spanId !== '' && !beyond?.named.has(spanId) : tree.rooted[finding.index] === 0;
  if (isLost) return 'orphan';
  // Accesses without a record, or paths with gaps, though all of it came.
  if (beyond !== undefined && beyond.accesses + beyond.ways > 0) return 'partial';
  return tree.roots === 1 && (beyond?.cuts ?? tree.cut.length) === 0 && tree.missingParents === 0
    ? 'complete'
    : 'partial';
}

const NO_CONFLICTS: readonly string[] = [];

function conflictsOf({ facts, finding, times, rivals }: Parts): string[] | undefined {
  const { tree } = facts;
  const stated = finding.conflicts.length + times.conflicts.length;
  const conflicts = stated === 0 ? NO_CONFLICTS : [...finding.conflicts, ...times.conflicts];
  const more: string[] = [];
  for (const piece of finding.pieces) {
    if (piece.unreadable === undefined) continue;
    const what = 'kind' in piece ? `span ${piece.spanId}` : 'the event';
    more.push(`${piece.unreadable} attributes or other parts of ${what} cannot be decoded and are left out`);
  }
  if (rivals > 0) more.push(`span ${finding.access.spanId} came in ${rivals + 1} versions`);
  const top = tree.spans[tree.top[finding.index] ?? NONE];
  const isCut = top && (tree.indexOf.has(top.parentSpanId) || facts.beyond?.rootOf.get(top.spanId) === top.spanId);
  if (isCut && tree.rooted[finding.index] === 1) {
    more.push(`span ${top.spanId} is its own ancestor; its parent link was cut`);
  }
  if (conflicts.length + more.length === 0) return undefined;
  return [...conflicts, ...more].slice(0, LIST_ITEMS_MAX).map((text) => clip(text));
}

function pathSection(parts: Parts): PathStep[] | undefined {
  const { facts, finding } = parts;
  if (finding.index === NONE) return undefined;
  const indexes = pathIndexes(facts.tree, facts.heads, endOf(parts));
  const steps = new Array<PathStep>(indexes.length);
  for (let at = 0; at < indexes.length; at += 1) steps[at] = facts.stepAt(indexes[at] ?? NONE);
  return steps;
}

/** Where the path of an access ends: at the check that refused it, else where what failed it did. */
function endOf({ facts, finding, origin, refusing }: Parts): number {
  const at = refusing?.index ?? NONE;
  // The check of another branch may explain it, too: the path leads from the root to the access and on.
  for (let above = at; above !== NONE; above = facts.tree.parent[above] ?? NONE) if (above === finding.index) return at;
  return origin?.index ?? finding.index;
}

function isAmong(pieces: readonly EvidencePiece[], id: string): boolean {
  for (let at = 0; at < pieces.length; at += 1) if (pieces[at]?.id === id) return true;
  return false;
}

/** What the record rests on: what states the access, what explains its failure, what names its actor. */
function evidenceOf({ facts, finding, origin, actor, explaining }: Parts): EvidencePiece[] {
  // Most accesses rest on what states them, and list it for all that ask.
  let pieces = finding.evidence as EvidencePiece[];
  const add = (piece: Span | LogRecord, source: string): void => {
    const isSpan = 'kind' in piece;
    const id = isSpan ? piece.spanId : facts.logIds.get(piece);
    if (id === undefined || isAmong(pieces, id)) return;
    pieces = [...pieces, { signal: isSpan ? 'traces' : 'logs', source, sender: piece.note.sender, id }];
  };
  if (origin !== undefined) {
    for (const piece of origin.finding?.evidence ?? []) if (!isAmong(pieces, piece.id)) pieces = [...pieces, piece];
    add(origin.span, 'span');
    if (origin.failure.reported) add(origin.failure.reported, 'log.exception');
  }
  for (const { piece, source } of explaining) add(piece, source);
  for (const { by, as } of actor.named) add(by, `actor.${as}`);
  return pieces.length <= LIST_ITEMS_MAX ? pieces : pieces.slice(0, LIST_ITEMS_MAX);
}

function checksOf({ facts, finding }: Parts): Check[] | undefined {
  const found = facts.checks.of(finding);
  return found.length === 0 ? undefined : found.map(({ check }) => check);
}

/** What of `audit` nearly every record has. */
interface CommonAudit extends Pick<Audit, 'actor' | 'target' | 'decision' | 'why' | 'join' | 'evidence'> {
  readonly trace: NonNullable<Audit['trace']>;
  readonly path: PathStep[];
  readonly db: Audit['db'];
}

const HEAD = { schema_version: SCHEMA_VERSION, revision: 1 } as const;

/** Of an entry. A literal is made in one piece: adding one field after the other to an object costs several times as much. */
function entryAudit({ actor, target, decision, why, trace, path, db, join, evidence }: CommonAudit): Audit {
  const { schema_version, revision } = HEAD;
  const audit: Audit = {
    schema_version,
    entry: true,
    actor,
    target,
    decision,
    why,
    trace,
    path,
    join,
    revision,
    evidence,
  };
  if (db !== undefined) audit.db = db;
  return audit;
}

/** Of an access inside of an entry. */
function innerAudit(
  { actor, target, decision, why, trace, path, db, join, evidence }: CommonAudit,
  entry: Finding,
): Audit {
  const { schema_version, revision } = HEAD;
  const audit: Audit = {
    schema_version,
    entry: false,
    entry_id: entry.id,
    entry_action: clip(entry.access.action),
    entry_target: clip(entry.access.target.id),
    actor,
    target,
    decision,
    why,
    trace,
    path,
    join,
    revision,
    evidence,
  };
  if (db !== undefined) audit.db = db;
  return audit;
}

function auditSection(parts: Parts, settings: EnrichSettings): Audit {
  const { facts, finding, origin, why } = parts;
  const { access } = finding;
  const entry = facts.entries.get(finding);
  const checks = checksOf(parts);
  const trace = traceSection(parts, settings.traceUrlTemplate);
  const path = pathSection(parts);
  const db = databaseSection(parts);
  const purpose = facts.purposeOf(finding);
  const actor = actorSection(parts.actor);
  const target = targetSection(access.target);
  const because = whySection(why.source);
  const join = joinSection(parts);
  const evidence = evidenceOf(parts);
  const { decision, rows, change } = access;
  const isCommon =
    trace !== undefined && path !== undefined && checks === undefined && purpose === undefined && rows === undefined;
  if (isCommon && change === undefined && origin === undefined && why.deniedBy === undefined) {
    const common = { actor, target, decision, why: because, trace, path, db, join, evidence };
    return entry === undefined ? entryAudit(common) : innerAudit(common, entry);
  }
  const audit = { schema_version: SCHEMA_VERSION, entry: entry === undefined } as Audit;
  if (entry) {
    audit.entry_id = entry.id;
    audit.entry_action = clip(entry.access.action);
    audit.entry_target = clip(entry.access.target.id);
  }
  audit.actor = actor;
  audit.target = target;
  audit.decision = decision;
  audit.why = because;
  if (why.deniedBy !== undefined) audit.denied_by = clip(why.deniedBy);
  if (checks) audit.checks = checks;
  if (purpose !== undefined) audit.purpose = purpose;
  if (rows !== undefined) audit.rows = rows;
  if (change) audit.change = { ...change };
  if (trace) audit.trace = trace;
  if (origin) audit.error_origin = originSection(origin.span, origin.failure);
  if (path) audit.path = path;
  if (db) audit.db = db;
  audit.join = join;
  audit.revision = 1;
  audit.evidence = evidence;
  return audit;
}

/** How and when it came to this settle is stamped on by those who know. */
const FIRST = { reason: 'complete', late: false } as const;

function joinSection(parts: Parts): Audit['join'] {
  const { traceId, tree } = parts.facts;
  const state = stateOf(parts.facts, parts.finding);
  const conflicts = conflictsOf(parts);
  const tie = weakestTie(parts.finding.pieces);
  const counts = { spans: tree.spans.length, missing_parents: tree.missingParents, orphans: tree.orphans };
  const reason = traceId === '' ? 'untraced' : FIRST.reason;
  if (tie === undefined && conflicts === undefined) {
    const { spans, missing_parents, orphans } = counts;
    return { state, spans, missing_parents, orphans, reason, late: FIRST.late };
  }
  return { state, ...(tie && { tie }), ...counts, ...(conflicts && { conflicts }), reason, late: FIRST.late };
}

const namespaceSection = sharing((namespace: string) => ({ namespace }));
const traceIdSection = sharing((id: string) => ({ id }));
const transactionSection = sharing((id: string) => ({ id }));

type Sections = Partial<AuditRecord>;
const NO_SECTIONS: Sections = {};

/** What the evidence says by itself, each over those before: of the access, of its trace, of where it ran. */
function sectionsOf({ finding, facts, source }: Parts): readonly [Sections, Sections, Sections, Sections] {
  const { access } = finding;
  const { resource } = access.from;
  const span = facts.tree.spans[finding.index];
  const ofSpan = span !== undefined && span.resource !== resource ? placeOf(span.resource).sections : NO_SECTIONS;
  // What ran where is said by the call; the database's log says where the database is.
  const isWitnessed = access.outOfBand === true && finding.standsForSpan;
  return [access.sections, source, ofSpan, isWitnessed ? NO_SECTIONS : placeOf(resource).sections];
}

/**
 * The record of one access. Records share what they have in common (places, steps of the path, who acted): only `audit` and
 * `audit.join` may be changed in place.
 */
export function buildRecord(
  facts: TraceFacts,
  finding: Finding,
  settings: EnrichSettings,
  { actor, source, rivals, explaining, origin }: AccessContext,
): SettledRecord {
  const times = timesOf(finding.access, facts.tree.baseNs);
  const why = whyOf(facts, finding, origin);
  const refusing = facts.checks.refusing(finding);
  const parts: Parts = { actor, source, rivals, explaining, origin, facts, finding, times, why, refusing };
  const event = eventSection(parts);
  const user = userSection(actor, finding.access.effective);
  const error = errorSection(parts);
  const sections = sectionsOf(parts);
  const [ofAccess, ofTrace, ofSpan, ofSender] = sections;
  const ip = (ofTrace.source ?? ofAccess.source)?.ip;
  const host = (ofSender.host ?? ofSpan.host ?? ofAccess.host)?.name;
  const record = recordHead(
    parts,
    event,
    user,
    relatedSection({ user, ip, host, claimed: actor.claimed }),
    auditSection(parts, settings),
  );
  if (why.rule) record.rule = { ...why.rule };
  Object.assign(record, ofAccess, ofTrace, ofSpan, ofSender);
  if (error) record.error = error;
  record.message = clip(describeAccess(record));
  return { id: finding.id, timestampNs: times.startNs, record };
}

function recordHead(
  { facts, finding }: Parts,
  event: AuditRecord['event'],
  user: AuditRecord['user'],
  related: AuditRecord['related'],
  audit: Audit,
): AuditRecord {
  const { access, index } = finding;
  const data_stream = namespaceSection(facts.namespace);
  const { tree, traceId, beyond } = facts;
  const parentId = tree.spans[index]?.parentSpanId ?? '';
  const top = tree.spans[tree.top[index] ?? NONE];
  const timestamp = event.start;
  if (user && related && traceId !== '' && access.spanId !== '' && top !== undefined && tree.rooted[index] === 1) {
    const transaction = transactionSection(beyond?.rootOf.get(top.spanId) ?? top.spanId);
    const trace = traceIdSection(traceId);
    const span = { id: access.spanId };
    return parentId === ''
      ? { '@timestamp': timestamp, message: '', data_stream, event, user, trace, span, transaction, related, audit }
      : {
          '@timestamp': timestamp,
          message: '',
          data_stream,
          event,
          user,
          trace,
          span,
          parent: { id: parentId },
          transaction,
          related,
          audit,
        };
  }
  const record = { '@timestamp': timestamp, message: '', data_stream, event } as AuditRecord;
  if (user) record.user = user;
  if (traceId !== '') record.trace = traceIdSection(traceId);
  if (access.spanId !== '') record.span = { id: access.spanId };
  if (parentId !== '') record.parent = { id: parentId };
  if (top !== undefined && tree.rooted[index] === 1)
    record.transaction = transactionSection(beyond?.rootOf.get(top.spanId) ?? top.spanId);
  if (related) record.related = related;
  record.audit = audit;
  return record;
}
