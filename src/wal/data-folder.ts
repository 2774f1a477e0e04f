import { constants } from 'node:fs';
import { access, link, mkdir, readFile, rename, stat, unlink, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { AppError, describeError } from '../core/errors.ts';
import { errnoOf } from './disk.ts';

/** Folders that this process holds: its own pid in a lock file proves nothing, pids repeat from container to container. */
const held = new Set<string>();

/** Node's own recursive mkdir never returns for a folder that cannot be, such as one in /proc. */
async function makeFolder(path: string): Promise<void> {
  const make = () => mkdir(path, { mode: 0o700 });
  try {
    await make();
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return;
    if (errnoOf(error) !== 'ENOENT' || dirname(path) === path) throw error;
    await makeFolder(dirname(path));
    await make();
  }
}

/** Creates the folder for this user only (0700) or checks that it can be used; returns its absolute path. */
export async function openDataFolder(path: string): Promise<string> {
  const folder = resolve(path);
  try {
    await makeFolder(folder);
    if (!(await stat(folder)).isDirectory()) throw new Error('it is not a folder');
    await access(folder, constants.R_OK | constants.W_OK | constants.X_OK);
    return folder;
  } catch (error) {
    const words = `the data folder ${folder} cannot be used: ${describeError(error)}`;
    throw new AppError('storage', `${words}; give a folder that this user can read and write`, { cause: error });
  }
}

/**
 * One process for each data folder: a file `lock` with the pid and, where the system tells, the start time of the process.
 * A lock of a dead process is taken over. Processes of other hosts or pid namespaces are not seen.
 */
export async function lockDataFolder(path: string): Promise<{ release(): Promise<void> }> {
  const folder = resolve(path);
  const file = join(folder, 'lock');
  if (held.has(folder)) throw inUse(folder, process.pid);
  held.add(folder);
  try {
    await takeLock(folder, file);
  } catch (error) {
    held.delete(folder);
    if (error instanceof AppError) throw error;
    throw new AppError('storage', `cannot lock ${folder}: ${describeError(error)}`, { cause: error });
  }
  return {
    async release() {
      if (held.delete(folder)) await unlink(file).catch(() => undefined);
    },
  };
}

function inUse(folder: string, pid: number): AppError {
  return new AppError(
    'storage',
    `the data folder ${folder} is in use by process ${pid}: stop it or choose another folder`,
  );
}

/** The lock appears with its text in one step (link), and a dead one is moved away by exactly one taker (rename). */
async function takeLock(folder: string, file: string): Promise<void> {
  const draft = `${file}.${process.pid}`;
  const stale = `${draft}.stale`;
  await writeFile(draft, `${process.pid} ${(await startTime(process.pid)) ?? ''}`, { mode: 0o600 });
  try {
    for (;;) {
      const taken = await link(draft, file).then(
        () => true,
        (error: unknown) => {
          if (errnoOf(error) !== 'EEXIST') throw error;
          return false;
        },
      );
      if (taken) return;
      const text = await readFile(file, 'utf8').catch(() => '');
      const [pid = 0, started = ''] = text.split(' ');
      if (await isAlive(Number(pid), started)) throw inUse(folder, Number(pid));
      await rename(file, stale).catch(() => undefined);
      // Another taker was faster and this is its lock: give it back.
      const moved = await readFile(stale, 'utf8').catch(() => text);
      if (moved !== text) await link(stale, file).catch(() => undefined);
      await unlink(stale).catch(() => undefined);
    }
  } finally {
    await unlink(draft);
  }
}

async function isAlive(pid: number, started: string): Promise<boolean> {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (errnoOf(error) === 'ESRCH') return false;
  }
  const now = await startTime(pid);
  // Without start times only the pid can tell; our own pid is then a former process of the same number.
  return now === undefined || started === '' ? pid !== process.pid : now === started;
}

/** Start of a process in clock ticks since boot (Linux, proc(5) field 22); undefined elsewhere. */
async function startTime(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')[19];
}
