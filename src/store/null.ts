import { formatTimestamp } from '../core/clock.ts';
import { documentText } from '../core/document.ts';
import { FormedRecord, HEAD, HEAD_WORDS } from '../core/formed-record.ts';
import { Pauses } from '../core/pauses.ts';
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

/** Records between two looks at the clock. */
const LOOK_AT = 16;

const NOTHING = Buffer.alloc(0);
/** Of 64 bits the lower word. */
const LOW_BITS = 32n;
const WORD = 4;
const ID_CHARS = 32;
const HEX = Buffer.from('0123456789abcdef');
const ZERO = 0x30;

const VERSION_START = '","version":';
const RANK_DIGITS_MAX = 19;
/** So many digits of a rank are split off with whole numbers that a double holds. */
const LAST_DIGITS = 6;
const LAST = 10 ** LAST_DIGITS;
const DIGITS = new Uint8Array(RANK_DIGITS_MAX);

/** The digits of a rank, which has at most 63 bits, by its words, last first. How many there are. */
function splitRank(high: number, low: number): number {
  const lower = (high % LAST) * 2 ** 32 + low;
  let upper = Math.floor(high / LAST) * 2 ** 32 + Math.floor(lower / LAST);
  let last = lower % LAST;
  let count = 0;
  while (upper > 0 ? count < LAST_DIGITS : last > 0) {
    DIGITS[count++] = last % 10;
    last = Math.floor(last / 10);
  }
  for (; upper > 0; upper = Math.floor(upper / 10)) DIGITS[count++] = upper % 10;
  if (count === 0) DIGITS[count++] = 0;
  return count;
}

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
  readonly capabilities: Capabilities = {
    name: 'null',
    searchableAfterMs: 0,
    takesTexts: true,
    exactAggregations: true,
  };
  /** Few enough to keep them: rules can be looked at without a store. */
  readonly alerts = createMemoryAlerts();
  /** Bytes that are not in the sums yet; what stands behind them counts for nothing. */
  #lines = Buffer.from(new ArrayBuffer(LINES_BYTES));
  #end = 0;
  readonly #sums = new Int32Array(GROUP_BYTES / 4);
  #bytes = 0;
  /** What a line begins with: the same for the records of a day. */
  #index = { fromNs: 0n, toNs: 0n, fromHigh: 0, toHigh: 0, namespace: '', start: NOTHING };
  /** What stands behind its id, of the rank with these words: the same for the records of a trace. */
  readonly #version = { high: -1, low: -1, end: NOTHING };
  /** The same by how many digits a rank has, which are written over those of the last: each trace has another. */
  readonly #versions = Array.from({ length: RANK_DIGITS_MAX + 1 }, (_, digits) =>
    Buffer.from(`${VERSION_START}${'0'.repeat(digits)},"version_type":"external_gte"}}\n`),
  );

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
    const pauses = new Pauses();
    for (let at = 0; at < batch.length; at++) {
      const write = batch[at] as RecordWrite;
      if (write instanceof FormedRecord && write.isAsWritten) this.#addFormed(write);
      else this.#add(write);
      if (at % LOOK_AT === LOOK_AT - 1 && pauses.isDue) await pauses.take();
    }
    return { written: batch.length, outranked: 0, rejected: [] };
  }

  #add(write: RecordWrite): void {
    const { id } = write;
    const json = write.json?.() ?? Buffer.from(documentText(write.record));
    const start = this.#startOf(write);
    const end = this.#endOf(Number(write.rank >> LOW_BITS), Number(BigInt.asUintN(32, write.rank)));
    const at = this.#begin(start, id.length, end, json.length);
    // An id is ASCII.
    for (let char = 0; char < id.length; char++) this.#lines[at + char] = id.charCodeAt(char);
    this.#lines.set(json, at + id.length + end.length);
  }

  /** The same, straight from where the record lies. */
  #addFormed(write: FormedRecord): void {
    const { chunk, at: head } = write;
    const { words, bytes } = chunk;
    const timeHigh = words[head + HEAD.timeHigh] as number;
    const index = this.#index;
    const isSameDay = timeHigh >= index.fromHigh && timeHigh < index.toHigh && write.namespace === index.namespace;
    const start = isSameDay ? index.start : this.#startOf(write);
    const end = this.#endOf(words[head + HEAD.rankHigh] as number, words[head + HEAD.rankLow] as number);
    const size = words[head + HEAD.size] as number;
    const at = this.#begin(start, ID_CHARS, end, size);
    const id = (head + HEAD.id) * WORD;
    for (let byte = 0; byte < ID_CHARS / 2; byte++) {
      const value = bytes[id + byte] as number;
      this.#lines[at + 2 * byte] = HEX[value >>> 4] as number;
      this.#lines[at + 2 * byte + 1] = HEX[value & 15] as number;
    }
    const text = (head + HEAD_WORDS) * WORD;
    bytes.copy(this.#lines, at + ID_CHARS + end.length, text, text + size);
  }

  /** Writes all of a line but its id and the record; where the id belongs. */
  #begin(start: Buffer, idChars: number, end: Buffer, jsonBytes: number): number {
    const size = start.length + idChars + end.length + jsonBytes + 1;
    this.#makeRoom(size);
    const at = this.#end + start.length;
    this.#lines.set(start, this.#end);
    this.#lines.set(end, at + idChars);
    this.#end += size;
    this.#lines[this.#end - 1] = LINE_END;
    this.#bytes += size;
    return at;
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
  #startOf({ namespace, timestampNs }: RecordWrite): Buffer {
    const { fromNs, toNs, namespace: before } = this.#index;
    if (timestampNs < fromNs || timestampNs >= toNs || namespace !== before) {
      const dayNs = timestampNs - (timestampNs % DAY_NS);
      const day = formatTimestamp(timestampNs).slice(0, 10).replaceAll('-', '.');
      const start = Buffer.from(`{"index":{"_index":"spantrail-audit-${namespace}-${day}","_id":"`);
      // Of high words all of whose instants are of the day.
      const [fromHigh, toHigh] = [Number(dayNs >> LOW_BITS) + 1, Number((dayNs + DAY_NS) >> LOW_BITS)];
      this.#index = { fromNs: dayNs, toNs: dayNs + DAY_NS, fromHigh, toHigh, namespace, start };
    }
    return this.#index.start;
  }

  /** Of a rank by its words. */
  #endOf(high: number, low: number): Buffer {
    const version = this.#version;
    if (high !== version.high || low !== version.low) {
      version.high = high;
      version.low = low;
      const count = splitRank(high, low);
      version.end = this.#versions[count] ?? NOTHING;
      for (let digit = 0; digit < count; digit++) {
        version.end[VERSION_START.length + digit] = ZERO + (DIGITS[count - 1 - digit] as number);
      }
    }
    return version.end;
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
