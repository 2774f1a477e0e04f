import { REFUSALS, type Readiness, type Refusal } from '../api/readiness.ts';
import type { Counters } from '../core/metrics.ts';
import type { SetUp } from './set-up.ts';
import type { Stages } from './stages.ts';

export interface ReadinessOptions {
  readonly stages: Pick<Stages, 'state' | 'budget' | 'unsettledBytes'>;
  readonly setUp: Pick<SetUp, 'failure'>;
  readonly unsettledBytesMax: number;
  readonly counters: Counters;
}

/** What can be said now without asking the shards; puts it into the gauges, too. */
export function createReadiness({ stages, setUp, unsettledBytesMax, counters }: ReadinessOptions): () => Readiness {
  counters.set('wal_unsettled_bytes_max', unsettledBytesMax);
  return () => {
    const { state } = stages;
    const refusing = stages.budget().reasons;
    const isFailing = (state.pump?.status().storeFailure ?? setUp.failure()) !== undefined;
    for (const reason of Object.keys(REFUSALS) as Refusal[]) {
      counters.set('refusing', refusing.includes(reason) ? 1 : 0, { reason });
    }
    counters.set('store_failing', isFailing ? 1 : 0);
    counters.set('replaying', state.replaying ? 1 : 0);
    return {
      stopping: state.stopping,
      refusing,
      bufferingShare: isFailing ? stages.unsettledBytes() / unsettledBytesMax : undefined,
      replaying: state.replaying,
    };
  };
}
