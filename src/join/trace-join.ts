import { SETTLE_REASONS, type SettleReason } from '../core/record.ts';
import type { JoinSettings } from './settings.ts';
import { LIST, TraceLists } from './trace-lists.ts';
import { TraceTable } from './trace-table.ts';
import { since, TRACE } from './trace-words.ts';
import { NONE } from './word-pool.ts';

/** Bits of a trace's flags; above them, a byte for the number of settles and a byte for the reason why it is due. */
const FLAG = { root: 1, settled: 2, untraced: 4, settling: 8, repeat: 16, replayed: 32, closed: 64 } as const;
const SETTLES_SHIFT = 8;
const REASON_SHIFT = 16;
const BYTE = 0xff;

/**
 * Revisions of a huge trace wait twice as long each time without the usual limit up to this: a settle takes some ten
 * microseconds a piece, so that a trickle of late evidence costs a hundredth of the time at most.
 */
const HUGE_WAIT_MS_A_PIECE = 1;

/** A clock that goes back by more than this was set: time then goes on from where it was. Less is noise between callers. */
const CLOCK_STEP_MS = 1_000;
/** So was one that leaps ahead by more than this between two calls: times that are 24 days apart cannot be compared. */
const CLOCK_LEAP_MS = 86_400_000;

/**
 * Decides when each trace of a TraceTable is settled. A state machine without I/O: evidence and time are passed in, due
 * traces are taken out. Every operation takes constant time except the check for missing parents, which takes time in
 * proportion to the trace and happens only when a trace with a root has been quiet for the grace.
 *
 * States: open (waits for a timer) → due → settling → gone from the table, or open again for what has come meanwhile. A trace
 * that is settled and stored comes back with its next evidence.
 */
export class TraceJoin {
  readonly table = new TraceTable();
  readonly #lists = new TraceLists(this.table.traces);
  readonly #settings: JoinSettings;
  readonly #openBytesMax: number;
  /** Bytes of traces that are due or settling: they will be free soon, and cannot be released a second time. */
  #releasingBytes = 0;
  #lastMs = 0;
  #skewMs = 0;

  constructor(settings: JoinSettings, openBytesMax: number) {
    this.#settings = settings;
    this.#openBytesMax = openBytesMax;
  }

  /** Brings the machine to this time: timers fire. */
  advance(nowMs: number): void {
    const now = this.#steady(nowMs);
    this.#lists.turn(now, (trace) => this.#fire(trace, now));
    this.relieve();
  }

