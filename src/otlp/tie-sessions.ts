import type { TraceTie } from '../core/record.ts';
import type { SessionLine } from './tie-text.ts';

/** Sessions of databases that are remembered, the one that was tied least recently going first: some ten megabytes at most. */
const SESSIONS_MAX = 10_000;

/** Ties remembered of each session: those of its last statements. */
const TIES_MAX = 8;

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
  readonly #sessions = new Map<string, Tied[]>();

  get size(): number {
    return this.#sessions.size;
  }

  /** `server` tells sessions of different servers apart. */
  learn(server: string, { session, line, transaction }: SessionLine, traceId: string): void {
    const key = `${server} ${session}`;
    const ties = this.#sessions.get(key) ?? [];
    this.#sessions.delete(key);
    this.#sessions.set(key, ties);
    // In the order of their lines, in which nearly all come.
    let place = ties.length;
    while (place > 0 && (ties[place - 1]?.line ?? 0) >= line) place--;
    if (ties[place]?.line !== line) ties.splice(place, 0, { line, transaction, traceId });
    if (ties.length > TIES_MAX) ties.shift();
    if (this.#sessions.size > SESSIONS_MAX) {
      const [oldest] = this.#sessions.keys();
      if (oldest !== undefined) this.#sessions.delete(oldest);
    }
  }

  find(server: string, { session, line, transaction }: SessionLine): SessionTie | undefined {
    let before: Tied | undefined;
    let within: Tied | undefined;
    for (const tied of this.#sessions.get(`${server} ${session}`) ?? []) {
      if (transaction !== '' && tied.transaction === transaction && isNearer(tied, within, line)) within = tied;
      if (tied.line < line && tied.line > (before?.line ?? -1)) before = tied;
    }
    if (within !== undefined) return { traceId: within.traceId, tie: 'transaction' };
    if (before === undefined || line - before.line > LINES_APART_MAX) return undefined;
    return { traceId: before.traceId, tie: 'session' };
  }
}

function isNearer(tied: Tied, than: Tied | undefined, line: number): boolean {
  const apart = (other: Tied) => Math.abs(other.line - line);
  return than === undefined || apart(tied) < apart(than) || (apart(tied) === apart(than) && tied.line < than.line);
}
