import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createApi, startApi } from '../../src/api/server.ts';
import { parseTimestamp } from '../../src/core/clock.ts';
import type { CoverageQuestion } from '../../src/core/coverage.ts';
import { AppError } from '../../src/core/errors.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';
import { apiNeeds, IDLE } from './needs.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const NOW = Date.parse('2026-11-22T12:00:00Z');

const store = new MemoryStore();
const listeners = new Set<(records: readonly AuditRecord[]) => void>();
const failures: unknown[] = [];

/** Says what it was asked. */
const COVERAGE = { watching: true, to: '', services: [], gaps: [], text: 'no gap observed' };

const needs = {
  store,
  clock: { nowMs: () => NOW },
  version: '0.0.0',
  subscribe(listener: (records: readonly AuditRecord[]) => void) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
  readTrace: async () => [],
  pipeline: apiNeeds({}).pipeline,
  coverage: {
    answer: (question: CoverageQuestion) => ({ ...COVERAGE, question }),
    summary: (question: CoverageQuestion) => ({ ...COVERAGE, services: 0, gap_count: 0, question }),
  },
  quarantine: apiNeeds({}).quarantine,
  reconcile: apiNeeds({}).reconcile,
  alerts: apiNeeds({}).alerts,
  insights: apiNeeds({}).insights,
  readiness: apiNeeds({}).readiness,
  metricsText: async () => 'spantrail_accepted_total 1\n',
  reportFailure: (error: unknown) => failures.push(error),
};
const api = createApi(needs);

const id = (number: number) => String(number).padStart(32, '0');

beforeAll(async () => {
  await store.setUp();
  const records = Array.from({ length: 30 }, (_, index) =>
    makeRecord({
      '@timestamp': `2026-11-22T10:00:${String(index).padStart(2, '0')}.000000000Z`,
      message: index === 3 ? 'mallory <script>alert(1)</script> read =cmd' : `alice read row ${index}`,
      event: { id: id(index), outcome: index % 10 === 0 ? 'failure' : 'success' },
      user: { id: index === 3 ? '=cmd|mallory' : 'alice' },
      audit: { entry: index % 2 === 1, decision: index === 20 ? 'deny' : 'none' },
    }),
  );
  await store.write(records.map((record) => toWrite(record)));
});
afterAll(() => api.close());

async function get(url: string) {
  const response = await api.inject({ method: 'GET', url });
  return { status: response.statusCode, text: response.body, type: String(response.headers['content-type']) };
}
async function json<T = { records: AuditRecord[]; next?: string }>(url: string): Promise<T> {
  const { status, text } = await get(url);
  expect(status, text).toBe(200);
  return JSON.parse(text) as T;
}

describe('records', () => {
  it('are entries unless inner ones are asked for, newest first', async () => {
    const entries = await json('/api/v1/records?limit=100');
    expect(entries.records).toHaveLength(15);
    expect(entries.records[0]?.event.id).toBe(id(29));
    expect((await json('/api/v1/records?limit=100&inner=true')).records).toHaveLength(30);
  });

  it('come in pages that neither overlap nor skip', async () => {
    const seen: string[] = [];
    let cursor = '';
    do {
      const page = await json(`/api/v1/records?inner=true&limit=7${cursor && `&cursor=${cursor}`}`);
      seen.push(...page.records.map((record) => record.event.id));
      cursor = page.next ?? '';
    } while (cursor !== '');
    expect(new Set(seen).size).toBe(30);
    expect(seen).toHaveLength(30);
  });

  it('fit the query, the range and the order asked for', async () => {
    const found = await json(
      `/api/v1/records?inner=true&q=${encodeURIComponent('event.outcome: failure')}&from=2026-11-22T10:00:05Z&to=2026-11-22T10:00:20Z&sort=@timestamp:asc`,
    );
    expect(found.records.map((record) => record.event.id)).toEqual([id(10)]);
    expect((await json('/api/v1/records?inner=true&from=-90m')).records).toHaveLength(0);
    expect((await json('/api/v1/records?inner=true&from=-3h&limit=100')).records).toHaveLength(30);
  });

  it('are found by id, with their revisions and their trace', async () => {
    expect((await json<AuditRecord>(`/api/v1/records/${id(7)}`)).event.id).toBe(id(7));
    expect((await json<{ revisions: AuditRecord[] }>(`/api/v1/records/${id(7)}/revisions`)).revisions).toHaveLength(1);
    const trace = await json<{ drawn_from: string; records: AuditRecord[] }>(`/api/v1/traces/${TRACE.toUpperCase()}`);
    expect(trace).toMatchObject({ drawn_from: 'records' });
    expect(trace.records).toHaveLength(30);
  });

  it('are counted by value and over time', async () => {
    const { facets } = await json<{ facets: { values: { value: string; count: number }[] }[] }>(
      '/api/v1/facets?inner=true&fields=event.outcome',
    );
    expect(facets[0]?.values).toEqual([
      { value: 'success', count: 27 },
      { value: 'failure', count: 3 },
    ]);
    const { buckets } = await json<{ buckets: { start: string; count: number }[] }>(
      '/api/v1/histogram?inner=true&bucket=10s',
    );
    expect(buckets.map((bucket) => bucket.count)).toEqual([10, 10, 10]);
    expect(parseTimestamp(buckets[0]?.start ?? '')).toBe(parseTimestamp('2026-11-22T10:00:00Z'));
    const chosen = await json<{ bucket: string; buckets: { count: number }[] }>('/api/v1/histogram?inner=true');
    expect(chosen).toMatchObject({ bucket: '1m', buckets: [{ count: 30 }] });
  });
});

