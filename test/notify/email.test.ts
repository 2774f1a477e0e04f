import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { SMTPServer, type SMTPServerOptions } from 'smtp-server';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Resolve, systemResolve } from '../../src/notify/address.ts';
import { type ChannelSettings, openChannel } from '../../src/notify/channel.ts';
import { makeNotice } from '../../src/notify/notice.ts';
import { type Authority, createAuthority } from '../auth/certificates.ts';
import { makeAlert } from '../fixtures/alerts.ts';

interface Mail {
  readonly text: string;
  readonly from: string;
  readonly to: readonly string[];
  readonly secure: boolean;
  readonly user: string | undefined;
}

const open: SMTPServer[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) await new Promise<void>((resolve) => server.close(resolve));
});

async function startServer(options: SMTPServerOptions = {}) {
  const mails: Mail[] = [];
  const server = new SMTPServer({
    authOptional: true,
    hideSTARTTLS: options.key === undefined,
    onData(stream, session, done) {
      const { mailFrom, rcptTo } = session.envelope;
      let text = '';
      stream.setEncoding('utf8');
      stream.on('data', (part: string) => {
        text += part;
      });
      stream.on('end', () => {
        const from = mailFrom === false ? '' : mailFrom.address;
        mails.push({
          text,
          from,
          to: rcptTo.map(({ address }) => address),
          secure: session.secure,
          user: session.user,
        });
        done();
      });
    },
    ...options,
  });
  server.on('error', () => undefined);
  open.push(server);
  const listening = server.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  return { mails, port: (listening.address() as AddressInfo).port };
}

const NOTICE = makeNotice(makeAlert(), 'raised', 1, 'mail', 0);

function mailTo(port: number, smtp: object = {}, more: object = {}, ca?: string, resolve: Resolve = systemResolve) {
  const settings = {
    ...{ name: 'mail', type: 'email', from: 'Spantrail <audit@example.com>', to: ['team@example.com'] },
    ...{ smtp: { host: 'localhost', port, security: 'none', ...smtp }, allowPrivate: true, template: {}, ...more },
  } as ChannelSettings;
  return openChannel(settings, {
    ...{ clock: { nowMs: () => 0 }, resolve, ca, baseUrl: undefined, timeoutMs: 3_000, version: '1' },
  });
}

/** Of a certificate for 127.0.0.1, by its name. */
const local: Resolve = async () => [{ address: '127.0.0.1', family: 4 }];

