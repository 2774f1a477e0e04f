import type { PipelineAnswer } from '../../src/api/contract.ts';
import type { ApiDependencies } from '../../src/api/server.ts';
import { MemoryStore } from '../../src/store/memory.ts';

/** A Spantrail that does nothing. */
export const IDLE: PipelineAnswer = {
  store: { type: 'memory', state: 'writing' },
  pending: { evidence: 0, traces: 0, lag_ms: 0 },
  wal: { bytes: 0, unsettled_bytes: 0, unsettled_bytes_max: 1, horizon_ms: 0 },
  sums: [],
  refusing: false,
  replaying: false,
  counters: [],
};

/** Nothing was ever raised. */
export function noAlerts(): ApiDependencies['alerts'] {
  return {
    ...new MemoryStore().alerts,
    show: async () => undefined,
    setState: async () => {
      throw new Error('no alerts');
    },
    marks: async () => [],
    notices: () => [],
    retryNotices: async () => [],
    dropNotices: async () => [],
    testChannel: async () => ({ kind: 'delivered', answer: '200' }),
  };
}

/** What the API needs, with nothing in it, but for what a test gives. */
export function apiNeeds(given: Partial<ApiDependencies>): ApiDependencies {
  return {
    store: new MemoryStore(),
    clock: { nowMs: () => 0 },
    version: '0.0.0',
    subscribe: () => () => undefined,
    readTrace: async () => [],
    pipeline: async () => IDLE,
    coverage: {
      answer: () => {
        throw new Error('no coverage');
      },
      summary: () => {
        throw new Error('no coverage');
      },
    },
    quarantine: {
      list: async () => ({ items: [], open: 0, bytes: 0, bytes_max: 1, damaged: 0 }),
      show: async () => undefined,
      retry: async () => ({ results: [] }),
      drop: async () => ({ results: [] }),
    },
    reconcile: { run: async () => undefined },
    alerts: noAlerts(),
    insights: { sensitive: undefined, granted: [] },
    readiness: () => ({ stopping: false, refusing: [], bufferingShare: undefined, replaying: false }),
    metricsText: async () => '',
    reportFailure: () => undefined,
    ...given,
  };
}
