import { documentText } from '../../core/document.ts';
import { AppError } from '../../core/errors.ts';
import type { RecordWrite } from '../../core/settlement.ts';
import type { WriteRejection, WriteResult } from '../port.ts';
import { Bulk, type BulkAction } from './bulk.ts';
import type { Connection } from './connection.ts';
import { type ExactHit, isAnyHeld, readExact, WHOLE_SEARCH } from './exact.ts';
import { IndexNames, type IndexPeriod, indexPattern, revisionsIndexOf } from './indices.ts';
import { isFirst, NewIds } from './new-ids.ts';
import { setUpAlias } from './set-up.ts';
import type { BulkOutcome } from './verdicts.ts';

/** Documents of one look-up: bounds its answer to some megabytes. */
const LOOKUP_DOCUMENTS_MAX = 1_000;

/** Bytes of a record, until some were written. */
const RECORD_BYTES_FIRST = 2_500;
/** How much of the average is each part's. */
const RECORD_BYTES_LEARNT = 0.1;

/** Digits of the largest rank (63 bits), so that ids of kept states sort by rank. */
const RANK_DIGITS = 19;

/**
 * Writes records. The version of a document is its rank, so the server itself turns down what is outranked, whatever
 * order and however often batches arrive. A first revision costs one look-up by id and its part of a bulk request. A batch is
 * written in parts, several at a time: while one is looked up another is indexed.
 *
 * A revision goes in this order, each step durable before the next: (1) the state it replaces is kept, create-only, under
 * its rank; (2) the new state is written; (3) copies in other indices are deleted, when the record moved to another day.
 * A crash in between leaves a record twice at worst, until the same batch is written again.
 */
export class Writer {
  readonly #connection: Connection;
  readonly #names: IndexNames;
  readonly #bulk: Bulk;
  readonly #newIds: NewIds;
  #recordBytes = RECORD_BYTES_FIRST;
  readonly #namespaces = new Map<string, Promise<void>>();
  /** Namespaces in which a search finds all that earlier runs wrote. */
  readonly #findable = new Set<string>();

  constructor(connection: Connection, period: IndexPeriod) {
    this.#connection = connection;
    this.#names = new IndexNames(period);
    this.#newIds = new NewIds(connection);
    this.#bulk = new Bulk(connection, (index, operations) => this.#newIds.count(index, operations));
  }

