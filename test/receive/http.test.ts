import { connect } from 'node:net';
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { encodeLogs, encodeMetrics, encodeTraces, type TestSpan } from '../otlp/encode.ts';
import {
  callHttp,
  cuts,
  decodeMessage,
  decodeStatus,
  type Harness,
  type HarnessOptions,
  type HttpAnswer,
  REQUEST_BYTES_MAX,
  reserve,
  SPAN_ID,
  startHarness,
  TRACE_ID,
} from './harness.ts';

const PROTOBUF = 'application/x-protobuf';
const JSON_TYPE = 'application/json';

const harnesses: Harness[] = [];

async function start(options?: HarnessOptions): Promise<Harness> {
  const harness = await startHarness(options);
  harnesses.push(harness);
  return harness;
}

afterEach(async () => {
  await Promise.all(harnesses.splice(0).map((harness) => harness.close()));
});

const span: TestSpan = { traceId: TRACE_ID, spanId: SPAN_ID, name: 'GET /', kind: 2 };
const good = encodeTraces([{ spans: [span] }]);

function json(...spans: object[]): string {
  return JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans }] }] });
}

const jsonSpan = { traceId: TRACE_ID.toUpperCase(), spanId: SPAN_ID, name: 'GET /', kind: 2 };

/** A Status in whatever encoding the answer says it has. */
function statusOf(answer: HttpAnswer): Record<string, unknown> {
  if (answer.headers['content-type'] === PROTOBUF) return decodeStatus(answer.body);
  expect(answer.headers['content-type']).toBe(JSON_TYPE);
  return JSON.parse(answer.body.toString());
}

