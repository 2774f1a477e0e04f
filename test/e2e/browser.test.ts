import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import { PGLiteSocketServer } from '@electric-sql/pglite-socket';
import type { BrowserContext, Page, Request, Response } from 'playwright-core';
import { build } from 'vite';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { openBrowser } from '../setup/browser.ts';
import { type RunningProgram, startProgram } from '../setup/program.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const browser = inject('browser');
const page = join(import.meta.dirname, 'shop-page');
const telemetry = join(import.meta.dirname, '../../src/sdk/register.ts');

describe.skipIf('skipped' in browser)('a click in a real Chromium', () => {
  const folder = mkdtempSync(join(tmpdir(), 'spantrail-e2e-'));
  const ends: (() => Promise<unknown>)[] = [];
  const services: RunningProgram[] = [];
  let spantrail: RunningProcess;
  let context: BrowserContext;
  let origin: string;

  beforeAll(async () => {
    if ('skipped' in browser) return;
    const database = await PGlite.create();
    await database.exec("CREATE TABLE orders (id int, item text); INSERT INTO orders VALUES (7, 'violin')");
    const server = new PGLiteSocketServer({ db: database, host: '127.0.0.1', port: 0, maxConnections: 4 });
    await server.start();
    ends.push(() => server.stop());
    // Pages of this host may send, on whatever port it is; those of the same machine under another name may not.
    const cors = { SPANTRAIL_RECEIVE_HTTP_CORS_ORIGINS: '["http://127.0.0.1:*"]' };
    spantrail = await startProcess(['--data-dir', join(folder, 'data'), '--store', 'memory'], cors);
    ends.push(() => spantrail.stop('SIGKILL'));
    const outDir = join(folder, 'page');
    const define = { 'import.meta.env.VITE_OTLP_URL': JSON.stringify(`http://127.0.0.1:${spantrail.http}`) };
    await build({ root: page, configFile: false, logLevel: 'error', define, build: { outDir, emptyOutDir: true } });
    const orders = await startService('orders', {
      DATABASE_URL: `postgres://shop@${server.getServerConn()}/postgres`,
    });
    origin = await startService('gateway', { ORDERS_URL: orders, PAGE_FOLDER: outDir });
    const opened = await openBrowser(browser);
    context = opened.context;
    ends.push(opened.close);
  });
  afterAll(async () => {
    await Promise.all(services.map((service) => service.stop()));
    for (const end of ends.reverse()) await end();
    rmSync(folder, { recursive: true, force: true });
  });

  async function startService(name: string, more: Record<string, string>): Promise<string> {
    const endpoint = `http://127.0.0.1:${spantrail.grpc}`;
    const own = { OTEL_SERVICE_NAME: name, OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_BSP_SCHEDULE_DELAY: '200' };
    const service = await startProgram(
      process.execPath,
      ['--import', telemetry, join(page, `${name}.mjs`)],
      /listening on (\d+)/,
      { environment: { ...process.env, ...own, ...more } },
    );
    services.push(service);
    return `http://127.0.0.1:${service.ready[1]}`;
  }

  /** Logs in and clicks; resolves with what the page then shows. */
  async function showOrder(tab: Page, at: string): Promise<string | null> {
    await tab.goto(`${at}/login`);
    await tab.click('#show');
    const shown = tab.locator('#order', { hasText: 'violin' });
    await shown.waitFor();
    return shown.textContent();
  }

  const ORDER = '"/api/orders/:id"';
  const onTrace = (trace: string, q: string) => spantrail.search(`trace.id: ${trace} and ${q}`);

  it('is one record whose path begins in the browser and ends at the database', async () => {
    const tab = await context.newPage();
    const sent = context.waitForEvent('response', isOfTraces);
    expect(JSON.parse((await showOrder(tab, origin)) ?? '')).toEqual({ id: 7, item: 'violin' });
    expect((await sent).status()).toBe(200);
    const complete = 'db.system: postgresql and audit.join.state: complete and audit.join.spans >= 7';
    await expect.poll(() => spantrail.search(complete), { timeout: 20_000 }).toHaveLength(1);
    const [statement] = await spantrail.search(complete);
    const steps = statement?.audit.path?.map(({ service, kind, name }) => `${service} ${kind} ${name}`);
    expect(steps?.slice(0, 5)).toEqual([
      'shop-page internal click',
      'shop-page client GET',
      'gateway server GET /api/orders/:id',
      'gateway client GET',
      'orders server GET /orders/:id',
    ]);
    expect(steps?.slice(5).join()).toContain('orders client pg.query:SELECT');
    expect(statement).toMatchObject({
      event: { action: 'SELECT', outcome: 'success' },
      user: { id: 'alice' },
      db: { collection: 'orders' },
      audit: {
        entry: false,
        entry_target: 'orders/7',
        actor: { attribution: 'ancestor' },
        trace: { root: { service: 'shop-page', name: 'click' } },
      },
    });
    const [entry] = await onTrace(statement?.trace?.id ?? '', 'audit.entry: true');
    expect(entry).toMatchObject({
      service: { name: 'gateway' },
      user: { id: 'alice', roles: ['support'] },
      user_agent: { original: expect.stringContaining('Chrome') },
      audit: { target: { id: 'orders/7' }, path: [{ name: 'click' }, { kind: 'client' }, { service: 'gateway' }] },
    });
  });

  it('tells nothing about actor and outcome, whatever the page says', async () => {
    const [statement] = await spantrail.search('db.system: postgresql and audit.trace.services: shop-page');
    const trace = statement?.trace?.id ?? '';
    const [entry] = await onTrace(trace, 'audit.entry: true');
    const tab = await context.newPage();
    await tab.goto(`${origin}/login`);
    // One span in the place of the gateway's, one below the statement, and an access event on the statement.
    const claims = { 'user.id': 'mallory', 'http.request.method': 'GET', 'http.response.status_code': 500 };
    const times = { startTimeUnixNano: `${Date.now()}000000`, endTimeUnixNano: `${Date.now()}000001` };
    const span = { traceId: trace, name: 'GET', kind: 2, ...times, attributes: keyValues(claims), status: { code: 2 } };
    const spans = [
      { ...span, spanId: entry?.span?.id },
      { ...span, spanId: '00f067aa0ba902b7', parentSpanId: statement?.span?.id },
    ];
    const said = { 'user.id': 'mallory', 'event.action': 'wipe', 'event.outcome': 'failure', 'audit.decision': 'deny' };
    const at = { timeUnixNano: times.startTimeUnixNano, traceId: trace, spanId: statement?.span?.id };
    const logRecords = [{ ...at, eventName: 'audit.access', attributes: keyValues(said) }];
    const bodies = {
      traces: { resourceSpans: [{ scopeSpans: [{ spans }] }] },
      logs: { resourceLogs: [{ scopeLogs: [{ logRecords }] }] },
    };
    for (const [signal, body] of Object.entries(bodies)) {
      const url = `http://127.0.0.1:${spantrail.http}/v1/${signal}`;
      expect(await tab.evaluate(postJson, { url, text: JSON.stringify(body) })).toBe(200);
    }
    await spantrail.settled();
    expect(await spantrail.search('user.id: mallory or related.user: mallory')).toEqual([]);
    const after = await onTrace(trace, `event.id: (${statement?.event.id} or ${entry?.event.id})`);
    expect(after.map(({ user, event, audit }) => [user?.id, event.outcome, audit.decision])).toEqual([
      ['alice', 'success', statement?.audit.decision],
      ['alice', 'success', entry?.audit.decision],
    ]);
  });

  it('leaves a path that begins at the gateway when its page may not send', async () => {
    const tab = await context.newPage();
    const refused = context.waitForEvent('requestfailed', isOfTraces);
    await showOrder(tab, origin.replace('127.0.0.1', 'localhost'));
    await refused;
    const lone = `http.route: ${ORDER} and not audit.trace.services: shop-page`;
    await expect
      .poll(() => spantrail.search(`${lone} and audit.trace.services: orders`), { timeout: 20_000 })
      .toHaveLength(1);
    const [entry] = await spantrail.search(lone);
    expect(entry).toMatchObject({
      user: { id: 'alice' },
      audit: { entry: true, join: { state: 'orphan', missing_parents: 1 }, path: [{ service: 'gateway' }] },
    });
  });
});

function isOfTraces(message: Request | Response): boolean {
  return message.url().endsWith('/v1/traces');
}

function keyValues(values: Record<string, string | number>): object[] {
  return Object.entries(values).map(([key, value]) => ({
    key,
    value: typeof value === 'number' ? { intValue: value } : { stringValue: value },
  }));
}

/** Runs in the page. */
async function postJson({ url, text }: { url: string; text: string }): Promise<number> {
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: text });
  return response.status;
}
