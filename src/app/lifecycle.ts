import { pino } from 'pino';
import type { Settings } from '../config/schema.ts';
import { startSpantrail } from './compose.ts';

/** How long a stop may take before it gives up on being polite; what was acknowledged is on disk in any case. */
const STOP_DEADLINE_MS = 20_000;

export interface ServeContext {
  write(text: string): void;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: string;
}

/** Runs until SIGTERM or SIGINT. When ready it writes one JSON line with the ports. */
export async function serve(settings: Settings, context: ServeContext): Promise<void> {
  const log = pino(
    {
      level: settings.log.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { error: pino.stdSerializers.err },
    },
    pino.destination(2),
  );
  const running = await startSpantrail(settings, { log, environment: context.environment, version: context.version });
  context.write(`${JSON.stringify({ ready: true, ...running.ports, pid: process.pid })}\n`);
  running.replayed.catch((error: unknown) => {
    log.fatal({ error }, 'the write-ahead log could not be replayed; stopped, so that nothing is joined in part');
    process.exit(1);
  });
  const signal = await nextSignal();
  log.info({ signal }, 'stopping: no new requests, what is in work is finished; a second signal stops at once');
  const impatient = () => process.exit(1);
  process.once('SIGINT', impatient).once('SIGTERM', impatient);
  const deadline = setTimeout(() => {
    log.error(
      { deadlineMs: STOP_DEADLINE_MS },
      'stopped at the deadline; what was acknowledged is in the write-ahead log',
    );
    process.exit(1);
  }, STOP_DEADLINE_MS);
  await running.close();
  clearTimeout(deadline);
  process.off('SIGINT', impatient).off('SIGTERM', impatient);
  log.info('stopped');
}

function nextSignal(): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const signals = ['SIGTERM', 'SIGINT'] as const;
  const listener = (signal: NodeJS.Signals) => {
    for (const other of signals) process.off(other, listener);
    resolve(signal);
  };
  for (const signal of signals) process.on(signal, listener);
  return promise;
}
