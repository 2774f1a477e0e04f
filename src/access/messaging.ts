import { SPAN_KIND, type Span } from '../core/evidence.ts';
import { compact, NAMES, textOf } from './attributes.ts';
import { type Draft, joined, resultOfStatus, targetOf, typesOf } from './draft.ts';

/** Operation types of the conventions, older ones included, as the three things that can be done to a destination. */
const ACTIONS: Readonly<Record<string, Action>> = {
  publish: 'publish',
  send: 'publish',
  create: 'publish',
  receive: 'receive',
  poll: 'receive',
  process: 'process',
  deliver: 'process',
};

type Action = 'publish' | 'receive' | 'process';

/** Names of RabbitMQ's default exchange, which delivers to the queue that the routing key names. */
const DEFAULT_EXCHANGE = /^(?:<default>|\(default\)|default|amq\.default)?$/;

/** Spans that publish to a destination, take from it, or work on what was taken. Acknowledging is no access of its own. */
export function readMessaging(span: Span): Draft | undefined {
  const { attributes, kind } = span;
  const named = textOf(attributes, NAMES.messagingDestination);
  const system = textOf(attributes, NAMES.messagingSystem);
  if (named === undefined && system === undefined) return undefined;
  const operation = textOf(attributes, NAMES.messagingOperation) ?? textOf(attributes, NAMES.messagingOperationName);
  const byKind = kind === SPAN_KIND.producer ? 'publish' : kind === SPAN_KIND.consumer ? 'process' : undefined;
  const action =
    operation === undefined ? byKind : (ACTIONS[operation] ?? (operation === 'settle' ? undefined : byKind));
  if (action === undefined || (byKind === undefined && kind !== SPAN_KIND.client)) return undefined;
  const routed = DEFAULT_EXCHANGE.test(named ?? '') ? textOf(attributes, NAMES.messagingRoutingKey) : undefined;
  const stated = routed ?? named;
  // Temporary destinations have names made up on the spot; the template is what stays.
  const temporary = textOf(attributes, NAMES.messagingTemporary) === 'true';
  const template = textOf(attributes, NAMES.messagingTemplate);
  const destination = (temporary ? template : (stated ?? template)) ?? (temporary ? '(temporary)' : span.name);
  const result = resultOfStatus(span);
  return {
    preset: action === 'publish' ? 'messaging.producer' : 'messaging.consumer',
    action,
    category: ['api'],
    type: typesOf(action === 'publish' ? 'creation' : 'access', result),
    kind: 'event',
    target: targetOf('topic', destination, joined(system, destination)),
    ...result,
    sections: {
      messaging: compact({
        system,
        destination,
        operation: operation ?? action,
        message_id: textOf(attributes, NAMES.messagingId),
      }),
    },
  };
}
