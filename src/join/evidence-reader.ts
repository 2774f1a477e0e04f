import { AppError, describeError } from '../core/errors.ts';
import type { LogRecord, Span } from '../core/evidence.ts';
import { addColumn, COLUMN_SPANS_MAX, FACT_WORDS, type SpanColumns, spanAt } from '../core/span-columns.ts';
import type { KnownPart } from '../core/span-rows.ts';
import { type KeySet, PayloadReader, SpanContents } from '../otlp/decode.ts';
import { KnownParts } from '../otlp/known-parts.ts';
import type { SpanContent } from '../otlp/span-contents.ts';
import { SpanWalk } from '../otlp/span-walk.ts';
import { isShortage } from '../wal/disk.ts';
import type { StoredFrame } from '../wal/frame.ts';
import { type FramePosition, positionKey } from '../wal/segment-format.ts';
import type { EvidencePlace } from '../wal/settle-journal.ts';
import type { SetAside } from './batch.ts';
import { type FrameSpans, frameSpansOf, isOfTrace, RecentSpans } from './frame-spans.ts';
import type { MailedSpans } from './shard-mail.ts';
import type { Piece } from './trace-table.ts';
import { parseTraceId } from './trace-words.ts';

/** Memory of the frames whose readers are kept, which others let go of when they are read: neighbours of a frame settle at about the same time. */
const CACHED_BYTES_MAX = 8 * 1024 * 1024;

/** What a frame and its reader take besides the payload: 2.5 KB measured, and its resources as they are decoded. */
const READER_BYTES = 4096;

/** Bytes of an item that quarantine keeps. */
const SET_ASIDE_BYTES_MAX = 64 * 1024;

/** Decoded evidence, and where each of it lies. */
export interface FoundEvidence {
  readonly spans: Span[];
  readonly spanPieces: Piece[];
  readonly logs: LogRecord[];
  readonly logPieces: Piece[];
}

export interface Unreadable {
  readonly piece: Piece;
  readonly thrown: unknown;
}

/** Whose evidence is asked for. The trace id is empty for log records that name none. */
export interface Whose {
  readonly namespace: string;
  readonly traceId: string;
}

interface OpenFrame {
  readonly key: number;
  readonly frame: StoredFrame;
  readonly reader: PayloadReader;
  /** What columns tell of its spans; null where it is not for columns. */
  spans: FrameSpans | null | undefined;
}

interface LookedAt {
  readonly spans: FrameSpans | undefined;
  readonly at: FramePosition;
}

const NO_FRAME: LookedAt = { spans: undefined, at: { segment: 0, offset: 0 } };

/** Decodes pieces of evidence out of the frames of the write-ahead log, each frame looked at once as long as it is cached. */
export class EvidenceReader {
  readonly #readFrame: (position: FramePosition) => StoredFrame;
  readonly #keys: KeySet;
  readonly #contents = new SpanContents();
  readonly #walk: SpanWalk;
  readonly #recent = new RecentSpans();
  /** The frame that was looked at last, until another one is remembered, which may lie where it did. */
  #looked: LookedAt = NO_FRAME;
  /** Spans and log records of the trace in the columns that had to be decoded, by the piece's place among those of the trace. */
  readonly #decoded: (Span | LogRecord | undefined)[] = [];
  #decodedOf: readonly Piece[] = [];
  readonly #open = new Map<number, OpenFrame>();
  #last: OpenFrame | undefined;
  #cachedBytes = 0;

  /** `known` is what the walks go by that frames come with; others are walked through here. */
  constructor(readFrame: (position: FramePosition) => StoredFrame, keys: KeySet, known = new KnownParts()) {
    this.#readFrame = readFrame;
    this.#keys = keys;
    this.#walk = new SpanWalk(known);
  }

  /** Its spans are told in columns without being read again, as long as there is room to remember them. */
  remember(frame: StoredFrame): void {
    this.#recent.add(frame);
    this.#looked = NO_FRAME;
  }

  /** The same for spans that came from another thread. */
  rememberMailed(spans: MailedSpans): void {
    this.#recent.addMailed(spans);
    this.#looked = NO_FRAME;
  }

