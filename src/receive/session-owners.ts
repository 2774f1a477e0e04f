import type { SessionOwner } from '../core/evidence.ts';
import type { Use } from './credentials.ts';

/** What is known of one session. Plain data: a line of the file that a restart reads has it. */
export interface KnownSession {
  readonly namespace: string;
  /** The keyed hash. */
  readonly id: string;
  /** Absent when two people were seen in it: then it names nobody. */
  readonly owner?: SessionOwner;
  /** When something last named both, the session and its owner. Epoch milliseconds. */
  readonly seenMs: number;
  /** When a logout ended it. */
  readonly endedMs?: number;
}

export interface SessionOwnersSettings {
  /** Sessions known at once; the one that was seen longest ago goes first. */
  readonly max: number;
  readonly keepMs: number;
}

/** Learning the same again only moves `seenMs`; it is told, and written, this many times in the time that it is kept. */
const REFRESHES = 24;

/** Whose session which is, in memory: bounded, and forgotten after a time. */
export class SessionOwners {
  readonly #settings: SessionOwnersSettings;
  readonly #known = new Map<string, KnownSession>();

  constructor(settings: SessionOwnersSettings) {
    this.#settings = settings;
  }

  get size(): number {
    return this.#known.size;
  }

  all(): IterableIterator<KnownSession> {
    return this.#known.values();
  }

  /** As a restart found it. */
  restore(session: KnownSession): void {
    this.#set(session);
  }

  /** Returns what is new and worth keeping for a restart. */
  learn(namespace: string, id: string, owner: SessionOwner, atMs: number): KnownSession | undefined {
    const before = this.#known.get(keyOf(namespace, id));
    // The same name again after a logout, or after being forgotten, is another session.
    const isLive = before !== undefined && atMs - before.seenMs <= this.#settings.keepMs && !endedBefore(before, atMs);
    if (!isLive) return this.#set({ namespace, id, owner, seenMs: atMs });
    if (before.endedMs !== undefined) return undefined;
    const seenMs = Math.max(before.seenMs, atMs);
    if (before.owner === undefined) return undefined;
    if (!isSame(before.owner, owner)) return this.#set({ namespace, id, seenMs });
    const merged = { ...owner, ...before.owner };
    const isRicher = Object.keys(merged).length > Object.keys(before.owner).length;
    if (!isRicher && seenMs - before.seenMs < this.#settings.keepMs / REFRESHES) return undefined;
    return this.#set({ namespace, id, owner: merged, seenMs });
  }

  /** A logout: what the session does later is nobody's. */
  end(namespace: string, id: string, atMs: number): KnownSession | undefined {
    const before = this.#known.get(keyOf(namespace, id));
    if (before === undefined || before.endedMs !== undefined || before.seenMs > atMs) return undefined;
    return this.#set({ ...before, endedMs: atMs });
  }

  /** Whose session it was when it was used. */
  ownerOf(namespace: string, id: string, use: Use, nowMs: number): SessionOwner | 'contested' | undefined {
    const session = this.#known.get(keyOf(namespace, id));
    if (session === undefined) return undefined;
    const usedMs = use.latestNs === 0n ? nowMs : Math.min(Number(use.latestNs / 1_000_000n), nowMs);
    if (usedMs - session.seenMs > this.#settings.keepMs || endedBefore(session, usedMs)) return undefined;
    return session.owner ?? 'contested';
  }

  #set(session: KnownSession): KnownSession {
    const key = keyOf(session.namespace, session.id);
    this.#known.delete(key);
    this.#known.set(key, session);
    if (this.#known.size > this.#settings.max) {
      const [oldest] = this.#known.keys();
      if (oldest !== undefined) this.#known.delete(oldest);
    }
    return session;
  }
}

function keyOf(namespace: string, id: string): string {
  return `${namespace} ${id}`;
}

function endedBefore({ endedMs }: KnownSession, atMs: number): boolean {
  return endedMs !== undefined && endedMs < atMs;
}

/** Sources name the same person by id, name or mail address; one of these in common is enough. */
function isSame(left: SessionOwner, right: SessionOwner): boolean {
  const names = new Set(namesOf(left));
  return namesOf(right).some((name) => names.has(name));
}

function namesOf({ id, name, email }: SessionOwner): string[] {
  return [id, name, email].filter((text) => text !== undefined).map((text) => text.toLowerCase());
}
