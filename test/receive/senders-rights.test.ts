import { createHmac } from 'node:crypto';
import { request } from 'node:http';
import { connect } from 'node:http2';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Counters } from '../../src/core/metrics.ts';
import { createGate, type Gate } from '../../src/receive/senders.ts';
import { authenticatorFor, entryFor } from '../auth/openings.ts';
import { encodeLogs, encodeTraces } from '../otlp/encode.ts';
import { encodeRecordRequest } from './access-client.ts';
import {
  callGrpc,
  callHttp,
  decodeStatus,
  frame,
  type Harness,
  NOW_MS,
  PATHS,
  SPAN_ID,
  startHarness,
  TRACE_ID,
} from './harness.ts';

const SECRET = 'a secret of the webhook';

const TRACES = encodeTraces([{ spans: [{ traceId: TRACE_ID, spanId: SPAN_ID, name: 'GET' }] }]);
const EVENT = { id: 'e1', actor: { id: 'alice' }, action: 'read', time: '2023-11-14T22:00:00Z' };
const RECORD = '/spantrail.access.v1.AccessService/Record';

const holders = {
  all: entryFor({ name: 'all' }),
  doubtful: entryFor({ name: 'doubtful', trusted: false }),
  vouching: entryFor({ name: 'vouching', vouches: true }),
  tracer: entryFor({ name: 'tracer', signals: ['traces'] }),
  hooks: entryFor({ name: 'hooks', presets: ['kubernetes'] }),
  tenant: entryFor({ name: 'tenant', namespaces: ['clinic', 'shop'] }),
  items: entryFor({ name: 'items', quota: { itemsPerSecond: 10 } }),
  bytes: entryFor({ name: 'bytes', quota: { bytesPerSecond: '1KiB' } }),
  reader: entryFor({ name: 'reader', can: ['read'] }),
};

type Holder = keyof typeof holders;

const bearer = (holder: Holder) => ({ authorization: `Bearer ${holders[holder].token}` });

let nowMs = NOW_MS;
let counters: Counters;
let harness: Harness;

beforeEach(async () => {
  nowMs = NOW_MS;
  counters = new Counters();
  const clock = { nowMs: () => nowMs };
  const tokens = Object.values(holders).map(({ entry }) => entry);
  const gate: Gate = createGate({
    authenticator: await authenticatorFor({ tokens }, { clock, counters }),
    counters,
    clock,
  });
  const signatures = new Map([['opa', { secrets: [SECRET], scheme: undefined, toleranceMs: 300_000 }]]);
  harness = await startHarness({ gate, signatures, corsOrigins: ['https://shop.example'] });
});

afterEach(() => harness.close());

const PROTOBUF = { 'content-type': 'application/x-protobuf' };
const JSON_TYPE = { 'content-type': 'application/json' };

function post(path: string, holder: Holder, body: Buffer | string, headers: Record<string, string> = {}) {
  const type = typeof body === 'string' ? JSON_TYPE : PROTOBUF;
  return callHttp(`${harness.url}${path}`, { headers: { ...type, ...bearer(holder), ...headers }, body });
}

const send = (holder: Holder, headers: Record<string, string> = {}) => post('/v1/traces', holder, TRACES, headers);
const notes = () => harness.frames.map(({ note }) => note);

describe('one sender', () => {
  it('is whoever has the token, by gRPC, protobuf and JSON', async () => {
    await callGrpc(harness.grpc.port, TRACES, { headers: bearer('all') });
    await send('all');
    await post('/v1/logs', 'all', '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}');
    const seconds = Date.parse(EVENT.time) / 1000;
    const message = encodeRecordRequest([{ ...EVENT, time: { seconds } }]);
    await callGrpc(harness.grpc.port, message, { path: RECORD, headers: bearer('all') });
    await post('/v1/access', 'all', message);
    await post('/v1/access', 'all', JSON.stringify(EVENT));
    expect(notes().map(({ sender, trusted }) => `${sender} ${trusted}`)).toEqual(Array(6).fill('all true'));
    // The same event is the same evidence, byte by byte.
    const [, , , ...events] = harness.frames.map(({ payload }) => payload.toString('hex'));
    expect(new Set(events).size).toBe(1);
    expect(counters.total('sender_items', { sender: 'all' })).toBe(6);
  });

  it('states nothing when it is not trusted, and vouches only when it may', async () => {
    await send('doubtful');
    await send('vouching');
    await send('all');
    await send('vouching', { origin: 'https://shop.example' });
    const said = notes().map(({ sender, trusted, vouches }) => ({ sender, trusted, vouches }));
    expect(said).toEqual([
      { sender: 'untrusted:doubtful', trusted: false, vouches: false },
      { sender: 'vouching', trusted: true, vouches: true },
      { sender: 'all', trusted: true, vouches: false },
      // A page in a browser is anybody, whatever token it was given.
      { sender: 'browser:vouching', trusted: false, vouches: false },
    ]);
  });
});

