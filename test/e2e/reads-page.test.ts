import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { RecordsAnswer } from '../../src/api/contract.ts';
import { entryFor } from '../auth/openings.ts';
import { openBrowser } from '../setup/browser.ts';
import { makeTrace } from './clinic-evidence.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const browser = inject('browser');

describe.skipIf('skipped' in browser)('the page in a real Chromium, with named people', () => {
  const folder = mkdtempSync(join(tmpdir(), 'spantrail-reads-page-'));
  const people = {
    agent: entryFor({ name: 'agent', can: ['send'] }),
    auditor: entryFor({ name: 'auditor', can: ['read'] }),
    checker: entryFor({ name: 'checker', can: ['read'] }),
  };
  const ends: (() => Promise<unknown>)[] = [];
  let running: RunningProcess;
  let context: BrowserContext;
  let page: Page;
  let origin: string;
  const trace = makeTrace(1);

  const writeTokens = (revoked: boolean) =>
    writeFileSync(
      join(folder, 'tokens.yaml'),
      JSON.stringify({
        tokens: Object.values(people).map(({ entry }) => ({ ...entry, revoked: revoked && entry.name === 'auditor' })),
      }),
    );

  beforeAll(async () => {
    if ('skipped' in browser) return;
    writeTokens(false);
    const auth = { SPANTRAIL_AUTH_TOKENS_FILE: join(folder, 'tokens.yaml') };
    running = await startProcess(['--data-dir', join(folder, 'data'), '--store', 'memory'], auth);
    ends.push(() => running.stop('SIGKILL'));
    origin = `http://127.0.0.1:${running.api}`;
    const opened = await openBrowser(browser);
    context = opened.context;
    ends.push(opened.close);
    page = await context.newPage();
    await send();
  });
  afterAll(async () => {
    for (const end of ends.reverse()) await end();
    rmSync(folder, { recursive: true, force: true });
  });

  async function send(): Promise<void> {
    const { status } = await fetch(`http://127.0.0.1:${running.http}/v1/traces`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-protobuf', authorization: `Bearer ${people.agent.token}` },
      body: new Uint8Array(trace.payload),
    });
    expect(status).toBe(200);
  }

  async function told(q: string): Promise<RecordsAnswer['records']> {
    const url = `${origin}/api/v1/records?${new URLSearchParams({ q, sort: '@timestamp:asc' })}`;
    const response = await fetch(url, { headers: { authorization: `Bearer ${people.checker.token}` } });
    return ((await response.json()) as RecordsAnswer).records;
  }

  const logIn = async (token: string): Promise<void> => {
    await page.getByLabel('Your token').fill(token);
    await page.getByRole('button', { name: 'Log in' }).click();
  };

  it('asks who is there, says what is wrong, and then shows what was asked for', async () => {
    await page.goto(`${origin}/?q=${encodeURIComponent(`trace.id: ${trace.traceId}`)}`);
    expect(await page.locator('li').count()).toBe(0);
    await logIn('spantrail_wrong');
    expect(await page.getByRole('alert').textContent()).toMatch(/^authorization must be/);
    await logIn(people.agent.token);
    expect(await page.getByRole('alert').textContent()).toContain('agent may not read records');
    expect(await context.cookies()).toEqual([]);
    await page.goto(`${origin}/?q=${encodeURIComponent(`trace.id: ${trace.traceId}`)}`);
    await logIn(people.auditor.token);
    await expect
      .poll(
        async () => {
          await page.reload();
          return page.locator('li').count();
        },
        { timeout: 10_000 },
      )
      .toBeGreaterThan(0);
    expect(await page.getByRole('searchbox').inputValue()).toBe(`trace.id: ${trace.traceId}`);
    const [cookie] = await context.cookies();
    expect(cookie).toMatchObject({ httpOnly: true, sameSite: 'Strict', path: '/' });
    expect(page.url()).not.toContain(people.auditor.token);
    const [login, search] = await told('user.id: auditor');
    expect([login?.event.action, search?.event.action, search?.user_agent?.original]).toEqual([
      'login',
      'search',
      expect.stringContaining('Chrome'),
    ]);
  });

  it('follows and reads with the session alone, from its own pages and no others', async () => {
    // An answer in JSON has no policy of its own, so that a script can ask from there as one of the page could.
    await page.goto(`${origin}/api/v1/records?limit=1`);
    const followed = page.evaluate(
      () =>
        new Promise((resolve, reject) => {
          const source = new EventSource('/api/v1/tail');
          source.addEventListener('record', (event) => {
            source.close();
            resolve(JSON.parse((event as MessageEvent).data).message);
          });
          source.onerror = () => reject(new Error('no tail'));
        }),
    );
    await expect.poll(() => told('user.id: auditor and event.action: tail'), { timeout: 10_000 }).not.toEqual([]);
    expect(await followed).toMatch(/^(?:checker|auditor) /);
    // Another site: the same server by another name.
    await page.goto(`http://localhost:${running.api}/healthz`);
    const foreign = await page.evaluate(
      (url) =>
        fetch(url, { credentials: 'include', mode: 'no-cors' }).then(
          ({ type }) => type,
          () => 'refused',
        ),
      `${origin}/api/v1/records?q=forged`,
    );
    expect(foreign).toMatch(/opaque|refused/);
    expect(await told('user.id: auditor and audit.target.id: forged')).toEqual([]);
  });

  it('ends with the token, and at log-out', async () => {
    await page.goto(origin);
    expect(await page.getByText('auditor', { exact: false }).first().isVisible()).toBe(true);
    writeTokens(true);
    await expect
      .poll(
        async () => {
          await page.goto(origin);
          return page.getByRole('alert').count();
        },
        { timeout: 15_000 },
      )
      .toBe(1);
    expect(await page.getByRole('alert').textContent()).toContain('was revoked');
    expect(await page.locator('li').count()).toBe(0);
    await logIn(people.checker.token);
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.goto(origin);
    expect(await page.getByLabel('Your token').isVisible()).toBe(true);
    expect(await context.cookies()).toEqual([]);
  });
});
