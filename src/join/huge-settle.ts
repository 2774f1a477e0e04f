import { msToNs } from '../core/clock.ts';
import type { Observe } from '../core/coverage.ts';
import type { EvidenceBeyond, Examine, LogRecord, Span } from '../core/evidence.ts';
import type { BySignal, Settlement, SettleSteps } from '../core/settlement.ts';
import { eachPlace, PlacePacker } from '../wal/settle-journal.ts';
import { announce, horizonOf, type SetAside, stampTrace } from './batch.ts';
import { NoteSum } from './coverage-notes.ts';
import { type EvidenceReader, type FoundEvidence, newFound } from './evidence-reader.ts';
import type { PieceList, PiecePlace } from './huge-pieces.ts';
import { HugeSelection, type Selection } from './huge-selection.ts';
import { countKept, countNew, type DueTrace, type SettledOne } from './trace-settler.ts';

export interface HugeSettleOptions {
  readonly examine: Examine;
  readonly settleSteps: SettleSteps;
  readonly observe?: Observe;
  readonly reader: EvidenceReader;
  readonly spansMax: number;
}

/** As any trace that is due, but its new evidence is a list of places, to which what the journal knows is added. */
export interface DueHugeTrace extends Omit<DueTrace, 'fresh'> {
  readonly fresh: PieceList;
  /** More new evidence that is only counted, as context: with it the trace has more than is kept of one, and is closed. */
  readonly unseen: BySignal<number>;
}

/** What a step of the settle itself costs, in pieces decoded. */
const SETTLE_STEP_PIECES = 250;

/** Places looked at in the time of one piece decoded. */
const PLACES_A_PIECE = 64;

/** Pieces of one entry in quarantine. */
const SET_ASIDE_PIECES = 1000;

/** New spans and log records that coverage looks at together. */
const OBSERVED_MAX = 500;

/**
 * Settles a trace of more evidence than one settle looks at, in slices: others are settled between two of them. It sees what was
 * there when it began; what comes meanwhile is late. Nothing of it is stored before it is done.
 */
export class HugeSettle {
  readonly #options: HugeSettleOptions;
  readonly #due: DueHugeTrace;
  readonly #work: Generator<number, SettledOne>;
  readonly #notes = new NoteSum();
  readonly #setAside: SetAside[] = [];
  #nowMs = 0;
  #selection: HugeSelection | undefined;
  #observed: { spans: Span[]; logs: LogRecord[] } = { spans: [], logs: [] };

  constructor(due: DueHugeTrace, options: HugeSettleOptions) {
    this.#due = due;
    this.#options = options;
    this.#work = this.#run();
  }

  /** Memory that its places and what was found out about them take. */
  get bytes(): number {
    return this.#due.fresh.bytes + (this.#selection?.bytes ?? 0);
  }

  /** Works on for about as long as decoding that many pieces takes, or until it is late, at least a little. The result once there is one. */
  step(piecesMax: number, nowMs: number, isLate: () => boolean): SettledOne | undefined {
    this.#nowMs = nowMs;
    let done = 0;
    do {
      const next = this.#work.next();
      if (next.done) return next.value;
      done += next.value;
    } while (done < piecesMax && !isLate());
    return undefined;
  }

