import { type MessagePort, parentPort, Worker, workerData } from 'node:worker_threads';
import { assert } from '../core/assert.ts';
import { type CompactionPace, type CompactionWork, workHere } from './compaction.ts';
import { WAL_KIND } from './segment-format.ts';
import type { Segment } from './segment-recovery.ts';
import { syncDisk } from './sync-disk.ts';
import { lowerThisThread } from './thread-priority.ts';

/** What the thread does. Before each block of a segment that it compresses it asks how to go on, and waits for the answer. */
type Task =
  | { readonly kind: 'write'; readonly folder: string; readonly segment: Segment; readonly path: string }
  | { readonly kind: 'empty'; readonly path: string };

type Written = Awaited<ReturnType<CompactionWork['write']>>;

type FromThread =
  | { readonly kind: 'may I go on' }
  | { readonly kind: 'done'; readonly written?: Written | undefined }
  | { readonly kind: 'failed'; readonly error: unknown };

interface ToThread {
  readonly task?: Task;
  readonly isStopped?: boolean;
}

/**
 * A thread that does a compaction's work with bytes, on the machine's disk and one task at a time. It lets the other threads go
 * first; on the main thread it would also have everything collected over and over that is there, for the buffers that it makes
 * and drops. Started when it is needed first, and kept.
 */
export class CompactionThread implements CompactionWork {
  #worker: Worker | undefined;
  #task: { readonly pace?: CompactionPace; end(written?: Written): void; fail(why: unknown): void } | undefined;

  write: CompactionWork['write'] = async ({ folder }, segment, path, pace) => {
    const written = await this.#do({ kind: 'write', folder, segment, path }, pace);
    assert(written !== undefined, 'what was written is told');
    return written;
  };

  empty: CompactionWork['empty'] = async (_disk, path) => {
    await this.#do({ kind: 'empty', path });
  };

  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  #do(task: Task, pace?: CompactionPace): Promise<Written | undefined> {
    this.#worker ??= this.#start();
    const worker = this.#worker;
    worker.ref();
    const done = new Promise<Written | undefined>((end, fail) => {
      this.#task = { ...(pace && { pace }), end, fail };
    });
    worker.postMessage({ task } satisfies ToThread);
    return done.finally(() => worker.unref());
  }

  #start(): Worker {
    const worker = new Worker(new URL(import.meta.url), { workerData: { compactionThread: true } });
    const dead = (why: unknown) => {
      this.#worker = undefined;
      this.#task?.fail(typeof why === 'number' ? new Error(`the thread that compacts ended with ${why}`) : why);
    };
    worker.on('error', dead).on('exit', dead);
    return worker.on('message', (message: FromThread) => {
      if (message.kind === 'may I go on' && this.#task?.pace) goOn(worker, this.#task.pace, this.#task.fail);
      else if (message.kind === 'done') this.#task?.end(message.written);
      else if (message.kind === 'failed') this.#task?.fail(message.error);
    });
  }
}

function goOn(worker: Worker, pace: CompactionPace, failed: (why: unknown) => void): void {
  pace.breathe().then(() => worker.postMessage({ isStopped: pace.isStopped() } satisfies ToThread), failed);
}

/** This file is also what runs on the thread. */
function serve(port: MessagePort): void {
  lowerThisThread();
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
    return perform(task, pace).then(
      (written) => port.postMessage({ kind: 'done', written } satisfies FromThread),
      (error: unknown) => port.postMessage({ kind: 'failed', error } satisfies FromThread),
    );
  });
}

async function perform(task: Task, pace: CompactionPace): Promise<Written | undefined> {
  if (task.kind === 'write') {
    const place = { folder: task.folder, kind: WAL_KIND, disk: syncDisk };
    return workHere.write(place, task.segment, task.path, pace);
  }
  await workHere.empty(syncDisk, task.path);
  return undefined;
}

// A worker of something else that imports this file has other data.
if (parentPort !== null && workerData?.compactionThread === true) serve(parentPort);
