import { crc32 } from 'node:zlib';
import { formatTimestamp } from '../core/clock.ts';
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

const DAY_NS = 86_400_000_000_000n;
const LINE_END = Buffer.from('\n');

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
  #index = { day: -1n, namespace: '', name: '' };

  /** CRC32 over all bytes so far, and how many there were. */
  get received(): { readonly checksum: number; readonly bytes: number } {
    return { checksum: this.#checksum, bytes: this.#bytes };
  }

  async write(batch: readonly RecordWrite[]): Promise<WriteResult> {
    for (const write of batch) {
      const { id, namespace, rank } = write;
      const head = `{"index":{"_index":"${this.#indexOf(namespace, write)}","_id":"${id}","version":${rank},"version_type":"external_gte"}}\n`;
      this.#add(Buffer.from(head));
      this.#add(write.json?.() ?? Buffer.from(documentText(write.record)));
      this.#add(LINE_END);
    }
    return { written: batch.length, outranked: 0, rejected: [] };
  }

  #add(bytes: Buffer): void {
    this.#checksum = crc32(bytes, this.#checksum);
    this.#bytes += bytes.length;
  }

  /** One index a day; most records of a batch share it. */
  #indexOf(namespace: string, { timestampNs }: RecordWrite): string {
    const day = timestampNs / DAY_NS;
    if (this.#index.day !== day || this.#index.namespace !== namespace) {
      const text = formatTimestamp(timestampNs).slice(0, 10).replaceAll('-', '.');
      this.#index = { day, namespace, name: `spantrail-audit-${namespace}-${text}` };
    }
    return this.#index.name;
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
