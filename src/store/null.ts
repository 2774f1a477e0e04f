import { crc32 } from 'node:zlib';
import type { AuditRecord } from '../core/record.ts';
import type { RecordWrite } from '../core/settlement.ts';
import { documentText } from './document.ts';
import { createMemoryAlerts } from './memory-alerts.ts';
import type {
  AggregationRow,
  Capabilities,
  Facet,
  HistogramBucket,
  Page,
  RankRequest,
  Store,
  WriteResult,
} from './port.ts';

/**
 * Keeps nothing: for benches of everything before the store. Each batch is still turned into the NDJSON bytes of an
 * Elasticsearch bulk request and summed up, so that the cost of making them is in the measurement.
 */
export class NullStore implements Store {
  readonly capabilities: Capabilities = { name: 'null', searchableAfterMs: 0, exactAggregations: true };
  /** Few enough to keep them: rules can be looked at without a store. */
  readonly alerts = createMemoryAlerts();
  #checksum = 0;
  #bytes = 0;

  /** CRC32 over all bytes so far, and how many there were. */
  get received(): { readonly checksum: number; readonly bytes: number } {
    return { checksum: this.#checksum, bytes: this.#bytes };
  }

  async write(batch: readonly RecordWrite[]): Promise<WriteResult> {
    let lines = '';
    for (const { id, namespace, rank, record } of batch) {
      const index = `spantrail-audit-${namespace}-${record['@timestamp'].slice(0, 10).replaceAll('-', '.')}`;
      lines += `{"index":{"_index":${JSON.stringify(index)},"_id":"${id}","version":${rank},"version_type":"external_gte"}}\n`;
      lines += `${documentText(record)}\n`;
    }
    const bytes = Buffer.from(lines);
    this.#checksum = crc32(bytes, this.#checksum);
    this.#bytes += bytes.length;
    return { written: batch.length, outranked: 0, rejected: [] };
  }

  async setUp(): Promise<void> {}
  async refresh(): Promise<void> {}
  async close(): Promise<void> {}
  async search(): Promise<Page> {
    return { records: [] };
  }
  async get(): Promise<AuditRecord | undefined> {
    return undefined;
  }
  async ranks(requests: readonly RankRequest[]): Promise<readonly undefined[]> {
    return requests.map(() => undefined);
  }
  async revisions(): Promise<readonly AuditRecord[]> {
    return [];
  }
  async trace(): Promise<readonly AuditRecord[]> {
    return [];
  }
  async count(): Promise<number> {
    return 0;
  }
  async facets(): Promise<readonly Facet[]> {
    return [];
  }
  async histogram(): Promise<readonly HistogramBucket[]> {
    return [];
  }
  async aggregate(): Promise<readonly AggregationRow[]> {
    return [];
  }
  async *iterate(): AsyncIterable<AuditRecord> {}
}
