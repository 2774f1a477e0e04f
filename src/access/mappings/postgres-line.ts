import { readCsvRow } from './csv.ts';
import type { Document } from './path.ts';
import { compilePattern, firstMatch, type Pattern } from './pattern.ts';

/** Columns of csvlog (postgresql.org, "Error Reporting and Logging"), by the names that jsonlog has for them. */
const CSVLOG =
  'timestamp user dbname pid connection_from session_id line_num ps session_start vxid txid error_severity state_code message ' +
  'detail hint internal_query internal_position context statement cursor_position func_name application_name backend_type ' +
  'leader_pid query_id';
const CSVLOG_COLUMNS = CSVLOG.split(' ');

/** What the manual calls these columns, as parsers that go by its table do. */
const OTHER_NAMES: Readonly<Record<string, string>> = {
  log_time: 'timestamp',
  user_name: 'user',
  database_name: 'dbname',
  process_id: 'pid',
  session_line_num: 'line_num',
  command_tag: 'ps',
  session_start_time: 'session_start',
  sql_state_code: 'state_code',
  query: 'statement',
};

/** Columns of pgaudit's lines (its README, "Format"); rows only with `pgaudit.log_rows`. */
const AUDIT_COLUMNS = [
  ...['audit_type', 'statement_id', 'substatement_id', 'class', 'command', 'object_type', 'object_name', 'statement'],
  ...['parameter', 'rows'],
];

const CSVLOG_START = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? [^,\s]+,/;
const SEVERITY = /(?:^|[\s:\]\-|])(LOG|ERROR|FATAL|PANIC|WARNING|NOTICE|INFO|STATEMENT|DETAIL):\s{1,2}/;
/** What makes it worth looking at a text any closer. */
const TELLING =
  /AUDIT: |denied|authentication failed|pg_hba|must be |row-level security|role ".*" (?:does not exist|is not permitted)|28[0P0-9]{3}|42501/;

/** Longest prefix of a line that is looked at. */
const PREFIX_CHARS_MAX = 1024;

const STAMP = String.raw`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`;
/** The escapes of `log_line_prefix`: the field that each fills, and what it looks like. */
const ESCAPES: Readonly<Record<string, readonly [string, string]>> = {
  a: ['application_name', '.*?'],
  u: ['user', '.*?'],
  d: ['dbname', '.*?'],
  r: ['connection_from', '.*?'],
  h: ['remote_host', '.*?'],
  b: ['backend_type', '.*?'],
  p: ['pid', String.raw`\d+`],
  P: ['leader_pid', String.raw`\d*`],
  t: ['timestamp', `${STAMP} [A-Za-z0-9:+-]+?`],
  m: ['timestamp', String.raw`${STAMP}\.\d+ [A-Za-z0-9:+-]+?`],
  n: ['timestamp', String.raw`\d+\.\d+`],
  s: ['session_start', `${STAMP} [A-Za-z0-9:+-]+?`],
  i: ['ps', '.*?'],
  e: ['state_code', '[0-9A-Z]{5}'],
  c: ['session_id', String.raw`[0-9a-f]+\.[0-9a-f]+`],
  l: ['line_num', String.raw`\d+`],
  v: ['vxid', String.raw`[\d/]*`],
  x: ['txid', String.raw`\d+`],
  Q: ['query_id', String.raw`-?\d+`],
};

/** The pattern of a `log_line_prefix`. Throws Error for an escape that there is not. */
export function compilePrefix(prefix: string): Pattern {
  const named = new Set<string>();
  let isOptional = false;
  const body = prefix.replace(/%(-?\d*)([\s\S]?)|[\s\S]/g, (text, padding: string | undefined, letter?: string) => {
    if (letter === undefined) return text.replace(/[.*+?^${}()|[\]\\]/, String.raw`\$&`);
    if (letter === '%') return '%';
    if (letter === 'q') {
      const opening = isOptional ? '' : '(?:';
      isOptional = true;
      return opening;
    }
    const [name, pattern] = ESCAPES[letter] ?? [];
    if (name === undefined || pattern === undefined) throw new Error(`log_line_prefix has no escape "%${letter}"`);
    const blanks = padding ? ' *' : '';
    if (named.has(name)) return `${blanks}(?:${pattern})${blanks}`;
    named.add(name);
    return `${blanks}(?P<${name}>${pattern})${blanks}`;
  });
  // A blank at the end of the prefix may be cut off where a program has trimmed the line.
  return compilePattern(`^${body.replace(/ $/, ' ?')}${isOptional ? ')?' : ''}$`);
}

/** What can be told of a prefix that nobody described. */
const LOOSE: readonly (readonly [RegExp, readonly string[]])[] = [
  [/(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?: ?(?:[+-]\d\d:?\d\d|[A-Z]{1,5}))?)/, ['timestamp']],
  [/\buser=([^,\s]+)/, ['user']],
  [/\b(?:db|database)=([^,\s]+)/, ['dbname']],
  [/\bapp=([^,]+?)(?=,|\s+\w+=|\s*$)/, ['application_name']],
  [/\b(?:client|host)=([^,\s]+)/, ['connection_from']],
  [/(?:^|[\s:[,])([\w.$-]{1,63})@([\w.$-]{1,63})(?=[\s:\],]|$)/, ['user', 'dbname']],
  [/\b([0-9a-f]{8}\.[0-9a-f]{1,8})\b/, ['session_id']],
  [/\[(\d{1,9})\]/, ['pid']],
  [/\b(\d{1,3}(?:\.\d{1,3}){3}(?:\(\d+\))?)/, ['connection_from']],
];

