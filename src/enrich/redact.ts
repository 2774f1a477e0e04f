import type { Access } from '../access/access.ts';
import { type ErrorText, NAMES, textOf } from '../access/attributes.ts';
import type { Draft } from '../access/draft.ts';
import { redactAddresses, redactErrorText } from '../access/error-text.ts';
import type { Span } from '../core/evidence.ts';

type IsSecret = (name: string) => boolean;

/** What every address with a secret in it holds. */
const ADDRESS = /=|:\/\//;
const ADDRESS_OR_QUOTE = /[='"]|:\/\//;

function mayHold(text: string | undefined): boolean {
  return text !== undefined && ADDRESS.test(text);
}

/** The texts of an error without the secrets in addresses. */
export function withoutSecrets<T extends ErrorText>(error: T, isSecret: IsSecret): T {
  const { message, stack } = error;
  if (!mayHold(message) && !mayHold(stack)) return error;
  return {
    ...error,
    ...(message !== undefined && { message: redactAddresses(message, isSecret) }),
    ...(stack !== undefined && { stack: redactAddresses(stack, isSecret) }),
  };
}

/** Errors of spans have lost what databases quote; an event repeats such texts as its sender had them. */
function withoutValues(access: Access): Access {
  const { reason, error } = access;
  if (access.source === 'span' || (reason === undefined && error === undefined)) return access;
  const { message, stack } = error ?? {};
  return {
    ...access,
    ...(reason !== undefined && { reason: redactErrorText(reason) }),
    ...(error && {
      error: {
        ...error,
        ...(message !== undefined && { message: redactErrorText(message) }),
        ...(stack !== undefined && { stack: redactErrorText(stack, '', true) }),
      },
    }),
  };
}

/** An access whose target, reason and error hold neither secrets in addresses nor values that a database quoted. */
export function redactAccess(given: Access, isSecret: IsSecret): Access {
  return redactDraft(withoutValues(given), isSecret);
}

/** The same of what a span says: its errors hold no values any more. */
export function redactDraft<T extends Draft>(access: T, isSecret: IsSecret): T {
  const { target, reason, error, checks } = access;
  const isPlain = !mayHold(target.id) && !mayHold(target.name) && !mayHold(reason);
  if (isPlain && error === undefined && checks === undefined) return access;
  return {
    ...access,
    ...(checks && { checks: checks.map((check) => redactTexts(check, isSecret)) }),
    target: {
      ...target,
      id: redactAddresses(target.id, isSecret),
      ...(target.name !== undefined && { name: redactAddresses(target.name, isSecret) }),
    },
    ...(reason !== undefined && { reason: redactAddresses(reason, isSecret) }),
    ...(error && { error: withoutSecrets(error, isSecret) }),
  };
}

/** A check whose texts hold neither: what is asked for is an address at times, and engines give their reasons in others' words. */
export function redactTexts<T extends { readonly [Key in 'permission' | 'target' | 'rule' | 'reason']?: string }>(
  check: T,
  isSecret: IsSecret,
): T {
  const { permission, target, rule, reason } = check;
  if (![permission, target, rule, reason].some((text) => text !== undefined && ADDRESS_OR_QUOTE.test(text)))
    return check;
  return {
    ...check,
    ...(permission !== undefined && { permission: redactAddresses(permission, isSecret) }),
    ...(target !== undefined && { target: redactAddresses(target, isSecret) }),
    ...(rule !== undefined && { rule: redactAddresses(rule, isSecret) }),
    ...(reason !== undefined && { reason: redactAddresses(redactErrorText(reason), isSecret) }),
  };
}

/** A span whose name, should an instrumentation have put an address or a statement there, holds no secret and no value. */
export function redactName(span: Span, isSecret: IsSecret): Span {
  const { name } = span;
  if (!ADDRESS_OR_QUOTE.test(name)) return span;
  const system = textOf(span.attributes, NAMES.dbSystem);
  // It says less than others of the same content.
  return { ...span, name: redactAddresses(redactErrorText(name, system), isSecret), content: undefined };
}
