import { type Span, STATUS_CODE } from '../core/evidence.ts';
import type { Decision, Outcome, WhySource } from '../core/record.ts';
import type { AccessDraft, AccessTarget } from './access.ts';
import { clip, compact, type ErrorText, exceptionOfSpan, NAMES, textOf } from './attributes.ts';
import { redactErrorText } from './error-text.ts';
import type { OriginRules } from './origin.ts';

/** What a recogniser finds out; ids, times and the evidence are the same for all and are added by recognise.ts. */
export type Draft = Omit<AccessDraft, 'spanId' | 'ownId' | 'evidence' | 'startNs' | 'endNs'>;

export interface Recognition {
  /** Tells query and path parameters whose values must not be stored by their names. */
  readonly isSecret: (name: string) => boolean;
  /** Whose word counts for where a request came from; without it that of the instrumentation. */
  readonly origin?: OriginRules;
}

/** What is known of these with blanks between, clipped. */
export function joined(...parts: (string | undefined)[]): string {
  let text = '';
  for (const part of parts) if (part) text += text === '' ? part : ` ${part}`;
  return clip(text);
}

export function targetOf(type: string, id: string, name?: string, service?: string): AccessTarget {
  const target: { -readonly [Key in keyof AccessTarget]: AccessTarget[Key] } = { type, id: clip(id) };
  if (name !== undefined) target.name = name;
  if (service !== undefined) target.service = service;
  return target;
}

/** All that newer Node instrumentation of PostgreSQL says in an exception; the status holds the message. */
const SAYS_NOTHING = /^PostgreSQL error of type .*?(?:\(code: (\w{5})\)|$)/;

/** The message of a span's error: its exception's, unless that says nothing. */
function messageOf(span: Span, exception: ErrorText | undefined): string | undefined {
  const status = span.statusMessage.trim() === '' ? undefined : span.statusMessage.trim();
  const message = exception?.message ?? textOf(span.attributes, NAMES.errorMessage) ?? status;
  const nothing = message === undefined || status === undefined ? null : SAYS_NOTHING.exec(message);
  if (nothing === null || status === undefined || SAYS_NOTHING.test(status)) return message;
  const [, code] = nothing;
  return code === undefined || textOf(span.attributes, NAMES.dbStatus) !== undefined ? status : `${status} (${code})`;
}

const errors = new WeakMap<Span, ErrorText>();

/** What a span says went wrong; undefined when nothing did. Texts lose the values that databases quote in them. */
export function errorOf(span: Span): ErrorText | undefined {
  const exception = exceptionOfSpan(span);
  const stated = textOf(span.attributes, NAMES.errorType);
  if (exception === undefined && stated === undefined && span.statusCode !== STATUS_CODE.error) return undefined;
  // Several readers of one span ask, and redacting takes its time.
  let error = errors.get(span);
  if (error === undefined) {
    error = readError(span, exception, stated);
    errors.set(span, error);
  }
  return error;
}

function readError(span: Span, exception: ErrorText | undefined, stated: string | undefined): ErrorText {
  // HTTP instrumentations put the status code there; the exception says more.
  const type = stated === undefined || /^\d+$/.test(stated) ? (exception?.type ?? stated) : stated;
  const system = textOf(span.attributes, NAMES.dbSystem);
  const message = messageOf(span, exception);
  return compact({
    type,
    message: message === undefined ? undefined : redactErrorText(message, system),
    stack: exception?.stack === undefined ? undefined : redactErrorText(exception.stack, system, true),
  });
}

/** The first line of a message, without the label that drivers put before it. */
export function headline(message: string | undefined): string | undefined {
  const line = message
    ?.split('\n', 1)[0]
    ?.replace(/^(?:ERROR|FATAL|error):\s+/, '')
    .trim();
  return line === '' ? undefined : line;
}

export interface Result {
  readonly outcome: Outcome;
  readonly decision: Decision;
  readonly whySource: WhySource;
  readonly reason?: string;
  readonly error?: ErrorText;
}

export const SUCCEEDED: Result = { outcome: 'success', decision: 'none', whySource: 'none' };

/** The result of a span that failed, with `reason` as its why. */
export function failed(decision: Decision, reason: string | undefined, error: ErrorText | undefined): Result {
  const whySource: WhySource = reason === undefined ? 'none' : 'status';
  return compact({ outcome: 'failure' as const, decision, whySource, reason, error });
}

const REFUSED =
  /\b(?:access|permission) ?denied\b|\bE(?:ACCES|PERM)\b|\bforbidden\b|\bnot authori[sz]ed\b|\bunauthori[sz]ed\b/i;

/** The result as the span's status has it; an error that names a refusal (`EACCES`, `AccessDenied`) is a denial. */
export function resultOfStatus(span: Span): Result {
  const error = errorOf(span);
  if (error === undefined) return SUCCEEDED;
  const reason = headline(error.message) ?? error.type;
  return failed(REFUSED.test(`${error.type} ${error.message}`) ? 'deny' : 'none', reason, error);
}

/** Adds what the decision says to ECS event types. */
export function typesOf(type: string, result: { readonly decision: Decision; readonly outcome?: Outcome }): string[] {
  if (result.decision === 'deny') return [type, 'denied'];
  return result.decision === 'allow' ? [type, 'allowed'] : [type];
}
