import { createHmac, randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { PayloadReader } from '../../src/otlp/decode.ts';
import { compileKeys } from '../../src/otlp/key-set.ts';
import { scanLogs } from '../../src/otlp/scan.ts';
import { checkSignature } from '../../src/receive/events-signature.ts';
import { callHttp, type Harness, type HarnessOptions, NOW_MS, startHarness } from './harness.ts';

const harnesses: Harness[] = [];

async function start(options?: HarnessOptions): Promise<Harness> {
  const harness = await startHarness(options);
  harnesses.push(harness);
  return harness;
}

afterEach(async () => {
  await Promise.all(harnesses.splice(0).map((harness) => harness.close()));
});

const JSON_TYPE = { 'content-type': 'application/json' };

async function post(
  harness: Harness,
  preset: string,
  body: string | Buffer,
  headers: Record<string, string> = JSON_TYPE,
) {
  const answer = await callHttp(`${harness.url}/v1/events/${preset}`, { headers, body });
  return { status: answer.status, headers: answer.headers, json: JSON.parse(answer.body.toString()) };
}

/** Bodies and attributes of the log records that were kept. */
function kept(harness: Harness): { body: unknown; attributes: Record<string, unknown> }[] {
  const found: { body: unknown; attributes: Record<string, unknown> }[] = [];
  for (const { payload, note } of harness.frames) {
    const reader = new PayloadReader(payload, 'logs', note, compileKeys(['*']));
    scanLogs(payload, ({ itemStart }) => {
      const { body, attributes } = reader.logRecord(itemStart);
      found.push({ body: JSON.parse(String(body)), attributes: Object.fromEntries(attributes) });
    });
  }
  return found;
}

const audit = (id: string) => ({ kind: 'Event', auditID: id, verb: 'get', stage: 'ResponseComplete' });

describe('webhooks', () => {
  it.each<[string, string, string | Buffer, Record<string, string>, number]>([
    ['one object', 'hoop', JSON.stringify({ id: 1 }), JSON_TYPE, 1],
    ['one object over lines', 'hoop', JSON.stringify({ id: 1, at: { b: 2 } }, null, 2), JSON_TYPE, 1],
    ['an array', 'opa', JSON.stringify([{ decision_id: 'a' }, { decision_id: 'b' }]), JSON_TYPE, 2],
    ['a compressed array', 'opa', gzipSync('[{"decision_id":"a"}]'), { ...JSON_TYPE, 'content-encoding': 'gzip' }, 1],
    ['lines', 'kubernetes', `${JSON.stringify(audit('a'))}\n${JSON.stringify(audit('b'))}\n`, JSON_TYPE, 2],
    [
      'an EventList',
      'kubernetes',
      JSON.stringify({
        kind: 'EventList',
        apiVersion: 'audit.k8s.io/v1',
        metadata: {},
        items: [audit('a'), audit('b')],
      }),
      JSON_TYPE,
      2,
    ],
    [
      'CloudTrail’s Records',
      'opa',
      JSON.stringify({ Records: [{ eventID: 'a' }] }),
      { 'content-type': 'text/plain' },
      1,
    ],
    [
      'EventBridge’s envelope of a record of CloudTrail',
      'opa',
      JSON.stringify({ 'detail-type': 'AWS API Call via CloudTrail', detail: { eventVersion: '1.11', eventID: 'a' } }),
      JSON_TYPE,
      1,
    ],
    ['an event with a list of its own', 'hoop', JSON.stringify({ id: 1, events: [1, 2] }), JSON_TYPE, 1],
    ['without a type', 'hoop', '{"id":1}', {}, 1],
    ['a slash at the end', 'hoop/', '{"id":1}', JSON_TYPE, 1],
  ])('takes %s', async (_, preset, body, headers, items) => {
    const harness = await start();
    const answer = await post(harness, preset, body, headers);
    expect(answer).toMatchObject({ status: 200, json: { accepted: items, rejected: [] } });
    const found = kept(harness);
    expect(found).toHaveLength(items);
    const attributes = { 'spantrail.preset': preset.replace('/', ''), 'spantrail.via': 'webhook' };
    for (const each of found) expect(each.attributes).toEqual(attributes);
    expect(harness.frames[0]?.note).toMatchObject({ sender: 'webhook', trusted: true });
    expect(harness.counters.total('requests', { transport: 'http', signal: 'events', status: '200' })).toBe(1);
  });

  it('keeps the same bytes of an item however it is laid out and batched, and long integers to the digit', async () => {
    const harness = await start();
    const item = '{"id":12345678901234567890,"a":[1, 2]}';
    for (const body of [item, `[${item}]`, ` {"items" : [\n${item}\n]}`, `${item}\n`])
      await post(harness, 'hoop', body);
    expect(new Set(harness.frames.map(({ payload }) => payload.toString('hex'))).size).toBe(1);
    expect(kept(harness)[0]?.body).toEqual({ id: '12345678901234567890', a: [1, 2] });
  });

  it('keeps good neighbours of what is no event, and says which', async () => {
    const harness = await start();
    const huge = { id: 2, small: 1, blob: 'x'.repeat(1_100_000) };
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    const lines = ['{"id":1}', '7', '{oops', JSON.stringify(huge), `{"deep":${deep}}`, '{"id":3}'];
    const harnessLarge = await start({ requestBytesMax: 8 * 1024 * 1024 });
    const answer = await post(harnessLarge, 'hoop', lines.join('\n'));
    expect(answer).toMatchObject({
      status: 200,
      json: {
        accepted: 2,
        rejectedCount: 4,
        rejected: [
          { index: 1, code: 'invalid', reason: 'must be an object, not the number 7' },
          { index: 2, code: 'not_json', field: 'line 3' },
          { index: 3, code: 'too_large', reason: expect.stringContaining('most of it is in "blob"') },
          { index: 4, code: 'invalid', reason: 'is nested too deep to be read' },
        ],
      },
    });
    expect(kept(harnessLarge).map(({ body }) => body)).toEqual([{ id: 1 }, { id: 3 }]);
    expect(await post(harness, 'hoop', 'x=1')).toMatchObject({ status: 400, json: { message: /not valid JSON/ } });
    expect(harness.counters.total('rejected', { signal: 'events', reason: 'not_json' })).toBe(1);
  });

  it.each(['nope', '', 'hoop/x', '%2e'])(
    'answers 404 for the preset "%s" and lists those there are',
    async (preset) => {
      const harness = await start();
      const answer = await post(harness, preset, '{}');
      expect(answer).toMatchObject({
        status: 404,
        json: { message: expect.stringContaining('kubernetes, opa, hoop') },
      });
      expect(harness.counters.total('rejected', { signal: 'events', reason: 'unknown_preset' })).toBe(1);
    },
  );
});

/** As Svix's libraries sign. */
function signed(secret: string, body: string, seconds = NOW_MS / 1000, prefix = 'svix'): Record<string, string> {
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
  const signature = createHmac('sha256', key).update(`msg_1.${seconds}.${body}`).digest('base64');
  return {
    ...JSON_TYPE,
    [`${prefix}-id`]: 'msg_1',
    [`${prefix}-timestamp`]: String(seconds),
    [`${prefix}-signature`]: `v1,${randomBytes(32).toString('base64')} v1a,x v1,${signature}`,
  };
}

describe('a webhook’s signature', () => {
  const secret = `whsec_${randomBytes(24).toString('base64')}`;
  const other = `whsec_${randomBytes(24).toString('base64')}`;
  const bare = randomBytes(24).toString('base64');
  const plain = randomBytes(16).toString('hex');
  const body = '{"id":"e1"}';
  const digest = (key: string) => createHmac('sha256', key).update(body).digest('hex');
  const basic = (password: string) => `Basic ${Buffer.from(`spantrail:${password}`).toString('base64')}`;
  const now = NOW_MS / 1000;

  it.each<[string, Record<string, string>, string]>([
    ['Svix’s', signed(secret, body), ''],
    ['Standard Webhooks’', signed(secret, body, now, 'webhook'), ''],
    ['an older secret’s', signed(other, body), ''],
    ['one at the edge of the window', signed(secret, body, now - 300), ''],
    ['one with a secret that lost its prefix', signed(bare, body), ''],
    ['GitHub’s', { 'x-hub-signature-256': `sha256=${digest(plain)}` }, ''],
    ['the bearer secret', { authorization: `Bearer ${plain}` }, ''],
    ['the bare secret', { authorization: plain }, ''],
    ['the secret as password', { authorization: basic(plain) }, ''],
    ['none', {}, 'signature_missing'],
    ['one for another body', signed(secret, '{"id":"e2"}'), 'signature_wrong'],
    ['one with another secret', signed(`whsec_${randomBytes(24).toString('base64')}`, body), 'signature_wrong'],
    ['one without time', { ...signed(secret, body), 'svix-timestamp': '' }, 'signature_wrong'],
    ['one with another time', { ...signed(secret, body), 'svix-timestamp': String(now + 1) }, 'signature_wrong'],
    ['one that is too old', signed(secret, body, now - 301), 'signature_expired'],
    ['one from the future', signed(secret, body, now + 301), 'signature_expired'],
    ['a wrong one of GitHub’s kind', { 'x-hub-signature-256': `sha256=${digest('x')}` }, 'signature_wrong'],
    ['half of one', { 'x-hub-signature-256': `sha256=${digest(plain).slice(0, 32)}` }, 'signature_wrong'],
    ['a wrong bearer', { authorization: 'Bearer wrong' }, 'signature_wrong'],
    ['a wrong password', { authorization: basic('wrong') }, 'signature_wrong'],
  ])('%s is judged', async (_, headers, code) => {
    const settings = { secrets: [secret, other, bare, plain], scheme: undefined, toleranceMs: 300_000 };
    const harness = await start({ signatures: new Map([['hoop', settings]]) });
    const answer = await post(harness, 'hoop', body, { ...JSON_TYPE, ...headers });
    expect(answer.status).toBe(code === '' ? 200 : 401);
    expect(harness.frames).toHaveLength(code === '' ? 1 : 0);
    if (code !== '') {
      expect(harness.counters.total('rejected', { signal: 'events', reason: code })).toBe(1);
      expect(answer.json.code).toBe(16);
    }
    expect((await post(harness, 'opa', body)).status).toBe(200);
  });

  it('of another kind than the one that must be there does not count', () => {
    const settings = { secrets: [plain], scheme: 'standard_webhooks', toleranceMs: 300_000 } as const;
    const check = checkSignature(settings, { authorization: `Bearer ${plain}` }, Buffer.from(body), NOW_MS);
    expect(check).toMatchObject({ ok: false, code: 'signature_missing' });
  });

  it('makes a sender trusted wherever it comes from', async () => {
    const settings = { secrets: [secret], scheme: undefined, toleranceMs: 300_000 };
    const harness = await start({ signatures: new Map([['hoop', settings]]) });
    const origin = { origin: 'https://anywhere.example' };
    await post(harness, 'opa', body, { ...JSON_TYPE, ...origin });
    await post(harness, 'hoop', body, { ...signed(secret, body), ...origin });
    expect(harness.frames.map(({ note }) => note.trusted)).toEqual([false, true]);
  });
});
