import type { Access } from '../access/access.ts';
import type { LogRecord, Span, TraceEvidence } from '../core/evidence.ts';
import type { EvidencePiece } from '../core/record.ts';
import type { LogPiece } from './dedupe.ts';
import { eventIdentity, eventRecordId, spanRecordId, textOf } from './identity.ts';
import { mergeEvent } from './merge.ts';
import { ascending, sorted } from './order.ts';
import { NONE, type TraceTree } from './trace-tree.ts';

/** One access with its id and all it rests on; its place in the trace is found out later. */
export interface Finding {
  readonly id: string;
  readonly access: Access;
  /** The span it happened in, as an index into the tree; NONE when that span never came or none is named. */
  readonly index: number;
  /** It carries the span's own id, so that what the trace knows of the span is about this access. */
  readonly standsForSpan: boolean;
  readonly pieces: readonly (Span | LogRecord)[];
  readonly evidence: readonly EvidencePiece[];
  readonly conflicts: readonly string[];
  readonly trusted: boolean;
}

export interface Findings {
  /** In an order that depends on the set of evidence alone. */
  readonly list: readonly Finding[];
  /** Ids that a smaller set could have published and this one does not. */
  readonly superseded: ReadonlyMap<string, string>;
}

/** An access that a log record states. */
export interface EventAccess {
  readonly access: Access & { readonly source: 'event' };
  readonly piece: LogPiece;
  /** The span, as an index into the tree, of the call that a database tells of here: it is the same access. */
  readonly witnessOf?: number;
}

interface Event extends EventAccess {
  /** Its id when no span stands for it. */
  readonly ownId: string;
  /** Ids that its copies from other senders and its other versions would have. */
  readonly aliases: string[];
  readonly versions: number;
}

/**
 * Events in the order of their time; of several contents under one own id the trusted, then the last observed one
 * stands.
 */
function distinctEvents(namespace: string, traceId: string, given: readonly EventAccess[]): Event[] {
  const byId = new Map<string, Event>();
  for (const stated of given) {
    const { access, piece } = stated;
    const { log, digest, senders } = piece;
    const service = textOf(log.resource.attributes.get('service.name'));
    const identity = eventIdentity(access.preset, service, access.ownId, digest);
    const ownId = eventRecordId(namespace, log.note.sender, identity);
    const aliases = senders.map((sender) => eventRecordId(namespace, sender, identity));
    const event = { ...stated, ownId, aliases, versions: 1 };
    const rival = byId.get(ownId);
    byId.set(ownId, rival === undefined ? event : joinVersions(namespace, traceId, rival, event));
  }
  return [...byId.values()].sort(
    (left, right) => ascending(left.access.startNs, right.access.startNs) || ascending(left.ownId, right.ownId),
  );
}

/** The version that stands; either may have been the only one, with its span's id, in a smaller set. */
function joinVersions(namespace: string, traceId: string, left: Event, right: Event): Event {
  const [winner, loser] = compareVersions(left, right) < 0 ? [left, right] : [right, left];
  // Added to in place: an event may come in thousands of versions.
  const { aliases } = left;
  for (const alias of right.aliases) aliases.push(alias);
  aliases.push(spanRecordId(namespace, traceId, loser.access.spanId));
  const versions = isRepeated(left, right) ? Math.max(left.versions, right.versions) : left.versions + right.versions;
  return { ...winner, aliases, versions };
}

/** A line of a file that is read again comes with another time of reading: it says the same. */
function isRepeated({ piece: left }: EventAccess, { piece: right }: EventAccess): boolean {
  return typeof left.log.body === 'string' && left.log.body !== '' && left.log.body === right.log.body;
}

function compareVersions(left: EventAccess, right: EventAccess): number {
  const [a, b] = [left.piece.log, right.piece.log];
  return (
    Number(b.note.trusted) - Number(a.note.trusted) ||
    Number(b.observedNs - a.observedNs) ||
    ascending(right.piece.digest, left.piece.digest)
  );
}

function fromEvent(event: Event, index: number): Finding {
  const evidence = { ...event.access.evidence, id: event.access.evidence.id || event.piece.digest };
  return {
    id: event.ownId,
    access: event.access,
    index,
    standsForSpan: false,
    pieces: [event.piece.log],
    evidence: [evidence],
    conflicts: event.versions > 1 ? [`event ${evidence.id} came in ${event.versions} versions`] : [],
    trusted: event.access.from.note.trusted,
  };
}

