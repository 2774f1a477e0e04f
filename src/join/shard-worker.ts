import type { MessagePort, Worker } from 'node:worker_threads';
import { assert } from '../core/assert.ts';
import type { Resource, Span } from '../core/evidence.ts';
import type { StoredFrame } from '../wal/frame.ts';
import type { FramePosition } from '../wal/segment-format.ts';
import type { JournalHead, JournalPosition } from '../wal/settle-journal.ts';
import {
  BatchPacker,
  BatchUnpacker,
  type PackedBatch,
  packPositions,
  transferOf,
  unpackPositions,
} from './batch-crossing.ts';
import type { JoinShard } from './shard.ts';
import type { ShardHandle } from './shard-handle.ts';
import { MailWriter, readMail, type ShardMail } from './shard-mail.ts';

/** The calls that are answered, by name; each message carries the arguments. */
type Answered = Exclude<keyof ShardHandle, 'ingest' | 'restore' | 'replayFrom' | 'forgetIgnored' | 'close'>;

/** What crosses to the shard's thread: where evidence is, never payloads. */
type Request =
  | { readonly kind: 'ingest'; readonly position: FramePosition; readonly nowMs: number; readonly isReplay: boolean }
  | ({ readonly kind: 'mail' } & ShardMail)
  | { readonly kind: 'restore'; readonly entry: JournalHead; readonly position: JournalPosition }
  | { readonly kind: 'replayFrom'; readonly segment: number }
  | { readonly kind: 'forgetIgnored'; readonly segment: number }
  | { readonly kind: 'recycle'; readonly chunks: readonly ArrayBuffer[] }
  | { readonly kind: 'call'; readonly number: number; readonly name: Answered; readonly args: readonly unknown[] };

type Answer = { readonly number: number; readonly result: unknown };

/** What the shard's thread reads the write-ahead log with, and what it lets go of when segments are dropped. */
export interface FrameSource {
  read(position: FramePosition): StoredFrame;
  forget(segment: number): void;
  forgetJournalBefore(segment: number): void;
}

/** Where the memory goes that records were written into, when nobody looks at them any more. */
export type Recycle = (chunks: readonly Buffer[]) => void;

/** Spans with what a clone can be made of: attributes as Maps. */
function cloneable(spans: readonly Span[]): Span[] {
  const resources = new Map<Resource, Resource>();
  const plain = ({ attributes }: Resource): Resource => ({ attributes: new Map(attributes) });
  return spans.map((span) => {
    const resource = resources.get(span.resource) ?? plain(span.resource);
    resources.set(span.resource, resource);
    const events = span.events.map(({ attributes }) => ({ attributes: new Map(attributes) }));
    return { ...span, resource, events, attributes: new Map(span.attributes), content: undefined };
  });
}

/** Serves a shard on its own thread. An error ends the thread, and with it the process: what was acknowledged is on disk. */
export function serveShard(port: MessagePort, shard: JoinShard, frames: FrameSource, recycle: Recycle): void {
  const packer = new BatchPacker();
  let firstSegment = 0;
  const calls: Record<Answered, (...args: never[]) => unknown> = {
    endReplay: shard.endReplay.bind(shard),
    take: (nowMs: number, recordsMax: number) => {
      const batch = shard.take(nowMs, recordsMax);
      return batch && packer.pack(batch);
    },
    stored: (batchNumber: number, positions: Float64Array) => shard.stored(batchNumber, unpackPositions(positions)),
    nextDueAtMs: shard.nextDueAtMs.bind(shard),
    flush: shard.flush.bind(shard),
    dropBefore: (segment: number, journalSegment: number, receivedMs: number) => {
      shard.dropBefore(segment, journalSegment, receivedMs);
      frames.forgetJournalBefore(journalSegment);
      for (; firstSegment < segment; firstSegment++) frames.forget(firstSegment);
    },
    stats: shard.stats.bind(shard),
    spansOf: (traceId: string) => cloneable(shard.spansOf(traceId)),
    isCurrent: shard.isCurrent.bind(shard),
    repeat: shard.repeat.bind(shard),
  };
  port.on('message', (request: Request) => {
    if (request.kind === 'mail') for (const spans of readMail(request)) shard.ingestMailed(spans);
    else if (request.kind === 'ingest') shard.ingest(frames.read(request.position), request.nowMs, request.isReplay);
    else if (request.kind === 'restore') shard.restore(request.entry, request.position);
    else if (request.kind === 'replayFrom') shard.replayFrom(request.segment);
    else if (request.kind === 'forgetIgnored') shard.forgetIgnored(request.segment);
    else if (request.kind === 'recycle') recycle(request.chunks.map((chunk) => Buffer.from(chunk)));
    else {
      const call = calls[request.name] as (...args: readonly unknown[]) => unknown;
      const result = call(...request.args);
      const transfer = request.name === 'take' && result ? transferOf(result as PackedBatch) : [];
      port.postMessage({ number: request.number, result } satisfies Answer, transfer);
    }
  });
}

/** Frames wait so long for others to cross with, unless the shard is asked something: a message costs both threads more than a frame. */
const MAIL_WAIT_MS = 10;

