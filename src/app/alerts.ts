import { join } from 'node:path';
import type { AlertMark, AlertDesk as ApiAlertDesk, NoticeAnswer } from '../api/alerts.ts';
import type { Settings } from '../config/schema.ts';
import type { Alert, AlertDesk } from '../core/alert.ts';
import type { Clock, Scheduler } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import { changeAlert, mergeAlert } from '../notify/alert-states.ts';
import { DeskFile } from '../notify/desk-file.ts';
import { startDispatcher } from '../notify/dispatcher.ts';
import { makeNotice, type Notice, type NoticeChange } from '../notify/notice.ts';
import type { AlertStore } from '../store/port.ts';
import type { Disk } from '../wal/disk.ts';
import { type AlertStorerOptions, startAlertStorer } from './alert-storer.ts';
import { type Notifiers, openNotifiers, testChannel } from './notices.ts';

/** While the store is away, so many alerts wait in the data folder; then who raises more waits, too. */
const UNSTORED_MAX = 10_000;
/** Whoever reads sees what was raised just before, unless the store takes longer. */
const SETTLE_WAIT_MS = 1_000;
/** Tries to change an alert that others change at the same time. */
const CHANGES_MAX = 10;
/** Alerts that are named beside a record or trace, and records of a trace that they are looked for by. */
const MARKS_MAX = 100;
const MARKED_MAX = 1000;

export interface AlertDeskOptions extends Pick<AlertStorerOptions, 'store' | 'notReady' | 'log'> {
  readonly settings: Settings['notify'];
  readonly folder: string;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly counters: Counters;
  readonly version: string;
  /** Default: those of the settings. */
  readonly notifiers?: Notifiers;
  /** A notice was given up. */
  onDead?(notice: Notice): void;
}

export interface RunningAlertDesk extends AlertDesk, ApiAlertDesk {
  close(): Promise<void>;
}

/**
 * Alerts on their way to the store and to people. `raise` makes them durable in the data folder, together with the notices about
 * those that are new; both go on from there in their own time, so that neither a store nor a receiver holds up who raises.
 */
export async function openAlertDesk(options: AlertDeskOptions): Promise<RunningAlertDesk> {
  const { settings, store, clock, scheduler, counters, log } = options;
  const notifiers = options.notifiers ?? (await openNotifiers(settings, options));
  const report = (words: string) => log.error({}, words);
  const file = await DeskFile.open({ path: join(options.folder, 'alerts'), disk: options.disk, report });
  const storer = startAlertStorer({ ...options, file });
  const countNotices = () => {
    const dead = [...file.notices.values()].filter(({ state }) => state === 'dead').length;
    counters.set('notices_dead', dead);
    counters.set('notices_waiting', file.notices.size - dead);
  };
  const dispatcher = startDispatcher({
    ...{ ...settings, ...notifiers, file, clock, scheduler, counters, log },
    onChange: countNotices,
    onDead: (notice) => options.onDead?.(notice),
  });
  const unknown = new Set<string>();
  const noticesOf = (alert: Alert, change: NoticeChange, number: number) =>
    notifiers
      .routing(alert)
      .filter((channel) => notifiers.channels.get(channel)?.on.has(change))
      .map((channel) => makeNotice(alert, change, number, channel, clock.nowMs()));
  const tell = async (alerts: readonly Alert[], notices: readonly Notice[]) => {
    const room = makeRoom(file, notices, settings.noticesMax, counters);
    await Promise.all([file.add(alerts, room.kept), room.gone.length > 0 ? file.gone(room.gone) : undefined]);
    countNotices();
    dispatcher.wake();
  };
  storer.wake();
  dispatcher.wake();
  return {
    ...readsOf(store, (waitMs) => storer.settled(waitMs)),
    async raise(alerts) {
      if (file.unstored.size + alerts.length > UNSTORED_MAX && file.unstored.size > 0) {
        throw new AppError('store_unavailable', `${file.unstored.size} alerts wait for the store; no more are taken`);
      }
      const raised = new Map<string, Alert>();
      const fresh: Alert[] = [];
      for (const alert of alerts) {
        const known = raised.get(alert.id) ?? file.unstored.get(alert.id);
        if (known === undefined && !file.isKnown(alert.id)) fresh.push(alert);
        raised.set(alert.id, known ? mergeAlert(known, alert) : alert);
      }
      for (const { rule } of fresh) {
        counters.add('alerts', 1, { severity: rule.severity });
        for (const channel of rule.notify ?? []) {
          if (notifiers.channels.has(channel) || unknown.has(channel)) continue;
          unknown.add(channel);
          log.warn({ rule: rule.id, channel }, 'a rule names a channel that notify.channels does not have');
        }
      }
      await tell(
        [...raised.values()],
        fresh.flatMap((alert) => noticesOf(alert, 'raised', 1)),
      );
      counters.set('alerts_unstored', file.unstored.size);
      storer.wake();
    },
    async setState(id, state, note, by) {
      await storer.settled(SETTLE_WAIT_MS);
      const at = new Date(clock.nowMs()).toISOString();
      const { before, after } = await change(store, id, (alert) => changeAlert(alert, { at, by, state, note }));
      if (state !== 'open' && before.state !== state) {
        // After a crash right here the change stands and nobody was told: it was a person's, who sees that it stands.
        await tell([], noticesOf(after, state, after.history.length));
      }
      return after;
    },
    ...noticeDeskOf(file, dispatcher.wake, clock, countNotices),
    testChannel: (name) => testChannel(notifiers, name, clock.nowMs()),
    async close() {
      dispatcher.stop();
      await storer.stop();
      await file.close();
    },
  };
}

