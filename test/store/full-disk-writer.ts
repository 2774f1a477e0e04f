/** Writes batches of a hundred, each until it is taken, and says after each try what happened. Run by duckdb-trouble.test.ts. */
import { randomBytes } from 'node:crypto';
import { DuckDbStore } from '../../src/store/duckdb/store.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';

const [file = '', checkpointBytes = ''] = process.argv.slice(2);
const limits = { memoryBytes: 500_000_000, threads: 1, checkpointBytes: Number(checkpointBytes) };
const store = await DuckDbStore.open({ file, ...limits });
await store.setUp();
for (let batch = 0; ; batch++) {
  const writes = Array.from({ length: 100 }, (_, index) =>
    toWrite(
      makeRecord({
        event: { id: `${batch * 100 + index}` },
        // Text that does not compress, so that the disk fills at the pace of the writes.
        error: { stack_trace: randomBytes(1500).toString('base64') },
      }),
    ),
  );
  for (let isTaken = false; !isTaken; ) {
    await store.write(writes).then(
      () => {
        isTaken = true;
      },
      (error: Error & { code?: string }) => process.stdout.write(`refused ${error.code} ${error.message}\n`),
    );
  }
  process.stdout.write(`acknowledged ${(batch + 1) * 100}\n`);
}
