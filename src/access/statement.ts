/** What a statement says, without the values in it. */
export interface Statement {
  /** The statement with every literal as `?` and without comments. */
  readonly text: string;
  /** The verb in capitals: the first word, or what follows the expressions of `WITH`. */
  readonly operation?: string;
  /** The table it is about first, with its schema when it names one, without quotes. */
  readonly table?: string;
}

/**
 * How a database reads quotes. `standard`: a backslash is an ordinary character and "…" a name. `backslash`: it escapes and
 * "…" is text, as in MySQL. `unknown`: nobody knows, so a literal with a backslash swallows the rest and "…" is text.
 */
type Dialect = 'standard' | 'backslash' | 'unknown';

const STANDARD =
  /^(?:postgres|oracle|mssql|microsoft\.sql|sqlite|db2|ibm\.db2|h2|hsqldb|derby|redshift|aws\.redshift|cockroach|snowflake|trino|presto|duckdb|vertica|teradata|firebird|sap\.|hanadb|maxdb|cassandra|edb|yugabyte|timescale|actian|ingres|informix)/;
const BACKSLASH = /^(?:mysql|mariadb|clickhouse|gcp\.|spanner|bigquery|hive|spark|databricks|singlestore|tidb|vitess)/;
const KEY_VALUE = /^(?:redis|valkey|memcached|keydb)/;
/** Names without quotes are folded to lower case. */
const FOLDING = /^(?:postgres|redshift|aws\.redshift|cockroach|edb|yugabyte|timescale)/;
/** The schema that a name without one means; spelled out or not, it is the same table. */
const DEFAULT_SCHEMA = /^(?:public|dbo)\./i;

interface Token {
  readonly kind: 'word' | 'name' | 'literal' | 'other';
  readonly text: string;
  readonly spaced: boolean;
}

const BLANK = String.raw`(?<blank>\s+|--[^\n]*|/\*[\s\S]*?(?:\*/|$))`;
const DOLLAR = String.raw`\$(?<tag>[\p{L}_]\w*)?\$[\s\S]*?(?:\$\k<tag>\$|$)`;
const ESCAPED = String.raw`'(?:[^'\\]|\\[\s\S]|'')*(?:'|$)`;
const PLAIN = `(?:[bnx]|u&)?'(?:[^']|'')*(?:'|$)`;
const QUOTED_BY_CHOICE = String.raw`n?q'(?:\[[\s\S]*?\]'|\{[\s\S]*?\}'|\([\s\S]*?\)'|<[\s\S]*?>'|(?<mark>[^\s\w])[\s\S]*?\k<mark>')`;
const NUMBER = String.raw`0x[0-9a-f]+|\d[\d_]*(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?`;
const DOUBLE_ESCAPED = String.raw`"(?:[^"\\]|\\[\s\S]|"")*(?:"|$)`;
const BACKTICK = '`(?:[^`]|``)*(?:`|$)';
const WORD = String.raw`(?<word>[\p{L}_][\p{L}\p{N}_$]*)`;
/** Parameters (`$1`, `:name`, `@name`, `?`) hold no value; `::` is a cast. */
const OTHER = String.raw`(?<other>::|[$:@]+\w+|[\s\S])`;

function tokenPattern(literals: readonly string[], names: readonly string[], blank = BLANK): RegExp {
  return new RegExp(
    [blank, `(?<literal>${literals.join('|')})`, `(?<name>${names.join('|')})`, WORD, OTHER].join('|'),
    'giu',
  );
}

const DOUBLE_NAME = '"(?:[^"]|"")*(?:"|$)';
const TOKENS: Readonly<Record<Dialect, RegExp>> = {
  standard: tokenPattern([`e${ESCAPED}`, QUOTED_BY_CHOICE, PLAIN, DOLLAR, NUMBER], [DOUBLE_NAME, BACKTICK]),
  backslash: tokenPattern(
    [`[bnxr]?${ESCAPED}`, `_\\w+${ESCAPED}`, DOUBLE_ESCAPED, NUMBER],
    [BACKTICK],
    String.raw`(?<blank>\s+|--[^\n]*|#[^\n]*|/\*[\s\S]*?(?:\*/|$))`,
  ),
  unknown: tokenPattern([PLAIN, '"(?:[^"]|"")*(?:"|$)', DOLLAR, NUMBER], [BACKTICK]),
};
const BRACKETED = /^\[[^\]]*\]/;