describe('coverage', () => {
  const ask = async (url: string) => (await json<{ question: CoverageQuestion }>(url)).question;
  const ofRecords = async (q: string) =>
    (await json<{ coverage: { question: CoverageQuestion } }>(`/api/v1/records?q=${encodeURIComponent(q)}`)).coverage
      .question;

  it('is asked for the range, the service and the namespace', async () => {
    expect(await ask('/api/v1/coverage')).toEqual({});
    expect(await ask('/api/v1/coverage?from=-1h&to=2026-11-22T11:30:00Z&service=shop&namespace=blue')).toEqual({
      fromMs: NOW - 3_600_000,
      toMs: NOW - 1_800_000,
      services: ['shop'],
      namespace: 'blue',
    });
  });

  it.each([
    ['', undefined],
    ['service.name: shop', ['shop']],
    ['service.name: (shop or stock) and user.id: alice', ['shop', 'stock']],
    ['service.name: shop and service.name: (stock or shop)', ['shop']],
    ['service.name: shop or user.id: alice', undefined],
    ['not service.name: shop', undefined],
    ['service.name: sh*', undefined],
  ])('comes with the records of %j for the services that can be in them', async (q, services) => {
    expect((await ofRecords(q)).services).toEqual(services);
  });

  it('comes with the first page only', async () => {
    const first = await json<{ next: string; coverage?: object }>('/api/v1/records?limit=1');
    const second = await json<{ coverage?: object }>(`/api/v1/records?limit=1&cursor=${first.next}`);
    expect([first.coverage === undefined, second.coverage === undefined]).toEqual([false, true]);
  });
});

describe('bad requests name what is wrong', () => {
  it.each([
    ['/api/v1/coverage?from=yesterday', 400, /^from: "yesterday" must be a time like/],
    ['/api/v1/coverage?q=x', 400, /^unknown parameter q/],
    ['/api/v1/coverage?from=-1h&to=-2h', 400, /^from: -1h is after to: -2h$/],
    ['/api/v1/records?from=now&to=2026-11-22', 400, /^from: now is after to: 2026-11-22$/],
    ['/api/v1/records?q=user.idd:x', 400, /user\.idd.*user\.id/],
    ['/api/v1/records?q=(user.id:x', 400, /column/],
    ['/api/v1/records?limit=0', 400, /^limit: /],
    ['/api/v1/records?limit=5000', 400, /^limit: /],
    ['/api/v1/records?from=yesterday', 400, /^from: "yesterday" must be a time like/],
    ['/api/v1/records?sort=message', 400, /^sort: message cannot be sorted by/],
    ['/api/v1/records?cursor=xyz', 400, /cursor/],
    ['/api/v1/records?colour=red', 400, /^unknown parameter colour/],
    ['/api/v1/records/nope', 404, /no record with id nope/],
    ['/api/v1/traces/123', 400, /32 hex digits/],
    [`/api/v1/traces/${'f'.repeat(32)}`, 404, /no record of trace/],
    ['/api/v1/facets?fields=nope', 400, /^fields: unknown field nope/],
    ['/api/v1/histogram?bucket=soon', 400, /^bucket: /],
    ['/api/v1/nothing', 404, /no route GET \/api\/v1\/nothing/],
  ])('%s', async (url, status, message) => {
    const answer = await get(url);
    expect(answer.status).toBe(status);
    const { error } = JSON.parse(answer.text) as { error: { message: string } };
    expect(error.message).toMatch(message);
    expect(answer.text).not.toMatch(/\bat .*\.ts/);
  });

  it('and a fault of ours is reported, not shown', async () => {
    const broken = createApi({ ...needs, pipeline: () => Promise.reject(new Error('secret detail')) });
    const response = await broken.inject({ method: 'GET', url: '/api/v1/pipeline' });
    expect(response.statusCode).toBe(500);
    expect(response.body).not.toContain('secret detail');
    expect(String(failures.at(-1))).toContain('secret detail');
    await broken.close();
  });
});

