import { SPAN_KIND, type Span } from '../core/evidence.ts';
import type { AccessSections, AccessTarget } from './access.ts';
import { clip, compact, type ErrorText, NAMES, remember, textOf } from './attributes.ts';
import { type Draft, errorOf, failed, headline, type Result, SUCCEEDED, targetOf } from './draft.ts';
import { operationOf, tellingStatement } from './operation.ts';
import type { Statement } from './statement.ts';

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
  const statement = sent === undefined ? undefined : tellingStatement(sent, system);
  const { operation, types } = operationOf(span, system, sent, statement);
  const error = errorOf(span);
  const { code, refusal } = refusalOf(span, system, error);
  const result = resultOf(error, code, refusal);
  const user = textOf(span.attributes, NAMES.dbUser);
  const namespace = namespaceOf(span, system);
  const collection = collectionOf(span, statement, namespace);
  const account = refusal?.kind === 'authentication' ? (user ?? accountIn(error?.message)) : undefined;
  return {
    preset: 'db.client',
    action: operation,
    category: refusal?.kind === 'authentication' ? ['database', 'authentication'] : ['database'],
    type: result.decision === 'deny' ? [...types, 'denied'] : types,
    kind: 'event',
    target: databaseTarget(system, namespace, collection, account),
    ...result,
    ...(user === undefined ? undefined : { effective: { name: user } }),
    ...(account === undefined ? undefined : { claimedAccount: account }),
    sections: { db: databaseSection({ system, namespace, collection, operation, statement: statement?.text, code }) },
  };
}

type Said = Readonly<Record<'namespace' | 'collection' | 'statement' | 'code', string | undefined>>;

function databaseSection(said: Said & { readonly system: string; readonly operation: string }) {
  const db: NonNullable<AccessSections['db']> = { system: said.system };
  if (said.namespace !== undefined) db.namespace = said.namespace;
  if (said.collection !== undefined) db.collection = said.collection;
  db.operation = said.operation;
  if (said.statement !== undefined) db.statement = clip(said.statement);
  if (said.code !== undefined) db.status_code = said.code;
  return db;
}

function databaseTarget(
  system: string,
  namespace: string | undefined,
  collection: string | undefined,
  account: string | undefined,
): AccessTarget {
  if (account !== undefined)
    return targetOf('account', account, account, namespace ? `${system}/${namespace}` : system);
  const name = namespace && collection ? `${namespace}.${collection}` : namespace || collection || '';
  const type = collection === undefined ? 'database' : 'table';
  return targetOf(type, name === '' ? system : `${system}/${name}`, clip(name) || undefined);
}

/**
 * `shop|public` (database and schema of the stable conventions) is `shop`; other schemas stay: `shop.billing`. Redis counts
 * its databases, and the conventions leave out the first.
 */
function namespaceOf(span: Span, system: string): string | undefined {
  const stated = textOf(span.attributes, NAMES.dbNamespace);
  if (stated === undefined) return system === 'redis' || system === 'valkey' ? '0' : undefined;
  return stated.replace('|', '.').replace(/\.(?:public|dbo)$/, '');
}

/** The table as the instrumentation names it, else from the statement; a schema that repeats the namespace goes. */
function collectionOf(span: Span, statement: Statement | undefined, namespace: string | undefined): string | undefined {
  const named = textOf(span.attributes, NAMES.dbCollection);
  const table = named === undefined ? statement?.table : plainName(named);
  return namespace !== undefined && table?.startsWith(`${namespace}.`) ? table.slice(namespace.length + 1) : table;
}

const plainName = remember((name) => name.replaceAll(/["`[\]]/g, '').replace(/^(?:public|dbo)\./i, ''));

/** The code of the failure, and whether it says that the database refused. */
function refusalOf(span: Span, system: string, error: ErrorText | undefined): { code?: string; refusal?: Refusal } {
  const stated = textOf(span.attributes, NAMES.dbStatus);
  const typed = error?.type !== undefined && SQLSTATE.test(error.type) ? error.type : undefined;
  const inText = error?.message === undefined ? null : SQLSTATE_IN_TEXT.exec(error.message);
  const code = stated ?? typed ?? inText?.[1] ?? inText?.[2];
  if (code === '42501') return { code, refusal: { kind: 'permission' } };
  if (code !== undefined && SQLSTATE.test(code) && code.startsWith('28'))
    return { code, refusal: { kind: 'authentication' } };
  if (error === undefined) return code === undefined ? {} : { code };
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
