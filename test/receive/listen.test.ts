import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { AppError } from '../../src/core/errors.ts';
import { startGrpcServer } from '../../src/receive/grpc-server.ts';
import { startHttpServer } from '../../src/receive/http-server.ts';
import { peerAddress } from '../../src/receive/listen.ts';
import type { StoredFrame } from '../../src/wal/frame.ts';
import { Wal } from '../../src/wal/wal.ts';
import { encodeTraces } from '../otlp/encode.ts';
import { callGrpc, callHttp, SPAN_ID, startHarness, TRACE_ID } from './harness.ts';

const good = encodeTraces([{ spans: [{ traceId: TRACE_ID, spanId: SPAN_ID }] }]);
const protobuf = { 'content-type': 'application/x-protobuf' };

describe('where the receivers listen', () => {
  it('says which port is taken, how to choose another and what to tell the Collector', async () => {
    const harness = await startHarness();
    const options = { ...harness.options, host: '127.0.0.1', corsOrigins: [] };
    const failures = await Promise.allSettled([
      startGrpcServer({ ...options, port: harness.grpc.port }),
      startHttpServer({ ...options, port: harness.http.port }),
    ]);
    const texts = [
      [harness.grpc.port, '--grpc-port', 'otlp_grpc: { endpoint: "HOST:N" }'],
      [harness.http.port, '--http-port', 'otlp_http: { endpoint: "http://HOST:N" }'],
    ];
    failures.forEach((failure, index) => {
      const reason: unknown = failure.status === 'rejected' ? failure.reason : undefined;
      expect(reason).toBeInstanceOf(AppError);
      expect(reason).toMatchObject({ code: 'usage' });
      for (const text of texts[index] ?? []) expect(String(reason)).toContain(String(text));
    });
    await harness.close();
  });

  it.each([
    ['::ffff:10.0.0.7', '10.0.0.7'],
    ['10.0.0.7', '10.0.0.7'],
    ['fe80::1%eth0', 'fe80::1'],
    ['2001:db8::7', '2001:db8::7'],
    [undefined, ''],
  ])('knows peer %s as %s', (remote, peer) => expect(peerAddress(remote)).toBe(peer));
});

describe('shutting down', () => {
  it('finishes what is being appended and takes nothing new', async () => {
    const appends: (() => void)[] = [];
    const harness = await startHarness({
      wal: { append: () => new Promise<void>((resolve) => appends.push(resolve)) },
    });
    const calls = [
      callGrpc(harness.grpc.port, good).then((answer) => answer.status),
      callHttp(`${harness.url}/v1/traces`, { headers: protobuf, body: good }).then((answer) => answer.status),
    ];
    await expect.poll(() => appends.length).toBe(2);
    const closed = Promise.all([harness.grpc.close(30_000), harness.http.close(30_000)]);
    await expect(callGrpc(harness.grpc.port, good)).rejects.toThrow('ECONNREFUSED');
    await expect(callHttp(harness.url)).rejects.toThrow('ECONNREFUSED');
    for (const append of appends) append();
    expect(await Promise.all(calls)).toEqual([0, 200]);
    await closed;
  });

  it('cuts what is not finished after the grace, idle connections at once', async () => {
    const harness = await startHarness({ wal: { append: () => new Promise<void>(() => undefined) } });
    const idle = connect(`http://127.0.0.1:${harness.grpc.port}`);
    await new Promise((resolve) => idle.once('connect', resolve));
    const calls = Promise.allSettled([
      callGrpc(harness.grpc.port, good),
      callHttp(`${harness.url}/v1/traces`, { headers: protobuf, body: good }),
    ]);
    await expect.poll(() => harness.inFlight.bytes).toBe(2 * good.length + 5);
    await Promise.all([harness.grpc.close(50), harness.http.close(50)]);
    const statuses = (await calls).map((call) => (call.status === 'fulfilled' ? call.value.status : 'connection lost'));
    expect(statuses.filter((status) => status === 0 || status === 200)).toEqual([]);
    expect(idle.closed).toBe(true);
  });
});

describe('with the write-ahead log', () => {
  it('has on disk what it acknowledged, from both transports', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'spantrail-receive-'));
    const wal = await Wal.open({ folder });
    const harness = await startHarness({ wal });
    const answers = await Promise.all([
      ...Array.from({ length: 20 }, () => callGrpc(harness.grpc.port, good)),
      ...Array.from({ length: 20 }, () => callHttp(`${harness.url}/v1/traces`, { headers: protobuf, body: good })),
    ]);
    expect(answers.filter((answer) => answer.status === 0 || answer.status === 200).length).toBe(40);
    await harness.close();
    await wal.close();

    const again = await Wal.open({ folder });
    const frames: StoredFrame[] = [];
    await again.replay((frame) => void frames.push(frame));
    await again.close();
    await rm(folder, { recursive: true });
    expect(frames.map((frame) => frame.payload.equals(good))).toEqual(Array.from({ length: 40 }, () => true));
    expect(new Set(frames.map((frame) => frame.note.sender))).toEqual(new Set(['grpc', 'http']));
  });
});
