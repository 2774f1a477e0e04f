import { constants } from 'node:fs';
import {
  access,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  rename,
  stat,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { systemClock } from '../core/clock.ts';
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

/** Raised with every change that an older program would misread or not see, such as a new kind of file. */
const FOLDER_FORMAT = 1;

/** The file `format` says what a program must know to use the folder. */
async function checkFormat(folder: string): Promise<void> {
  const file = join(folder, 'format');
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOENT') throw error;
    return undefined;
  });
  const format = Number(/\bformat (\d+)/.exec(text ?? '')?.[1] ?? FOLDER_FORMAT);
  if (format > FOLDER_FORMAT) {
    throw new AppError(
      'storage',
      `the data folder ${folder} has format ${format}, this program knows up to ${FOLDER_FORMAT}: run the newer Spantrail that wrote it`,
    );
  }
  if (text === undefined) await refuseForeign(folder);
  // Written once; a folder in which a crash lost it has the format of then, and every newer program writes it again.
  if (text === undefined) await writeFile(file, `Spantrail data folder, format ${FOLDER_FORMAT}\n`, { mode: 0o600 });
}

/** What lies in a data folder from its first moments on, and what is in every new file system. */
const EXPECTED = /^(?:wal|journal|quarantine|coverage|records\.duckdb.*|lock.*|reserve|format.*|lost\+found|\..*)$/;

/** A folder of somebody else is not written into: a slip in a path must not leave files among the system's. */
async function refuseForeign(folder: string): Promise<void> {
  const strangers = (await readdir(folder)).filter((name) => !EXPECTED.test(name));
  if (strangers.length === 0) return;
  const names = strangers.slice(0, 3).join(', ');
  throw new AppError(
    'storage',
    `${folder} is no data folder: it holds ${names}${strangers.length > 3 ? ' …' : ''}; give an empty folder or one that is not there yet`,
  );
}

/** What would be right, by what is wrong. */
async function adviceFor(error: unknown, folder: string): Promise<string> {
  const code = errnoOf(error);
  if (code === 'EROFS') return 'its file system is mounted read-only: mount it for writes or give another folder';
  if (code !== 'EACCES' && code !== 'EPERM') return 'give a folder that this user can read and write';
  const { path, owner } = await nearestThere(folder);
  const words = `${path} belongs to user ${owner}, this process runs as user ${process.geteuid?.()}`;
  return `${words}: run it as the owner, change the owner (chown -R) or give another folder`;
}

async function nearestThere(path: string): Promise<{ path: string; owner: number | string }> {
  const found = await stat(path).catch(() => undefined);
  if (found) return { path, owner: found.uid };
  return dirname(path) === path ? { path, owner: 'unknown' } : nearestThere(dirname(path));
}

/** Creates the folder for this user only (0700) or checks that it can be used; returns its absolute path. */
export async function openDataFolder(path: string): Promise<string> {
  const folder = resolve(path);
  try {
    await makeFolder(folder);
    if (!(await stat(folder)).isDirectory()) throw new Error('it is not a folder');
    await access(folder, constants.R_OK | constants.W_OK | constants.X_OK);
    await checkFormat(folder);
    return folder;
  } catch (error) {
    if (error instanceof AppError) throw error;
    const words = `the data folder ${folder} cannot be used: ${describeError(error)}`;
    throw new AppError('storage', `${words}; ${await adviceFor(error, folder)}`, { cause: error });
  }
}

export interface LockOptions {
  /** Called when the lock has to be waited for, with the reason. */
  readonly report?: (words: string) => void;
  /** How often the holder shows that it lives. */
  readonly beatMs?: number;
  /** Called when another process has taken the lock over. Default: throws, which ends the process. */
  readonly onLost?: (error: AppError) => void;
}

/** A holder that cannot be seen is taken for dead when it has missed this many beats. */
const BEATS_MISSED_MAX = 5;

/**
 * One process for each data folder: a file `lock` with the pid and, where the system tells, the start time of the process and
 * which pid namespace of which boot it is in. The holder writes it again every few seconds.
 *
 * The lock of a dead process is taken over: at once when it was in our pid namespace, where the pid tells. A holder in
 * another container or on another host cannot be seen; it is dead when the file has not changed for some beats, as the file
 * system's own clock tells. A holder that was stopped for that long finds out at its next beat, and must end.
 */
export async function lockDataFolder(path: string, options: LockOptions = {}): Promise<{ release(): Promise<void> }> {
  const folder = resolve(path);
  const file = join(folder, 'lock');
  if (held.has(folder)) throw inUse(folder, `process ${process.pid}`);
  held.add(folder);
  try {
    const text = await holderText();
    await takeLock(folder, file, text, options);
    const stop = await startBeating(folder, file, text, options);
    return {
      async release() {
        if (!held.delete(folder)) return;
        const isOurs = await stop();
        if (isOurs) await unlink(file).catch(() => undefined);
      },
    };
  } catch (error) {
    held.delete(folder);
    if (error instanceof AppError) throw error;
    throw new AppError('storage', `cannot lock ${folder}: ${describeError(error)}`, { cause: error });
  }
}