describe('what a sender may send', () => {
  it.each([
    ['tracer', '/v1/traces', 200],
    ['tracer', '/v1/logs', 403],
    ['tracer', '/v1/metrics', 403],
    ['tracer', '/v1/access', 403],
    ['tracer', '/v1/events/kubernetes', 403],
    ['hooks', '/v1/traces', 403],
    ['hooks', '/v1/events/kubernetes', 200],
    ['hooks', '/v1/events/hoop', 403],
    ['hooks', '/v1/events/none', 403],
    ['all', '/v1/events/none', 404],
    ['reader', '/v1/traces', 403],
    ['reader', '/v1/events/kubernetes', 403],
  ] as const)('%s to %s: %i', async (holder, path, expected) => {
    const body = path.startsWith('/v1/events') ? '{"kind":"Event"}' : path === '/v1/traces' ? TRACES : encodeLogs([]);
    const answer = await post(path, holder, body);
    expect(answer.status).toBe(expected);
    if (expected !== 403) return;
    expect(answer.headers['www-authenticate']).toContain('error="insufficient_scope"');
    expect(answer.body.toString('latin1')).toContain(
      `"${holder}" may`.replaceAll('"', typeof body === 'string' ? '\\"' : '"'),
    );
    expect(harness.frames).toEqual([]);
  });

  it('by gRPC is refused with PERMISSION_DENIED', async () => {
    const answer = await callGrpc(harness.grpc.port, encodeLogs([]), { path: PATHS.logs, headers: bearer('tracer') });
    expect(answer).toMatchObject({ status: 7, message: '"tracer" may not send logs; it may send traces' });
    expect(counters.total('forbidden', { reason: 'signal' })).toBe(1);
  });

  it('goes to its namespaces only, without a word to the first of them', async () => {
    const namespace = (name: string) => ({ 'x-spantrail-namespace': name });
    expect((await send('tenant')).status).toBe(200);
    expect((await send('tenant', namespace('shop'))).status).toBe(200);
    const refused = await send('tenant', namespace('default'));
    expect(refused.status).toBe(403);
    expect(refused.body.toString()).toContain('x-spantrail-namespace may be clinic, shop');
    const call = { headers: { ...bearer('tenant'), ...namespace('other') } };
    expect((await callGrpc(harness.grpc.port, TRACES, call)).status).toBe(7);
    await callGrpc(harness.grpc.port, TRACES, { headers: bearer('tenant') });
    await send('all');
    expect(notes().map((note) => note.namespace)).toEqual(['clinic', 'shop', 'clinic', 'default']);
  });
});

