import type { AuditRecord } from '../core/record.ts';

/** Longest reason and longest name in a sentence; the fields of the record hold the whole text. */
const REASON_CHARS_MAX = 200;
const NAME_CHARS_MAX = 120;
const ROLES_MAX = 3;

/** How a sentence tells common actions: the past tense and the infinitive, each with its preposition. */
const VERBS: ReadonlyMap<string, readonly string[]> = new Map(
  Object.entries({
    'read/read':
      'get head select read find query view list search scan hget mget fetch aggregate count distinct ' +
      'hgetall hmget hkeys hvals hlen hexists exists type ttl pttl strlen getrange lrange lindex llen smembers sismember ' +
      'scard zrange zrangebyscore zscore zcard xrange xread keys hscan sscan zscan ' +
      'getobject headobject listobjects listobjectsv2 headbucket',
    'wrote/write':
      'put write set setex psetex setnx mset append hset hmset hincrby incr incrby decr decrby ' +
      'lpush rpush sadd zadd xadd putobject',
    'posted to/post to': 'post',
    'asked for the options of/ask for the options of': 'options',
    'changed/change': 'patch',
    'updated/update': 'update',
    'inserted into/insert into': 'insert',
    'imported into/import into': 'import',
    'created/create': 'create createbucket',
    'deleted/delete': 'delete del unlink hdel srem zrem deleteobject deleteobjects deletebucket',
    'dropped/drop': 'drop',
    'altered/alter': 'alter',
    'emptied/empty': 'truncate flushdb flushall',
    'exported/export': 'export',
    'copied/copy': 'copy copyobject',
    'followed/follow': 'tail',
    'retried/retry': 'retry',
    'reconciled/reconcile': 'reconcile',
    'downloaded/download': 'download',
    'uploaded/upload': 'upload',
    'connected to/connect to': 'connect',
    'published to/publish to': 'publish send',
    'received from/receive from': 'receive',
    'processed a message of/process a message of': 'process',
    'ran the tool/run the tool': 'execute_tool',
    'ran the mutation/run the mutation': 'mutation',
    'subscribed to/subscribe to': 'subscription',
    'logged in/log in': 'login',
    'logged out/log out': 'logout',
  }).flatMap(([forms, actions]) => actions.split(' ').map((action) => [action, forms.split('/')] as const)),
);

const CALL: readonly string[] = ['called', 'call'];

/** Actions that are about the actor's own account, which the sentence has named already. */
const ABOUT_SELF = new Set(['login', 'logout']);

/** What authentication does besides, most often to the actor's own account too. */
const TOKEN_VERBS: ReadonlyMap<string, readonly string[]> = new Map(
  Object.entries({
    'obtained a token/obtain a token': 'token issue issued grant granted',
    'refreshed a token/refresh a token': 'refresh refreshed renew renewed',
    'revoked a token/revoke a token': 'revoke revoked',
  }).flatMap(([forms, actions]) => actions.split(' ').map((action) => [action, forms.split('/')] as const)),
);

const PLAIN_LINE = /^[!-~]+(?: [!-~]+)*$/;

/** One line without control characters, at most so long. */
function oneLine(text: string, charsMax: number): string {
  const line = PLAIN_LINE.test(text) ? text : text.replace(/[\s\p{Cc}\p{Cf}]+/gu, ' ').trim();
  return line.length > charsMax ? `${line.slice(0, charsMax - 1).replace(/[\ud800-\udbff]$/, '')}…` : line;
}

/** How a sentence ends: how long it took, nanoseconds. */
export function tookText(nanoseconds: number): string {
  return nanoseconds > 0 ? `, ${describeDuration(nanoseconds)}` : '';
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
  return `${type}${oneLine(name, NAME_CHARS_MAX)}${roles.length > 0 ? ` (${roles.join(', ')})` : ''}${behalfIn(record)}`;
}

/** For whom an agent acts. A login at a database, which has a name and no id, is nobody. */
function behalfIn({ user, audit }: Omit<AuditRecord, 'message'>): string {
  const { id, name = id } = user?.effective ?? {};
  return audit.actor.type !== 'agent' || id === undefined || name === undefined
    ? ''
    : ` for ${oneLine(name, NAME_CHARS_MAX)}`;
}

