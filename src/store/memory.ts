import type { Field, FieldValue } from '../core/fields.ts';
import { fieldValues } from '../core/fields.ts';
import type { AuditRecord } from '../core/record.ts';
import type { RecordWrite } from '../core/settlement.ts';
import type { QueryValue } from '../query/ast.ts';
import { comparable, evaluate } from '../query/evaluate.ts';
import { compareText } from '../query/text.ts';
import { aggregateRecords, compareValues } from './memory-aggregate.ts';
import { createMemoryAlerts } from './memory-alerts.ts';
import {
  checkGroupLimit,
  checkPageLimit,
  decodeCursor,
  encodeCursor,
  hidesSuperseded,
  histogramWidthNs,
  SUPERSEDED_FIELD,
  sortField,
} from './paging.ts';
import type {
  Aggregation,
  AggregationRow,
  Capabilities,
  Facet,
  HistogramBucket,
  Page,
  RankRequest,
  Selection,
  Sort,
  Store,
  WriteResult,
} from './port.ts';

interface Entry {
  readonly write: RecordWrite;
  /** Earlier states, oldest first. */
  readonly earlier: readonly AuditRecord[];
}

/** Everything in plain maps: for tests, and the oracle that the other stores are compared with. Nothing outlives it. */
export class MemoryStore implements Store {
  readonly capabilities: Capabilities = {
    name: 'memory',
    searchableAfterMs: 0,
    takesTexts: false,
    exactAggregations: true,
  };
  readonly alerts = createMemoryAlerts();
  readonly #entries = new Map<string, Entry>();

  async setUp(): Promise<void> {}
  async refresh(): Promise<void> {}
  async close(): Promise<void> {}

  async write(batch: readonly RecordWrite[]): Promise<WriteResult> {
    let written = 0;
    for (const incoming of batch) {
      const existing = this.#entries.get(incoming.id);
      if (existing && existing.write.rank > incoming.rank) continue;
      written++;
      if (existing?.write.rank === incoming.rank) continue;
      // Part by part: what a form gave has most of them by its class.
      const { id, namespace, timestampNs, rank } = incoming;
      const write = { id, namespace, timestampNs, rank, record: structuredClone(incoming.record) };
      const earlier = existing ? [...existing.earlier, existing.write.record] : [];
      this.#entries.set(incoming.id, { write, earlier });
    }
    return { written, outranked: batch.length - written, rejected: [] };
  }

  async search(selection: Selection, sort: Sort, limit: number, cursor?: string): Promise<Page> {
    checkPageLimit(limit);
    const field = sortField(sort);
    const keyed = this.#select(selection)
      .map((record) => ({ record, key: sortKey(field, fieldValues(record, field.name)[0], record.event.id) }))
      .sort((a, b) => compareKeys(a.key, b.key, sort.direction));
    let rest = keyed;
    if (cursor !== undefined) {
      const position = decodeCursor(cursor, sort);
      const after = sortKey(field, position.value, position.id);
      rest = keyed.filter((one) => compareKeys(one.key, after, sort.direction) > 0);
    }
    const records = rest.slice(0, limit).map((one) => structuredClone(one.record));
    const last = records.at(-1);
    if (rest.length <= limit || !last) return { records };
    const value = fieldValues(last, field.name)[0];
    const id = last.event.id;
    return { records, next: encodeCursor(sort, value === undefined ? { id } : { id, value }) };
  }