  async write(batch: readonly RecordWrite[]): Promise<WriteResult> {
    for (const namespace of new Set(batch.map((write) => write.namespace))) await this.#prepare(namespace);
    const results = await this.#newIds.among(
      batch,
      (write) => this.#indexOf(write),
      (absent) => this.#writeWaves(batch, absent),
    );
    return {
      written: results.reduce((sum, { written }) => sum + written, 0),
      outranked: results.reduce((sum, { outranked }) => sum + outranked, 0),
      rejected: results.flatMap(({ rejected }) => rejected),
    };
  }

  async #writeWaves(batch: readonly RecordWrite[], absent: ReadonlySet<RecordWrite>): Promise<WriteResult[]> {
    const results: WriteResult[] = [];
    for (const [number, wave] of waves(batch).entries()) {
      results.push(...(await this.#writeWave(wave, number === 0 ? absent : undefined)));
    }
    return results;
  }

  /** When a part fails no further one is begun, and those under way are waited for: nothing of a write goes on behind its end. */
  async #writeWave(wave: readonly RecordWrite[], absent: ReadonlySet<RecordWrite> | undefined): Promise<WriteResult[]> {
    await this.#makeFindable(wave.filter((write) => this.#isUnseen(write)));
    const parts = this.#split(wave);
    const results: WriteResult[] = new Array(parts.length);
    const failures: unknown[] = [];
    let next = 0;
    const work = async () => {
      while (next < parts.length && failures.length === 0) {
        const at = next++;
        const part = parts[at] ?? [];
        try {
          results[at] = await this.#writePart(part, await this.#lookUp(part, absent));
        } catch (failure) {
          failures.push(failure);
        }
      }
    };
    const startedMs = performance.now();
    await Promise.all(Array.from({ length: this.#bulk.pace.parallel }, work));
    if (failures.length > 0) throw failures[0];
    this.#bulk.pace.wrote(wave.length * this.#recordBytes, performance.now() - startedMs);
    return results;
  }

  /** Parts of about a request's size, alike, and so many that none is left over to be written alone. */
  #split(wave: readonly RecordWrite[]): (readonly RecordWrite[])[] {
    const { requestBytes, parallel } = this.#bulk.pace;
    const requests = Math.ceil((wave.length * this.#recordBytes) / requestBytes);
    const count = requests < parallel ? requests : Math.ceil(requests / parallel) * parallel;
    const size = Math.max(1, Math.ceil(wave.length / count));
    return Array.from({ length: Math.ceil(wave.length / size) }, (_, at) => wave.slice(at * size, (at + 1) * size));
  }

  #prepare(namespace: string): Promise<void> {
    let prepared = this.#namespaces.get(namespace);
    if (!prepared) {
      prepared = setUpAlias(this.#connection, namespace);
      prepared.catch(() => this.#namespaces.delete(namespace));
      this.#namespaces.set(namespace, prepared);
    }
    return prepared;
  }

  async #writePart(part: readonly RecordWrite[], held: readonly ExactHit[]): Promise<WriteResult> {
    const highest = new Map<string, bigint>();
    for (const { id, rank } of held) if (rank > (highest.get(id) ?? 0n)) highest.set(id, rank);
    const isOutranked = (write: RecordWrite) => (highest.get(write.id) ?? 0n) > write.rank;
    const winners = held.length === 0 ? part : part.filter((write) => !isOutranked(write));
    // Asked only for what is held.
    const byId = new Map(held.length === 0 ? [] : winners.map((write) => [write.id, write]));

    const replaced = held.filter((state) => state.rank < (byId.get(state.id)?.rank ?? 0n));
    await this.#keep(replaced);

    const outcomes = await this.#index(winners);
    const isUnseen = (write: RecordWrite, at: number) => outcomes[at]?.status === 409 && !highest.has(write.id);
    const revived = await this.#revive(winners.filter(isUnseen));
    const rejected: WriteRejection[] = [];
    let outranked = part.length - winners.length;
    for (const [at, outcome] of outcomes.entries()) {
      if (outcome.status < 400) continue;
      const id = winners[at]?.id ?? '';
      if (outcome.status === 409 && !revived.has(id)) outranked++;
      if (outcome.status === 400) {
        rejected.push({ id, reason: outcome.reason });
        byId.delete(id);
      }
    }
    const stale = held.filter((state) => {
      const write = byId.get(state.id);
      return write !== undefined && state.index !== this.#indexOf(write);
    });
    await this.#bulk.send(stale.map((state) => deleteAction(state, byId.get(state.id)?.rank ?? state.rank)));
    return { written: part.length - outranked - rejected.length, outranked, rejected };
  }

  async #index(winners: readonly RecordWrite[]): Promise<BulkOutcome[]> {
    if (winners.length === 0) return [];
    let bytes = 0;
    const actions = winners.map((write) => {
      const action = indexAction(this.#indexOf(write), write);
      bytes += action.header.length + action.body.length;
      return action;
    });
    this.#recordBytes += (bytes / winners.length - this.#recordBytes) * RECORD_BYTES_LEARNT;
    return this.#bulk.send(actions);
  }

  /**
   * A version stands against these though no document was seen. Somebody else wrote one a moment ago; or somebody deleted
   * it, which for an hour (gc_deletes) counts as a version, one above its rank: then it is made again, with a version
   * above that, and the next revision is above both. Returns the ids that were made again.
   */
  async #revive(writes: readonly RecordWrite[]): Promise<Set<string>> {
    await this.#makeFindable(writes);
    const found = new Set((await this.#find(writes)).map((state) => state.id));
    const deleted = writes.filter((write) => !found.has(write.id));
    const outcomes = await this.#bulk.send(
      deleted.map((write) => ({
        index: this.#indexOf(write),
        header: JSON.stringify({ create: { _index: this.#indexOf(write), _id: write.id } }),
        body: bodyOf(write),
      })),
    );
    return new Set(deleted.filter((_, at) => (outcomes[at]?.status ?? 409) < 300).map((write) => write.id));
  }

  #indexOf(write: RecordWrite, timestampNs = write.timestampNs): string {
    return this.#names.of(write.namespace, timestampNs);
  }

  #indicesOf(write: RecordWrite): Set<string> {
    return new Set([this.#indexOf(write), this.#indexOf(write, write.previousTimestampNs)]);
  }

  /** Create-only: a state that is kept already (409) was kept by an earlier try. */
  async #keep(replaced: readonly ExactHit[]): Promise<void> {
    const actions = replaced.map((state): BulkAction => {
      const _id = `${state.id}-${String(state.rank).padStart(RANK_DIGITS, '0')}`;
      const index = revisionsIndexOf(state.index);
      const header = JSON.stringify({ create: { _index: index, _id } });
      return { index, header, body: documentText(state.record) };
    });
    const outcomes = await this.#bulk.send(actions);
    const refused = outcomes.find((outcome) => outcome.status === 400);
    if (refused) throw new AppError('internal', `an earlier state could not be kept: ${refused.reason}`);
  }

  /**
   * Every state held under the ids of these writes, read from the indices where they should be as of this very moment: that
   * of the write, also when it is the first (the settle journal forgets, another instance may have written), and that of
   * the state before. An announced revision that is in neither (the index period was changed, a crash came in between)
   * is taken from wherever a search finds it. A state of a record that may be elsewhere is always searched for:
   * what earlier runs left is findable after one refresh.
   */
  async #lookUp(wave: readonly RecordWrite[], absent?: ReadonlySet<RecordWrite>): Promise<ExactHit[]> {
    const isRepeated = absent === undefined;
    const writes = isRepeated ? wave : wave.filter((write) => !absent.has(write));
    if (writes.length === 0) return [];
    const isNew = (write: RecordWrite) => !isRepeated && isFirst(write);
    const places = writes.filter(isNew).map((write) => ({ _index: this.#indexOf(write), _id: write.id }));
    const isNewHeld = places.length > 0 && (await isAnyHeld(this.#connection, places));
    const asked = isNewHeld ? writes : writes.filter((write) => !isNew(write));
    const held: ExactHit[] = [];
    for (let at = 0; at < asked.length; at += LOOKUP_DOCUMENTS_MAX) {
      const part = asked.slice(at, at + LOOKUP_DOCUMENTS_MAX);
      const docs = part.flatMap((write) => [...this.#indicesOf(write)].map((_index) => ({ _index, _id: write.id })));
      const found = await readExact(this.#connection, '/_mget', { docs });
      const known = new Set(found.map((state) => state.id));
      const isLost = (write: RecordWrite) =>
        !known.has(write.id) && (isRepeated || write.previousTimestampNs !== undefined);
      const sought = await this.#find(part.filter((write) => write.mayBeElsewhere || isLost(write)));
      held.push(
        ...found,
        ...sought.filter((state) => !found.some((one) => one.id === state.id && one.index === state.index)),
      );
    }
    return held;
  }

  #isUnseen({ mayBeElsewhere, namespace }: RecordWrite): boolean {
    return mayBeElsewhere === 'moved' || (mayBeElsewhere === true && !this.#findable.has(namespace));
  }

  /** What was written a moment ago is found by its id in its index at once, but by a search only after a refresh. */
  async #makeFindable(writes: readonly RecordWrite[]): Promise<void> {
    if (writes.length === 0) return;
    const index = [...new Set(writes.map((write) => indexPattern('audit', write.namespace)))];
    await this.#connection.request((client) => client.indices.refresh({ index, ignore_unavailable: true }));
    for (const { namespace } of writes) this.#findable.add(namespace);
  }

  async #find(writes: readonly RecordWrite[]): Promise<ExactHit[]> {
    if (writes.length === 0) return [];
    const query = { ids: { values: writes.map((write) => write.id) } };
    const body = { query, size: 2 * writes.length, version: true, track_total_hits: false };
    return readExact(this.#connection, `/${indexPattern('audit')}/${WHOLE_SEARCH}`, body);
  }
}

/** Parts of a batch in which no id occurs twice: two revisions of one record are written one after the other, by rank. */
function waves(batch: readonly RecordWrite[]): (readonly RecordWrite[])[] {
  const ids = new Set(batch.map((write) => write.id));
  if (ids.size === batch.length) return [batch];
  const parts: RecordWrite[][] = [];
  const times = new Map<string, number>();
  for (const write of [...batch].sort((one, other) => (one.rank < other.rank ? -1 : 1))) {
    const wave = times.get(write.id) ?? 0;
    times.set(write.id, wave + 1);
    const part = parts[wave] ?? [];
    part.push(write);
    parts[wave] = part;
  }
  return parts;
}

/** The version is written out literally: a JavaScript number could not hold it. The name of an index needs no escapes. */
function indexAction(index: string, write: RecordWrite): Required<BulkAction> {
  return {
    index,
    header: `{"index":{"_index":"${index}","_id":${JSON.stringify(write.id)},"version":${write.rank},"version_type":"external_gte"}}`,
    body: bodyOf(write),
  };
}

/** The bytes, where they are there already. */
function bodyOf(write: RecordWrite): string | Buffer {
  return write.json?.() ?? documentText(write.record);
}

function deleteAction(state: ExactHit, rank: bigint): BulkAction {
  return {
    index: state.index,
    header: `{"delete":{"_index":${JSON.stringify(state.index)},"_id":${JSON.stringify(state.id)},"version":${rank},"version_type":"external_gte"}}`,
  };
}
