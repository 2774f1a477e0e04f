import type { MessagePort, Worker } from 'node:worker_threads';
import { assert } from '../core/assert.ts';
import type { StoredFrame } from '../wal/frame.ts';
import type { FramePosition } from '../wal/segment-format.ts';
import type { JournalHead, JournalPosition } from '../wal/settle-journal.ts';
import { BatchPacker, BatchUnpacker, type PackedBatch } from './batch-crossing.ts';
import type { JoinShard } from './shard.ts';
import type { ShardHandle } from './shard-handle.ts';

/** The calls that are answered, by name; each message carries the arguments. */
type Answered = Exclude<keyof ShardHandle, 'ingest' | 'restore' | 'replayFrom' | 'forgetIgnored' | 'close'>;

/** What crosses to the shard's thread: positions, never payloads. */
type Request =
  | { readonly kind: 'ingest'; readonly position: FramePosition; readonly nowMs: number; readonly isReplay: boolean }
  | { readonly kind: 'restore'; readonly entry: JournalHead; readonly position: JournalPosition }
  | { readonly kind: 'replayFrom'; readonly segment: number }
  | { readonly kind: 'forgetIgnored'; readonly segment: number }
  | { readonly kind: 'call'; readonly number: number; readonly name: Answered; readonly args: readonly unknown[] };

type Answer = { readonly number: number; readonly result: unknown };

/** What the shard's thread reads the write-ahead log with, and what it lets go of when segments are dropped. */
export interface FrameSource {
  read(position: FramePosition): StoredFrame;
  forget(segment: number): void;
  forgetJournalBefore(segment: number): void;
}

/** Serves a shard on its own thread. An error ends the thread, and with it the process: what was acknowledged is on disk. */
export function serveShard(port: MessagePort, shard: JoinShard, frames: FrameSource): void {
  const packer = new BatchPacker();
  let firstSegment = 0;
  const calls: Record<Answered, (...args: never[]) => unknown> = {
    endReplay: shard.endReplay.bind(shard),
    take: (nowMs: number, recordsMax: number) => {
      const batch = shard.take(nowMs, recordsMax);
      return batch && packer.pack(batch);
    },
    stored: shard.stored.bind(shard),
    nextDueAtMs: shard.nextDueAtMs.bind(shard),
    flush: shard.flush.bind(shard),
    dropBefore: (segment: number, journalSegment: number, receivedMs: number) => {
      shard.dropBefore(segment, journalSegment, receivedMs);
      frames.forgetJournalBefore(journalSegment);
      for (; firstSegment < segment; firstSegment++) frames.forget(firstSegment);
    },
    stats: shard.stats.bind(shard),
    spansOf: shard.spansOf.bind(shard),
    isCurrent: shard.isCurrent.bind(shard),
    repeat: shard.repeat.bind(shard),
  };
  port.on('message', (request: Request) => {
    if (request.kind === 'ingest') shard.ingest(frames.read(request.position), request.nowMs, request.isReplay);
    else if (request.kind === 'restore') shard.restore(request.entry, request.position);
    else if (request.kind === 'replayFrom') shard.replayFrom(request.segment);
    else if (request.kind === 'forgetIgnored') shard.forgetIgnored(request.segment);
    else {
      const call = calls[request.name] as (...args: readonly unknown[]) => unknown;
      const result = call(...request.args);
      const transfer = request.name === 'take' && result ? [(result as PackedBatch).records.bytes] : [];
      port.postMessage({ number: request.number, result } satisfies Answer, transfer);
    }
  });
}

/**
 * The shard on that thread (see serveShard), as seen from the main thread. When the thread dies every call, waiting or later,
 * is rejected with its error.
 */
export function threadShard(worker: Worker): ShardHandle {
  const unpacker = new BatchUnpacker();
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
  // The shard's method of that name returns a Result.
  const call = <Result>(name: Answered, ...args: unknown[]): Promise<Result> =>
    new Promise((resolve, reject) => {
      if (death !== undefined) return reject(death);
      number++;
      waiting.set(number, { resolve: (result) => resolve(result as Result), reject });
      worker.postMessage({ kind: 'call', number, name, args } satisfies Request);
    });
  return {
    ingest: ({ position, signal }, nowMs, isReplay = false) => {
      if (signal !== 'metrics') worker.postMessage({ kind: 'ingest', position, nowMs, isReplay } satisfies Request);
    },
    restore: (entry, position) => worker.postMessage({ kind: 'restore', entry, position } satisfies Request),
    replayFrom: (segment) => worker.postMessage({ kind: 'replayFrom', segment } satisfies Request),
    forgetIgnored: (segment) => worker.postMessage({ kind: 'forgetIgnored', segment } satisfies Request),
    endReplay: (nowMs) => call('endReplay', nowMs),
    take: async (nowMs, recordsMax) => {
      const packed = await call<PackedBatch | undefined>('take', nowMs, recordsMax);
      return packed && unpacker.unpack(packed);
    },
    stored: (batchNumber, positions) => call('stored', batchNumber, positions),
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
