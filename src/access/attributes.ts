import { isIP, SocketAddress } from 'node:net';
import type { Attributes, AttributeValue, LogRecord, Span, SpanEvent } from '../core/evidence.ts';
import { FIELD_CHARS_MAX, LIST_ITEMS_MAX, STACK_TRACE_CHARS_MAX } from '../core/limits.ts';
import { ipv4Of } from '../core/network.ts';

/**
 * Every attribute that is read, with its older names: the stable semantic conventions first, then what instrumentations
 * still send. The one list that readers, rules and the decoder's key set go by.
 */
export const NAMES = {
  serviceName: ['service.name'],
  httpMethod: ['http.request.method', 'http.method'],
  httpMethodOriginal: ['http.request.method_original'],
  httpStatus: ['http.response.status_code', 'http.status_code'],
  httpRequestBytes: ['http.request.body.size', 'http.request_content_length'],
  httpResponseBytes: ['http.response.body.size', 'http.response_content_length'],
  httpRoute: ['http.route'],
  httpTarget: ['http.target'],
  urlPath: ['url.path'],
  urlQuery: ['url.query'],
  urlFull: ['url.full', 'http.url'],
  urlScheme: ['url.scheme', 'http.scheme'],
  serverAddress: ['server.address', 'http.host', 'net.host.name', 'http.server_name'],
  clientAddress: ['client.address', 'http.client_ip', 'network.peer.address', 'net.sock.peer.addr', 'net.peer.ip'],
  clientPort: ['client.port', 'network.peer.port', 'net.sock.peer.port', 'net.peer.port'],
  userAgent: ['user_agent.original', 'http.user_agent'],
  peerService: ['service.peer.name', 'peer.service'],
  dbSystem: ['db.system.name', 'db.system'],
  dbNamespace: ['db.namespace', 'db.name', 'db.redis.database_index'],
  dbCollection: [
    'db.collection.name',
    'db.sql.table',
    'db.mongodb.collection',
    'db.cassandra.table',
    'db.elasticsearch.path_parts.index',
    'aws.dynamodb.table_names',
  ],
  dbOperation: ['db.operation.name', 'db.operation'],
  dbStatement: ['db.query.text', 'db.statement'],
  dbSummary: ['db.query.summary'],
  dbStatus: ['db.response.status_code'],
  dbUser: ['db.user'],
  rpcSystem: ['rpc.system.name', 'rpc.system'],
  rpcService: ['rpc.service'],
  rpcMethod: ['rpc.method'],
  rpcStatus: [
    'rpc.response.status_code',
    'rpc.grpc.status_code',
    'rpc.connect_rpc.error_code',
    'rpc.jsonrpc.error_code',
  ],
  rpcMessage: ['rpc.jsonrpc.error_message'],
  messagingSystem: ['messaging.system'],
  messagingDestination: ['messaging.destination.name', 'messaging.destination'],
  messagingRoutingKey: ['messaging.rabbitmq.destination.routing_key', 'messaging.rabbitmq.routing_key'],
  messagingTemplate: ['messaging.destination.template'],
  messagingTemporary: ['messaging.destination.temporary', 'messaging.temp_destination'],
  messagingOperation: ['messaging.operation.type', 'messaging.operation'],
  messagingOperationName: ['messaging.operation.name'],
  messagingId: ['messaging.message.id', 'messaging.message_id'],
  filePath: ['file.path'],
  fileOperation: ['file.operation'],
  s3Bucket: ['aws.s3.bucket'],
  s3Key: ['aws.s3.key'],
  s3CopySource: ['aws.s3.copy_source'],
  toolName: ['gen_ai.tool.name', 'mcp.tool.name'],
  genAiOperation: ['gen_ai.operation.name'],
  agentId: ['gen_ai.agent.id'],
  agentName: ['gen_ai.agent.name'],
  mcpMethod: ['mcp.method.name'],
  mcpResource: ['mcp.resource.uri'],
  errorType: ['error.type'],
  errorMessage: ['error.message'],
  exceptionType: ['exception.type'],
  exceptionMessage: ['exception.message'],
  exceptionStack: ['exception.stacktrace'],
  userId: ['user.id', 'enduser.id', 'audit.actor.id'],
  userPseudoId: ['enduser.pseudo.id'],
  userName: ['user.name', 'audit.actor.name'],
  userEmail: ['user.email'],
  userRoles: ['user.roles', 'enduser.role', 'enduser.scope'],
  userGroup: ['user.group.name'],
  userDomain: ['user.domain'],
  effectiveId: ['user.effective.id'],
  effectiveName: ['user.effective.name'],
  eventName: ['event.name'],
  eventId: ['event.id'],
  eventAction: ['event.action'],
  eventOutcome: ['event.outcome'],
  eventReason: ['event.reason'],
  eventCategory: ['event.category'],
  eventType: ['event.type'],
  eventKind: ['event.kind'],
  eventDuration: ['event.duration'],
  ruleId: ['rule.id'],
  ruleName: ['rule.name'],
  sourceIp: ['source.ip'],
  sourcePort: ['source.port'],
} as const satisfies Record<string, readonly string[]>;

const SPELLINGS: ReadonlyMap<string, readonly string[]> = new Map(
  Object.values(NAMES).flatMap((names) => names.map((name) => [name, names] as const)),
);

/** A list written as one text. */
export function words(text: string): string[] {
  return text.split(' ');
}

/** All names of what a rule calls by one of them, so that a rule fits evidence of either convention. */
export function spellingsOf(name: string): readonly string[] {
  return SPELLINGS.get(name) ?? [name];
}

