import type { estypes } from '@elastic/elasticsearch';
import { describeError } from '../../core/errors.ts';
import type { Retirement } from '../care.ts';
import { type Connection, isForbidden } from './connection.ts';
import { periodEndMs, readIndexSettings } from './indices.ts';

/**
 * Deletes whole indices of which every record is older than the retention. Two clocks must agree on that: ours, by the period
 * in the index's name, and the server's, which is asked for a record in it that is younger. So neither a clock that went
 * wrong nor an index with a name that lies makes records go before their time.
 */
export async function retireIndices(connection: Connection, retentionMs: number, nowMs: number): Promise<Retirement> {
  const deleted: Retirement['deleted'][number][] = [];
  const kept: Retirement['kept'][number][] = [];
  const indices = await readIndexSettings(connection, 'provided_name');
  const isOver = (index: string) => (periodEndMs(index) ?? Number.POSITIVE_INFINITY) + retentionMs <= nowMs;
  for (const index of [...indices.keys()].filter(isOver).sort()) {
    try {
      const { documents, younger } = await look(connection, index, retentionMs);
      if (younger > 0) {
        kept.push({ index, reason: `${younger} of its records are younger than its name and the retention say` });
        continue;
      }
      // By its exact name; one that another instance deleted a moment ago is gone all the same.
      await connection.request((client) => client.indices.delete({ index }, { ignore: [404] }));
      deleted.push({ index, documents });
    } catch (error) {
      const hint = isForbidden(error) ? ' (role deploy/elasticsearch/retention.json)' : '';
      kept.push({ index, reason: `${describeError(error)}${hint}` });
    }
  }
  return { deleted, kept };
}

async function look(connection: Connection, index: string, retentionMs: number) {
  const since = `now-${Math.ceil(retentionMs / 1000)}s`;
  const answer = await connection.request((client) =>
    client.search({
      index,
      allow_partial_search_results: false,
      size: 0,
      track_total_hits: true,
      aggs: { younger: { filter: { range: { '@timestamp': { gte: since } } } } },
    }),
  );
  const total = answer.hits.total;
  const younger = answer.aggregations?.['younger'] as estypes.AggregationsFilterAggregate | undefined;
  return { documents: typeof total === 'object' ? total.value : (total ?? 0), younger: younger?.doc_count ?? 0 };
}
