import { TIMESTAMP_NS_MAX } from '../core/clock.ts';
import type { LogRecord, PieceFacts, Span } from '../core/evidence.ts';
import { LIST_ITEMS_MAX } from '../core/limits.ts';
import { FirstNames } from './first-names.ts';
import { grown, itemOf, type PiecePlace, placeOf } from './huge-pieces.ts';
import { HugeSpans } from './huge-spans.ts';
import { mixWords, NO_ENTRY, SlotTable } from './slot-table.ts';

export const PIECE_FLAG = {
  log: 1,
  access: 2,
  excluded: 4,
  telling: 8,
  trusted: 16,
  vouches: 32,
  chosen: 64,
  /** Some copy of its content is chosen. Kept at the first copy. */
  contentChosen: 128,
} as const;

/**
 * The distinct pieces of one huge trace, numbered from 1 in the order of the log, as columns of words: 29 bytes a piece and its
 * slots. A piece is distinct by content, sender and origin, as in the rank; repeated ones are only counted.
 */
export class DistinctPieces {
  readonly spans: HugeSpans;
  count = 1;
  /** Number of its span id. */
  span = new Uint32Array(64);
  /** The first piece of the same content, which may be itself. */
  content = new Uint32Array(64);
  digestHigh = new Uint32Array(64);
  digestLow = new Uint32Array(64);
  origin = new Uint32Array(64);
  #frame = new Uint32Array(64);
  #item = new Uint32Array(64);
  bits = new Uint32Array(64);
  flags = new Uint8Array(64);
  bitsSum = 0;
  readonly #services = new FirstNames(LIST_ITEMS_MAX);
  /** Pieces given, contents among them. */
  readonly given = { traces: 0, logs: 0 };
  readonly contents = { traces: 0, logs: 0 };
  readonly #byContent: SlotTable;
  /** Copies of one content from several senders or origins, without the first. */
  readonly #copies = new SlotTable(0);
  /** Segment and offset of each frame. */
  #frames = new Uint32Array(64);
  #frameCount = 0;

  constructor(expected: number) {
    this.spans = new HugeSpans(expected);
    this.#byContent = new SlotTable(expected);
  }