describe('export', () => {
  it('streams NDJSON, oldest first', async () => {
    const { text, type } = await get('/api/v1/export?inner=true');
    const records = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as AuditRecord);
    expect(type).toContain('application/x-ndjson');
    expect(records.map((record) => record.event.id)).toEqual(Array.from({ length: 30 }, (_, index) => id(index)));
  });

  it('writes CSV that no spreadsheet runs', async () => {
    const { text } = await get('/api/v1/export?inner=true&format=csv');
    const lines = text.trim().split('\r\n');
    expect(lines).toHaveLength(31);
    expect(lines[0]).toMatch(/^@timestamp,message,/);
    expect(text).toContain("'=cmd|mallory");
  });
});

describe('tail', () => {
  it('follows what is written and fits', async () => {
    const running = await startApi({ host: '127.0.0.1', port: 0 }, needs);
    const stop = new AbortController();
    const response = await fetch(`http://127.0.0.1:${running.port}/api/v1/tail?q=user.id:bob`, { signal: stop.signal });
    const reader = response.body?.getReader();
    let text = '';
    const read = async (until: string) => {
      while (!text.includes(until)) text += new TextDecoder().decode((await reader?.read())?.value);
    };
    await read('following');
    for (const listener of listeners) {
      listener([
        makeRecord(),
        makeRecord({ user: { id: 'bob' }, event: { id: id(99) } }),
        makeRecord({ user: { id: 'bob' }, audit: { entry: false } }),
      ]);
    }
    await read('event: record');
    expect(text).toContain(id(99));
    expect(text.match(/event: record/g)).toHaveLength(1);
    stop.abort();
    await running.close();
    await vi.waitFor(() => expect(listeners.size).toBe(0));
  });
});

describe('the page', () => {
  it('shows sentences, escaped', async () => {
    const { text, status } = await get('/');
    expect(status).toBe(200);
    expect(text).toContain('alice read row 29');
    expect(text).not.toContain('<script>');
  });

  it('ends with what is known to be missing, escaped', async () => {
    expect((await get('/')).text).toContain('coverage</a>: no gap observed</footer>');
    const gap = { kind: 'silence', from: '2026-11-22T10:00', to: '2026-11-22T11:00', ongoing: true } as const;
    const summary = () => ({
      ...COVERAGE,
      services: 1,
      gap_count: 1,
      gaps: [{ ...gap, text: '<b>shop</b> is silent' }],
    });
    const silent = createApi({ ...needs, coverage: { ...needs.coverage, summary } });
    const { body } = await silent.inject({ method: 'GET', url: '/' });
    expect(body).toContain('&#60;b&#62;shop&#60;/b&#62; is silent');
    expect(body).not.toContain('<b>');
  });

  it('says what is wrong with a query and keeps it in the box', async () => {
    const { text, status } = await get('/?q=user.idd%3A%22x%22');
    expect(status).toBe(400);
    expect(text).toContain('role="alert"');
    expect(text).toContain('value="user.idd:&#34;x&#34;"');
  });
});

describe('operation', () => {
  it('says health, readiness, metrics and the contract', async () => {
    expect((await get('/healthz')).text).toBe('ok\n');
    expect((await get('/readyz')).text).toBe('ready\n');
    expect((await get('/metrics')).text).toContain('spantrail_accepted_total');
    const document = await json<{ paths: Record<string, unknown> }>('/api/v1/openapi.json');
    expect(Object.keys(document.paths)).toContain('/api/v1/records/{id}');
    expect(await json('/api/v1/pipeline')).toEqual(IDLE);
  });

  it('says that a port is taken and what to do', async () => {
    const first = await startApi({ host: '127.0.0.1', port: 0 }, needs);
    const second = startApi({ host: '127.0.0.1', port: first.port }, needs);
    await expect(second).rejects.toThrow(AppError);
    await expect(second).rejects.toThrow(/in use; choose another with --api-port/);
    await first.close();
  });
});
