import { byKeys } from '../../core/attribute-table.ts';
import type { LogRecord } from '../../core/evidence.ts';
import { readCsvRow } from './csv.ts';
import type { Parse } from './mapping.ts';
import type { Document } from './path.ts';
import { compilePattern, firstMatch, type Pattern } from './pattern.ts';
import { compilePrefix, hasLineNames, LINE_NAMES, readPostgresLine } from './postgres-line.ts';

/** Longest text that is parsed. Kubernetes and CloudTrail write events of some hundred KiB at most. */
const TEXT_CHARS_MAX = 1_048_576;

/** A log record as mappings see it. Parsed once however many mappings ask. */
export interface Subject {
  readonly log: LogRecord;
  /** The body when it is text, without blanks around it; undefined when it is none, or too long. */
  readonly text: string | undefined;
  /** The fields of a body of key-values or JSON text, with the record's attributes where the body has no such field. */
  readonly structured: () => Document | undefined;
  /** Its body has fields, or may have: it is key-values, or a text that begins as JSON does. */
  readonly hasOwnFields: boolean;
  /** What readers made of it; those that several mappings share read it once. */
  readonly opened: Map<Open, Document | undefined>;
}

/** Reads a record in the way of a mapping; undefined when it has not that form. */
export type Open = (subject: Subject) => Document | undefined;

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isPlain(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

export function subjectOf(log: LogRecord): Subject {
  const { body, attributes } = log;
  const text = typeof body === 'string' && body.length <= TEXT_CHARS_MAX ? body.trim() : undefined;
  const structured = once(() => {
    const content = isPlain(body) ? body : text?.startsWith('{') ? parsed(text) : undefined;
    // Collectors leave what they have parsed in the attributes, and the line as it was in the body.
    if (content === undefined) return attributes.size > 0 ? Object.fromEntries(attributes) : undefined;
    return attributes.size > 0 ? { ...Object.fromEntries(attributes), ...content } : content;
  });
  const hasOwnFields = isPlain(body) || text?.startsWith('{') === true;
  return { log, text, structured, hasOwnFields, opened: new Map() };
}

/** Reads a record with one of the readers, once. */
export function openWith(open: Open, subject: Subject): Document | undefined {
  if (!subject.opened.has(open)) subject.opened.set(open, open(subject));
  return subject.opened.get(open);
}

function once<T>(compute: () => T): () => T {
  let known: { readonly value: T } | undefined;
  return () => {
    known ??= { value: compute() };
    return known.value;
  };
}

const readers = new WeakMap<Parse, Open>();
const openJson: Open = ({ structured }) => structured();

/** The same for the same parse. Throws Error for a pattern or a prefix that cannot be used. */
export function compileParse(parse: Parse | undefined): Open {
  if (parse === undefined) return openJson;
  const open = readers.get(parse) ?? readerOf(parse);
  readers.set(parse, open);
  return open;
}

function readerOf(parse: Parse): Open {
  if (parse.as === 'json') return openJson;
  if (parse.as === 'csv') return openCsv(parse.columns);
  if (parse.as === 'regex') return openText(parse.patterns.map(compilePattern));
  const prefixes = parse.prefixes.map(compilePrefix);
  return (subject) => {
    const { text, structured } = subject;
    const hasFields = mayHoldLine(subject);
    const isText = text !== undefined && !text.startsWith('{');
    const line = readPostgresLine(text, hasFields && !isText ? structured() : undefined, prefixes);
    return line ?? (hasFields ? fromAttributes(structured, prefixes) : undefined);
  };
}

/** Most records are no line of PostgreSQL, and their names tell it before anything is parsed. */
function mayHoldLine({ log: { body, attributes }, text, hasOwnFields }: Subject): boolean {
  if (hasLineNamesIn(attributes)) return true;
  if (!hasOwnFields) return false;
  return text === undefined ? hasLineNames(Object.keys(body as object)) : LINE_NAMES.test(text);
}

const hasLineNamesIn = byKeys(hasLineNames);

/** The body is the line as it was, and a parser has put its columns into the attributes; or the body is missing. */
function fromAttributes(structured: Subject['structured'], prefixes: readonly Pattern[]): Document | undefined {
  const document = structured();
  return document === undefined ? undefined : readPostgresLine(undefined, document, prefixes);
}

function openText(patterns: readonly Pattern[]): Open {
  return ({ text, structured }) => {
    const groups = text === undefined ? undefined : firstMatch(patterns, text);
    return groups && { ...structured(), ...groups };
  };
}

function openCsv(columns: readonly string[]): Open {
  return ({ text, structured }) => {
    if (text === undefined || text.startsWith('{') || !text.includes(',')) return undefined;
    const document: Record<string, unknown> = { ...structured() };
    readCsvRow(text).forEach((value, index) => {
      const column = columns[index];
      if (column !== undefined && value !== '') document[column] = value;
    });
    return document;
  };
}
