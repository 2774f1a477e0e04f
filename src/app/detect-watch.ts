import type { Scheduler } from '../core/clock.ts';
import type { CoverageGap } from '../core/coverage.ts';
import type { Counters, MetricName } from '../core/metrics.ts';
import type { PipelineNews } from './detect-news.ts';

/** What the pipeline is asked for, again and again. Reasons are sentences; undefined: all is well. */
export interface PipelineView {
  storeFailure(): string | undefined;
  refusing(): string | undefined;
  diskShort(): string | undefined;
  /** Of the last hours. */
  gaps(): readonly CoverageGap[];
  readonly counters: Counters;
}

const LOOK_MS = 2_000;
/** A store that missed one batch is tried again before people hear of it. */
const LOOKS_FAILING = 3;

/** Counters of which each rise is news. */
const COUNTED: readonly {
  readonly name: MetricName;
  readonly action: PipelineNews['action'];
  readonly words: string;
}[] = [
  {
    name: 'quarantined',
    action: 'pipeline.quarantined',
    words: 'items were set aside that could not be stored or read',
  },
  {
    name: 'tls_reload_failures',
    action: 'pipeline.tls_reload_failed',
    words: 'certificates or tokens were replaced and cannot be used; the old ones stand',
  },
];

/** Tells the rules what goes wrong, once when it begins. Returns how to stop. */
export function watchPipeline(
  view: PipelineView,
  scheduler: Scheduler,
  tell: (news: PipelineNews) => void,
): () => void {
  const lasting = new Map<string, number>();
  const gapsTold = new Set<string>();
  const counted = new Map(COUNTED.map(({ name }) => [name, view.counters.total(name)]));
  const state = (action: PipelineNews['action'], reason: string | undefined, looks: number) => {
    const seen = reason === undefined ? 0 : (lasting.get(action) ?? 0) + 1;
    lasting.set(action, seen);
    if (reason !== undefined && seen === looks) tell({ action, reason, of: action.slice('pipeline.'.length) });
  };
  const look = () => {
    state('pipeline.store_failing', view.storeFailure(), LOOKS_FAILING);
    state('pipeline.refusing', view.refusing(), 1);
    state('pipeline.disk_short', view.diskShort(), 1);
    for (const { name, action, words } of COUNTED) {
      const total = view.counters.total(name);
      const more = total - (counted.get(name) ?? 0);
      if (more > 0) tell({ action, reason: `${more} ${words}`, of: name });
      counted.set(name, total);
    }
    const gaps = view.gaps();
    for (const gap of gaps) {
      const { kind, service, namespace, text, from } = gap;
      if (gapsTold.has(gapKey(gap))) continue;
      tell({
        ...{ action: 'pipeline.coverage_gap', reason: text, of: kind, at: from },
        ...{ ...(service ? { service } : {}), ...(namespace ? { namespace } : {}) },
      });
    }
    const keys = gaps.map(gapKey);
    gapsTold.clear();
    for (const key of keys) gapsTold.add(key);
  };
  let cancel = () => {};
  const wait = () => {
    cancel = scheduler.after(LOOK_MS, () => {
      look();
      wait();
    });
  };
  wait();
  return () => cancel();
}

function gapKey({ kind, namespace, service, from }: CoverageGap): string {
  return JSON.stringify([kind, namespace, service, from]);
}