function dialectOf(system: string): Dialect {
  return STANDARD.test(system) ? 'standard' : BACKSLASH.test(system) ? 'backslash' : 'unknown';
}

function tokenise(statement: string, system: string): Token[] {
  const dialect = dialectOf(system);
  const pattern = TOKENS[dialect];
  const bracketed = /^(?:mssql|microsoft\.sql)/.test(system);
  const tokens: Token[] = [];
  let spaced = false;
  pattern.lastIndex = 0;
  for (let match = pattern.exec(statement); match !== null; match = pattern.exec(statement)) {
    const { blank, literal, name, word, other = '' } = match.groups ?? {};
    if (blank !== undefined) {
      spaced = true;
      continue;
    }
    const bracket = bracketed && other === '[' ? BRACKETED.exec(statement.slice(match.index))?.[0] : undefined;
    if (bracket !== undefined) pattern.lastIndex = match.index + bracket.length;
    const kind = literal !== undefined ? 'literal' : word !== undefined ? 'word' : (bracket ?? name) ? 'name' : 'other';
    tokens.push({ kind, text: kind === 'literal' ? '?' : (word ?? bracket ?? name ?? other), spaced });
    spaced = false;
    if (dialect === 'unknown' && literal?.includes('\\')) break;
  }
  return tokens;
}

function written(tokens: readonly Token[]): string {
  return tokens
    .map((token) => (token.spaced ? ` ${token.text}` : token.text))
    .join('')
    .trim()
    .replace(/\?(?:\s*,\s*\?)+/g, '?')
    .replace(/\(\s*\?\s*\)(?:\s*,\s*\(\s*\?\s*\))+/g, '(?)');
}

