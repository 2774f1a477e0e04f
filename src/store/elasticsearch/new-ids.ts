import type { RecordWrite } from '../../core/settlement.ts';
import { IdFilters } from '../id-filters.ts';
import { type Connection, isForbidden } from './connection.ts';

/** Fewer new records of an index are looked up by their ids: that costs less than to ask about the index. */
const RECORDS_MIN = 100;

/** Much more than a state without a word of it may lie apart from its record's time; nanoseconds. */
const APART_NS = 3_600_000_000_000n;

/** An index of which nothing certain is known is not asked about for so many writes, doubled each time up to the other. */
const REST_WRITES_FIRST = 4;
const REST_WRITES_MAX = 1_024;

/** Of more indices than this nobody writes for the first time at once. */
const INDICES_KEPT = 256;

/** Of no record. */
const NEVER_NS = -(2n ** 63n);

const NOTHING_KNOWN: ReadonlyMap<string, bigint> = new Map();

const ANSWER = [
  'indices.*.uuid',
  ...['routing.primary', 'seq_no', 'commit.user_data.history_uuid'].map((part) => `indices.*.shards.*.${part}`),
].join();

interface Shard {
  readonly routing?: { readonly primary?: boolean };
  readonly seq_no?: { readonly max_seq_no?: number; readonly global_checkpoint?: number };
  readonly commit?: { readonly user_data?: { readonly history_uuid?: string } };
}

interface StatsAnswer {
  readonly indices?: Readonly<
    Record<string, { readonly uuid?: string; readonly shards?: Readonly<Record<string, readonly Shard[]>> }>
  >;
}

/** What an index's primaries say of themselves. */
interface Look {
  /** Another one is another index, or one that lost what it had. */
  readonly history: string;
  readonly operations: number;
}

interface OwnIndex {
  history: string | undefined;
  /** All that this run wrote there with success, and before it what was there when it looked. */
  operations: number;
  /** Up to this time of records it may hold ids that the filters do not know. */
  unknownUntilNs: bigint;
  /** Writes until it is asked about again, and how many that were the last time. */
  rest: number;
  restLast: number;
}

/**
 * Which ids are held by no index, without asking for them. Each operation on a shard takes the next number. An index whose
 * numbers grew by exactly what this run did there with success was written by nobody else, so its ids are in the filters or have been
 * there before; and what has been there lies at known times. Operations of others, of requests that failed or timed out and were
 * carried out all the same, of requests that the client sent twice: each makes it more. Nothing makes it less, because only
 * numbers that every copy has made durable count, and an index that was made again or lost some has another history. With any
 * difference the ids are looked up, and so they are when somebody else writes the same indices all the time.
 *
 * It is asked right before a batch, while nothing else of this run is under way, whose operations could stand for others. What others
 * write after the answer is not seen, as it is not between a look-up and the write that follows it.
 */
