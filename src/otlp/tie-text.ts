import type { TraceTie } from '../core/record.ts';

/** A trace that the text of a log record names. */
export interface NamedTrace {
  /** 32 hex digits, lower case, not all zero. */
  readonly traceId: string;
  /** 16 hex digits; empty when none is named. */
  readonly spanId: string;
  readonly tie: TraceTie;
}

/** The place of a line in the session of a database that wrote it. */
export interface SessionLine {
  /** PostgreSQL's `%c`: when the session began and its process id, in hex. */
  readonly session: string;
  /** PostgreSQL's `%l`: lines are numbered within their session. */
  readonly line: number;
  /** PostgreSQL's `%v`, the virtual transaction id; empty when the line has none. */
  readonly transaction: string;
}

/** Ids looked at in one text. Which of so many is meant nobody could tell. */
const NAMES_MAX = 64;

/** How much of the text before an id is looked at to tell what it is. */
const BEFORE_CHARS = 40;

const TRACEPARENT = /(?<![\w-])([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?![\w])/gi;
const IN_COMMENT = /\btraceparent\s{0,2}=\s{0,2}["'\\]{0,4}$/i;
const IN_APPLICATION_NAME = /\b(?:application_name|app)["'\\]{0,4}\s{0,2}[=:]\s{0,2}["'\\]{0,4}$/i;
const IN_FIELD = /\btraceparent["'\\]{0,4}\s{0,2}[=:]\s{0,2}["'\\[]{0,4}$/i;
/** A column, or a part of what `log_line_prefix` makes. */
const IN_COLUMN = /(?:^|[\s,;|=[("])$/;

const TRACE_ID =
  /(?<![\w])(?:trace[_.-]?id|oteltraceid|"trace\\{0,3}"\s{0,4}:\s{0,4}\{[^{}]{0,200}?"id)["'\\]{0,4}\s{0,4}[=:]\s{0,4}["'\\]{0,4}([0-9a-f]{32})(?![\w-])/gi;
const SPAN_ID =
  /(?<![\w])(?:span[_.-]?id|otelspanid|"span\\{0,3}"\s{0,4}:\s{0,4}\{[^{}]{0,200}?"id)["'\\]{0,4}\s{0,4}[=:]\s{0,4}["'\\]{0,4}([0-9a-f]{16})(?![\w-])/gi;

/** What the log of a PostgreSQL server has and other text seldom: the severity, or pgaudit's mark. */
const IS_POSTGRES = /\bAUDIT: |\b(?:LOG|ERROR|FATAL|STATEMENT|WARNING|NOTICE)(?::|,|"|$)/;

const SESSION_ID = /\bsession_id["'\\]{0,4}\s{0,2}[=:]\s{0,2}["'\\]{0,4}([0-9a-f]{8}\.[0-9a-f]{1,8})\b/;
const LINE = /\b(?:session_)?line_num["'\\]{0,4}\s{0,2}[=:]\s{0,2}["'\\]{0,4}(\d{1,9})\b/;
/** `%c` with `%l` right behind it, whatever stands between: `session=6921e2f0.4d2 line=7`, or two columns. */
const SESSION_AND_LINE = /(?<![\w.])([0-9a-f]{8}\.[0-9a-f]{1,8})\b[^\d\n]{1,16}(\d{1,9})(?![\w.])/;
const TRANSACTION_ID = /\bv(?:xid|irtual_transaction_id)["'\\]{0,4}\s{0,2}[=:]\s{0,2}["'\\]{0,4}(\d{1,10}\/\d{1,10})\b/;
const TRANSACTION = /(?<![\w/.:])(\d{1,10}\/\d{1,10})(?![\w/.])/;

/** Where the prefix of a line, and so its session, stands at the latest. */
const PREFIX_CHARS_MAX = 2000;

const ZEROS = /^0+$/;

/** The trace that a text names, the surest way first; undefined when it names none. Linear in the text. */
export function traceNamedIn(text: string): NamedTrace | undefined {
  let best: NamedTrace | undefined;
  let left = NAMES_MAX;
  for (const match of text.matchAll(TRACEPARENT)) {
    if (left-- === 0) break;
    const [, version = '', traceId = '', spanId = ''] = match;
    if (version.toLowerCase() === 'ff' || ZEROS.test(traceId) || ZEROS.test(spanId)) continue;
    const tie = placeOf(text, match.index);
    // The comment at the end of a statement is the one that was put there last.
    if (tie !== undefined && (best === undefined || orderOf(tie) < orderOf(best.tie) || tie === 'statement')) {
      if (best?.tie !== 'statement' || tie === 'statement') best = named(traceId, spanId, tie);
    }
  }
  return best ?? fieldsIn(text);
}

function orderOf(tie: TraceTie): number {
  return tie === 'statement' ? 0 : tie === 'application_name' ? 1 : 2;
}

function named(traceId: string, spanId: string, tie: TraceTie): NamedTrace {
  return { traceId: traceId.toLowerCase(), spanId: spanId.toLowerCase(), tie };
}

/** What a traceparent at this place is; undefined for one that may be anything. */
function placeOf(text: string, at: number): TraceTie | undefined {
  const before = text.slice(Math.max(0, at - BEFORE_CHARS), at);
  if (IN_COMMENT.test(before) && isInComment(text, at)) return 'statement';
  if (IN_APPLICATION_NAME.test(before)) return 'application_name';
  if (IN_FIELD.test(before)) return 'text';
  const isColumn = IN_COLUMN.test(before) && IS_POSTGRES.test(text) && sessionLineIn(text) !== undefined;
  return isColumn && !isInComment(text, at) ? 'application_name' : undefined;
}

function isInComment(text: string, at: number): boolean {
  const opened = text.lastIndexOf('/*', at);
  return opened >= 0 && text.lastIndexOf('*/', at) < opened;
}

function fieldsIn(text: string): NamedTrace | undefined {
  const traceId = firstIn(text, TRACE_ID);
  return traceId === undefined ? undefined : named(traceId, firstIn(text, SPAN_ID) ?? '', 'text');
}

function firstIn(text: string, pattern: RegExp): string | undefined {
  let left = NAMES_MAX;
  for (const [, id = ''] of text.matchAll(pattern)) {
    if (left-- === 0) break;
    if (!ZEROS.test(id)) return id;
  }
  return undefined;
}

/** Which line of which session of a PostgreSQL server a text is; undefined when it does not say. */
export function sessionLineIn(text: string): SessionLine | undefined {
  const session = SESSION_ID.exec(text)?.[1];
  const line = LINE.exec(text)?.[1];
  if (session !== undefined && line !== undefined) return sessionLine(session, line, text);
  const prefix = text.slice(0, PREFIX_CHARS_MAX);
  const both = SESSION_AND_LINE.exec(prefix);
  return both === null ? undefined : sessionLine(both[1] ?? '', both[2] ?? '', prefix);
}

function sessionLine(session: string, line: string, text: string): SessionLine {
  return { session, line: Number(line), transaction: (TRANSACTION_ID.exec(text) ?? TRANSACTION.exec(text))?.[1] ?? '' };
}
