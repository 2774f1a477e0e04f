import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, inject, it } from 'vitest';
import { makeTrace } from './clinic-evidence.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const elasticsearch = inject('elasticsearch')['9.5.0'];

let data: string;
let running: RunningProcess | undefined;
const cleanUps: (() => unknown)[] = [];

beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), 'spantrail-away-'));
});
afterEach(async () => {
  await running?.stop('SIGKILL');
  running = undefined;
  for (const cleanUp of cleanUps.splice(0)) await cleanUp();
  rmSync(data, { recursive: true, force: true });
});

async function listen(server: Server, port = 0): Promise<number> {
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

/** A port on which nothing listens. */
async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Leads connections to that port on to a server. */
async function openProxy(port: number, { hostname, port: serverPort }: URL): Promise<void> {
  const proxy = createServer((incoming) => {
    const outgoing = connect(Number(serverPort), hostname);
    for (const [one, other] of [
      [incoming, outgoing],
      [outgoing, incoming],
    ] as const) {
      one.pipe(other);
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
  });
  cleanUps.push(() => proxy.close());
  await listen(proxy, port);
}

/** Answers every request alike. */
async function answering(status: number, headers: Record<string, string>, body: object): Promise<string> {
  const server = createHttpServer((_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
  });
  cleanUps.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${await listen(server)}`;
}

function doctor(url: string): Promise<{ code: number; text: string }> {
  const words = ['src/cli/spantrail.mjs', 'doctor', '--data-dir', data, '--url', url];
  return new Promise((resolve) => {
    execFile(process.execPath, words, (error, text) => resolve({ code: error ? Number(error.code) : 0, text }));
  });
}

const start = (url: string, namespace = 'away') =>
  startProcess(['--data-dir', data, '--elasticsearch-url', url], { SPANTRAIL_NAMESPACE: namespace });

const PRODUCT = { 'x-elastic-product': 'Elasticsearch' };

describe('a start while Elasticsearch cannot be reached', () => {
  it('takes evidence, says what it waits for, also when nothing waits to be written, and stops cleanly', async () => {
    const port = await freePort();
    running = await start(`http://127.0.0.1:${port}`);
    const away = {
      state: 'retrying',
      error: expect.stringMatching(`127.0.0.1:${port} does not answer: .*ECONNREFUSED`),
    };
    expect((await running.pipeline()).store).toMatchObject(away);
    expect(running.log()).toMatch(/"reason":"[^"]*does not answer[^"]*","msg":"the store cannot be set up yet/);

    expect(await running.send('traces', makeTrace(0).payload)).toBe(200);
    await expect.poll(() => running?.log(), { timeout: 30_000 }).toContain('batch not stored, will be tried again');
    const { store, pending } = await running.pipeline();
    expect(store).toMatchObject(away);
    expect(pending.evidence).toBeGreaterThan(0);
    const { code, text } = await doctor(`http://127.0.0.1:${running.api}`);
    expect(text).toMatch(/BAD +store is retrying: Elasticsearch at .* does not answer/);
    expect(text).toContain('ingest is accepted');
    expect(code).toBe(1);
    const found = await fetch(`http://127.0.0.1:${running.api}/api/v1/records`);
    expect(found.status).toBe(503);
    expect(await running.stop()).toBe(0);
    // What can be expected is told in one line.
    expect(running.log()).not.toContain('"stack"');
  });

  it.each([
    { why: 'it has no room', status: 429, reason: 'too much', words: /overloaded \(429\)/ },
    { why: 'it refuses our rights', status: 401, reason: 'who is that', words: /refuses our credentials: who is that/ },
  ])('waits when $why', async ({ status, reason, words }) => {
    running = await start(await answering(status, PRODUCT, { error: { reason }, status }));
    const store = { state: 'retrying', error: expect.stringMatching(words) };
    expect((await running.pipeline()).store).toMatchObject(store);
    expect(await running.stop()).toBe(0);
  });

  it.each([
    {
      why: 'something else answers',
      status: 200,
      headers: {},
      words: /ended with 2 .*no Elasticsearch, or one .* old/s,
    },
    { why: 'it finds the request wrong', status: 400, headers: PRODUCT, words: /ended with 1 .*refuses the request/s },
  ])('does not start when $why', async ({ status, headers, words }) => {
    const url = await answering(status, headers, { error: { reason: 'no such thing' }, status });
    await expect(start(url)).rejects.toThrow(words);
  });

  it.skipIf('skipped' in elasticsearch)('sets it up and stores what waited once it is there', async () => {
    const port = await freePort();
    const namespace = `away-${randomBytes(4).toString('hex')}`;
    running = await start(`http://127.0.0.1:${port}`, namespace);
    expect(await running.send('traces', makeTrace(0).payload)).toBe(200);
    await expect.poll(() => running?.log(), { timeout: 30_000 }).toContain('batch not stored, will be tried again');
    await openProxy(port, new URL('url' in elasticsearch ? elasticsearch.url : ''));
    await running.settled();
    expect(running.log()).toContain('the store is set up');
    expect((await running.pipeline()).store).toEqual({ type: 'elasticsearch', state: 'writing' });
    const search = () => running?.search(`data_stream.namespace: ${namespace} and audit.entry: true`);
    await expect.poll(search, { timeout: 30_000 }).toHaveLength(1);
    expect(await running.stop()).toBe(0);
  });
});
