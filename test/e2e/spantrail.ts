import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { PipelineAnswer, RecordsAnswer } from '../../src/api/contract.ts';
import type { AuditRecord } from '../../src/core/record.ts';

/** A real Spantrail in a process of its own, as a user starts it. */
export interface RunningProcess {
  readonly grpc: number;
  readonly http: number;
  readonly api: number;
  readonly process: ChildProcess;
  /** What it has written to stderr. */
  log(): string;
  /** Sends a protobuf request over OTLP/HTTP; resolves with the status once it is answered. */
  send(signal: 'traces' | 'logs', payload: Buffer): Promise<number>;
  search(q: string, inner?: boolean): Promise<AuditRecord[]>;
  pipeline(): Promise<PipelineAnswer>;
  /** Resolves when nothing is pending. */
  settled(): Promise<void>;
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

const START_TIMEOUT_MS = 60_000;
/** Waits short enough for tests; the rules stay the same. */
const QUICK = {
  SPANTRAIL_JOIN_GRACE_MS: '100ms',
  SPANTRAIL_JOIN_ROOT_WAIT_MS: '500ms',
  SPANTRAIL_JOIN_IDLE_MS: '500ms',
};

/** Starts it on free ports and waits for its ready line. `program` is the command line's file. */
export async function startProcess(
  args: readonly string[],
  environment: Record<string, string> = {},
  program = 'src/cli/spantrail.mjs',
): Promise<RunningProcess> {
  const free = ['--grpc-port', '0', '--http-port', '0', '--api-port', '0'];
  const child = spawn(process.execPath, [program, 'serve', ...free, ...args], {
    env: { ...process.env, ...QUICK, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  child.stderr.on('data', (chunk) => {
    log += chunk;
  });
  const ports = await readyLine(child, () => log);
  const get = async <T>(path: string) => {
    const response = await fetch(`http://127.0.0.1:${ports.api}/api/v1/${path}`);
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as T;
  };
  const pipeline = () => get<PipelineAnswer>('pipeline');
  return {
    ...ports,
    process: child,
    log: () => log,
    pipeline,
    send: async (signal, payload) => {
      const response = await fetch(`http://127.0.0.1:${ports.http}/v1/${signal}`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-protobuf' },
        body: new Uint8Array(payload),
      });
      await response.arrayBuffer();
      return response.status;
    },
    search: async (q, inner = true) => {
      const found: AuditRecord[] = [];
      let cursor: string | undefined;
      do {
        const parameters = new URLSearchParams({
          q,
          inner: String(inner),
          limit: '1000',
          // Other tests have records of their own on the same server.
          ...(environment['SPANTRAIL_NAMESPACE'] ? { namespace: environment['SPANTRAIL_NAMESPACE'] } : {}),
          ...(cursor ? { cursor } : {}),
        });
        const page: RecordsAnswer = await get(`records?${parameters}`);
        found.push(...page.records);
        cursor = page.next;
      } while (cursor !== undefined);
      return found;
    },
    settled: async () => {
      for (;;) {
        const { pending, replaying } = await pipeline();
        if (!replaying && pending.evidence === 0) return;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    stop: async (signal = 'SIGTERM') => {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
      child.kill(signal);
      await once(child, 'exit');
      return child.exitCode;
    },
  };
}

async function readyLine(child: ChildProcess, log: () => string): Promise<{ grpc: number; http: number; api: number }> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`not ready after ${START_TIMEOUT_MS} ms: ${log()}`));
    }, START_TIMEOUT_MS);
    let text = '';
    child.stdout?.on('data', (chunk) => {
      text += chunk;
      const line = text.split('\n').find((candidate) => candidate.includes('"ready":true'));
      if (line === undefined) return;
      clearTimeout(timer);
      resolve(JSON.parse(line));
    });
    child.once('exit', (code) => {
      clearTimeout(timer);
      reject(new Error(`ended with ${code} before it was ready: ${log()}`));
    });
  });
}