  /** Epoch milliseconds at which something becomes due; `nowMs` when something is due already; undefined for never. */
  nextDueAtMs(nowMs: number): number | undefined {
    if (this.#lists.dueCount > 0) return nowMs;
    const turnMs = this.#lists.nextTurnMs();
    return turnMs === undefined ? undefined : Math.max(turnMs - this.#skewMs, nowMs);
  }

  /** Tells that a pending piece was added to the trace. Call `relieve` after each frame. */
  arrived(trace: number, isRoot: boolean, nowMs: number): void {
    const { traces } = this.table;
    const words = traces.wordsOf(trace);
    const start = traces.startOf(trace);
    const now = this.#steady(nowMs);
    const list = words[start + TRACE.list] as number;
    let flags = words[start + TRACE.flags] as number;
    const isSettling = (flags & FLAG.settling) !== 0;
    if (list === LIST.none && !isSettling) words[start + TRACE.firstMs] = now;
    words[start + TRACE.lastMs] = now;
    if (isRoot && (flags & FLAG.root) === 0) {
      flags |= FLAG.root;
      words[start + TRACE.flags] = flags;
      words[start + TRACE.rootMs] = now;
    }
    if (list === LIST.due || isSettling) this.#releasingBytes += this.table.pieceBytes;
    else if ((flags & FLAG.settled) === 0) this.#reconsider(trace, list, now);
    else if (list === LIST.none) this.#schedule(trace, this.#lateDueMs(trace, now), now);
  }

  /** Tells that evidence of the trace came back with a replay: a run before may have written records of it. */
  markReplayed(trace: number): void {
    this.#mark(trace, FLAG.replayed);
  }

  isReplayed(trace: number): boolean {
    return this.#has(trace, FLAG.replayed);
  }

  /** Marks a trace that is no trace: log records of one frame that name none. They settle after the grace. */
  markUntraced(trace: number): void {
    this.#mark(trace, FLAG.untraced);
  }

  isUntraced(trace: number): boolean {
    return this.#has(trace, FLAG.untraced);
  }

  /** Tells that a trace was settled and stored before, with so many pieces: what came or comes now is late. */
  markSettled(trace: number, settledAtMs: number, settles: number, pieces: number): void {
    this.#mark(trace, FLAG.settled);
    this.table.traces.set(trace, TRACE.stored, pieces);
    this.table.traces.set(trace, TRACE.settledMs, settledAtMs);
    this.#setByte(trace, SETTLES_SHIFT, settles);
  }

  isSettled(trace: number): boolean {
    return this.#has(trace, FLAG.settled);
  }

  /** Tells that no more evidence of the trace is kept. */
  markClosed(trace: number): void {
    this.#mark(trace, FLAG.closed);
  }

  isClosed(trace: number): boolean {
    return this.#has(trace, FLAG.closed);
  }

  /** Has it more evidence, new and stored, than one settle looks at? */
  isHuge(trace: number): boolean {
    const { traces } = this.table;
    if (this.isUntraced(trace)) return false;
    return traces.get(trace, TRACE.pieces) + traces.get(trace, TRACE.stored) > this.#settings.spansMax;
  }

  settlesOf(trace: number): number {
    return this.#byte(trace, SETTLES_SHIFT);
  }

  /** The trace is due now, as soon as it is not settling any more, and its next settle is written though it may say nothing new. */
  repeat(trace: number): void {
    this.#mark(trace, FLAG.repeat);
    if (!this.#has(trace, FLAG.settling) && this.#lists.listOf(trace) !== LIST.due) this.#release(trace, 'late');
  }

  /** Takes out the next due trace, which then is settling until `finished`. */
  nextDue(): { trace: number; reason: SettleReason; isRepeat: boolean } | undefined {
    const trace = this.#lists.first(LIST.due);
    if (trace === NONE) return undefined;
    this.#lists.move(trace, LIST.none);
    const isRepeat = this.#has(trace, FLAG.repeat);
    this.#unmark(trace, FLAG.repeat);
    this.#mark(trace, FLAG.settling);
    const reason = SETTLE_REASONS[(this.table.traces.get(trace, TRACE.flags) >>> REASON_SHIFT) & BYTE];
    return reason === undefined ? undefined : { trace, reason, isRepeat };
  }

  /** What was taken of the trace is stored: it leaves the table, or becomes due again for what has come meanwhile. */
  finished(trace: number, nowMs: number): void {
    const { traces } = this.table;
    const now = this.#steady(nowMs);
    this.#releasingBytes -= this.table.traceBytes(trace);
    this.#unmark(trace, FLAG.settling);
    const left = this.table.removeTaken(trace);
    if (left > 0 || this.#has(trace, FLAG.repeat)) {
      const settles = Math.min(this.settlesOf(trace) + 1, BYTE);
      this.markSettled(trace, now, settles, traces.get(trace, TRACE.stored));
      if (this.#has(trace, FLAG.repeat)) this.#release(trace, 'late');
      else this.#schedule(trace, this.#lateDueMs(trace, now), now);
    } else this.table.remove(trace);
    this.relieve();
  }

  /** A part of a group of log records without a trace is stored: the rest is due now; all of it stays until the last part. */
  partFinished(trace: number): void {
    this.#releasingBytes -= this.table.traceBytes(trace);
    this.#unmark(trace, FLAG.settling);
    this.#release(trace, 'untraced');
  }

  /** Everything open is due now, for the reason that fits best. */
  flush(): void {
    for (let trace = this.#lists.firstOpen(); trace !== NONE; trace = this.#lists.firstOpen()) {
      const whole = this.#has(trace, FLAG.root) && this.table.parentsResolved(trace);
      this.#release(trace, whole ? 'complete' : this.#has(trace, FLAG.root) ? 'root_wait' : 'idle');
    }
  }

  #fire(trace: number, now: number): void {
    const verdict = this.#verdict(trace, now);
    if (typeof verdict === 'string') this.#release(trace, verdict);
    else this.#schedule(trace, verdict, now);
  }

  /** Why the trace is due now, or at which time to ask again. */
  #verdict(trace: number, now: number): SettleReason | number {
    const { traces } = this.table;
    const { graceMs, rootWaitMs, idleMs, maxAgeMs } = this.#settings;
    const scheduledInMs = since(traces.get(trace, TRACE.dueMs), now);
    if (this.#has(trace, FLAG.settled)) return scheduledInMs <= 0 ? 'late' : now + scheduledInMs;
    if (this.isUntraced(trace)) return scheduledInMs <= 0 ? 'untraced' : now + scheduledInMs;
    const quietMs = since(now, traces.get(trace, TRACE.lastMs));
    const ageMs = since(now, traces.get(trace, TRACE.firstMs));
    const waits = [idleMs - quietMs, maxAgeMs - ageMs];
    if (this.#has(trace, FLAG.root)) {
      if (quietMs >= graceMs && this.table.parentsResolved(trace)) return 'complete';
      const rootAgeMs = since(now, traces.get(trace, TRACE.rootMs));
      if (rootAgeMs >= rootWaitMs) return 'root_wait';
      waits.push(rootWaitMs - rootAgeMs);
      if (quietMs < graceMs) waits.push(graceMs - quietMs);
    }
    if (quietMs >= idleMs) return 'idle';
    if (ageMs >= maxAgeMs) return 'max_age';
    return now + Math.min(...waits);
  }

  /** An open trace got more evidence: it may be due at once, or its timer may have to come forward; never back. */
  #reconsider(trace: number, list: number, now: number): void {
    const { traces } = this.table;
    const words = traces.wordsOf(trace);
    const start = traces.startOf(trace);
    const { graceMs, idleMs, spansMax } = this.#settings;
    const flags = words[start + TRACE.flags] as number;
    if ((flags & FLAG.untraced) === 0 && (words[start + TRACE.pieces] as number) > spansMax) {
      this.#release(trace, 'too_many_spans');
      return;
    }
    const isNew = list === LIST.none;
    const waitMs = (flags & (FLAG.root | FLAG.untraced)) !== 0 ? graceMs : idleMs;
    if (isNew || since(words[start + TRACE.dueMs] as number, now) > waitMs) this.#schedule(trace, now + waitMs, now);
  }

  /** When late evidence that came now makes the next revision: not before its turn, and with its neighbours. */
  #lateDueMs(trace: number, now: number): number {
    const { idleMs, lateWaitMaxMs, graceMs, maxAgeMs } = this.#settings;
    // It is only counted, and is not to fill the index until then.
    if (this.isClosed(trace)) return now + maxAgeMs;
    const settles = Math.max(this.#byte(trace, SETTLES_SHIFT), 1);
    const hugeWaitMs = this.isHuge(trace) ? this.table.traces.get(trace, TRACE.stored) * HUGE_WAIT_MS_A_PIECE : 0;
    const waitMs = Math.min(idleMs * 2 ** (settles - 1), Math.max(lateWaitMaxMs, idleMs, hugeWaitMs));
    // In the future when the clock of an earlier run was ahead.
    const sinceSettleMs = Math.max(since(now, this.table.traces.get(trace, TRACE.settledMs)), 0);
    return now + Math.max(waitMs - sinceSettleMs, graceMs);
  }

  #schedule(trace: number, dueMs: number, now: number): void {
    this.table.traces.set(trace, TRACE.dueMs, dueMs);
    this.#lists.schedule(trace, dueMs, now);
  }

  #release(trace: number, reason: SettleReason): void {
    const told = this.#has(trace, FLAG.settled) ? 'late' : this.isUntraced(trace) ? 'untraced' : reason;
    this.#setByte(trace, REASON_SHIFT, SETTLE_REASONS.indexOf(told));
    this.#releasingBytes += this.table.traceBytes(trace);
    this.#lists.move(trace, LIST.due);
  }

