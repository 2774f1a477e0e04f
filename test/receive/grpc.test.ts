import { connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { deflateSync, gzipSync } from 'node:zlib';
import { credentials } from '@grpc/grpc-js';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { tracing } from '@opentelemetry/sdk-node';
import { afterEach, describe, expect, it } from 'vitest';
import { PIECE_BYTES_MIN } from '../../src/receive/limits.ts';
import { encodeLogs, encodeMetrics, encodeTraces, type TestSpan } from '../otlp/encode.ts';
import {
  callGrpc,
  cuts,
  decodeMessage,
  frame,
  type GrpcRequest,
  type Harness,
  type HarnessOptions,
  PATHS,
  REQUEST_BYTES_MAX,
  reserve,
  SPAN_ID,
  startHarness,
  TRACE_ID,
} from './harness.ts';

const OK = 0;
const INVALID_ARGUMENT = 3;
const RESOURCE_EXHAUSTED = 8;
const UNIMPLEMENTED = 12;
const UNAVAILABLE = 14;

const harnesses: Harness[] = [];

async function start(options?: HarnessOptions): Promise<Harness> {
  const harness = await startHarness(options);
  harnesses.push(harness);
  return harness;
}

afterEach(async () => {
  await Promise.all(harnesses.splice(0).map((harness) => harness.close()));
});

function traces(...spans: TestSpan[]): Buffer {
  return encodeTraces([{ attributes: { 'service.name': 'shop' }, spans }]);
}

const span: TestSpan = { traceId: TRACE_ID, spanId: SPAN_ID, name: 'GET /', kind: 2 };
const good = traces(span);
const log = encodeLogs([{ logs: [{ body: 'hello' }] }]);
const metric = encodeMetrics([{ metrics: [{ name: 'm', points: [{ value: 1 }, { value: 2 }] }] }]);

describe('OTLP over gRPC', () => {
  it.each<[string, Buffer, GrpcRequest, number]>([
    ['traces', good, {}, 1],
    ['logs', log, { path: PATHS.logs }, 1],
    ['metrics are counted, not appended', metric, { path: PATHS.metrics }, 0],
    ['an empty request', Buffer.alloc(0), {}, 0],
    ['a resource without spans', encodeTraces([{ spans: [] }]), {}, 0],
    ['gzip', gzipSync(good), { compressed: true, headers: { 'grpc-encoding': 'gzip' } }, 1],
    ['deflate', deflateSync(good), { compressed: true, headers: { 'grpc-encoding': 'deflate' } }, 1],
    ['not compressed, though it could be', good, { headers: { 'grpc-encoding': 'gzip' } }, 1],
    [
      'gzip in two members',
      Buffer.concat([gzipSync(good), gzipSync(good)]),
      { compressed: true, headers: { 'grpc-encoding': 'gzip' } },
      1,
    ],
  ])('acknowledges %s with an empty message', async (_, message, request, appended) => {
    const { grpc, frames } = await start();
    const answer = await callGrpc(grpc.port, message, request);
    expect(answer).toEqual({ status: OK, message: 'OK', details: undefined, body: Buffer.alloc(0) });
    expect(frames.length).toBe(appended);
  });

  it('appends the bytes as sent, with what it found out about the sender', async () => {
    const { grpc, frames } = await start();
    await callGrpc(grpc.port, gzipSync(good), {
      compressed: true,
      headers: { 'grpc-encoding': 'gzip', 'x-spantrail-namespace': 'team-7' },
    });
    const note = { namespace: 'team-7', sender: 'grpc', trusted: true, vouches: false, peer: '127.0.0.1' };
    expect(frames.map(({ spans: _inMemoryOnly, ...frame }) => frame)).toEqual([
      { signal: 'traces', payload: good, note: { ...note, receivedNs: 1_700_000_000_000_000_000n } },
    ]);
  });

  const bomb = gzipSync(Buffer.alloc(REQUEST_BYTES_MAX + 1));
  const large = traces({ ...span, name: 'x'.repeat(REQUEST_BYTES_MAX) });
  const gzip = { compressed: true, headers: { 'grpc-encoding': 'gzip' } };
  it.each<[string, Buffer, GrpcRequest, number, RegExp]>([
    ['a truncated message', good.subarray(0, -3), {}, INVALID_ARGUMENT, /at byte \d+/],
    ['text', Buffer.from('{"resourceSpans":[]}'), {}, INVALID_ARGUMENT, /at byte \d+/],
    ['a broken gzip', gzipSync(good).subarray(0, -9), gzip, INVALID_ARGUMENT, /not valid gzip/],
    ['no gzip at all', Buffer.from([1, 2, 3]), gzip, INVALID_ARGUMENT, /at byte \d+/],
    [
      'a bad namespace',
      good,
      { headers: { 'x-spantrail-namespace': 'Team 7' } },
      INVALID_ARGUMENT,
      /x-spantrail-namespace/,
    ],
    ['a long message', large, {}, RESOURCE_EXHAUSTED, /larger than max/],
    ['a long message that inflates', bomb, gzip, RESOURCE_EXHAUSTED, /inflates to more than 262144 bytes/],
    [
      'an unknown encoding',
      good,
      { compressed: true, headers: { 'grpc-encoding': 'snappy' } },
      UNIMPLEMENTED,
      /snappy/,
    ],
    [
      'an unknown method',
      good,
      { path: '/opentelemetry.proto.collector.trace.v1.TraceService/Import' },
      UNIMPLEMENTED,
      /Import/,
    ],
  ])('refuses %s for good', async (_, message, request, status, text) => {
    const harness = await start();
    const answer = await callGrpc(harness.grpc.port, message, request);
    expect(answer).toMatchObject({ status, message: expect.stringMatching(text), body: undefined });
    expect(answer.details?.['RetryInfo']).toBeUndefined();
    if (status === INVALID_ARGUMENT) {
      const field = answer.message.includes('x-spantrail-namespace') ? 'x-spantrail-namespace' : 'body';
      const fieldViolations = [{ field, description: answer.message }];
      expect(answer.details).toEqual({ code: status, message: answer.message, BadRequest: { fieldViolations } });
    }
    expect(harness.frames).toEqual([]);
    await expect.poll(() => harness.inFlight.bytes).toBe(0);
    expect((await callGrpc(harness.grpc.port, good)).status).toBe(OK);
  });

  it.each<[string, TestSpan[], number, number]>([
    ['all good', [span, span], 0, 1],
    ['one zero trace id', [span, { ...span, traceId: '0'.repeat(32) }], 1, 1],
    ['odd lengths', [{ ...span, traceId: 'abcd' }, { ...span, spanId: 'ab' }, span], 2, 1],
    ['none good', [{ ...span, spanId: '0'.repeat(16) }, { name: 'no ids' }], 2, 0],
  ])('counts rejected spans: %s', async (_, spans, rejected, appended) => {
    const { grpc, frames, counters } = await start();
    const answer = await callGrpc(grpc.port, traces(...spans));
    const expected =
      rejected === 0 ? {} : { partialSuccess: { rejected, errorMessage: expect.stringContaining('id') } };
    expect(answer.status).toBe(OK);
    expect(decodeMessage('ExportResponse', answer.body ?? Buffer.from('none'))).toEqual(expected);
    expect(frames.length).toBe(appended);
    expect(counters.total('accepted', { signal: 'traces' })).toBe(spans.length - rejected);
    expect(counters.total('rejected', { signal: 'traces', reason: 'invalid_id' })).toBe(rejected);
  });

  it('accepts log records without a trace', async () => {
    const { grpc, frames } = await start();
    const message = encodeLogs([{ logs: [{ traceId: 'abcd', body: 'x' }, { body: 'y' }] }]);
    const answer = await callGrpc(grpc.port, message, { path: PATHS.logs });
    expect(answer).toMatchObject({ status: OK, body: Buffer.alloc(0) });
    expect(frames.length).toBe(1);
  });

  it('asks to retry when the budget is used up', async () => {
    const { grpc, budget, frames } = await start();
    budget.refuse = true;
    const answer = await callGrpc(grpc.port, good);
    expect(answer).toMatchObject({
      status: UNAVAILABLE,
      details: { code: UNAVAILABLE, RetryInfo: { retryDelay: { seconds: 2, nanos: 500_000_000 } } },
    });
    expect(frames).toEqual([]);
    budget.refuse = false;
    expect((await callGrpc(grpc.port, good)).status).toBe(OK);
  });

  const wide = traces({ ...span, name: 'x'.repeat(5000) });
  it.each([
    ['all is in use', 'as sent', 99_000, wide, {}, UNAVAILABLE],
    ['all is in use', 'inflated', 99_000, gzipSync(wide), gzip, UNAVAILABLE],
    ['little is free', 'as sent', 93_500, wide, {}, RESOURCE_EXHAUSTED],
    ['little is free', 'inflated', 93_500, gzipSync(wide), gzip, RESOURCE_EXHAUSTED],
  ])('asks to retry when %s (%s)', async (_, __, others, message, request, status) => {
    const { grpc, inFlight, ...harness } = await start({ inFlightBytesMax: 100_000 });
    reserve(inFlight).add(others);
    const answer = await callGrpc(grpc.port, message, request);
    expect(answer).toMatchObject({ status, details: { RetryInfo: { retryDelay: { seconds: 1 } } } });
    expect(cuts(harness)).toEqual({ [`grpc ${status === UNAVAILABLE ? 'full' : 'share'}`]: 1 });
    await expect.poll(() => inFlight.bytes).toBe(others);
    // What is small finds room.
    expect((await callGrpc(grpc.port, good)).status).toBe(OK);
  });

  it('holds no more than the bound in memory, however well requests are compressed', async () => {
    const appends: (() => void)[] = [];
    const wal = { append: () => new Promise<void>((resolve) => appends.push(resolve)) };
    const { grpc, inFlight } = await start({ wal, inFlightBytesMax: 1_000_000 });
    const message = gzipSync(traces({ ...span, name: 'x'.repeat(200_000) }));
    const calls = Array.from({ length: 12 }, () => callGrpc(grpc.port, message, gzip));
    // They come from one address, which gets two thirds.
    await expect.poll(() => appends.length).toBe(3);
    expect(inFlight.bytes).toBeLessThanOrEqual(666_667);
    const refused = await Promise.all(Array.from({ length: 3 }, () => callGrpc(grpc.port, message, gzip)));
    expect(refused.map((answer) => answer.status)).toEqual(Array(3).fill(RESOURCE_EXHAUSTED));
    for (const append of appends) append();
    const statuses = (await Promise.all(calls)).map((answer) => answer.status);
    expect(statuses.filter((status) => status === OK).length).toBe(3);
    expect(statuses.filter((status) => status === RESOURCE_EXHAUSTED).length).toBe(9);
    await expect.poll(() => inFlight.bytes).toBe(0);
  });

  it('asks to retry when the append fails, and reports why', async () => {
    const full = new Error('no space left');
    const { grpc, faults, counters } = await start({ wal: { append: () => Promise.reject(full) } });
    const answer = await callGrpc(grpc.port, good);
    expect(answer).toMatchObject({ status: UNAVAILABLE, details: { RetryInfo: {} } });
    expect(answer.message).not.toContain('space');
    expect(faults).toEqual([full]);
    expect(counters.total('accepted')).toBe(0);
  });

  it('acknowledges only after the append resolved', async () => {
    const appends: (() => void)[] = [];
    const wal = { append: () => new Promise<void>((resolve) => appends.push(resolve)) };
    const { grpc, counters } = await start({ wal });
    let answered = false;
    const call = callGrpc(grpc.port, good).finally(() => {
      answered = true;
    });
    await expect.poll(() => appends.length).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect({ answered, accepted: counters.total('accepted') }).toEqual({ answered: false, accepted: 0 });
    appends[0]?.();
    expect((await call).status).toBe(OK);
    expect(counters.total('accepted')).toBe(1);
  });

  it('overwrites secrets before the append', async () => {
    const { grpc, frames, counters } = await start();
    const message = traces({ ...span, attributes: { 'session.token': 's3cr3t-t0ken', 'http.route': '/x' } });
    expect((await callGrpc(grpc.port, message)).status).toBe(OK);
    expect(frames[0]?.payload.includes('/x')).toBe(true);
    expect(frames[0]?.payload.includes('s3cr3t')).toBe(false);
    expect(frames[0]?.payload.length).toBe(message.length);
    expect(counters.total('masked')).toBe(1);
  });

  it('lets a stalled request go and serves others meanwhile', async () => {
    const { grpc, inFlight } = await start({ times: { stallMs: 200 } });
    const stalled = callGrpc(grpc.port, good, { raw: frame(good).subarray(0, 40), open: true });
    await expect.poll(() => inFlight.bytes).toBe(PIECE_BYTES_MIN);
    expect((await callGrpc(grpc.port, good)).status).toBe(OK);
    expect(await stalled).toMatchObject({ status: UNAVAILABLE, details: { RetryInfo: {} } });
    await expect.poll(() => inFlight.bytes).toBe(0);
  });

  it('holds what is being appended though its sender gave up', async () => {
    const appends: (() => void)[] = [];
    const wal = { append: () => new Promise<void>((resolve) => appends.push(resolve)) };
    const { grpc, inFlight, counters } = await start({ wal });
    const session = connectHttp2(`http://127.0.0.1:${grpc.port}`).on('error', () => undefined);
    const stream = session.request({ ':method': 'POST', ':path': PATHS.traces, 'content-type': 'application/grpc' });
    stream.on('error', () => undefined).end(frame(good));
    await expect.poll(() => appends.length).toBe(1);
    session.destroy();
    const cancelled = { transport: 'grpc', signal: 'traces', status: 'CANCELLED' };
    await expect.poll(() => counters.total('requests', cancelled)).toBe(1);
    expect(inFlight.bytes).toBe(frame(good).length);
    appends[0]?.();
    await expect.poll(() => inFlight.bytes).toBe(0);
  });

  it.each<[string, (socket: Socket) => void]>([
    ['HTTP/1.1', (socket) => socket.write('POST /v1/traces HTTP/1.1\r\nhost: x\r\n\r\n')],
    ['noise', (socket) => socket.write(Buffer.alloc(1000, 7))],
    ['a reset', (socket) => socket.resetAndDestroy()],
    ['half a preface and a reset', (socket) => socket.write('PRI * HTT', () => socket.resetAndDestroy())],
  ])('closes a connection that brings %s and serves others', async (_, speak) => {
    const { grpc } = await start();
    const socket = connect(grpc.port, '127.0.0.1', () => speak(socket));
    socket.on('error', () => undefined).resume();
    await new Promise((resolve) => socket.once('close', resolve));
    expect((await callGrpc(grpc.port, good)).status).toBe(OK);
  });

  it('forgets requests whose sender goes away, and frees what they held', async () => {
    const { grpc, inFlight, counters } = await start();
    const session = connectHttp2(`http://127.0.0.1:${grpc.port}`).on('error', () => undefined);
    const stream = session.request({ ':method': 'POST', ':path': PATHS.traces, 'content-type': 'application/grpc' });
    stream.on('error', () => undefined).write(frame(good).subarray(0, 30));
    await expect.poll(() => inFlight.bytes).toBe(PIECE_BYTES_MIN);
    session.destroy();
    await expect.poll(() => inFlight.bytes).toBe(0);
    expect(counters.total('requests', { transport: 'grpc', signal: 'traces', status: 'CANCELLED' })).toBe(1);
  });

  it('counts every request by the status it got', async () => {
    const { grpc, counters } = await start();
    await callGrpc(grpc.port, good);
    await callGrpc(grpc.port, good.subarray(1));
    await callGrpc(grpc.port, large);
    const requests = (status: string) => counters.total('requests', { transport: 'grpc', signal: 'traces', status });
    await expect.poll(() => ['OK', 'INVALID_ARGUMENT', 'RESOURCE_EXHAUSTED'].map(requests)).toEqual([1, 1, 1]);
  });

  it('takes what the OpenTelemetry SDK sends', async () => {
    const { grpc, frames } = await start();
    const exporter = new OTLPTraceExporter({
      url: `http://127.0.0.1:${grpc.port}`,
      credentials: credentials.createInsecure(),
    });
    const provider = new tracing.BasicTracerProvider({
      spanProcessors: [new tracing.SimpleSpanProcessor(exporter)],
    });
    provider.getTracer('test').startSpan('from the SDK').end();
    await provider.forceFlush();
    await provider.shutdown();
    expect(frames.map(({ signal, payload }) => [signal, payload.includes('from the SDK')])).toEqual([['traces', true]]);
  });

  it('answers 200 requests at once', async () => {
    const { grpc, frames, inFlight } = await start();
    const answers = await Promise.all(Array.from({ length: 200 }, () => callGrpc(grpc.port, good)));
    expect(answers.every((answer) => answer.status === OK)).toBe(true);
    expect(frames.length).toBe(200);
    await expect.poll(() => inFlight.bytes).toBe(0);
  });
});
