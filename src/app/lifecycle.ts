import { type Logger, pino } from 'pino';
import type { Settings } from '../config/schema.ts';
import { tendCollector } from './collector.ts';
import { type RunningSpantrail, startSpantrail } from './compose.ts';
import { boundYoungGeneration } from './young-generation.ts';

/** How long a stop may take before it gives up on being polite; what was acknowledged is on disk in any case. */
const STOP_DEADLINE_MS = 25_000;
/** After everything is closed, what a store that never answers still holds open is not waited for longer than this. */
const LINGER_MS = 500;

export interface ServeContext {
  write(text: string): void;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: string;
}

/**
 * Runs until SIGTERM or SIGINT. When ready it writes one JSON line with the ports. A signal that comes while it still starts
 * stops it as soon as it has started; the second signal ends it at once, with exit code 1.
 */
export async function serve(settings: Settings, context: ServeContext): Promise<void> {
  // Also what libraries write, such as the store's own log, is for this user only.
  process.umask(0o077);
  const log = pino(
    {
      level: settings.log.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { error: pino.stdSerializers.err },
    },
    pino.destination(2),
  );
  const signals = listenForSignals(log);
  const { environment, version } = context;
  const unbound = boundGarbage(settings, context);
  const collector = tendCollector();
  try {
    const running = await startSpantrail(settings, { log, environment, version, received: collector.received });
    exitWhenReplayFails(running, log, signals);
    if (!signals.isStopping())
      context.write(`${JSON.stringify({ ready: true, ...running.ports, pid: process.pid })}\n`);
    await signals.first;
    await running.close();
    log.info('stopped');
    setTimeout(() => process.exit(0), LINGER_MS).unref();
  } finally {
    unbound();
    collector.close();
    signals.close();
  }
}

function boundGarbage({ workers }: Settings, { environment }: ServeContext): () => void {
  return workers === 1 ? boundYoungGeneration(process.execArgv, environment['NODE_OPTIONS']) : () => undefined;
}

function exitWhenReplayFails(running: RunningSpantrail, log: Logger, signals: Signals): void {
  running.replayed.catch((error: unknown) => {
    // A stop breaks off a replay that takes too long; the next start begins it again.
    if (signals.isStopping()) return;
    log.fatal({ error }, 'the write-ahead log could not be replayed; stopped, so that nothing is joined in part');
    process.exit(1);
  });
}

interface Signals {
  /** Resolves at the first signal; from then on the deadline runs. */
  readonly first: Promise<void>;
  isStopping(): boolean;
  close(): void;
}

function listenForSignals(log: Logger): Signals {
  const { promise: first, resolve } = Promise.withResolvers<void>();
  let deadline: NodeJS.Timeout | undefined;
  const listener = (signal: NodeJS.Signals) => {
    // The second one.
    if (deadline !== undefined) process.exit(1);
    log.info({ signal }, 'stopping: what is in work is finished; a second signal stops at once');
    deadline = setTimeout(() => {
      const words = 'stopped at the deadline; what was acknowledged is in the write-ahead log';
      log.error({ deadlineMs: STOP_DEADLINE_MS }, words);
      process.exit(1);
    }, STOP_DEADLINE_MS);
    resolve();
  };
  process.on('SIGTERM', listener).on('SIGINT', listener);
  return {
    first,
    isStopping: () => deadline !== undefined,
    close: () => {
      clearTimeout(deadline);
      process.off('SIGTERM', listener).off('SIGINT', listener);
    },
  };
}