function readsOf(store: AlertStore, settled: (waitMs: number) => Promise<void>) {
  return {
    async search(...query: Parameters<AlertStore['search']>) {
      await settled(SETTLE_WAIT_MS);
      return store.search(...query);
    },
    async groups(...query: Parameters<AlertStore['groups']>) {
      await settled(SETTLE_WAIT_MS);
      return store.groups(...query);
    },
    async show(id: string) {
      await settled(SETTLE_WAIT_MS);
      return (await store.read([id]))[0]?.alert;
    },
    /** A record is shown though nobody can say what rests on it. */
    async marks(ids: readonly string[]) {
      const asked = ids.slice(0, MARKED_MAX);
      if (asked.length === 0) return [];
      const page = await store.search({ records: asked }, MARKS_MAX).catch(() => ({ alerts: [] }));
      return page.alerts.map(({ id, rule, state, reason, records }: Alert): AlertMark => {
        const named = records.filter((record) => asked.includes(record));
        return { id, rule: rule.id, name: rule.name, severity: rule.severity, state, reason, records: named };
      });
    },
  };
}

async function change(
  store: AlertStore,
  id: string,
  apply: (alert: Alert) => Alert,
): Promise<{ readonly before: Alert; readonly after: Alert }> {
  for (let attempt = 0; attempt < CHANGES_MAX; attempt++) {
    const [found] = await store.read([id]);
    if (!found) throw new AppError('not_found', `no alert with id ${id}`);
    const { alert: before, version } = found;
    const after = apply(before);
    if (after === before) return { before, after };
    const [taken] = await store.write([{ alert: after, version }]);
    if (taken) return { before, after };
  }
  throw new AppError('unavailable', 'others are changing this alert all the time; try again');
}

/** What there is room for, and which dead letters go for it. */
function makeRoom(file: DeskFile, notices: readonly Notice[], noticesMax: number, counters: Counters) {
  const added = notices.filter(({ id }) => !file.notices.has(id));
  const dead = [...file.notices.values()].filter(({ state }) => state === 'dead');
  const over = Math.max(0, file.notices.size + added.length - noticesMax);
  const gone = dead.slice(0, over);
  const kept = added.slice(0, added.length - (over - gone.length));
  for (const { channel } of [...gone, ...added.slice(kept.length)]) counters.add('notices_lost', 1, { channel });
  return { kept, gone: gone.map(({ id }) => id) };
}

function noticeDeskOf(file: DeskFile, wake: () => void, clock: Clock, changed: () => void) {
  const answerOf = ({ id, key, channel, change: told, alert, ...notice }: Notice): NoticeAnswer => ({
    ...{ id, key, channel, change: told, state: notice.state, tries: notice.tries },
    ...{ alert: alert.id, rule: alert.rule.id, severity: alert.rule.severity, said: alert.reason },
    created: new Date(notice.createdMs).toISOString(),
    ...(notice.state === 'waiting' ? { next: new Date(notice.nextMs).toISOString() } : {}),
    ...(notice.reason === undefined ? {} : { reason: notice.reason }),
  });
  return {
    notices: () => [...file.notices.values()].map(answerOf),
    async retryNotices(ids: readonly string[]) {
      const found = ids.flatMap((id) => file.notices.get(id) ?? []);
      await file.add(
        [],
        found.map((notice) => ({ ...notice, tries: 0, state: 'waiting', nextMs: clock.nowMs() })),
      );
      changed();
      wake();
      return found.map(({ id }) => id);
    },
    async dropNotices(ids: readonly string[]) {
      const found = ids.filter((id) => file.notices.has(id));
      await file.gone(found);
      changed();
      return found;
    },
  };
}