  async get(id: string): Promise<AuditRecord | undefined> {
    return structuredClone(this.#entries.get(id)?.write.record);
  }

  async ranks(requests: readonly RankRequest[]): Promise<readonly (bigint | undefined)[]> {
    return requests.map(({ id }) => this.#entries.get(id)?.write.rank);
  }

  async revisions(id: string): Promise<readonly AuditRecord[]> {
    const entry = this.#entries.get(id);
    return entry ? structuredClone([...entry.earlier, entry.write.record]) : [];
  }

  async trace(traceId: string): Promise<readonly AuditRecord[]> {
    return this.#ordered((write) => write.record.trace?.id === traceId && !isSuperseded(write.record));
  }

  async count(selection: Selection): Promise<number> {
    return this.#select(selection).length;
  }

  async facets(selection: Selection, fields: readonly string[], limit: number): Promise<readonly Facet[]> {
    checkGroupLimit(limit);
    const writes = this.#writes(selection);
    return fields.map((name) => {
      const rows = aggregateRecords(writes, { groupBy: [name], limit });
      return { field: name, buckets: rows.map(({ group, count }) => ({ value: group[0] ?? '', count })) };
    });
  }

  async histogram(selection: Selection, bucketMs: number): Promise<readonly HistogramBucket[]> {
    const writes = this.#writes(selection);
    const times = writes.map((write) => write.timestampNs).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
    const firstNs = times[0] ?? 0n;
    const lastNs = times.at(-1) ?? 0n;
    const widthNs = histogramWidthNs(bucketMs, firstNs, lastNs);
    const buckets: HistogramBucket[] = [];
    for (let startNs = firstNs - (firstNs % widthNs); writes.length > 0 && startNs <= lastNs; startNs += widthNs) {
      const inside = writes.filter((write) => write.timestampNs >= startNs && write.timestampNs < startNs + widthNs);
      buckets.push({
        startNs,
        count: inside.length,
        failures: inside.filter((write) => write.record.event.outcome === 'failure').length,
        denied: inside.filter((write) => write.record.audit.decision === 'deny').length,
      });
    }
    return buckets;
  }

  async aggregate(selection: Selection, aggregation: Aggregation): Promise<readonly AggregationRow[]> {
    return aggregateRecords(this.#writes(selection), aggregation);
  }

  async *iterate(selection: Selection): AsyncIterable<AuditRecord> {
    const wanted = new Set(this.#select(selection).map((record) => record.event.id));
    yield* this.#ordered((write) => wanted.has(write.id));
  }

  #select(selection: Selection): AuditRecord[] {
    return this.#writes(selection).map((write) => write.record);
  }

  #writes(selection: Selection): RecordWrite[] {
    const { query, fromNs, toNs, namespace, inner } = selection;
    const hides = hidesSuperseded(selection);
    return [...this.#entries.values()]
      .map((entry) => entry.write)
      .filter(
        (write) =>
          (fromNs === undefined || write.timestampNs >= fromNs) &&
          (toNs === undefined || write.timestampNs < toNs) &&
          (namespace === undefined || write.namespace === namespace) &&
          (inner || write.record.audit.entry) &&
          !(hides && isSuperseded(write.record)) &&
          evaluate(query, write.record),
      );
  }

  #ordered(wanted: (write: RecordWrite) => boolean): AuditRecord[] {
    return [...this.#entries.values()]
      .map((entry) => entry.write)
      .filter(wanted)
      .sort((a, b) =>
        a.timestampNs === b.timestampNs ? compareText(a.id, b.id) : a.timestampNs < b.timestampNs ? -1 : 1,
      )
      .map((write) => structuredClone(write.record));
  }
}

function isSuperseded(record: AuditRecord): boolean {
  return fieldValues(record, SUPERSEDED_FIELD).length > 0;
}

interface SortKey {
  readonly value: QueryValue | undefined;
  readonly id: string;
}

function sortKey(field: Field, value: FieldValue | undefined, id: string): SortKey {
  return { value: value === undefined ? undefined : comparable(field, value), id };
}

/** By value in the direction asked for, missing values last in both; ties by id, ascending in both. */
function compareKeys(a: SortKey, b: SortKey, direction: Sort['direction']): number {
  const byValue = compareValues(a.value, b.value);
  if (byValue === 0) return compareText(a.id, b.id);
  const missing = a.value === undefined || b.value === undefined;
  return missing || direction === 'asc' ? byValue : -byValue;
}