  /** Throws when it cannot be read, or is another's: segments may have been put in the place of those that were. */
  readOne(place: EvidencePlace, whose: Whose): Span | LogRecord {
    return place.isLog ? this.#log(place, whose) : this.#span(place, whose);
  }

  /**
   * Appends what the pieces say to `found`; pieces that cannot be read, or are another's, are returned. Throws when the system
   * is short of what reading needs.
   */
  read(pieces: readonly Piece[], found: FoundEvidence, whose: Whose): Unreadable[] {
    const unreadable: Unreadable[] = [];
    const decoded = pieces === this.#decodedOf ? this.#decoded : [];
    for (let at = 0; at < pieces.length; at++) {
      const piece = pieces[at] as Piece;
      try {
        if (piece.isLog) {
          found.logs.push((decoded[at] as LogRecord | undefined) ?? this.#log(piece, whose));
          found.logPieces.push(piece);
        } else {
          found.spans.push((decoded[at] as Span | undefined) ?? this.#span(piece, whose));
          found.spanPieces.push(piece);
        }
      } catch (thrown) {
        if (isShortage(thrown)) throw thrown;
        unreadable.push({ piece, thrown });
      }
    }
    this.#decodedOf = [];
    this.#decoded.length = 0;
    return unreadable;
  }

  /**
   * Reads all evidence of a trace into the columns; false when it is not for columns, be it that a span says what nothing said before.
   * Then, as always, `read` tells what it says, and what was decoded here is not decoded again if it is the next that is asked.
   */
  columns(pieces: readonly Piece[], columns: SpanColumns, whose: Whose): boolean {
    columns.count = 0;
    columns.logs.length = 0;
    this.#decoded.length = 0;
    this.#decodedOf = pieces;
    if (pieces.length > COLUMN_SPANS_MAX) return false;
    parseTraceId(whose.traceId, columns.traceId);
    for (let at = 0; at < pieces.length; at++) {
      const piece = pieces[at] as Piece;
      if (!(piece.isLog ? this.#addLog(piece, at, columns, whose) : this.#column(piece, at, columns, whose)))
        return false;
    }
    return true;
  }

  #addLog(piece: Piece, at: number, columns: SpanColumns, whose: Whose): boolean {
    try {
      const log = this.#log(piece, whose);
      this.#decoded[at] = log;
      columns.logs.push(log);
      return true;
    } catch {
      return false;
    }
  }

  #column(piece: Piece, place: number, columns: SpanColumns, { namespace }: Whose): boolean {
    const spans = this.#frameSpans(piece);
    if (spans === undefined || spans.note.namespace !== namespace) return false;
    const { count, facts, parts, note, trust } = spans;
    const at = spanAt(facts, count, piece.itemStart, spans.next);
    spans.next = at + 1;
    if (at < 0 || !isOfTrace(spans, at, columns.traceId)) return false;
    const part = parts[at];
    const content = (part?.contentOf(trust) as SpanContent | undefined) ?? this.#decode(piece, place, part, trust);
    return content !== undefined && addColumn(columns, facts, at * FACT_WORDS, content.number, note);
  }

  /** Spans of a trace mostly lie in one frame, and those of the next trace, too. */
  #frameSpans(piece: Piece): FrameSpans | undefined {
    const { segment, offset } = piece;
    const { spans, at } = this.#looked;
    if (spans !== undefined && at.segment === segment && at.offset === offset) return spans;
    const found = this.#recent.find(piece) ?? this.#spansOf(piece);
    this.#looked = { spans: found, at: { segment, offset } };
    return found;
  }

  /** Of a frame that was read back, or that nobody walked through yet. */
  #spansOf(piece: Piece): FrameSpans | undefined {
    try {
      const opened = this.#openFrame(piece);
      if (opened.spans === undefined) {
        const { frame } = opened;
        const isOfSpans = frame.signal === 'traces';
        const rows = isOfSpans ? (frame.spans ?? this.#walk.walkMasked(frame.payload).rows) : undefined;
        opened.spans = (rows && frameSpansOf(frame, rows)) ?? null;
      }
      return opened.spans ?? undefined;
    } catch {
      // Reading it as evidence tells what is wrong.
      return undefined;
    }
  }

  /** What a span says of which not all bytes, but all that is wanted, came before; undefined when that is new. */
  #decode(piece: Piece, at: number, part: KnownPart | undefined, trust: number): SpanContent | undefined {
    let span: Span;
    try {
      span = this.#openFrame(piece).reader.span(piece.itemStart);
    } catch {
      return undefined;
    }
    this.#decoded[at] = span;
    const content = span.content as SpanContent | undefined;
    part?.setContent(trust, content);
    return content;
  }