  /** Keeps the table within its bytes: settles open traces early, the one that would be due next first: that changes the least. */
  relieve(): void {
    while (this.table.usedBytes - this.#releasingBytes > this.#openBytesMax) {
      const open = this.#lists.firstOpen();
      if (open === NONE) return;
      this.#release(open, 'memory_pressure');
    }
  }

  /** Time that never goes back: the caller's, unless its clock was set back. */
  #steady(nowMs: number): number {
    const passedMs = nowMs + this.#skewMs - this.#lastMs;
    const wasSet = passedMs < -CLOCK_STEP_MS || (passedMs > CLOCK_LEAP_MS && this.#lastMs > 0);
    if (wasSet) this.#skewMs = this.#lastMs - nowMs;
    this.#lastMs = Math.max(this.#lastMs, nowMs + this.#skewMs);
    return this.#lastMs;
  }

  #has(trace: number, flag: number): boolean {
    return (this.table.traces.get(trace, TRACE.flags) & flag) !== 0;
  }

  #mark(trace: number, flags: number): void {
    this.table.traces.set(trace, TRACE.flags, this.table.traces.get(trace, TRACE.flags) | flags);
  }

  #unmark(trace: number, flags: number): void {
    this.table.traces.set(trace, TRACE.flags, this.table.traces.get(trace, TRACE.flags) & ~flags);
  }

  #byte(trace: number, shift: number): number {
    return (this.table.traces.get(trace, TRACE.flags) >>> shift) & BYTE;
  }

  #setByte(trace: number, shift: number, value: number): void {
    const rest = this.table.traces.get(trace, TRACE.flags) & ~(BYTE << shift);
    this.table.traces.set(trace, TRACE.flags, rest | (Math.min(value, BYTE) << shift));
  }
}
