import { type Scheduler, systemScheduler } from '../core/clock.ts';
import { AppError, describeError } from '../core/errors.ts';
import type { Store } from '../store/port.ts';
import { Sleepers } from './sleepers.ts';

/** A cluster that says nothing is waited for this long; then evidence is taken all the same. */
const FIRST_WAIT_MS = 5_000;

export interface SetUpOptions {
  /** As the pump's: random waits up to the first limit, doubled with each failure up to the second, milliseconds. */
  readonly retryFirstMs: number;
  readonly retryMaxMs: number;
  readonly scheduler?: Scheduler;
  readonly log: { info(details: object, message: string): void; warn(details: object, message: string): void };
}

export interface SetUp {
  /** Its writes throw AppError `store_unavailable` until the store is set up: no record lands in an index without a template. */
  readonly store: Pick<Store, 'write' | 'get'>;
  /** What kept it from being set up at last, in one line; undefined once it is. */
  failure(): string | undefined;
  /** No further tries. */
  stop(): void;
}

/**
 * Sets a store up that may be away for now, in which case that is tried again until it works, whether or not there is something
 * to write. Rejects with what the first try throws when waiting would not mend it.
 */
export async function startSetUp(store: Store, options: SetUpOptions): Promise<SetUp> {
  const { scheduler = systemScheduler, log } = options;
  const sleepers = new Sleepers(scheduler);
  let failure: string | undefined = 'it has not answered yet, so it is not set up';
  let isLate = false;
  let trying: Promise<void> | undefined;
  const setUp = async () => {
    try {
      await store.setUp();
      failure = undefined;
      if (isLate) log.info({}, 'the store is set up; what waited is written now');
    } catch (thrown) {
      failure = describeError(thrown);
      throw thrown;
    } finally {
      trying = undefined;
    }
  };
  // Those who write and the loop below share one try.
  const attempt = async () => {
    if (failure === undefined || sleepers.isStopped) return;
    trying ??= setUp();
    await trying;
  };

  const first = attempt();
  try {
    await Promise.race([first, sleepers.sleep(FIRST_WAIT_MS)]);
  } catch (thrown) {
    if (!(thrown instanceof AppError && thrown.retryable)) throw thrown;
  } finally {
    sleepers.wakeAll();
  }
  const repeat = async () => {
    await first.catch(() => undefined);
    for (let failures = 0; failure !== undefined && !sleepers.isStopped; failures++) {
      await sleepers.sleepThrough(
        scheduler.random() * Math.min(options.retryFirstMs * 2 ** failures, options.retryMaxMs),
      );
      await attempt().catch(() => undefined);
    }
  };
  if (failure !== undefined) {
    isLate = true;
    log.warn(
      { reason: failure },
      'the store cannot be set up yet: evidence is taken, and this is tried until it works',
    );
    void repeat();
  }
  return {
    store: {
      get: (id, hint) => store.get(id, hint),
      async write(batch) {
        await attempt().catch(() => undefined);
        if (failure !== undefined) throw new AppError('store_unavailable', failure);
        return store.write(batch);
      },
    },
    failure: () => failure,
    stop: () => sleepers.stop(),
  };
}
