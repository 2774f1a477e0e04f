import { join } from 'node:path';
import type { Settings } from '../config/schema.ts';
import { DuckDbStore } from '../store/duckdb/store.ts';
import { openElasticsearchStore } from '../store/elasticsearch/store.ts';
import { MemoryStore } from '../store/memory.ts';
import { NullStore } from '../store/null.ts';
import type { Store } from '../store/port.ts';
import { openDataFolder } from '../wal/data-folder.ts';

/** The adapter that the settings name; the one place that knows them all. Nothing is created in it yet (setUp does). */
export async function openStore(settings: Settings): Promise<Store> {
  const { duckdb, elasticsearch, type } = settings.store;
  switch (type) {
    case 'duckdb': {
      const folder = await openDataFolder(settings.dataDir);
      return DuckDbStore.open({
        file: join(folder, 'records.duckdb'),
        memoryBytes: duckdb.memoryBytesMax,
        threads: duckdb.threads,
      });
    }
    case 'elasticsearch':
      return openElasticsearchStore(elasticsearch);
    case 'memory':
      return new MemoryStore();
    case 'null':
      return new NullStore();
  }
}

/** `spantrail setup`: templates or tables, then done. */
export async function setUpStore(settings: Settings): Promise<void> {
  const store = await openStore(settings);
  try {
    await store.setUp();
  } finally {
    await store.close();
  }
}
