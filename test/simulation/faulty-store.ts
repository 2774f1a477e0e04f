import { AppError } from '../../src/core/errors.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import type { GetHint, Store, WriteResult } from '../../src/store/port.ts';
import type { Asker } from './faulty-disk.ts';
import { hashOf, type Random } from './random.ts';
import type { VirtualTime } from './virtual-time.ts';

/** How likely one write goes wrong, from 0 to 1. */
export interface StoreRates {
  /** Says `store_unavailable`, having stored nothing, a part of the batch or all of it. */
  readonly unavailable: number;
  /** Throws something else, though no record is at fault. */
  readonly throws: number;
  /** Answers after seconds or minutes. */
  readonly stalls: number;
}

export interface FaultyStoreOptions {
  readonly time: VirtualTime;
  readonly random: Random;
  readonly rates: () => StoreRates;
  /** Of a thousand records, so many are never taken … */
  readonly refusedPermille: number;
  /** … and with so many every write fails that has one. */
  readonly brittlePermille: number;
  readonly note: (line: string) => void;
}

/** Failures without a cause that one process may see: fewer than make the pump think that a record is the cause. */
const THROWS_MAX = 3;

interface Kept {
  readonly rank: bigint;
  /** JSON of every state, the current one last. */
  readonly states: string[];
}

/**
 * A store behind its network, which holds what the memory store would: it outlives the processes that write to it, and what
 * they sent arrives though they died.
 */
export class FaultyStore {
  /** By record id. */
  readonly #kept = new Map<string, Kept>();
  /** Documents that it was given, repetitions included. */
  documents = 0;
  readonly #options: FaultyStoreOptions;
  #throwsLeft = THROWS_MAX;
  #connections = 0;

  constructor(options: FaultyStoreOptions) {
    this.#options = options;
  }

  get ids(): string[] {
    return [...this.#kept.keys()];
  }

  /** Every state of a record, the current one last. */
  states(id: string): AuditRecord[] {
    return (this.#kept.get(id)?.states ?? []).map((text) => JSON.parse(text));
  }

  isRefused(id: string): boolean {
    return hashOf(`refused ${id}`) % 1000 < this.#options.refusedPermille;
  }

  isBrittle(id: string): boolean {
    return hashOf(`brittle ${id}`) % 1000 < this.#options.brittlePermille;
  }

  /** A record that cannot be stored, however often it is tried. */
  isWrong(id: string): boolean {
    return this.isRefused(id) || this.isBrittle(id);
  }

  /** As a new process sees it; one that died in the meantime hears nothing any more. */
  connect(asker: Asker): Pick<Store, 'write' | 'get'> {
    this.#throwsLeft = THROWS_MAX;
    const connection = ++this.#connections;
    const heard = async <Result>(answer: Promise<Result>): Promise<Result> => {
      const [settled] = await Promise.allSettled([answer]);
      if (!asker.isAlive) return new Promise<Result>(() => undefined);
      if (settled.status === 'rejected') throw settled.reason;
      return settled.value;
    };
    return { write: (batch) => heard(this.#write(batch, connection)), get: (id, hint) => heard(this.#get(id, hint)) };
  }

  async #write(batch: readonly RecordWrite[], connection: number): Promise<WriteResult> {
    const { random, note } = this.#options;
    // What is under way is bytes: nothing that the sender does to its objects later changes it.
    const sent = batch.map(({ id, rank, record }) => ({ id, rank, text: JSON.stringify(record) }));
    const fault = this.#draw();
    const done = random.next();
    await this.#travel(fault === 'stalls');
    // What a dead process sent arrives before the next one asks for anything, or never: an order of ids cannot mend it later.
    if (connection !== this.#connections) return new Promise<WriteResult>(() => undefined);
    if (fault === 'unavailable' || fault === 'throws') {
      const share = done < 0.4 ? 0 : done < 0.7 ? done : 1;
      const arrived = sent.slice(0, Math.round(sent.length * share));
      this.#keep(arrived.filter(({ id }) => !this.isBrittle(id)));
      note(`store write of ${sent.length} records: ${fault}, ${arrived.length} arrived`);
      throw fault === 'throws'
        ? new Error('the store stumbled')
        : new AppError('store_unavailable', 'the store is away');
    }
    const brittle = sent.find(({ id }) => this.isBrittle(id));
    if (brittle) {
      note(`store write of ${sent.length} records fails with ${brittle.id}`);
      throw new Error(`cannot take ${brittle.id}`);
    }
    const result = this.#keep(sent);
    note(`store write of ${sent.length} records: ${JSON.stringify(result)}`);
    await this.#travel(false);
    return result;
  }

  #keep(sent: readonly { id: string; rank: bigint; text: string }[]): WriteResult {
    this.documents += sent.length;
    const taken = sent.filter(({ id }) => !this.isRefused(id));
    let written = 0;
    for (const { id, rank, text } of taken) {
      const known = this.#kept.get(id);
      if (known !== undefined && known.rank > rank) continue;
      written++;
      if (known?.rank !== rank) this.#kept.set(id, { rank, states: [...(known?.states ?? []), text] });
    }
    const refused = sent.filter(({ id }) => this.isRefused(id));
    const rejected = refused.map(({ id }) => ({ id, reason: 'not a record of ours' }));
    return { written, outranked: taken.length - written, rejected };
  }

  async #get(id: string, _hint?: GetHint): Promise<AuditRecord | undefined> {
    const fault = this.#draw();
    await this.#travel(fault === 'stalls');
    if (fault === 'unavailable' || fault === 'throws') {
      this.#options.note(`store get: ${fault}`);
      throw new AppError('store_unavailable', 'the store is away');
    }
    return this.states(id).at(-1);
  }

  #draw(): 'unavailable' | 'throws' | 'stalls' | undefined {
    const { unavailable, throws, stalls } = this.#options.rates();
    const drawn = this.#options.random.next();
    if (drawn < unavailable) return 'unavailable';
    if (drawn < unavailable + throws) return this.#throwsLeft-- > 0 ? 'throws' : undefined;
    return drawn < unavailable + throws + stalls ? 'stalls' : undefined;
  }

  #travel(isSlow: boolean): Promise<void> {
    const { time, random } = this.#options;
    return time.sleep(isSlow ? random.int(1_000, 120_000) : random.next() * 20);
  }
}
