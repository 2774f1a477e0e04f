import { formatTimestamp } from '../core/clock.ts';
import { documentText } from '../core/document.ts';
import type { AuditRecord } from '../core/record.ts';
import type { RecordWrite } from '../core/settlement.ts';
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
const LINE_END = 0x0a;

/** Written over again and again: what a cache of a processor holds. */
const LINES_BYTES = 256 * 1024;
/** Four words. */
const GROUP_BYTES = 16;
const PRIME = 0x9e37_79b1;

/** The bytes up to `end`, a whole number of groups. */
function addUp(sums: Int32Array, bytes: Buffer, end: number): void {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, end / 4);
  let first = sums[0] as number;
  let second = sums[1] as number;
  let third = sums[2] as number;
  let fourth = sums[3] as number;
  for (let at = 0; at < words.length; at += 4) {
    first = Math.imul(first ^ (words[at] as number), PRIME);
    second = Math.imul(second ^ (words[at + 1] as number), PRIME);
    third = Math.imul(third ^ (words[at + 2] as number), PRIME);
    fourth = Math.imul(fourth ^ (words[at + 3] as number), PRIME);
  }
  sums.set([first, second, third, fourth]);
}

/**
 * Keeps nothing: for benches of everything before the store. Each batch is still turned into the NDJSON bytes of an
 * Elasticsearch bulk request and summed up, so that the cost of making them is in the measurement.
 */
export class NullStore implements Store {
  readonly capabilities: Capabilities = { name: 'null', searchableAfterMs: 0, exactAggregations: true };
  /** Few enough to keep them: rules can be looked at without a store. */
  readonly alerts = createMemoryAlerts();
  /** Bytes that are not in the sums yet; what stands behind them counts for nothing. */
  #lines = Buffer.from(new ArrayBuffer(LINES_BYTES));
  #end = 0;
  readonly #sums = new Int32Array(GROUP_BYTES / 4);
  #bytes = 0;
  #index = { day: -1n, namespace: '', name: '' };

  /**
   * A checksum over all bytes so far, and how many there were. It takes four little-endian words at a time, each into a sum of its
   * own, with zeros behind the last: a machine reads them all, and is not kept busy by it as by a CRC.
   */
  get received(): { readonly checksum: string; readonly bytes: number } {
    const rest = Buffer.from(new ArrayBuffer(Math.ceil(this.#end / GROUP_BYTES) * GROUP_BYTES));
    rest.set(this.#lines.subarray(0, this.#end));
    const sums = Int32Array.from(this.#sums);
    addUp(sums, rest, rest.length);
    return { checksum: [...sums].map((sum) => (sum >>> 0).toString(16).padStart(8, '0')).join(''), bytes: this.#bytes };
  }

  async write(batch: readonly RecordWrite[]): Promise<WriteResult> {
    for (const write of batch) {
      const { id, namespace, rank } = write;
      const target = `"_index":"${this.#indexOf(namespace, write)}","_id":"${id}","version":${rank}`;
      const head = `{"index":{${target},"version_type":"external_gte"}}\n`;
      const json = write.json?.() ?? Buffer.from(documentText(write.record));
      // An index and an id are ASCII.
      this.#makeRoom(head.length + json.length + 1);
      this.#end += this.#lines.write(head, this.#end, 'latin1');
      this.#lines.set(json, this.#end);
      this.#end += json.length;
      this.#lines[this.#end++] = LINE_END;
      this.#bytes += head.length + json.length + 1;
    }
    return { written: batch.length, outranked: 0, rejected: [] };
  }

  #makeRoom(size: number): void {
    if (this.#end + size <= this.#lines.length) return;
    const whole = this.#end - (this.#end % GROUP_BYTES);
    addUp(this.#sums, this.#lines, whole);
    this.#lines.copyWithin(0, whole, this.#end);
    this.#end -= whole;
    if (size <= this.#lines.length - GROUP_BYTES) return;
    const larger = Buffer.from(new ArrayBuffer(2 * size));
    larger.set(this.#lines.subarray(0, this.#end));
    this.#lines = larger;
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