  get bytes(): number {
    const columns = [this.span, this.content, this.digestHigh, this.digestLow, this.origin, this.#frame, this.#item];
    const words = columns.reduce((sum, column) => sum + column.byteLength, this.#frames.byteLength);
    return words + this.flags.byteLength + this.bits.byteLength + this.#byContent.bytes + this.spans.bytes;
  }

  has(piece: number, flag: number): boolean {
    return ((this.flags[piece] as number) & flag) !== 0;
  }

  mark(piece: number, flag: number): void {
    this.flags[piece] = (this.flags[piece] as number) | flag;
  }

  placeOf(piece: number): PiecePlace {
    const frame = (this.#frame[piece] as number) * 2;
    return placeOf(this.#frames[frame] as number, this.#frames[frame + 1] as number, this.#item[piece] as number);
  }

  /** False for a piece that repeats another. */
  add(place: PiecePlace, evidence: Span | LogRecord, facts: PieceFacts): boolean {
    const signal = place.isLog ? 'logs' : 'traces';
    this.given[signal]++;
    const span = this.spans.numberOf(wordOf(evidence.spanId, 0), wordOf(evidence.spanId, 8));
    const [digestHigh, digestLow] = [wordOf(facts.digest, 0), wordOf(facts.digest, 8)];
    const first = this.#find(span, digestHigh, digestLow, facts.origin, place.isLog);
    if (first === 'repeated') return false;
    const piece = this.count++;
    this.#grow();
    this.span[piece] = span;
    this.content[piece] = first === NO_ENTRY ? piece : first;
    this.digestHigh[piece] = digestHigh;
    this.digestLow[piece] = digestLow;
    this.origin[piece] = facts.origin;
    this.bits[piece] = facts.bits;
    this.bitsSum = (this.bitsSum + facts.bits) | 0;
    this.flags[piece] = flagsOf(place, evidence, facts);
    this.#frame[piece] = this.#frameOf(place);
    this.#item[piece] = itemOf(place);
    const hash = mixWords(this.#byContent.seed, digestHigh, digestLow, span);
    if (first === NO_ENTRY) {
      this.contents[signal]++;
      this.#byContent.add(hash, piece);
    } else this.#copies.add(mixWords(hash, facts.origin, this.#copies.seed), piece);
    if ('kind' in evidence) this.#stand(piece, span, evidence, this.#services.numberOf(facts.service));
    return true;
  }

  /** The first piece of this content, NO_ENTRY if there is none; or that the very piece is known. */
  #find(span: number, high: number, low: number, origin: number, isLog: boolean): number | 'repeated' {
    const isContent = (piece: number): boolean =>
      this.digestHigh[piece] === high &&
      this.digestLow[piece] === low &&
      this.span[piece] === span &&
      this.has(piece, PIECE_FLAG.log) === isLog;
    const hash = mixWords(this.#byContent.seed, high, low, span);
    const first = this.#byContent.find(hash, isContent);
    if (first === NO_ENTRY) return NO_ENTRY;
    if (this.origin[first] === origin) return 'repeated';
    const isCopy = (piece: number): boolean => isContent(piece) && this.origin[piece] === origin;
    const copy = this.#copies.find(mixWords(hash, origin, this.#copies.seed), isCopy);
    return copy === NO_ENTRY ? first : 'repeated';
  }

  /** Lets the span's best content stand for its id. */
  #stand(piece: number, number: number, span: Span, service: number): void {
    const { spans } = this;
    const [endHigh, endLow] = halves(span.endNs);
    const known = spans.winner[number] as number;
    if (known !== NO_ENTRY && !this.#isBetter(piece, known, number, [endHigh, endLow, span.attributeCount])) return;
    const [startHigh, startLow] = halves(clamp(span.startNs || span.endNs));
    const parent = spans.numberOf(wordOf(span.parentSpanId, 0), wordOf(span.parentSpanId, 8));
    spans.winner[number] = piece;
    spans.parent[number] = parent;
    spans.startHigh[number] = startHigh;
    spans.startLow[number] = startLow;
    spans.endHigh[number] = endHigh;
    spans.endLow[number] = endLow;
    spans.attributes[number] = span.attributeCount;
    spans.service[number] = service;
  }

  /** The settle's own order of several contents of one span: see enrich/dedupe.ts. */
  #isBetter(piece: number, known: number, number: number, [high, low, attributes]: [number, number, number]): boolean {
    const { spans } = this;
    const flagged = (flag: number): number => Number(this.has(piece, flag)) - Number(this.has(known, flag));
    const trusted = flagged(PIECE_FLAG.trusted);
    if (trusted !== 0) return trusted > 0;
    const isSame = this.content[piece] === this.content[known];
    const order = isSame
      ? flagged(PIECE_FLAG.vouches) || (this.origin[known] as number) - (this.origin[piece] as number)
      : flagged(PIECE_FLAG.access) ||
        high - (spans.endHigh[number] as number) ||
        low - (spans.endLow[number] as number) ||
        attributes - (spans.attributes[number] as number) ||
        this.compareDigests(piece, known);
    return order > 0;
  }

  /** The first names in order among all services that sent a span, by the number that the spans carry. */
  services(): ReadonlyMap<number, string> {
    return this.#services.first();
  }

  compareDigests(left: number, right: number): number {
    return (
      (this.digestHigh[left] as number) - (this.digestHigh[right] as number) ||
      (this.digestLow[left] as number) - (this.digestLow[right] as number)
    );
  }

  #frameOf({ segment, offset }: PiecePlace): number {
    const last = this.#frameCount * 2 - 2;
    if (last >= 0 && this.#frames[last] === segment && this.#frames[last + 1] === offset) return this.#frameCount - 1;
    this.#frames = grown(this.#frames, last + 4);
    this.#frames.set([segment, offset], last + 2);
    return this.#frameCount++;
  }

  #grow(): void {
    const { count } = this;
    if (this.span.length >= count) return;
    this.span = grown(this.span, count);
    this.content = grown(this.content, count);
    this.digestHigh = grown(this.digestHigh, count);
    this.digestLow = grown(this.digestLow, count);
    this.origin = grown(this.origin, count);
    this.#frame = grown(this.#frame, count);
    this.#item = grown(this.#item, count);
    this.bits = grown(this.bits, count);
    this.flags = grown(this.flags, count);
  }
}

function flagsOf({ isLog }: PiecePlace, { note }: Span | LogRecord, { kind, isTelling }: PieceFacts): number {
  return (
    (isLog ? PIECE_FLAG.log : 0) |
    (kind === 'access' ? PIECE_FLAG.access : kind === 'excluded' ? PIECE_FLAG.excluded : 0) |
    (isTelling ? PIECE_FLAG.telling : 0) |
    (note.trusted ? PIECE_FLAG.trusted : 0) |
    (note.vouches ? PIECE_FLAG.vouches : 0)
  );
}

/** Eight hex digits from there on; 0 where there are none. */
function wordOf(hex: string, at: number): number {
  return hex.length < at + 8 ? 0 : Number.parseInt(hex.slice(at, at + 8), 16);
}

function halves(instantNs: bigint): [number, number] {
  return [Number(BigInt.asUintN(32, instantNs >> 32n)), Number(BigInt.asUintN(32, instantNs))];
}

function clamp(instantNs: bigint): bigint {
  return instantNs > TIMESTAMP_NS_MAX ? TIMESTAMP_NS_MAX : instantNs;
}