/** At most `charsMax` UTF-16 units, never ending in half a surrogate pair. */
export function clip(text: string, charsMax = FIELD_CHARS_MAX): string {
  if (text.length <= charsMax) return text;
  const last = text.charCodeAt(charsMax - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? charsMax - 1 : charsMax);
}

/** Nearly all values have letters at both ends, so that there is nothing to trim. */
function trimmed(text: string): string {
  const first = text.charCodeAt(0);
  const last = text.charCodeAt(text.length - 1);
  return first > 0x20 && first < 0x7f && last > 0x20 && last < 0x7f ? text : text.trim();
}

/** A scalar as trimmed, clipped text; the first item of a list; undefined for what is empty or has no text form. */
export function asText(value: AttributeValue | undefined, charsMax = FIELD_CHARS_MAX): string | undefined {
  if (typeof value === 'string') return clip(trimmed(value), charsMax) || undefined;
  if (Array.isArray(value))
    return value.length > 0 && !Array.isArray(value[0]) ? asText(value[0], charsMax) : undefined;
  if (value === undefined || value === null || typeof value === 'object') return undefined;
  return String(value);
}

/** The first of these attributes that holds text. */
export function textOf(attributes: Attributes, names: readonly string[], charsMax?: number): string | undefined {
  for (const name of names) {
    const text = asText(attributes.get(name), charsMax);
    if (text !== undefined) return text;
  }
  return undefined;
}

/** The first of these attributes that is a whole number of at least 0, or text that spells one. */
export function countOf(attributes: Attributes, names: readonly string[]): number | undefined {
  for (const name of names) {
    const value = attributes.get(name);
    if (value === undefined) continue;
    if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 1e15) return value;
    const text = asText(value);
    if (text !== undefined && /^\d{1,15}$/.test(text)) return Number(text);
  }
  return undefined;
}

/** The first of these attributes that holds any text, as a list. Text is split at commas, unless it looks like an LDAP name. */
export function listOf(attributes: Attributes, names: readonly string[]): readonly string[] | undefined {
  for (const name of names) {
    const value = attributes.get(name);
    if (value === undefined) continue;
    const items = asList(value);
    if (items.length > 0) return items;
  }
  return undefined;
}

export function asList(value: AttributeValue | undefined): readonly string[] {
  const given = Array.isArray(value) ? value.map((item) => asText(item)) : [asText(value)];
  const items = given.flatMap((item) => {
    if (item === undefined) return [];
    return item.includes('=') ? [item] : item.split(',').map((part) => part.trim());
  });
  return [...new Set(items.filter((item) => item !== ''))].slice(0, LIST_ITEMS_MAX);
}

/**
 * An IP address in canonical form (IPv6 lower-case and compressed, IPv4-mapped as IPv4), with a port or brackets taken off;
 * undefined for host names and the rest.
 */
export function ipOf(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  // As nearly all of them are, and too many to be remembered.
  return ipv4Of(text) >= 0 ? text : addressIn(text);
}

const addressIn = remember((text) => {
  const bare = /^\[(.+)\](?::\d+)?$/.exec(text)?.[1] ?? /^([\d.]+):\d+$/.exec(text)?.[1] ?? text;
  const [address = ''] = bare.split('%');
  if (isIP(address) === 4) return address;
  if (isIP(address) !== 6) return undefined;
  const canonical = new SocketAddress({ address, family: 'ipv6' }).address;
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(canonical)?.[1] ?? canonical;
});

export function serviceOf(evidence: Span | LogRecord): string | undefined {
  return textOf(evidence.resource.attributes, NAMES.serviceName);
}

export interface ErrorText {
  readonly type?: string;
  readonly message?: string;
  readonly stack?: string;
}

/** The exception that these attributes describe, if any. */
function exceptionIn(attributes: Attributes): ErrorText | undefined {
  const type = textOf(attributes, NAMES.exceptionType);
  const message = textOf(attributes, NAMES.exceptionMessage);
  if (type === undefined && message === undefined) return undefined;
  return compact({ type, message, stack: textOf(attributes, NAMES.exceptionStack, STACK_TRACE_CHARS_MAX) });
}

/** The exception of a span: its last exception event, as the one that ended it. */
export function exceptionOfSpan({ events }: Span): ErrorText | undefined {
  for (let index = events.length - 1; index >= 0; index--) {
    const found = exceptionIn((events[index] as SpanEvent).attributes);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The exception that a log record reports; such a record is context of its span, not an access. */
export function exceptionOf(log: LogRecord): ErrorText | undefined {
  return exceptionIn(log.attributes);
}

/** Keeps the answers for texts that repeat; all are dropped when there are too many. */
export function remember<T>(answer: (text: string) => T, textsMax = 1000): (text: string) => T {
  const known = new Map<string, T>();
  return (text) => {
    let value = known.get(text);
    if (value === undefined && !known.has(text)) {
      value = answer(text);
      if (known.size >= textsMax) known.clear();
      known.set(text, value);
    }
    return value as T;
  };
}

type Compact<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>;
};

/** The object without its undefined members: what is not known is absent. */
export function compact<T extends object>(fields: T): Compact<T> {
  const known: Partial<T> = {};
  for (const key in fields) if (fields[key] !== undefined) known[key] = fields[key];
  return known as unknown as Compact<T>;
}

/** Like `compact`; undefined when nothing is left. */
export function section<T extends object>(fields: T): Compact<T> | undefined {
  const known = compact(fields);
  return Object.keys(known).length > 0 ? known : undefined;
}
