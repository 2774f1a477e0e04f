import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SMTPServer } from 'smtp-server';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Alert } from '../../src/core/alert.ts';
import { mmdb } from '../fixtures/mmdb.ts';
import { startReceiver } from '../notify/receiver.ts';
import { encodeLogs, encodeTraces } from '../otlp/encode.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

/** A real process with the shipped rules, a real mail server and a receiver that verifies what it is told. */
const SECRET = `whsec_${randomBytes(32).toString('base64')}`;
/** A machine with much else to do takes a multiple of what is usual; how long it took is printed, not judged. */
const WAIT_MS = 60_000;
const POLL_MS = 10;
const HOUR_MS = 3_600_000;
const INTERVAL_MS = 300_000;
const folder = mkdtempSync(join(tmpdir(), 'spantrail-watch-'));
/** Rule ids of the webhook, rule names of the mails, with the time at which they came. */
const hooked: { rule: string; atMs: number }[] = [];
const mailed: { subject: string; atMs: number }[] = [];
let receiver: Awaited<ReturnType<typeof startReceiver>>;
let mailServer: SMTPServer;
let spantrail: RunningProcess;

beforeAll(async () => {
  receiver = await startReceiver((response, { headers, body }) => {
    const atMs = performance.now();
    const told = new Webhook(SECRET).verify(body, headers as Record<string, string>) as { data: { alert: Alert } };
    hooked.push({ rule: told.data.alert.rule.id, atMs });
    response.writeHead(204).end();
  });
  mailServer = new SMTPServer({
    disabledCommands: ['STARTTLS'],
    authOptional: true,
    async onData(stream, _, done) {
      let text = '';
      for await (const part of stream.setEncoding('utf8')) text += part;
      mailed.push({ subject: /^Subject: (.*)\r$/m.exec(text)?.[1] ?? '', atMs: performance.now() });
      done();
    },
  });
  const listening = mailServer.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  const smtp = { host: '127.0.0.1', port: (listening.address() as AddressInfo).port, security: 'none' };
  const places = join(folder, 'places.mmdb');
  const country = (code: string) => ({ country: { iso_code: code } });
  writeFileSync(places, mmdb({ '192.0.2.0/24': country('CH'), '203.0.113.0/24': country('BR') }));
  const settings = {
    origin: { databases: [places] },
    // Whether it is their working hours depends on when the test runs.
    detect: { rules: { off: ['outside-working-hours'] } },
    notify: {
      channels: [
        { name: 'hook', type: 'webhook', url: receiver.url, secret: '${env:SECRET}', allowPrivate: true },
        { name: 'mail', type: 'email', smtp, from: 'audit@example.com', to: ['team@example.com'], allowPrivate: true },
      ],
    },
  };
  writeFileSync(join(folder, 'spantrail.yaml'), JSON.stringify(settings));
  const args = ['--config', join(folder, 'spantrail.yaml'), '--data-dir', join(folder, 'data'), '--store', 'duckdb'];
  spantrail = await startProcess(args, { SECRET });
});
afterAll(async () => {
  await spantrail?.stop();
  await receiver?.close();
  await new Promise<void>((resolve) => mailServer.close(resolve));
  rmSync(folder, { recursive: true, force: true });
});

