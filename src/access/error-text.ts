import { redactQuery } from './route.ts';
import { readStatement } from './statement.ts';

/**
 * What is between quotes, to the last quote of the line: values hold quotes themselves. Over lines only to the next one. Services
 * pass messages on as JSON, in which a backslash stands before.
 */
const DOUBLE = String.raw`\\?"(?:[^\n]*"|[^"]*(?:"|$))`;
const SINGLE = String.raw`\\?'(?:[^\n]*'|[^']*(?:'|$))`;
const PARENTHESIS = String.raw`\((?:[^\n]*\)|[^)]*(?:\)|$))`;
const BRACE = String.raw`\{(?:[^\n]*\}|[^}]*(?:\}|$))`;

/**
 * How databases and their drivers put values into messages, and what stays of each. Names of tables, columns, constraints, roles
 * and accounts stay where nothing else can stand in their place.
 */
const QUOTING: readonly (readonly [RegExp, string])[] = [
  // SQLAlchemy, Laravel, Doctrine, Drizzle: the statement with its parameters.
  [/\[SQL: [\s\S]*?(?=\n\(Background|$)/, '[SQL: ?]'],
  [/\[parameters: [\s\S]*?(?=\n\(Background|$)/, '[parameters: ?]'],
  [/\((?:Connection: [^\n()]*, )?SQL: [\s\S]*(?:\)|$)/, '(SQL: ?)'],
  [/(\bwith params )\[(?:[^\n]*\]|[^\]]*(?:\]|$))/g, '$1[?]'],
  [/(\n ?params: )[^\n]*/g, '$1?'],
  // PostgreSQL; `near "…"` is SQLite's too.
  [new RegExp(String.raw`(\bnear )${DOUBLE}`, 'g'), '$1"?"'],
  [/((?:^|\n)[ \t]*(?:CONTEXT|QUERY|STATEMENT|Where|Internal Query): )[^\n]*/g, '$1?'],
  [new RegExp(String.raw`([Kk]ey \([^\n]{1,300}?\))=${PARENTHESIS}`, 'g'), '$1=(?)'],
  [/(Failing row contains )\([\s\S]*?(?:\)\.?(?=\s*(?:\n|$|["'\]}]))|$)/g, '$1(?)'],
  [
    new RegExp(String.raw`(\b(?:invalid|malformed|out of range|unrecognized token)\b[^\n":]{0,120}: )${DOUBLE}`, 'gi'),
    '$1"?"',
  ],
  [new RegExp(String.raw`(\b(?:value|Token) )${DOUBLE}`, 'g'), '$1"?"'],
  // MySQL and MariaDB.
  [/(Duplicate entry )\\?'[\s\S]*?'(?= for )/g, "$1'?'"],
  [/(\bto use near )\\?'(?:[\s\S]*?'(?= at line \d)|[\s\S]*$)/g, "$1'?'"],
  [/(\bincorrect [\w ]{1,40}: )\\?'(?:[\s\S]*?'(?= for )|[^\n]*'|[\s\S]*$)/gi, "$1'?'"],
  // SQL Server.
  [/(\bconverting (?:the )?[\w ()]{1,60} value )'(?:[\s\S]*?'(?= to )|[\s\S]*$)/g, "$1'?'"],
  [new RegExp(`(duplicate key value is )${PARENTHESIS}`, 'gi'), '$1(?)'],
  [
    new RegExp(String.raw`(\b(?:Incorrect syntax near|after the character string|Truncated value:) )${SINGLE}`, 'g'),
    "$1'?'",
  ],
  // H2 and MongoDB.
  [new RegExp(String.raw`(\bVALUES )${PARENTHESIS}`, 'g'), '$1(?)'],
  [new RegExp(String.raw`(\bData conversion error converting )${DOUBLE}`, 'g'), '$1"?"'],
  [new RegExp(String.raw`(\b(?:dup key|full error|keyValue): )${BRACE}`, 'g'), '$1{ ? }'],
];

/** A word of each of these: most texts have none, so that they need not be looked through time and again. */
const MAY_QUOTE =
  /SQL: |params|parameters: |CONTEXT|QUERY|STATEMENT|Where: |Query: |[Kk]ey \(|Failing row|near |nvalid|alformed|ut of range|nrecognized|alue|VALUE|Token|Duplicate entry|ncorrect|INCORRECT|INVALID|converting|character string|dup key|full error|keyValue/;

/** PostgreSQL shows the line of the statement that it stumbled over, and a caret below it; only hints follow. */
const LINE_AND_REST = /(?:\s|\\n)LINE \d+: ?[\s\S]*$/;
const LINE_AND_CARET = /\sLINE \d+:[^\n]*(?:\n[ \t]*\^[ \t]*)?/g;

/** Where the frames of a stack begin or another error does: there a statement has ended. */
const FRAMES = /(?=\n[ \t]+at \S|\n[ \t]*File "|\nCaused by: |\nTraceback )/;
const CHANGE =
  /\b(?:insert\s+into|delete\s+from|merge\s+into|replace\s+into|update\s+\S+(?:\s+\S+){0,2}?\s+set)\s|\bCALL\s+[\w.]+\s*\(|\bEXEC(?:UTE)?\s+[\w.[\]]+\s+@/i;
/** `SELECT command denied` and the like are no statements. */
const SELECT = /\bselect\s+(?!command\b|permission\b|privilege\b|list\b)/i;

function statementStart(text: string): number {
  const change = text.search(CHANGE);
  const select = text.search(SELECT);
  const isSelect = select >= 0 && (text.startsWith('SELECT', select) || /\sfrom\s/i.test(text.slice(select)));
  if (!isSelect) return change;
  return change < 0 ? select : Math.min(change, select);
}

function withoutLiterals(block: string, system: string): string {
  const start = statementStart(block);
  return start < 0 ? block : block.slice(0, start) + readStatement(block.slice(start), system).text;
}

/**
 * A message or stack trace of an error without the values that databases and their drivers put there, be it the statement itself:
 * what stands around it is read as a part of it, so that rather too much goes. `system` is `db.system.name`, empty when the text
 * comes from elsewhere: services pass on what their database said.
 */
export function redactErrorText(text: string, system = '', isStack = false): string {
  let redacted = isStack ? text.replace(LINE_AND_CARET, '') : text.replace(LINE_AND_REST, '').trimEnd();
  if (MAY_QUOTE.test(redacted))
    for (const [pattern, replacement] of QUOTING) redacted = redacted.replace(pattern, replacement);
  if (statementStart(redacted) < 0) return redacted;
  return redacted
    .split(FRAMES)
    .map((block) => withoutLiterals(block, system))
    .join('');
}

const QUERY = /([?#])([^\s"'<>?#]*=[^\s"'<>#]*)/g;
const PASSWORD_IN_URL = /(\b[a-z][a-z0-9+.-]{0,30}:\/\/[^\s/:@"']{0,200}:)[^\s/@"']{1,400}@/gi;

/** A text without the secrets in the addresses that it names: values of secret query parameters, and passwords. */
export function redactAddresses(text: string, isSecret: (name: string) => boolean): string {
  if (!text.includes('=') && !text.includes('://')) return text;
  return text
    .replace(QUERY, (_, mark: string, query: string) => mark + redactQuery(query, isSecret))
    .replace(PASSWORD_IN_URL, '$1***@');
}
