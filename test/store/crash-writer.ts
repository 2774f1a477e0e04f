/** Writes batches until it is killed, and says after each how many records are acknowledged. Run by duckdb.test.ts. */
import { DuckDbStore } from '../../src/store/duckdb/store.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';

const store = await DuckDbStore.open({ file: process.argv[2] ?? '', memoryBytes: 500_000_000, threads: 1 });
await store.setUp();
for (let acknowledged = 0; ; ) {
  const batch = Array.from({ length: 100 }, (_, index) =>
    toWrite(makeRecord({ event: { id: (acknowledged + index).toString(16).padStart(32, '0') } })),
  );
  await store.write(batch);
  acknowledged += batch.length;
  process.stdout.write(`${acknowledged}\n`);
}
