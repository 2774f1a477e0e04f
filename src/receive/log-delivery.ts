import { hash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import type { Counters } from '../core/metrics.ts';
import type { FieldNote } from './access-fields.ts';
import type { Admit, AdmitResult, RequestSource } from './admission.ts';
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

export type Delivery =
  | { readonly kind: 'receipt'; readonly receipt: Receipt }
  | Exclude<AdmitResult, { readonly kind: 'accepted' }>;

export interface DeliveryOptions {
  readonly admit: Admit;
  readonly counters: Counters;
  /** What its items are counted as. */
  readonly signal: 'access' | 'events';
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
 * Admits the good items of a request as log records and tells what became of each. It resolves when all of them are durable. When
 * it answers `unavailable` some may be durable already; sending them again changes nothing.
 */
export async function deliver(
  given: Iterable<GivenItem>,
  source: RequestSource,
  { admit, counters, signal }: DeliveryOptions,
): Promise<Delivery> {
  const receipt = new ReceiptWriter();
  const chunk = new Chunk();
  const known = new KnownIds();
  let isTrusted = true;
  const append = async (): Promise<Delivery | undefined> => {
    const { items } = chunk;
    if (items === 0) return undefined;
    const result = await admit('logs', chunk.take(), source);
    if (result.kind !== 'accepted') return result;
    isTrusted &&= result.trusted;
    receipt.accepted += items;
    return undefined;
  };
  let index = 0;
  for (const piece of given) {
    const judged = index < ITEMS_MAX ? known.judge(piece, index) : TOO_MANY;
    if (judged === 'repeated') {
      receipt.repeated += 1;
      counters.add('repeated', 1, { signal });
    } else if (judged.ok) {
      chunk.add(judged.service, judged.record);
      for (const note of judged.notes) receipt.warn({ index, ...note });
    } else {
      receipt.reject({ index, ...judged.problem });
      counters.add('rejected', 1, { signal, reason: judged.problem.code });
    }
    index += 1;
    if (chunk.bytes > CHUNK_BYTES_MAX) {
      const failed = await append();
      if (failed) return failed;
    } else if (index % ITEMS_PER_TURN === 0) await setImmediate();
  }
  const failed = await append();
  if (failed) return failed;
  if (!isTrusted) receipt.warn({ field: 'sender', reason: UNTRUSTED });
  return { kind: 'receipt', receipt: receipt.receipt() };
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