describe('mail', () => {
  let authority: Authority;
  let pair: { key: string; cert: string };
  beforeAll(() => {
    authority = createAuthority();
    pair = authority.server();
  });
  afterAll(() => authority.remove());

  it('has the sentence, and a Message-ID that a second attempt repeats', async () => {
    const { mails, port } = await startServer();
    const channel = mailTo(port, {}, { to: ['team@example.com', 'Bob <bob@example.com>'] }, undefined, local);
    expect((await channel.deliver(NOTICE)).kind).toBe('delivered');
    expect((await channel.deliver(NOTICE)).kind).toBe('delivered');
    const [first, second] = mails;
    expect(first).toMatchObject({ from: 'audit@example.com', to: ['team@example.com', 'bob@example.com'] });
    expect(first?.text).toContain('Subject: [high] Repeated failed logins\r\n');
    expect(first?.text).toContain('alice failed to log in 5 times within 2 minutes');
    expect(first?.text).toContain('Auto-Submitted: auto-generated');
    const id = `Message-ID: <${'a'.repeat(32)}.raised@example.com>`;
    expect(first?.text).toContain(id);
    expect(second?.text).toContain(id);
    const history = [{ at: '2026-11-22T11:00:00Z', by: 'bob', state: 'closed' as const }];
    await channel.deliver(makeNotice(makeAlert({ history }), 'closed', 1, 'mail', 0));
    expect(mails[2]?.text).toContain(`In-Reply-To: <${'a'.repeat(32)}.raised@example.com>`);
  });

  it('cannot be given further headers or recipients by what a record says', async () => {
    const { mails, port } = await startServer();
    const name = 'x\r\nBcc: all@example.com\r\n\r\nhello';
    const alert = makeAlert({ rule: { ...makeAlert().rule, name }, reason: 'a\r\n.\r\nRCPT TO:<all@example.com>' });
    const channel = mailTo(port, {}, {}, undefined, local);
    expect((await channel.deliver(makeNotice(alert, 'raised', 1, 'mail', 0))).kind).toBe('delivered');
    expect(mails).toHaveLength(1);
    expect(mails[0]?.to).toEqual(['team@example.com']);
    expect(mails[0]?.text.split('\r\n\r\n')[0]).not.toMatch(/^Bcc:/im);
  });

  it.each(['tls', 'starttls'] as const)('goes over %s with user and password', async (security) => {
    const { mails, port } = await startServer({
      ...{ ...pair, secure: security === 'tls', authOptional: false },
      onAuth: ({ username, password }, _, done) =>
        password === 'right' ? done(null, { user: username ?? '' }) : done(new Error('Invalid username or password')),
    });
    const to = (password: string, ca: string | undefined) =>
      mailTo(port, { security, user: 'spantrail', password }, {}, ca, local).deliver(NOTICE);
    expect(await to('right', authority.ca)).toMatchObject({ kind: 'delivered' });
    expect(mails).toMatchObject([{ secure: true, user: 'spantrail' }]);
    // May be mended in the settings, so it is tried again.
    const refused = await to('wrong', authority.ca);
    expect(refused).toMatchObject({ kind: 'failed', reason: expect.stringContaining('535') });
    expect(JSON.stringify(refused)).not.toContain('wrong');
    expect(await to('right', undefined)).toMatchObject({
      kind: 'failed',
      reason: expect.stringMatching(/certificate/),
    });
    expect(mails).toHaveLength(1);
  });

  it('does not go without STARTTLS where that is asked for, so that no password is read on the way', async () => {
    let asked = 0;
    const { mails, port } = await startServer({
      onAuth: (_, __, done) => {
        asked++;
        done(null, { user: 'x' });
      },
    });
    const smtp = { security: 'starttls', user: 'spantrail', password: 'right' };
    expect(await mailTo(port, smtp, {}, authority.ca, local).deliver(NOTICE)).toMatchObject({ kind: 'failed' });
    expect([asked, mails.length]).toEqual([0, 0]);
  });

  it.each([
    ['550 for good', 550, 'dead'],
    ['451 for now', 451, 'failed'],
  ])('answered with %s', async (_, responseCode, kind) => {
    const { port } = await startServer({
      onMailFrom: (__, ___, done) => done(Object.assign(new Error('not from you'), { responseCode })),
    });
    expect(await mailTo(port, {}, {}, undefined, local).deliver(NOTICE)).toMatchObject({
      kind,
      reason: expect.stringContaining(`${responseCode} not from you`),
    });
  });

  it('that only some may get is not sent to them again', async () => {
    const { mails, port } = await startServer({
      onRcptTo: ({ address }, _, done) => done(address.startsWith('no') ? new Error('no such user') : undefined),
    });
    const channel = mailTo(port, {}, { to: ['team@example.com', 'nobody@example.com'] }, undefined, local);
    expect(await channel.deliver(NOTICE)).toMatchObject({
      kind: 'dead',
      reason: expect.stringMatching(/sent, but not to nobody@example.com/),
    });
    expect(mails).toHaveLength(1);
  });

  it('is not sent to a private address unless it may, nor where nothing listens', async () => {
    const { mails, port } = await startServer();
    const outcome = await mailTo(port, {}, { allowPrivate: false }).deliver(NOTICE);
    expect(outcome).toMatchObject({ kind: 'dead', reason: expect.stringContaining('allowPrivate') });
    expect(mails).toEqual([]);
    expect(await mailTo(1, {}, {}, undefined, local).deliver(NOTICE)).toMatchObject({ kind: 'failed' });
  });
});