describe('quotas', () => {
  const many = encodeTraces([
    {
      spans: Array.from({ length: 150 }, (_, index) => ({
        traceId: TRACE_ID,
        spanId: index.toString(16).padStart(16, '1'),
      })),
    },
  ]);

  it('of items: RESOURCE_EXHAUSTED with RetryInfo, 429 with Retry-After, over all transports', async () => {
    // Ten seconds' worth may come at once, and one request may go beyond.
    expect((await post('/v1/traces', 'items', many)).status).toBe(200);
    const grpc = await callGrpc(harness.grpc.port, TRACES, { headers: bearer('items') });
    expect(grpc).toMatchObject({ status: 8, details: { code: 8, RetryInfo: { retryDelay: { seconds: 5 } } } });
    const http = await send('items');
    expect(http).toMatchObject({ status: 429, headers: { 'retry-after': '5' } });
    expect(decodeStatus(http.body)).toMatchObject({ code: 8, RetryInfo: { retryDelay: { seconds: 5 } } });
    expect(counters.total('over_quota', { sender: 'items' })).toBe(2);
    // Nobody else notices.
    expect((await send('all')).status).toBe(200);
    nowMs += 4_900;
    expect((await send('items')).status).toBe(429);
    nowMs += 200;
    expect((await send('items')).status).toBe(200);
    expect(notes().map(({ sender }) => sender)).toEqual(['items', 'all', 'items']);
  });

  it('are looked at again when the body is there: others of the sender may have used them up meanwhile', async () => {
    const type = { ...PROTOBUF, ...bearer('items') };
    const slow = request(`${harness.url}/v1/traces`, {
      method: 'POST',
      headers: { ...type, 'content-length': TRACES.length },
    });
    slow.flushHeaders();
    const session = connect(`http://127.0.0.1:${harness.grpc.port}`);
    const grpcType = { 'content-type': 'application/grpc', te: 'trailers', ...bearer('items') };
    const call = session.request({ ':method': 'POST', ':path': PATHS.traces, ...grpcType });
    await expect.poll(() => harness.inFlight.requests).toBe(2);
    expect((await post('/v1/traces', 'items', many)).status).toBe(200);
    const answers = Promise.all([
      new Promise((resolve) => slow.on('response', (response) => resolve(response.resume().statusCode))),
      new Promise((resolve) => {
        call.on('response', (headers) => resolve(headers['grpc-status']));
      }),
    ]);
    slow.end(TRACES);
    call.end(frame(TRACES));
    // Trailers alone: the status stands in the headers.
    expect((await answers).map(String)).toEqual(['429', '8']);
    session.close();
    expect(notes()).toHaveLength(1);
  });

  it('of bytes', async () => {
    const size = many.length;
    expect((await post('/v1/traces', 'bytes', many)).status).toBe(200);
    expect((await post('/v1/traces', 'bytes', many)).status).toBe(size > 10_240 ? 429 : 200);
    for (let count = 0; count < 20; count++) await post('/v1/traces', 'bytes', many);
    // In two minutes come 120 KiB, and 10 KiB were there at first.
    nowMs += 120_000;
    const before = harness.frames.length;
    for (let count = 0; count < 20; count++) await post('/v1/traces', 'bytes', many);
    const accepted = harness.frames.length - before;
    expect(accepted).toBe(Math.ceil(10_240 / size));
  });

  it('hold over time whatever comes at once', async () => {
    const tries = async () => Promise.all(Array.from({ length: 40 }, () => send('items')));
    let accepted = 0;
    for (let second = 0; second < 30; second++) {
      accepted += (await tries()).filter(({ status }) => status === 200).length;
      nowMs += 1000;
    }
    // 10 a second, and what ten seconds of silence had saved.
    expect(accepted).toBeGreaterThanOrEqual(100 + 29 * 10);
    expect(accepted).toBeLessThanOrEqual(100 + 30 * 10 + 1);
  });

  it('let a large request of the access API through whole', async () => {
    const events = Array.from({ length: 500 }, (_, index) => JSON.stringify({ ...EVENT, id: `e${index}` })).join('\n');
    const answer = await post('/v1/access', 'items', events, { 'content-type': 'application/x-ndjson' });
    expect(answer.status).toBe(200);
    expect(JSON.parse(answer.body.toString())).toMatchObject({ accepted: 500 });
    expect((await send('items')).headers['retry-after']).toBe('40');
  });
});

describe('webhooks', () => {
  const body = '{"decision_id":"1"}';
  const signature = `sha256=${createHmac('sha256', SECRET).update(body).digest('hex')}`;
  const hook = (preset: string, headers: Record<string, string>) =>
    callHttp(`${harness.url}/v1/events/${preset}`, { headers: { ...JSON_TYPE, ...headers }, body });

  it.each([
    ['signed', 'opa', { 'x-hub-signature-256': signature }, 200, 'webhook true'],
    ['with its own secret', 'opa', { authorization: `Bearer ${SECRET}` }, 200, 'webhook true'],
    ['with a token', 'opa', bearer('all'), 200, 'webhook:all true'],
    ['with a token of no right to it', 'opa', bearer('hooks'), 403, undefined],
    ['with a wrong signature', 'opa', { 'x-hub-signature-256': signature.replace(/.$/, 'x') }, 401, undefined],
    ['with nothing', 'opa', {}, 401, undefined],
    ['signed, where no secret is set', 'kubernetes', { 'x-hub-signature-256': signature }, 401, undefined],
    ['with a token, where no secret is set', 'kubernetes', bearer('hooks'), 200, 'webhook:hooks true'],
  ] as const)('%s (%s)', async (_, preset, headers, expected, sender) => {
    expect((await hook(preset, headers)).status).toBe(expected);
    expect(notes().map((note) => `${note.sender} ${note.trusted}`)).toEqual(sender === undefined ? [] : [sender]);
  });
});

describe('pages in browsers', () => {
  const origin = { origin: 'https://shop.example' };

  it('ask without credentials whether they may send, and read why they may not', async () => {
    const asks = {
      ...origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization',
    };
    const preflight = await callHttp(`${harness.url}/v1/traces`, { method: 'OPTIONS', headers: asks });
    expect(preflight.status).toBe(204);
    expect(preflight.headers['access-control-allow-headers']).toContain('authorization');
    const refused = await callHttp(`${harness.url}/v1/traces`, { headers: { ...PROTOBUF, ...origin }, body: TRACES });
    expect(refused).toMatchObject({ status: 401, headers: { 'access-control-allow-origin': 'https://shop.example' } });
    const sent = await send('tracer', origin);
    expect(sent).toMatchObject({ status: 200, headers: { 'access-control-allow-origin': 'https://shop.example' } });
    expect(notes()).toMatchObject([{ sender: 'browser:tracer', trusted: false }]);
  });
});
