import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { startStoreCare } from '../../src/app/store-care.ts';
import { systemClock } from '../../src/core/clock.ts';
import { Counters } from '../../src/core/metrics.ts';
import type { Finding } from '../../src/store/care.ts';
import { periodEndMs } from '../../src/store/elasticsearch/indices.ts';
import { openElasticsearchStore } from '../../src/store/elasticsearch/store.ts';
import { SETTINGS } from './elasticsearch-records.ts';

/** A stand-in for servers that cannot be had here: it says its version, and has nothing else. */
async function pretend(version: string, asked: string[] = []): Promise<string> {
  const server = createServer(({ url = '', headers }, response) => {
    asked.push(`${url} ${headers.authorization ?? ''}`);
    const isNodes = url.startsWith('/_nodes/');
    const answer = isNodes ? { nodes: { one: { name: 'es01', version } } } : { error: { reason: 'no such thing' } };
    const head = { 'content-type': 'application/json', 'x-elastic-product': 'Elasticsearch' };
    response.writeHead(isNodes ? 200 : 404, head).end(JSON.stringify(answer));
  });
  return listening(server);
}

async function refuseAll(status: number, body: object): Promise<string> {
  return listening(
    createServer((_, response) => {
      const head = { 'content-type': 'application/json', 'x-elastic-product': 'Elasticsearch' };
      response.writeHead(status, head).end(JSON.stringify(body));
    }),
  );
}

async function listening(server: Server): Promise<string> {
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  servers.push(server);
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

describe('a cluster of an unsupported version', () => {
  it.each(['7.17.29', '8.0.0', '8.18.9', '10.0.0'])(
    '%s is told in one line and waited for, so that an upgrade mends it',
    async (version) => {
      const store = await openElasticsearchStore({ ...SETTINGS, urls: [await pretend(version)] });
      const text = `Elasticsearch ${version} (node es01) is no version that Spantrail works with; 8.19 and 9 are supported`;
      await expect(store.setUp()).rejects.toMatchObject({ code: 'store_unavailable', message: text });
      expect(await store.care?.inspect()).toContainEqual({ kind: 'unsupported_server', state: 'bad', text });
      await store.close();
    },
  );

  it.each([
    [400, { type: 'media_type_header_exception', reason: 'Invalid media-type value on headers [Accept]' }],
    [406, 'Content-Type header [application/vnd.elasticsearch+json; compatible-with=8] is not supported'],
  ])('one that refuses the very form of a request (%i) is told and waited for, too', async (status, error) => {
    const store = await openElasticsearchStore({ ...SETTINGS, urls: [await refuseAll(status, { error, status })] });
    const text = expect.stringContaining('of no version that Spantrail works with; 8.19 and 9 are supported');
    await expect(store.setUp()).rejects.toMatchObject({ code: 'store_unavailable', message: text });
    expect(await store.care?.inspect()).toContainEqual({ kind: 'unsupported_server', state: 'bad', text });
    await store.close();
  });

  it.each(['8.19.0', '8.20.1', '9.0.0', '9.5.0-SNAPSHOT'])('%s is supported', async (version) => {
    const store = await openElasticsearchStore({ ...SETTINGS, urls: [await pretend(version)] });
    const kinds = (await store.care?.inspect())?.map(({ kind }) => kind);
    expect(kinds).toEqual(['unprotected', 'not_inspected']);
    await store.close();
  });
});

it('sends an API key as the server wants it', async () => {
  const asked: string[] = [];
  const apiKey = Buffer.from('an id:a key').toString('base64');
  const store = await openElasticsearchStore({ ...SETTINGS, urls: [await pretend('9.5.0', asked)], apiKey });
  await store.care?.inspect();
  expect(asked.length).toBeGreaterThan(3);
  expect(asked.every((line) => line.endsWith(` ApiKey ${apiKey}`))).toBe(true);
  await store.close();
});

it.each([
  ['spantrail-audit-default-2026.11.22', '2026-11-23T00:00:00Z'],
  ['spantrail-revisions-eu-west_1-2026.12.31', '2027-01-01T00:00:00Z'],
  ['spantrail-audit-default-2026.12', '2027-01-01T00:00:00Z'],
  ['spantrail-audit-default-2026.w53', '2027-01-04T00:00:00Z'],
  ['spantrail-audit-default-2027.w01', '2027-01-11T00:00:00Z'],
  ['spantrail-audit-default-2024.02.29', '2024-03-01T00:00:00Z'],
  ['spantrail-audit-default', undefined],
  ['spantrail-audit-2026.11.22', undefined],
  ['orders-2026.11.22', undefined],
  ['spantrail-audit-default-2026.11.22-copy', undefined],
])('the period of %s ends at %s', (index, end) => {
  expect(periodEndMs(index)).toBe(end === undefined ? undefined : Date.parse(end));
});

it('tells what is found once, when it begins and when it ends, and goes on after a failure', async () => {
  const finding: Finding = { kind: 'read_only_index', state: 'bad', text: 'an index is read-only' };
  const rounds: (readonly Finding[] | Error)[] = [[finding], [finding], new Error('away'), [], [finding]];
  let round = 0;
  const care = {
    inspect: async () => {
      const found = rounds[Math.min(round++, rounds.length - 1)] ?? [];
      if (found instanceof Error) throw found;
      return found;
    },
  };
  const lines: string[] = [];
  const counters = new Counters();
  const log = {
    info: (_: object, text: string) => lines.push(`info ${text}`),
    warn: (_: object, text: string) => lines.push(`warn ${text}`),
  };
  const running = startStoreCare({ care, clock: systemClock, counters, log, inspectMs: 1 });
  await expect.poll(() => round, { timeout: 10_000 }).toBeGreaterThan(6);
  running.stop();
  const told = 'warn store: an index is read-only';
  expect(lines).toEqual([told, 'info store: that is over', told]);
  expect(counters.total('store_findings', { kind: 'read_only_index' })).toBe(1);
  expect(counters.total('store_findings', { kind: 'template_changed' })).toBe(0);
});
