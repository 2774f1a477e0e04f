import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { randomOf } from '../simulation/random.ts';
import { fuzzTarget } from './fuzz-target.ts';
import { TARGETS } from './targets.ts';

export interface FuzzTask {
  readonly target: string;
  readonly messages: number;
}

/** What a worker is to do, and where it writes down the input that it tries: length, then bytes. */
export interface FuzzTasks {
  readonly tasks: readonly FuzzTask[];
  readonly seed: number;
  readonly trying: SharedArrayBuffer;
  /** Counts the inputs, so that one that never ends is noticed. */
  readonly count: SharedArrayBuffer;
}

async function work({ tasks, seed, trying, count }: FuzzTasks): Promise<void> {
  const bytes = Buffer.from(trying);
  const counter = new Int32Array(count);
  for (const { target: name, messages } of tasks) {
    const target = TARGETS.find((one) => one.name === name);
    if (target === undefined) throw new Error(`no target ${name}`);
    const found = await fuzzTarget({
      target,
      random: randomOf(seed).fork(name),
      messages,
      trying(input) {
        bytes.writeUInt32LE(input.length);
        input.copy(bytes, 4);
        Atomics.add(counter, 0, 1);
      },
    });
    parentPort?.postMessage(found ?? null);
  }
}

if (!isMainThread) await work(workerData as FuzzTasks);
