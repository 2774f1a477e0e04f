import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Receiver, type ReceiverOptions, startReceiver } from './receiver.ts';

/** How a Spantrail for a measurement is started. */
export interface SpantrailOptions extends ReceiverOptions {
  readonly store: string;
  readonly cores: string;
  /** Further arguments of `serve`. */
  readonly serveArguments: readonly string[];
  /** Another program file than the checkout's, which leaves V8's cache alone. */
  readonly main?: string;
}

/** What the container image and the systemd unit put into the environment. */
const DEPLOYED = { MALLOC_MMAP_THRESHOLD_: '131072' };

/** Starts a Spantrail with a data folder that is there already. */
export function startSpantrailIn(folder: string, options: SpantrailOptions): Promise<Receiver> {
  const main = options.main ?? join(import.meta.dirname, '../../src/cli/main.ts');
  const anyPorts = ['--grpc-port', '0', '--http-port', '0', '--api-port', '0'];
  const args = ['serve', '--store', options.store, '--data-dir', folder, ...anyPorts, ...options.serveArguments];
  return startReceiver(main, args, options.cores, { ...options, environment: { ...DEPLOYED, ...options.environment } });
}

/** Starts a Spantrail with an empty data folder of its own, which is gone when it has stopped. */
export async function startSpantrail(options: SpantrailOptions): Promise<Receiver> {
  const folder = await dataFolder();
  const receiver = await startSpantrailIn(folder, options);
  const thenGone = async (end: () => Promise<void>) => {
    await end();
    await rm(folder, { recursive: true, force: true });
  };
  return { ...receiver, stop: () => thenGone(receiver.stop), kill: () => thenGone(receiver.kill) };
}

/** On a disk: the machine's folder for temporary files is one, or what TMPDIR names must be. */
export function dataFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'spantrail-bench-'));
}

/** The cores that a receiver under test leaves to others. */
export function otherCores(cores: string): string {
  const taken = new Set(cores.split(','));
  const all = cpus().map((_, core) => String(core));
  return all.filter((core) => !taken.has(core)).join(',');
}
