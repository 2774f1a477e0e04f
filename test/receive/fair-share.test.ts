import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Connection, createInFlight, type InFlight, type Reservation } from '../../src/receive/in-flight.ts';

const LIMITS = { bytesMax: 1000, connectionsMax: 1000, requestsMax: 1000 };

function connect(inFlight: InFlight, address: string): Connection {
  const connection = inFlight.connect(address);
  if (typeof connection === 'string') throw new Error(connection);
  return connection;
}

function begin(connection: Connection): Reservation {
  const reservation = connection.begin();
  if (typeof reservation === 'string') throw new Error(reservation);
  return reservation;
}

/** Takes byte by byte until a limit is met. */
function takeAll(reservation: Reservation): number {
  let taken = 0;
  while (reservation.add(1) === undefined) taken++;
  return taken;
}

/** Begins request after request until a limit is met. */
function beginAll(connection: Connection): Reservation[] {
  const begun: Reservation[] = [];
  for (;;) {
    const reservation = connection.begin();
    if (typeof reservation === 'string') return begun;
    begun.push(reservation);
  }
}

describe('the shares of bytes', () => {
  it('are told as they come in', () => {
    const told: number[] = [];
    const inFlight = createInFlight({ ...LIMITS, onBytes: (bytes) => told.push(bytes) });
    for (const bytes of [10, 20]) begin(connect(inFlight, 'a')).add(bytes);
    expect(told).toEqual([10, 20]);
  });

  it('are everything for a request that is alone, and not a byte more', () => {
    const inFlight = createInFlight(LIMITS);
    const only = begin(connect(inFlight, 'a'));
    expect(only.add(1001)).toBe('full');
    expect(takeAll(only)).toBe(1000);
    only.release();
    expect(inFlight.bytes).toBe(0);
  });

  it('leave room for other addresses, and for other connections of the same', () => {
    const inFlight = createInFlight(LIMITS);
    begin(connect(inFlight, 'quiet')).add(1);
    const greedy = Array.from({ length: 20 }, () => connect(inFlight, 'greedy'));
    for (const connection of greedy) for (const request of beginAll(connection).slice(0, 5)) takeAll(request);
    expect(inFlight.bytes).toBeLessThanOrEqual(750);
    const newcomer = takeAll(begin(connect(inFlight, 'newcomer')));
    expect(newcomer).toBeGreaterThan(150);
  });

  it('let the small in beside the greedy of the same address', () => {
    const inFlight = createInFlight(LIMITS);
    begin(connect(inFlight, 'quiet')).add(1);
    const greedy = connect(inFlight, 'proxy');
    const requests = beginAll(greedy);
    for (const request of requests) takeAll(request);
    expect(takeAll(begin(connect(inFlight, 'proxy')))).toBeGreaterThan(50);
  });

  it('let nobody begin anew beside what it has until half of what met the limit is done', () => {
    const inFlight = createInFlight(LIMITS);
    begin(connect(inFlight, 'quiet')).add(1);
    const connection = connect(inFlight, 'a');
    const requests = Array.from({ length: 6 }, () => begin(connection));
    for (const request of requests) expect(request.expect(90)).toBe(undefined);
    expect(begin(connection).add(90)).toBe('share');
    expect(connection.begin()).toBe('share');
    for (const request of requests.slice(0, 2)) request.release();
    expect(connection.begin()).toBe('share');
    requests[2]?.release();
    expect(typeof connection.begin()).toBe('object');
    // Another connection of the address was never held up.
    expect(typeof connect(inFlight, 'a').begin()).toBe('object');
  });

  it('follow a sender that comes back while its work is still appended', async () => {
    const inFlight = createInFlight(LIMITS);
    begin(connect(inFlight, 'quiet')).add(1);
    const connection = connect(inFlight, 'a');
    const request = begin(connection);
    const taken = takeAll(request);
    let finish = (): void => undefined;
    const appended = new Promise<void>((resolve) => {
      finish = resolve;
    });
    request.holdUntil(appended);
    request.release();
    connection.close();
    expect(takeAll(begin(connect(inFlight, 'a')))).toBeLessThan(10);
    finish();
    await appended;
    expect(takeAll(begin(connect(inFlight, 'a')))).toBeGreaterThan(taken - 10);
  });
});