/** What stands before the table, by verb. */
const INTRODUCERS: Readonly<Record<string, readonly string[]>> = {
  SELECT: ['FROM', 'JOIN'],
  INSERT: ['INTO', 'INSERT', 'TABLE'],
  REPLACE: ['INTO', 'REPLACE'],
  MERGE: ['INTO', 'MERGE'],
  UPSERT: ['INTO', 'UPSERT'],
  UPDATE: ['UPDATE'],
  DELETE: ['FROM', 'DELETE'],
  TRUNCATE: ['TRUNCATE'],
  COPY: ['COPY', 'FROM'],
  LOCK: ['LOCK'],
  CREATE: ['TABLE', 'VIEW', 'ON'],
  ALTER: ['TABLE', 'VIEW', 'ON'],
  DROP: ['TABLE', 'VIEW', 'ON'],
  REFRESH: ['VIEW'],
  GRANT: ['ON'],
  REVOKE: ['ON'],
  EXPLAIN: ['FROM', 'INTO', 'UPDATE', 'JOIN'],
};
const MAIN_VERBS = new Set(['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'MERGE', 'REPLACE']);
const BETWEEN = new Set([
  'ONLY',
  'IF',
  'NOT',
  'EXISTS',
  'TABLE',
  'TABLES',
  'IGNORE',
  'LATERAL',
  'LOW_PRIORITY',
  'CONCURRENTLY',
]);
const NOT_A_NAME = new Set([
  'SELECT',
  'FROM',
  'INTO',
  'SET',
  'WHERE',
  'VALUES',
  'VIEW',
  'ON',
  'UNNEST',
  'ALL',
  'STDIN',
]);
/** Functions whose arguments hold the word FROM. */
const FROM_FUNCTIONS = new Set(['EXTRACT', 'SUBSTRING', 'TRIM', 'OVERLAY', 'POSITION']);

function upper(token: Token | undefined): string {
  return token?.kind === 'word' ? token.text.toUpperCase() : '';
}

interface Place {
  readonly depth: number;
  /** The word before the parenthesis that this stands in. */
  readonly opener: string;
}

function placesOf(tokens: readonly Token[]): Place[] {
  const openers: string[] = [];
  return tokens.map((token, index) => {
    if (token.text === ')') openers.pop();
    const place = { depth: openers.length, opener: openers.at(-1) ?? '' };
    if (token.text === '(') openers.push(upper(tokens[index - 1]));
    return place;
  });
}

function unquoted(token: Token, folding: boolean): string {
  if (token.kind === 'word') return folding ? token.text.toLowerCase() : token.text;
  const quote = token.text.charAt(0);
  const inner = token.text.slice(1, token.text.endsWith(quote === '[' ? ']' : quote) ? -1 : undefined);
  return inner.replaceAll(quote + quote, quote);
}

/** The name that begins at a token, as its parts joined by dots, and where it ends. */
function nameAt(tokens: readonly Token[], from: number, folding: boolean): { name: string; end: number } | undefined {
  let index = from;
  while (BETWEEN.has(upper(tokens[index]))) index++;
  const parts: string[] = [];
  for (let token = tokens[index]; token !== undefined; token = tokens[index]) {
    if ((token.kind !== 'word' && token.kind !== 'name') || NOT_A_NAME.has(upper(token))) break;
    parts.push(unquoted(token, folding));
    index++;
    if (tokens[index]?.text !== '.') break;
    index++;
  }
  return parts.length > 0 ? { name: parts.join('.'), end: index } : undefined;
}

/** The first table at the least depth from `start` on; names that `WITH` defines are no tables. */
function findTable(
  tokens: readonly Token[],
  start: number,
  verb: string,
  defined: ReadonlySet<string>,
  folding: boolean,
) {
  const places = placesOf(tokens);
  const introducers = INTRODUCERS[verb] ?? [];
  let best: { name: string; depth: number } | undefined;
  for (let index = start; index < tokens.length; index++) {
    const word = upper(tokens[index]);
    const place = places[index];
    if (word === '' || place === undefined || !introducers.includes(word)) continue;
    if (word === 'FROM' && (FROM_FUNCTIONS.has(place.opener) || upper(tokens[index - 1]) === 'DISTINCT')) continue;
    const found = nameAt(tokens, index + 1, folding);
    if (found === undefined || defined.has(found.name.toLowerCase())) continue;
    // FROM generate_series(…) is a function.
    if ((word === 'FROM' || word === 'JOIN') && tokens[found.end]?.text === '(') continue;
    if (best === undefined || place.depth < best.depth) best = { name: found.name, depth: place.depth };
  }
  return best?.name;
}

function readSql(statement: string, system: string): Statement {
  const tokens = tokenise(statement, system);
  const text = written(tokens);
  const first = tokens.findIndex((token) => token.kind === 'word');
  const verb = upper(tokens[first]);
  if (verb === '') return { text };
  const places = placesOf(tokens);
  const main =
    verb === 'WITH'
      ? tokens.findIndex((token, index) => places[index]?.depth === 0 && MAIN_VERBS.has(upper(token)))
      : first;
  const operation = upper(tokens[main]) || verb;
  const before = tokens.slice(first, Math.max(main, first)).filter((_, index) => places[first + index]?.depth === 0);
  const defined = new Set(before.map((token) => unquoted(token, true).toLowerCase()));
  const folding = FOLDING.test(system);
  const table =
    findTable(tokens, Math.max(main, 0), operation, defined, folding) ??
    (verb === 'WITH' ? findTable(tokens, 0, 'SELECT', defined, folding) : undefined);
  return { text, operation, ...(table === undefined ? {} : { table: table.replace(DEFAULT_SCHEMA, '') }) };
}

/** Commands in JSON, as MongoDB's and Elasticsearch's: names stay, texts and numbers go. */
function redactJson(statement: string): string {
  return statement.replace(
    /("(?:[^"\\]|\\[\s\S])*(?:"|$)|'(?:[^'\\]|\\[\s\S])*(?:'|$))(\s*:)?|-?\b\d[\w.+-]*/g,
    (whole: string, quoted: string | undefined, colon: string | undefined) =>
      quoted !== undefined && colon !== undefined ? whole : quoted === undefined ? '?' : '"?"',
  );
}

/** Redis and its kind: one command a line, of which only the word stays. */
function readCommand(statement: string): Statement {
  const commands = statement.split('\n').map((line) => line.trim().split(/\s+/));
  const text = commands.map(([word = '', ...rest]) => (rest.length > 0 ? `${word} ?` : word)).join('\n');
  const operation = commands[0]?.[0]?.toUpperCase();
  return operation ? { text, operation } : { text };
}

/** Reads one statement; `system` is `db.system.name`. Linear in the statement, which is at most a field's length. */
export function readStatement(statement: string, system: string): Statement {
  if (KEY_VALUE.test(system)) return readCommand(statement);
  if (/^\s*[{[]/.test(statement)) return { text: redactJson(statement) };
  return readSql(statement, system);
}
