import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { PayloadReader } from '../../src/otlp/decode.ts';
import { compileKeys } from '../../src/otlp/key-set.ts';
import { scanLogs } from '../../src/otlp/scan.ts';
import { RECORD_PATH } from '../../src/receive/access-proto.ts';
import { ITEMS_MAX } from '../../src/receive/log-delivery.ts';
import { RECEIPT_ITEMS_MAX } from '../../src/receive/receipt.ts';
import type { Frame } from '../../src/wal/frame.ts';
import { decodeReceipt, encodeRecordRequest } from './access-client.ts';
import { callGrpc, callHttp, type Harness, type HarnessOptions, NOW_MS, reserve, startHarness } from './harness.ts';

const harnesses: Harness[] = [];

async function start(options?: HarnessOptions): Promise<Harness> {
  const harness = await startHarness(options);
  harnesses.push(harness);
  return harness;
}

afterEach(async () => {
  await Promise.all(harnesses.splice(0).map((harness) => harness.close()));
});

const TIME = new Date(NOW_MS).toISOString();
const JSON_TYPE = { 'content-type': 'application/json' };
const LINES = { 'content-type': 'application/x-ndjson' };

function event(id: string, more: object = {}): object {
  return { id, time: TIME, actor: { id: 'alice' }, action: 'read', target: { id: 'patients/7' }, ...more };
}

/** The same event as a protobuf message. */
function message(id: string, more: object = {}): object {
  return { ...event(id), time: { seconds: NOW_MS / 1000 }, ...more };
}

/** The log records of a frame as they will be read when they settle. */
function recordsOf({ payload, note }: Frame) {
  const reader = new PayloadReader(payload, 'logs', note, compileKeys(['*']));
  const found: { trace: string; service: unknown; attributes: Record<string, unknown> }[] = [];
  const scanned = scanLogs(payload, ({ itemStart }) => {
    const { traceId, resource, attributes } = reader.logRecord(itemStart);
    const service = resource.attributes.get('service.name');
    found.push({ trace: traceId, service, attributes: Object.fromEntries(attributes) });
  });
  expect(scanned.ok).toBe(true);
  return found;
}

function ids(harness: Harness): unknown[] {
  return harness.frames.flatMap(recordsOf).map(({ attributes }) => attributes['event.id']);
}

async function post(harness: Harness, body: string | Buffer, headers: Record<string, string> = JSON_TYPE) {
  const answer = await callHttp(`${harness.url}/v1/access`, { headers, body });
  return { status: answer.status, headers: answer.headers, json: JSON.parse(answer.body.toString()) };
}

function rejections({ counters }: Harness): Record<string, number> {
  const samples = counters.samples().filter(({ name }) => name === 'rejected');
  return Object.fromEntries(samples.map(({ labels, value }) => [`${labels['signal']} ${labels['reason']}`, value]));
}

