import { join } from 'node:path';
import type { Settings } from '../config/schema.ts';
import type { Clock, Scheduler } from '../core/clock.ts';
import {
  type CoverageAnswer,
  type CoverageNote,
  type CoverageQuestion,
  type CoverageSummary,
  GAP_KINDS,
} from '../core/coverage.ts';
import type { Counters } from '../core/metrics.ts';
import { CoverageLog } from '../coverage/coverage-log.ts';
import {
  countGaps,
  coverageAnswer,
  coverageSummary,
  notWatchedAnswer,
  notWatchedSummary,
  type ReportOptions,
} from '../coverage/report.ts';
import type { Disk } from '../wal/disk.ts';
import type { PumpLog } from './pump.ts';

/** How often what changed is made durable: what a crash may lose of the counts. */
const FLUSH_MS = 5_000;

/** The gauge counts the gaps of this last stretch of time. */
const GAUGE_MS = 86_400_000;

/** Answers to requests of which nothing was kept, though there was nothing wrong with them: no room, a fault, too large. */
const REFUSED_STATUS = new Set(['503', '429', '413', 'UNAVAILABLE', 'RESOURCE_EXHAUSTED']);

export interface CoverageOptions {
  readonly settings: Settings['coverage'];
  /** The data folder. */
  readonly folder: string;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly counters: Counters;
  readonly log: PumpLog;
  /** Age of the oldest evidence that is not stored yet: until it is, its services only seem silent. */
  readonly lagMs: () => number;
}

/** What is known of what was and was not seen. */
export interface Coverage {
  add(notes: readonly CoverageNote[]): void;
  answer(question: CoverageQuestion): CoverageAnswer;
  summary(question: CoverageQuestion): CoverageSummary;
  /** Makes everything durable and says that this run ends well. */
  close(): Promise<void>;
}

/** Opens the coverage log in the data folder and keeps it durable. Rejects when the folder cannot be used. */
export async function startCoverage(options: CoverageOptions): Promise<Coverage> {
  const { settings, folder, disk, clock, log } = options;
  if (!settings.enabled) return notWatching(clock);
  const coverage = await CoverageLog.open({
    ...{ folder: join(folder, 'coverage'), disk, clock, settings },
    report: (damage) => log.warn(damage, 'a file of the coverage log could not be read and is put aside'),
  });
  const before = coverage.facts().runs.at(-2);
  if (before?.isClean === false) {
    const words = 'the last run ended without a stop: what it counted for coverage in its last seconds is missing';
    log.warn({ aliveMs: before.aliveMs }, words);
  }
  const reportOptions = (): ReportOptions => ({
    facts: coverage.facts(),
    settings,
    nowMs: clock.nowMs(),
    countedUntilMs: clock.nowMs() - options.lagMs(),
    knownSinceMs: coverage.knownSinceMs(),
  });
  const measure = () => {
    const counts = countGaps({ fromMs: clock.nowMs() - GAUGE_MS }, reportOptions());
    for (const kind of GAP_KINDS) options.counters.set('coverage_gaps', counts.get(kind) ?? 0, { kind });
  };
  const stop = keepDurable(coverage, options, measure);
  return {
    add: (notes) => coverage.add(notes),
    answer: (question) => coverageAnswer(question, reportOptions()),
    summary: (question) => coverageSummary(question, reportOptions()),
    async close() {
      await stop();
      await coverage.close();
    },
  };
}

/** Flushes now, so that a run that is killed soon is known of, and then again and again until it is stopped. */
function keepDurable(
  coverage: CoverageLog,
  { counters, scheduler, log }: CoverageOptions,
  measure: () => void,
): () => Promise<void> {
  let refusedBefore = 0;
  let isFailing = false;
  const look = () => {
    const refused = refusedRequests(counters);
    coverage.refused(refused - refusedBefore);
    refusedBefore = refused;
    measure();
  };
  const flush = async () => {
    try {
      await coverage.flush();
      isFailing = false;
    } catch (error) {
      // Said once: a full disk stays full for a while, and the write-ahead log has more to say about it.
      if (!isFailing) log.warn({ error }, 'the coverage log could not be written, will be tried again');
      isFailing = true;
    }
  };
  let flushing = flush();
  const again = (): (() => void) =>
    scheduler.after(FLUSH_MS, () => {
      look();
      flushing = flush().then(() => {
        cancel = again();
      });
    });
  let cancel = again();
  return async () => {
    cancel();
    await flushing;
    // The flush that was under way has planned another.
    cancel();
    look();
  };
}

function refusedRequests(counters: Counters): number {
  return counters
    .samples()
    .filter(({ name, labels }) => name === 'requests' && REFUSED_STATUS.has(labels['status'] ?? ''))
    .reduce((total, { value }) => total + value, 0);
}

function notWatching(clock: Clock): Coverage {
  return {
    add: () => undefined,
    answer: () => notWatchedAnswer(clock.nowMs()),
    summary: () => notWatchedSummary(),
    close: async () => undefined,
  };
}
