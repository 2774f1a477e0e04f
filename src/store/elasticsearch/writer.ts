import { AppError } from '../../core/errors.ts';
import type { RecordWrite } from '../../core/settlement.ts';
import { documentText } from '../document.ts';
import type { WriteRejection, WriteResult } from '../port.ts';
import { type BulkAction, sendBulk } from './bulk.ts';
import type { Connection } from './connection.ts';
import { type ExactHit, readExact, WHOLE_SEARCH } from './exact.ts';
import { type IndexPeriod, indexName, indexPattern, revisionsIndexOf } from './indices.ts';
import { setUpAlias } from './set-up.ts';

/** Documents of one look-up: bounds its answer to some megabytes. */
const LOOKUP_DOCUMENTS_MAX = 1_000;

/** Digits of the largest rank (63 bits), so that ids of kept states sort by rank. */
const RANK_DIGITS = 19;

/**
 * Writes records. The version of a document is its rank, so the server itself turns down what is outranked, whatever
 * order and however often batches arrive. A first revision costs one look-up by id and its part of a bulk request.
 *
 * A revision goes in this order, each step durable before the next: (1) the state it replaces is kept, create-only, under
 * its rank; (2) the new state is written; (3) copies in other indices are deleted, when the record moved to another day.
 * A crash in between leaves a record twice at worst, until the same batch is written again.
 */
export class Writer {
  readonly #connection: Connection;
  readonly #period: IndexPeriod;
  readonly #namespaces = new Map<string, Promise<void>>();
  /** Namespaces in which a search finds all that earlier runs wrote. */
  readonly #findable = new Set<string>();

  constructor(connection: Connection, period: IndexPeriod) {
    this.#connection = connection;
    this.#period = period;
  }

  async write(batch: readonly RecordWrite[]): Promise<WriteResult> {
    for (const namespace of new Set(batch.map((write) => write.namespace))) await this.#prepare(namespace);
    let written = 0;
    let outranked = 0;
    const rejected: WriteRejection[] = [];
    for (const [number, wave] of waves(batch).entries()) {
      const result = await this.#writeWave(wave, await this.#lookUp(wave, number > 0));
      written += result.written;
      outranked += result.outranked;
      rejected.push(...result.rejected);
    }
    return { written, outranked, rejected };
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

  async #writeWave(wave: readonly RecordWrite[], held: readonly ExactHit[]): Promise<WriteResult> {
    const highest = new Map<string, bigint>();
    for (const { id, rank } of held) if (rank > (highest.get(id) ?? 0n)) highest.set(id, rank);
    const isOutranked = (write: RecordWrite) => (highest.get(write.id) ?? 0n) > write.rank;
    const winners = wave.filter((write) => !isOutranked(write));
    const byId = new Map(winners.map((write) => [write.id, write]));

    const replaced = held.filter((state) => state.rank < (byId.get(state.id)?.rank ?? 0n));
    await this.#keep(replaced);

    const outcomes = await sendBulk(
      this.#connection,
      winners.map((write) => indexAction(this.#indexOf(write), write)),
    );
    const isUnseen = (write: RecordWrite, at: number) => outcomes[at]?.status === 409 && !highest.has(write.id);
    const revived = await this.#revive(winners.filter(isUnseen));
    const rejected: WriteRejection[] = [];
    let outranked = wave.length - winners.length;
    for (const [at, outcome] of outcomes.entries()) {
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
    await sendBulk(
      this.#connection,
      stale.map((state) => deleteAction(state, byId.get(state.id)?.rank ?? state.rank)),
    );
    return { written: wave.length - outranked - rejected.length, outranked, rejected };
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
    const outcomes = await sendBulk(
      this.#connection,
      deleted.map((write) => ({
        header: JSON.stringify({ create: { _index: this.#indexOf(write), _id: write.id } }),
        body: documentText(write.record),
      })),
    );
    return new Set(deleted.filter((_, at) => (outcomes[at]?.status ?? 409) < 300).map((write) => write.id));
  }

  #indexOf(write: RecordWrite, timestampNs = write.timestampNs): string {
    return indexName(write.namespace, timestampNs, this.#period);
  }

  #indicesOf(write: RecordWrite): Set<string> {
    return new Set([this.#indexOf(write), this.#indexOf(write, write.previousTimestampNs)]);
  }

  /** Create-only: a state that is kept already (409) was kept by an earlier try. */
  async #keep(replaced: readonly ExactHit[]): Promise<void> {
    const actions = replaced.map((state): BulkAction => {
      const _id = `${state.id}-${String(state.rank).padStart(RANK_DIGITS, '0')}`;
      const header = JSON.stringify({ create: { _index: revisionsIndexOf(state.index), _id } });
      return { header, body: documentText(state.record) };
    });
    const outcomes = await sendBulk(this.#connection, actions);
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
  async #lookUp(writes: readonly RecordWrite[], isRepeated: boolean): Promise<ExactHit[]> {
    const held: ExactHit[] = [];
    const isUnseen = ({ mayBeElsewhere, namespace }: RecordWrite) =>
      mayBeElsewhere === 'moved' || (mayBeElsewhere && !this.#findable.has(namespace));
    await this.#makeFindable(writes.filter(isUnseen));
    for (let at = 0; at < writes.length; at += LOOKUP_DOCUMENTS_MAX) {
      const part = writes.slice(at, at + LOOKUP_DOCUMENTS_MAX);
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
function waves(batch: readonly RecordWrite[]): RecordWrite[][] {
  const parts: RecordWrite[][] = [];
  const times = new Map<string, number>();
  const ids = new Set(batch.map((write) => write.id));
  const ordered = ids.size === batch.length ? batch : [...batch].sort((one, other) => (one.rank < other.rank ? -1 : 1));
  for (const write of ordered) {
    const wave = times.get(write.id) ?? 0;
    times.set(write.id, wave + 1);
    const part = parts[wave] ?? [];
    part.push(write);
    parts[wave] = part;
  }
  return parts;
}

/** The version is written out literally: a JavaScript number could not hold it. */
function indexAction(index: string, write: RecordWrite): BulkAction {
  return {
    header: `{"index":{"_index":${JSON.stringify(index)},"_id":${JSON.stringify(write.id)},"version":${write.rank},"version_type":"external_gte"}}`,
    body: documentText(write.record),
  };
}

function deleteAction(state: ExactHit, rank: bigint): BulkAction {
  return {
    header: `{"delete":{"_index":${JSON.stringify(state.index)},"_id":${JSON.stringify(state.id)},"version":${rank},"version_type":"external_gte"}}`,
  };
}
