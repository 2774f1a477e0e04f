import type { PipelineAnswer } from '../api/contract.ts';
import type { Settings } from '../config/schema.ts';
import type { Counters } from '../core/metrics.ts';
import type { PumpStatus } from './pump.ts';

export interface PipelineState {
  readonly settings: Settings;
  readonly counters: Counters;
  /** Undefined until the write-ahead log is replayed. */
  readonly status: PumpStatus | undefined;
  /** What the store said at last, when it did not do what it was asked. */
  readonly storeFailure: string | undefined;
  readonly replaying: boolean;
  readonly refusing: boolean;
}

/** What `GET /api/v1/pipeline` answers. */
export function describePipeline(pipeline: PipelineState): PipelineAnswer {
  const { settings, counters, status, storeFailure, replaying, refusing } = pipeline;
  return {
    store: {
      type: settings.store.type,
      state: storeFailure === undefined ? 'writing' : 'retrying',
      ...(storeFailure === undefined ? {} : { error: storeFailure }),
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
