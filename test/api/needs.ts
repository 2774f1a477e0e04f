import type { ApiDependencies } from '../../src/api/server.ts';
import { MemoryStore } from '../../src/store/memory.ts';

/** What the API needs, with nothing in it, but for what a test gives. */
export function apiNeeds(given: Partial<ApiDependencies>): ApiDependencies {
  return {
    store: new MemoryStore(),
    clock: { nowMs: () => 0 },
    version: '0.0.0',
    subscribe: () => () => undefined,
    readTrace: async () => [],
    pipeline: () => Promise.reject(new Error('no pipeline')),
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
    ready: () => true,
    metricsText: async () => '',
    reportFailure: () => undefined,
    ...given,
  };
}
