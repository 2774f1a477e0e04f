import type { AuditRecord } from '../core/record.ts';

/** Longest reason and longest name in a sentence; the fields of the record hold the whole text. */
const REASON_CHARS_MAX = 200;
const NAME_CHARS_MAX = 120;
const ROLES_MAX = 3;

/** How a sentence tells common actions: the past tense and the infinitive, each with its preposition. */
const VERBS: ReadonlyMap<string, readonly string[]> = new Map(
  Object.entries({
    'read/read':
      'get head select read find query view list search scan hget mget fetch getobject headobject listobjectsv2',
    'wrote/write': 'put write set hset putobject',
    'posted to/post to': 'post',
    'asked for the options of/ask for the options of': 'options',
    'changed/change': 'patch',
    'updated/update': 'update',
    'inserted into/insert into': 'insert',
    'created/create': 'create',
    'deleted/delete': 'delete del deleteobject',
    'dropped/drop': 'drop',
    'altered/alter': 'alter',
    'emptied/empty': 'truncate',
    'exported/export': 'export',
    'downloaded/download': 'download',
    'uploaded/upload': 'upload',
    'published to/publish to': 'publish send',
    'received from/receive from': 'receive',
    'processed a message of/process a message of': 'process',
    'ran the tool/run the tool': 'execute_tool',
    'logged in/log in': 'login',
    'logged out/log out': 'logout',
  }).flatMap(([forms, actions]) => actions.split(' ').map((action) => [action, forms.split('/')] as const)),
);

const CALL: readonly string[] = ['called', 'call'];

/** Actions that are about the actor's own account, which the sentence has named already. */
const ABOUT_SELF = new Set(['login', 'logout']);

const PLAIN_LINE = /^[!-~]+(?: [!-~]+)*$/;

/** One line without control characters, at most so long. */
function oneLine(text: string, charsMax: number): string {
  const line = PLAIN_LINE.test(text) ? text : text.replace(/[\s\p{Cc}\p{Cf}]+/gu, ' ').trim();
  return line.length > charsMax ? `${line.slice(0, charsMax - 1).replace(/[\ud800-\udbff]$/, '')}…` : line;
}

/** `41 ms`, `3.2 s`, `2 min 5 s`: at most two numbers, as a person would say it. */
export function describeDuration(nanoseconds: number): string {
  if (nanoseconds < 1e3) return `${nanoseconds} ns`;
  if (nanoseconds < 999.5e3) return `${Math.round(nanoseconds / 1e3)} µs`;
  if (nanoseconds < 999.5e6) return `${Math.round(nanoseconds / 1e6)} ms`;
  if (nanoseconds < 59.95e9) return `${Math.round(nanoseconds / 1e8) / 10} s`;
  const seconds = Math.round(nanoseconds / 1e9);
  const [count, large, small] = seconds < 3600 ? [seconds, 'min', 's'] : [Math.round(seconds / 60), 'h', 'min'];
  const rest = count % 60 === 0 ? '' : ` ${count % 60} ${small}`;
  return `${Math.floor(count / 60)} ${large}${rest}`;
}

function whoIn(record: Omit<AuditRecord, 'message'>): string {
  const { user, audit } = record;
  const name = user?.name ?? user?.id ?? user?.email;
  if (name === undefined)
    return audit.actor.claimed ? `someone claiming to be ${oneLine(audit.actor.claimed, NAME_CHARS_MAX)}` : 'someone';
  const type = audit.actor.type === 'user' || audit.actor.type === 'anonymous' ? '' : `${audit.actor.type} `;
  const roles = user?.roles?.slice(0, ROLES_MAX).map((role) => oneLine(role, NAME_CHARS_MAX)) ?? [];
  return `${type}${oneLine(name, NAME_CHARS_MAX)}${roles.length > 0 ? ` (${roles.join(', ')})` : ''}`;
}

/**
 * What was accessed, as short as it is still clear: without the service or the messaging system that the rest names.
 */
function targetIn(record: Omit<AuditRecord, 'message'>): string {
  const { target } = record.audit;
  const text = target.type === 'endpoint' ? target.id : (target.name ?? target.id);
  const service = target.service ?? record.service?.name;
  const system = record.messaging?.system;
  const prefix = service !== undefined && text.startsWith(`${service} `) ? service : system;
  return oneLine(
    prefix !== undefined && text.startsWith(`${prefix} `) ? text.slice(prefix.length + 1) : text,
    NAME_CHARS_MAX,
  );
}

function requestIn(record: Omit<AuditRecord, 'message'>, target: string, named: string): string {
  const method = record.http?.request?.method;
  if (method === undefined || record.audit.target.type !== 'endpoint') return '';
  const route = oneLine(record.http?.route ?? record.url?.path ?? '', NAME_CHARS_MAX);
  const place = route === target ? '' : route;
  if (named === method) return place === '' ? '' : ` (${place})`;
  return place === '' ? ` (${method})` : ` (${method} ${place})`;
}

function deedIn(record: Omit<AuditRecord, 'message'>): string {
  const action = oneLine(record.event.action, NAME_CHARS_MAX);
  const key = action.toLowerCase();
  const isCall = record.audit.target.type.startsWith('rpc');
  const [past, infinitive] = isCall ? CALL : (VERBS.get(key) ?? [`did ${action} on`, `do ${action} on`]);
  const target = ABOUT_SELF.has(key) ? '' : targetIn(record);
  const of = target === '' ? '' : ` ${target}`;
  if (record.audit.decision === 'deny' && !ABOUT_SELF.has(key)) {
    return `was refused ${isCall ? 'a call of' : `${action} on`}${of}${requestIn(record, target, action)}`;
  }
  const verb = record.event.outcome === 'failure' ? `failed to ${infinitive}` : past;
  return `${verb}${of}${requestIn(record, target, '')}`;
}

/** A reason fit for a sentence: one line, cut, and without quoted values. Quoted names of tables and the like stay. */
function reasonIn(record: Omit<AuditRecord, 'message'>): string {
  const { outcome, reason } = record.event;
  if (reason === undefined || (outcome !== 'failure' && record.audit.decision !== 'deny')) return '';
  return `: ${oneLine(reason.replace(/(?<![\p{L}\p{N}])'[^']*'/gu, '?'), REASON_CHARS_MAX)}`;
}

/**
 * The sentence of a record: who did what to which target, from where, why not, and how long it took, e.g.
 * `alice (nurse) was refused SELECT on shop.orders from 10.0.0.7: permission denied (42501), 41 ms`.
 */
export function describeAccess(record: Omit<AuditRecord, 'message'>): string {
  const from = record.source?.ip === undefined ? '' : ` from ${record.source.ip}`;
  const unknown = record.event.outcome === 'unknown' && record.audit.decision === 'none' ? ', outcome unknown' : '';
  const took = record.event.duration > 0 ? `, ${describeDuration(record.event.duration)}` : '';
  return `${whoIn(record)} ${deedIn(record)}${from}${reasonIn(record)}${unknown}${took}`;
}
