import { type Clock, type Scheduler, systemScheduler } from '../core/clock.ts';
import { describeError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import { FINDING_KINDS, type Finding, type StoreCare } from '../store/care.ts';
import { Sleepers } from './sleepers.ts';

/** What changes a template or blocks an index is a person or a full disk: soon enough to be seen before anybody asks. */
const INSPECT_MS = 5 * 60_000;

/** An index gets old once a day at most. Rounds of several instances are spread over this time. */
const RETIRE_MS = 3_600_000;
const RETIRE_FIRST_MS = 60_000;

export interface StoreCareOptions {
  readonly care: StoreCare;
  readonly clock: Clock;
  readonly scheduler?: Scheduler;
  readonly counters: Counters;
  readonly log: {
    info(details: object, message: string): void;
    warn(details: object, message: string): void;
  };
  /** Default: the constants above. */
  readonly inspectMs?: number;
  readonly retireMs?: number;
}

/** Looks after the store from now on: tells what is wrong with it once, when it begins and when it ends, and deletes what is too old. */
export function startStoreCare(options: StoreCareOptions): { stop(): void } {
  const { care, clock, scheduler = systemScheduler, counters, log, inspectMs = INSPECT_MS } = options;
  const sleepers = new Sleepers(scheduler);
  let found: readonly Finding[] = [];
  let stuck: readonly Finding[] = [];
  const told = new Set<string>();

  const tell = () => {
    const all = [...found, ...stuck];
    for (const kind of FINDING_KINDS) {
      counters.set('store_findings', all.filter((finding) => finding.kind === kind).length, { kind });
    }
    for (const { kind, state, text } of all) {
      if (told.has(text)) continue;
      told.add(text);
      log[state === 'bad' ? 'warn' : 'info']({ kind }, `store: ${text}`);
    }
    for (const text of told) {
      if (all.some((finding) => finding.text === text)) continue;
      told.delete(text);
      log.info({ was: text }, 'store: that is over');
    }
  };

  const inspect = async () => {
    for (;;) {
      // One that does not answer is told by those who write; what was found last stands until it is looked at again.
      found = await care.inspect().catch(() => found);
      if (sleepers.isStopped) return;
      tell();
      await sleepers.sleepThrough(inspectMs);
    }
  };

  const retire = async (round: (nowMs: number) => ReturnType<NonNullable<StoreCare['retire']>>) => {
    await sleepers.sleepThrough(options.retireMs ?? RETIRE_FIRST_MS);
    while (!sleepers.isStopped) {
      try {
        const { deleted, kept } = await round(clock.nowMs());
        for (const { index, documents } of deleted) {
          counters.add('indices_retired', 1);
          counters.add('documents_retired', documents);
          log.info({ index, documents }, 'store: an index older than store.elasticsearch.retentionMs is deleted');
        }
        stuck = kept.map(({ index, reason }) => {
          return { kind: 'retention', state: 'bad', text: `${index} is old enough to be deleted and stays: ${reason}` };
        });
        tell();
      } catch (error) {
        log.warn({ reason: describeError(error) }, 'store: nothing could be retired; it is tried again');
      }
      await sleepers.sleepThrough((options.retireMs ?? RETIRE_MS) * (0.75 + scheduler.random() / 2));
    }
  };

  void inspect();
  if (care.retire) void retire(care.retire);
  return { stop: () => sleepers.stop() };
}
