import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { PIECE_BYTES_MIN, STREAMS_MAX } from '../../src/receive/limits.ts';
import { encodeTraces } from '../otlp/encode.ts';
import {
  callGrpc,
  cuts,
  frame,
  type Harness,
  type HarnessOptions,
  SPAN_ID,
  startHarness,
  TRACE_ID,
} from './harness.ts';
import {
  ERROR,
  EXPORT_BLOCK,
  exportHeaders,
  FLAG,
  FRAME,
  headerBlock,
  RawConnection,
  rawFrame,
  SETTING,
  uint32,
} from './raw-http2.ts';

const good = encodeTraces([{ spans: [{ traceId: TRACE_ID, spanId: SPAN_ID }] }]);
const message = frame(good);

/** Two busy cores take their time. */
const soon = <T>(read: () => T) => expect.poll(read, { timeout: 30_000 });

const harnesses: Harness[] = [];
const connections: RawConnection[] = [];

async function start(options?: HarnessOptions): Promise<Harness> {
  const harness = await startHarness(options);
  harnesses.push(harness);
  return harness;
}

function open(harness: Harness, ...rest: [settings?: [number, number][], localAddress?: string]): RawConnection {
  const connection = RawConnection.open(harness.grpc.port, ...rest);
  connections.push(connection);
  return connection;
}

afterEach(async () => {
  for (const connection of connections.splice(0)) connection.destroy();
  await Promise.all(harnesses.splice(0).map((harness) => harness.close()));
});

/** Writes `next(0)`, `next(1)`, … until the server closes the connection or `times` are written. */
async function flood(connection: RawConnection, times: number, next: (index: number) => Buffer): Promise<void> {
  for (let index = 0; index < times && !connection.socket.destroyed; index += 100) {
    connection.write(...Array.from({ length: 100 }, (_, step) => next(index + step)));
    await connection.flushed();
    await turn();
  }
}

/** What an attack must leave behind: nothing held, and others served. */
async function expectUnharmed(harness: Harness): Promise<void> {
  expect((await callGrpc(harness.grpc.port, good)).status).toBe(0);
  await soon(() => [harness.inFlight.bytes, harness.inFlight.requests]).toEqual([0, 0]);
  expect(harness.faults).toEqual([]);
}

const streamOf = (index: number) => 1 + 2 * index;
const BEGUN = rawFrame(FRAME.data, 0, 1, message.subarray(0, 20));
const opened = (index: number) => rawFrame(FRAME.headers, FLAG.endHeaders, streamOf(index), EXPORT_BLOCK);

describe('floods over HTTP/2', () => {
  it.each<[string, string, (index: number) => Buffer]>([
    [
      'header blocks without an end',
      'headers',
      (i) => rawFrame(FRAME.continuation, 0, 1, headerBlock({ [`x-${i}`]: 'y' })),
    ],
    ['header blocks of nothing', 'headers', () => rawFrame(FRAME.continuation, 0, 1)],
    ['resets', '', (i) => Buffer.concat([opened(i), rawFrame(FRAME.reset, 0, streamOf(i), uint32(ERROR.cancel))])],
    [
      'errors that make the server reset',
      '',
      (i) => Buffer.concat([opened(i), rawFrame(FRAME.windowUpdate, 0, streamOf(i), uint32(0))]),
    ],
    ['streams, over the number allowed', '', opened],
    ['empty data', 'stream', () => rawFrame(FRAME.data, 0, 1)],
    ['unknown frames', '', () => rawFrame(0x77, 0, 0, Buffer.alloc(4))],
    ['priorities', '', (i) => rawFrame(2, 0, streamOf(i), Buffer.alloc(5, 1))],
  ])('cuts the connection: %s', async (_, before, next) => {
    const harness = await start();
    const connection = open(harness);
    if (before === 'headers') connection.headers(1, 0);
    if (before === 'stream') connection.headers(1);
    await flood(connection, 200_000, next);
    await connection.closed;
    expect(cuts(harness)).toEqual({ 'grpc protocol': 1 });
    expect(harness.counters.total('requests')).toBeLessThanOrEqual(STREAMS_MAX + 1000);
    await expectUnharmed(harness);
  });

  it.each([
    ['pings', rawFrame(FRAME.ping, 0, 0, Buffer.alloc(8))],
    ['settings', rawFrame(FRAME.settings, 0, 0)],
  ])('answers %s or cuts the connection when too many answers wait, and serves others', async (_, data) => {
    const harness = await start();
    await flood(open(harness), 20_000, () => data);
    await expectUnharmed(harness);
  });

  it('refuses a header list of too many pairs and goes on with the connection', async () => {
    const harness = await start();
    const connection = open(harness);
    const many = Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`x-${index}`, '1']));
    connection.headers(1, FLAG.endHeaders | FLAG.endStream, headerBlock({ ...exportHeaders(), ...many }));
    await soon(() => connection.of(FRAME.reset, 1)[0]?.payload).toEqual(uint32(ERROR.enhanceYourCalm));
    connection.headers(3);
    connection.write(rawFrame(FRAME.data, FLAG.endStream, 3, message));
    await soon(() => connection.of(FRAME.headers, 3).length).toBe(2);
    expect(harness.frames.length).toBe(1);
    await expectUnharmed(harness);
  });

  it('counts pieces of a message at what they cost, however small they are', async () => {
    const harness = await start({ inFlightBytesMax: 1000 * PIECE_BYTES_MIN });
    const connection = open(harness);
    connection.headers(1);
    connection.write(rawFrame(FRAME.data, 0, 1, frame(Buffer.alloc(100_000)).subarray(0, 5)));
    await flood(connection, 2000, () => rawFrame(FRAME.data, 0, 1, Buffer.alloc(1)));
    await soon(() => connection.of(FRAME.reset, 1).length).toBe(1);
    expect(cuts(harness)).toEqual({ 'grpc full': 1 });
    expect(harness.counters.total('requests', { transport: 'grpc', signal: 'traces', status: 'UNAVAILABLE' })).toBe(1);
    await expectUnharmed(harness);
  });

  it.each([
    ['messages', message],
    ['empty messages', Buffer.alloc(16_000)],
  ])('ends a call that brings %s without end', async (_, data) => {
    const harness = await start();
    const connection = open(harness);
    connection.headers(1);
    await flood(connection, 500, () => rawFrame(FRAME.data, 0, 1, data));
    await soon(() => connection.of(FRAME.reset, 1).length).toBe(1);
    expect(cuts(harness)).toEqual({ 'grpc messages': 1 });
    expect(harness.counters.total('requests', { transport: 'grpc', signal: 'traces', status: 'UNIMPLEMENTED' })).toBe(
      1,
    );
    expect(harness.frames).toEqual([]);
    await expectUnharmed(harness);
  });
});

