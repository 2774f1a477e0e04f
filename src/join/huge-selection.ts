import type { BeyondCounts, EvidenceBeyond, Examine, LogRecord, Span } from '../core/evidence.ts';
import { isShortage } from '../wal/disk.ts';
import { choosePieces } from './huge-choice.ts';
import { DistinctPieces, PIECE_FLAG } from './huge-distinct.ts';
import { PieceList, type PiecePlace } from './huge-pieces.ts';
import { NO_SPAN, SPAN_FLAG } from './huge-spans.ts';
import { type HugeTree, linkSpans } from './huge-tree.ts';
import { NO_ENTRY } from './slot-table.ts';

export interface HugeSelectionOptions {
  /** Pieces chosen at most. */
  readonly spansMax: number;
  readonly examine: Examine;
  /** Decodes the piece there; throws when it cannot be read. */
  readonly read: (place: PiecePlace) => Span | LogRecord;
  /** Told of each piece that is the first of its kind. */
  readonly seen?: (evidence: Span | LogRecord, place: PiecePlace) => void;
}

export interface Selection {
  /** Distinct pieces, in the order of the log. */
  readonly chosen: readonly PiecePlace[];
  readonly beyond: EvidenceBeyond;
  /** Pieces that could not be read, and what the first of them said. */
  readonly unreadable: PieceList;
  readonly failure: unknown;
}

/** Simple steps that take about as long as decoding and judging one piece. */
const STEPS = 256;

/**
 * Chooses the pieces of a trace with more of them than one settle looks at: every access, what leads from them to their root, what
 * explains them, then the smallest span ids (see huge-choice.ts); and counts the rest. A function of the set of pieces: order of
 * arrival, slices and repetition do not matter. It works in slices, so that others are not kept waiting; its memory is columns of
 * words, about 120 bytes a distinct piece and 4 a repeated one.
 */
export class HugeSelection {
  readonly #options: HugeSelectionOptions;
  readonly #pieces: DistinctPieces;
  readonly #unreadable = new PieceList();
  #failure: unknown;
  readonly #work: Generator<void, Selection>;
  #selection: Selection | undefined;

  constructor(list: PieceList, options: HugeSelectionOptions) {
    this.#options = options;
    this.#pieces = new DistinctPieces(list.count);
    this.#work = this.#run(list);
  }

  /** Memory held. */
  get bytes(): number {
    return this.#pieces.bytes;
  }

  /** Works on for about as long as decoding `piecesMax` pieces takes. True once there is a result. */
  step(piecesMax: number): boolean {
    for (let done = 0; this.#selection === undefined && done < Math.max(piecesMax, 1); done++) {
      const next = this.#work.next();
      if (next.done) this.#selection = next.value;
    }
    return this.#selection !== undefined;
  }

  /** Undefined until `step` says that there is one. */
  result(): Selection | undefined {
    return this.#selection;
  }

  /** Every distinct piece, in the order of the log. */
  *distinct(): Generator<PiecePlace> {
    for (let piece = 1; piece < this.#pieces.count; piece++) yield this.#pieces.placeOf(piece);
  }

  *#run(list: PieceList): Generator<void, Selection> {
    for (const place of list) {
      this.#take(place);
      yield;
    }
    const tree = yield* linkSpans(this.#pieces);
    yield* choosePieces(this.#pieces, tree.root, this.#options.spansMax);
    return yield* this.#sum(tree);
  }

  #take(place: PiecePlace): void {
    let evidence: Span | LogRecord;
    try {
      evidence = this.#options.read(place);
    } catch (thrown) {
      if (isShortage(thrown)) throw thrown;
      this.#failure ??= thrown;
      this.#unreadable.add(place);
      return;
    }
    const isFirst = this.#pieces.add(place, evidence, this.#options.examine(evidence));
    if (isFirst) this.#options.seen?.(evidence, place);
  }

  *#sum({ root: _, ...tree }: HugeTree): Generator<void, Selection> {
    const pieces = this.#pieces;
    const chosen: PiecePlace[] = [];
    let bitsSum = pieces.bitsSum;
    for (let piece = 1; piece < pieces.count; piece++) {
      if (piece % STEPS === 0) yield;
      if (!pieces.has(piece, PIECE_FLAG.chosen)) continue;
      chosen.push(pieces.placeOf(piece));
      bitsSum = (bitsSum - (pieces.bits[piece] as number)) | 0;
      pieces.mark(pieces.content[piece] as number, PIECE_FLAG.contentChosen);
    }
    const counts = yield* this.#count();
    const links = yield* this.#link();
    const services = yield* this.#services();
    const beyond = { pieces: pieces.count - 1 - chosen.length, bitsSum, services, ...tree, ...counts, ...links };
    return { chosen, beyond, unreadable: this.#unreadable, failure: this.#failure };
  }

  *#services(): Generator<void, string[]> {
    const { spans } = this.#pieces;
    const names = this.#pieces.services();
    const found = new Set<string>();
    for (let span = 1; span < spans.count; span++) {
      if (span % STEPS === 0) yield;
      const name = names.get(spans.service[span] as number);
      if (name !== undefined) found.add(name);
    }
    return [...found].sort();
  }

