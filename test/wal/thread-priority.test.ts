import { execFile } from 'node:child_process';
import { getPriority } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const MODULE = fileURLToPath(new URL('../../src/wal/thread-priority.ts', import.meta.url));

const OWN = getPriority();
const LOWERED = Math.max(OWN, 10);

/** The threads of a new process whose main one has stepped back: which it is, its name, and how nice it is. */
async function niceness(): Promise<{ isMain: boolean; name: string; nice: number }[]> {
  const script = `
    import { readdirSync, readFileSync } from 'node:fs';
    import { getPriority } from 'node:os';
    import { lowerThisThread } from ${JSON.stringify(MODULE)};
    lowerThisThread();
    const tasks = process.platform === 'linux' ? readdirSync('/proc/self/task') : [];
    const threads = tasks.map((thread) => ({
      isMain: Number(thread) === process.pid,
      name: readFileSync('/proc/self/task/' + thread + '/comm', 'utf8').trim(),
      nice: getPriority(Number(thread)),
    }));
    console.log(JSON.stringify(threads));`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script]);
  return JSON.parse(stdout);
}

it('puts the thread that asks behind the others, whatever the system thinks of it', async () => {
  const threads = await niceness();
  for (const { isMain, name, nice } of threads) expect(nice, name).toBe(isMain ? LOWERED : OWN);
});
