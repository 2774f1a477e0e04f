import type { AuditRecord } from '../core/record.ts';
import type { RecordWrite } from '../core/settlement.ts';
import type { Store } from '../store/port.ts';

export type WriteListener = (writes: readonly RecordWrite[]) => void;

/** What is written is written: a follower that fails must not make it look otherwise, and loses its place instead. */
function tell(listener: WriteListener, writes: readonly RecordWrite[], forget: () => void): void {
  try {
    listener(writes);
  } catch {
    forget();
  }
}

/** Those who follow records as they are stored. */
export function createObservers() {
  const listeners = new Set<WriteListener>();
  const subscribeWrites = (listener: WriteListener): (() => void) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  };
  return {
    subscribeWrites,
    subscribe: (listener: (records: readonly AuditRecord[]) => void) =>
      subscribeWrites((writes) => listener(writes.map(({ record }) => record))),
    /** A store that tells the listeners of every batch once it is durable. */
    watch(store: Pick<Store, 'write' | 'get'>): Pick<Store, 'write' | 'get'> {
      return {
        get: (id, hint) => store.get(id, hint),
        write: async (batch) => {
          const result = await store.write(batch);
          if (listeners.size > 0) {
            const rejected = new Set(result.rejected.map(({ id }) => id));
            const stored = rejected.size === 0 ? batch : batch.filter(({ id }) => !rejected.has(id));
            for (const listener of listeners) tell(listener, stored, () => listeners.delete(listener));
          }
          return result;
        },
      };
    },
  };
}
