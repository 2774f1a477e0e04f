import { type MessagePort, parentPort, Worker, workerData } from 'node:worker_threads';
import type { CompactionPace, WriteCompressed } from './compaction.ts';
import { writeCompressed } from './compaction.ts';
import { nodeDisk } from './disk.ts';
import { WAL_KIND } from './segment-format.ts';
import type { Segment } from './segment-recovery.ts';

/** A segment to be compressed. Before each block the thread asks how to go on, and waits for the answer. */
interface Task {
  readonly folder: string;
  readonly segment: Segment;
  readonly path: string;
}

type Written = Awaited<ReturnType<WriteCompressed>>;

type FromThread =
  | { readonly kind: 'may I go on' }
  | { readonly kind: 'written'; readonly written: Written }
  | { readonly kind: 'failed'; readonly error: unknown };

interface ToThread {
  readonly task?: Task;
  readonly isStopped?: boolean;
}

/** Buffers of a block are garbage after it: with little room they are collected before they are many. */
const YOUNG_MEGABYTES = 2;

/**
 * A thread that compresses. What it makes and drops is four times what it reads: on the main thread that has everything there
 * collected over and over, which costs more than the compression. Started when it is needed first, and kept.
 */
export class CompactionThread {
  #worker: Worker | undefined;
  #task: { readonly pace: CompactionPace; end(written: Written): void; fail(why: unknown): void } | undefined;

  /** As `writeCompressed`, of a segment of the write-ahead log on the machine's disk; one at a time. */
  write: WriteCompressed = (place, segment, path, pace) => {
    this.#worker ??= this.#start();
    const worker = this.#worker;
    worker.ref();
    const written = new Promise<Written>((end, fail) => {
      this.#task = { pace, end, fail };
    });
    worker.postMessage({ task: { folder: place.folder, segment, path } } satisfies ToThread);
    return written.finally(() => worker.unref());
  };

  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  #start(): Worker {
    const worker = new Worker(new URL(import.meta.url), {
      workerData: { compactionThread: true },
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MEGABYTES },
    });
    const dead = (why: unknown) => {
      this.#worker = undefined;
      this.#task?.fail(typeof why === 'number' ? new Error(`the thread that compacts ended with ${why}`) : why);
    };
    worker.on('error', dead).on('exit', dead);
    return worker.on('message', (message: FromThread) => {
      if (message.kind === 'may I go on' && this.#task) goOn(worker, this.#task.pace, this.#task.fail);
      else if (message.kind === 'written') this.#task?.end(message.written);
      else if (message.kind === 'failed') this.#task?.fail(message.error);
    });
  }
}

function goOn(worker: Worker, pace: CompactionPace, failed: (why: unknown) => void): void {
  pace.breathe().then(() => worker.postMessage({ isStopped: pace.isStopped() } satisfies ToThread), failed);
}

/** This file is also what runs on the thread. */
function serve(port: MessagePort): void {
  let answered = (_isStopped: boolean) => {};
  let isStopped = false;
  const pace: CompactionPace = {
    breathe: () =>
      new Promise((resolve) => {
        answered = (stop) => {
          isStopped = stop;
          resolve();
        };
        port.postMessage({ kind: 'may I go on' } satisfies FromThread);
      }),
    isStopped: () => isStopped,
  };
  port.on('message', ({ task, isStopped: stop }: ToThread) => {
    if (task === undefined) return answered(stop ?? false);
    isStopped = false;
    const { folder, segment, path } = task;
    return writeCompressed({ folder, kind: WAL_KIND, disk: nodeDisk }, segment, path, pace).then(
      (written) => port.postMessage({ kind: 'written', written } satisfies FromThread),
      (error: unknown) => port.postMessage({ kind: 'failed', error } satisfies FromThread),
    );
  });
}

// A worker of something else that imports this file has other data.
if (parentPort !== null && workerData?.compactionThread === true) serve(parentPort);
