import { expect, it } from 'vitest';
import { AppError } from '../../src/core/errors.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { EVERYTHING } from '../../src/query/ast.ts';
import { openElasticsearchStore } from '../../src/store/elasticsearch/store.ts';
import { startElasticsearch } from '../setup/elasticsearch.ts';
import { hourly, SETTINGS } from './elasticsearch-records.ts';

const BATCHES = 24;
const BATCH_RECORDS = 20;

it('a node that is killed while it writes, and started again, has every record once', async (context) => {
  const server = await startElasticsearch('9.5.0');
  if ('skipped' in server) {
    process.stderr.write(`\nSKIPPED restart: ${server.skipped}. To have it: SPANTRAIL_REQUIRE=elasticsearch\n`);
    return context.skip(server.skipped);
  }
  try {
    const store = await openElasticsearchStore({
      ...SETTINGS,
      urls: [server.url],
      indexPeriod: 'month',
      requestTimeoutMs: 5000,
    });
    await store.setUp();
    const namespace = 'restarted';
    const all = hourly(namespace, BATCHES * BATCH_RECORDS, 1n);
    let failures = 0;
    /** As the pump does: the same batch until it is taken. */
    const write = async (batch: readonly RecordWrite[]) => {
      for (;;) {
        try {
          return await store.write(batch);
        } catch (error) {
          // Nothing but that: no record is at fault while the node is away or starts.
          if (!(error instanceof AppError && error.code === 'store_unavailable')) throw error;
          failures++;
        }
      }
    };
    let restarted: Promise<void> | undefined;
    for (let batch = 0; batch < BATCHES; batch++) {
      if (batch === 10) restarted = server.halt('SIGKILL').then(() => server.resume());
      const result = await write(all.slice(batch * BATCH_RECORDS, (batch + 1) * BATCH_RECORDS));
      expect(result).toEqual({ written: BATCH_RECORDS, outranked: 0, rejected: [] });
    }
    await restarted;
    expect(failures).toBeGreaterThan(0);
    await store.refresh();
    expect(await store.count({ query: EVERYTHING, inner: true, namespace })).toBe(all.length);
    expect(await store.ranks(all)).toEqual(all.map(() => 1n));
    await store.close();
  } finally {
    await server.stop();
  }
}, 600_000);
