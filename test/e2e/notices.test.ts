import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SMTPServer } from 'smtp-server';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { NoticesAnswer } from '../../src/api/alert-contract.ts';
import type { Alert } from '../../src/core/alert.ts';
import { startReceiver } from '../notify/receiver.ts';
import { encodeTraces } from '../otlp/encode.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

/** A refused access of a real process, told to a real mail server and a webhook that is away for a while, over a kill. */
const SECRET = `whsec_${randomBytes(32).toString('base64')}`;
const PASSWORD = randomBytes(12).toString('hex');
const folder = mkdtempSync(join(tmpdir(), 'spantrail-notices-'));
const mails: string[] = [];
let isAway = true;
let receiver: Awaited<ReturnType<typeof startReceiver>>;
let mailServer: SMTPServer;
let spantrail: RunningProcess;
const logs: string[] = [];

const start = () =>
  startProcess(['--config', join(folder, 'spantrail.yaml'), '--data-dir', join(folder, 'data'), '--store', 'duckdb'], {
    SECRET,
    PASSWORD,
  });

beforeAll(async () => {
  receiver = await startReceiver((response) => response.writeHead(isAway ? 503 : 204).end());
  mailServer = new SMTPServer({
    disabledCommands: ['STARTTLS'],
    allowInsecureAuth: true,
    onAuth: ({ password }, _, done) => done(password === PASSWORD ? null : new Error('no'), { user: 'spantrail' }),
    async onData(stream, _, done) {
      let text = '';
      for await (const part of stream.setEncoding('utf8')) text += part;
      mails.push(text);
      done();
    },
  });
  const listening = mailServer.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  const rule = {
    ...{ id: 'refused', name: 'Refused', type: 'query', severity: 'high', query: 'audit.decision: deny' },
    ...{ group_by: 'service.name', reason: 'refused: ${audit.target.id}', suppress: '1h' },
  };
  writeFileSync(join(folder, 'rules.yaml'), JSON.stringify([rule]));
  const smtp = {
    ...{ host: '127.0.0.1', port: (listening.address() as AddressInfo).port, security: 'none' },
    ...{ user: 'spantrail', password: '${env:PASSWORD}' },
  };
  const channels = [
    { name: 'hook', type: 'webhook', url: receiver.url, secret: '${env:SECRET}', allowPrivate: true },
    { name: 'mail', type: 'email', smtp, from: 'audit@example.com', to: ['team@example.com'], allowPrivate: true },
  ];
  const settings = {
    detect: { shippedRules: false, rules: { files: [join(folder, 'rules.yaml')] } },
    notify: { channels, retryMaxMs: '1s' },
  };
  writeFileSync(join(folder, 'spantrail.yaml'), JSON.stringify(settings));
  spantrail = await start();
});
afterAll(async () => {
  await spantrail?.stop();
  await receiver?.close();
  await new Promise<void>((resolve) => mailServer.close(resolve));
  rmSync(folder, { recursive: true, force: true });
});

async function run(...words: string[]): Promise<string> {
  const environment = { ...process.env, SPANTRAIL_URL: `http://127.0.0.1:${spantrail.api}` };
  const { stdout } = await promisify(execFile)(process.execPath, ['src/cli/spantrail.mjs', ...words], {
    env: environment,
  });
  return stdout;
}

async function notices(): Promise<NoticesAnswer> {
  return (await fetch(`http://127.0.0.1:${spantrail.api}/api/v1/notices`)).json() as Promise<NoticesAnswer>;
}

it('people hear of a refused access once, though the process is killed while a receiver is away', {
  timeout: 90_000,
}, async () => {
  const startNs = BigInt(Date.now()) * 1_000_000n;
  const attributes = { 'http.request.method': 'GET', 'url.path': '/safe', 'http.response.status_code': 403 };
  const span = {
    traceId: randomBytes(16).toString('hex'),
    spanId: randomBytes(8).toString('hex'),
    kind: 2,
    name: 'GET',
  };
  const spans = [{ ...span, attributes, startNs, endNs: startNs + 1_000_000n }];
  const payload = encodeTraces([{ attributes: { 'service.name': 'vault' }, spans }]);
  expect(await spantrail.send('traces', payload)).toBe(200);
  await expect.poll(() => mails.length, { timeout: 20_000 }).toBe(1);
  expect(mails[0]).toContain('Subject: [high] Refused\r\n');
  await expect
    .poll(async () => (await notices()).notices.map(({ channel }) => channel), { timeout: 10_000 })
    .toEqual(['hook']);
  await expect.poll(() => receiver.received.length, { timeout: 10_000 }).toBeGreaterThan(1);

  logs.push(spantrail.log());
  await spantrail.stop('SIGKILL');
  isAway = false;
  const before = receiver.received.length;
  spantrail = await start();
  await expect.poll(async () => (await notices()).notices, { timeout: 20_000 }).toEqual([]);
  const ids = new Set(receiver.received.map(({ headers }) => headers['webhook-id']));
  expect(receiver.received.length).toBe(before + 1);
  expect(ids.size).toBe(1);
  const last = receiver.received.at(-1);
  const told = new Webhook(SECRET).verify(last?.body ?? '', last?.headers as Record<string, string>);
  expect(told).toMatchObject({
    type: 'alert.raised',
    data: { alert: { group: { 'service.name': 'vault' }, count: 1 } },
  });

  const [alert, other] = (await run('alerts', '--json'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Alert);
  expect(other).toBeUndefined();
  const [record] = await spantrail.search(`trace.id: ${span.traceId}`);
  expect(alert).toMatchObject({ state: 'open', records: [record?.event.id], traces: [span.traceId] });
  const id = alert?.id.slice(0, 12) ?? '';
  expect(await run('alerts', 'close', id, '--note', 'a drill')).toContain('closed');
  expect(await run('alerts', 'show', id)).toMatch(/history {2}\S+ closed by local: a drill/);
  expect(await run('show', record?.event.id ?? '')).toMatch(/alert {2}high, closed: refused: .*safe/);
  expect(await run('trace', span.traceId)).toContain('alert: high, closed: refused: ');
  await expect.poll(() => receiver.received.length, { timeout: 10_000 }).toBe(before + 2);
  expect(JSON.parse(receiver.received.at(-1)?.body ?? '{}')).toMatchObject({ type: 'alert.closed' });
  expect(await run('notify', 'test', 'mail')).toContain('mail took it: 250');
  expect(mails).toHaveLength(2);
  logs.push(spantrail.log());
  for (const secret of [SECRET, PASSWORD]) expect(logs.join('')).not.toContain(secret);
});
