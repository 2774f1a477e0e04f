import { hash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import type { Counters } from '../core/metrics.ts';
import type { FieldNote } from './access-fields.ts';
import { type Admit, type AdmitResult, LIMIT_MESSAGES, RETRY_AFTER_MS, type RequestSource } from './admission.ts';
import type { Limit } from './fair-share.ts';
import { type Reservation, Turns } from './in-flight.ts';
import { encodeLogItem, encodeLogRequest, type LogItem } from './log-items.ts';
import { type Receipt, ReceiptWriter, type RejectedEvent } from './receipt.ts';

/** One piece of a request: a log record to be, or what is wrong with it. */
export type GivenItem =
  | {
      readonly ok: true;
      readonly item: LogItem;
      /** The sender's own id; empty for none. */
      readonly id: string;
      readonly notes: readonly FieldNote[];
    }
  | { readonly ok: false; readonly problem: Omit<RejectedEvent, 'index'> };

/**
 * What a request came to. `busy`: it has no room for what it becomes; the sender is told which limit it met. Other than a receipt as
 * AdmitResult has it.
 */
export type Delivery =
  | { readonly kind: 'receipt'; readonly receipt: Receipt }
  | { readonly kind: 'busy'; readonly limit: Limit; readonly message: string; readonly retryAfterMs: number }
  | Exclude<AdmitResult, { readonly kind: 'accepted' }>;

export interface DeliveryOptions {
  readonly admit: Admit;
  readonly counters: Counters;
  /** What its items are counted as. */
  readonly signal: 'access' | 'events';
}

/** Where a request comes from, and what it holds of what is in flight. */
export interface DeliverySource extends RequestSource {
  readonly room: Pick<Reservation, 'add' | 'shrinkTo'>;
  /** Of the request as it came, inflated. */
  readonly bytes: number;
}

/** Items of one request: the most that a sender who batches by the minute has, and some seconds of work for us. */
export const ITEMS_MAX = 100_000;

/** What is appended at once: enough to make the fsync cheap, little enough that a large request takes no memory twice. */
const CHUNK_BYTES_MAX = 4 * 1024 * 1024;

/** Items after which others get their turn. */
const ITEMS_PER_TURN = 500;

const TOO_MANY = {
  ok: false,
  problem: {
    id: '',
    field: 'events',
    code: 'too_many',
    reason: `a request has at most ${ITEMS_MAX} of them; send smaller batches`,
  },
} as const;

const UNTRUSTED =
  'this sender may not state actors, outcomes and decisions (receive.trustedPeers; pages in browsers never may): kept as context only';

/**
 * Requests that are read at once: what is parsed takes some fifteen times the room of its text. Small ones have turns of their own,
 * so that one event does not wait for somebody's hundred thousand.
 */
const SMALL_BYTES_MAX = 256 * 1024;
const SMALL_AT_ONCE = 16;
const LARGE_AT_ONCE = 2;

/**
 * Admits the good items of requests as log records and tells what became of each. Resolves when all of a request's are durable. When
 * it answers otherwise than by a receipt some may be durable already; sending them again changes nothing.
 */
export class LogDelivery {
  readonly #options: DeliveryOptions;
  readonly #smallTurns = new Turns(SMALL_AT_ONCE);
  readonly #largeTurns = new Turns(LARGE_AT_ONCE);

  constructor(options: DeliveryOptions) {
    this.#options = options;
  }

  /** `read` parses the request when it is its turn; it may find that there is nothing to be read. */
  async deliver(
    read: () => Iterable<GivenItem> | Extract<Delivery, { readonly kind: 'invalid' }>,
    source: DeliverySource,
  ): Promise<Delivery> {
    const request = new RequestDelivery(this.#options, source);
    const turns = source.bytes > SMALL_BYTES_MAX ? this.#largeTurns : this.#smallTurns;
    const failed = await turns.run(async () => {
      const given = read();
      return 'kind' in given ? given : request.take(given);
    });
    return failed ?? request.finish();
  }
}

/** The delivery of one request. */
class RequestDelivery {
  readonly #options: DeliveryOptions;
  readonly #source: DeliverySource;
  readonly #receipt = new ReceiptWriter();
  readonly #chunk = new Chunk();
  #isTrusted = true;

  constructor(options: DeliveryOptions, source: DeliverySource) {
    this.#options = options;
    this.#source = source;
  }

  /** Takes all items in, and appends all but the last of them. Tells when that fails. */
  async take(given: Iterable<GivenItem>): Promise<Delivery | undefined> {
    const known = new KnownIds();
    let index = 0;
    for (const piece of given) {
      this.#note(index < ITEMS_MAX ? known.judge(piece, index) : TOO_MANY, index);
      index += 1;
      if (this.#chunk.bytes > CHUNK_BYTES_MAX) {
        const failed = await this.#append();
        if (failed) return failed;
      } else if (index % ITEMS_PER_TURN === 0) await setImmediate();
    }
    return undefined;
  }

  async finish(): Promise<Delivery> {
    const failed = await this.#append();
    if (failed) return failed;
    if (!this.#isTrusted) this.#receipt.warn({ field: 'sender', reason: UNTRUSTED });
    return { kind: 'receipt', receipt: this.#receipt.receipt() };
  }

  #note(judged: Kept | Refusal | 'repeated', index: number): void {
    const { counters, signal } = this.#options;
    if (judged === 'repeated') {
      this.#receipt.repeated += 1;
      counters.add('repeated', 1, { signal });
    } else if (judged.ok) {
      this.#chunk.add(judged.service, judged.record);
      for (const note of judged.notes) this.#receipt.warn({ index, ...note });
    } else {
      this.#receipt.reject({ index, ...judged.problem });
      counters.add('rejected', 1, { signal, reason: judged.problem.code });
    }
  }

  async #append(): Promise<Delivery | undefined> {
    const { items } = this.#chunk;
    if (items === 0) return undefined;
    const { room, bytes } = this.#source;
    const payload = this.#chunk.take();
    const limit = room.add(payload.length);
    if (limit) return { kind: 'busy', limit, message: LIMIT_MESSAGES[limit], retryAfterMs: RETRY_AFTER_MS };
    const result = await this.#options.admit('logs', payload, this.#source);
    room.shrinkTo(bytes);
    if (result.kind !== 'accepted') return result;
    this.#isTrusted &&= result.trusted;
    this.#receipt.accepted += items;
    return undefined;
  }
}

/** Encoded log records that wait to be appended together. */
class Chunk {
  bytes = 0;
  items = 0;
  #byService = new Map<string, Buffer[]>();

  add(service: string, record: Buffer): void {
    const records = this.#byService.get(service);
    if (records) records.push(record);
    else this.#byService.set(service, [record]);
    this.bytes += record.length;
    this.items += 1;
  }

  take(): Buffer {
    const payload = encodeLogRequest(this.#byService);
    this.#byService = new Map();
    this.bytes = 0;
    this.items = 0;
    return payload;
  }
}

type Refusal = Extract<GivenItem, { readonly ok: false }>;

interface Kept {
  readonly ok: true;
  readonly service: string;
  readonly record: Buffer;
  readonly notes: readonly FieldNote[];
}

/** The ids of one request's events, each with a digest of its content. */
class KnownIds {
  readonly #known = new Map<string, { readonly index: number; readonly digest: string }>();

  judge(given: GivenItem, index: number): Kept | Refusal | 'repeated' {
    if (!given.ok) return given;
    const { item, id, notes } = given;
    const { service } = item;
    const record = encodeLogItem(item);
    if (id === '') return { ok: true, service, record, notes };
    const key = `${service.length}:${service}${id}`;
    const digest = hash('sha256', record, 'base64');
    const before = this.#known.get(key);
    if (before?.digest === digest) return 'repeated';
    if (before) {
      const reason = `event ${before.index} of this request has the same id and another content; an id is for one event`;
      return { ok: false, problem: { id, field: 'id', code: 'repeated_id', reason } };
    }
    this.#known.set(key, { index, digest });
    return { ok: true, service, record, notes };
  }
}
