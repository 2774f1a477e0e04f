import { msToNs } from '../core/clock.ts';
import type { CoverageNote, Observe } from '../core/coverage.ts';
import type { LogRecord, Span } from '../core/evidence.ts';
import type { FormAdvice, FormedRecords, Forms } from '../core/forms.ts';
import type { SettleReason } from '../core/record.ts';
import {
  type BySignal,
  type EvidenceCounts,
  type FreshCounts,
  NO_COUNTS,
  type Settle,
  type SettledTrace,
  type Settlement,
} from '../core/settlement.ts';
import { SpanColumns } from '../core/span-columns.ts';
import type { FramePosition } from '../wal/segment-format.ts';
import { type EvidencePlace, eachPlace, type JournalEntry } from '../wal/settle-journal.ts';
import { countFresh, horizonOf, type SetAside, type StampedTrace, stampTrace } from './batch.ts';
import { type EvidenceReader, type FoundEvidence, newFound, type Unreadable } from './evidence-reader.ts';
import type { Piece } from './trace-table.ts';

export interface TraceSettlerOptions {
  readonly settle: Settle;
  /** What the fresh evidence of each settle says of coverage; without it nothing is noted. */
  readonly observe?: Observe;
  readonly reader: EvidenceReader;
  /** What is known of traces that say the same; without it each is settled by itself. */
  readonly forms?: Forms;
}

/** One trace that is due. */
export interface DueTrace {
  readonly namespace: string;
  readonly traceId: string;
  readonly reason: SettleReason;
  readonly isRepeat: boolean;
  /** New evidence, and where the newest of it lies. */
  readonly fresh: readonly Piece[];
  readonly through: FramePosition;
  /** What the journal says of the last settle. */
  readonly previous: JournalEntry | undefined;
  /** It was settled before, but what the journal said of it is gone or damaged. */
  readonly isForgotten: boolean;
  /** An earlier run may have written records of the new evidence without the journal saying so. */
  readonly isReplayed: boolean;
  readonly settles: number;
  /** Evidence in earlier segments is gone. */
  readonly firstSegment: number;
  readonly horizonMs: number;
  readonly nowMs: number;
}

export interface SettledOne extends StampedTrace {
  /** What the journal is to know before the records are written. */
  readonly announced?: JournalEntry;
  readonly setAside: readonly SetAside[];
  readonly coverage: readonly CoverageNote[];
  /** Pieces that were decoded. */
  readonly pieces: number;
}

/** Log records of one frame that name no trace. */
export interface SettledGroup {
  readonly trace: SettledTrace;
  readonly setAside: readonly SetAside[];
  readonly coverage: readonly CoverageNote[];
  readonly fresh: FreshCounts;
  readonly pieces: number;
}

/** What one settle looks at. */
interface Selected {
  readonly found: FoundEvidence;
  /** New evidence that cannot be read. */
  readonly unreadable: readonly Unreadable[];
  /** Evidence that was settled before and is gone or cannot be read any more. */
  readonly lost: number;
  /** There was some, and all of it is in segments that are gone. */
  readonly isBeyond: boolean;
}

/** A trace settled from all its evidence. */
interface Whole {
  readonly one: SettledOne;
  readonly found: FoundEvidence;
  readonly settlement: Settlement | undefined;
}

/** Nothing is known of the trace, or was ever, and nothing of it is known to be gone. */
function isFirst({ previous, isForgotten, isRepeat, traceId }: DueTrace): boolean {
  return previous === undefined && !isForgotten && !isRepeat && traceId !== '';
}

/** Settles a trace from its new evidence and all that the journal knows of it, and says what the journal is to know next. */
export class TraceSettler {
  readonly #options: TraceSettlerOptions;
  readonly #columns = new SpanColumns();
  /** The trace that is in the columns, and what is advised for it. */
  #advised: DueTrace | undefined;
  #advice: FormAdvice;

  constructor(options: TraceSettlerOptions) {
    this.#options = options;
  }

