import { isIP } from 'node:net';
import { msToNs, parseTimestamp } from '../core/clock.ts';
import { LIST_ITEMS_MAX } from '../core/limits.ts';
import { type FieldNote, Fields, type FieldValue, isPlain, kindOf, quote, Refused } from './access-fields.ts';
import type { LogItem } from './log-items.ts';
import type { RejectedEvent } from './receipt.ts';

/** An event as a log record, or what is wrong with it. */
export type ReadEvent =
  | { readonly ok: true; readonly item: LogItem; readonly id: string; readonly notes: readonly FieldNote[] }
  | { readonly ok: false; readonly problem: Omit<RejectedEvent, 'index'> };

/** When an event came: by our clock, and as which of those that came without id and time, which tells these apart. */
export interface Arrival {
  readonly nowMs: number;
  readonly sequence: () => number;
}

/** How far ahead of our clock an event may be: clocks of hosts without NTP go wrong by minutes; more is a mistake. */
export const FUTURE_MS_MAX = 5 * 60_000;

/** Longest duration: up to here whole nanoseconds stay exact in JSON. 104 days. */
const DURATION_NS_MAX = Number.MAX_SAFE_INTEGER;

const ACTOR_TYPES = ['user', 'service', 'script', 'agent', 'anonymous'] as const;

/** The event's name as a log record; access events are known by it (settings `access.accessEvents`). */
const EVENT_NAME = 'access';

/**
 * Reads one event, whatever it came as: JSON, or a protobuf message as plain data with times as epoch nanoseconds. The same event
 * gives the same log record, byte by byte, whichever way it comes and however often, if it has an id or a time.
 */
export function readAccessEvent(given: unknown, arrival: Arrival): ReadEvent {
  if (!isPlain(given)) {
    const reason = `must be an object with actor, action and target, not ${kindOf(given)}`;
    return { ok: false, problem: { id: '', field: 'event', code: 'invalid', reason } };
  }
  let id = '';
  try {
    const fields = new Fields(given);
    id = fields.name('id') ?? '';
    const item = readItem(fields, id, arrival);
    return { ok: true, item: item.item, id, notes: item.notes };
  } catch (thrown) {
    if (!(thrown instanceof Refused)) throw thrown;
    return { ok: false, problem: { id, field: thrown.field, code: thrown.code, reason: thrown.message } };
  }
}

type Attributes = Map<string, FieldValue>;

function readItem(fields: Fields, id: string, arrival: Arrival): { item: LogItem; notes: readonly FieldNote[] } {
  const attributes: Attributes = new Map();
  const put = (name: string, value: FieldValue | undefined): void => {
    if (value !== undefined && !(Array.isArray(value) && value.length === 0)) attributes.set(name, value);
  };
  put('spantrail.via', 'access_api');
  put('event.id', id === '' ? undefined : id);
  const notes: FieldNote[] = [];
  const read = (part: Fields | undefined, into: (part: Fields) => void): void => {
    if (part === undefined) return;
    into(part);
    notes.push(...part.unknown());
  };
  readActor(fields, put, read);
  const action = fields.name('action');
  if (action === undefined) throw new Refused('action_missing', 'action', 'is missing: what was done, such as "read"');
  put('event.action', action);
  read(fields.object('target', 'id'), (target) => readTarget(target, put));
  put('event.outcome', fields.oneOf('outcome', ['success', 'failure', 'unknown']));
  put('audit.decision', fields.oneOf('decision', ['allow', 'deny', 'none']));
  put('event.reason', fields.words('reason'));
  read(fields.object('rule', 'id'), (rule) => {
    put('rule.id', rule.name('id'));
    put('rule.name', rule.name('name'));
  });
  put('audit.checks', readChecks(fields, notes));
  read(fields.object('source', 'ip'), (source) => readSource(source, put));
  read(fields.object('session', 'id') ?? sessionOf(fields), (session) => put('session.id', session.name('id')));
  put('audit.purpose', fields.words('purpose'));
  read(fields.object('change'), (change) => {
    put('audit.change.before', change.value('before'));
    put('audit.change.after', change.value('after'));
  });
  const durationNs = readDuration(fields, 'duration');
  put('event.duration', durationNs);
  const traceId = fields.hexId('trace_id', 32) ?? '';
  const spanId = fields.hexId('span_id', 16) ?? '';
  if (spanId !== '' && traceId === '') throw new Refused('invalid', 'span_id', 'needs trace_id beside it');
  const timeNs = readTime(fields, id, arrival, notes);
  const service = fields.name('service') ?? '';
  addAttributes(fields, attributes, notes);
  notes.push(...fields.unknown());
  return { item: { service, timeNs, traceId, spanId, eventName: EVENT_NAME, attributes }, notes };
}

