import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DuckDbStore } from '../../src/store/duckdb/store.ts';
import { describeDifferential } from '../conformance/differential.ts';
import { describeStore } from '../conformance/store.ts';

async function open() {
  const folder = await mkdtemp(join(tmpdir(), 'spantrail-duckdb-'));
  const store = await DuckDbStore.open({ file: join(folder, 'records.duckdb'), memoryBytes: 500_000_000, threads: 2 });
  return {
    store,
    dispose: async () => {
      await store.close();
      await rm(folder, { recursive: true });
    },
  };
}

describeStore('duckdb', open);
describeDifferential('duckdb', open);
