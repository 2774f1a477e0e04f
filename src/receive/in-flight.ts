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
  /** Told of bytes as they come in. */
  readonly onBytes?: (bytes: number) => void;
}

interface Level {
  readonly bytes: Holding;
  readonly requests: Holding;
  readonly connections: Holding;
}

interface Shared {
  readonly limits: InFlightLimits & { readonly requestsMax: number };
  readonly turns: Turns;
}

/** What the requests of one connection count to. */
interface Account {
  readonly shared: Shared;
  readonly total: Level;
  readonly peer: Level;
  readonly own: Level;
  /** Of the three. */
  readonly bytes: Holdings;
  readonly requests: Holdings;
  readonly onReleased: () => void;
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
      // What is still appended counts though its connection is gone: a sender must not get a new share by coming back.
      const forget = (): void => {
        if (peer.connections.held === 0 && peer.requests.held === 0) peers.delete(address);
      };
      const account = newAccount(shared, total, peer, forget);
      return {
        begin: () => begin(account),
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

function newAccount(shared: Shared, total: Level, peer: Level, onReleased: () => void): Account {
  const own = newLevel();
  const bytes: Holdings = [total.bytes, peer.bytes, own.bytes];
  const requests: Holdings = [total.requests, peer.requests, own.requests];
  return { shared, total, peer, own, bytes, requests, onReleased };
}

/** A connection may always try one request; more beside it only while neither it nor those around it met a limit. */
function begin(account: Account): Reservation | Limit {
  const { shared, total, peer, own, requests } = account;
  const isFirst = own.requests.held === 0;
  if (!isFirst) {
    if (isCrowded(total)) return 'full';
    if (isCrowded(peer) || isCrowded(own)) return 'share';
  }
  return takeShare(shared.limits.requestsMax, requests, 1, isFirst) ?? new Holder(account);
}

function isCrowded({ bytes, requests }: Level): boolean {
  return bytes.crowded || requests.crowded;
}

/** Of one request that has begun. */
class Holder implements Reservation {
  readonly #account: Account;
  #held = 0;
  #used = 0;
  #isOpen = true;
  /** The request, and work that goes on. */
  #holders = 1;

  constructor(account: Account) {
    this.#account = account;
  }

  expect(bytes: number): Limit | undefined {
    return this.#hold(this.#used + bytes);
  }

  add(bytes: number): Limit | undefined {
    const limit = this.#hold(this.#used + bytes);
    if (!limit) this.#used += bytes;
    this.#account.shared.limits.onBytes?.(bytes);
    return limit;
  }

  shrinkTo(bytes: number): void {
    if (!this.#isOpen || bytes >= this.#held) return;
    give(this.#account.bytes, this.#held - bytes);
    this.#held = bytes;
    this.#used = bytes;
  }

  inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#account.shared.turns.run(work);
    this.holdUntil(result);
    return result;
  }

  release(): void {
    if (this.#isOpen) this.#letGo();
    this.#isOpen = false;
  }

  holdUntil(work: Promise<unknown>): void {
    this.#holders++;
    const letGo = (): void => this.#letGo();
    work.then(letGo, letGo);
  }

  #hold(wanted: number): Limit | undefined {
    const { shared, bytes, own } = this.#account;
    if (!this.#isOpen) return 'full';
    if (wanted <= this.#held) return undefined;
    const more = wanted - this.#held;
    // A request that is alone may have it all, or the largest one allowed would wait for ever.
    const limit =
      bytes[0].held === this.#held
        ? takeFreely(shared.limits.bytesMax, bytes, more)
        : takeShare(shared.limits.bytesMax, bytes, more, own.requests.held <= 1);
    if (!limit) this.#held = wanted;
    return limit;
  }

  #letGo(): void {
    this.#holders--;
    if (this.#holders > 0) return;
    const { bytes, requests, onReleased } = this.#account;
    give(bytes, this.#held);
    this.#held = 0;
    give(requests, 1);
    onReleased();
  }
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
