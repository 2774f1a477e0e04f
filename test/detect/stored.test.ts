import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { loadRules } from '../../src/app/rule-files.ts';
import { recordsFor, rulesToTest, testRules } from '../../src/app/test-rules.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import type { Rule } from '../../src/detect/rule.ts';
import { parseQuery } from '../../src/query/parse.ts';
import { DuckDbStore } from '../../src/store/duckdb/store.ts';
import { openElasticsearchStore } from '../../src/store/elasticsearch/store.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { Store } from '../../src/store/port.ts';
import { recordArbitrary } from '../conformance/queries.ts';
import { toWrite } from '../fixtures/records.ts';
import { hospital } from '../insights/hospital.ts';
import { SETTINGS } from '../store/elasticsearch-records.ts';
import { rulesOf } from './world.ts';

/** A namespace of its own on the shared server. */
const NAMESPACE = 'rules-test';

const RULES = `
- { id: reads, name: Reads, type: threshold, severity: low, query: '*', group_by: user.id, window: 1h, threshold: { value: 10 } }
- { id: targets, name: Targets, type: threshold, severity: low, query: '*', inner: true, group_by: user.id, window: 1h, threshold: { cardinality: { field: audit.target.id, value: 3 } } }
- { id: after, name: After, type: threshold, severity: low, query: 'event.outcome: failure', group_by: user.id, window: 1h, threshold: { value: 1 }, then: 'event.outcome: success' }
- { id: words, name: Words, type: query, severity: low, query: 'refused or *denied*', suppress: 1h }
- { id: first, name: First, type: new_terms, severity: low, query: '*', inner: true, group_by: user.id, new_terms: { fields: audit.target.id, history: 30d } }
- { id: usual, name: Usual, type: baseline, severity: low, query: '*', group_by: audit.target.id, baseline: { of: rate, interval: 10m, deviations: 1, min_volume: 3, warm_up: 1h } }
`;

const settings = settingsSchema.parse({});
const stores = new Map<string, Store>([['memory', new MemoryStore()]]);
const server = inject('elasticsearch')['9.5.0'];
let folder = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spantrail-stored-'));
  const file = join(folder, 'records.duckdb');
  stores.set('duckdb', await DuckDbStore.open({ file, memoryBytes: 500_000_000, threads: 2 }));
  if ('url' in server) stores.set('elasticsearch', await openElasticsearchStore({ ...SETTINGS, urls: [server.url] }));
  const odd = fc.sample(recordArbitrary, { numRuns: 200, seed: 5 }).map((record) => {
    return toWrite({ ...record, data_stream: { namespace: NAMESPACE } });
  });
  for (const store of stores.values()) {
    await store.setUp();
    await store.write([...hospital(NAMESPACE), ...odd]);
    await store.refresh();
  }
});
afterAll(async () => {
  for (const store of stores.values()) await store.close();
  await rm(folder, { recursive: true });
});

/** As the command asks for them. */
async function tested(rules: readonly Rule[], store: Store, q: string) {
  const parsed = parseQuery(q, { nowMs: 0 });
  if (!parsed.ok) throw new Error(`${q}: ${parsed.message}`);
  const { inner } = recordsFor(rules);
  return testRules(rules, store.iterate({ query: parsed.query, inner, namespace: NAMESPACE }), settings.detect);
}

describe('rules over what is stored', () => {
  it('say the same of every store', async () => {
    const shipped = (await loadRules(settings.detect)).rules.filter(({ source }) => source === 'records');
    for (const rules of [rulesOf(RULES), shipped]) {
      const answers = await Promise.all([...stores.values()].map((store) => tested(rules, store, '*')));
      const [memory, ...others] = answers;
      expect(new Set(memory?.alerts.map(({ rule }) => rule.id)).size).toBeGreaterThanOrEqual(rules.length > 6 ? 1 : 6);
      for (const other of others) expect(other).toEqual(memory);
    }
  });

  it('need no more records than those that fit', async () => {
    for (const rule of rulesOf(RULES)) {
      for (const store of stores.values()) {
        const all = await tested([rule], store, '*');
        const fitting = await tested([rule], store, recordsFor([rule]).q);
        expect(fitting.alerts).toEqual(all.alerts);
        expect(fitting.records).toBeLessThanOrEqual(all.records);
      }
    }
  });

  it('are found by id, or the mistake is told', async () => {
    await expect(rulesToTest('pipeline-failing', settings)).rejects.toThrow('of which nothing is stored');
    await expect(rulesToTest('nobody', settings)).rejects.toThrow('there is no rule "nobody"; there are: ');
    await expect(rulesToTest('./none.yaml', settings)).rejects.toThrow('cannot be read');
    expect(await rulesToTest('mass-read', settings)).toMatchObject([{ id: 'mass-read' }]);
  });
});