export class NewIds {
  readonly #connection: Connection;
  readonly #indices = new Map<string, OwnIndex>();
  /** Of each index the newest record in a filter. */
  readonly #filters = new IdFilters<Map<string, bigint>>(
    () => new Map(),
    (newest) => this.#forget(newest),
  );
  /** Writes that have begun, and those that have not ended. */
  #begun = 0;
  #underWay = 0;
  /** Of the one write under way. */
  #absent = new Set<RecordWrite>();
  /** Writes until anything is asked again. */
  readonly #all = { rest: 0 };

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** So many operations were carried out there. */
  count(index: string, operations: number): void {
    this.#indexOf(index).operations += operations;
  }

  /**
   * Tells `work` those of the batch that need no look-up: first writes whose ids nothing holds at this moment. All ids of the batch
   * are known from now on, whatever becomes of them.
   */
  async among<T>(
    batch: readonly RecordWrite[],
    indexOf: (write: RecordWrite) => string,
    work: (absent: ReadonlySet<RecordWrite>) => Promise<T>,
  ): Promise<T> {
    this.#begun++;
    this.#underWay++;
    // What this one writes the other has not seen.
    this.#absent.clear();
    try {
      const indices = batch.map(indexOf);
      const known = this.#underWay === 1 ? await this.#look(batch, indices) : NOTHING_KNOWN;
      const absent = new Set<RecordWrite>();
      for (const [at, write] of batch.entries()) {
        const untilNs = isFirst(write) ? known.get(indices[at] as string) : undefined;
        if (untilNs !== undefined && write.timestampNs > untilNs && !this.#filters.has(write.id)) absent.add(write);
      }
      // After all were looked for: to add may cost an old filter.
      for (const [at, write] of batch.entries()) this.#add(write, indices[at] as string);
      if (this.#underWay === 1) this.#absent = absent;
      else absent.clear();
      return await work(absent);
    } finally {
      this.#underWay--;
    }
  }

  #add({ id, timestampNs }: RecordWrite, index: string): void {
    this.#filters.add(id);
    const newest = this.#filters.scope;
    const knownNs = newest?.get(index);
    if (knownNs === undefined || timestampNs > knownNs) newest?.set(index, timestampNs);
  }

  /** The indices of which is known what they hold, and up to which time they may hold more than the filters tell. */
  async #look(batch: readonly RecordWrite[], indices: readonly string[]): Promise<ReadonlyMap<string, bigint>> {
    const counts = new Map<string, number>();
    for (const [at, index] of indices.entries()) {
      const write = batch[at];
      if (write !== undefined && isFirst(write)) counts.set(index, (counts.get(index) ?? 0) + 1);
    }
    const names = [...counts].filter(([, count]) => count >= RECORDS_MIN).map(([name]) => name);
    const due = names.filter((name) => isOver(this.#indexOf(name)));
    if (due.length === 0 || !isOver(this.#all)) return NOTHING_KNOWN;
    const begun = this.#begun;
    const looks = await this.#ask(due);
    // Another write came in between: its operations may have been looked at or not.
    if (begun !== this.#begun) return NOTHING_KNOWN;
    const known = new Map<string, bigint>();
    for (const [name, look] of looks) {
      const own = this.#indexOf(name);
      if (await this.#isOwn(name, own, look)) known.set(name, own.unknownUntilNs + APART_NS);
    }
    return known;
  }

  async #isOwn(name: string, own: OwnIndex, look: Look): Promise<boolean> {
    if ((own.history ?? look.history) === look.history && own.operations === look.operations) {
      own.history = look.history;
      own.restLast = Math.max(own.restLast - 1, REST_WRITES_FIRST);
      return true;
    }
    const isStrange = own.history === look.history;
    // Before anything is waited for: what is counted meanwhile comes on top.
    Object.assign(own, look);
    if (look.operations === 0) {
      own.unknownUntilNs = NEVER_NS;
      return true;
    }
    if (!isStrange) {
      const newestNs = await this.#newest(name);
      if (newestNs !== undefined) {
        own.unknownUntilNs = newestNs;
        return true;
      }
    }
    own.history = undefined;
    own.operations = Number.NaN;
    own.rest = own.restLast;
    own.restLast = Math.min(own.restLast * 2, REST_WRITES_MAX);
    return false;
  }

  async #ask(names: readonly string[]): Promise<Map<string, Look>> {
    const looks = new Map<string, Look>();
    const querystring = { level: 'shards', filter_path: ANSWER };
    const parameters = { method: 'GET', path: `/${names.join()}/_stats/get`, querystring };
    try {
      const { indices = {} } = await this.#connection.request((client) =>
        client.transport.request<StatsAnswer>(parameters),
      );
      for (const [name, { uuid = '', shards = {} }] of Object.entries(indices)) {
        const look = lookAt(uuid, Object.values(shards).flat());
        if (look !== undefined) looks.set(name, look);
      }
    } catch (error) {
      // Without the privilege (`indices:monitor/stats`) ids are looked up; it may be granted any time.
      if (isForbidden(error)) this.#all.rest = REST_WRITES_MAX;
    }
    return looks;
  }

  /** The time of the newest record that the index holds; undefined when that cannot be told. */
  async #newest(index: string): Promise<bigint | undefined> {
    const path = `/${index}/_search?allow_partial_search_results=false&filter_path=aggregations.newest.value`;
    const body = { size: 0, aggs: { newest: { max: { field: '@timestamp' } } } };
    try {
      const { aggregations } = await this.#connection.request(async (client) => {
        await client.indices.refresh({ index });
        const parameters = { method: 'POST', path, body };
        return client.transport.request<{ aggregations?: { newest?: { value?: number | null } } }>(parameters);
      });
      const newestMs = aggregations?.newest?.value;
      return typeof newestMs === 'number' ? BigInt(Math.ceil(newestMs)) * 1_000_000n : undefined;
    } catch {
      return undefined;
    }
  }

  #indexOf(name: string): OwnIndex {
    const found = this.#indices.get(name);
    if (found !== undefined) return found;
    const [oldest] = this.#indices.keys();
    if (oldest !== undefined && this.#indices.size >= INDICES_KEPT) this.#indices.delete(oldest);
    const made = {
      ...{ history: undefined, operations: 0, unknownUntilNs: NEVER_NS },
      ...{ rest: 0, restLast: REST_WRITES_FIRST },
    };
    this.#indices.set(name, made);
    return made;
  }

  #forget(newest: ReadonlyMap<string, bigint>): void {
    for (const [index, untilNs] of newest) {
      const own = this.#indices.get(index);
      if (own !== undefined && untilNs > own.unknownUntilNs) own.unknownUntilNs = untilNs;
    }
  }
}

/** One write less to rest. */
function isOver(resting: { rest: number }): boolean {
  if (resting.rest === 0) return true;
  resting.rest--;
  return false;
}

/** Nobody says that there is, or may be elsewhere, an earlier state. */
export function isFirst({ previousTimestampNs, mayBeElsewhere }: RecordWrite): boolean {
  return previousTimestampNs === undefined && mayBeElsewhere === undefined;
}

/** Undefined while anything of it could be lost. */
function lookAt(uuid: string, copies: readonly Shard[]): Look | undefined {
  let history = uuid;
  let operations = 0;
  for (const { routing, seq_no, commit } of copies) {
    if (routing?.primary !== true) continue;
    const { max_seq_no, global_checkpoint } = seq_no ?? {};
    const own = commit?.user_data?.history_uuid;
    if (max_seq_no === undefined || max_seq_no !== global_checkpoint || own === undefined) return undefined;
    history += ` ${own}`;
    operations += max_seq_no + 1;
  }
  return history === uuid ? undefined : { history, operations };
}
