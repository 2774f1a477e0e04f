import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { extname } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { AppError } from '../../core/errors.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** A process of the demo that is up, with what it said when it was. */
export interface Part<Ready> {
  readonly ready: Ready;
  send(message: object): void;
  /** Resolves when the process has ended. */
  readonly ended: Promise<unknown>;
  stop(): Promise<void>;
}

/** The processes of one demo. */
export interface Processes {
  /** A file of the clinic; `instrumented` loads OpenTelemetry before it. It says one message when it is up. */
  clinic(file: string, environment: Environment, instrumented?: boolean): Promise<Part<{ url: string }>>;
  /** Spantrail itself, as the user would start it. It says one JSON line when it is up. */
  spantrail(
    args: readonly string[],
    environment: Environment,
  ): Promise<Part<{ grpc: number; http: number; api: number }>>;
  /** Ends all of them; resolves when they have. */
  stop(): Promise<void>;
}

const STOP_MS = 10_000;
const SAID_CHARS_MAX = 2_000;
const folder = new URL('./clinic/', import.meta.url);
/** `.ts` in a checkout, `.js` in a published package. */
const extension = extname(import.meta.filename);
const program = fileURLToPath(new URL('../../cli/spantrail.mjs', import.meta.url));

/** `onWarning` gets what the processes write on stderr after they are up. */
export function createProcesses(signal: AbortSignal, onWarning: (text: string) => void): Processes {
  const children: ChildProcess[] = [];
  let isStopped = false;
  const checkStarting = () => {
    signal.throwIfAborted();
    if (isStopped) throw new AppError('internal', 'the demo is over');
  };

  async function up<Ready>(name: string, child: ChildProcess, first: Promise<unknown[]>): Promise<Part<Ready>> {
    children.push(child);
    let said = '';
    let isUp = false;
    const collect = (chunk: Buffer) => {
      said = (said + chunk.toString('utf8')).slice(-SAID_CHARS_MAX);
      if (isUp) onWarning(`${name}: ${chunk.toString('utf8').trimEnd()}`);
    };
    (child.stderr as Readable).on('data', collect);
    const ended = once(child, 'exit');
    const failed = ended.then(() => {
      throw new AppError('internal', `${name} did not come up: ${said.trim() || 'it said nothing'}`);
    });
    failed.catch(() => undefined);
    const [ready] = (await Promise.race([first, failed])) as [Ready];
    isUp = true;
    return { ready, ended, stop: () => end(child), send: (message) => void (child.connected && child.send(message)) };
  }

  return {
    async clinic(file, environment, instrumented = true) {
      checkStarting();
      const child = fork(new URL(file + extension, folder), {
        env: environment,
        execArgv: instrumented ? ['--import', new URL(`instrument${extension}`, folder).href] : [],
        stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      });
      return up(file, child, once(child, 'message', { signal }));
    },
    async spantrail(args, environment) {
      checkStarting();
      const child = spawn(process.execPath, [program, ...args], {
        env: environment,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const line = once(createInterface(child.stdout), 'line', { signal });
      return up(
        'spantrail',
        child,
        line.then(([text]) => [JSON.parse(String(text))]),
      );
    },
    async stop() {
      isStopped = true;
      await Promise.all(children.map(end));
    },
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
  await exited;
  clearTimeout(timer);
}