describe('the shares of requests and connections', () => {
  it('keep requests free for others, however many one sender begins', () => {
    const inFlight = createInFlight(LIMITS);
    const many = Array.from({ length: 50 }, () => connect(inFlight, 'greedy')).flatMap(beginAll);
    expect(many.length).toBeGreaterThan(600);
    expect(many.length).toBeLessThanOrEqual(750);
    expect(beginAll(connect(inFlight, 'other')).length).toBeGreaterThan(100);
    // As many streams as one connection may have, and one more connection of the same address.
    for (const request of many) request.release();
    expect(inFlight.requests).toBeLessThan(300);
  });

  it('let one connection of an address begin when others of it began all they may', () => {
    const inFlight = createInFlight(LIMITS);
    const few = Array.from({ length: 5 }, () => connect(inFlight, 'proxy'));
    for (const connection of few) beginAll(connection);
    expect(typeof connect(inFlight, 'proxy').begin()).toBe('object');
  });

  it('keep connections free for other addresses', () => {
    const inFlight = createInFlight(LIMITS);
    const open: Connection[] = [];
    for (let next = inFlight.connect('a'); typeof next !== 'string'; next = inFlight.connect('a')) open.push(next);
    expect(open.length).toBe(666);
    expect(typeof inFlight.connect('b')).toBe('object');
    for (const connection of open) connection.close();
    for (const connection of open) connection.close();
    expect(inFlight.connections).toBe(1);
  });
});

it('inflates two at once, in the order they came', async () => {
  const inFlight = createInFlight(LIMITS);
  const connection = connect(inFlight, 'a');
  const finish: (() => void)[] = [];
  const begun: number[] = [];
  const all = Array.from({ length: 5 }, (_, index) =>
    begin(connection).inTurn(() => {
      begun.push(index);
      return new Promise<number>((resolve) => finish.push(() => resolve(index)));
    }),
  );
  for (let done = 0; done < 5; done++) {
    await expect.poll(() => finish.length).toBe(Math.min(done + 2, 5));
    finish[done]?.();
    expect(await all[done]).toBe(done);
  }
  expect(begun).toEqual([0, 1, 2, 3, 4]);
});

interface Sender {
  readonly connection: Connection;
  readonly requests: Reservation[];
}

function newSender(inFlight: InFlight, address: string): Sender | undefined {
  const connection = inFlight.connect(address);
  return typeof connection === 'string' ? undefined : { connection, requests: [] };
}

it('never passes a bound and gives everything back, whatever senders do', () => {
  const step = fc.record({
    address: fc.constantFrom('a', 'b', 'c'),
    connection: fc.nat(3),
    act: fc.constantFrom('begin', 'expect', 'add', 'shrink', 'release', 'close'),
    bytes: fc.nat(400),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const inFlight = createInFlight({ bytesMax: 1000, connectionsMax: 10, requestsMax: 20 });
      const open = new Map<string, Sender>();
      const everything: Reservation[] = [];
      for (const { address, connection: number, act, bytes } of steps) {
        const key = `${address} ${number}`;
        const sender = open.get(key) ?? newSender(inFlight, address);
        if (!sender) continue;
        open.set(key, sender);
        const { connection, requests } = sender;
        const newest = requests.at(-1);
        if (act === 'begin') {
          const begun = connection.begin();
          if (typeof begun !== 'string') {
            requests.push(begun);
            everything.push(begun);
          }
        } else if (act === 'expect') newest?.expect(bytes);
        else if (act === 'add') newest?.add(bytes);
        else if (act === 'shrink') newest?.shrinkTo(bytes);
        else if (act === 'release') requests.pop()?.release();
        else {
          connection.close();
          open.delete(key);
        }
        expect(inFlight.bytes).toBeGreaterThanOrEqual(0);
        expect(inFlight.bytes).toBeLessThanOrEqual(1000);
        expect(inFlight.requests).toBeLessThanOrEqual(20);
        expect(inFlight.connections).toBeLessThanOrEqual(10);
      }
      for (const request of everything) request.release();
      for (const { connection } of open.values()) connection.close();
      expect([inFlight.bytes, inFlight.requests, inFlight.connections]).toEqual([0, 0, 0]);
    }),
    { numRuns: 500 },
  );
});
