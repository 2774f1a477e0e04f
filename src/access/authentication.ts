import type { Identity } from './access.ts';
import type { Draft } from './draft.ts';

/** ECS event types by what the action's name says; other authentication is `info`. */
const TYPE_BY_ACTION: readonly (readonly [RegExp, string])[] = [
  [/log-?_?out|sign-?_?(?:out|off)|revoke|end/i, 'end'],
  [/log-?_?(?:i|o)n|sign-?_?in|token|authenticate|start|mfa|otp/i, 'start'],
];

/**
 * The same access as an authentication: about the account that it was for, when the evidence tells. On failure the account
 * is only claimed. An event that names another target (an administrator resetting a password) keeps it.
 */
export function asAuthentication(
  draft: Draft,
  action: string,
  account: Identity | undefined,
  keepsTarget = false,
): Draft {
  const label = account?.id ?? account?.name ?? account?.email;
  const isFailure = draft.outcome === 'failure';
  const type = TYPE_BY_ACTION.find(([pattern]) => pattern.test(action))?.[1] ?? 'info';
  const name = account?.name ?? label;
  const service = draft.target.service;
  return {
    ...draft,
    action,
    category: [...new Set(['authentication', ...draft.category])],
    type: draft.decision === 'deny' ? [type, 'denied'] : [type],
    target:
      label === undefined || keepsTarget
        ? draft.target
        : { type: 'account', id: label, ...(name && { name }), ...(service && { service }) },
    ...(isFailure && label !== undefined ? { claimedAccount: label } : {}),
  };
}
