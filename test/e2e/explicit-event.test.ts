import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, inject, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import { explicitEvent, makeTrace } from './clinic-evidence.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const elasticsearch = inject('elasticsearch')['9.5.0'];
const STORES = [
  { store: 'memory', args: ['--store', 'memory'], skip: false },
  { store: 'duckdb', args: ['--store', 'duckdb'], skip: false },
  {
    store: 'elasticsearch',
    args: ['--elasticsearch-url', 'url' in elasticsearch ? elasticsearch.url : ''],
    skip: 'skipped' in elasticsearch,
  },
];

/** Record fields that tell how and when, not what (shared list: the record's exempt fields). */
function withoutExempt(record: AuditRecord | undefined): unknown {
  if (!record) return undefined;
  const { ingested: _ingested, ...event } = record.event;
  const { revision: _revision, revised_at: _at, supersedes: _supersedes, join: joined, ...audit } = record.audit;
  const { reason: _reason, late: _late, horizon: _horizon, ...rest } = joined;
  return { ...record, event, audit: { ...audit, join: rest } };
}

let running: RunningProcess | undefined;
const folders: string[] = [];
afterEach(async () => {
  await running?.stop('SIGKILL');
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

describe('an explicit event of a span', () => {
  for (const { store, args, skip } of STORES) {
    it.skipIf(skip)(`before, with and after its span makes the same one record, on ${store}`, async () => {
      const trace = makeTrace(0);
      const records: unknown[] = [];
      for (const order of ['before', 'with', 'after'] as const) {
        const folder = mkdtempSync(join(tmpdir(), 'spantrail-e2e-'));
        folders.push(folder);
        const namespace = `e2e-${randomBytes(4).toString('hex')}`;
        running = await startProcess(['--data-dir', folder, ...args], { SPANTRAIL_NAMESPACE: namespace });
        const sends = [() => running?.send('logs', explicitEvent(trace)), () => running?.send('traces', trace.payload)];
        for (const send of order === 'after' ? sends.reverse() : sends) {
          expect(await send()).toBe(200);
          if (order !== 'with') await running.settled();
        }
        await running.settled();
        // Elasticsearch shows what it holds a second later at most.
        await expect
          .poll(
            () =>
              running?.search(
                `data_stream.namespace: ${namespace} and audit.purpose: treatment and audit.join.spans: 2`,
              ),
            {
              timeout: 10_000,
            },
          )
          .toHaveLength(1);
        const found = await running.search(`data_stream.namespace: ${namespace} and audit.entry: true`);
        expect(found).toHaveLength(1);
        if (order !== 'with') expect(found[0]?.audit.revision).toBe(2);
        // The id holds the namespace, which differs from run to run here.
        const text = JSON.stringify(withoutExempt(found[0]));
        records.push(JSON.parse(text.replaceAll(namespace, 'ns').replaceAll(found[0]?.event.id ?? '', 'id')));
        expect(await running.stop()).toBe(0);
      }
      expect(records[1]).toEqual(records[0]);
      expect(records[2]).toEqual(records[0]);
      expect(records[0]).toMatchObject({ event: { action: 'open-chart' }, audit: { purpose: 'treatment' } });
    });
  }
});
