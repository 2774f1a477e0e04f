import { randomBytes } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { type Resolve, systemResolve } from '../../src/notify/address.ts';
import { type ChannelSettings, openChannel } from '../../src/notify/channel.ts';
import { makeNotice } from '../../src/notify/notice.ts';
import { type Authority, createAuthority } from '../auth/certificates.ts';
import { makeAlert } from '../fixtures/alerts.ts';
import { startReceiver } from './receiver.ts';

const newSecret = () => `whsec_${randomBytes(32).toString('base64')}`;
const SECRET = newSecret();
const NOTICE = makeNotice(makeAlert(), 'raised', 1, 'hook', 0);

interface Given {
  readonly settings?: object;
  readonly ca?: string;
  readonly timeoutMs?: number;
  readonly resolve?: Resolve;
}

function channelTo(url: string, { settings = {}, ca, timeoutMs = 5_000, resolve = systemResolve }: Given = {}) {
  const whole = {
    ...{ name: 'hook', type: 'webhook', url, secret: [SECRET], headers: {}, allowPrivate: true, template: {} },
    ...settings,
  } as ChannelSettings;
  const clock = { nowMs: () => Date.now() };
  return openChannel(whole, { clock, resolve, ca, baseUrl: undefined, timeoutMs, version: '1.2.3' });
}

const open: { close(): Promise<void> }[] = [];
async function receiver(...given: Parameters<typeof startReceiver>) {
  const started = await startReceiver(...given);
  open.push(started);
  return started;
}
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

