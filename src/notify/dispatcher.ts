import type { Clock, Scheduler } from '../core/clock.ts';
import type { Counters } from '../core/metrics.ts';
import type { Channel } from './channel.ts';
import type { DeskFile } from './desk-file.ts';
import type { Notice, Outcome } from './notice.ts';
import type { Quiet } from './quiet.ts';

/** Attempts of one channel at once: a receiver that hangs holds up no more, and only its own channel. */
const ATTEMPTS_MAX = 4;
const RETRY_FIRST_MS = 1000;
/** Timers are no longer than this, so that a clock that is set is noticed. */
const LOOK_AGAIN_MS = 60_000;

export interface DispatcherOptions {
  readonly file: DeskFile;
  readonly channels: ReadonlyMap<string, Channel>;
  readonly quiet: Quiet;
  readonly triesMax: number;
  readonly retryMaxMs: number;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly counters: Counters;
  readonly log: { info(details: object, words: string): void; warn(details: object, words: string): void };
  /** What waits is not what it was. */
  onChange(): void;
  /** The first dead letter of a channel since it last took something: those that follow say nothing new. */
  onDead(notice: Notice): void;
}

/**
 * Sends what waits: each channel on its own, a few at a time, the oldest first. A notice leaves the file after the receiver took
 * it, so a crash in between sends it again, with the same key. What fails waits for a random part of twice as long as the time
 * before (full jitter); after the last try, or an answer that is final, it is a dead letter.
 */
export function startDispatcher(options: DispatcherOptions) {
  const { file, channels, quiet, clock, scheduler } = options;
  const failing = new Set<string>();
  const inWork = new Map<string, Set<string>>([...channels.keys()].map((name) => [name, new Set()]));
  let isStopped = false;
  let cancel: () => void = () => undefined;

  const attempt = async (channel: Channel, notice: Notice) => {
    const working = inWork.get(channel.name);
    working?.add(notice.id);
    try {
      const outcome = await channel.deliver(notice);
      await settle(options, notice, outcome, failing);
    } catch (error) {
      // Not durable: it is in memory, and the file is written anew with the next change.
      options.log.warn({ error, notice: notice.id }, 'what became of a notice cannot be written');
    } finally {
      working?.delete(notice.id);
      options.onChange();
      look();
    }
  };

  const look = () => {
    if (isStopped) return;
    cancel();
    const nowMs = clock.nowMs();
    let nextMs = nowMs + LOOK_AGAIN_MS;
    for (const notice of file.notices.values()) {
      if (notice.state === 'dead') continue;
      const channel = channels.get(notice.channel);
      if (channel === undefined) {
        const reason = `there is no channel ${notice.channel} any more`;
        settle(options, notice, { kind: 'dead', reason }, failing).catch(() => undefined);
        continue;
      }
      const working = inWork.get(channel.name);
      if (working === undefined || working.size >= ATTEMPTS_MAX || working.has(notice.id)) continue;
      const dueMs = quiet(channel.name, notice.alert.rule.severity, Math.max(nowMs, notice.nextMs)) ?? notice.nextMs;
      if (dueMs <= nowMs) void attempt(channel, notice);
      else nextMs = Math.min(nextMs, dueMs);
    }
    cancel = scheduler.after(Math.max(1, nextMs - nowMs), look);
  };

  return {
    /** Something is new. */
    wake: look,
    /** Nothing more begins; what is in work is not waited for: it is in the file. */
    stop() {
      isStopped = true;
      cancel();
    },
  };
}

async function settle(
  options: DispatcherOptions,
  notice: Notice,
  outcome: Outcome,
  failing: Set<string>,
): Promise<void> {
  const { file, counters, log, clock, scheduler } = options;
  const { channel, id } = notice;
  // Given up by a person meanwhile.
  if (!file.notices.has(id)) return;
  counters.add('notices', 1, { channel, outcome: outcome.kind });
  if (outcome.kind === 'delivered') {
    failing.delete(channel);
    log.info({ channel, notice: id, alert: notice.alert.id, answer: outcome.answer.slice(0, 100) }, 'notice delivered');
    await file.gone([id]);
    return;
  }
  const tries = notice.tries + 1;
  const { reason } = outcome;
  if (outcome.kind === 'dead' || tries >= options.triesMax) {
    log.warn({ channel, notice: id, alert: notice.alert.id, tries, reason }, 'notice given up: it is a dead letter');
    const dead: Notice = { ...notice, tries, reason, state: 'dead' };
    const durable = file.add([], [dead]);
    if (!failing.has(channel)) options.onDead(dead);
    failing.add(channel);
    await durable;
    return;
  }
  const limitMs = Math.min(options.retryMaxMs, RETRY_FIRST_MS * 2 ** notice.tries);
  const waitMs = Math.max(outcome.afterMs ?? 0, scheduler.random() * limitMs);
  log.warn(
    { channel, notice: id, tries, reason, waitMs: Math.round(waitMs) },
    'notice not delivered; it is tried again',
  );
  await file.add([], [{ ...notice, tries, reason, nextMs: clock.nowMs() + waitMs }]);
}