async function access(...events: readonly object[]): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${spantrail.http}/v1/access`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(events),
  });
  expect(await response.json()).toMatchObject({ accepted: events.length, rejectedCount: 0 });
}

/** When the search finds so many, by the monotonic clock. */
async function searchable(query: string, count: number): Promise<number> {
  for (const until = performance.now() + WAIT_MS; ; await sleep(POLL_MS)) {
    const found = await spantrail.search(query);
    if (found.length >= count) return performance.now();
    if (performance.now() > until) throw new Error(`${query}: ${found.length} of ${count}`);
  }
}

function several<One>(count: number, oneOf: (index: number) => One): One[] {
  return Array.from({ length: count }, (_, at) => oneOf(at));
}

/** In the interval before the present one, so that none of it falls into the next. */
const spikeMs = Math.floor(Date.now() / INTERVAL_MS - 1) * INTERVAL_MS + 1000;
const invoices = (timeMs: number, duration: string) => ({
  ...{ time: new Date(timeMs).toISOString(), service: 'clinic', actor: { type: 'service', id: 'insurance-export' } },
  ...{ action: 'GET', target: { type: 'endpoint', id: 'invoices', name: 'clinic GET /invoices' }, duration },
  outcome: 'success',
});

async function failedLogins(): Promise<void> {
  const startNs = BigInt(Date.now()) * 1_000_000n;
  const spans = several(6, (at) => ({
    ...{ traceId: randomBytes(16).toString('hex'), spanId: randomBytes(8).toString('hex'), kind: 2 },
    ...{ name: 'POST /login', startNs, endNs: startNs + 1_000_000n },
    attributes: {
      ...{ 'http.request.method': 'POST', 'http.route': '/login', 'url.path': '/login' },
      ...{ 'http.response.status_code': 401, 'client.address': '198.51.100.66' },
      'http.request.header.authorization': [`Basic ${Buffer.from(`dora:guess-${at}`).toString('base64')}`],
    },
  }));
  expect(await spantrail.send('traces', encodeTraces([{ attributes: { 'service.name': 'gateway' }, spans }]))).toBe(
    200,
  );
}

async function outOfBand(): Promise<void> {
  const line = {
    timestamp: new Date().toISOString().replace('T', ' ').replace('Z', ' UTC'),
    ...{ user: 'dba', dbname: 'clinic', pid: 4712, remote_host: '10.0.0.9', remote_port: 50114 },
    ...{ session_id: '6741a2f1.1268', line_num: 6, error_severity: 'LOG', application_name: 'psql' },
    message: 'AUDIT: SESSION,3,1,READ,SELECT,TABLE,public.visits,select * from visits,<none>',
  };
  const attributes = { 'service.name': 'clinic-db' };
  const logs = [{ timeNs: BigInt(Date.now()) * 1_000_000n, body: JSON.stringify(line) }];
  expect(await spantrail.send('logs', encodeLogs([{ attributes, logs }]))).toBe(200);
}

/** What happens, and the query that finds all of it once the access that crosses the line is stored. */
const SITUATIONS: readonly { rule: string; name: string; query: string; count: number; happen(): Promise<void> }[] = [
  {
    ...{ rule: 'repeated-failed-logins', name: 'Repeated failed logins' },
    ...{ query: 'audit.actor.claimed: dora', count: 6 },
    happen: failedLogins,
  },
  {
    ...{ rule: 'new-country', name: 'New country', query: 'user.id: alice', count: 2 },
    happen: async () => {
      const visit = (ip: string) => ({
        ...{ id: ip, time: new Date().toISOString(), actor: { id: 'alice' }, action: 'open', target: 'wards/3' },
        outcome: 'success',
        source: { ip },
      });
      await access(visit('192.0.2.7'));
      await searchable('user.id: alice', 1);
      await access(visit('203.0.113.7'));
    },
  },
  {
    ...{ rule: 'mass-read', name: 'Mass read', query: 'user.id: bela', count: 60 },
    happen: () =>
      access(
        ...several(60, (at) => ({
          ...{ id: `read-${at}`, time: new Date().toISOString(), actor: { id: 'bela' }, action: 'read' },
          outcome: 'success',
          target: { type: 'patient', id: `patients/${at}` },
        })),
      ),
  },
  {
    ...{ rule: 'out-of-band', name: 'Access around the application', count: 1 },
    query: 'audit.join.state: out_of_band',
    happen: outOfBand,
  },
  {
    ...{ rule: 'latency-above-baseline', name: 'Latency far above its baseline', query: 'audit.target.id: invoices' },
    count: 38,
    happen: async () => {
      // What was usual, in the order in which it was: a rule does not wait for evidence that is hours late.
      for (let hours = 30; hours > 22; hours--) {
        await access(invoices(spikeMs - hours * HOUR_MS, `${20 + (hours % 5)}ms`));
        await searchable('audit.target.id: invoices', 31 - hours);
      }
      await access(...several(30, (at) => invoices(spikeMs + at * 1000, '900ms')));
    },
  },
];

it('tells people by mail and webhook of each abnormal situation once', { timeout: 6 * WAIT_MS }, async () => {
  for (const { rule, name, query, count, happen } of SITUATIONS) {
    await happen();
    const foundMs = await searchable(query, count);
    const hook = () => hooked.find((one) => one.rule === rule);
    const mail = () => mailed.find(({ subject }) => subject.endsWith(`] ${name}`));
    await expect.poll(() => hook() && mail(), { timeout: WAIT_MS, interval: POLL_MS }).toBeDefined();
    const after = (came: { atMs: number } | undefined) => `${((came?.atMs ?? 0) - foundMs).toFixed(0)} ms`;
    console.log(`${rule}: webhook ${after(hook())}, mail ${after(mail())} after the search found the accesses`);
  }
  await spantrail.settled();
  const response = await fetch(`http://127.0.0.1:${spantrail.api}/api/v1/alerts?limit=100`);
  const { alerts } = (await response.json()) as { alerts: Alert[] };
  const expected = SITUATIONS.map(({ rule }) => rule).sort();
  expect(alerts.map(({ rule }) => rule.id).sort()).toEqual(expected);
  expect(hooked.map(({ rule }) => rule).sort()).toEqual(expected);
  expect(mailed.map(({ subject }) => subject.replace(/^\[\w+\] /, '')).sort()).toEqual(
    SITUATIONS.map(({ name }) => name).sort(),
  );
  for (const { records } of alerts) expect(records.length).toBeGreaterThan(0);
});
