import type { Access, AccessDraft, AccessSections, Identity } from '../access/access.ts';
import { LIST_ITEMS_MAX } from '../core/limits.ts';

interface Merged {
  readonly access: Access;
  /** Where the event and the span contradict each other, as text for `audit.join.conflicts`. */
  readonly conflicts: readonly string[];
}

function differs(left: string | undefined, right: string | undefined): boolean {
  return left !== undefined && right !== undefined && left.toLowerCase() !== right.toLowerCase();
}

/** Names of one person under several fields: alike when nothing that both state differs. */
function isSamePerson(left: Identity, right: Identity): boolean {
  if (differs(left.id, right.id)) return false;
  if (left.id !== undefined && right.id !== undefined) return true;
  return !differs(left.name, right.name) && !differs(left.email, right.email);
}

function nameOf(identity: Identity): string {
  return identity.id ?? identity.name ?? identity.email ?? 'nobody';
}

function contradictions(event: AccessDraft, span: AccessDraft): string[] {
  const unstated = new Set(event.unstated);
  const conflicts: string[] = [];
  const [teller, other] = [event.outOfBand ? 'database' : 'event', span.outOfBand ? 'database' : 'span'];
  const compare = (what: string, ofEvent: string, ofSpan: string, silence: string): void => {
    if (ofEvent === silence || ofSpan === silence || !differs(ofEvent, ofSpan)) return;
    conflicts.push(`${what}: the ${teller} says ${ofEvent}, the ${other} ${ofSpan}`);
  };
  if (!unstated.has('action')) compare('action', event.action, span.action, '');
  if (!unstated.has('target')) compare('target', event.target.id, span.target.id, '');
  if (!beganOnly(event)) {
    compare('outcome', event.outcome, span.outcome, 'unknown');
    compare('decision', event.decision, span.decision, 'none');
  }
  if (event.actor && span.actor && !isSamePerson(event.actor, span.actor)) {
    compare('actor', nameOf(event.actor), nameOf(span.actor), 'nobody');
  }
  return conflicts;
}

export function mergeSections(event: AccessSections, span: AccessSections): AccessSections {
  const merged: Record<string, unknown> = {};
  const names = new Set([...Object.keys(span), ...Object.keys(event)]);
  for (const name of names) merged[name] = fill(valueAt(event, name), valueAt(span, name));
  return merged;
}

function valueAt(holder: object, key: string): unknown {
  return (holder as Readonly<Record<string, unknown>>)[key];
}

/** The first value, with what it leaves out taken from the second, level by level. */
function fill(first: unknown, second: unknown): unknown {
  if (first === undefined) return second;
  const isPlain = (value: unknown): value is object =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isPlain(first) || !isPlain(second)) return first;
  const keys = new Set([...Object.keys(second), ...Object.keys(first)]);
  return Object.fromEntries([...keys].map((key) => [key, fill(valueAt(first, key), valueAt(second, key))]));
}

/** A database writes that a statement is allowed before it runs: what becomes of it is for the call to say. */
function beganOnly(event: AccessDraft): boolean {
  return event.outOfBand === true && event.outcome !== 'failure' && event.decision !== 'deny';
}

/** What a database says it refused it refused, whatever the application says of it. */
function isRefusedByAsked(span: AccessDraft): boolean {
  return span.outOfBand === true && span.outcome === 'failure';
}

/** The actor that the event states, with more about the same person from the span. */
function mergeActor(event: Identity | undefined, span: Identity | undefined): Identity | undefined {
  if (event === undefined || span === undefined) return event;
  return isSamePerson(event, span) ? { ...span, ...event } : event;
}

/**
 * An event fills what it leaves out from the access of its span: the event wins field by field. Why something was
 * refused is taken from the span only while the two agree on how it ended. The times are the span's unless the event
 * states a duration of its own.
 */
export function mergeEvent(event: Access, span: Access): Merged {
  const unstated = new Set(event.unstated);
  const spanDecides = beganOnly(event) || isRefusedByAsked(span);
  const outcome =
    event.outcome === 'unknown' || (spanDecides && span.outcome !== 'unknown') ? span.outcome : event.outcome;
  // Where the two contradict each other on how it ended, the span's decision would contradict the outcome of the record.
  const mayFill = event.decision === 'none' && outcome === span.outcome;
  const decision = mayFill || (spanDecides && span.decision !== 'none') ? span.decision : event.decision;
  const agrees = outcome === span.outcome && decision === span.decision;
  const why = event.reason !== undefined || event.whySource !== 'none' || !agrees ? event : span;
  const actor = mergeActor(event.actor, span.actor);
  const target = unstated.has('target') ? span.target : { ...event.target, ...fillTarget(event, span) };
  const checks = [...(event.checks ?? []), ...(span.checks ?? [])].slice(0, LIST_ITEMS_MAX);
  const error = event.error ?? (agrees ? span.error : undefined);
  const effective = event.effective ?? span.effective;
  const rule = event.rule ?? (agrees ? span.rule : undefined);
  const claimedAccount = event.claimedAccount ?? span.claimedAccount;
  const times = event.startNs === event.endNs ? span : event;
  const access: Access = {
    ...event,
    action: unstated.has('action') ? span.action : event.action,
    category: unstated.has('category') ? span.category : event.category,
    type: unstated.has('type') ? span.type : event.type,
    target,
    outcome,
    decision,
    ...(why.reason !== undefined && { reason: why.reason }),
    whySource: why.whySource,
    ...(rule && { rule }),
    ...(checks.length > 0 && { checks }),
    ...(actor && { actor }),
    ...(effective && { effective }),
    ...(claimedAccount && { claimedAccount }),
    ...(error && { error }),
    sections: mergeSections(event.sections, span.sections),
    startNs: times.startNs,
    endNs: times.endNs,
  };
  return { access, conflicts: contradictions(event, span) };
}

/** The service that was asked is known to the span when the event names the same target without it. */
function fillTarget(event: Access, span: Access): { service?: string } {
  const service = event.target.service ?? span.target.service;
  return service === undefined ? {} : { service };
}