function readLoosely(prefix: string): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const [pattern, names] of LOOSE) {
    const match = pattern.exec(prefix);
    names.forEach((name, index) => {
      const value = match?.[index + 1];
      if (value !== undefined) fields[name] ??= value;
    });
  }
  return fields;
}

/** `log_error_verbosity = verbose` writes the SQLSTATE in front of the message. */
const VERBOSE_CODE = /^(?=[A-Z]*\d)([0-9A-Z]{5}): /;

/** A line of the server's text log: prefix, severity, message. */
function readTextLine(text: string, prefixes: readonly Pattern[]): Record<string, unknown> | undefined {
  const severity = SEVERITY.exec(text.slice(0, PREFIX_CHARS_MAX));
  if (severity === null) {
    // pgaudit's own part alone, as parsers leave it.
    return text.startsWith('AUDIT: ') ? { message: text } : undefined;
  }
  const [whole, word = ''] = severity;
  const start = severity.index + whole.indexOf(word);
  const prefix = text.slice(0, start);
  const said = text.slice(severity.index + whole.length);
  const [coded = '', code] = VERBOSE_CODE.exec(said) ?? [];
  return {
    ...(firstMatch(prefixes, prefix) ?? readLoosely(prefix)),
    ...(code !== undefined && { state_code: code }),
    error_severity: word,
    message: said.slice(coded.length),
  };
}

function named(columns: readonly string[], values: readonly string[]): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  columns.forEach((column, index) => {
    const value = values[index];
    if (value !== undefined && value !== '') fields[column] = value;
  });
  return fields;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Are there the names without which no fields are a line's? */
export function hasLineNames(names: readonly string[]): boolean {
  return names.includes('record') || names.includes('audit') || names.includes('error_severity');
}

/** The same of JSON text. */
export const LINE_NAMES = /"(?:record|audit|error_severity)"/;

/** Fields of jsonlog, or of any parser that keeps the columns' names; operators wrap them as `record`. */
function readFields(given: Document): Record<string, unknown> | undefined {
  const inner = isPlain(given['record']) ? given['record'] : given;
  const fields: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(inner)) {
    if (value !== null && value !== '') fields[OTHER_NAMES[name] ?? name] = value;
  }
  const isLine = typeof fields['message'] === 'string' && fields['error_severity'] !== undefined;
  return isLine || isPlain(fields['audit']) ? fields : undefined;
}

const PERMISSION =
  /^(?:permission denied|must be (?:owner|superuser|member)|new row violates row-level security|query would be affected by row-level security)\b/;
const AUTHENTICATION =
  /^(?:password authentication failed|[\w-]+ authentication failed|no pg_hba\.conf entry|pg_hba\.conf rejects|role "[^"]*" (?:does not exist|is not permitted to log in))/;

/** `permission` or `authentication` when the server refused. */
function refusalIn(severity: unknown, code: unknown, message: string): string | undefined {
  if (severity !== 'ERROR' && severity !== 'FATAL') return undefined;
  if (code === '42501') return 'permission';
  if (typeof code === 'string' && code.startsWith('28')) return 'authentication';
  if (severity === 'FATAL' && AUTHENTICATION.test(message)) return 'authentication';
  return PERMISSION.test(message) ? 'permission' : undefined;
}

/** Placeholders for what is not known. */
const NOTHING = new Set([
  '[unknown]',
  '[local]',
  '<none>',
  '<not logged>',
  '<previously logged>',
  '<long param suppressed>',
]);

/**
 * A line of PostgreSQL's log in the names of jsonlog, in whatever form it came, with `audit` as pgaudit wrote it and `refusal`
 * where the server refused. Undefined for other texts and records.
 */
export function readPostgresLine(
  text: string | undefined,
  given: Document | undefined,
  prefixes: readonly Pattern[],
): Document | undefined {
  const line = given === undefined ? undefined : readFields(given);
  if (line === undefined && (text === undefined || !TELLING.test(text))) return undefined;
  const read = line ?? (CSVLOG_START.test(text ?? '') ? named(CSVLOG_COLUMNS, readCsvRow(text ?? '')) : undefined);
  const fields = read ?? readTextLine(text ?? '', prefixes);
  if (fields === undefined) return undefined;
  const message = typeof fields['message'] === 'string' ? fields['message'] : '';
  if (message.startsWith('AUDIT: ')) {
    const audit = named(AUDIT_COLUMNS, readCsvRow(message.slice('AUDIT: '.length).trimEnd()));
    fields['audit'] = audit;
  }
  const refusal = refusalIn(fields['error_severity'], fields['state_code'], message);
  if (refusal !== undefined) fields['refusal'] = refusal;
  splitAddress(fields);
  for (const holder of [fields, fields['audit']]) dropNothing(holder);
  return fields;
}

/** `10.0.0.7:50112` of csvlog, `10.0.0.7(50112)` of `%r`. */
function splitAddress(fields: Record<string, unknown>): void {
  const from = fields['connection_from'];
  if (typeof from !== 'string') return;
  const [, host = from, port] = /^(.*?)(?:\((\d+)\)|:(\d+))$/.exec(from) ?? [];
  const colon = /^[^:]*:(\d+)$/.exec(from)?.[1];
  fields['remote_host'] ??= colon === undefined && port === undefined ? from : host;
  if (port !== undefined || colon !== undefined) fields['remote_port'] ??= port ?? colon;
}

function dropNothing(holder: unknown): void {
  if (!isPlain(holder)) return;
  for (const [name, value] of Object.entries(holder)) {
    if (typeof value === 'string' && NOTHING.has(value)) delete holder[name];
  }
}