describe('the access API', () => {
  it('keeps the same bytes of an event over gRPC, as JSON, NDJSON and protobuf over HTTP', async () => {
    const harness = await start();
    const more = { attributes: { n: 5, x: 'y', list: [1, 'a'] }, service: 'ward', outcome: 'success' };
    const struct = { n: { numberValue: 5 }, x: { stringValue: 'y' } };
    const list = { listValue: { values: [{ numberValue: 1 }, { stringValue: 'a' }, { nullValue: 0 }] } };
    const bytes = encodeRecordRequest([message('e1', { ...more, attributes: { fields: { list, ...struct } } })]);
    const answer = await callGrpc(harness.grpc.port, bytes, { path: RECORD_PATH });
    expect(answer).toMatchObject({ status: 0 });
    expect(decodeReceipt(answer.body)).toMatchObject({ accepted: 1, rejected: [], repeated: 0 });
    const asProtobuf = await callHttp(`${harness.url}/v1/access`, {
      headers: { 'content-type': 'application/x-protobuf' },
      body: bytes,
    });
    expect(decodeReceipt(asProtobuf.body)).toMatchObject({ accepted: 1 });
    for (const body of [event('e1', more), [event('e1', more)], { events: [event('e1', more)] }]) {
      const posted = await post(harness, JSON.stringify(body, null, 2));
      expect(posted).toMatchObject({ status: 200, json: { accepted: 1, repeated: 0, rejected: [], rejectedCount: 0 } });
    }
    const text = JSON.stringify(event('e1', more));
    // What curl says when it is told nothing about the type.
    const form = { 'content-type': 'application/x-www-form-urlencoded' };
    for (const headers of [LINES, form, {}]) {
      expect(await post(harness, text, headers)).toMatchObject({ json: { accepted: 1 } });
    }
    const compressed = gzipSync(JSON.stringify(event('e1', more)));
    expect(await post(harness, compressed, { ...JSON_TYPE, 'content-encoding': 'gzip' })).toMatchObject({
      json: { accepted: 1 },
    });
    expect(harness.frames).toHaveLength(9);
    expect(new Set(harness.frames.map(({ payload }) => payload.toString('hex'))).size).toBe(1);
    expect(new Set(harness.frames.map(({ note }) => note.sender))).toEqual(new Set(['access_api']));
    expect(recordsOf(harness.frames[0] as Frame)).toMatchObject([
      { service: 'ward', attributes: { 'spantrail.via': 'access_api', 'event.id': 'e1', n: 5, list: [1, 'a'] } },
    ]);
  });

  it('keeps good neighbours of bad events and says what is wrong with each, on either transport', async () => {
    const harness = await start();
    const bad = [{ actor: undefined }, { action: undefined }, { time: { seconds: NOW_MS / 1000 + 3600 } }];
    const broken = Buffer.from([0x0a, 0x02, 0x0a, 0x7f]);
    const bytes = Buffer.concat([
      encodeRecordRequest([message('a', {}), ...bad.map((more, index) => message(`bad${index}`, more))]),
      broken,
      encodeRecordRequest([message('b'), message('b'), message('b', { action: 'write' })]),
    ]);
    const grpc = await callGrpc(harness.grpc.port, bytes, { path: RECORD_PATH });
    const expected = [
      { index: 1, id: 'bad0', field: 'actor', code: 'actor_missing' },
      { index: 2, id: 'bad1', field: 'action', code: 'action_missing' },
      { index: 3, id: 'bad2', field: 'time', code: 'time_in_future' },
    ];
    expect(decodeReceipt(grpc.body)).toMatchObject({
      accepted: 2,
      repeated: 1,
      rejectedCount: 5,
      rejected: [
        ...expected,
        { index: 4, id: '', field: 'event', code: 'undecodable' },
        { index: 7, id: 'b', field: 'id', code: 'repeated_id', reason: expect.stringContaining('event 5') },
      ],
    });
    expect(ids(harness)).toEqual(['a', 'b']);
    const lines = [event('c'), event('bad0', { actor: null }), '{broken', event('d'), event('d')];
    const body = lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\r\n');
    for (const headers of [LINES, JSON_TYPE, { 'content-type': 'application/jsonl; charset=utf-8' }]) {
      expect(await post(harness, `\ufeff${body}\n\n`, headers)).toMatchObject({
        status: 200,
        json: {
          accepted: 2,
          repeated: 1,
          rejectedCount: 2,
          rejected: [
            { index: 1, id: 'bad0', field: 'actor', code: 'actor_missing' },
            {
              index: 2,
              id: '',
              field: 'line 3',
              code: 'not_json',
              reason: expect.stringMatching(/^is not valid JSON/),
            },
          ],
        },
      });
    }
    expect(rejections(harness)).toEqual({
      'access actor_missing': 4,
      'access action_missing': 1,
      'access time_in_future': 1,
      'access undecodable': 1,
      'access repeated_id': 1,
      'access not_json': 3,
    });
    expect(harness.counters.total('repeated', { signal: 'access' })).toBe(4);
    expect(harness.counters.total('requests', { transport: 'http', signal: 'access', status: '200' })).toBe(3);
  });

  it.each<[string, string | Buffer, Record<string, string>, number, RegExp]>([
    ['no JSON', '{"events":', JSON_TYPE, 400, /body is not valid JSON: Unexpected end/],
    ['another type', '{}', { 'content-type': 'text/plain' }, 415, /application\/json, application\/x-ndjson/],
    ['another charset', '{}', { 'content-type': 'application/json; charset=latin1' }, 415, /UTF-8/],
    ['a broken gzip', 'x', { ...JSON_TYPE, 'content-encoding': 'gzip' }, 400, /not valid gzip/],
    ['a request too large', Buffer.alloc(256 * 1024 + 1, 32), JSON_TYPE, 413, /send smaller batches/],
    ['an odd namespace', JSON.stringify(event('e')), { ...JSON_TYPE, 'x-spantrail-namespace': 'A B' }, 400, /1 to 63/],
  ])('refuses %s as a whole', async (_, body, headers, status, message) => {
    const harness = await start();
    const answer = await post(harness, body, headers);
    expect(answer).toMatchObject({ status, json: { message: expect.stringMatching(message) } });
    expect(harness.frames).toEqual([]);
  });

  it('refuses what is no RecordRequest, and other methods', async () => {
    const harness = await start();
    const grpc = await callGrpc(harness.grpc.port, Buffer.from([0xff, 0xff]), { path: RECORD_PATH });
    expect(grpc).toMatchObject({ status: 3, details: { BadRequest: { fieldViolations: [{ field: 'body' }] } } });
    const get = await callHttp(`${harness.url}/v1/access`, { method: 'GET' });
    expect(get).toMatchObject({ status: 405, headers: { allow: 'POST' } });
    const elsewhere = await callHttp(`${harness.url}/v1/acces`, { headers: JSON_TYPE, body: '{}' });
    expect(JSON.parse(elsewhere.body.toString()).message).toContain('/v1/access');
  });

  it('says an empty request is one', async () => {
    const harness = await start();
    for (const body of ['', '[]', '{"events":[]}']) {
      expect(await post(harness, body)).toMatchObject({ status: 200, json: { accepted: 0, rejectedCount: 0 } });
    }
    const grpc = await callGrpc(harness.grpc.port, Buffer.alloc(0), { path: RECORD_PATH });
    expect(grpc.status).toBe(0);
    expect(harness.frames).toEqual([]);
  });

  it('takes what a page in a browser says as context, and tells it; preflights are refused', async () => {
    const harness = await start({ corsOrigins: ['https://shop.example'] });
    const origin = { origin: 'https://shop.example' };
    const answer = await post(harness, JSON.stringify(event('e')), { ...JSON_TYPE, ...origin });
    expect(answer.json).toMatchObject({ accepted: 1, warnings: [{ field: 'sender', reason: /context only/ }] });
    expect(harness.frames[0]?.note).toMatchObject({ trusted: false, sender: 'browser' });
    const preflight = await callHttp(`${harness.url}/v1/access`, {
      method: 'OPTIONS',
      headers: { ...origin, 'access-control-request-method': 'POST' },
    });
    expect(preflight.status).toBe(403);
  });

  it('overwrites secrets before they are kept', async () => {
    const harness = await start();
    await post(harness, JSON.stringify(event('e', { attributes: { 'session.token': 'hunter22', n: 1 } })));
    expect(harness.frames[0]?.payload.includes('hunter22')).toBe(false);
    expect(harness.frames[0]?.payload.includes('********')).toBe(true);
  });

  it('answers 503 and UNAVAILABLE while there is no room or the log fails, 429 to who has too much in work', async () => {
    let fails = true;
    const wal = {
      append: async () => {
        if (fails) throw new Error('disk');
      },
    };
    const harness = await start({ wal, inFlightBytesMax: 600 * 1024 });
    const body = JSON.stringify(event('e'));
    expect(await post(harness, body)).toMatchObject({ status: 503, headers: { 'retry-after': '1' } });
    expect(await callGrpc(harness.grpc.port, encodeRecordRequest([message('e')]), { path: RECORD_PATH })).toMatchObject(
      {
        status: 14,
        details: { RetryInfo: { retryDelay: { seconds: 1 } } },
      },
    );
    fails = false;
    expect(await post(harness, body)).toMatchObject({ status: 200 });
    const other = reserve(harness.inFlight, '127.0.0.1');
    expect(other.expect(590 * 1024)).toBeUndefined();
    const large = `${body}${' '.repeat(200 * 1024)}`;
    expect([429, 503]).toContain((await post(harness, large)).status);
    other.release();
    harness.budget.refuse = true;
    expect(await post(harness, body)).toMatchObject({ status: 503, headers: { 'retry-after': '3' } });
    expect(await callGrpc(harness.grpc.port, encodeRecordRequest([message('e')]), { path: RECORD_PATH })).toMatchObject(
      {
        status: 14,
      },
    );
  });

  it('reads many large requests one after the other, within what is in flight', async () => {
    const inFlightBytesMax = 24 * 1024 * 1024;
    const harness = await start({ requestBytesMax: 8 * 1024 * 1024, inFlightBytesMax });
    const many = (sender: number) => Array.from({ length: 2000 }, (_, index) => event(`${sender}-${index}`));
    const bodies = Array.from({ length: 12 }, (_, sender) => JSON.stringify(many(sender)));
    let most = 0;
    const watch = setInterval(() => {
      most = Math.max(most, harness.inFlight.bytes);
    }, 1);
    const sent = await Promise.all(bodies.map((body) => post(harness, body)));
    clearInterval(watch);
    const taken = sent.filter(({ status }) => status === 200);
    expect(taken.length).toBeGreaterThan(0);
    for (const { status } of sent) expect([200, 429, 503]).toContain(status);
    expect(most).toBeLessThanOrEqual(inFlightBytesMax);
    expect(harness.inFlight.bytes).toBe(0);
    expect(ids(harness)).toHaveLength(2000 * taken.length);
  });

  it('lets one event pass the large requests of others', async () => {
    const harness = await start({ requestBytesMax: 8 * 1024 * 1024, inFlightBytesMax: 64 * 1024 * 1024 });
    const ended: string[] = [];
    const large = JSON.stringify(Array.from({ length: 20_000 }, (_, index) => event(`large-${index}`)));
    const sent = Array.from({ length: 4 }, () => post(harness, large).then(() => ended.push('large')));
    await expect.poll(() => harness.inFlight.bytes, { interval: 1 }).toBeGreaterThan(large.length);
    await post(harness, JSON.stringify(event('small'))).then(() => ended.push('small'));
    await Promise.all(sent);
    expect(ended.indexOf('small')).toBeLessThan(4);
  });

  it('lists the first of many rejections, and takes so many events of a request', async () => {
    const harness = await start({ requestBytesMax: 8 * 1024 * 1024 });
    const answer = await post(harness, `[${'{},'.repeat(ITEMS_MAX + 9)}{}]`);
    expect(answer.json).toMatchObject({ accepted: 0, rejectedCount: ITEMS_MAX + 10 });
    expect(answer.json.rejected).toHaveLength(RECEIPT_ITEMS_MAX);
    expect(rejections(harness)).toEqual({ 'access actor_missing': ITEMS_MAX, 'access too_many': 10 });
  });

  it('appends a large request in pieces', async () => {
    const harness = await start({ requestBytesMax: 16 * 1024 * 1024, inFlightBytesMax: 64 * 1024 * 1024 });
    const events = Array.from({ length: 300 }, (_, index) => event(`e${index}`, { reason: 'x'.repeat(30_000) }));
    const answer = await post(harness, JSON.stringify({ events }));
    expect(answer.json).toMatchObject({ accepted: 300 });
    expect(harness.frames.length).toBeGreaterThan(1);
    expect(ids(harness)).toHaveLength(300);
    expect(harness.counters.total('accepted', { signal: 'logs' })).toBe(300);
  });
});