describe('OTLP over HTTP', () => {
  it.each<[string, string, Buffer | string, Record<string, string>, number]>([
    ['traces', '/v1/traces', good, { 'content-type': PROTOBUF }, 1],
    ['logs', '/v1/logs', encodeLogs([{ logs: [{ body: 'x' }] }]), { 'content-type': PROTOBUF }, 1],
    [
      'metrics, not appended',
      '/v1/metrics',
      encodeMetrics([{ metrics: [{ points: [{ value: 1 }] }] }]),
      { 'content-type': PROTOBUF },
      0,
    ],
    ['an empty request', '/v1/traces', '', { 'content-type': PROTOBUF }, 0],
    ['an empty JSON request', '/v1/logs', '{}', { 'content-type': JSON_TYPE }, 0],
    ['JSON', '/v1/traces', json(jsonSpan), { 'content-type': JSON_TYPE }, 1],
    [
      'JSON with a charset',
      '/v1/traces?x=1',
      json(jsonSpan),
      { 'content-type': 'Application/JSON; charset="UTF-8"' },
      1,
    ],
    ['unknown fields', '/v1/traces', json({ ...jsonSpan, nonsense: [1] }), { 'content-type': JSON_TYPE }, 1],
    ['gzip', '/v1/traces', gzipSync(good), { 'content-type': PROTOBUF, 'content-encoding': 'gzip' }, 1],
    ['gzip JSON', '/v1/traces', gzipSync(json(jsonSpan)), { 'content-type': JSON_TYPE, 'content-encoding': 'GZIP' }, 1],
    ['deflate', '/v1/traces', deflateSync(good), { 'content-type': PROTOBUF, 'content-encoding': 'deflate' }, 1],
    ['zstd', '/v1/traces', zstdCompressSync(good), { 'content-type': PROTOBUF, 'content-encoding': 'zstd' }, 1],
    ['identity', '/v1/traces', good, { 'content-type': PROTOBUF, 'content-encoding': 'identity' }, 1],
  ])('accepts %s with an empty answer in the same encoding', async (_, path, body, headers, appended) => {
    const { url, frames } = await start();
    const answer = await callHttp(url + path, { headers, body });
    const isJson = headers['content-type']?.toLowerCase().includes('json');
    expect([answer.status, answer.headers['content-type'], answer.body.toString()]).toEqual(
      isJson ? [200, JSON_TYPE, '{}'] : [200, PROTOBUF, ''],
    );
    expect(frames.length).toBe(appended);
  });

  const oversize = Buffer.alloc(REQUEST_BYTES_MAX + 1);
  const type = { 'content-type': PROTOBUF };
  it.each<
    [
      string,
      { method?: string; path?: string; headers?: Record<string, string>; body?: Buffer | string },
      number,
      number,
      RegExp,
    ]
  >([
    ['an unknown path', { path: '/v1/spans', headers: type, body: good }, 404, 5, /\/v1\/traces/],
    ['the root', { method: 'GET', path: '/' }, 404, 5, /\/v1\/traces, \/v1\/logs, \/v1\/metrics/],
    ['GET', { method: 'GET' }, 405, 12, /takes POST/],
    ['PUT', { method: 'PUT', headers: type, body: good }, 405, 12, /takes POST/],
    ['no content type', { body: good }, 415, 3, /application\/x-protobuf or application\/json/],
    [
      'another content type',
      { headers: { 'content-type': 'text/plain' }, body: good },
      415,
      3,
      /application\/x-protobuf/,
    ],
    [
      'JSON that is not UTF-8',
      { headers: { 'content-type': 'application/json; charset=latin1' }, body: '{}' },
      415,
      3,
      /UTF-8/,
    ],
    [
      'brotli',
      { headers: { ...type, 'content-encoding': 'br' }, body: brotliCompressSync(good) },
      415,
      3,
      /gzip, deflate/,
    ],
    ['two encodings', { headers: { ...type, 'content-encoding': 'gzip, gzip' }, body: good }, 415, 3, /gzip, deflate/],
    ['a truncated message', { headers: type, body: good.subarray(0, -2) }, 400, 3, /at byte \d+/],
    ['a broken gzip', { headers: { ...type, 'content-encoding': 'gzip' }, body: good }, 400, 3, /not valid gzip/],
    ['broken JSON', { headers: { 'content-type': JSON_TYPE }, body: '{"resourceSpans":[' }, 400, 3, /JSON/i],
    [
      'JSON of the wrong type',
      { headers: { 'content-type': JSON_TYPE }, body: json({ ...jsonSpan, name: 7 }) },
      400,
      3,
      /name/,
    ],
    ['JSON with a list in place of an object', { headers: { 'content-type': JSON_TYPE }, body: '[]' }, 400, 3, /./],
    [
      'a bad namespace',
      { headers: { ...type, 'x-spantrail-namespace': '-' }, body: good },
      400,
      3,
      /x-spantrail-namespace/,
    ],
    ['a long body', { headers: type, body: oversize }, 413, 8, /larger than 262144 bytes/],
    [
      'a long body of unknown length',
      { headers: { ...type, 'transfer-encoding': 'chunked' }, body: oversize },
      413,
      8,
      /larger than/,
    ],
    [
      'a long body that inflates',
      { headers: { ...type, 'content-encoding': 'gzip' }, body: gzipSync(oversize) },
      413,
      8,
      /larger than/,
    ],
  ])('refuses %s with a Status', async (_, { path = '/v1/traces', ...request }, status, code, text) => {
    const { url, frames, inFlight } = await start();
    const answer = await callHttp(url + path, request);
    expect([answer.status, answer.headers['retry-after']]).toEqual([status, undefined]);
    expect(statusOf(answer)).toMatchObject({ code, message: expect.stringMatching(text) });
    expect(answer.headers['content-type']).toBe(request.headers?.['content-type'] === PROTOBUF ? PROTOBUF : JSON_TYPE);
    if (status === 405) expect(answer.headers['allow']).toContain('POST');
    expect(frames).toEqual([]);
    expect(inFlight.bytes).toBe(0);
    expect((await callHttp(`${url}/v1/traces`, { headers: type, body: good })).status).toBe(200);
  });

  it('says in BadRequest which field of the JSON is wrong', async () => {
    const { url } = await start();
    const body = json(jsonSpan, { ...jsonSpan, startTimeUnixNano: {} });
    const answer = await callHttp(`${url}/v1/traces`, { headers: { 'content-type': JSON_TYPE }, body });
    expect(statusOf(answer)).toMatchObject({
      details: [
        {
          '@type': 'type.googleapis.com/google.rpc.BadRequest',
          fieldViolations: [{ field: expect.stringContaining('startTimeUnixNano') }],
        },
      ],
    });
  });

  it.each([
    [PROTOBUF, (spans: TestSpan[]) => encodeTraces([{ spans }])],
    [JSON_TYPE, (spans: TestSpan[]) => json(...spans)],
  ])('counts rejected spans in %s', async (contentType, encode) => {
    const { url, frames, counters } = await start();
    const spans = [span, { ...span, traceId: '0'.repeat(32) }, { ...span, spanId: 'abcd' }];
    const answer = await callHttp(`${url}/v1/traces`, {
      headers: { 'content-type': contentType },
      body: encode(spans),
    });
    expect(answer.status).toBe(200);
    if (contentType === PROTOBUF) {
      const partialSuccess = { rejected: 2, errorMessage: expect.stringContaining('1 without a valid trace id') };
      expect(decodeMessage('ExportResponse', answer.body)).toEqual({ partialSuccess });
    } else {
      const partialSuccess = { rejectedSpans: '2', errorMessage: expect.stringContaining('1 without a valid span id') };
      expect(JSON.parse(answer.body.toString())).toEqual({ partialSuccess });
    }
    expect(frames.length).toBe(1);
    expect(counters.total('accepted', { signal: 'traces' })).toBe(1);
  });

  it.each([PROTOBUF, JSON_TYPE])('asks to retry when it can take no more (%s)', async (contentType) => {
    const harness = await start({ wal: { append: () => Promise.reject(new Error('no space left')) } });
    const send = () =>
      callHttp(`${harness.url}/v1/traces`, {
        headers: { 'content-type': contentType },
        body: contentType === PROTOBUF ? good : json(jsonSpan),
      });
    const failedAppend = await send();
    expect([failedAppend.status, failedAppend.headers['retry-after']]).toEqual([503, '1']);
    harness.budget.refuse = true;
    const overBudget = await send();
    // 2.5 s: whole seconds, rounded up.
    expect([overBudget.status, overBudget.headers['retry-after']]).toEqual([503, '3']);
    const retryInfo =
      contentType === PROTOBUF
        ? { RetryInfo: { retryDelay: { seconds: 2, nanos: 500_000_000 } } }
        : { details: [{ '@type': 'type.googleapis.com/google.rpc.RetryInfo', retryDelay: '2.500s' }] };
    expect(statusOf(overBudget)).toMatchObject({ code: 14, ...retryInfo });
    expect(harness.counters.total('accepted')).toBe(0);
  });

  const wide = encodeTraces([{ spans: [{ ...span, name: 'x'.repeat(5000) }] }]);
  const zipped = { 'content-encoding': 'gzip' };
  it.each<[string, string, number, Buffer, Record<string, string>, number]>([
    ['all is in use', 'as sent', 99_000, wide, {}, 503],
    ['all is in use', 'inflated', 99_000, gzipSync(wide), zipped, 503],
    ['little is free', 'as sent', 93_500, wide, {}, 429],
    ['little is free', 'inflated', 93_500, gzipSync(wide), zipped, 429],
  ])('asks to retry when %s (%s)', async (_, __, others, body, headers, status) => {
    const { url, inFlight, ...harness } = await start({ inFlightBytesMax: 100_000 });
    reserve(inFlight).add(others);
    const answer = await callHttp(`${url}/v1/traces`, { headers: { ...type, ...headers }, body });
    expect([answer.status, answer.headers['retry-after']]).toEqual([status, '1']);
    expect(statusOf(answer)).toMatchObject({
      code: status === 503 ? 14 : 8,
      RetryInfo: { retryDelay: { seconds: 1 } },
    });
    expect(cuts(harness)).toEqual({ [`http ${status === 503 ? 'full' : 'share'}`]: 1 });
    expect(inFlight.bytes).toBe(others);
    // What is small finds room.
    expect((await callHttp(`${url}/v1/traces`, { headers: type, body: good })).status).toBe(200);
  });

  it('lets browsers of allowed origins send, as untrusted senders', async () => {
    const { url, frames } = await start({ corsOrigins: ['https://*.shop.example', 'http://localhost:3000'] });
    const ask = (origin: string) =>
      callHttp(`${url}/v1/traces`, {
        method: 'OPTIONS',
        headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' },
      });
    const allowed = await ask('https://www.shop.example');
    expect(allowed).toMatchObject({ status: 204, body: Buffer.alloc(0) });
    expect(allowed.headers).toMatchObject({
      'access-control-allow-origin': 'https://www.shop.example',
      'access-control-allow-methods': 'POST',
      'access-control-allow-headers': expect.stringContaining('content-type'),
      vary: 'origin',
    });
    const refused = await ask('https://shop.example.evil');
    expect([refused.status, refused.headers['access-control-allow-origin']]).toEqual([403, undefined]);

    const sent = await callHttp(`${url}/v1/traces`, {
      headers: { 'content-type': JSON_TYPE, origin: 'http://localhost:3000' },
      body: json(jsonSpan),
    });
    expect([sent.status, sent.headers['access-control-allow-origin']]).toEqual([200, 'http://localhost:3000']);
    expect(frames[0]?.note).toMatchObject({ sender: 'browser', trusted: false });
  });

  it('forgets requests whose sender goes away, and frees what they held', async () => {
    const { url, http, inFlight, counters, frames } = await start();
    const socket = connect(http.port, '127.0.0.1');
    socket.write(
      `POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: ${PROTOBUF}\r\ncontent-length: 500\r\n\r\n0123456789`,
    );
    await expect.poll(() => inFlight.bytes).toBe(500);
    socket.destroy();
    await expect.poll(() => inFlight.bytes).toBe(0);
    expect(counters.total('requests', { transport: 'http', signal: 'traces', status: 'aborted' })).toBe(1);
    expect((await callHttp(`${url}/v1/traces`, { headers: type, body: good })).status).toBe(200);
    expect(frames.length).toBe(1);
  });

  it.each<[string, string, number]>([
    ['slow headers', 'POST /v1/traces HTTP/1.1\r\nhost: x\r\n', 503],
    [
      'a slow body',
      'POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{',
      503,
    ],
    ['something else than HTTP', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400],
    ['long headers', `POST /v1/traces HTTP/1.1\r\nhost: x\r\nx-long: ${'x'.repeat(20_000)}\r\n\r\n`, 431],
  ])('cuts off %s with a Status', async (_, text, status) => {
    const { http, inFlight } = await start({ times: { headersMs: 100, requestMs: 200 } });
    const socket = connect(http.port, '127.0.0.1');
    socket.write(text);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk);
    const [head = '', body = ''] = Buffer.concat(chunks).toString().split('\r\n\r\n');
    expect(head).toContain(`HTTP/1.1 ${status} `);
    expect(JSON.parse(body)).toMatchObject({ code: status === 503 ? 14 : 3, message: expect.any(String) });
    await expect.poll(() => inFlight.bytes).toBe(0);
  });

  it('takes OTLP/JSON from fetch, 200 requests at once', async () => {
    const { url, frames, inFlight } = await start();
    const answers = await Promise.all(
      Array.from({ length: 200 }, async () => {
        const headers = { 'content-type': JSON_TYPE };
        const response = await fetch(`${url}/v1/traces`, { method: 'POST', headers, body: json(jsonSpan) });
        return [response.status, await response.text()];
      }),
    );
    expect(answers).toEqual(Array.from({ length: 200 }, () => [200, '{}']));
    expect(frames.length).toBe(200);
    expect(inFlight.bytes).toBe(0);
  });
});
