import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { CORPUS, type Found } from './fuzz-target.ts';
import type { FuzzTask, FuzzTasks } from './fuzz-worker.ts';
import type { Target } from './target.ts';

/** An input that is worked on for this long is one that never ends. */
const STUCK_MS = 60_000;
const WATCH_MS = 5_000;

const INPUT_BYTES_MAX = 1024 * 1024;

export interface FuzzRun {
  readonly targets: readonly Target[];
  readonly seed: number;
  /** Over all targets, by their weights. */
  readonly messages: number;
  readonly print: (line: string) => void;
}

/** Fuzzes one target after the other; answers what was found and how many messages were tried. */
export async function runFuzz({ targets, seed, messages, print }: FuzzRun): Promise<{ found: Found[]; tried: number }> {
  const weights = targets.reduce((sum, { weight }) => sum + weight, 0);
  let tasks = targets.map(({ name, weight }) => ({ target: name, messages: Math.ceil((messages * weight) / weights) }));
  const found: Found[] = [];
  let tried = 0;
  while (tasks.length > 0) {
    const result = await runWorker(tasks, seed, (one, target, count) => {
      print(
        `${target}: ${count} messages${one ? `, ${one.fault}\n  replay: npm run -s fuzz -- --case ${one.file}` : ''}`,
      );
      if (one) found.push(one);
    });
    tried += result.tried;
    tasks = tasks.slice(result.done);
  }
  return { found, tried };
}

type Tell = (found: Found | undefined, target: string, tried: number) => void;

/** Until all is done, or an input does not come back: then its target counts as done. */
function runWorker(tasks: readonly FuzzTask[], seed: number, tell: Tell): Promise<{ done: number; tried: number }> {
  const trying = new SharedArrayBuffer(4 + INPUT_BYTES_MAX);
  const count = new SharedArrayBuffer(4);
  const counter = new Int32Array(count);
  const worker = new Worker(new URL('./fuzz-worker.ts', import.meta.url), {
    workerData: { tasks, seed, trying, count } satisfies FuzzTasks,
    execArgv: ['--no-warnings'],
  });
  return new Promise((resolve, reject) => {
    let [done, before, told, sinceMs] = [0, 0, 0, performance.now()];
    const end = (act: () => void) => {
      clearInterval(watch);
      void worker.terminate().then(act);
    };
    const finish = (found: Found | undefined) => {
      const tried = Atomics.load(counter, 0);
      tell(found, tasks[done]?.target ?? '', tried - told);
      told = tried;
      done++;
    };
    const watch = setInterval(() => {
      const now = Atomics.load(counter, 0);
      if (now !== before) [before, sinceMs] = [now, performance.now()];
      else if (now > told && performance.now() - sinceMs > STUCK_MS) {
        finish(keepStuck(tasks[done]?.target ?? '', Buffer.from(trying)));
        end(() => resolve({ done, tried: now }));
      }
    }, WATCH_MS);
    worker.on('message', (found: Found | null) => {
      finish(found ?? undefined);
      if (done === tasks.length) end(() => resolve({ done, tried: told }));
    });
    worker.once('error', (error) => end(() => reject(error)));
  });
}

function keepStuck(target: string, trying: Buffer): Found {
  const input = trying.subarray(4, 4 + trying.readUInt32LE());
  const name = `stuck-${createHash('sha256').update(input).digest('hex').slice(0, 12)}`;
  mkdirSync(join(CORPUS, target), { recursive: true });
  writeFileSync(join(CORPUS, target, name), input);
  return { target, file: `test/fuzz/corpus/${target}/${name}`, fault: 'does not come back' };
}
