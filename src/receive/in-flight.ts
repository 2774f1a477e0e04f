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
  /** Takes more bytes; false (and nothing is taken) when the bound is reached: the request must be refused. */
  add(bytes: number): boolean;
  /** Gives everything back. May be called more than once; afterwards `add` takes nothing and says yes. */
  release(): void;
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
      return {
        add(bytes) {
          if (!open) return true;
          if (total + bytes > bytesMax) return false;
          total += bytes;
          own += bytes;
          return true;
        },
        release() {
          open = false;
          total -= own;
          own = 0;
        },
      };
    },
  };
}
