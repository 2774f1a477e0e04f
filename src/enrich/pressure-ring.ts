/** A new ring holds this many points and grows up to what it may hold: most series are seen a few times only. */
const SLOTS_FIRST = 4;

/** A point of a ring, as found. */
export interface RingPoint {
  /** Epoch milliseconds by the sender's clock. */
  readonly timeMs: number;
  readonly value: number;
  readonly slot: number;
}

/** What became of points that leave. */
export interface Leaving {
  /** Nothing ever showed them. */
  readonly expired: number;
}

/**
 * The last points of one series: at most `pointsMax`, the oldest to arrive goes first. Times are the sender's, so that they
 * compare with those of its spans; the age that counts is that of the arrival, so that no clock can make points stay.
 */
export class PointRing {
  readonly #pointsMax: number;
  #times: Float64Array;
  #values: Float64Array;
  #received: Float64Array;
  #shown: Uint8Array;
  #first = 0;
  #count = 0;

  constructor(pointsMax: number) {
    this.#pointsMax = pointsMax;
    const slots = Math.min(SLOTS_FIRST, pointsMax);
    this.#times = new Float64Array(slots);
    this.#values = new Float64Array(slots);
    this.#received = new Float64Array(slots);
    this.#shown = new Uint8Array(slots);
  }

  get count(): number {
    return this.#count;
  }

  /** When the newest point arrived; 0 for none. */
  get lastReceivedMs(): number {
    return this.#count === 0 ? 0 : (this.#received[this.#slotAt(this.#count - 1)] as number);
  }

  has(timeMs: number): boolean {
    for (let index = this.#count - 1; index >= 0; index--) {
      if (this.#times[this.#slotAt(index)] === timeMs) return true;
    }
    return false;
  }

  add(timeMs: number, value: number, receivedMs: number): Leaving {
    let expired = 0;
    if (this.#count === this.#times.length && this.#count < this.#pointsMax) this.#grow();
    if (this.#count === this.#times.length) expired = this.#dropFirst();
    const slot = this.#slotAt(this.#count);
    this.#times[slot] = timeMs;
    this.#values[slot] = value;
    this.#received[slot] = receivedMs;
    this.#shown[slot] = 0;
    this.#count++;
    return { expired };
  }

  /** Lets go of what arrived before. */
  expire(beforeMs: number): Leaving {
    let expired = 0;
    while (this.#count > 0 && (this.#received[this.#first] as number) < beforeMs) expired += this.#dropFirst();
    return { expired };
  }

  /** The point nearest to the time from start to end; of several within it, the one with the largest value. */
  nearest(startMs: number, endMs: number): RingPoint | undefined {
    let best = -1;
    let bestDistance = Number.POSITIVE_INFINITY;
    for (let index = 0; index < this.#count; index++) {
      const slot = this.#slotAt(index);
      const time = this.#times[slot] as number;
      const distance = time < startMs ? startMs - time : time > endMs ? time - endMs : 0;
      const isBetter =
        distance < bestDistance ||
        (distance === 0 && bestDistance === 0 && (this.#values[slot] as number) >= (this.#values[best] as number));
      if (!isBetter) continue;
      best = slot;
      bestDistance = distance;
    }
    return best < 0
      ? undefined
      : { timeMs: this.#times[best] as number, value: this.#values[best] as number, slot: best };
  }

  /** A record shows the point. True when it is the first that does. */
  show({ slot }: RingPoint): boolean {
    const isFirst = this.#shown[slot] === 0;
    this.#shown[slot] = 1;
    return isFirst;
  }

  #slotAt(index: number): number {
    const slot = this.#first + index;
    return slot < this.#times.length ? slot : slot - this.#times.length;
  }

  #dropFirst(): number {
    const expired = this.#shown[this.#first] === 0 ? 1 : 0;
    this.#first = this.#slotAt(1);
    this.#count--;
    return expired;
  }

  #grow(): void {
    const slots = Math.min(this.#pointsMax, this.#times.length * 2);
    const order = Array.from({ length: this.#count }, (_, index) => this.#slotAt(index));
    const moved = (old: Float64Array) => {
      const grown = new Float64Array(slots);
      for (const [index, slot] of order.entries()) grown[index] = old[slot] as number;
      return grown;
    };
    const shown = new Uint8Array(slots);
    for (const [index, slot] of order.entries()) shown[index] = this.#shown[slot] as number;
    this.#times = moved(this.#times);
    this.#values = moved(this.#values);
    this.#received = moved(this.#received);
    this.#shown = shown;
    this.#first = 0;
  }
}
