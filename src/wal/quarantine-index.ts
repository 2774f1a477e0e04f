import type { Resolution } from './quarantine.ts';
import type { QuarantineLine, ResolvedTotal } from './quarantine-lines.ts';

/** Where a line lies, its end included. */
export interface Place {
  readonly offset: number;
  readonly length: number;
}

interface Slot extends Place {
  readonly stage: string;
  /** How it was resolved; undefined while it is open. */
  readonly how: Resolution | undefined;
}

export interface Filter {
  /** Only open ones, or only resolved ones. */
  readonly isOpen?: boolean;
  readonly stage?: string | undefined;
  /** Only those behind this one. */
  readonly after?: string | undefined;
}

interface Kept {
  /** Lines that stay, in their order. */
  readonly places: readonly Place[];
  /** Of the resolutions that do not stay. */
  readonly totals: readonly ResolvedTotal[];
}

/** What the quarantine's file holds, by key, in the order in which entries came first. */
export class QuarantineIndex {
  readonly #slots = new Map<string, Slot>();
  readonly #damaged: Place[] = [];
  /** Resolved entries that are listed no longer. */
  #former: readonly ResolvedTotal[] = [];
  readonly #openByStage = new Map<string, number>();
  readonly #resolved = new Map<string, number>();
  #openBytes = 0;
  #openCount = 0;
  #resolvedCount = 0;
  #usedBytes = 0;

  get openBytes(): number {
    return this.#openBytes;
  }

  get openCount(): number {
    return this.#openCount;
  }

  /** Resolved entries that are listed. */
  get resolvedCount(): number {
    return this.#resolvedCount;
  }

  /** Bytes of all lines that still say something. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  get damagedCount(): number {
    return this.#damaged.length;
  }

  /** Stages without an open entry are there, too, with 0, once they had one. */
  get openByStage(): ReadonlyMap<string, number> {
    return this.#openByStage;
  }

  /** Every resolution so far, by stage and kind. */
  get totals(): ResolvedTotal[] {
    const sums = new Map(this.#resolved);
    for (const { stage, how, count } of this.#former) add(sums, `${how} ${stage}`, count);
    return [...sums].map(([name, count]) => toTotal(name, count));
  }

  /** The line at this place; undefined for one that cannot be read. */
  take(line: QuarantineLine | undefined, { offset, length }: Place): void {
    if (line === undefined) {
      this.#damaged.push({ offset, length });
      this.#usedBytes += length;
    } else if (line.kind === 'header') {
      this.#former = line.totals;
    } else {
      const { key, stage, resolved } = line.entry;
      const older = this.#slots.get(key);
      if (older !== undefined) this.#count(older, -1);
      const slot = { offset, length, stage, how: resolved?.how };
      // An older slot's place in the order stays.
      this.#slots.set(key, slot);
      this.#count(slot, 1);
      if (slot.how !== undefined) add(this.#resolved, `${slot.how} ${stage}`, 1);
    }
  }

  isOpen(key: string): boolean {
    const slot = this.#slots.get(key);
    return slot !== undefined && slot.how === undefined;
  }

  placeOf(key: string): Place | undefined {
    return this.#slots.get(key);
  }

  /** At most so many keys, in order; undefined when `after` is not there. */
  keys({ isOpen, stage, after }: Filter, limit: number): string[] | undefined {
    if (after !== undefined && !this.#slots.has(after)) return undefined;
    const keys: string[] = [];
    let isBehind = after === undefined;
    for (const [key, slot] of this.#slots) {
      const isWanted = isOpen === undefined || isOpen === (slot.how === undefined);
      if (isBehind && isWanted && (stage === undefined || stage === slot.stage)) keys.push(key);
      if (keys.length >= limit) break;
      if (key === after) isBehind = true;
    }
    return keys;
  }

  /** What stays when the file is written anew: open entries, damaged lines, and the newest `resolvedMax` resolutions. */
  keep(resolvedMax: number): Kept {
    const resolved = [...this.#slots.values()].filter((slot) => slot.how !== undefined);
    resolved.sort((one, other) => one.offset - other.offset);
    const gone = new Set(resolved.slice(0, Math.max(0, resolved.length - resolvedMax)));
    const listed = new Map<string, number>();
    for (const { how, stage } of resolved.slice(gone.size)) add(listed, `${how} ${stage}`, 1);
    const totals = this.totals.map((total) => ({
      ...total,
      count: total.count - (listed.get(`${total.how} ${total.stage}`) ?? 0),
    }));
    const places = [...[...this.#slots.values()].filter((slot) => !gone.has(slot)), ...this.#damaged];
    return { places, totals: totals.filter(({ count }) => count > 0) };
  }

  #count({ stage, how, length }: Slot, times: 1 | -1): void {
    this.#usedBytes += times * length;
    if (how !== undefined) {
      this.#resolvedCount += times;
      return;
    }
    this.#openBytes += times * length;
    this.#openCount += times;
    add(this.#openByStage, stage, times);
  }
}

function add(sums: Map<string, number>, name: string, count: number): void {
  sums.set(name, (sums.get(name) ?? 0) + count);
}

function toTotal(name: string, count: number): ResolvedTotal {
  const [how = '', ...stage] = name.split(' ');
  return { stage: stage.join(' '), how: how as Resolution, count };
}
