import { SPAN_KIND, type Span } from '../core/evidence.ts';
import type { AccessTarget } from './access.ts';
import { clip, compact, type ErrorText, NAMES, textOf } from './attributes.ts';
import { type Draft, errorOf, failed, headline, type Result, SUCCEEDED } from './draft.ts';
import { readStatement, type Statement } from './statement.ts';

/** ECS event types by verb, or by what a driver calls the operation; the first that fits. */
const TYPES_BY_VERB: readonly (readonly [RegExp, readonly string[]])[] = [
  [/^(?:grant|revoke|set role)\b/i, ['admin']],
  [/^create/i, ['admin', 'creation']],
  [/^(?:alter|rename|comment|reindex|vacuum)/i, ['admin', 'change']],
  [/^drop/i, ['admin', 'deletion']],
  [/^(?:delete|truncate|remove|del$|unlink|expire|flush)|delete$/i, ['deletion']],
  [/^(?:insert|put|add|index$|[lrxz]?push|copy)/i, ['creation']],
  [/^(?:update|replace|merge|upsert|bulk|findandmodify|findoneand|[hm]?set|incr|decr|append)/i, ['change']],
];

interface Refusal {
  readonly kind: 'permission' | 'authentication';
  /** The SQLSTATE, or the code of the product. */
  readonly code?: string;
}