/**
 * What was accessed, as short as it is still clear: without the service or the messaging system that the rest names.
 */
function targetIn(record: Omit<AuditRecord, 'message'>): string {
  const { target } = record.audit;
  // The name of an object leaves out its bucket, and databases of Redis have numbers for names.
  const isBare = (target.type === 'object' && target.service === 'S3') || /^\d+$/.test(target.name ?? '');
  const text = target.type === 'endpoint' || isBare ? target.id : (target.name ?? target.id);
  const service = target.service ?? record.service?.name;
  const system = record.messaging?.system;
  const prefix = service !== undefined && text.startsWith(`${service} `) ? service : system;
  return oneLine(
    prefix !== undefined && text.startsWith(`${prefix} `) ? text.slice(prefix.length + 1) : text,
    NAME_CHARS_MAX,
  );
}

/** The request with its route, unless both are told already: `named` is the action where the sentence has it. */
function requestIn(record: Omit<AuditRecord, 'message'>, target: string, named: string): string {
  const method = record.http?.request?.method;
  if (method === undefined || record.audit.target.type !== 'endpoint') return '';
  const route = oneLine(record.http?.route ?? record.url?.path ?? '', NAME_CHARS_MAX);
  if (route === '' || route === target) return '';
  const said = oneLine(method, NAME_CHARS_MAX);
  return named === said ? ` (${route})` : ` (${said} ${route})`;
}

/** Authentication that reads better than `did X on Y`; undefined for the rest. */
function authenticationIn(record: Omit<AuditRecord, 'message'>, key: string): string | undefined {
  const { event, audit, db, user } = record;
  if (!event.category.includes('authentication')) return undefined;
  const { target, actor } = audit;
  const isBad = event.outcome === 'failure' || audit.decision === 'deny';
  if (db !== undefined && target.type === 'account') {
    return `${isBad ? 'failed to log in' : 'logged in'} to ${oneLine(target.service ?? db.system ?? 'a database', NAME_CHARS_MAX)}`;
  }
  const verbs = TOKEN_VERBS.get(key);
  if (verbs === undefined) return undefined;
  const isTold =
    ['endpoint', 'event'].includes(target.type) ||
    [user?.id, user?.name, user?.email, actor.claimed].includes(target.id);
  const whose = isTold ? '' : ` for ${targetIn(record)}`;
  const [past, infinitive] = verbs;
  return `${isBad ? `failed to ${infinitive}` : past}${whose}`;
}

/** COPY of PostgreSQL goes both ways, which only the statement tells. */
function verbKey(record: Omit<AuditRecord, 'message'>, action: string): string {
  const key = action.toLowerCase();
  const copied = key === 'copy' ? record.db?.statement : undefined;
  if (copied === undefined) return key;
  return /\bfrom\s+(?:stdin|program|\?)/i.test(copied) ? 'import' : /\sto\s/i.test(copied) ? 'export' : key;
}

function deedIn(record: Omit<AuditRecord, 'message'>): string {
  const action = oneLine(record.event.action, NAME_CHARS_MAX);
  const key = verbKey(record, action);
  const authentication = authenticationIn(record, key);
  if (authentication !== undefined) return authentication;
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

/** Where the request came from. What a service did in its own name inside of another's request did not come from there. */
function fromIn({ source, audit }: Omit<AuditRecord, 'message'>): string {
  const isOwn = !audit.entry && audit.actor.attribution === 'service';
  return source?.ip === undefined || isOwn ? '' : ` from ${source.ip}`;
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
  const unknown = record.event.outcome === 'unknown' && record.audit.decision === 'none' ? ', outcome unknown' : '';
  const took = tookText(record.event.duration);
  const around = record.audit.join.state === 'out_of_band' ? ' around the application' : '';
  return `${whoIn(record)} ${deedIn(record)}${fromIn(record)}${around}${reasonIn(record)}${unknown}${took}`;
}
