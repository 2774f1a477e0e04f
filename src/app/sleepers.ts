import type { Scheduler } from '../core/clock.ts';

/** Waiting that news cuts short, and that ends for good when the stages stop. */
export class Sleepers {
  readonly #scheduler: Scheduler;
  readonly #wakers = new Set<() => void>();
  #wakes = 0;
  #stopped = false;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** Wake-ups so far: one that comes while a loop is busy must not be slept over. */
  get wakes(): number {
    return this.#wakes;
  }

  get isStopped(): boolean {
    return this.#stopped;
  }

  wakeAll(): void {
    this.#wakes++;
    for (const wake of this.#wakers) wake();
  }

  /** From now on nothing sleeps. */
  stop(): void {
    this.#stopped = true;
    this.wakeAll();
  }

  /** Does not sleep at all when there was a wake-up after the one numbered `wakes`. */
  async sleep(delayMs: number, wakes = this.#wakes): Promise<void> {
    if (this.#stopped || wakes !== this.#wakes) return;
    await new Promise<void>((resolve) => {
      const wake = () => {
        cancel();
        this.#wakers.delete(wake);
        resolve();
      };
      const cancel = this.#scheduler.after(delayMs, wake);
      this.#wakers.add(wake);
    });
  }

  /** Not cut short by news, so that a store that is down is not asked all the time. */
  async sleepThrough(delayMs: number): Promise<void> {
    const endMs = this.#scheduler.elapsedMs() + delayMs;
    const leftMs = () => endMs - this.#scheduler.elapsedMs();
    while (!this.#stopped && leftMs() > 0) await this.sleep(Math.max(leftMs(), 1));
  }
}