  *#run(): Generator<number, SettledOne> {
    const { fresh: list, unseen, previous } = this.#due;
    const isClosed = unseen.traces + unseen.logs > 0;
    const given = { traces: list.count - list.logs + unseen.traces, logs: list.logs + unseen.logs };
    const forgotten = yield* this.#addKnown(list);
    const { reader, spansMax, examine } = this.#options;
    this.#selection = new HugeSelection(list, {
      ...{ spansMax, examine },
      read: (place) => reader.readOne(place, this.#due),
      seen: (evidence, place) => this.#see(evidence, place),
    });
    const selection = this.#selection;
    while (!selection.step(1)) yield 1;
    const selected = withUnseen(selection.result() as Selection, unseen);
    this.#observe();
    const found = yield* this.#read(selected.chosen);
    // As of a trace that is not huge: see TraceSettler.
    const isBeyond = forgotten > 0 && forgotten === previous?.pieces.length;
    const horizonNs = msToNs(horizonOf({ ...this.#due, isBeyond }));
    const settled = yield* this.#settle(found, selected.beyond, horizonNs, given.traces + given.logs);
    const settlement =
      this.#due.isReplayed && settled ? yield* this.#withEarly(selection.distinct(), settled) : settled;
    const packer = new PlacePacker();
    const kept = { traces: 0, logs: 0 };
    for (const place of selection.distinct()) {
      packer.add(place);
      kept[place.isLog ? 'logs' : 'traces']++;
      if ((kept.traces + kept.logs) % PLACES_A_PIECE === 0) yield 1;
    }
    const unreadable = this.#setUnreadableAside(selected);
    const readable = list.count - selected.unreadable.count;
    const logs = list.logs - selected.unreadable.logs;
    const dropped = { traces: readable - logs - kept.traces, logs: logs - kept.logs };
    const hasLost = isClosed || this.#due.isForgotten || forgotten + selected.unreadable.count > 0;
    const taken = {
      ...this.#due,
      ...{ settlement, hasLost, isBeyond, isClosed, pieces: isClosed ? [] : packer.finish() },
      ...(isClosed && { reason: 'too_many_spans' as const }),
      counts: countKept(settlement, dropped, previous),
      fresh: countNew(settlement, given, unreadable, previous),
    };
    yield SETTLE_STEP_PIECES;
    const stamped = stampTrace(taken, this.#nowMs);
    // What is left writes its journal entry.
    yield SETTLE_STEP_PIECES;
    const announced = selected.beyond.pieces > 0 ? announce(previous, stamped) : undefined;
    return {
      ...stamped,
      ...(announced && { announced }),
      setAside: this.#setAside,
      coverage: this.#notes.notes,
      pieces: selected.chosen.length,
    };
  }

  /** Adds what the journal knows and is not gone. Returns how much of it is gone. */
  *#addKnown(list: PieceList): Generator<number, number> {
    let [gone, looked] = [0, 0];
    for (const place of eachPlace(this.#due.previous?.pieces ?? [])) {
      if (place.segment < this.#due.firstSegment) gone++;
      else list.add({ ...place, isNew: false });
      if (++looked % PLACES_A_PIECE === 0) yield 1;
    }
    return gone;
  }

  *#read(chosen: readonly PiecePlace[]): Generator<number, FoundEvidence> {
    const found = newFound();
    for (const place of chosen) {
      this.#options.reader.read([place], found, this.#due);
      yield 1;
    }
    return found;
  }

  /** Undefined when the settle throws: a bug in the rules for this evidence must not stop the others. */
  *#settle(
    found: FoundEvidence,
    beyond: EvidenceBeyond,
    horizonNs: bigint,
    given: number,
  ): Generator<number, Settlement | undefined> {
    const { namespace, traceId } = this.#due;
    const { settleSteps, reader } = this.#options;
    try {
      const steps = settleSteps({ namespace, traceId, spans: found.spans, logs: found.logs, horizonNs, beyond });
      for (;;) {
        const step = steps.next();
        if (step.done) return step.value;
        yield SETTLE_STEP_PIECES;
      }
    } catch (thrown) {
      const pieces = [...found.spanPieces, ...found.logPieces].slice(0, SET_ASIDE_PIECES);
      this.#setAside.push({ ...reader.setAside(pieces, 'settle', thrown), pieces: given });
      return undefined;
    }
  }

  /**
   * A run before may have settled the trace while one settle looked at all of it, and ended before the journal said so: with what
   * came first, at most as many distinct pieces as one settle looks at, however often each came. Ids that it can have published
   * and that are not chosen any more are taken back.
   */
  *#withEarly(distinct: Iterable<PiecePlace>, settlement: Settlement): Generator<number, Settlement> {
    const { namespace, traceId } = this.#due;
    const first: PiecePlace[] = [];
    for (const place of distinct) if (first.push(place) === this.#options.spansMax) break;
    const { spans, logs } = yield* this.#read(first);
    const steps = this.#options.settleSteps({ namespace, traceId, spans, logs });
    let step = steps.next();
    for (; !step.done; step = steps.next()) yield SETTLE_STEP_PIECES;
    const early = step.value;
    const living = new Set(settlement.records.map(({ id }) => id));
    const entry = settlement.records.find(({ record }) => record.audit.entry) ?? settlement.records[0];
    const superseded = new Map(settlement.superseded);
    for (const id of [...early.records.map((settled) => settled.id), ...early.superseded.keys()])
      if (!living.has(id) && !superseded.has(id)) superseded.set(id, entry?.id ?? 'none');
    return { ...settlement, superseded };
  }

  /** Sets new evidence aside that cannot be read. Returns how much that is. */
  #setUnreadableAside({ unreadable, failure }: Selection): BySignal<number> {
    const counts = { traces: 0, logs: 0 };
    let pieces: PiecePlace[] = [];
    const flush = (): void => {
      if (pieces.length > 0) this.#setAside.push(this.#options.reader.setAside(pieces, 'decode', failure));
      pieces = [];
    };
    for (const place of unreadable) {
      if (!place.isNew) continue;
      counts[place.isLog ? 'logs' : 'traces']++;
      if (pieces.push(place) === SET_ASIDE_PIECES) flush();
    }
    flush();
    return counts;
  }

  #see(evidence: Span | LogRecord, place: PiecePlace): void {
    if (!place.isNew || this.#options.observe === undefined) return;
    if ('kind' in evidence) this.#observed.spans.push(evidence);
    else this.#observed.logs.push(evidence);
    if (this.#observed.spans.length + this.#observed.logs.length >= OBSERVED_MAX) this.#observe();
  }

  /** Coverage counts all new evidence, a part at a time: which parents are missing is not known of a part. */
  #observe(): void {
    const { spans, logs } = this.#observed;
    this.#observed = { spans: [], logs: [] };
    if (spans.length + logs.length === 0) return;
    const { namespace } = this.#due;
    const nothing = { spans: [], logs: [] };
    try {
      const notes = this.#options.observe?.({ namespace, fresh: { spans, logs }, earlier: nothing, isWhole: false });
      this.#notes.add(notes ?? []);
    } catch (thrown) {
      this.#setAside.push({ ...this.#options.reader.setAside([], 'settle', thrown), pieces: 0 });
    }
  }
}

/** The rank counts what is not looked at: the records of a trace that is closed say so whatever was known before. */
function withUnseen(selected: Selection, unseen: BySignal<number>): Selection {
  const { beyond } = selected;
  const { traces, logs } = beyond.counts;
  const counts = {
    traces: { ...traces, context: traces.context + unseen.traces },
    logs: { ...logs, context: logs.context + unseen.logs },
  };
  return { ...selected, beyond: { ...beyond, counts, pieces: beyond.pieces + unseen.traces + unseen.logs } };
}