describe('a webhook', () => {
  it('is signed as Standard Webhooks says, with every secret, over what is sent', async () => {
    const { url, received } = await receiver();
    const [old, other] = [newSecret(), newSecret()];
    const headers = { 'x-team': 'audit', 'webhook-id': 'forged' };
    const channel = channelTo(url, { settings: { secret: [SECRET, old], headers } });
    expect(await channel.deliver(NOTICE)).toEqual({ kind: 'delivered', answer: '200 ok' });
    const [request] = received;
    const sent = request?.headers as Record<string, string>;
    expect(sent['webhook-id']).toBe(`${'a'.repeat(32)}.raised`);
    expect(sent['idempotency-key']).toBe(sent['webhook-id']);
    expect(sent['user-agent']).toBe('Spantrail/1.2.3');
    expect(sent['x-team']).toBe('audit');
    const body = request?.body ?? '';
    for (const secret of [SECRET, old]) {
      expect(new Webhook(secret).verify(body, sent)).toMatchObject({
        type: 'alert.raised',
        data: { title: '[high] Repeated failed logins', alert: { id: 'a'.repeat(32), count: 5 } },
      });
    }
    expect(() => new Webhook(other).verify(body, sent)).toThrow();
    expect(() => new Webhook(SECRET).verify(`${body} `, sent)).toThrow();
  });

  it.each([
    [204, {}, 'delivered'],
    [302, { location: 'http://127.0.0.1:1/' }, 'dead'],
    [400, {}, 'dead'],
    [404, {}, 'dead'],
    [410, {}, 'dead'],
    [401, {}, 'failed'],
    [403, {}, 'failed'],
    [408, {}, 'failed'],
    [429, { 'retry-after': '120' }, 'failed'],
    [500, {}, 'failed'],
    [503, {}, 'failed'],
  ])('answered with %i %o is %s', async (status, headers, kind) => {
    const { url, received } = await receiver((response) => response.writeHead(status, headers).end());
    const outcome = await channelTo(url).deliver(NOTICE);
    expect(outcome.kind).toBe(kind);
    expect(received).toHaveLength(1);
    if (outcome.kind !== 'delivered') expect(outcome.reason).toContain(String(status));
    if (outcome.kind === 'failed') expect(outcome.afterMs).toBe(status === 429 ? 120_000 : undefined);
  });

  it('takes no more of an answer than it needs', async () => {
    const { url } = await receiver((response) => {
      response.writeHead(500);
      const write = () => {
        while (!response.destroyed && response.write('x'.repeat(65_536)));
        response.once('drain', write);
      };
      write();
    });
    expect(await channelTo(url).deliver(NOTICE)).toEqual({ kind: 'failed', reason: `500 ${'x'.repeat(200)}` });
  });

  it('does not wait for who says nothing, nor for a name that is not found', async () => {
    const { url } = await receiver(() => undefined);
    expect(await channelTo(url, { timeoutMs: 200 }).deliver(NOTICE)).toEqual({
      kind: 'failed',
      reason: 'no answer within 0.2 s',
    });
    const never: Resolve = () => new Promise(() => undefined);
    const lost = channelTo('http://slow.example/', { timeoutMs: 100, resolve: never });
    expect(await lost.deliver(NOTICE)).toEqual({ kind: 'failed', reason: 'its name could not be resolved in time' });
  });

  it('does not go to private addresses unless it may: whatever the name says, before anything is sent', async () => {
    const { url, port, received } = await receiver();
    const local: Resolve = async () => [{ address: '127.0.0.1', family: 4 }];
    for (const [to, resolve] of [
      [url, systemResolve],
      [`http://[::ffff:127.0.0.1]:${port}/`, systemResolve],
      [`http://2130706433:${port}/`, systemResolve],
      [`http://hooks.example:${port}/`, local],
    ] as const) {
      const outcome = await channelTo(to, { resolve, settings: { allowPrivate: false } }).deliver(NOTICE);
      expect(outcome).toMatchObject({ kind: 'dead', reason: expect.stringContaining('allowPrivate') });
    }
    expect(received).toEqual([]);
    // The name is asked for once; what is connected to is that answer, and not a later one.
    let asked = 0;
    const changing: Resolve = async () => [{ address: asked++ === 0 ? '127.0.0.1' : '127.0.0.9', family: 4 }];
    const outcome = await channelTo(`http://hooks.example:${port}/`, { resolve: changing }).deliver(NOTICE);
    expect(outcome.kind).toBe('delivered');
    expect([asked, received[0]?.headers.host]).toEqual([1, `hooks.example:${port}`]);
  });

  describe('over TLS', () => {
    let authority: Authority | undefined;
    afterAll(() => authority?.remove());

    it('believes only the authorities of the machine and of the channel, and the certificate must be of the name', async () => {
      authority = createAuthority();
      const pair = authority.server();
      const { port, received } = await receiver(undefined, pair);
      const to = (host: string) => `https://${host}:${port}/hook`;
      const local: Resolve = async () => [{ address: '127.0.0.1', family: 4 }];
      const stranger = await channelTo(to('localhost'), { resolve: local }).deliver(NOTICE);
      expect(stranger).toMatchObject({ kind: 'failed', reason: expect.stringMatching(/certificate/) });
      const other = await channelTo(to('other.example'), { resolve: local, ca: authority.ca }).deliver(NOTICE);
      expect(other).toMatchObject({ kind: 'failed', reason: expect.stringMatching(/other\.example/) });
      expect(received).toEqual([]);
      const known = await channelTo(to('localhost'), { resolve: local, ca: authority.ca }).deliver(NOTICE);
      expect(known).toEqual({ kind: 'delivered', answer: '200 ok' });
    });
  });

  it.each([
    ['slack', { type: 'slack' }, 'blocks'],
    ['teams', { type: 'teams' }, 'attachments'],
    ['pagerduty', { type: 'pagerduty', routingKey: 'r0ut1ng' }, 'payload'],
  ])('as %s wants it', async (_, settings, key) => {
    const { url, received } = await receiver();
    expect(await channelTo(url, { settings }).deliver(NOTICE)).toMatchObject({ kind: 'delivered' });
    expect(received[0]?.headers['content-type']).toBe('application/json');
    expect(JSON.parse(received[0]?.body ?? '{}')).toHaveProperty(key);
    expect(received[0]?.headers['webhook-signature']).toBeUndefined();
  });
});
