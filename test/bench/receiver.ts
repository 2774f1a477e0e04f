import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { PipelineAnswer } from '../../src/api/contract.ts';
import { sleep } from './probe.ts';
import { type ProcessUse, processUse, untilQuiet } from './process-use.ts';

/** A receiver under test in a process of its own. */
export interface Receiver extends ProcessUse {
  readonly grpcPort: number;
  /** Where its API answers; undefined for one without. */
  readonly apiUrl: string | undefined;
  /** What it wrote on stderr as the answer to SIGUSR2, by its preloaded module. */
  ask<Answer>(): Promise<Answer>;
  /** The first line of its log that begins with these words. */
  logged(words: string): Promise<{ readonly time: string }>;
  /** Resolves when nothing that was acknowledged is still to be done, in the background either, but for traces that stay open. */
  untilIdle(openTraces?: number): Promise<void>;
  stop(): Promise<void>;
  /** As a crash ends it. */
  kill(): Promise<void>;
}

/** Of util-linux; without it nothing is pinned. */
const TASKSET = 'taskset';
const LINES_KEPT = 100;
const ANSWER = /^(?:memory|count) /;
const IDLE_POLL_MS = 200;
/** A store that does not catch up in this time is stuck. */
const IDLE_MS_MAX = 600_000;

export interface ReceiverOptions {
  readonly environment?: Readonly<Record<string, string>>;
  /** A module in this folder that is loaded before it starts. */
  readonly preload?: string | undefined;
}

/** Starts `node script ...` on the given CPU cores (all when empty) and waits for its JSON line of ports on stdout. */
export async function startReceiver(
  script: string,
  args: readonly string[],
  cores: string,
  { environment = {}, preload: module }: ReceiverOptions = {},
): Promise<Receiver> {
  const preload = module === undefined ? [] : ['--import', join(import.meta.dirname, module)];
  const [program, ...rest] = pinned(cores, [process.execPath, ...preload, script, ...args]);
  const child = spawn(program, rest, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
  });
  const lines: string[] = [];
  const listeners = new Set<() => void>();
  createInterface({ input: child.stderr }).on('line', (line) => {
    lines.push(line);
    if (lines.length > LINES_KEPT) lines.shift();
    for (const listener of listeners) listener();
  });
  /** The first line that fits, of those that are kept and those to come. */
  const untilLine = (pattern: RegExp): Promise<string> =>
    new Promise((resolve, reject) => {
      const look = () => {
        const found = lines.find((line) => pattern.test(line));
        if (found === undefined) return;
        listeners.delete(look);
        resolve(found);
      };
      listeners.add(look);
      child.once('exit', () => reject(new Error('the receiver has ended')));
      look();
    });
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await gone;
  };
  const ports = await readPorts(child, () => lines.join('\n'));
  const use = processUse(child.pid);
  const apiUrl = ports.api === undefined ? undefined : `http://127.0.0.1:${ports.api}`;
  return {
    ...use,
    grpcPort: ports.grpc,
    apiUrl,
    async untilIdle(openTraces = 0) {
      if (apiUrl === undefined) return;
      await untilStored(apiUrl, openTraces);
      await untilQuiet(use);
    },
    async ask<Answer>() {
      lines.length = 0;
      child.kill('SIGUSR2');
      return JSON.parse((await untilLine(ANSWER)).replace(ANSWER, '')) as Answer;
    },
    logged: async (words) => JSON.parse(await untilLine(new RegExp(`"msg":"${words}`))),
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
  };
}

export async function pipelineOf(apiUrl: string): Promise<PipelineAnswer> {
  const response = await fetch(`${apiUrl}/api/v1/pipeline`);
  return (await response.json()) as PipelineAnswer;
}

/** Resolves when nothing that was acknowledged is still to be settled or stored. */
async function untilStored(apiUrl: string, openTraces: number): Promise<void> {
  const startedMs = performance.now();
  while (performance.now() - startedMs < IDLE_MS_MAX) {
    const { pending, replaying } = await pipelineOf(apiUrl);
    if (pending.traces <= openTraces && (openTraces > 0 || pending.evidence === 0) && !replaying) return;
    await sleep(IDLE_POLL_MS);
  }
  throw new Error('the receiver did not become idle');
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

/** Moves this thread alone to the first core that its process, pinned to one, leaves to others. */
export function leaveProcessCore(): void {
  const pinnedTo = /Cpus_allowed_list:\s*(\S+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';
  const core = cpus().findIndex((_, at) => String(at) !== pinnedTo);
  if (!/^\d+$/.test(pinnedTo) || core < 0 || !hasTaskset()) return;
  const thread = readlinkSync('/proc/thread-self').split('/').at(-1) ?? '';
  execFileSync(TASKSET, ['-p', '-c', String(core), thread], { stdio: 'ignore' });
}

/** A command that runs on the given cores only; on all of them when empty or where nothing can be pinned. */
export function pinned(cores: string, command: readonly string[]): readonly [string, ...string[]] {
  const [program = process.execPath, ...rest] = command;
  return cores && hasTaskset() ? [TASKSET, '-c', cores, program, ...rest] : [program, ...rest];
}

function hasTaskset(): boolean {
  return ['/usr/bin', '/bin'].some((folder) => existsSync(`${folder}/${TASKSET}`));
}
