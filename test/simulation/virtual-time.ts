interface Event {
  readonly atMs: number;
  readonly order: number;
  readonly act: () => void;
  isOff: boolean;
}

/**
 * An event loop whose time passes only from event to event. Between two events everything that promises can do without
 * another event is done, so that a run depends on nothing but its seed.
 */
export class VirtualTime {
  #nowMs = 0;
  #events = 0;
  /** A binary heap, the next event first. */
  readonly #heap: Event[] = [];

  /** Milliseconds since the start of the run. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Events so far. */
  get events(): number {
    return this.#events;
  }

  /** Calls `act` after the delay; events of one moment come in the order in which they were asked for. */
  after(delayMs: number, act: () => void): () => void {
    const event = { atMs: this.#nowMs + Math.max(delayMs, 0), order: this.#order++, act, isOff: false };
    this.#push(event);
    return () => {
      event.isOff = true;
    };
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => void this.after(delayMs, resolve));
  }

  /** Lets time pass until this is so, or until nothing is left to come. */
  async runUntil(isSo: () => boolean): Promise<void> {
    await allSettled();
    while (!isSo()) {
      const event = this.#pop();
      if (event === undefined) return;
      if (event.isOff) continue;
      this.#nowMs = event.atMs;
      this.#events++;
      event.act();
      await allSettled();
    }
  }

  #order = 0;

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      const parent = heap[above];
      if (parent === undefined || !isBefore(event, parent)) break;
      heap[at] = parent;
      at = above;
    }
    heap[at] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      const [left, right] = [heap[below], heap[below + 1]];
      if (left === undefined) break;
      if (right !== undefined && isBefore(right, left)) below++;
      const child = heap[below] as Event;
      if (!isBefore(child, last)) break;
      heap[at] = child;
      at = below;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(left: Event, right: Event): boolean {
  return left.atMs === right.atMs ? left.order < right.order : left.atMs < right.atMs;
}

/** The machine's own next turn comes after all that promises have left to do. */
function allSettled(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