describe('clients over HTTP/2 that keep the server waiting', () => {
  it('cuts a connection that never says a word', async () => {
    const harness = await start({ times: { headersMs: 100 } });
    const connection = new RawConnection(harness.grpc.port);
    connection.deaf = true;
    await connection.closed;
    expect(cuts(harness)).toEqual({ 'grpc silent': 1 });
    await expectUnharmed(harness);
  });

  it.each<[string, (connection: RawConnection) => unknown]>([
    ['vanished', () => undefined],
    ['vanished in the middle of a header block', (connection) => connection.headers(1, 0)],
    ['vanished in the middle of a message', (connection) => connection.write(opened(0), BEGUN)],
  ])('cuts a client that %s: it answers no ping', async (_, act) => {
    const harness = await start({ times: { pingMs: 50, pingTimeoutMs: 50 } });
    const connection = open(harness);
    connection.deaf = true;
    act(connection);
    await connection.closed;
    expect(cuts(harness)).toEqual({ 'grpc silent': 1 });
    await expectUnharmed(harness);
  });

  it('keeps an idle connection that answers pings', async () => {
    const harness = await start({ times: { headersMs: 100, pingMs: 20, pingTimeoutMs: 1000 } });
    const connection = open(harness);
    await soon(() => connection.of(FRAME.ping).length).toBeGreaterThan(10);
    connection.headers(1);
    connection.write(rawFrame(FRAME.data, FLAG.endStream, 1, message));
    await soon(() => harness.frames.length).toBe(1);
    expect(cuts(harness)).toEqual({});
  });

  it('ends a request that comes a byte at a time when its time is over, not its connection', async () => {
    const harness = await start({ times: { headersMs: 300, requestMs: 300 } });
    const connection = open(harness);
    connection.headers(1);
    let sent = 0;
    const trickle = setInterval(() => {
      if (sent < message.length - 1) connection.write(rawFrame(FRAME.data, 0, 1, message.subarray(sent, sent + 1)));
      sent++;
    }, 20);
    await soon(() => connection.of(FRAME.reset, 1).length).toBe(1);
    clearInterval(trickle);
    expect(cuts(harness)).toEqual({ 'grpc slow': 1 });
    expect(harness.counters.total('requests', { transport: 'grpc', signal: 'traces', status: 'UNAVAILABLE' })).toBe(1);
    expect(connection.socket.destroyed).toBe(false);
    await expectUnharmed(harness);
  });

  it('ends requests whose answers are not taken', async () => {
    const harness = await start({ times: { stallMs: 200 } });
    const connection = open(harness, [[SETTING.initialWindowSize, 0]]);
    const streams = STREAMS_MAX;
    for (let index = 0; index < streams; index++) {
      connection.write(opened(index), rawFrame(FRAME.data, FLAG.endStream, streamOf(index), message));
    }
    await soon(() => connection.of(FRAME.reset).length).toBe(streams);
    expect(cuts(harness)).toEqual({ 'grpc unread': streams });
    await expectUnharmed(harness);
  });

  it('cuts a client that sends and never reads, and holds little for it', async () => {
    const harness = await start({ times: { stallMs: 500, pingMs: 300, pingTimeoutMs: 200 } });
    const connection = open(harness);
    await soon(() => connection.frames.length).toBeGreaterThan(1);
    connection.socket.pause();
    let index = 0;
    const send = () => Buffer.concat([opened(index), rawFrame(FRAME.data, FLAG.endStream, streamOf(index++), message)]);
    while (!connection.socket.destroyed && index < 1_000_000) {
      if (!connection.write(...Array.from({ length: 100 }, send))) {
        await Promise.race([connection.flushed(), soon(() => cuts(harness)['grpc silent']).toBe(1)]);
      }
      await turn();
      if (cuts(harness)['grpc silent']) break;
    }
    connection.socket.resume();
    await connection.closed;
    expect(cuts(harness)['grpc silent']).toBe(1);
    await expectUnharmed(harness);
  });
});
