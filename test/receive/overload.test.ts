import { mkdtemp, rm } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import type { AdmissionOptions } from '../../src/receive/admission.ts';
import { Wal } from '../../src/wal/wal.ts';
import { encodeTraces } from '../otlp/encode.ts';
import { callGrpc, callHttp, cuts, frame, type Harness, type HarnessOptions, PATHS, startHarness } from './harness.ts';
import { FLAG, FRAME, RawConnection, rawFrame } from './raw-http2.ts';

/** Two busy cores take their time. */
const soon = <T>(read: () => T) => expect.poll(read, { timeout: 30_000 });

const type = { 'content-type': 'application/x-protobuf' };
const OK = [0, 200];

const harnesses: Harness[] = [];

async function start(options?: HarnessOptions): Promise<Harness> {
  const harness = await startHarness(options);
  harnesses.push(harness);
  return harness;
}

afterEach(async () => {
  await Promise.all(harnesses.splice(0).map((harness) => harness.close()));
});

/** A request that can be told from every other. */
function numbered(number: number, nameBytes = 1): Buffer {
  const id = (bytes: number) => String(number + 1).padStart(2 * bytes, '0');
  return encodeTraces([{ spans: [{ traceId: id(16), spanId: id(8), name: 'x'.repeat(nameBytes) }] }]);
}

/** A log whose appends wait until they are let go. */
function gatedWal(): AdmissionOptions['wal'] & { letGo(): void; readonly waiting: number } {
  const waiting: (() => void)[] = [];
  return {
    append: () => new Promise<void>((resolve) => waiting.push(resolve)),
    letGo: () => {
      for (const resolve of waiting.splice(0)) resolve();
    },
    get waiting() {
      return waiting.length;
    },
  };
}

describe('durable under overload', () => {
  it('acknowledges on both transports only what is fsynced, and what it refuses is not in the log', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'spantrail-overload-'));
    const wal = await Wal.open({ folder });
    const durable = new Set<string>();
    wal.onDurable(({ payload }) => durable.add(payload.toString('latin1')));
    const harness = await start({ wal, inFlightBytesMax: 300_000, requestsMax: 24 });
    const early: number[] = [];
    const acknowledged = new Set<string>();
    let refusals = 0;
    const send = async (number: number): Promise<void> => {
      const payload = numbered(number, 20_000);
      const { status } =
        number % 2 === 0
          ? await callGrpc(harness.grpc.port, payload)
          : await callHttp(`${harness.url}/v1/traces`, { headers: type, body: payload });
      const text = payload.toString('latin1');
      if (!OK.includes(status)) {
        refusals++;
        return;
      }
      if (!durable.has(text)) early.push(number);
      acknowledged.add(text);
    };
    for (let round = 0; round < 10; round++) {
      await Promise.all(Array.from({ length: 60 }, (_, index) => send(round * 60 + index)));
    }
    expect(early).toEqual([]);
    expect(refusals).toBeGreaterThan(0);
    expect(acknowledged.size + refusals).toBe(600);
    await wal.close();

    const again = await Wal.open({ folder });
    const replayed = new Set<string>();
    await again.replay(({ payload }) => void replayed.add(payload.toString('latin1')));
    await again.close();
    await rm(folder, { recursive: true });
    expect(replayed).toEqual(acknowledged);
  });
});

