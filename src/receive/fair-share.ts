/**
 * Dynamic thresholds, as switches share their memory between ports (Choudhury and Hahne, 1998): whoever asks may hold up to
 * SHARE_OF_FREE times what is still free. One sender alone gets most of it, two get less each, and some is always free, so
 * that a newcomer finds room however greedy the others are. Nothing has to be known in advance of who will come.
 */
const SHARE_OF_FREE = 2;

/**
 * The only request of a connection is held against its address alone, and at more: what many greedy connections leave free
 * between the two is for those of the same address (behind one router, one proxy) that ask for little.
 */
const SHARE_OF_FREE_FOR_ONLY = 3;

/** A sender that met its limit begins nothing new beside what it has in work until it holds this share of it: no flicker. */
const CALM_SHARE = 0.5;

/** `full`: nobody gets more; `share`: this sender, or all connections of its address together, hold their share. */
export type Limit = 'full' | 'share';

/** What one holder holds of one resource. */
export class Holding {
  held = 0;
  #calmAt = Number.POSITIVE_INFINITY;

  /** Met its limit, and has not come down far enough since. */
  get crowded(): boolean {
    if (this.held <= this.#calmAt) this.#calmAt = Number.POSITIVE_INFINITY;
    return this.held > this.#calmAt;
  }

  refuse(): void {
    this.#calmAt = this.held * CALM_SHARE;
  }
}

/** All that is held; what one address holds of it; what one connection of that address holds. */
export type Holdings = readonly [total: Holding, address: Holding, connection?: Holding];

/** Takes `more`, or says which limit it would pass and takes nothing. `isOnly`: for the only request of its connection. */
export function takeShare(max: number, holdings: Holdings, more: number, isOnly = false): Limit | undefined {
  // By their places: to take the list apart would make objects for each request.
  const total = holdings[0];
  const address = holdings[1];
  const connection = holdings[2];
  const free = max - total.held - more;
  if (free < 0) {
    total.refuse();
    return 'full';
  }
  const ofAddress = (isOnly ? SHARE_OF_FREE_FOR_ONLY : SHARE_OF_FREE) * free - address.held - more;
  if (ofAddress < 0) {
    address.refuse();
    return 'share';
  }
  if (connection && !isOnly && SHARE_OF_FREE * ofAddress < connection.held + more) {
    connection.refuse();
    return 'share';
  }
  give(holdings, -more);
  return undefined;
}

/** Takes without regard to shares, up to the maximum: for what must be possible when nobody else wants anything. */
export function takeFreely(max: number, holdings: Holdings, more: number): Limit | undefined {
  if (holdings[0].held + more > max) return 'full';
  give(holdings, -more);
  return undefined;
}

export function give(holdings: Holdings, back: number): void {
  holdings[0].held -= back;
  holdings[1].held -= back;
  if (holdings[2]) holdings[2].held -= back;
}
