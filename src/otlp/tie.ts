import { AppError } from '../core/errors.ts';
import type { Attributes, AttributeValue, FrameNote, LogRecord, Resource } from '../core/evidence.ts';
import type { Counters } from '../core/metrics.ts';
import type { TraceTie } from '../core/record.ts';
import { compileKeys, PayloadReader } from './decode.ts';
import { Hints } from './hints.ts';
import { scanLogs } from './scan.ts';
import { DatabaseSessions } from './tie-sessions.ts';
import { type SessionLine, sessionLineIn, traceNamedIn } from './tie-text.ts';
import { WIRE, WireCursor, WireError } from './wire.ts';
import { WireWriter } from './writer.ts';

/** The attribute that says how a log record came to its trace id, where it did not bring one. */
export const TIE_ATTRIBUTE = 'spantrail.tie';

/** Levels of lists and maps whose texts are looked at. */
const DEPTH_MAX = 6;

const EVERY_KEY = compileKeys(['*']);

/** `race` with what stands around it in the names of a trace: traceparent, trace_id, trace.id, traceId, "trace":{. */
const RACE = Buffer.from('race');
const BEHIND_TRACE = new Set([...'pP_.-iI"\\'].map((letter) => letter.charCodeAt(0)));
const LETTER_T = 0x74;

function traceFrom(buffer: Buffer, from: number): number {
  for (let at = buffer.indexOf(RACE, from); at >= 0; at = buffer.indexOf(RACE, at + RACE.length)) {
    const behind = buffer[at + RACE.length] ?? 0;
    // An item that begins behind the `t` cannot hold the name.
    if (BEHIND_TRACE.has(behind) && ((buffer[at - 1] ?? 0) | 0x20) === LETTER_T) return at - 1;
  }
  return Infinity;
}

function textFrom(text: string): (buffer: Buffer, from: number) => number {
  const bytes = Buffer.from(text);
  return (buffer, from) => {
    const at = buffer.indexOf(bytes, from);
    return at < 0 ? Infinity : at;
  };
}

/** What a log record has that may be tied; in a database's log the lines that tell of an access, and whose connection it was. */
const HINTS = [traceFrom, textFrom('AUDIT: '), textFrom('denied'), textFrom('application_name')];

/** A log record without a trace, and the one that is found for it. */
interface Item {
  readonly start: number;
  readonly end: number;
  tie?: TraceTie;
  traceId?: string;
  spanId?: string;
}

/** Where sessions of databases are remembered, and who is asking. */
export interface SessionMatching {
  readonly sessions: DatabaseSessions;
  /** Of the sender: what one namespace tells must not tie the lines of another. */
  readonly note: FrameNote;
}

export interface Tied {
  /** The payload itself when nothing was tied, else a new one of the same records in the same order. */
  readonly payload: Buffer;
  /** Each record tied, by how. */
  readonly ties: readonly TraceTie[];
}

const NO_TIES: readonly TraceTie[] = [];

/**
 * Gives log records that carry no trace id the one that they name: in the comment of a statement, in the name of a database's
 * connection, in fields of their text; or, where `matching` is given, that of their database session. A tied record gets the
 * ids and the attribute TIE_ATTRIBUTE at its end, and lengths around it are written anew; all other bytes stay. Never throws.
 * A payload that names no trace costs a search for four words.
 */
export function tieLogs(payload: Buffer, matching?: SessionMatching): Tied {
  const hints = new Hints(payload, HINTS);
  if (!hints.within(0, payload.length)) return { payload, ties: NO_TIES };
  const items: Item[] = [];
  scanLogs(payload, ({ itemStart, itemEnd, traceIdAt }) => {
    if (traceIdAt < 0 && hints.within(itemStart, itemEnd)) items.push({ start: itemStart, end: itemEnd });
  });
  if (items.length === 0) return { payload, ties: NO_TIES };
  find(payload, items, matching);
  const tied = items.filter((item) => item.tie !== undefined);
  if (tied.length === 0) return { payload, ties: NO_TIES };
  return { payload: rewrite(payload, tied), ties: tied.flatMap(({ tie }) => tie ?? []) };
}

/** tieLogs for one process: with a memory of database sessions, and counted. */
export function createTie(counters?: Pick<Counters, 'add'>): (payload: Buffer, note: FrameNote) => Buffer {
  const sessions = new DatabaseSessions();
  return (payload, note) => {
    const tied = tieLogs(payload, { sessions, note });
    for (const tie of tied.ties) counters?.add('tied', 1, { tie });
    return tied.payload;
  };
}

const NO_NOTE: FrameNote = { receivedNs: 0n, namespace: '', sender: '', trusted: false, vouches: false, peer: '' };