describe('beside a greedy sender', () => {
  it('serves a small one of the same address: many large requests', async () => {
    const wal = gatedWal();
    const harness = await start({ wal, inFlightBytesMax: 2_000_000 });
    const greedy = Array.from({ length: 40 }, (_, index) => callGrpc(harness.grpc.port, numbered(index, 100_000)));
    await soon(() => (cuts(harness)['grpc share'] ?? 0) + wal.waiting).toBe(40);
    expect(cuts(harness)['grpc share']).toBeGreaterThan(0);
    const before = wal.waiting;
    const small = [
      callGrpc(harness.grpc.port, numbered(100)),
      callHttp(`${harness.url}/v1/traces`, { headers: type, body: numbered(101) }),
    ];
    await soon(() => wal.waiting).toBe(before + 2);
    wal.letGo();
    expect((await Promise.all(small)).map(({ status }) => OK.includes(status))).toEqual([true, true]);
    await Promise.all(greedy);
  });

  it('serves a small one of the same address: many tiny requests on few connections', async () => {
    const wal = gatedWal();
    const harness = await start({ wal, requestsMax: 200 });
    const sessions = Array.from({ length: 4 }, () => connectHttp2(`http://127.0.0.1:${harness.grpc.port}`));
    for (const session of sessions) {
      session.on('error', () => undefined);
      for (let index = 0; index < 200; index++) {
        const headers = { ':method': 'POST', ':path': PATHS.traces, 'content-type': 'application/grpc' };
        session
          .request(headers)
          .on('error', () => undefined)
          .end(frame(numbered(index)));
      }
    }
    await soon(() => (cuts(harness)['grpc share'] ?? 0) + wal.waiting).toBe(800);
    const before = wal.waiting;
    expect(before).toBeLessThan(200);
    const small = callGrpc(harness.grpc.port, numbered(1000));
    await soon(() => wal.waiting).toBe(before + 1);
    wal.letGo();
    expect((await small).status).toBe(0);
    for (const session of sessions) session.destroy();
  });

  it('serves a small one of the same address: slow requests that say they are large', async () => {
    const harness = await start({ inFlightBytesMax: 2_000_000 });
    const slow = Array.from({ length: 40 }, () => {
      const request = httpRequest(`${harness.url}/v1/traces`, {
        method: 'POST',
        agent: false,
        headers: { ...type, 'content-length': '200000' },
      });
      request.on('error', () => undefined).write('x');
      return request;
    });
    await soon(() => (cuts(harness)['http share'] ?? 0) + harness.inFlight.requests).toBe(40);
    expect(cuts(harness)['http share']).toBeGreaterThan(20);
    for (let number = 0; number < 20; number++) {
      const answer = await callHttp(`${harness.url}/v1/traces`, { headers: type, body: numbered(number) });
      expect(answer.status).toBe(200);
    }
    expect((await callGrpc(harness.grpc.port, numbered(50, 50_000))).status).toBe(0);
    for (const request of slow) request.destroy();
    await soon(() => harness.inFlight.bytes).toBe(0);
  });

  it('serves a small one of the same address: bombs', async () => {
    const harness = await start({ inFlightBytesMax: 4_000_000, requestBytesMax: 2_000_000 });
    const honest = gzipSync(Buffer.alloc(10_000_000));
    // Two members, of which the last is small: what comes out is not known before it does.
    const hidden = Buffer.concat([honest, gzipSync('')]);
    const gzip = { compressed: true, headers: { 'grpc-encoding': 'gzip' } };
    const bombs = Array.from({ length: 100 }, (_, index) => {
      return callGrpc(harness.grpc.port, index % 2 === 0 ? honest : hidden, gzip);
    });
    const small = Array.from({ length: 10 }, (_, number) => callGrpc(harness.grpc.port, numbered(number)));
    expect((await Promise.all(small)).map(({ status }) => status)).toEqual(Array(10).fill(0));
    expect((await Promise.all(bombs)).filter(({ status }) => OK.includes(status))).toEqual([]);
    expect(cuts(harness)['grpc too_large']).toBeGreaterThan(0);
    await soon(() => harness.inFlight.bytes).toBe(0);
  });

  it('serves another address when one has all the connections it may have, over both transports', async () => {
    const harness = await start({ connectionsMax: 30 });
    const greedy = Array.from({ length: 60 }, () => RawConnection.open(harness.grpc.port));
    await soon(() => greedy.filter((connection) => !connection.socket.destroyed).length).toBe(20);
    expect(cuts(harness)).toEqual({ 'grpc connections': 40 });
    await expect(callHttp(`${harness.url}/v1/traces`, { headers: type, body: numbered(1) })).rejects.toThrow();
    const other = RawConnection.open(harness.grpc.port, [], '127.0.0.2');
    other.headers(1);
    other.write(rawFrame(FRAME.data, FLAG.endStream, 1, frame(numbered(2))));
    await soon(() => harness.frames.length).toBe(1);
    expect(harness.frames[0]?.note.peer).toBe('127.0.0.2');
    for (const connection of [...greedy, other]) connection.destroy();
    await soon(() => harness.inFlight.connections).toBe(0);
    expect((await callGrpc(harness.grpc.port, numbered(3))).status).toBe(0);
  });
});

describe('when there is no room for more evidence', () => {
  it('refuses unread, and takes everything again by itself', async () => {
    const harness = await start();
    harness.budget.refuse = true;
    const connection = RawConnection.open(harness.grpc.port);
    connection.headers(1);
    await soon(() => connection.of(FRAME.headers, 1).length).toBe(1);
    const answer = callHttp(`${harness.url}/v1/traces`, { headers: type, body: Buffer.alloc(100_000) });
    expect((await answer).status).toBe(503);
    expect(cuts(harness)).toEqual({ 'grpc budget': 1, 'http budget': 1 });
    harness.budget.refuse = false;
    connection.headers(3);
    connection.write(rawFrame(FRAME.data, FLAG.endStream, 3, frame(numbered(1))));
    await soon(() => harness.frames.length).toBe(1);
    connection.destroy();
  });
});
