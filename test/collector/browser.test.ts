/** deploy/collector/browser.yaml: what comes this way is context, whatever it says. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { type RunningProcess, startProcess } from '../e2e/spantrail.ts';
import { encodeTraces } from '../otlp/encode.ts';
import { post, type RunningCollector, startCollector } from './run.ts';

const PAGES = 'https://shop.example';
const collector = inject('collector');

describe.skipIf('skipped' in collector)('a Collector for pages, with deploy/collector/browser.yaml', () => {
  let folder: string;
  let spantrail: RunningProcess;
  let otelcol: RunningCollector;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-pages-'));
    spantrail = await startProcess(['--store', 'memory', '--data-dir', join(folder, 'data')]);
    const environment = { SPANTRAIL_HTTP_ENDPOINT: `http://127.0.0.1:${spantrail.http}`, PAGES };
    otelcol = await startCollector({ layers: ['deploy/collector/browser.yaml'], folder, environment });
  });
  afterAll(async () => {
    await Promise.all([otelcol?.stop(), spantrail?.stop()]);
    await rm(folder, { recursive: true, force: true });
  });

  async function preflight(origin: string): Promise<string | null> {
    const headers = {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'content-type',
    };
    const response = await fetch(`${otelcol.url}/v1/traces`, { method: 'OPTIONS', headers });
    return response.headers.get('access-control-allow-origin');
  }

  it('lets the named pages send, and no others', async () => {
    expect(await preflight(PAGES)).toBe(PAGES);
    expect(await preflight('https://elsewhere.example')).toBeNull();
  });

  it('puts a page’s step above the request, and takes neither user nor access from it', async () => {
    const traceId = 'a'.repeat(32);
    const [click, request, made] = ['1', '2', '3'].map((digit) => digit.repeat(16)) as [string, string, string];
    const text = (key: string, stringValue: string) => ({ key, value: { stringValue } });
    const span = (
      spanId: string,
      parentSpanId: string | undefined,
      name: string,
      kind: number,
      attributes: object[],
    ) => ({
      ...{ traceId, spanId, parentSpanId, name, kind, attributes },
      ...{ startTimeUnixNano: '1795000000000000000', endTimeUnixNano: '1795000000009000000' },
    });
    const asAccess = [
      text('http.request.method', 'DELETE'),
      text('url.path', '/everything'),
      text('user.id', 'mallory'),
    ];
    const spans = [
      span(click, undefined, 'click', 1, [text('user.id', 'mallory'), text('note', 'access_token=abcdef0123')]),
      // A page that says it was a server.
      span(made, click, 'DELETE /everything', 2, asAccess),
    ];
    const resource = { attributes: [text('service.name', 'shop-page')] };
    expect(await post(otelcol.url, 'traces', { resourceSpans: [{ resource, scopeSpans: [{ spans }] }] })).toBe(200);
    // The service's own word comes without this Collector.
    const served = { traceId, spanId: request, parentSpanId: click, name: 'GET /orders/7', kind: 2 };
    const times = { startNs: 1795000000001000000n, endNs: 1795000000005000000n };
    const attributes = { 'http.request.method': 'GET', 'url.path': '/orders/7', 'user.id': 'alice' };
    const evidence = encodeTraces([
      { attributes: { 'service.name': 'orders' }, spans: [{ ...served, ...times, attributes }] },
    ]);
    expect(await spantrail.send('traces', evidence)).toBe(200);
    const whole = `trace.id: ${traceId} and audit.join.spans: 3 and service.name: orders`;
    await expect.poll(() => spantrail.search(whole), { timeout: 30_000, interval: 200 }).toHaveLength(1);
    const records = await spantrail.search(`trace.id: ${traceId}`);
    expect(records.map(({ user }) => user?.id)).not.toContain('mallory');
    expect(records.find(({ service }) => service?.name === 'orders')).toMatchObject({
      user: { id: 'alice' },
      audit: { entry: true, trace: { root: { service: 'shop-page', name: 'click' } } },
    });
    expect(JSON.stringify(records)).not.toContain('abcdef0123');
  });
});