  /** By the form of its like; undefined where none is known: then `settle` is to be asked next, with the same. */
  settleByForm(due: DueTrace): FormedRecords | undefined {
    const { forms, reader } = this.#options;
    this.#advice = undefined;
    this.#advised = due;
    if (forms === undefined || !isFirst(due) || !reader.columns(due.fresh, this.#columns, due)) return undefined;
    this.#advice = forms.advise(this.#columns, due);
    return this.#advice === 'settle' ? forms.settle(this.#columns, due) : undefined;
  }

  /** As a whole; then it may become a form, or tell whether one is right. */
  settle(due: DueTrace): SettledOne {
    const { forms } = this.#options;
    const advice = due === this.#advised ? this.#advice : undefined;
    const { one, found, settlement } = this.#settleWhole(due);
    const { trace, entry, coverage } = one;
    if (forms === undefined || advice === undefined) return one;
    if (trace === undefined || settlement === undefined || settlement.superseded.size > 0) return one;
    const whole = { rank: trace.rank, writes: trace.writes, counts: entry.counts, fresh: entry.fresh, coverage };
    if (advice === 'check') forms.check(forms.settle(this.#columns, due), whole);
    else if (one.setAside.length === 0) forms.learn({ ...whole, spans: found.spans });
    return one;
  }

  #settleWhole(due: DueTrace): Whole {
    const { namespace, traceId, reason, through, isReplayed, isRepeat, fresh, previous, settles, horizonMs } = due;
    const { reader } = this.#options;
    const selected = this.#select(due);
    const { found, unreadable, isBeyond } = selected;
    const setAside = unreadable.map(({ piece, thrown }) => reader.setAside([piece], 'decode', thrown));
    const horizonNs = msToNs(horizonOf({ isBeyond, previous, horizonMs }));
    const evidence = { namespace, traceId, spans: found.spans, logs: found.logs, horizonNs };
    const settled = guarded(() => this.#options.settle(evidence));
    const settlement = 'thrown' in settled ? undefined : settled.result;
    if ('thrown' in settled)
      setAside.push(reader.setAside([...found.spanPieces, ...found.logPieces], 'settle', settled.thrown));
    const kept = keptOf(found, settlement);
    const hasLost = due.isForgotten || selected.lost + unreadable.length > 0;
    const { pieces, dropped } = kept;
    const counts = countKept(settlement, dropped, previous);
    const counted = countNew(settlement, bySignal(fresh), bySignal(unreadable.map(({ piece }) => piece)), previous);
    // By name: what is spread is copied by a call into the runtime.
    const stamped = stampTrace(
      {
        namespace,
        traceId,
        reason,
        settlement,
        through,
        hasLost,
        isBeyond,
        isReplayed,
        isRepeat,
        previous,
        pieces,
        counts,
        fresh: counted,
        settles,
        horizonMs,
      },
      due.nowMs,
    );
    const noted = guarded(() => this.#observe(namespace, found, previous !== undefined, !stamped.entry.isLost));
    if ('thrown' in noted) setAside.push({ ...reader.setAside(fresh, 'settle', noted.thrown), pieces: 0 });
    const coverage = 'thrown' in noted ? [] : noted.result;
    const { trace, entry, superseded } = stamped;
    const one = { trace, entry, superseded, setAside, coverage, pieces: found.spans.length + found.logs.length };
    return { one, found, settlement };
  }

  /** Settles log records of one frame that name no trace, each by itself. */
  settleUntraced(pieces: readonly Piece[], through: FramePosition, nowMs: number): SettledGroup {
    const namespace = pieces[0] === undefined ? '' : this.#options.reader.namespaceOf(pieces[0]);
    const shared = {
      namespace,
      traceId: '',
      reason: 'untraced',
      isRepeat: false,
      through,
      previous: undefined,
    } as const;
    const rest = { isForgotten: false, isReplayed: false, settles: 1, firstSegment: 0, horizonMs: 0, nowMs };
    const all = pieces.map((piece) => this.settle({ ...shared, ...rest, fresh: [piece] }));
    const writes = all.flatMap(({ trace }) => trace?.writes ?? []);
    return {
      trace: { namespace, traceId: '', reason: 'untraced', rank: 0n, revision: 1, writes },
      setAside: all.flatMap((one) => one.setAside),
      coverage: all.flatMap((one) => one.coverage),
      fresh: sumFresh(all.map(({ entry }) => entry.fresh.logs)),
      pieces: pieces.length,
    };
  }

  /** Reads the evidence that a settle looks at: the new pieces and those that the journal names. */
  #select({ namespace, traceId, fresh, previous, firstSegment }: DueTrace): Selected {
    const { reader } = this.#options;
    const known: Piece[] = [];
    for (const piece of eachPlace(previous?.pieces ?? [])) {
      if (piece.segment >= firstSegment) known.push({ ...piece, isNew: false });
    }
    const pieces = known.length === 0 ? fresh : [...fresh, ...known];
    const found = newFound();
    const unreadable = reader.read(pieces, found, { namespace, traceId });
    const unread = unreadable.filter(({ piece }) => piece.isNew);
    return {
      found,
      unreadable: unread,
      lost: (previous?.pieces.length ?? 0) - known.length + unreadable.length - unread.length,
      isBeyond: (previous?.pieces.length ?? 0) > 0 && known.length === 0,
    };
  }

  #observe(namespace: string, found: FoundEvidence, hasEarlier: boolean, isWhole: boolean): CoverageNote[] {
    const { observe } = this.#options;
    if (observe === undefined) return [];
    if (!hasEarlier) return observe({ namespace, fresh: found, earlier: newFound(), isWhole });
    const part = (isNew: boolean) => ({
      spans: found.spans.filter((_, index) => found.spanPieces[index]?.isNew === isNew),
      logs: found.logs.filter((_, index) => found.logPieces[index]?.isNew === isNew),
    });
    const fresh = part(true);
    if (fresh.spans.length + fresh.logs.length === 0) return [];
    return observe({ namespace, fresh, earlier: part(false), isWhole });
  }
}

/** A bug in the rules for this evidence must not stop the others. */
function guarded<Result>(work: () => Result): { result: Result } | { thrown: unknown } {
  try {
    return { result: work() };
  } catch (thrown) {
    return { thrown };
  }
}

interface Kept {
  readonly pieces: readonly EvidencePlace[];
  /** Pieces that say nothing new. */
  readonly dropped: BySignal<number>;
}

/** Evidence that later settles need: all but plain repetitions, so that a sender who repeats himself makes no entry grow. */
function keptOf(found: FoundEvidence, settlement: Settlement | undefined): Kept {
  if (settlement === undefined || settlement.repeats.length === 0)
    return { pieces: [...found.spanPieces, ...found.logPieces], dropped: { traces: 0, logs: 0 } };
  const repeats = new Set<Span | LogRecord>(settlement.repeats);
  const spans = found.spanPieces.filter((_, index) => !repeats.has(found.spans[index] as Span));
  const logs = found.logPieces.filter((_, index) => !repeats.has(found.logs[index] as LogRecord));
  const dropped = { traces: found.spanPieces.length - spans.length, logs: found.logPieces.length - logs.length };
  return { pieces: [...spans, ...logs], dropped };
}

function countsBySignal({ counts, logCounts }: Settlement): BySignal<EvidenceCounts> {
  const traces = {
    used: counts.used - logCounts.used,
    context: counts.context - logCounts.context,
    excluded: counts.excluded - logCounts.excluded,
    duplicate: counts.duplicate - logCounts.duplicate,
  };
  return { traces, logs: logCounts };
}

/** How the settle counted the pieces that are kept. */
export function countKept(
  settlement: Settlement | undefined,
  dropped: BySignal<number>,
  previous: JournalEntry | undefined,
): BySignal<EvidenceCounts> {
  if (settlement === undefined) return previous?.counts ?? { traces: NO_COUNTS, logs: NO_COUNTS };
  const { traces, logs } = countsBySignal(settlement);
  // The journal has no negative numbers.
  return {
    traces: { ...traces, duplicate: Math.max(traces.duplicate - dropped.traces, 0) },
    logs: { ...logs, duplicate: Math.max(logs.duplicate - dropped.logs, 0) },
  };
}

/** What became of the new evidence. */
export function countNew(
  settlement: Settlement | undefined,
  fresh: BySignal<number>,
  unreadable: BySignal<number>,
  previous: JournalEntry | undefined,
): BySignal<FreshCounts> {
  const after = settlement === undefined ? undefined : countsBySignal(settlement);
  const ofSignal = (signal: 'traces' | 'logs'): FreshCounts => {
    if (after === undefined) return { ...NO_COUNTS, quarantined: fresh[signal] };
    const quarantined = unreadable[signal];
    return countFresh(fresh[signal] - quarantined, quarantined, previous?.counts[signal], after[signal]);
  };
  return { traces: ofSignal('traces'), logs: ofSignal('logs') };
}

function bySignal(pieces: readonly Piece[]): BySignal<number> {
  const counts = { traces: 0, logs: 0 };
  for (const piece of pieces) counts[piece.isLog ? 'logs' : 'traces']++;
  return counts;
}

function sumFresh(all: readonly FreshCounts[]): FreshCounts {
  const sum = (use: keyof FreshCounts) => all.reduce((total, fresh) => total + fresh[use], 0);
  return {
    used: sum('used'),
    context: sum('context'),
    excluded: sum('excluded'),
    duplicate: sum('duplicate'),
    quarantined: sum('quarantined'),
  };
}

/** The journal entry of the log records of one frame that name no trace: a restart must not settle them again. */
export function untracedEntry(
  namespace: string,
  through: FramePosition,
  fresh: readonly FreshCounts[],
  settledAtMs: number,
): JournalEntry {
  const nothing = { traces: NO_COUNTS, logs: NO_COUNTS };
  return {
    ...{ namespace, through, settledAtMs, traceId: '', reason: 'untraced', rank: 0n, revision: 1, settles: 1 },
    ...{ isLost: false, horizonMs: 0, records: [], pieces: [], counts: nothing },
    fresh: { traces: { ...NO_COUNTS, quarantined: 0 }, logs: sumFresh(fresh) },
  };
}
