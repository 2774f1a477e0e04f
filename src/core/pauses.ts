import { type Scheduler, systemScheduler } from './clock.ts';

/** An acknowledgement needs half a dozen turns of the event loop: work that goes on for longer keeps it waiting. */
const WORK_MS = 3;

/** Lets others in while something long goes on. */
export class Pauses {
  readonly #scheduler: Scheduler;
  #endMs: number;

  constructor(scheduler = systemScheduler) {
    this.#scheduler = scheduler;
    this.#endMs = scheduler.elapsedMs() + WORK_MS;
  }

  /** Has it gone on for long? */
  get isDue(): boolean {
    return this.#scheduler.elapsedMs() >= this.#endMs;
  }

  /** The next turn of the event loop. */
  async take(): Promise<void> {
    await new Promise<void>((resolve) => this.#scheduler.after(0, resolve));
    this.#endMs = this.#scheduler.elapsedMs() + WORK_MS;
  }
}
