import { connect, type Socket } from 'node:net';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { PIECE_BYTES_MIN } from '../../src/receive/limits.ts';
import { encodeTraces } from '../otlp/encode.ts';
import { callHttp, cuts, type Harness, type HarnessOptions, SPAN_ID, startHarness, TRACE_ID } from './harness.ts';

/** Two busy cores take their time. */
const soon = <T>(read: () => T) => expect.poll(read, { timeout: 30_000 });

const good = encodeTraces([{ spans: [{ traceId: TRACE_ID, spanId: SPAN_ID }] }]);
const HEAD = 'POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n';
const CHUNKED = `${HEAD}transfer-encoding: chunked\r\n\r\n`;

const harnesses: Harness[] = [];
const sockets: Socket[] = [];

async function start(options?: HarnessOptions): Promise<Harness> {
  const harness = await startHarness(options);
  harnesses.push(harness);
  return harness;
}

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await Promise.all(harnesses.splice(0).map((harness) => harness.close()));
});

/** A connection and what came over it. */
function open(harness: Harness): { socket: Socket; text: () => string; closed: Promise<unknown> } {
  const socket = connect(harness.http.port, '127.0.0.1').on('error', () => undefined);
  sockets.push(socket);
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  return { socket, text: () => text, closed: new Promise((resolve) => socket.once('close', resolve)) };
}

/** Writes `next(0)`, `next(1)`, … until the server closes the connection, `times` are written, or `until` says so. */
async function flood(
  socket: Socket,
  times: number,
  next: (index: number) => string | Buffer,
  until = () => false,
): Promise<void> {
  for (let index = 0; index < times && !socket.destroyed && !until(); index++) {
    if (!socket.write(next(index))) {
      const drained = new Promise((resolve) => socket.once('drain', resolve).once('close', resolve));
      while (!until() && (await Promise.race([drained, sleep(20, 'waits')])) === 'waits');
    }
    if (index % 50 === 0) await turn();
  }
}

async function expectUnharmed(harness: Harness): Promise<void> {
  const headers = { 'content-type': 'application/x-protobuf' };
  expect((await callHttp(`${harness.url}/v1/traces`, { headers, body: good })).status).toBe(200);
  await soon(() => [harness.inFlight.bytes, harness.inFlight.requests]).toEqual([0, 0]);
  expect(harness.faults).toEqual([]);
}

const QUICK = { headersMs: 300, requestMs: 900, stallMs: 500 };
const PATIENT = { headersMs: 60_000, requestMs: 60_000, stallMs: 60_000 };

describe('clients over HTTP/1.1 that keep the server waiting', () => {
  it.each<[string, string, string, string]>([
    ['never says a word', '', '', 'slow'],
    ['sends headers a byte at a time', HEAD, 'x', 'slow'],
    ['sends a body a byte at a time', `${HEAD}content-length: 1000\r\n\r\n`, 'x', 'slow'],
    ['stops within a body', `${HEAD}content-length: 1000\r\n\r\nabc`, '', 'stalled'],
    [
      'waits to be told to go on and does not',
      `${HEAD}content-length: 9\r\nexpect: 100-continue\r\n\r\n`,
      '',
      'stalled',
    ],
  ])('cuts one that %s, and asks it to send again', async (what, head, rest, reason) => {
    const harness = await start({ times: head === '' ? { ...QUICK, stallMs: 60_000 } : QUICK });
    const { socket, text, closed } = open(harness);
    socket.write(head);
    const trickle = setInterval(() => socket.write(rest), 50);
    await closed;
    clearInterval(trickle);
    expect(text(), what).toContain('HTTP/1.1 503 Service Unavailable\r\n');
    expect(text()).toContain('\r\nretry-after: 1\r\n');
    expect(cuts(harness)).toEqual({ [`http ${reason}`]: 1 });
    await expectUnharmed(harness);
  });

  it.each([
    ['answers', Buffer.concat([Buffer.from(`${HEAD}content-length: ${good.length}\r\n\r\n`), good])],
    ['refusals', Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n')],
  ])('cuts one that asks on and on and takes no %s, and holds little for it', async (_, request) => {
    const harness = await start({ times: { ...QUICK, requestMs: 60_000 }, requestsMax: 100 });
    const { socket } = open(harness);
    socket.pause();
    const isCut = () => cuts(harness)['http unread'] === 1;
    await flood(socket, 1_000_000, () => request, isCut);
    await soon(isCut).toBe(true);
    expect(harness.inFlight.requests).toBeLessThanOrEqual(100);
    socket.destroy();
    await expectUnharmed(harness);
  });
});

describe('floods over HTTP/1.1', () => {
  it.each<[string, string, (index: number) => string]>([
    ['header fields', HEAD, (index) => `x-${index}: y\r\n`],
    ['a header without an end', `${HEAD}x: `, () => 'y'.repeat(100)],
    ['trailers', `${CHUNKED}0\r\n`, (index) => `x-${index}: ${'y'.repeat(1000)}\r\n`],
    ['an extension of a chunk', `${CHUNKED}1;`, () => 'y'.repeat(1000)],
    ['another protocol', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', () => '\0'.repeat(100)],
  ])('cuts the connection: %s', async (_, head, next) => {
    const harness = await start({ times: PATIENT });
    const { socket, closed } = open(harness);
    socket.write(head);
    await flood(socket, 100_000, next);
    await closed;
    expect(cuts(harness)).toEqual({ 'http protocol': 1 });
    await expectUnharmed(harness);
  });

  it('counts pieces of a body at what they cost, however small they are', async () => {
    const harness = await start({ times: PATIENT, inFlightBytesMax: 1000 * PIECE_BYTES_MIN });
    const { socket, text } = open(harness);
    socket.write(CHUNKED);
    await flood(
      socket,
      50_000,
      () => '1\r\nx\r\n',
      () => text() !== '',
    );
    await soon(text).toContain('HTTP/1.1 503 ');
    expect(cuts(harness)).toEqual({ 'http full': 1 });
    socket.destroy();
    await expectUnharmed(harness);
  });

  it('answers a body without end and cuts it when the client sends on', async () => {
    const harness = await start({ times: PATIENT });
    const { socket, text, closed } = open(harness);
    socket.write(CHUNKED);
    await flood(socket, 100_000, () => `4000\r\n${'x'.repeat(0x4000)}\r\n`);
    await closed;
    expect(text().match(/HTTP\/1.1 \d+/g)).toEqual(['HTTP/1.1 413']);
    expect(cuts(harness)).toEqual({ 'http too_large': 2 });
    await expectUnharmed(harness);
  });
});
