import type { Alert } from '../core/alert.ts';
import type { Scheduler } from '../core/clock.ts';
import { AppError, describeError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import { mergeAlert } from '../notify/alert-states.ts';
import type { DeskFile } from '../notify/desk-file.ts';
import type { AlertStore } from '../store/port.ts';
import { Sleepers } from './sleepers.ts';

/** Alerts of one write. */
const BATCH_ALERTS = 200;
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 30_000;

export interface AlertStorerOptions {
  readonly file: DeskFile;
  readonly store: AlertStore;
  /** Why nothing can be written yet; undefined when it can. */
  notReady(): string | undefined;
  readonly scheduler: Scheduler;
  readonly counters: Counters;
  readonly log: {
    info(details: object, words: string): void;
    warn(details: object, words: string): void;
    error(details: object, words: string): void;
  };
}

/** Brings the alerts of the file into the store, for as long as that takes: what a store says of them stays, with what is new. */
export function startAlertStorer(options: AlertStorerOptions) {
  const { file, scheduler, counters, log } = options;
  const sleepers = new Sleepers(scheduler);
  let working: Promise<void> | undefined;

  const run = async () => {
    let failures = 0;
    while (file.unstored.size > 0 && !sleepers.isStopped) {
      try {
        await storeSome(options);
        if (failures > 0) log.info({}, 'alerts can be stored again');
        failures = 0;
      } catch (error) {
        const reason = describeError(error);
        if (failures++ === 0)
          log.warn({ reason }, 'alerts cannot be stored; they are kept, and it is tried until it works');
        await sleepers.sleep(scheduler.random() * Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** failures));
      } finally {
        counters.set('alerts_unstored', file.unstored.size);
      }
    }
  };
  const wake = () => {
    working ??= run().finally(() => {
      working = undefined;
    });
  };
  return {
    wake,
    /** Waits until all are stored, but no longer than this. */
    async settled(waitMs: number): Promise<void> {
      wake();
      const { promise, resolve } = Promise.withResolvers<void>();
      const cancel = scheduler.after(waitMs, resolve);
      await Promise.race([working, promise]);
      cancel();
    },
    async stop(): Promise<void> {
      sleepers.stop();
      await working;
    },
  };
}

async function storeSome({ file, store, notReady, counters, log }: AlertStorerOptions): Promise<void> {
  const reason = notReady();
  if (reason !== undefined) throw new AppError('store_unavailable', reason);
  const batch = [...file.unstored.values()].slice(0, BATCH_ALERTS);
  try {
    await file.stored(await storeAlerts(store, batch));
  } catch (error) {
    if (error instanceof AppError && error.retryable) throw error;
    // One of them may be at fault; each for itself.
    for (const alert of batch) {
      await storeAlerts(store, [alert]).catch((fault: unknown) => {
        if (fault instanceof AppError && fault.retryable) throw fault;
        counters.add('alerts_refused', 1);
        log.error({ error: fault, alert }, 'the store does not take an alert; this line is all that is left of it');
      });
      await file.stored([alert]);
    }
  }
}

/** Those that are in the store now. The others were changed there meanwhile; they are tried again. */
async function storeAlerts(store: AlertStore, alerts: readonly Alert[]): Promise<Alert[]> {
  const known = await store.read(alerts.map(({ id }) => id));
  const writes = alerts.map((alert, at) => {
    const stored = known[at];
    return stored ? { alert: mergeAlert(stored.alert, alert), version: stored.version } : { alert };
  });
  const taken = await store.write(writes);
  return alerts.filter((_, at) => taken[at]);
}
