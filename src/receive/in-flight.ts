import { give, Holding, type Holdings, type Limit, takeFreely, takeShare } from './fair-share.ts';
import { INFLATIONS_MAX, REQUESTS_MAX } from './limits.ts';

/**
 * What senders have in work at the receiver right now, over all transports: connections, requests, and bytes of requests
 * that are being read, inflated or appended. Together with the cap on one request this bounds the receiver's memory:
 * without it, a thousand slow or highly compressed requests could each be within the cap and still not fit.
 */
export interface InFlight {
  readonly bytes: number;
  readonly requests: number;
  readonly connections: number;
  /** Counts in a connection of this address; a limit when it must not be served. */
  connect(peer: string): Connection | Limit;
}

/** One connection, with its share of what its address may hold, and its address with its share of everything. */
export interface Connection {
  /** Counts in a request; a limit when it must be refused unread. */
  begin(): Reservation | Limit;
  /** Call when the connection is closed; what its requests hold is given back when they release it. */
  close(): void;
}

/** What one request holds. Each way to take bytes says the limit that is in the way, and then takes nothing: stop reading. */
export interface Reservation {
  /**
   * The request says that so many bytes will come: they are taken now and used up by `add`. So a request that is begun has
   * room for all of it, and many large ones at once do not all get stuck half-way.
   */
  expect(bytes: number): Limit | undefined;
  add(bytes: number): Limit | undefined;
  /** Holds only so many bytes from here on. */
  shrinkTo(bytes: number): void;
  /** Runs heavy work when it is its turn. The bytes are held until it is done. */
  inTurn<Result>(work: () => Promise<Result>): Promise<Result>;
  /** Gives everything back, once what `holdUntil` waits for is done. May be called more than once. */
  release(): void;
  /** The bytes are still in use until this settles, even if the sender is gone and `release` was called. */
  holdUntil(work: Promise<unknown>): void;
}

export interface InFlightLimits {
  readonly bytesMax: number;
  readonly connectionsMax: number;
  readonly requestsMax?: number;
}

interface Level {
  readonly bytes: Holding;
  readonly requests: Holding;
  readonly connections: Holding;
}

interface Shared {
  readonly limits: Required<InFlightLimits>;
  readonly turns: Turns;
}

export function createInFlight(given: InFlightLimits): InFlight {
  const shared = { limits: { requestsMax: REQUESTS_MAX, ...given }, turns: new Turns(INFLATIONS_MAX) };
  const total = newLevel();
  const peers = new Map<string, Level>();
  return {
    get bytes() {
      return total.bytes.held;
    },
    get requests() {
      return total.requests.held;
    },
    get connections() {
      return total.connections.held;
    },
    connect(address) {
      const peer = peers.get(address) ?? newLevel();
      const limit = takeShare(given.connectionsMax, [total.connections, peer.connections], 1);
      if (limit) return limit;
      peers.set(address, peer);
      let open = true;
      const own = newLevel();
      // What is still appended counts though its connection is gone: a sender must not get a new share by coming back.
      const forget = (): void => {
        if (peer.connections.held === 0 && peer.requests.held === 0) peers.delete(address);
      };
      return {
        begin: () => begin(shared, [total, peer, own], forget),
        close() {
          if (!open) return;
          open = false;
          give([total.connections, peer.connections], 1);
          forget();
        },
      };
    },
  };
}

function newLevel(): Level {
  return { bytes: new Holding(), requests: new Holding(), connections: new Holding() };
}

type Levels = readonly [total: Level, peer: Level, connection: Level];

/** A connection may always try one request; more beside it only while neither it nor those around it met a limit. */
function begin(shared: Shared, levels: Levels, onReleased: () => void): Reservation | Limit {
  const [total, peer, connection] = levels;
  if (connection.requests.held > 0) {
    if (total.bytes.crowded || total.requests.crowded) return 'full';
    if (isCrowded(peer) || isCrowded(connection)) return 'share';
  }
  const requests: Holdings = [total.requests, peer.requests, connection.requests];
  const isOnly = (): boolean => connection.requests.held <= 1;
  const limit = takeShare(shared.limits.requestsMax, requests, 1, connection.requests.held === 0);
  if (limit) return limit;
  return newReservation(shared, [total.bytes, peer.bytes, connection.bytes], isOnly, () => {
    give(requests, 1);
    onReleased();
  });
}

function isCrowded({ bytes, requests }: Level): boolean {
  return bytes.crowded || requests.crowded;
}

function newReservation(
  { limits, turns }: Shared,
  bytes: Holdings,
  isOnly: () => boolean,
  onReleased: () => void,
): Reservation {
  let held = 0;
  let used = 0;
  let open = true;
  let holders = 1;
  const letGo = (): void => {
    holders--;
    if (holders > 0) return;
    give(bytes, held);
    held = 0;
    onReleased();
  };
  const hold = (wanted: number): Limit | undefined => {
    if (!open) return 'full';
    if (wanted <= held) return undefined;
    // A request that is alone may have it all, or the largest one allowed would wait for ever.
    const limit =
      bytes[0].held === held
        ? takeFreely(limits.bytesMax, bytes, wanted - held)
        : takeShare(limits.bytesMax, bytes, wanted - held, isOnly());
    if (!limit) held = wanted;
    return limit;
  };
  const holdUntil = (work: Promise<unknown>): void => {
    holders++;
    work.then(letGo, letGo);
  };
  return {
    expect: (more) => hold(used + more),
    add(more) {
      const limit = hold(used + more);
      if (!limit) used += more;
      return limit;
    },
    shrinkTo(kept) {
      if (!open || kept >= held) return;
      give(bytes, held - kept);
      held = kept;
      used = kept;
    },
    inTurn(work) {
      const result = turns.run(work);
      holdUntil(result);
      return result;
    },
    release() {
      if (open) letGo();
      open = false;
    },
    holdUntil,
  };
}

/** Runs so many at once, the others in the order they came. */
export class Turns {
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  async run<Result>(work: () => Promise<Result>): Promise<Result> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}
