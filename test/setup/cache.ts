import { execFile } from 'node:child_process';
import { access, mkdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** What is downloaded or built once a machine, outside the work tree: `~/.cache/spantrail/<name>`. */
export async function cacheFolder(name: string): Promise<string> {
  const folder = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'spantrail', name);
  await mkdir(folder, { recursive: true });
  return folder;
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** Runs a program to its end; a failure carries the end of what it printed. */
export async function runProgram(
  program: string,
  parameters: readonly string[],
  options: { folder?: string; environment?: NodeJS.ProcessEnv } = {},
): Promise<string> {
  const settings = { cwd: options.folder, env: { ...process.env, ...options.environment }, maxBuffer: 64 << 20 };
  try {
    return (await run(program, [...parameters], settings)).stdout;
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    const printed = `${stdout}\n${stderr}`.trim().split('\n').slice(-12).join('\n');
    throw new Error(`${program} ${parameters.join(' ')} failed:\n${printed}`, { cause: error });
  }
}

export async function isInstalled(program: string): Promise<boolean> {
  return (await findProgram(program)) !== undefined;
}

/** Where a program of this name is, if it is on the path. */
export async function findProgram(program: string): Promise<string | undefined> {
  return run('sh', ['-c', `command -v ${program}`]).then(
    ({ stdout }) => stdout.trim(),
    () => undefined,
  );
}
