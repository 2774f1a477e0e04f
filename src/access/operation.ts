import type { Span } from '../core/evidence.ts';
import { clip, NAMES, remember, textOf, words } from './attributes.ts';
import { readStatement, type Statement } from './statement.ts';

/** What was done to a database: the operation's name, verbs of SQL in capitals, and the ECS event types it stands for. */
export interface Operation {
  readonly operation: string;
  readonly types: readonly string[];
}

/** ECS event types by verb, or by what a driver calls the operation; the first that fits. */
const TYPES_BY_VERB: readonly (readonly [RegExp, readonly string[]])[] = [
  [/^(?:grant|revoke|set [\w. ]+|acl \w+|client \w+|config (?:set|rewrite)|flush)\b/i, ['admin']],
  [/^create/i, ['admin', 'creation']],
  [/^(?:alter|rename|comment|reindex|vacuum)/i, ['admin', 'change']],
  [/^drop/i, ['admin', 'deletion']],
  [
    /^(?:delete|truncate|remove|[hx]?del$|getdel|unlink|p?expire|flush|[slz]rem|ltrim|[slrz]+m?pop)|delete$/i,
    ['deletion'],
  ],
  [/^(?:insert|put|[szx]?add|geoadd|pfadd|index$|[lrxz]?push|copy)/i, ['creation']],
  [
    /^(?:update|replace|merge|upsert|bulk|findandmodify|findoneand|p?[hlm]?set|[hz]?incr|decr|append|getset)/i,
    ['change'],
  ],
];

/** `COPY t TO STDOUT` and `COPY INTO @stage` take rows out; the literal of a file's name is `?` by now. */
const EXPORT = /\bCOPY\b(?:\s+INTO\s+[@?]|[\s\S]*\bTO\s+(?:STDOUT|PROGRAM|\?))/i;

const SQL_VERB =
  /^(?:select|insert|update|delete|merge|replace|create|alter|drop|truncate|grant|revoke|begin|commit|rollback|set|show|copy)\b/i;

const COMMANDS = /^(?:redis|valkey|keydb)/;
/** Commands of Redis whose second word says what they do. */
const CONTAINERS =
  /^\s*(acl|client|cluster|config|debug|function|latency|memory|module|script|slowlog|xgroup)\s+([a-z-]+)\b/i;

/** Verbs that as a rule only prepare what comes after them. */
const PREPARING = new Set(words('BEGIN START SET SHOW MULTI WATCH'));
/** Settings that change what someone may do, or what is noted of it; and who may do what. */
const TELLING =
  /^\s*(?:(SET)\s+(?:(?:LOCAL|SESSION)\s+)?(ROLE|DEFAULT\s+ROLE|PASSWORD|AUTHORIZATION|GLOBAL|PERSIST|row_security|session_replication_role|log_statement|pgaudit\.\w+)|(SHOW)\s+(GRANTS|CREATE\s+USER))\b/i;
/** A block of statements, not the begin of a transaction. */
const BLOCK =
  /^\s*BEGIN\s+(?!TRAN|WORK\b|ISOLATION\b|READ\b|(?:NOT\s+)?DEFER|IMMEDIATE\b|EXCLUSIVE\b|CONCURRENT\b)(?=\w)/i;
const IS_SIMPLE = /^(?:BEGIN|START TRANSACTION|MULTI);?$/i;
const STATEMENTS_MAX = 8;

/**
 * Reads the statement that a client sent. Of several in one text it is the first that does more than prepare: EF Core writes
 * `SET NOCOUNT ON; UPDATE …`, pipelines `MULTI` and the commands below it.
 */
export function tellingStatement(sent: string, system: string): Statement {
  const whole = readStatement(sent, system);
  return PREPARING.has(whole.operation ?? '') ? afterPreparing(whole, system) : whole;
}

function afterPreparing(whole: Statement, system: string): Statement {
  // The most of them prepare and no more.
  if (IS_SIMPLE.test(whole.text)) return whole;
  let current = whole;
  for (let count = 1; count < STATEMENTS_MAX && PREPARING.has(current.operation ?? ''); count++) {
    const block = BLOCK.exec(current.text)?.[0].length;
    const end = current.text.search(COMMANDS.test(system) ? /\n/ : /;\s*\S/) + 1;
    if ((block === undefined && end === 0) || TELLING.test(current.text)) break;
    const next = readStatement(current.text.slice(block ?? end), system);
    if (next.operation === undefined) break;
    // What a block begins with when it is no statement is a procedure.
    current = block === undefined || SQL_VERB.test(next.operation) ? next : { ...next, operation: 'CALL' };
  }
  const operation = tellingIn(current.text) ?? current.operation;
  return operation === undefined || operation === whole.operation ? whole : { ...current, operation, text: whole.text };
}

/** The stated operation, the statement's verb, or what the span's name begins with (`pg.query:SELECT shop`, `redis-GET`). */
export function operationOf(
  span: Span,
  system: string,
  sent: string | undefined,
  statement: Statement | undefined,
): Operation {
  const stated = textOf(span.attributes, NAMES.dbOperation);
  const read = statement?.operation;
  const isPreparing = stated !== undefined && read !== undefined && PREPARING.has(stated.toUpperCase());
  const named =
    (isPreparing ? read : (stated ?? read)) ?? namedOperation(textOf(span.attributes, NAMES.dbSummary) ?? span.name);
  if (COMMANDS.test(system)) return asCommand(containedIn(sent) ?? named);
  const operation = asOperation(named);
  if (operation.operation !== 'COPY' || statement === undefined || !EXPORT.test(statement.text)) return operation;
  return { ...operation, types: ['access'] };
}

function containedIn(sent: string | undefined): string | undefined {
  const [, command, inner] = (sent === undefined ? null : CONTAINERS.exec(sent)) ?? [];
  return command && `${command} ${inner}`;
}

function tellingIn(text: string): string | undefined {
  const [, set, setting, show, shown] = TELLING.exec(text) ?? [];
  return (set ? `SET ${setting}` : show && `SHOW ${shown}`)?.replace(/\s+/g, ' ');
}

function namedOperation(name: string): string {
  const [first = ''] = name.replace(/^[\w-]+\.query:/, '').split(/[\s:]/);
  return first.split(/[.-]/).at(-1) || 'query';
}

function typed(operation: string): Operation {
  return { operation, types: TYPES_BY_VERB.find(([pattern]) => pattern.test(operation))?.[1] ?? ['access'] };
}

/** An operation by its name alone. */
export function operationNamed(name: string): Operation {
  return asOperation(name);
}

const asOperation = remember((named) => {
  const clipped = clip(named, 256);
  return typed(SQL_VERB.test(clipped) ? clipped.toUpperCase() : clipped);
});

/** Commands of Redis come in either case, depending on the client. */
const asCommand = remember((named) => typed(clip(named, 256).toUpperCase()));