  /** Counts what is not chosen. Each content is of one use; further pieces of the same content are duplicates. */
  *#count(): Generator<void, Pick<EvidenceBeyond, 'counts' | 'accesses' | 'ways' | 'spans' | 'errors'>> {
    const pieces = this.#pieces;
    const { spans } = pieces;
    const chosen = { traces: 0, logs: 0 };
    const total = { traces: { context: 0, excluded: 0 }, logs: { context: 0, excluded: 0 } };
    let [accesses, ways, spanCount, errors] = [0, 0, 0, 0];
    for (let piece = 1; piece < pieces.count; piece++) {
      if (piece % STEPS === 0) yield;
      const isLog = pieces.has(piece, PIECE_FLAG.log);
      const signal = isLog ? 'logs' : 'traces';
      const winner = spans.winner[pieces.span[piece] as number] as number;
      if (!isLog && winner === piece && !pieces.has(piece, PIECE_FLAG.chosen)) {
        spanCount++;
        ways += Number(spans.has(pieces.span[piece] as number, SPAN_FLAG.way));
        errors += Number(pieces.has(piece, PIECE_FLAG.telling));
      }
      if (pieces.has(piece, PIECE_FLAG.chosen)) chosen[signal]++;
      if (pieces.content[piece] !== piece) continue;
      if (pieces.has(piece, PIECE_FLAG.contentChosen)) {
        chosen[signal]--;
        continue;
      }
      const speaks = isLog || pieces.content[winner] === piece;
      const judged = isLog ? piece : winner;
      if (speaks && pieces.has(judged, PIECE_FLAG.access)) accesses++;
      total[signal][speaks && pieces.has(judged, PIECE_FLAG.excluded) ? 'excluded' : 'context']++;
    }
    // What is left in `chosen` are the duplicates that the settle counts itself.
    const countsOf = (signal: 'traces' | 'logs'): BeyondCounts => ({
      ...total[signal],
      duplicate: pieces.given[signal] - pieces.contents[signal] - chosen[signal],
    });
    const counts = { traces: countsOf('traces'), logs: countsOf('logs') };
    return { counts, accesses, ways, spans: spanCount, errors };
  }

  /** Leads chosen spans whose parent is not chosen to what is above them. */
  *#link(): Generator<void, Pick<EvidenceBeyond, 'above' | 'rootOf' | 'named'>> {
    const pieces = this.#pieces;
    const { spans } = pieces;
    const isChosen = (span: number): boolean => pieces.has(spans.winner[span] as number, PIECE_FLAG.chosen);
    const above = new Map<string, string>();
    const rootOf = new Map<string, string>();
    spans.near = new Uint32Array(spans.count);
    for (let at = 0; at < spans.ordered; at++) {
      if (at % STEPS === 0) yield;
      const span = spans.order[at] as number;
      const parent = spans.above[span] as number;
      if (parent === NO_SPAN) {
        const isCut = spans.has(span, SPAN_FLAG.cut) && !isChosen(spans.parent[span] as number);
        if (isCut && isChosen(span)) rootOf.set(spans.hex(span), spans.hex(span));
        continue;
      }
      const near = isChosen(parent) ? parent : (spans.near[parent] as number);
      spans.near[span] = near;
      if (near === parent || !isChosen(span)) continue;
      if (near !== NO_SPAN) above.set(spans.hex(span), spans.hex(near));
      else if (spans.has(span, SPAN_FLAG.rooted)) rootOf.set(spans.hex(span), spans.hex(spans.top[span] as number));
    }
    const named = new Set<string>();
    for (let piece = 1; piece < pieces.count; piece++) {
      if (piece % STEPS === 0) yield;
      const span = pieces.span[piece] as number;
      if (!pieces.has(piece, PIECE_FLAG.log) || !pieces.has(piece, PIECE_FLAG.chosen) || span === NO_SPAN) continue;
      if (spans.winner[span] !== NO_ENTRY && !isChosen(span)) named.add(spans.hex(span));
    }
    return { above, rootOf, named };
  }
}
