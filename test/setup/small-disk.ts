import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A real file system of a few megabytes, to be filled. */
export interface SmallDisk {
  /** Where a program started with `enter` finds it. */
  readonly inside: string;
  /** Where this process finds it. */
  readonly outside: string;
  /** Words to put before a command so that it sees the file system. */
  readonly enter: readonly string[];
  makeReadOnly(): void;
  remove(): void;
}

/**
 * A tmpfs. Only root may mount one; anybody else gets it in a mount namespace of its own, which a process holds open and which
 * is reached through that process. Throws when the machine allows neither.
 */
export async function mountSmallDisk(mebibytes: number): Promise<SmallDisk> {
  const folder = mkdtempSync(join(tmpdir(), 'spantrail-small-disk-'));
  const options = ['-t', 'tmpfs', '-o', `size=${mebibytes}m,mode=0700`, 'tmpfs', folder];
  if (process.getuid?.() === 0 && (await tryMount(options))) {
    const remove = () => {
      // Lazily: something may still be closing its files.
      execFileSync('umount', ['-l', folder]);
      rmdirSync(folder);
    };
    const makeReadOnly = () => void execFileSync('mount', ['-o', 'remount,ro', folder]);
    return { inside: folder, outside: folder, enter: [], makeReadOnly, remove };
  }
  const holder = await holdNamespace(options);
  const remove = () => {
    holder.kill('SIGKILL');
    rmdirSync(folder);
  };
  const enter = ['nsenter', '--preserve-credentials', '--user', '--mount', '--target', String(holder.pid)];
  const [nsenter = '', ...into] = enter;
  const makeReadOnly = () => void execFileSync(nsenter, [...into, 'mount', '-o', 'remount,ro', folder]);
  return { inside: folder, outside: `/proc/${holder.pid}/root${folder}`, enter, makeReadOnly, remove };
}

async function tryMount(options: readonly string[]): Promise<boolean> {
  try {
    execFileSync('mount', [...options], { stdio: 'ignore' });
    return true;
  } catch {
    // Root in a container without the right to mount.
    return false;
  }
}

async function holdNamespace(options: readonly string[]): Promise<ChildProcess> {
  const script = 'mount "$@" && echo mounted && exec sleep infinity';
  const holder = spawn('unshare', ['--map-root-user', '--mount', 'sh', '-c', script, 'sh', ...options], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  holder.stderr.on('data', (chunk) => {
    said += chunk;
  });
  await new Promise<void>((resolve, reject) => {
    holder.stdout.once('data', () => resolve());
    holder.once('error', reject);
    holder.once('exit', () => reject(new Error(`a small file system could not be mounted: ${said}`)));
  });
  process.once('exit', () => holder.kill('SIGKILL'));
  return holder;
}
