import { join } from 'node:path';
import type { Settings } from '../config/schema.ts';
import { AppError } from '../core/errors.ts';
import type { FindingKind } from '../store/care.ts';
import { MemoryStore } from '../store/memory.ts';
import { NullStore } from '../store/null.ts';
import type { Store } from '../store/port.ts';
import { openDataFolder } from '../wal/data-folder.ts';

const SET_UP_MATTERS: ReadonlySet<FindingKind> = new Set([
  'template_missing',
  'template_changed',
  'template_outdated',
  'mapping_outdated',
  'unsupported_server',
]);

/**
 * The adapter that the settings name; the one place that knows them all. Nothing is created in it yet (setUp does). Libraries of
 * the others are not loaded.
 */
export async function openStore(settings: Settings): Promise<Store> {
  const { duckdb, elasticsearch, type } = settings.store;
  switch (type) {
    case 'duckdb': {
      const { DuckDbStore } = await import('../store/duckdb/store.ts');
      const folder = await openDataFolder(settings.dataDir);
      return DuckDbStore.open({
        file: join(folder, 'records.duckdb'),
        memoryBytes: duckdb.memoryBytesMax,
        threads: duckdb.threads,
      });
    }
    case 'elasticsearch': {
      checkRetention(settings);
      const { openElasticsearchStore } = await import('../store/elasticsearch/store.ts');
      return openElasticsearchStore(elasticsearch);
    }
    case 'memory':
      return new MemoryStore();
    case 'null':
      return new NullStore();
  }
}

/** `spantrail setup`: templates or tables, then done. Returns a line for each thing that still is not as it should be. */
export async function setUpStore(
  settings: Settings,
  options: { readonly overwrite?: boolean } = {},
): Promise<string[]> {
  const store = await openStore(settings);
  try {
    await store.setUp({ ...options, namespace: settings.namespace });
    const findings = (await store.care?.inspect()) ?? [];
    // The rights that are missing are those of a running Spantrail, which is somebody else.
    return findings.filter(({ kind }) => SET_UP_MATTERS.has(kind)).map(({ text }) => text);
  } finally {
    await store.close();
  }
}

/** What late evidence can still revise, and reconcile compares, must not be deleted meanwhile. */
function checkRetention({ store, wal }: Settings): void {
  const { retentionMs } = store.elasticsearch;
  if (retentionMs === undefined || retentionMs >= wal.horizonAgeMs) return;
  throw new AppError('config', 'store.elasticsearch.retentionMs: must not be less than wal.horizonAgeMs');
}