function sessionOf(fields: Fields): Fields | undefined {
  const id = fields.name('session_id');
  return id === undefined ? undefined : new Fields({ id });
}

type Put = (name: string, value: FieldValue | undefined) => void;
type Read = (part: Fields | undefined, into: (part: Fields) => void) => void;

function readActor(fields: Fields, put: Put, read: Read): void {
  const actor = fields.object('actor', 'id');
  const id = actor?.name('id');
  const name = actor?.name('name');
  const email = actor?.name('email');
  const type = actor?.oneOf('type', ACTOR_TYPES);
  if (actor === undefined || (id === undefined && name === undefined && email === undefined && type !== 'anonymous')) {
    const field = actor === undefined ? 'actor' : 'actor.id';
    throw new Refused(
      'actor_missing',
      field,
      'is missing: who did it, such as {"id": "alice"}; for nobody {"type": "anonymous"}',
    );
  }
  put('user.id', id);
  put('user.name', name);
  put('user.email', email);
  put('user.roles', actor.names('roles', LIST_ITEMS_MAX));
  put('user.group.name', actor.name('group'));
  put('user.domain', actor.name('domain'));
  put('audit.actor.type', type);
  put('audit.actor.relation', actor.name('relation'));
  read(actor.object('on_behalf_of', 'id'), (principal) => {
    const effective = principal.name('id');
    const effectiveName = principal.name('name');
    const effectiveEmail = principal.name('email');
    if (effective === undefined && effectiveName === undefined && effectiveEmail === undefined) {
      throw new Refused('invalid', principal.path('id'), 'is missing: on whose behalf, such as {"id": "alice"}');
    }
    put('user.effective.id', effective ?? effectiveName ?? effectiveEmail);
    put('user.effective.name', effectiveName);
    put('user.effective.email', effectiveEmail);
  });
  read(actor, () => undefined);
}

function readTarget(target: Fields, put: Put): void {
  const id = target.name('id');
  const name = target.name('name');
  if (id === undefined && name === undefined) {
    throw new Refused('invalid', target.path('id'), 'is missing: what was accessed, such as "patients/7"');
  }
  put('audit.target.type', target.name('type'));
  put('audit.target.id', id ?? name);
  put('audit.target.name', name);
  put('audit.target.service', target.name('service'));
}

function readChecks(fields: Fields, notes: FieldNote[]): readonly FieldValue[] {
  return fields.objects('checks', LIST_ITEMS_MAX).map((check) => {
    const granted = check.get('granted');
    if (typeof granted !== 'boolean') {
      throw new Refused('invalid', check.path('granted'), 'must be true or false: what the check came to');
    }
    const found = {
      permission: check.name('permission'),
      target: check.name('target'),
      granted,
      rule: check.name('rule'),
      span_id: check.hexId('span_id', 16),
      duration: readDuration(check, 'duration'),
      engine: check.name('engine'),
    };
    notes.push(...check.unknown());
    return Object.fromEntries(
      Object.entries(found).filter((entry): entry is [string, string] => entry[1] !== undefined),
    );
  });
}

