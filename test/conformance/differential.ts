import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { evaluate, namesField } from '../../src/query/evaluate.ts';
import { printQuery } from '../../src/query/print.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { Aggregation, Selection, Sort, Store } from '../../src/store/port.ts';
import { toWrite } from '../fixtures/records.ts';
import { COUNTED, queryArbitrary, recordArbitrary, SORTED } from './queries.ts';
import type { OpenedStore } from './store.ts';

const NAMESPACE = 'differential';

/** Random records and queries: the store must select what evaluate() selects, and sort and count as the memory store does. */
export function describeDifferential(name: string, open: () => Promise<OpenedStore>, runs = 300): void {
  describe(`${name} answers random queries as the evaluator does`, () => {
    const records = fc.sample(recordArbitrary, { numRuns: 200, seed: 7 }).map((record) => ({
      ...record,
      data_stream: { namespace: NAMESPACE },
    }));
    const memory = new MemoryStore();
    let opened: OpenedStore;
    let store: Store;

    beforeAll(async () => {
      opened = await open();
      store = opened.store;
      const writes = records.map((record) => toWrite(record));
      await memory.write(writes);
      await store.setUp();
      await store.write(writes);
      await store.refresh();
    });
    afterAll(() => opened.dispose());

    it('selects and sorts', async () => {
      const sorts = fc.record({ field: fc.constantFrom(...SORTED), direction: fc.constantFrom('asc', 'desc') });
      await fc.assert(
        fc.asyncProperty(queryArbitrary, sorts as fc.Arbitrary<Sort>, fc.boolean(), async (query, sort, inner) => {
          const selection: Selection = { query, inner, namespace: NAMESPACE };
          const page = await store.search(selection, sort, 1000);
          const ids = page.records.map((record) => record.event.id);
          const hides = !namesField(query, 'audit.superseded_by');
          const wanted = records.filter(
            (record) =>
              (inner || record.audit.entry) &&
              !(hides && record.audit.superseded_by !== undefined) &&
              evaluate(query, record),
          );
          expect(ids.toSorted(), printQuery(query)).toEqual(wanted.map((record) => record.event.id).toSorted());
          const sorted = await memory.search(selection, sort, 1000);
          expect(ids, `${printQuery(query)} by ${sort.field} ${sort.direction}`).toEqual(
            sorted.records.map((record) => record.event.id),
          );
        }),
        { numRuns: runs },
      );
    });

    it('counts, facets and groups', async () => {
      await fc.assert(
        fc.asyncProperty(
          queryArbitrary,
          fc.subarray(COUNTED, { minLength: 1, maxLength: 2 }),
          async (query, groupBy) => {
            const selection: Selection = { query, inner: true, namespace: NAMESPACE };
            expect(await store.count(selection)).toBe(await memory.count(selection));
            expect(await store.facets(selection, COUNTED, 50)).toEqual(await memory.facets(selection, COUNTED, 50));
            const measures = ['event.duration', 'audit.checks.granted'];
            const aggregations: Aggregation[] = [
              { groupBy, distinct: 'user.roles', limit: 1000 },
              { groupBy, withMissing: true, counts: { same: query }, extent: true, limit: 1000 },
              { groupBy, measures, orderBy: { field: 'event.duration', by: 'sum' }, limit: 5 },
              { groupBy: [], everyMs: 60_000, measures, limit: 1000 },
            ];
            for (const aggregation of aggregations) {
              expect(await store.aggregate(selection, aggregation)).toEqual(
                await memory.aggregate(selection, aggregation),
              );
            }
            expect(await store.histogram(selection, 60_000)).toEqual(await memory.histogram(selection, 60_000));
          },
        ),
        { numRuns: Math.ceil(runs / 10) },
      );
    });
  });
}