/** How products without a usable SQLSTATE on the span say that they refuse: by code, by exception type or in words. */
const REFUSALS: readonly (readonly [RegExp, RegExp, Refusal])[] = [
  [
    /^postgres/,
    /InsufficientPrivilege|permission denied for|must be (?:owner of|superuser)/i,
    { kind: 'permission', code: '42501' },
  ],
  [/^postgres/, /InvalidPassword|password authentication failed/i, { kind: 'authentication', code: '28P01' }],
  [
    /^postgres/,
    /InvalidAuthorization|no pg_hba\.conf entry|role "[^"]*" does not exist$/i,
    { kind: 'authentication', code: '28000' },
  ],
  [
    /^(?:mysql|mariadb)/,
    /(?:^|\()(?:1044|1142|1143|1227|1370)\b|ER_\w+ACCESS_DENIED|command denied to user|to database '|you need .* privilege/i,
    { kind: 'permission' },
  ],
  [
    /^(?:mysql|mariadb)/,
    /(?:^|\()1045\b|ER_ACCESS_DENIED|access denied for user/i,
    { kind: 'authentication', code: '28000' },
  ],
  [/^(?:mssql|microsoft)/, /^229\b|permission was denied on/i, { kind: 'permission', code: '229' }],
  [/^(?:mssql|microsoft)/, /^18456\b|login failed for user/i, { kind: 'authentication', code: '18456' }],
  [/^oracle/, /ORA-01031|insufficient privileges/i, { kind: 'permission', code: 'ORA-01031' }],
  [/^oracle/, /ORA-01017|invalid username\/password/i, { kind: 'authentication', code: 'ORA-01017' }],
  [/^mongo/, /^13\b|not authorized on/i, { kind: 'permission', code: '13' }],
  [/^mongo/, /^18\b|authentication failed/i, { kind: 'authentication', code: '18' }],
  [/^(?:redis|valkey)/, /\bNOPERM\b|\bNOAUTH\b/, { kind: 'permission' }],
  [/^(?:redis|valkey)/, /\bWRONGPASS\b/, { kind: 'authentication' }],
  [/^elasticsearch|^opensearch/, /^403\b|security_exception.*unauthorized for/i, { kind: 'permission' }],
  [/^elasticsearch|^opensearch/, /^401\b|unable to authenticate/i, { kind: 'authentication' }],
];

const SQLSTATE = /^(?=.*\d)[0-9A-Z]{5}$/;
const SQLSTATE_IN_TEXT = /SQL-?STATE\W{0,3}\s?([0-9A-Z]{5})\b|\((?:code: )?(\d[0-9A-Z]{4})\)/i;
/** All that newer Node instrumentation says of an error besides its code. */
const SAYS_NOTHING = /^PostgreSQL error of type /;
const REFUSAL_WORDS = { permission: 'permission denied', authentication: 'authentication failed' } as const;

/** Calls of a client to a database: one access each, to the table when one is named, else to the database. */
export function readDatabase(span: Span): Draft | undefined {
  const system = textOf(span.attributes, NAMES.dbSystem);
  if (system === undefined || span.kind !== SPAN_KIND.client) return undefined;
  const sent = textOf(span.attributes, NAMES.dbStatement);
  const statement = sent === undefined ? undefined : readStatement(sent, system);
  const operation = operationOf(span, statement);
  const error = errorOf(span);
  const { code, refusal } = refusalOf(span, system, error);
  const result = resultOf(error, code, refusal);
  const user = textOf(span.attributes, NAMES.dbUser);
  const namespace = namespaceOf(span);
  const collection = collectionOf(span, statement, namespace);
  const account = refusal?.kind === 'authentication' ? (user ?? accountIn(error?.message)) : undefined;
  const types = TYPES_BY_VERB.find(([pattern]) => pattern.test(operation))?.[1] ?? ['access'];
  return {
    preset: 'db.client',
    action: operation,
    category: refusal?.kind === 'authentication' ? ['database', 'authentication'] : ['database'],
    type: result.decision === 'deny' ? [...types, 'denied'] : types,
    kind: 'event',
    target: targetOf(system, namespace, collection, account),
    ...result,
    ...(user === undefined ? {} : { effective: { name: user } }),
    ...(account === undefined ? {} : { claimedAccount: account }),
    sections: {
      db: compact({ system, namespace, collection, operation, statement: statement?.text, status_code: code }),
    },
  };
}

function targetOf(
  system: string,
  namespace: string | undefined,
  collection: string | undefined,
  account: string | undefined,
): AccessTarget {
  const database = [system, namespace].filter(Boolean).join('/');
  if (account !== undefined) return { type: 'account', id: account, name: account, service: database };
  const name = [namespace, collection].filter(Boolean).join('.');
  return compact({
    type: collection === undefined ? 'database' : 'table',
    id: clip(name === '' ? system : `${system}/${name}`),
    name: clip(name) || undefined,
  });
}

/** `shop|public` (database and schema of the stable conventions) is `shop`; other schemas stay: `shop.billing`. */
function namespaceOf(span: Span): string | undefined {
  return textOf(span.attributes, NAMES.dbNamespace)
    ?.replace('|', '.')
    .replace(/\.(?:public|dbo)$/, '');
}

/** The table as the instrumentation names it, else from the statement; a schema that repeats the namespace goes. */
function collectionOf(span: Span, statement: Statement | undefined, namespace: string | undefined): string | undefined {
  const named = textOf(span.attributes, NAMES.dbCollection)
    ?.replaceAll(/["`[\]]/g, '')
    .replace(/^(?:public|dbo)\./i, '');
  const table = named ?? statement?.table;
  return namespace !== undefined && table?.startsWith(`${namespace}.`) ? table.slice(namespace.length + 1) : table;
}

/** The stated operation, the statement's verb, or what the span's name begins with (`pg.query:SELECT shop`, `redis-GET`). */
function operationOf(span: Span, statement: Statement | undefined): string {
  const stated = textOf(span.attributes, NAMES.dbOperation) ?? statement?.operation;
  const [named = ''] = (textOf(span.attributes, NAMES.dbSummary) ?? span.name.replace(/^[\w-]+\.query:/, '')).split(
    /[\s:]/,
  );
  const operation = clip(stated ?? (named.split(/[.-]/).at(-1) || 'query'), 256);
  return /^(?:select|insert|update|delete|merge|replace|create|alter|drop|truncate|grant|revoke|begin|commit|rollback|set)\b/i.test(
    operation,
  )
    ? operation.toUpperCase()
    : operation;
}

/** The code of the failure, and whether it says that the database refused. */
function refusalOf(span: Span, system: string, error: ErrorText | undefined): { code?: string; refusal?: Refusal } {
  const stated = textOf(span.attributes, NAMES.dbStatus);
  const typed = error?.type !== undefined && SQLSTATE.test(error.type) ? error.type : undefined;
  const inText = error?.message === undefined ? null : SQLSTATE_IN_TEXT.exec(error.message);
  const code = stated ?? typed ?? inText?.[1] ?? inText?.[2];
  if (code === '42501') return { code, refusal: { kind: 'permission' } };
  if (code !== undefined && SQLSTATE.test(code) && code.startsWith('28'))
    return { code, refusal: { kind: 'authentication' } };
  if (error === undefined) return compact({ code });
  const text = [code, error.type, error.message].filter(Boolean).join(' ');
  const refusal = REFUSALS.find(([product, words]) => product.test(system) && words.test(text))?.[2];
  return compact({ code: code ?? refusal?.code, refusal });
}

function resultOf(error: ErrorText | undefined, code: string | undefined, refusal: Refusal | undefined): Result {
  if (error === undefined && refusal === undefined) return SUCCEEDED;
  const line = headline(error?.message);
  const isTelling = line !== undefined && !(refusal && SAYS_NOTHING.test(line));
  const otherwise = refusal ? REFUSAL_WORDS[refusal.kind] : error?.type === code ? undefined : error?.type;
  const said = isTelling ? line : otherwise;
  const isSaid = code === undefined || said?.includes(code);
  const reason = isSaid ? said : said === undefined ? `error ${code}` : `${said} (${code})`;
  return failed(refusal === undefined ? 'none' : 'deny', reason, error ?? compact({ type: code }));
}

function accountIn(message: string | undefined): string | undefined {
  const match = message === undefined ? null : /\b(?:user|role) (?:"([^"]+)"|'([^']+)')/.exec(message);
  return match?.[1] ?? match?.[2];
}
