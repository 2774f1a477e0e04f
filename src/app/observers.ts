import type { AuditRecord } from '../core/record.ts';
import type { Store } from '../store/port.ts';

export type RecordListener = (records: readonly AuditRecord[]) => void;

/** What is written is written: a follower that fails must not make it look otherwise, and loses its place instead. */
function tell(listener: RecordListener, records: readonly AuditRecord[], forget: () => void): void {
  try {
    listener(records);
  } catch {
    forget();
  }
}

/** Those who follow records as they are stored. */
export function createObservers() {
  const listeners = new Set<RecordListener>();
  return {
    subscribe(listener: RecordListener): () => void {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    /** A store that tells the listeners of every batch once it is durable. */
    watch(store: Pick<Store, 'write' | 'get'>): Pick<Store, 'write' | 'get'> {
      return {
        get: (id, hint) => store.get(id, hint),
        write: async (batch) => {
          const result = await store.write(batch);
          if (listeners.size > 0) {
            const rejected = new Set(result.rejected.map(({ id }) => id));
            const records = batch.filter(({ id }) => !rejected.has(id)).map(({ record }) => record);
            for (const listener of listeners) tell(listener, records, () => listeners.delete(listener));
          }
          return result;
        },
      };
    },
  };
}
