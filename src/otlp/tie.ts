import { AppError } from '../core/errors.ts';
import type { Attributes, AttributeValue, FrameNote, LogRecord, Resource } from '../core/evidence.ts';
import type { Counters } from '../core/metrics.ts';
import type { TraceTie } from '../core/record.ts';
import { compileKeys, PayloadReader } from './decode.ts';
import { Hints } from './hints.ts';
import { scanLogs } from './scan.ts';
import { DatabaseSessions, type SessionPiece } from './tie-sessions.ts';
import { sessionLineIn, traceNamedIn } from './tie-text.ts';
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
export function createTie(
  counters?: Pick<Counters, 'add'>,
  sessions = new DatabaseSessions(),
): (payload: Buffer, note: FrameNote) => Buffer {
  return (payload, note) => {
    const tied = tieLogs(payload, { sessions, note });
    for (const tie of tied.ties) counters?.add('tied', 1, { tie });
    return tied.payload;
  };
}

const NO_NOTE: FrameNote = { receivedNs: 0n, namespace: '', sender: '', trusted: false, vouches: false, peer: '' };

/** Lines of one database session, with the items that they are. */
interface SessionItems {
  readonly server: string;
  readonly items: Item[];
  readonly pieces: SessionPiece[];
}

/** Lines of a session are looked at together, so that which of them comes first in the payload does not matter. */
function find(payload: Buffer, items: readonly Item[], matching: SessionMatching | undefined): void {
  const reader = new PayloadReader(payload, 'logs', NO_NOTE, EVERY_KEY);
  const sessions = new Map<string, SessionItems>();
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
    const key = `${server}\n${line.session}`;
    let session = sessions.get(key);
    if (session === undefined) {
      session = { server, items: [], pieces: [] };
      sessions.set(key, session);
    }
    session.items.push(item);
    session.pieces.push(named === undefined ? line : { ...line, traceId: named.traceId });
  }
  for (const session of sessions.values()) {
    const ties = matching?.sessions.tie(session.server, session.pieces) ?? [];
    session.items.forEach((item, index) => {
      Object.assign(item, ties[index]);
    });
  }
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
const TAGS = [(1 << 3) | WIRE.delimited, (2 << 3) | WIRE.delimited, (2 << 3) | WIRE.delimited] as const;

const LOG = { attributes: 6, traceId: 9, spanId: 10 } as const;

/** Parts of the new payload in their order: bytes that stay, and the heads and endings between them. */
class Parts {
  readonly #list: (Uint8Array | undefined)[] = [];
  length = 0;

  add(bytes: Uint8Array): void {
    this.#list.push(bytes);
    this.length += bytes.length;
  }

  /** Leaves room for a field's head, which is known once its content is. */
  open(): number {
    return this.#list.push(undefined) - 1;
  }

  /** Writes the head of a field whose content is all that was added since. */
  close(place: number, tag: number, contentLength: number): void {
    const head = Buffer.allocUnsafe(HEAD_BYTES_MAX);
    head[0] = tag;
    let at = 1;
    let rest = contentLength;
    for (; rest > 0x7f; rest = Math.floor(rest / 0x80)) head[at++] = (rest & 0x7f) | 0x80;
    head[at++] = rest;
    this.#list[place] = head.subarray(0, at);
    this.length += at;
  }

  join(): Buffer {
    const joined = Buffer.allocUnsafe(this.length);
    let at = 0;
    for (const part of this.#list) {
      if (part === undefined) continue;
      joined.set(part, at);
      at += part.length;
    }
    return joined;
  }
}

/** A tag below 16 and a length below 2^35. */
const HEAD_BYTES_MAX = 6;

function rewrite(payload: Buffer, tied: readonly Item[]): Buffer {
  const cursor = new WireCursor(payload);
  const parts = new Parts();
  let next = 0;
  const blocks = (end: number, level: number): void => {
    const wanted = TAGS[level];
    let copied = cursor.position;
    while (cursor.position < end) {
      const at = cursor.position;
      const tag = cursor.tag(end);
      if (tag !== wanted) {
        cursor.skip(tag, end);
        continue;
      }
      const contentEnd = cursor.delimitedEnd(end);
      const item = tied[next];
      if (item === undefined || item.start >= contentEnd) {
        cursor.position = contentEnd;
        continue;
      }
      parts.add(payload.subarray(copied, at));
      copied = contentEnd;
      const head = parts.open();
      const before = parts.length;
      if (level < TAGS.length - 1) blocks(contentEnd, level + 1);
      else {
        parts.add(payload.subarray(cursor.position, contentEnd));
        parts.add(endingOf(item));
        next += 1;
        cursor.position = contentEnd;
      }
      parts.close(head, wanted, parts.length - before);
    }
    parts.add(payload.subarray(copied, end));
  };
  blocks(payload.length, 0);
  return parts.join();
}

const TIE_BYTES = new Map<TraceTie, Buffer>();

/** The attribute that says how a record was tied, as a field of it; made once for each way. */
function attributeOf(tie: TraceTie): Buffer {
  let bytes = TIE_BYTES.get(tie);
  if (bytes === undefined) {
    const writer = new WireWriter();
    writer.message(LOG.attributes, () => {
      writer.text(1, TIE_ATTRIBUTE);
      writer.message(2, () => writer.text(1, tie));
    });
    bytes = writer.finish();
    TIE_BYTES.set(tie, bytes);
  }
  return bytes;
}

/** The last value of a field counts, so that what is added stands for an id that was there and not valid. */
function endingOf({ tie = 'text', traceId = '', spanId = '' }: Item): Buffer {
  const attribute = attributeOf(tie);
  // A span id without a trace meant nothing; beside a trace id in the text it may be that trace's.
  const hasSpan = spanId !== '' || tie !== 'text';
  const [traceBytes, spanBytes] = [traceId.length / 2, spanId.length / 2];
  const ending = Buffer.allocUnsafe(2 + traceBytes + (hasSpan ? 2 + spanBytes : 0) + attribute.length);
  ending[0] = (LOG.traceId << 3) | WIRE.delimited;
  ending[1] = traceBytes;
  let at = 2 + ending.write(traceId, 2, 'hex');
  if (hasSpan) {
    ending[at] = (LOG.spanId << 3) | WIRE.delimited;
    ending[at + 1] = spanBytes;
    at += 2 + ending.write(spanId, at + 2, 'hex');
  }
  ending.set(attribute, at);
  return ending;
}
