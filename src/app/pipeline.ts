import type { PipelineAnswer } from '../api/contract.ts';
import type { Settings } from '../config/schema.ts';
import type { Counters } from '../core/metrics.ts';
import type { PumpStatus } from './pump.ts';

export interface PipelineState {
  readonly settings: Settings;
  readonly counters: Counters;
  /** Undefined until the write-ahead log is replayed. */
  readonly status: PumpStatus | undefined;
  readonly replaying: boolean;
  readonly refusing: boolean;
}

/** What `GET /api/v1/pipeline` answers. */
export function describePipeline({ settings, counters, status, replaying, refusing }: PipelineState): PipelineAnswer {
  return {
    store: {
      type: settings.store.type,
      state: status?.storeFailure === undefined ? 'writing' : 'retrying',
      ...(status?.storeFailure === undefined ? {} : { error: status.storeFailure }),
    },
    pending: {
      evidence: status?.evidencePending ?? 0,
      traces: status?.tracesOpen ?? 0,
      lag_ms: status?.lagMs ?? 0,
    },
    wal: {
      bytes: status?.walBytes ?? 0,
      unsettled_bytes: status?.unsettledBytes ?? 0,
      unsettled_bytes_max: settings.wal.unsettledBytesMax,
      horizon_ms: status?.horizonMs ?? 0,
    },
    sums: status?.sums ?? [],
    refusing,
    replaying,
    counters: counters.samples(),
  };
}
