import type { TraceTie } from '../core/record.ts';
import type { SessionLine } from './tie-text.ts';

/** Ties remembered in all, those of the session that was tied least recently going first: some fifteen megabytes. */
const TIES_MAX = 50_000;

/** Ties remembered of one session: those of its last statements. A connection that is in use makes hundreds a second. */
const SESSION_TIES_MAX = 128;

/**
 * How many lines after a tied one a line of another transaction may still be of the same request. Connections are shared by
 * requests, so that a line further on is more likely another one's.
 */
const LINES_APART_MAX = 16;

interface Tied {
  readonly line: number;
  readonly transaction: string;
  readonly traceId: string;
}

/** A line of a session, with the trace that it names itself. */
export interface SessionPiece extends SessionLine {
  readonly traceId?: string;
}

/** What a line of a session that names no trace is tied to. */
interface SessionTie {
  readonly traceId: string;
  readonly tie: Extract<TraceTie, 'transaction' | 'session'>;
}

/**
 * Which trace each session of a database worked for. The answer depends on the numbers of the lines, not on the time or the
 * order of asking: a line that is sent again is tied as it was before, as long as the ties before it are remembered.
 */
export class DatabaseSessions {
  readonly #sessions = new Map<string, readonly Tied[]>();
  #ties = 0;
  /** Grows with everything that is learnt. */
  changes = 0;

  /** Ties remembered. */
  get size(): number {
    return this.#ties;
  }

  /**
   * Ties the lines of one session that came together: each to what those before it, or of its transaction, are tied to. Remembers
   * those that name a trace themselves. The answers are in the order of `pieces`; `server` tells sessions of different servers apart.
   */
  tie(server: string, pieces: readonly SessionPiece[]): (SessionTie | undefined)[] {
    const [first] = pieces;
    if (first === undefined) return [];
    const key = `${server}\n${first.session}`;
    const before = this.#sessions.get(key) ?? [];
    const named = pieces.flatMap(({ line, transaction, traceId }) => (traceId ? [{ line, transaction, traceId }] : []));
    const ties = named.length === 0 ? before : merged(before, named);
    if (named.length > 0) this.#remember(key, before, ties.slice(-SESSION_TIES_MAX));
    if (ties.length === 0 || named.length === pieces.length) return pieces.map(() => undefined);
    const byTransaction = new Map<string, Tied[]>();
    for (const tied of ties) {
      const known = byTransaction.get(tied.transaction);
      if (known) known.push(tied);
      else byTransaction.set(tied.transaction, [tied]);
    }
    return pieces.map((piece) => (piece.traceId ? undefined : tieOf(piece, ties, byTransaction)));
  }

  #remember(key: string, before: readonly Tied[], ties: readonly Tied[]): void {
    this.changes += 1;
    this.#sessions.delete(key);
    this.#sessions.set(key, ties);
    this.#ties += ties.length - before.length;
    for (const [oldest, gone] of this.#sessions) {
      if (this.#ties <= TIES_MAX) break;
      this.#sessions.delete(oldest);
      this.#ties -= gone.length;
    }
  }

  /** What is remembered, as JSON values, the session that was tied least recently first. */
  save(): unknown[] {
    return [...this.#sessions].map(([key, ties]) => [
      key,
      ...ties.map((tied) => [tied.line, tied.transaction, tied.traceId]),
    ]);
  }

  /** Takes what `save` gave; whatever else there is among it is passed over. */
  load(saved: readonly unknown[]): void {
    for (const entry of saved) {
      const [key, ...list] = Array.isArray(entry) ? (entry as unknown[]) : [];
      if (typeof key !== 'string') continue;
      const ties = list.flatMap((tied) => {
        const [line, transaction, traceId] = Array.isArray(tied) ? (tied as unknown[]) : [];
        const isTied = typeof line === 'number' && typeof transaction === 'string' && typeof traceId === 'string';
        return isTied ? [{ line, transaction, traceId }] : [];
      });
      this.#remember(key, this.#sessions.get(key) ?? [], ties);
    }
  }
}

/** In the order of their lines; a line that is known is tied as it was. */
function merged(before: readonly Tied[], named: readonly Tied[]): Tied[] {
  const last = before.at(-1)?.line ?? -1;
  const isBehind = named.every(({ line }, index) => line > (named[index - 1]?.line ?? last));
  if (isBehind) return [...before, ...named];
  const byLine = new Map([...named, ...before].map((tied) => [tied.line, tied] as const));
  return [...byLine.values()].sort((left, right) => left.line - right.line);
}

function tieOf(
  { line, transaction }: SessionPiece,
  ties: readonly Tied[],
  byTransaction: ReadonlyMap<string, readonly Tied[]>,
): SessionTie | undefined {
  const within = transaction === '' ? undefined : byTransaction.get(transaction);
  if (within !== undefined) {
    const nearest = lastBefore(within, line) ?? within[0];
    if (nearest !== undefined) return { traceId: nearest.traceId, tie: 'transaction' };
  }
  const before = lastBefore(ties, line);
  if (before === undefined || line - before.line > LINES_APART_MAX) return undefined;
  return { traceId: before.traceId, tie: 'session' };
}

/** The last of these, which are in order, before a line. */
function lastBefore(ties: readonly Tied[], line: number): Tied | undefined {
  let [low, high] = [0, ties.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ties[middle]?.line ?? 0) < line) low = middle + 1;
    else high = middle;
  }
  return ties[low - 1];
}