const NO_CONFLICTS: readonly string[] = [];
const NO_IDS: ReadonlyMap<string, string> = new Map();

function fromSpan(id: string, access: Access, index: number): Finding {
  const { note } = access.from;
  return {
    id,
    access,
    index,
    standsForSpan: true,
    pieces: [access.from],
    evidence: [access.evidence],
    conflicts: NO_CONFLICTS,
    trusted: note.trusted,
  };
}

/**
 * The event as the record of its span: filled from the span's own access, or, where it is none, with the span's
 * times.
 */
function asSpan(finding: Finding, id: string, span: Span | undefined, known: Finding | undefined): Finding {
  const { access } = finding;
  if (span === undefined) return { ...finding, id, standsForSpan: true };
  if (known === undefined) {
    const times = access.startNs === access.endNs ? { startNs: span.startNs, endNs: span.endNs } : {};
    const pieces = [...finding.pieces, span];
    return { ...finding, id, standsForSpan: true, pieces, access: { ...access, ...times } };
  }
  const merged = mergeEvent(access, known.access);
  return {
    ...finding,
    id,
    standsForSpan: true,
    access: merged.access,
    pieces: [...finding.pieces, ...known.pieces],
    evidence: [...finding.evidence, ...known.evidence],
    conflicts: [...finding.conflicts, ...known.conflicts, ...merged.conflicts],
  };
}

/** The accesses that a trace's evidence states. */
interface Stated {
  /** By index into the tree. */
  readonly spanAccesses: readonly (Access | undefined)[];
  readonly eventAccesses: readonly EventAccess[];
  /** Ids of spans of which a content that was not chosen is an access. */
  readonly rivalAccesses: readonly string[];
  /** Records in which policy engines tell their decisions. */
  readonly decisions: ReadonlySet<LogRecord>;
}

/**
 * Gives every access its id. The only trusted event on a span takes the span's id and is filled from it; where there
 * are more, the span's own access keeps the id and each event has its own. An event that is not trusted never speaks
 * for a span, nor does one that came alone and so late that its span is not known any more: what is stored of that is
 * based on more, and would hide it. What a database tells of a call is no event beside it but the same access: it fills
 * the span's own access before any event does.
 */
export function identify(
  { namespace, traceId, horizonNs = 0n, beyond }: Omit<TraceEvidence, 'spans' | 'logs'>,
  tree: TraceTree,
  { spanAccesses, eventAccesses, rivalAccesses, decisions }: Stated,
): Findings {
  const list: Finding[] = [];
  // As nearly always: in the order of the tree, and nothing that another could have stood for.
  if (eventAccesses.length + rivalAccesses.length === 0) {
    for (let index = 0; index < tree.spans.length; index += 1) {
      const access = spanAccesses[index];
      if (access !== undefined) list.push(fromSpan(spanRecordId(namespace, traceId, access.spanId), access, index));
    }
    return { list, superseded: NO_IDS };
  }
  const aliases = new Map<string, string>();
  const speaking = new Map<string, Event[]>();
  const witnesses: Event[] = [];
  for (const event of distinctEvents(namespace, traceId, eventAccesses)) {
    const { spanId, startNs } = event.access;
    const index = tree.indexOf.get(spanId) ?? NONE;
    for (const alias of event.aliases) aliases.set(alias, event.ownId);
    if (event.access.outOfBand === true && event.witnessOf !== undefined && event.piece.log.note.trusted) {
      witnesses.push(event);
      continue;
    }
    const isTooLate = startNs < horizonNs && tree.spans.length + (beyond?.spans ?? 0) === 0;
    // A decision about the access of a span is a check of it, and leaves it to the events of the application.
    const isDecision = spanAccesses[index] !== undefined && decisions.has(event.piece.log);
    const isApart = isTooLate || isDecision || event.access.outOfBand === true || !event.piece.log.note.trusted;
    if (spanId === '' || traceId === '' || isApart) list.push(fromEvent(event, index));
    else {
      const events = speaking.get(spanId);
      if (events) events.push(event);
      else speaking.set(spanId, [event]);
    }
  }
  const standing = new Array<Finding | undefined>(tree.spans.length);
  for (let index = 0; index < tree.spans.length; index += 1) {
    const access = spanAccesses[index];
    if (access === undefined) continue;
    standing[index] = fromSpan(spanRecordId(namespace, traceId, tree.spans[index]?.spanId ?? ''), access, index);
  }
  for (const finding of testified(witnesses, tree, standing, aliases)) list.push(finding);
  for (let index = 0; index < standing.length; index += 1) {
    const finding = standing[index];
    const spoken = speaking.size === 0 ? undefined : speaking.get(tree.spans[index]?.spanId ?? '');
    if (finding && spoken?.length !== 1) list.push(finding);
  }
  for (const [spanId, events] of speaking) {
    const id = spanRecordId(namespace, traceId, spanId);
    const index = tree.indexOf.get(spanId) ?? NONE;
    const [first, second] = events;
    if (first === undefined) continue;
    if (second === undefined) {
      list.push(asSpan(fromEvent(first, index), id, tree.spans[index], standing[index]));
      // Another event may have shared the span until a later version of it named another span.
      for (const alias of [first.ownId, ...first.aliases]) aliases.set(alias, id);
      continue;
    }
    for (const event of events) list.push(fromEvent(event, index));
    if (spanAccesses[index] === undefined) aliases.set(id, first.ownId);
  }
  sorted(list, (left, right) => left.index - right.index || ascending(left.id, right.id));
  // The content that stands is no access while one that lost is: another access of the trace takes its place.
  for (const spanId of rivalAccesses) {
    const id = spanRecordId(namespace, traceId, spanId);
    if (!aliases.has(id) && list[0] !== undefined) aliases.set(id, list[0].id);
  }
  return { list, superseded: withoutLiving(aliases, list) };
}

