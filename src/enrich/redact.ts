import type { Access } from '../access/access.ts';
import type { ErrorText } from '../access/attributes.ts';
import { redactAddresses, redactErrorText } from '../access/error-text.ts';

type IsSecret = (name: string) => boolean;

function mayHold(text: string | undefined): boolean {
  return text !== undefined && (text.includes('=') || text.includes('://'));
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
  const access = withoutValues(given);
  const { target, reason, error } = access;
  const isPlain = !mayHold(target.id) && !mayHold(target.name) && !mayHold(reason);
  if (isPlain && error === undefined) return access;
  return {
    ...access,
    target: {
      ...target,
      id: redactAddresses(target.id, isSecret),
      ...(target.name !== undefined && { name: redactAddresses(target.name, isSecret) }),
    },
    ...(reason !== undefined && { reason: redactAddresses(reason, isSecret) }),
    ...(error && { error: withoutSecrets(error, isSecret) }),
  };
}
