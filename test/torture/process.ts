import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import type { PipelineAnswer } from '../../src/api/contract.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { Ports } from './sender.ts';

const MAIN = join(import.meta.dirname, '../../src/cli/main.ts');
const READY_MS_MAX = 60_000;
const LOG_CHARS_KEPT = 200_000;

/** A Spantrail in a process of its own that may be killed at any moment, also before it is ready. */
export interface Victim {
  readonly pid: number;
  /** Rejects when it ends before. */
  readonly ready: Promise<Ports>;
  /** Sends the signal and waits for the end; resolves with the exit code, or the signal that ended it. */
  end(signal: NodeJS.Signals): Promise<number | NodeJS.Signals>;
  /** The end of what it wrote to stderr. */
  log(): string;
}

/** `enter` are words before the command, e.g. those that make a file system visible to it. */
export function startVictim(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  enter: readonly string[] = [],
): Victim {
  const free = ['--grpc-port', '0', '--http-port', '0', '--api-port', '0'];
  const [program = '', ...rest] = [...enter, process.execPath, MAIN, 'serve', ...free, ...args];
  const child = spawn(program, rest, {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const killWithUs = () => child.kill('SIGKILL');
  process.once('exit', killWithUs);
  let log = '';
  child.stderr.on('data', (chunk) => {
    log = (log + String(chunk)).slice(-LOG_CHARS_KEPT);
  });
  const ended = new Promise<number | NodeJS.Signals>((resolve) => {
    child.once('exit', (code, signal) => {
      process.off('exit', killWithUs);
      resolve(code ?? signal ?? 'SIGKILL');
    });
  });
  const ready = untilReady(child, ended, () => log);
  // One that is killed before it is ready is not waited for.
  ready.catch(() => undefined);
  return {
    pid: child.pid ?? 0,
    ready,
    end: async (signal) => {
      child.kill(signal);
      return ended;
    },
    log: () => log,
  };
}

async function untilReady(child: ChildProcess, ended: Promise<unknown>, log: () => string): Promise<Ports> {
  const { promise, resolve, reject } = Promise.withResolvers<Ports>();
  const timer = setTimeout(() => reject(new Error(`not ready after ${READY_MS_MAX} ms:\n${log()}`)), READY_MS_MAX);
  let text = '';
  child.stdout?.on('data', (chunk) => {
    text += chunk;
    const line = text.split('\n').find((candidate) => candidate.includes('"ready":true') && candidate.endsWith('}'));
    if (line !== undefined) resolve(JSON.parse(line));
  });
  ended.then((how) => reject(new Error(`ended with ${how} before it was ready:\n${log().slice(-4000)}`)));
  return promise.finally(() => clearTimeout(timer));
}

/** What the checks ask the HTTP API for. */
export class ApiClient {
  readonly #base: string;

  constructor({ api }: Ports) {
    this.#base = `http://127.0.0.1:${api}/api/v1/`;
  }

  async pipeline(): Promise<PipelineAnswer> {
    return (await this.#get('pipeline', {})).json() as Promise<PipelineAnswer>;
  }

  /** How many accesses can be found in all, inner ones included. */
  async count(namespace: string): Promise<number> {
    const parameters = { namespace, inner: 'true', fields: 'data_stream.namespace' };
    const answer = await (await this.#get('facets', parameters)).json();
    const { facets } = answer as { facets: { values: { value: unknown; count: number }[] }[] };
    return facets[0]?.values.find(({ value }) => value === namespace)?.count ?? 0;
  }

  /** Every access of a time range (all without one), inner ones included. */
  async *records(namespace: string, range?: readonly [fromMs: number, toMs: number]): AsyncIterable<AuditRecord> {
    const parameters: Record<string, string> = { namespace, inner: 'true', format: 'ndjson' };
    if (range) Object.assign(parameters, { from: iso(range[0]), to: iso(range[1]) });
    const response = await this.#get('export', parameters);
    let rest = '';
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) {
      const lines = (rest + decoder.decode(chunk as Uint8Array, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) yield JSON.parse(line) as AuditRecord;
    }
    if (rest !== '') throw new Error('an export ended in the middle of a record');
  }

  async #get(path: string, parameters: Record<string, string>): Promise<Response> {
    const response = await fetch(`${this.#base}${path}?${new URLSearchParams(parameters)}`);
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response;
  }
}

function iso(timeMs: number): string {
  return new Date(timeMs).toISOString();
}
