import { remember, words } from './attributes.ts';

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
  /** A word in capitals; empty for the rest. */
  readonly upper: string;
  readonly spaced: boolean;
}

const BLANK = String.raw`\s+|--[^\n]*|/\*[\s\S]*?(?:\*/|$)`;
const DOLLAR = String.raw`\$(?<tag>[A-Za-z_]\w*)?\$[\s\S]*?(?:\$\k<tag>\$|$)`;
const ESCAPED = String.raw`'(?:[^'\\]|\\[\s\S]|'')*(?:'|$)`;
const PLAIN = "(?:[bBnNxX]|[uU]&)?'(?:[^']|'')*(?:'|$)";
/** `q'[it's]'` of Oracle. */
const QUOTED_BY_CHOICE = String.raw`[nN]?[qQ]'(?:\[[\s\S]*?\]'|\{[\s\S]*?\}'|\([\s\S]*?\)'|<[\s\S]*?>'|(?<mark>[^\s\w])[\s\S]*?\k<mark>')`;
const NUMBER = String.raw`0[xX][\da-fA-F]+|\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?`;
const DOUBLE = '"(?:[^"]|"")*(?:"|$)';
const DOUBLE_ESCAPED = String.raw`"(?:[^"\\]|\\[\s\S]|"")*(?:"|$)`;
const BACKTICK = '`(?:[^`]|``)*(?:`|$)';
const WORD = String.raw`[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*`;
/** Parameters (`$1`, `:name`, `@name`, `?`) hold no value; `::` is a cast. */
const OTHER = String.raw`::|[$:@]+\w+|[\s\S]`;

const TOKENS: Readonly<Record<Dialect, RegExp>> = {
  standard: new RegExp(
    [BLANK, `[eE]${ESCAPED}`, QUOTED_BY_CHOICE, PLAIN, DOLLAR, NUMBER, DOUBLE, BACKTICK, WORD, OTHER].join('|'),
    'y',
  ),
  backslash: new RegExp(
    [BLANK, String.raw`#[^\n]*`, String.raw`\w*${ESCAPED}`, DOUBLE_ESCAPED, NUMBER, BACKTICK, WORD, OTHER].join('|'),
    'y',
  ),
  unknown: new RegExp([BLANK, PLAIN, DOUBLE, DOLLAR, NUMBER, BACKTICK, WORD, OTHER].join('|'), 'y'),
};
const BRACKETED = /^\[[^\]]*\]/;
const IS_BLANK = /^(?:\s|--|\/\*)/;
const IS_LITERAL = /^(?:\.?\d|\$\w*\$)/;
const IS_WORD = /^[A-Za-z_\u0080-\uffff]/;

function dialectOf(system: string): Dialect {
  return STANDARD.test(system) ? 'standard' : BACKSLASH.test(system) ? 'backslash' : 'unknown';
}

/** What a piece that TOKENS cut out is, told by how it begins; undefined for blanks and comments. */
function kindOf(piece: string, dialect: Dialect): Token['kind'] | undefined {
  if (IS_WORD.test(piece)) return piece.includes("'") ? 'literal' : 'word';
  if (IS_BLANK.test(piece) || (dialect === 'backslash' && piece.startsWith('#'))) return undefined;
  if (piece.startsWith('"')) return dialect === 'standard' ? 'name' : 'literal';
  if (piece.startsWith('`')) return 'name';
  return piece.startsWith("'") || IS_LITERAL.test(piece) ? 'literal' : 'other';
}

function tokenise(statement: string, system: string): Token[] {
  const dialect = dialectOf(system);
  const pattern = TOKENS[dialect];
  const bracketed = /^(?:mssql|microsoft\.sql)/.test(system);
  const tokens: Token[] = [];
  let spaced = false;
  // The pieces lie end to end, so that no match object has to be made for each.
  pattern.lastIndex = 0;
  for (let start = 0; pattern.test(statement); start = pattern.lastIndex) {
    const piece = statement.slice(start, pattern.lastIndex);
    const bracket = bracketed && piece === '[' ? BRACKETED.exec(statement.slice(start))?.[0] : undefined;
    if (bracket !== undefined) pattern.lastIndex = start + bracket.length;
    const kind = bracket === undefined ? kindOf(piece, dialect) : 'name';
    if (kind === undefined) {
      spaced = true;
      continue;
    }
    const text = kind === 'literal' ? '?' : (bracket ?? piece);
    tokens.push({ kind, text, upper: kind === 'word' ? text.toUpperCase() : '', spaced });
    spaced = false;
    if (dialect === 'unknown' && kind === 'literal' && piece.includes('\\')) break;
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
const MAIN_VERBS = new Set(words('SELECT INSERT UPDATE DELETE MERGE REPLACE'));
const BETWEEN = new Set(words('ONLY IF NOT EXISTS TABLE TABLES IGNORE LATERAL LOW_PRIORITY CONCURRENTLY'));
const NOT_A_NAME = new Set(words('SELECT FROM INTO SET WHERE VALUES VIEW ON UNNEST ALL STDIN'));
/** Functions whose arguments hold the word FROM. */
const FROM_FUNCTIONS = new Set(words('EXTRACT SUBSTRING TRIM OVERLAY POSITION'));

function upper(token: Token | undefined): string {
  return token?.upper ?? '';
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
  return readerFor(system)(statement);
}

/** Where these are, what looks like a literal may be a part of a name, a comment or another literal. */
const MAY_HIDE = /["`\\$[{#]|--|\/\*/;
/** A whole number, or text without quotes in it, with nothing at its sides that could make it a part of something longer. */
const PLAIN_LITERAL = /(?<=[\s(,=<>])(?:\d+|'[^']*')(?=[\s),;]|$)/g;

/**
 * The statement with `?` for its literals where these are plain, as they nearly always are: then it reads the same, and the same as those
 * with other values. If each quote belongs to a plain literal, they pair up as a reader from the left would pair them.
 */
function withoutPlainLiterals(statement: string): string {
  if (MAY_HIDE.test(statement)) return statement;
  const text = statement.replace(PLAIN_LITERAL, '?');
  return text.includes("'") ? statement : text;
}

/** Systems are few and their statements repeat. */
const readerFor = remember((system) => {
  if (KEY_VALUE.test(system)) return remember(readCommand, 250);
  const read = remember((statement): Statement => {
    return /^\s*[{[]/.test(statement) ? { text: redactJson(statement) } : readSql(statement, system);
  }, 250);
  return (statement: string) => read(withoutPlainLiterals(statement));
}, 10);