/**
 * Fills each call with what its database tells of it. Of several lines of one statement those of the call's own target are the
 * call; the others (each of another table of a join) are accesses on its span, with ids of their own. So is what another
 * session claims of the same call: its ids were copied.
 */
function testified(
  witnesses: readonly Event[],
  tree: TraceTree,
  standing: (Finding | undefined)[],
  aliases: Map<string, string>,
): Finding[] {
  const byCall = new Map<number, Event[]>();
  for (const event of witnesses) {
    const index = event.witnessOf ?? NONE;
    const known = byCall.get(index);
    if (known) known.push(event);
    else byCall.set(index, [event]);
  }
  const apart: Finding[] = [];
  for (const [index, events] of byCall) {
    let first: Event | undefined;
    for (const event of events) {
      const call = standing[index];
      const finding = fromEvent(event, index);
      const isOther = events.length > 1 && event.access.target.id !== call?.access.target.id;
      if (call === undefined || isOther || !isSameStatement(event, first)) {
        apart.push(
          first === undefined || isOther ? finding : { ...finding, conflicts: [...finding.conflicts, COPIED] },
        );
        continue;
      }
      standing[index] = first ? withPieces(call, finding) : asSpan(finding, call.id, tree.spans[index], call);
      first ??= event;
      for (const alias of [event.ownId, ...event.aliases]) aliases.set(alias, call.id);
    }
  }
  return apart;
}

const COPIED = 'the statement names a call that another line of the database is known to be of';

/** Lines of one session are of one statement when that is the same. Their own ids are `session/line`. */
function isSameStatement({ access }: Event, first: Event | undefined): boolean {
  if (first === undefined) return true;
  const sessionOf = ({ ownId }: Access): string => ownId.slice(0, Math.max(0, ownId.lastIndexOf('/')));
  return (
    sessionOf(access) === sessionOf(first.access) &&
    access.sections.db?.statement === first.access.sections.db?.statement
  );
}

function withPieces(call: Finding, { pieces, evidence }: Finding): Finding {
  return { ...call, pieces: [...call.pieces, ...pieces], evidence: [...call.evidence, ...evidence] };
}

function withoutLiving(aliases: ReadonlyMap<string, string>, list: readonly Finding[]): ReadonlyMap<string, string> {
  if (aliases.size === 0) return NO_IDS;
  const living = new Set(list.map((finding) => finding.id));
  const gone = [...aliases].filter(([id, standsFor]) => !living.has(id) && living.has(standsFor));
  return new Map(gone.sort(([left], [right]) => ascending(left, right)));
}