/** What a FrameSplitter gives of a frame for the shard. */
export type SpansOf = (frame: StoredFrame) => Uint32Array | undefined;

/**
 * Takes of a shard on another thread, each asked for when the one before it has come: the thread settles while batches are written.
 * No more than one is ahead, and none is without one that was asked for before it.
 */
class Prefetched {
  readonly #ask: (nowMs: number, recordsMax: number) => Promise<PackedBatch | undefined>;
  #next: Promise<PackedBatch | undefined> | undefined;

  constructor(ask: (nowMs: number, recordsMax: number) => Promise<PackedBatch | undefined>) {
    this.#ask = ask;
  }

  async take(nowMs: number, recordsMax: number): Promise<PackedBatch | undefined> {
    const next = this.#next;
    this.#next = undefined;
    // That nothing was due then does not say that nothing is now.
    const batch = (await next) ?? (await this.#ask(nowMs, recordsMax));
    if (batch === undefined) return undefined;
    this.#next = this.#ask(nowMs, recordsMax);
    // Whoever takes it is told.
    this.#next.catch(() => undefined);
    return batch;
  }
}

/**
 * The shard on that thread (see serveShard), as seen from the main thread. When the thread dies every call, waiting or later,
 * is rejected with its error.
 */
export function threadShard(worker: Worker, spansOf: SpansOf): ShardHandle {
  const unpacker = new BatchUnpacker();
  const batches = new Prefetched((nowMs, recordsMax) => call<PackedBatch | undefined>('take', nowMs, recordsMax));
  /** Memory that the records of batches under way lie in, by their numbers. */
  const chunks = new Map<number, readonly ArrayBuffer[]>();
  const waiting = new Map<number, { resolve: (result: unknown) => void; reject: (reason: unknown) => void }>();
  let number = 0;
  let death: unknown;
  const die = (reason: unknown) => {
    death ??= reason;
    for (const call of waiting.values()) call.reject(death);
    waiting.clear();
  };
  worker.on('error', die);
  worker.on('exit', (code) => die(new Error(`a join thread ended with code ${code}`)));
  worker.on('message', (answer: Answer) => {
    const call = waiting.get(answer.number);
    assert(call !== undefined, 'a join thread answers calls that wait');
    waiting.delete(answer.number);
    call.resolve(answer.result);
  });
  const mail = new MailWriter();
  const sendMail = () => {
    if (mail.isEmpty) return;
    const gathered = mail.take();
    worker.postMessage({ kind: 'mail', ...gathered } satisfies Request, [gathered.words.buffer]);
  };
  const gather = (frame: StoredFrame, facts: Uint32Array, nowMs: number, isReplay: boolean) => {
    if (mail.isEmpty) setTimeout(sendMail, MAIL_WAIT_MS);
    mail.add(frame, facts, nowMs, isReplay);
    if (mail.isFull) sendMail();
  };
  /** After what was gathered before it. */
  const send = (request: Request, transfer: readonly ArrayBuffer[] = []) => {
    sendMail();
    worker.postMessage(request, transfer);
  };
  // The shard's method of that name returns a Result.
  const call = <Result>(name: Answered, ...args: unknown[]): Promise<Result> =>
    new Promise((resolve, reject) => {
      if (death !== undefined) return reject(death);
      number++;
      waiting.set(number, { resolve: (result) => resolve(result as Result), reject });
      send({ kind: 'call', number, name, args });
    });
  return {
    ingest(frame, nowMs, isReplay = false) {
      const { position, signal } = frame;
      if (signal === 'metrics') return;
      const facts = spansOf(frame);
      if (facts === undefined) send({ kind: 'ingest', position, nowMs, isReplay });
      else if (facts.length > 0) gather(frame, facts, nowMs, isReplay);
    },
    restore: (entry, position) => send({ kind: 'restore', entry, position }),
    replayFrom: (segment) => send({ kind: 'replayFrom', segment }),
    forgetIgnored: (segment) => send({ kind: 'forgetIgnored', segment }),
    endReplay: (nowMs) => call('endReplay', nowMs),
    take: async (nowMs, recordsMax) => {
      const packed = await batches.take(nowMs, recordsMax);
      if (packed === undefined) return undefined;
      chunks.set(packed.number, packed.chunks);
      return unpacker.unpack(packed);
    },
    stored(batchNumber, positions) {
      const free = chunks.get(batchNumber) ?? [];
      chunks.delete(batchNumber);
      if (death === undefined && free.length > 0) send({ kind: 'recycle', chunks: free }, free);
      return call('stored', batchNumber, packPositions(positions));
    },
    nextDueAtMs: (nowMs) => call('nextDueAtMs', nowMs),
    flush: () => call('flush'),
    dropBefore: (segment, journalSegment, receivedMs) => call('dropBefore', segment, journalSegment, receivedMs),
    stats: (nowMs) => call('stats', nowMs),
    spansOf: (traceId) => call('spansOf', traceId),
    isCurrent: (entries) => call('isCurrent', entries),
    repeat: (namespace, traceId) => call('repeat', namespace, traceId),
    close: async () => {
      await worker.terminate();
    },
  };
}