/** Who holds the lock of the folder, in words; undefined when nobody living does. Waits some seconds for a holder unseen. */
export async function lockHolder(path: string, { beatMs = BEAT_MS }: LockOptions = {}): Promise<string | undefined> {
  const file = join(resolve(path), 'lock');
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  if (isInOurWorld(text, await holderText())) return (await isAlive(text)) ? describeHolder(text, true) : undefined;
  const before = await modifiedMs(file);
  for (let poll = 0; poll < 2 * BEATS_MISSED_MAX; poll += 1) {
    await setTimeout(beatMs / 2);
    if ((await modifiedMs(file)) !== before) return describeHolder(text, false);
  }
  return undefined;
}

const BEAT_MS = 3_000;

function inUse(folder: string, holder: string): AppError {
  return new AppError('storage', `the data folder ${folder} is in use by ${holder}: stop it or choose another folder`);
}

function describeHolder(text: string, isHere: boolean): string {
  return `process ${Number.parseInt(text, 10)}${isHere ? '' : ' of another container or host'}`;
}

/** pid, its start, and the pid namespace and boot in which these mean something. */
async function holderText(): Promise<string> {
  const namespace = await readlink('/proc/self/ns/pid').catch(() => '');
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '');
  const world = namespace && boot ? `${namespace}@${boot.trim()}` : '';
  return `${process.pid} ${(await startTime(process.pid)) ?? ''} ${world}`;
}

/** Does the pid in the text mean a process that we can see? */
function isInOurWorld(text: string, ourText: string): boolean {
  const [, , world = ''] = text.split(' ');
  const [, , ourWorld] = ourText.split(' ');
  return world === '' || world === ourWorld;
}

/** The lock appears with its text in one step (link), and a dead one is moved away by exactly one taker (rename). */
async function takeLock(folder: string, file: string, ourText: string, options: LockOptions): Promise<void> {
  // Pids repeat from container to container.
  const draft = `${file}.${process.pid}-${crc32(ourText).toString(16)}`;
  const stale = `${draft}.stale`;
  await writeFile(draft, ourText, { mode: 0o600 });
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
      const isHere = isInOurWorld(text, ourText);
      const lives = isHere ? await isAlive(text) : await isBeating(file, draft, ourText, options);
      if (lives) throw inUse(folder, describeHolder(text, isHere));
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

async function isAlive(text: string): Promise<boolean> {
  const [pidText = '', started = ''] = text.split(' ');
  const pid = Number(pidText);
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

/** Watches the lock of a holder that cannot be seen. Old by the file system's clock, or unchanged for as long: dead. */
async function isBeating(file: string, draft: string, ourText: string, options: LockOptions): Promise<boolean> {
  const { beatMs = BEAT_MS, report } = options;
  const limitMs = beatMs * BEATS_MISSED_MAX;
  const before = await modifiedMs(file);
  if (before === undefined) return false;
  for (let waitedMs = 0; waitedMs <= limitMs; waitedMs += beatMs / 2) {
    // Written anew for its time: what the file system says now.
    await writeFile(draft, ourText);
    const nowMs = (await modifiedMs(draft)) ?? 0;
    if (nowMs - before > limitMs) return false;
    if (waitedMs === 0) report?.(`a process of another container or host may hold ${file}: waiting for a sign of life`);
    await setTimeout(beatMs / 2);
    const now = await modifiedMs(file);
    if (now !== before) return now !== undefined;
  }
  return false;
}

async function modifiedMs(file: string): Promise<number | undefined> {
  return stat(file).then(
    ({ mtimeMs }) => mtimeMs,
    () => undefined,
  );
}

/** Writes the lock again and again. What it returns ends that and answers whether the lock is still ours. */
async function startBeating(folder: string, file: string, text: string, { beatMs = BEAT_MS, onLost }: LockOptions) {
  let handle = await open(file, 'r+');
  const isOurs = async () => {
    const found = await stat(file).catch(() => undefined);
    return found === undefined ? 'gone' : found.ino === (await handle.stat()).ino ? 'ours' : 'taken';
  };
  const beat = async () => {
    // In place, so that it needs no space; a file system that takes some all the same, when it is full, gets the time only.
    await handle.write(text, 0).catch(() => handle.utimes(systemClock.nowMs() / 1000, systemClock.nowMs() / 1000));
    let state = await isOurs();
    if (state === 'gone') {
      // Somebody removed it. Whoever makes it first has it.
      const again = await open(file, 'wx+', 0o600).catch((error: unknown) => errnoOf(error));
      if (typeof again === 'object') {
        await handle.close();
        handle = again;
        await handle.write(text, 0);
      } else if (again === 'EEXIST') state = 'taken';
    }
    if (state !== 'taken') return;
    clearInterval(timer);
    lose(folder, onLost);
  };
  const timer = setInterval(() => {
    beating = beating.then(beat).catch(() => undefined);
  }, beatMs);
  let beating = Promise.resolve();
  timer.unref();
  return async (): Promise<boolean> => {
    clearInterval(timer);
    await beating;
    const state = await isOurs();
    await handle.close();
    return state === 'ours';
  };
}

/** Outside of any promise: two processes in one folder would harm both, and what was acknowledged is on disk. */
function lose(folder: string, onLost: LockOptions['onLost']): void {
  const words = `the lock of the data folder ${folder} was lost to another process, while this one was stopped or its disk hung`;
  const error = new AppError('storage', words);
  if (onLost) onLost(error);
  else
    setImmediate(() => {
      throw error;
    });
}

/** Start of a process in clock ticks since boot (Linux, proc(5) field 22); undefined elsewhere. */
async function startTime(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')[19];
}