/** All that name a trace come first, so that which lines of a session come before others in the payload does not matter. */
function find(payload: Buffer, items: readonly Item[], matching: SessionMatching | undefined): void {
  const reader = new PayloadReader(payload, 'logs', NO_NOTE, EVERY_KEY);
  const waiting: { item: Item; server: string; line: SessionLine }[] = [];
  let resource: Resource | undefined;
  let server = '';
  for (const item of items) {
    const log = readRecord(reader, item.start);
    if (log === undefined) continue;
    const text = textOf(log);
    const named = traceNamedIn(text);
    if (named !== undefined) Object.assign(item, named);
    if (matching === undefined || !matching.note.trusted) continue;
    const line = sessionLineIn(text);
    if (line === undefined) continue;
    if (log.resource !== resource) {
      resource = log.resource;
      server = `${matching.note.namespace} ${listing(resource.attributes)}`;
    }
    if (named === undefined) waiting.push({ item, server, line });
    else matching.sessions.learn(server, line, named.traceId);
  }
  for (const { item, server, line } of waiting) Object.assign(item, matching?.sessions.find(server, line));
}

function readRecord(reader: PayloadReader, start: number): LogRecord | undefined {
  try {
    return reader.logRecord(start);
  } catch (thrown) {
    // Undecodable: what becomes of it is decided when it settles.
    if (thrown instanceof AppError || thrown instanceof WireError) return undefined;
    throw thrown;
  }
}

/** All that a record says, a line for each attribute: `name=value`. */
function textOf({ body, attributes }: LogRecord): string {
  const said = typeof body === 'string' ? body : body === undefined ? '' : lines('', body, 0);
  return attributes.size === 0 ? said : `${listing(attributes)}\n${said}`;
}

function listing(attributes: Attributes): string {
  let text = '';
  for (const [name, value] of attributes) text += lines(name, value, 0);
  return text;
}

function lines(name: string, value: AttributeValue, depth: number): string {
  if (typeof value !== 'object') return `${name}=${value}\n`;
  if (depth === DEPTH_MAX) return '';
  if (Array.isArray(value)) return value.map((item) => lines(name, item, depth + 1)).join('');
  const prefix = name === '' ? '' : `${name}.`;
  return Object.keys(value)
    .map((key) => lines(prefix + key, value[key] ?? '', depth + 1))
    .join('');
}

/** Tags on the way to a log record: the resource block of the request, its scope block, the record in that. */
const FIELDS = [1, 2, 2] as const;

const LOG = { attributes: 6, traceId: 9, spanId: 10 } as const;

function rewrite(payload: Buffer, tied: readonly Item[]): Buffer {
  let next = 0;
  const blocks = (start: number, end: number, level: number): Buffer => {
    const cursor = new WireCursor(payload);
    cursor.position = start;
    const field = FIELDS[level] ?? 0;
    const parts: Buffer[] = [];
    let copied = start;
    while (cursor.position < end) {
      const at = cursor.position;
      const tag = cursor.tag(end);
      if (tag !== ((field << 3) | WIRE.delimited)) {
        cursor.skip(tag, end);
        continue;
      }
      const contentEnd = cursor.delimitedEnd(end);
      const contentStart = cursor.position;
      cursor.position = contentEnd;
      const item = tied[next];
      if (item === undefined || item.start >= contentEnd) continue;
      parts.push(payload.subarray(copied, at));
      copied = contentEnd;
      const writer = new WireWriter();
      if (level === FIELDS.length - 1) {
        next += 1;
        writer.bytes(field, Buffer.concat([payload.subarray(contentStart, contentEnd), endingOf(item)]));
      } else writer.bytes(field, blocks(contentStart, contentEnd, level + 1));
      parts.push(writer.finish());
    }
    parts.push(payload.subarray(copied, end));
    return Buffer.concat(parts);
  };
  return blocks(0, payload.length, 0);
}

/** The last value of a field counts, so that what is added stands for an id that was there and not valid. */
function endingOf({ tie = 'text', traceId = '', spanId = '' }: Item): Buffer {
  const writer = new WireWriter();
  writer.bytes(LOG.traceId, Buffer.from(traceId, 'hex'));
  // A span id without a trace meant nothing; beside a trace id in the text it may be that trace's.
  if (spanId !== '' || tie !== 'text') writer.bytes(LOG.spanId, Buffer.from(spanId, 'hex'));
  writer.message(LOG.attributes, () => {
    writer.text(1, TIE_ATTRIBUTE);
    writer.message(2, () => writer.text(1, tie));
  });
  return writer.finish();
}
