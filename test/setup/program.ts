import { type ChildProcess, spawn } from 'node:child_process';

/** How long a program may take to end by itself. */
const STOP_MS_MAX = 20_000;

export interface ProgramOptions {
  readonly environment?: NodeJS.ProcessEnv;
  readonly folder?: string;
  /** User and group to run as. */
  readonly user?: number;
  readonly startMsMax?: number;
}

/** A program that runs beside the tests, in a process group of its own, so that what it starts ends with it. */
export interface RunningProgram {
  /** What the program's output said when it was ready. */
  readonly ready: RegExpExecArray;
  readonly pid: number | undefined;
  /** Without waiting for anything. */
  signal(name: NodeJS.Signals): void;
  /** Ends it and waits until it has ended. SIGKILL ends it without a word. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** Starts a program and waits until its output (both streams) matches `isReady`. */
export async function startProgram(
  program: string,
  parameters: readonly string[],
  isReady: RegExp,
  { environment, folder, user, startMsMax = 120_000 }: ProgramOptions = {},
): Promise<RunningProgram> {
  const child = spawn(program, [...parameters], {
    env: environment,
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    ...(user !== undefined && { uid: user, gid: user }),
  });
  const kill = () => signal(child, 'SIGKILL');
  process.once('exit', kill);
  const stop = async (name: NodeJS.Signals = 'SIGTERM') => {
    await end(child, name);
    process.off('exit', kill);
  };
  try {
    const ready = await untilReady(child, program, isReady, startMsMax);
    return { ready, pid: child.pid, signal: (name) => signal(child, name), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function untilReady(
  child: ChildProcess,
  program: string,
  isReady: RegExp,
  startMsMax: number,
): Promise<RegExpExecArray> {
  return new Promise((resolve, reject) => {
    let printed = '';
    const fail = (what: string) => reject(new Error(`${program} ${what}:\n${printed.slice(-3000)}`));
    const timer = setTimeout(() => fail(`was not ready after ${startMsMax} ms`), startMsMax);
    const read = (chunk: Buffer) => {
      printed = `${printed}${chunk}`.slice(-100_000);
      const match = isReady.exec(printed);
      if (!match) return;
      clearTimeout(timer);
      resolve(match);
      // From here on what it says goes nowhere, but must be taken: a full pipe would stop it.
      for (const stream of [child.stdout, child.stderr]) stream?.off('data', read).resume();
    };
    child.stdout?.on('data', read);
    child.stderr?.on('data', read);
    child.once('error', (error) => fail(`could not be run (${error.message})`));
    child.once('exit', (code, name) => {
      clearTimeout(timer);
      fail(`ended with ${code ?? name}`);
    });
  });
}

function isOver(child: ChildProcess): boolean {
  return child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
}

function signal(child: ChildProcess, name: NodeJS.Signals): void {
  if (child.pid === undefined || isOver(child)) return;
  try {
    process.kill(-child.pid, name);
  } catch {
    // It ended by itself in the meantime.
  }
}

async function end(child: ChildProcess, name: NodeJS.Signals): Promise<void> {
  if (isOver(child)) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  signal(child, name);
  const timer = setTimeout(() => signal(child, 'SIGKILL'), STOP_MS_MAX);
  await ended;
  clearTimeout(timer);
}
