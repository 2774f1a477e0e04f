/** Sizes are multiples of this, so that one buffer serves requests of about the same size. */
const STEP_BYTES = 256 * 1024;

/** Kept in all: what requests under way at once need. */
const KEPT_BYTES_MAX = 32 * 1024 ** 2;

/** Bodies of requests, used again: megabytes a request would else be garbage that is collected late, for it lies outside the heap. */
export class RequestBuffers {
  readonly #free: Buffer[] = [];
  #freeBytes = 0;

  /** Whoever does not give it back has it for good. */
  take(length: number): Buffer {
    const at = this.#free.findIndex((buffer) => buffer.length >= length);
    const [found] = at < 0 ? [] : this.#free.splice(at, 1);
    if (found !== undefined) this.#freeBytes -= found.length;
    const whole = found ?? Buffer.allocUnsafeSlow(Math.ceil(length / STEP_BYTES) * STEP_BYTES);
    return whole.subarray(0, length);
  }

  giveBack(taken: Buffer): void {
    const whole = Buffer.from(taken.buffer);
    // The smallest and oldest make room: what is asked for now is about as large as what was given back last.
    while (this.#free.length > 0 && this.#freeBytes + whole.length > KEPT_BYTES_MAX) {
      this.#freeBytes -= this.#free.shift()?.length ?? 0;
    }
    this.#free.push(whole);
    this.#freeBytes += whole.length;
  }
}
