/** Ids of one filter, its bits (32 for each id), and those that an id sets: one new id of 200,000 fits by chance. */
const FILTER_IDS = 2_000_000;
const FILTER_BITS_LOG2 = 26;
const BITS_SET = 8;

/** Filters that are kept: 48 MiB, twelve million ids. */
const FILTERS_KEPT = 6;

interface Filter<Scope> {
  readonly words: Uint32Array;
  readonly scope: Scope;
  ids: number;
}

/**
 * The ids that were added last, in bounded memory. May take a strange id for one of them, never the other way round. What a filter
 * is about (its scope) is its user's: told again when the filter goes.
 */
export class IdFilters<Scope> {
  /** Oldest first. */
  readonly #filters: Filter<Scope>[] = [];
  readonly #begin: () => Scope;
  readonly #forgotten: (scope: Scope) => void;

  constructor(begin: () => Scope, forgotten: (scope: Scope) => void) {
    this.#begin = begin;
    this.#forgotten = forgotten;
  }

  /** Of the filter that holds what was added last. */
  get scope(): Scope | undefined {
    return this.#filters.at(-1)?.scope;
  }

  add(id: string): void {
    const filter = this.#filterToFill();
    filter.ids++;
    let [at, step] = hashesOf(id);
    for (let bit = 0; bit < BITS_SET; bit++) {
      const place = at >>> (32 - FILTER_BITS_LOG2);
      filter.words[place >>> 5] = (filter.words[place >>> 5] as number) | (1 << (place & 31));
      at = (at + step) | 0;
    }
  }

  has(id: string): boolean {
    if (this.#filters.length === 0) return false;
    const [start, step] = hashesOf(id);
    return this.#filters.some(({ words }) => {
      for (let bit = 0, at = start; bit < BITS_SET; bit++, at = (at + step) | 0) {
        const place = at >>> (32 - FILTER_BITS_LOG2);
        if (((words[place >>> 5] as number) & (1 << (place & 31))) === 0) return false;
      }
      return true;
    });
  }

  #filterToFill(): Filter<Scope> {
    const newest = this.#filters.at(-1);
    if (newest && newest.ids < FILTER_IDS) return newest;
    const oldest = this.#filters.length >= FILTERS_KEPT ? this.#filters.shift() : undefined;
    if (oldest !== undefined) this.#forgotten(oldest.scope);
    const words = oldest?.words.fill(0) ?? new Uint32Array(2 ** (FILTER_BITS_LOG2 - 5));
    const filter = { words, scope: this.#begin(), ids: 0 };
    this.#filters.push(filter);
    return filter;
  }
}

/** Where the bits of an id begin and how far they are apart: two FNV-1a hashes, stirred. */
function hashesOf(id: string): [at: number, step: number] {
  let [first, second] = [0x811c9dc5, 0x01000193];
  for (let index = 0; index < id.length; index++) {
    const code = id.charCodeAt(index);
    first = Math.imul(first ^ code, 0x01000193);
    second = Math.imul(second ^ code, 0x85ebca6b);
  }
  first = Math.imul(first ^ (first >>> 15), 0x2c1b3c6d);
  second = Math.imul(second ^ (second >>> 13), 0x297a2d39);
  return [first ^ (first >>> 16), (second ^ (second >>> 15)) | 1];
}
