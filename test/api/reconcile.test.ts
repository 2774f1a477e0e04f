import { afterEach, describe, expect, it } from 'vitest';
import type { ReconcileDesk } from '../../src/api/reconcile.ts';
import type { ReconcileEvent } from '../../src/api/reconcile-contract.ts';
import { type RunningApi, startApi } from '../../src/api/server.ts';
import { AppError } from '../../src/core/errors.ts';
import { apiNeeds } from './needs.ts';

let running: RunningApi | undefined;
const failures: unknown[] = [];
afterEach(() => running?.close());

async function ask(run: ReconcileDesk['run'], query = '', options: RequestInit = {}): Promise<Response> {
  const needs = apiNeeds({ reconcile: { run }, reportFailure: (error) => void failures.push(error) });
  running = await startApi({ host: '127.0.0.1', port: 0 }, needs);
  return fetch(`http://127.0.0.1:${running.port}/api/v1/reconcile${query}`, { method: 'POST', ...options });
}

const progress = (records: number): ReconcileEvent => ({ type: 'progress', step: 'comparing', records });

describe('reconcile over HTTP', () => {
  it('gives each event as a line, also more than the way holds at once', async () => {
    const warnings: Error[] = [];
    const note = (warning: Error) => void warnings.push(warning);
    process.on('warning', note);
    const response = await ask(async (options, emit) => {
      expect(options).toEqual({ restore: true, namespace: 'shop' });
      for (let records = 0; records < 30_000; records++) await emit(progress(records));
    }, '?restore=true&namespace=shop');
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'application/x-ndjson']);
    const lines = (await response.text()).trimEnd().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as { records: number }).records)).toEqual([...lines.keys()]);
    expect(lines).toHaveLength(30_000);
    process.off('warning', note);
    // Of listeners that each wait leaves behind.
    expect(warnings).toEqual([]);
  });

  it.each([
    [new AppError('unavailable', 'it is being reconciled already'), 503, /already/],
    [new AppError('bad_request', 'the store keeps nothing'), 400, /keeps nothing/],
    [new Error('secret detail'), 500, /^internal error/],
  ])('answers what fails before it begins with its status: %s', async (error, status, message) => {
    const response = await ask(() => Promise.reject(error));
    expect(response.status).toBe(status);
    const body = (await response.json()) as { error: { message: string } };
    expect(body.error.message).toMatch(message);
  });

  it.each([
    [new AppError('store_unavailable', 'the store is away'), 'the store is away'],
    [new Error('secret detail'), 'internal error; the log of the server says more'],
  ])('ends with what failed on the way: %s', async (error, message) => {
    const response = await ask(async (_, emit) => {
      await emit(progress(1));
      throw error;
    });
    const [, last = ''] = (await response.text()).trimEnd().split('\n');
    expect([response.status, JSON.parse(last)]).toEqual([200, { type: 'error', message }]);
    if (!(error instanceof AppError)) expect(failures).toContain(error);
  });

  it('stops when whoever asked goes away', async () => {
    const gone = new AbortController();
    const stopped = Promise.withResolvers<unknown>();
    const response = await ask(
      async (_, emit) => {
        try {
          for (;;) await emit(progress(1));
        } catch (error) {
          stopped.resolve(error);
          throw error;
        }
      },
      '',
      { signal: gone.signal },
    );
    await response.body?.getReader().read();
    gone.abort();
    expect(await stopped.promise).toMatchObject({ code: 'unavailable' });
  });

  it('is not for pages of other origins, nor for parameters that it does not know', async () => {
    const refuse = () => Promise.reject(new Error('must not run'));
    expect((await ask(refuse, '', { headers: { origin: 'https://evil.example' } })).status).toBe(403);
    await running?.close();
    expect((await ask(refuse, '?restor=true')).status).toBe(400);
  });
});