function readSource(source: Fields, put: Put): void {
  const ip = source.name('ip');
  if (ip !== undefined && isIP(ip) === 0) {
    throw new Refused('invalid', source.path('ip'), `must be an IPv4 or IPv6 address, not ${quote(ip)}`);
  }
  const port = source.get('port');
  const isPort = typeof port === 'number' && Number.isInteger(port) && port >= 0 && port <= 65_535;
  if (port !== undefined && !isPort) {
    throw new Refused('invalid', source.path('port'), `must be a number from 0 to 65535, not ${kindOf(port)}`);
  }
  put('source.ip', ip);
  // Protobuf cannot tell 0 from absent.
  if (isPort && port > 0) put('source.port', port);
  put('user_agent.original', source.words('user_agent'));
}

/** Nanoseconds within a millisecond, by which events that came in it without id and time are told apart. */
const SEQUENCE_END = 1_000_000;

/**
 * The event's time as epoch nanoseconds; 0 for an event with an id that has none: it is then when it was received. Without either,
 * the time of its arrival becomes its own: two events alike stay two, and one that is sent twice becomes two.
 */
function readTime(fields: Fields, id: string, { nowMs, sequence }: Arrival, notes: FieldNote[]): bigint {
  const given = fields.get('time');
  if (given === undefined) {
    if (id !== '') return 0n;
    const reason = 'is missing, and the id, too: the time of arrival is taken; sent again, it would be another event';
    notes.push({ field: 'time', reason });
    return msToNs(nowMs) + BigInt(sequence() % SEQUENCE_END);
  }
  const isDateTime = typeof given === 'string' && given.length > '2026-11-22T'.length;
  const timeNs = typeof given === 'bigint' ? given : isDateTime ? parseTimestamp(given.trim()) : undefined;
  if (timeNs === undefined) {
    const reason = `must be a time of RFC 3339 such as "2026-11-22T10:19:13.5Z", not ${kindOf(given)}`;
    throw new Refused('invalid', 'time', reason);
  }
  if (timeNs <= 0n) throw new Refused('invalid', 'time', 'must be after 1970');
  if (timeNs > msToNs(nowMs + FUTURE_MS_MAX)) {
    const now = new Date(nowMs).toISOString();
    const reason = `is in the future: at most ${FUTURE_MS_MAX / 60_000} minutes ahead of the receiver’s clock, which says ${now}`;
    throw new Refused('time_in_future', 'time', reason);
  }
  return timeNs;
}

const DURATION = /^(\d{1,15})(?:\.(\d{1,9}))?\s*(ns|us|µs|ms|s|m|h)$/;
const UNIT_NS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };

/** Nanoseconds. */
function readDuration(fields: Fields, name: string): number | undefined {
  const given = fields.get(name);
  if (given === undefined) return undefined;
  const [, whole = '', fraction = '', unit = ''] = (typeof given === 'string' && DURATION.exec(given.trim())) || [];
  const nanoseconds =
    whole === ''
      ? Number(typeof given === 'number' || typeof given === 'bigint' ? given : Number.NaN)
      : Math.round(Number(`${whole}.${fraction || '0'}`) * (UNIT_NS[unit] ?? 1));
  if (Number.isInteger(nanoseconds) && nanoseconds >= 0 && nanoseconds <= DURATION_NS_MAX) return nanoseconds;
  const reason = `must be nanoseconds or text such as "41ms" or "1.5s", at most 104 days, not ${kindOf(given)}`;
  throw new Refused('invalid', fields.path(name), reason);
}

/** What the event's own fields say stands; an attribute that would say it again is left out, and that is told. */
function addAttributes(fields: Fields, attributes: Attributes, notes: FieldNote[]): void {
  for (const [name, value] of fields.attributes('attributes')) {
    if (!attributes.has(name)) attributes.set(name, value);
    else if (JSON.stringify(attributes.get(name)) !== JSON.stringify(value)) {
      notes.push({ field: `attributes.${name}`, reason: 'left out: a field of the event says it already' });
    }
  }
}
