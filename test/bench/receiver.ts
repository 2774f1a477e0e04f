import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** A receiver under test in a process of its own. */
export interface Receiver {
  readonly grpcPort: number;
  /** Where its API answers; undefined for one without. */
  readonly apiUrl: string | undefined;
  /** CPU seconds since its start, user and system, all threads. */
  cpuSeconds(): number;
  /** Largest resident memory so far, bytes. */
  peakMemoryBytes(): number;
  /** What its memory is made of now; only with `tellsMemory`. */
  memory(): Promise<NodeJS.MemoryUsage>;
  stop(): Promise<void>;
}

/** Linux counts CPU time in hundredths of a second everywhere that Node runs. */
const TICKS_A_SECOND = 100;
/** Of util-linux; without it nothing is pinned. */
const TASKSET = 'taskset';
const STDERR_CHARS_KEPT = 4000;

interface ReceiverOptions {
  readonly environment?: Readonly<Record<string, string>>;
  readonly tellsMemory?: boolean;
}

/** Starts `node script ...` on the given CPU cores (all when empty) and waits for its JSON line of ports on stdout. */
export async function startReceiver(
  script: string,
  args: readonly string[],
  cores: string,
  { environment = {}, tellsMemory = false }: ReceiverOptions = {},
): Promise<Receiver> {
  const preload = tellsMemory ? ['--import', join(import.meta.dirname, 'memory-preload.ts')] : [];
  const command = [process.execPath, ...preload, script, ...args];
  const pinned = cores && hasTaskset() ? [TASKSET, '-c', cores, ...command] : command;
  const [program = process.execPath, ...rest] = pinned;
  const child = spawn(program, rest, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
  });
  let tail = '';
  child.stderr.on('data', (chunk) => {
    tail = (tail + String(chunk)).slice(-STDERR_CHARS_KEPT);
  });
  const ports = await readPorts(child, () => tail);
  return {
    grpcPort: ports.grpc,
    apiUrl: ports.api === undefined ? undefined : `http://127.0.0.1:${ports.api}`,
    cpuSeconds() {
      // proc_pid_stat(5): the name in parentheses may hold spaces; utime and stime are fields 14 and 15, 11 and 12 after it.
      const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .split(' ');
      return (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND;
    },
    peakMemoryBytes() {
      const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
      return Number(/VmHWM:\s*(\d+) kB/.exec(status)?.[1]) * 1024;
    },
    memory() {
      return new Promise((resolve, reject) => {
        const read = (chunk: Buffer) => {
          const told = /^memory (\{.*\})$/m.exec(String(chunk))?.[1];
          if (told === undefined) return;
          child.stderr.off('data', read);
          resolve(JSON.parse(told) as NodeJS.MemoryUsage);
        };
        child.stderr.on('data', read);
        child.once('exit', () => reject(new Error('the receiver has ended')));
        child.kill('SIGUSR2');
      });
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      await gone;
    },
  };
}

function readPorts(child: ChildProcess, tail: () => string): Promise<{ grpc: number; api?: number }> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the receiver ended with ${code}:\n${tail()}`)));
    if (!child.stdout) return reject(new Error('the receiver has no stdout'));
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line.startsWith('{')) resolve(JSON.parse(line));
    });
  });
}

/** Pins this process, so that what it costs to make the load is not taken from the receiver's core. */
export function pinThisProcess(cores: string): void {
  if (cores && hasTaskset()) execFileSync(TASKSET, ['-a', '-p', '-c', cores, String(process.pid)], { stdio: 'ignore' });
}

function hasTaskset(): boolean {
  return ['/usr/bin', '/bin'].some((folder) => existsSync(`${folder}/${TASKSET}`));
}
