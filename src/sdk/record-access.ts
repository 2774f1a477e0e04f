import { context, diag } from '@opentelemetry/api';
import { type AnyValueMap, logs } from '@opentelemetry/api-logs';
import { type Actor, attributesOfActor } from './user.ts';

/** One access as the application itself knows it. */
export interface AccessEvent {
  /** Who; a text is the id. Left out, it is the user of the request. */
  readonly actor?: string | Actor | undefined;
  /** What was done, in the application's own words: `open-chart`, `approve`. */
  readonly action: string;
  /** To what: `patients/7`, or its type and id apart. */
  readonly target:
    | string
    | { readonly type?: string | undefined; readonly id: string; readonly name?: string | undefined };
  readonly outcome?: 'success' | 'failure' | 'unknown' | undefined;
  /** Whether it was permitted. An access that was allowed can still fail. */
  readonly decision?: 'allow' | 'deny' | undefined;
  /** Why it was permitted, refused or failed, for people. */
  readonly reason?: string | undefined;
  /** The rule that decided; a text is its id. */
  readonly rule?: string | { readonly id?: string | undefined; readonly name?: string | undefined } | undefined;
  /** The authorisation checks that were made. */
  readonly checks?:
    | readonly {
        readonly permission: string;
        readonly granted: boolean;
        readonly target?: string | undefined;
        readonly rule?: string | undefined;
        readonly durationMs?: number | undefined;
      }[]
    | undefined;
  /** Purpose of use, ticket, break-glass. */
  readonly purpose?: string | undefined;
  /** What the target held before and after, as far as an auditor may see it. */
  readonly change?: { readonly before?: AnyValueMap | string; readonly after?: AnyValueMap | string } | undefined;
  /** The application's own id of the event, kept among its evidence. Outside of spans the same id sent again is the same record. */
  readonly id?: string | undefined;
  /** When it was over; now when left out. */
  readonly time?: Date | undefined;
  /** How long it took. */
  readonly durationMs?: number | undefined;
  /** More attributes of the log record, in the names of the audit record or of the semantic conventions. */
  readonly attributes?: AnyValueMap | undefined;
}

const NANOS_PER_MILLI = 1_000_000;
let hasWarned = false;

/**
 * Records one access: a standard OTLP log record, tied to the current span. Alone on its span, it becomes that span's record;
 * several on one span have a record each. Returns at once; the log record leaves with the next batch, so what must be on disk
 * before work goes on is sent to the access API instead, whose answer can be waited for.
 * @throws TypeError when the action or the target is missing: such a record would say nothing.
 */
export function recordAccess(event: AccessEvent): void {
  const target = typeof event.target === 'string' ? { id: event.target } : event.target;
  requireText('action', event.action);
  requireText('target', target?.id);
  const actor = typeof event.actor === 'string' ? { id: event.actor } : event.actor;
  if (actor !== undefined) requireText('actor', actor.id);
  const active = context.active();
  const logger = logs.getLogger('spantrail/sdk');
  if (!logger.enabled({ context: active, eventName: EVENT_NAME })) warnOnce();
  logger.emit({
    eventName: EVENT_NAME,
    context: active,
    ...(event.time && { timestamp: event.time }),
    attributes: attributesOf(event, actor, target),
  });
}

/** Spantrail reads a log record with this name as an access, whatever else it holds. */
const EVENT_NAME = 'audit.access';

function attributesOf(
  event: AccessEvent,
  actor: Actor | undefined,
  target: Exclude<AccessEvent['target'], string>,
): AnyValueMap {
  const rule = typeof event.rule === 'string' ? { id: event.rule } : event.rule;
  const stated: AnyValueMap = {
    ...(actor && attributesOfActor(actor)),
    'event.id': event.id,
    'event.action': event.action,
    'event.outcome': event.outcome ?? (event.decision === 'deny' ? 'failure' : undefined),
    'event.reason': event.reason,
    'event.duration': event.durationMs === undefined ? undefined : nanoseconds(event.durationMs),
    'audit.decision': event.decision,
    'audit.target.type': target.type,
    'audit.target.id': target.id,
    'audit.target.name': target.name,
    'rule.id': rule?.id,
    'rule.name': rule?.name,
    'audit.purpose': event.purpose,
    'audit.checks': event.checks?.map(({ durationMs, ...check }) =>
      present({ ...check, duration: durationMs === undefined ? undefined : nanoseconds(durationMs) }),
    ),
    'audit.change.before': event.change?.before,
    'audit.change.after': event.change?.after,
  };
  return { ...event.attributes, ...present(stated) };
}

function present(values: AnyValueMap): AnyValueMap {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

function nanoseconds(milliseconds: number): number {
  return Math.round(milliseconds * NANOS_PER_MILLI);
}

function requireText(name: string, value: unknown): void {
  if (typeof value === 'string' && value.trim() !== '') return;
  throw new TypeError(`recordAccess: ${name} must be a text that is not empty`);
}

/** An audit trail that silently goes nowhere would be found out too late. */
function warnOnce(): void {
  if (hasWarned) return;
  hasWarned = true;
  const text = 'recordAccess() records nothing: call startTelemetry() first, and do not switch OpenTelemetry logs off';
  diag.warn(text);
  process.emitWarning(text, { code: 'SPANTRAIL_NO_TELEMETRY' });
}
