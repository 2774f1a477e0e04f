import { hash } from 'node:crypto';
import { exceptionOf } from '../access/attributes.ts';
import { recogniseCheck } from '../access/checks.ts';
import { identityOfAttributes } from '../access/identity.ts';
import { logEventOf, mapLogEvent } from '../access/mapped-event.ts';
import { purposeOf } from '../access/purpose.ts';
import { recogniseLog, recogniseSpan } from '../access/recognise.ts';
import type { AccessRules } from '../access/rules.ts';
import {
  type Examine,
  type FrameNote,
  isPlain,
  type LogRecord,
  type PieceFacts,
  type Resource,
  type Scope,
  type Span,
  STATUS_CODE,
} from '../core/evidence.ts';
import { bytesOf } from '../core/raw-bytes.ts';
import { copyBits, logDigest, noteBits, pieceBits } from './identity.ts';
import { serviceName } from './where.ts';

/**
 * What the rules and the settle would make of each piece of a huge trace by itself. Digests, origins and bits agree with those
 * that a settle of all pieces at once would find, so that the rank is the same however many are looked at.
 */
export function createExamine(rules: AccessRules): Examine {
  const originOf = originBits();
  return (piece) => {
    const origin = originOf(piece.note, piece.resource, piece.scope);
    const bits = pieceBits(piece.raw, noteBits(piece.note));
    if ('kind' in piece) {
      const digest = hash('sha256', bytesOf(piece.raw), 'hex');
      return { ...judgeSpan(piece, rules), digest, origin, bits, service: serviceName(piece.resource) };
    }
    return { ...judgeLog(piece, rules), digest: logDigest(piece), origin, bits, service: undefined };
  };
}

function judgeSpan(span: Span, rules: AccessRules): Pick<PieceFacts, 'kind' | 'isTelling'> {
  const isError = span.statusCode === STATUS_CODE.error;
  const verdict = recogniseSpan(span, rules);
  const isFailure = verdict.kind === 'access' && verdict.access.outcome === 'failure';
  return { kind: verdict.kind, isTelling: isError || isFailure || recogniseCheck(span, rules) !== undefined };
}

function judgeLog(log: LogRecord, rules: AccessRules): Pick<PieceFacts, 'kind' | 'isTelling'> {
  const { evidence } = logEventOf(log, rules.mappings);
  const names = identityOfAttributes(evidence.attributes) !== undefined;
  const isTelling = exceptionOf(log) !== undefined || names || recogniseCheck(evidence, rules) !== undefined;
  return { kind: recogniseLog(log, rules).kind, isTelling };
}

/**
 * Does the log record say nothing that any record could tell, as most do? It states no access and no check, explains no failure, and names
 * nobody and no purpose. The settle of its trace counts it and looks at it no more.
 */
export function isSilent(log: LogRecord, rules: AccessRules): boolean {
  if (!isPlain(log.note)) return false;
  const event = mapLogEvent(log, rules.mappings);
  const { evidence, mapped, unfit } = event;
  if (mapped !== undefined || unfit !== undefined || recogniseLog(log, rules, event).kind !== 'context') return false;
  if (recogniseCheck(evidence, rules) !== undefined) return false;
  const { attributes } = evidence;
  if (attributes.size === 0) return true;
  const isNaming =
    identityOfAttributes(attributes) !== undefined || purposeOf(attributes, rules.purposes) !== undefined;
  return !isNaming && exceptionOf(evidence) === undefined;
}

/** Neighbours share sender, resource and scope, so the last answer is kept. */
function originBits(): (note: FrameNote, resource: Resource, scope: Scope) => number {
  let last: { note: FrameNote; resource: Resource; scope: Scope; bits: number } | undefined;
  return (note, resource, scope) => {
    if (last?.note === note && last.resource === resource && last.scope === scope) return last.bits;
    last = { note, resource, scope, bits: copyBits(note, resource, scope) };
    return last.bits;
  };
}