  #log(place: EvidencePlace, whose: Whose): LogRecord {
    const { frame, reader } = this.#openFrame(place);
    const log = reader.logRecord(place.itemStart);
    checkWhose(frame, log, whose);
    return log;
  }

  #span(place: EvidencePlace, whose: Whose): Span {
    const { frame, reader } = this.#openFrame(place);
    const span = reader.span(place.itemStart);
    checkWhose(frame, span, whose);
    return span;
  }

  /** Empty when the frame cannot be read. */
  namespaceOf(piece: Piece): string {
    try {
      return this.#openFrame(piece).frame.note.namespace;
    } catch (thrown) {
      if (isShortage(thrown)) throw thrown;
      return '';
    }
  }

  /** The pieces as a quarantine entry: where they lie, and the raw bytes from the item on, as far as they can be read. */
  setAside(pieces: readonly Piece[], stage: SetAside['stage'], thrown: unknown): SetAside {
    let bytesLeft = SET_ASIDE_BYTES_MAX;
    const items = pieces.map(({ segment, offset, itemStart, isLog }) => {
      const bytes = bytesLeft > 0 ? this.#rawItem({ segment, offset, itemStart }, bytesLeft) : undefined;
      bytesLeft -= bytes?.length ?? 0;
      return { signal: isLog ? 'logs' : 'traces', segment, offset, itemStart, bytes };
    });
    const first = pieces[0];
    const id = first === undefined ? '' : `${first.segment}/${first.offset}/${first.itemStart}`;
    return {
      stage,
      reason: describeError(thrown),
      id,
      body: items,
      pieces: pieces.filter((piece) => piece.isNew).length,
    };
  }

  #rawItem(at: Pick<Piece, 'segment' | 'offset' | 'itemStart'>, bytesMax: number): Buffer | undefined {
    try {
      const { payload } = this.#openFrame(at).frame;
      return payload.subarray(at.itemStart, itemEnd(payload, at.itemStart, bytesMax));
    } catch {
      return undefined;
    }
  }

  #openFrame(position: FramePosition): OpenFrame {
    const key = positionKey(position);
    if (this.#last?.key === key) return this.#last;
    const known = this.#open.get(key);
    if (known !== undefined) {
      this.#last = known;
      return known;
    }
    const frame = this.#readFrame({ segment: position.segment, offset: position.offset });
    const signal = frame.signal === 'logs' ? 'logs' : 'traces';
    const reader = new PayloadReader(frame.payload, signal, frame.note, this.#keys, this.#contents);
    const opened: OpenFrame = { key, frame, reader, spans: undefined };
    this.#cachedBytes += frame.payload.length + READER_BYTES;
    for (const [oldKey, old] of this.#open) {
      if (this.#cachedBytes <= CACHED_BYTES_MAX) break;
      this.#open.delete(oldKey);
      this.#cachedBytes -= old.frame.payload.length + READER_BYTES;
    }
    this.#open.set(key, opened);
    this.#last = opened;
    return opened;
  }
}

function checkWhose({ note }: StoredFrame, { traceId }: Span | LogRecord, whose: Whose): void {
  if (traceId !== whose.traceId || note.namespace !== whose.namespace)
    throw new AppError('storage', 'there is evidence of another trace where that of this one was');
}

/** End of the item as the length varint before it says (read backwards), at most `bytesMax` on; the payload's end if in doubt. */
function itemEnd(payload: Buffer, itemStart: number, bytesMax: number): number {
  let length = 0;
  for (let at = itemStart - 1; at >= 0 && itemStart - at <= 5; at--) {
    const byte = payload[at] ?? 0;
    if (at < itemStart - 1 && byte < 0x80) break;
    length = length * 128 + (byte & 0x7f);
  }
  return Math.min(itemStart + Math.min(length, bytesMax), payload.length);
}

export function newFound(): FoundEvidence {
  return { spans: [], spanPieces: [], logs: [], logPieces: [] };
}
