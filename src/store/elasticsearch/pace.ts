const MIB = 1024 ** 2;

/** Elasticsearch takes 100 MB a request; it indexes smaller ones with less memory and more evenly. */
export const REQUEST_BYTES_MAX = 5 * MIB;
const REQUEST_BYTES_MIN = 64 * 1024;
const REQUEST_BYTES_FIRST = MIB;

/** Few enough to leave the cluster room; with the bytes of a request it bounds what is serialised at a time. */
const PARALLEL_MAX = 8;
const PARALLEL_FIRST = 3;

/** An answer sooner than this is mostly way and fsync: the next request is larger. */
const SOON_MS = 150;
/** An answer later than this holds up too much when it fails: the next request is smaller. */
const LATE_MS = 1_500;

/** Bytes that are written before one number of requests is compared with another: some seconds on a small node. */
const ROUND_BYTES = 128 * MIB;
/** Less of a difference in throughput is chance. */
const GAIN_MIN = 1.05;
/** Rounds without a try once the last one did not gain. */
const ROUNDS_HELD = 16;

/**
 * How much is sent at once. The size of a request follows its answers: larger when they come soon, half when they come late. How
 * many are under way follows the throughput of whole rounds: one more as long as that gains, back when it does not, and after
 * a while another try. A cluster that says it is busy halves both at once.
 */
export class Pace {
  #requestBytes = REQUEST_BYTES_FIRST;
  #parallel = PARALLEL_FIRST;
  /** Of the round now measured, and of the one before it. */
  #bytes = 0;
  #elapsedMs = 0;
  #rateBefore: number | undefined;
  #roundsHeld = 0;

  get requestBytes(): number {
    return this.#requestBytes;
  }

  get parallel(): number {
    return this.#parallel;
  }

  answered(bytes: number, elapsedMs: number): void {
    // One that could not be filled tells nothing about a larger one.
    if (elapsedMs < SOON_MS && bytes > this.#requestBytes / 2) this.#resize(1.25);
    if (elapsedMs > LATE_MS) this.#resize(0.5);
  }

  busy(): void {
    this.#resize(0.5);
    this.#parallel = Math.max(1, this.#parallel >> 1);
    this.#begin(undefined, ROUNDS_HELD);
  }

  /** What a write came to as a whole; one too small for as many requests as may be under way does not count. */
  wrote(bytes: number, elapsedMs: number): void {
    if (bytes < this.#parallel * REQUEST_BYTES_MIN) return;
    this.#bytes += bytes;
    this.#elapsedMs += elapsedMs;
    if (this.#bytes < ROUND_BYTES) return;
    const rate = this.#bytes / Math.max(1, this.#elapsedMs);
    if (this.#roundsHeld > 0) this.#begin(undefined, this.#roundsHeld - 1);
    else if (this.#rateBefore === undefined || rate >= this.#rateBefore * GAIN_MIN) {
      this.#begin(rate, this.#parallel < PARALLEL_MAX ? 0 : ROUNDS_HELD);
      this.#parallel = Math.min(PARALLEL_MAX, this.#parallel + 1);
    } else {
      this.#parallel = Math.max(1, this.#parallel - (rate * GAIN_MIN < this.#rateBefore ? 2 : 1));
      this.#begin(undefined, ROUNDS_HELD);
    }
  }

  #begin(rateBefore: number | undefined, roundsHeld: number): void {
    this.#bytes = 0;
    this.#elapsedMs = 0;
    this.#rateBefore = rateBefore;
    this.#roundsHeld = roundsHeld;
  }

  #resize(factor: number): void {
    const bytes = Math.round(this.#requestBytes * factor);
    this.#requestBytes = Math.min(REQUEST_BYTES_MAX, Math.max(REQUEST_BYTES_MIN, bytes));
  }
}
