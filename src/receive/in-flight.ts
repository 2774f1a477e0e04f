/**
 * Bytes of requests that are being read, inflated or appended right now, over all connections and transports. Together with
 * the cap on one request this is what bounds the receiver's memory: without it, a thousand slow or highly compressed
 * requests could each be within the cap and still not fit.
 */
export interface InFlight {
  readonly bytes: number;
  /** One per request. */
  reserve(): Reservation;
}

export interface Reservation {
  /** Takes more bytes; false (and nothing is taken) when the bound is reached or this was given back: stop reading. */
  add(bytes: number): boolean;
  /** Gives everything back, once what `holdUntil` waits for is done. May be called more than once. */
  release(): void;
  /** The bytes are still in use until this settles, even if the sender is gone and `release` was called. */
  holdUntil(work: Promise<unknown>): void;
}

export function createInFlight(bytesMax: number): InFlight {
  let total = 0;
  return {
    get bytes() {
      return total;
    },
    reserve() {
      let own = 0;
      let open = true;
      let holders = 1;
      const letGo = (): void => {
        holders--;
        if (holders > 0) return;
        total -= own;
        own = 0;
      };
      return {
        add(bytes) {
          if (!open || total + bytes > bytesMax) return false;
          total += bytes;
          own += bytes;
          return true;
        },
        release() {
          if (open) letGo();
          open = false;
        },
        holdUntil(work) {
          holders++;
          work.then(letGo, letGo);
        },
      };
    },
  };
}
