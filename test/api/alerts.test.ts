import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { AlertGroupsAnswer, AlertsAnswer, MarkedRecord, NoticesAnswer } from '../../src/api/alert-contract.ts';
import type { TraceAnswer } from '../../src/api/contract.ts';
import { createApi } from '../../src/api/server.ts';
import { openAlertDesk, type RunningAlertDesk } from '../../src/app/alerts.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import type { Alert } from '../../src/core/alert.ts';
import { systemScheduler } from '../../src/core/clock.ts';
import { Counters } from '../../src/core/metrics.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { nodeDisk } from '../../src/wal/disk.ts';
import { makeAlert } from '../fixtures/alerts.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';
import { startReceiver } from '../notify/receiver.ts';
import { apiNeeds } from './needs.ts';

const clock = { nowMs: () => Date.parse('2026-11-22T12:00:00Z') };
const RECORD = makeRecord();
const OTHER = makeRecord({ event: { id: 'f'.repeat(32) }, trace: { id: 'e'.repeat(32) } });

describe('alerts over the API', () => {
  let folder: string;
  let desk: RunningAlertDesk;
  let receiver: Awaited<ReturnType<typeof startReceiver>>;
  let status = 200;
  let api: ReturnType<typeof createApi>;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-alerts-'));
    receiver = await startReceiver((response) => response.writeHead(status).end());
    const store = new MemoryStore();
    await store.write([toWrite(RECORD), toWrite(OTHER)]);
    const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
    desk = await openAlertDesk({
      settings: settingsSchema.parse({
        notify: { channels: [{ name: 'chat', type: 'slack', url: receiver.url, allowPrivate: true }] },
      }).notify,
      ...{ folder, disk: nodeDisk, clock, scheduler: systemScheduler, counters: new Counters(), log: silent },
      ...{ store: store.alerts, notReady: () => undefined, version: '1' },
    });
    api = createApi(apiNeeds({ store, clock, alerts: desk }));
    await desk.raise([
      makeAlert({ records: [RECORD.event.id] }),
      makeAlert({ id: 'b'.repeat(32), group: { 'user.id': 'bob' }, raisedAt: '2026-11-22T11:00:00.000Z', records: [] }),
    ]);
    await vi.waitFor(() => expect(desk.notices()).toEqual([]), { timeout: 10_000 });
  });
  afterAll(async () => {
    await api.close();
    await desk.close();
    await receiver.close();
    await rm(folder, { recursive: true });
  });

  async function ask<T>(method: 'GET' | 'POST' | 'DELETE', url: string, expected = 200): Promise<T> {
    const response = await api.inject({ method, url: `/api/v1/${url}` });
    expect(response.statusCode, response.body).toBe(expected);
    return response.json() as T;
  }
  const get = <T>(url: string, expected?: number) => ask<T>('GET', url, expected);

  it.each([
    ['', 2],
    ['?limit=1', 1],
    ['?state=open,closed&severity=high', 2],
    ['?severity=low', 0],
    ['?rule=repeated-failed-logins&namespace=default', 2],
    [`?record=${RECORD.event.id}`, 1],
    ['?trace=0AF7651916CD43DD8448EB211C80319C', 2],
    ['?from=-3h', 2],
    ['?from=-1h', 0],
    ['?to=2026-11-22T10:00:00Z', 0],
  ])('lists them: %s', async (query, count) => {
    expect((await get<AlertsAnswer>(`alerts${query}`)).alerts).toHaveLength(count);
  });

  it('lists page by page, and groups', async () => {
    const first = await get<AlertsAnswer>('alerts?limit=1');
    const second = await get<AlertsAnswer>(`alerts?limit=1&cursor=${first.next}`);
    expect([...first.alerts, ...second.alerts].map(({ id }) => id[0])).toEqual(['b', 'a']);
    expect(second.next).toBeUndefined();
    const { groups } = await get<AlertGroupsAnswer>('alerts/groups');
    expect(groups).toMatchObject([
      { alerts: 1, open: 1, count: 5, newest: { group: { 'user.id': 'bob' } } },
      { alerts: 1, open: 1, count: 5, newest: { group: { 'user.id': 'alice' } } },
    ]);
    const { alerts } = await get<AlertsAnswer>(`alerts?group=${groups[1]?.key}`);
    expect(alerts.map(({ id }) => id[0])).toEqual(['a']);
  });

  it.each([
    ['alerts?state=shut', 'state'],
    ['alerts?severity=high,', 'severity'],
    ['alerts?from=yesterday', 'from'],
    ['alerts?limit=0', 'limit'],
    ['alerts?cursor=x', 'cursor'],
    ['alerts?q=x', 'unknown parameter q'],
  ])('refuses %s, and names %s', async (url, word) => {
    const { error } = await get<{ error: { message: string } }>(url, 400);
    expect(error.message).toContain(word);
  });

  it('changes their state, with who and why', async () => {
    const path = `alerts/${'a'.repeat(32)}/state`;
    await ask('POST', path, 400);
    await ask('POST', `${path}?state=closed&note=%20`, 400);
    await ask('POST', `alerts/nobody/state?state=closed`, 404);
    await ask('POST', `${path}?state=acknowledged&note=looking`);
    const alert = await get<Alert>(`alerts/${'a'.repeat(32)}`);
    expect(alert.state).toBe('acknowledged');
    expect(alert.history).toEqual([
      { at: '2026-11-22T12:00:00.000Z', by: 'local', state: 'acknowledged', note: 'looking' },
    ]);
    await get('alerts/nobody', 404);
  });

  it('stand beside the records that they rest on, and their traces, but not in what is stored', async () => {
    const record = await get<MarkedRecord>(`records/${RECORD.event.id}`);
    expect(record.alerts).toEqual([
      {
        ...{ id: 'a'.repeat(32), rule: 'repeated-failed-logins', name: 'Repeated failed logins', severity: 'high' },
        ...{ state: 'acknowledged', reason: makeAlert().reason, records: [RECORD.event.id] },
      },
    ]);
    const { alerts: _, ...rest } = record;
    expect(rest).toEqual(RECORD);
    const trace = await get<TraceAnswer>(`traces/${RECORD.trace?.id}`);
    expect(trace.alerts).toMatchObject([{ id: 'a'.repeat(32), records: [RECORD.event.id] }]);
    expect(await get<MarkedRecord>(`records/${OTHER.event.id}`)).toEqual(OTHER);
    expect(await get<TraceAnswer>(`traces/${OTHER.trace?.id}`)).not.toHaveProperty('alerts');
  });

  it('shows notices that were given up, tries them again and drops them', async () => {
    status = 404;
    await desk.raise([makeAlert({ id: 'c'.repeat(32) }), makeAlert({ id: 'd'.repeat(32) })]);
    const dead = () => get<NoticesAnswer>('notices?state=dead');
    await expect.poll(async () => (await dead()).dead, { timeout: 10_000 }).toBe(2);
    const { notices, waiting } = await dead();
    expect(waiting).toBe(0);
    expect(notices[0]).toMatchObject({ channel: 'chat', change: 'raised', tries: 1, reason: '404', severity: 'high' });
    expect((await get<NoticesAnswer>('notices?channel=other')).notices).toEqual([]);
    expect(await ask('POST', 'notices/test?channel=chat')).toEqual({ delivered: false, text: '404' });
    await ask('POST', 'notices/test?channel=chap', 404);
    status = 200;
    expect(await ask('POST', 'notices/test?channel=chat')).toEqual({ delivered: true, text: '200' });
    const [first, second] = notices.map(({ id }) => id);
    expect(await ask('POST', `notices/retry?ids=${first},${'0'.repeat(16)}`)).toEqual({ ids: [first] });
    await expect
      .poll(async () => (await get<NoticesAnswer>('notices')).notices.map(({ id }) => id), { timeout: 10_000 })
      .toEqual([second]);
    expect(await ask('DELETE', `notices?ids=${second}`)).toEqual({ ids: [second] });
    expect(await get<NoticesAnswer>('notices')).toEqual({ notices: [], waiting: 0, dead: 0 });
    await ask('POST', 'notices/retry?ids=x', 400);
  });
});
